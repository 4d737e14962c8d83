package forward

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
)

// proxy passes the connections of one listener on to one target.
type proxy struct {
	listener net.Listener
	target   netip.AddrPort
	cancel   context.CancelFunc
	work     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func openProxy(listen, target netip.AddrPort) (*proxy, error) {
	listener, err := net.Listen("tcp", listen.String())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{listener: listener, target: target, cancel: cancel, conns: map[net.Conn]struct{}{}}
	p.work.Go(func() { p.accept(ctx) })
	return p, nil
}

// close cuts every connection and waits until nothing is left.
func (p *proxy) close() {
	p.cancel()
	p.listener.Close()
	p.mu.Lock()
	for conn := range p.conns {
		conn.Close()
	}
	p.mu.Unlock()
	p.work.Wait()
}

func (p *proxy) accept(ctx context.Context) {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			slog.Warn("forwarded connection not accepted", "target", p.target, "error", err)
			continue
		}
		p.work.Go(func() { p.serve(ctx, conn) })
	}
}

func (p *proxy) serve(ctx context.Context, outside net.Conn) {
	defer p.track(ctx, outside)()
	var dialer net.Dialer
	inside, err := dialer.DialContext(ctx, "tcp", p.target.String())
	if err != nil {
		return // the program is gone; closing says so
	}
	defer p.track(ctx, inside)()
	var copies sync.WaitGroup
	copies.Go(func() { pass(inside, outside) })
	pass(outside, inside)
	copies.Wait()
}

// track makes close cut the connection too; the returned function ends it.
func (p *proxy) track(ctx context.Context, conn net.Conn) (done func()) {
	p.mu.Lock()
	p.conns[conn] = struct{}{}
	if ctx.Err() != nil {
		conn.Close()
	}
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		delete(p.conns, conn)
		p.mu.Unlock()
		conn.Close()
	}
}

// pass hands on the end of the input, while the answer may still be on its way.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(*net.TCPConn); ok && err == nil {
		_ = half.CloseWrite()
		return
	}
	to.Close()
	from.Close()
}
