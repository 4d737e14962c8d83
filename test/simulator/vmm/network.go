package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// openTap takes the tap for as long as this process lives. Only one process can have it.
func openTap(name string) error {
	// The kernel would make one that is missing, and root may ask it to.
	if _, err := net.InterfaceByName(name); err != nil {
		return fmt.Errorf("could not open %s: no such device in this network namespace", name)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("could not open %s: %w", name, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("could not open /dev/net/tun: %w", err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return fmt.Errorf("could not configure /dev/net/tun (%s): %w", name, err)
	}
	return nil
}

// guestNetwork is the guest's side of the wire. Connections really are the host kernel's, so that none of a guest's own
// network stack is needed; a guest that stands still drops every packet, and a client sees what it would see of any other one.
type guestNetwork struct {
	vm       *machine
	listener *net.TCPListener

	mu          sync.Mutex
	deaf        bool
	connections map[*guestConnection]struct{}
}

// listenAsGuest makes the guest's address local to the namespace and is deaf on it until open.
func listenAsGuest(vm *machine, address string, port int) (*guestNetwork, error) {
	if err := addToLoopback(address); err != nil {
		return nil, fmt.Errorf("the guest's address %s: %w", address, err)
	}
	network := &guestNetwork{vm: vm, deaf: true, connections: map[*guestConnection]struct{}{}}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return setDeaf(raw, true) }}
	listener, err := config.Listen(context.Background(), "tcp4", net.JoinHostPort(address, fmt.Sprint(port)))
	if err != nil {
		return nil, err
	}
	network.listener = listener.(*net.TCPListener)
	return network, nil
}

func (n *guestNetwork) open() error  { return n.setAll(false) }
func (n *guestNetwork) close() error { return n.setAll(true) }

func (n *guestNetwork) setAll(deaf bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deaf = deaf
	raw, err := n.listener.SyscallConn()
	if err != nil {
		return err
	}
	failure := setDeaf(raw, deaf)
	for connection := range n.connections {
		failure = errors.Join(failure, connection.setDeaf(deaf))
	}
	return failure
}

func (n *guestNetwork) Accept() (net.Conn, error) {
	for {
		accepted, err := n.listener.AcceptTCP()
		if err != nil {
			return nil, err
		}
		connection := &guestConnection{TCPConn: accepted, network: n}
		if err := n.admit(connection); err == nil {
			return connection, nil
		}
		// Only this one is lost.
		accepted.Close()
	}
}

func (n *guestNetwork) admit(connection *guestConnection) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	// It may have been established before the guest froze, or inherited deafness from the listener.
	if err := connection.setDeaf(n.deaf); err != nil {
		return err
	}
	n.connections[connection] = struct{}{}
	return nil
}

func (n *guestNetwork) Close() error   { return n.listener.Close() }
func (n *guestNetwork) Addr() net.Addr { return n.listener.Addr() }

// guestConnection neither hears nor says anything while the guest stands still.
type guestConnection struct {
	*net.TCPConn
	network *guestNetwork
}

func (c *guestConnection) Read(buffer []byte) (int, error) {
	n, err := c.TCPConn.Read(buffer)
	c.network.vm.pass()
	return n, err
}

func (c *guestConnection) Write(buffer []byte) (int, error) {
	c.network.vm.pass()
	return c.TCPConn.Write(buffer)
}

func (c *guestConnection) Close() error {
	c.network.vm.pass()
	c.network.mu.Lock()
	delete(c.network.connections, c)
	c.network.mu.Unlock()
	return c.TCPConn.Close()
}

func (c *guestConnection) setDeaf(deaf bool) error {
	raw, err := c.SyscallConn()
	if err == nil {
		err = setDeaf(raw, deaf)
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// setDeaf has the kernel drop, or take again, every packet for a socket before TCP sees it.
func setDeaf(raw syscall.RawConn, deaf bool) error {
	var failure error
	err := raw.Control(func(descriptor uintptr) {
		fd := int(descriptor)
		if deaf {
			nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
			failure = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing})
			return
		}
		failure = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		if errors.Is(failure, unix.ENOENT) {
			failure = nil
		}
	})
	return errors.Join(err, failure)
}

// addToLoopback is repeatable: a VMM that was killed leaves the address to the next one of its namespace.
func addToLoopback(address string) error {
	parsed, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	set := func(request uint, value []byte) error {
		// A label of its own adds an address rather than replacing 127.0.0.1.
		ifreq, err := unix.NewIfreq("lo:guest")
		if err != nil {
			return err
		}
		if err := ifreq.SetInet4Addr(value); err != nil {
			return err
		}
		return os.NewSyscallError("ioctl", unix.IoctlIfreq(fd, request, ifreq))
	}
	if err := set(unix.SIOCSIFADDR, parsed.AsSlice()); err != nil {
		return err
	}
	return set(unix.SIOCSIFNETMASK, []byte{255, 255, 255, 255})
}
