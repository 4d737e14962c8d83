// Package forward makes servers that listen on the guest's localhost only reachable at
// the guest's own address, where the host sends traffic for the sandbox's ports.
package forward

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

const interval = time.Second

// Forwarder looks for such servers each second while it runs.
type Forwarder struct {
	// addresses to listen on; they may change with every restore.
	addresses func() ([]netip.Addr, error)
	interval  time.Duration

	mu   sync.Mutex
	stop chan struct{}
	done chan struct{}
}

func New(addresses func() ([]netip.Addr, error)) *Forwarder {
	return &Forwarder{addresses: addresses, interval: interval}
}

// Start does nothing when it runs already.
func (f *Forwarder) Start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop != nil {
		return
	}
	f.stop, f.done = make(chan struct{}), make(chan struct{})
	go f.run(f.stop, f.done)
}

// Stop closes every listener and connection before it returns.
func (f *Forwarder) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop == nil {
		return
	}
	close(f.stop)
	<-f.done
	f.stop = nil
}

// rule is one forwarding: where to listen, and where that leads.
type rule struct{ listen, target netip.AddrPort }

func (f *Forwarder) run(stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	open := map[rule]*proxy{}
	defer func() {
		for _, p := range open {
			p.close()
		}
	}()
	ticker := time.NewTicker(f.interval)
	defer ticker.Stop()
	for {
		f.reconcile(open)
		select {
		case <-ticker.C:
		case <-stop:
			return
		}
	}
}

// reconcile opens what is wanted and missing, and closes what is no longer wanted.
func (f *Forwarder) reconcile(open map[rule]*proxy) {
	servers, err := listening()
	if err != nil {
		slog.Warn("ports not forwarded: listening sockets unknown", "error", err)
		return
	}
	addresses, err := f.addresses()
	if err != nil {
		slog.Warn("ports not forwarded: own addresses unknown", "error", err)
		return
	}
	ours := map[netip.AddrPort]bool{}
	for r := range open {
		ours[r.listen] = true
	}
	wanted := rules(servers, addresses, ours)
	for r, p := range open {
		if !wanted[r] {
			p.close()
			delete(open, r)
		}
	}
	for r := range wanted {
		if open[r] != nil {
			continue
		}
		p, err := openProxy(r.listen, r.target)
		if err != nil {
			slog.Warn("port not forwarded", "listen", r.listen, "target", r.target, "error", err)
			continue
		}
		open[r] = p
	}
}

// rules wants a forwarding for each port that listens on 127.0.0.1 or ::1 and nowhere
// else: one that listens elsewhere too was put there by its program.
func rules(servers []netip.AddrPort, addresses []netip.Addr, ours map[netip.AddrPort]bool) map[rule]bool {
	v4, v6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	target := map[uint16]netip.AddrPort{}
	elsewhere := map[uint16]bool{}
	for _, server := range servers {
		address := server.Addr().Unmap()
		known, twice := target[server.Port()]
		switch {
		case ours[netip.AddrPortFrom(address, server.Port())]:
		case address == v4, address == v6 && !twice:
			target[server.Port()] = netip.AddrPortFrom(address, server.Port())
		case address == v6:
			target[server.Port()] = known // IPv4 answers for both
		default:
			elsewhere[server.Port()] = true
		}
	}
	wanted := map[rule]bool{}
	for port, to := range target {
		if elsewhere[port] {
			continue
		}
		for _, address := range addresses {
			wanted[rule{listen: netip.AddrPortFrom(address, port), target: to}] = true
		}
	}
	return wanted
}

// None is a forwarder that never runs.
type None struct{}

func (None) Start() {}
func (None) Stop()  {}
