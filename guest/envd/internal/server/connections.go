package server

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// connections remembers on which side of the last snapshot a client connected.
type connections struct {
	mu         sync.Mutex
	generation uint64
	open       map[net.Conn]uint64
}

func newConnections() *connections {
	return &connections{open: map[net.Conn]uint64{}}
}

// observe is the server's ConnState hook.
func (c *connections) observe(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.open[conn] = c.generation
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	}
}

type connectionKey struct{}

// remember is the server's ConnContext hook: a request knows on which connection it came.
func (c *connections) remember(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

func (c *connections) Mark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
}

func (c *connections) DropMarked(asked context.Context) {
	own := asked.Value(connectionKey{})
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, generation := range c.open {
		if generation == c.generation || conn == own {
			continue
		}
		// Nobody is left to receive what was not sent yet.
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
}
