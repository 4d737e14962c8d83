package server

import (
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

func (c *connections) Mark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
}

func (c *connections) DropMarked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, generation := range c.open {
		if generation == c.generation {
			continue
		}
		// Nobody is left to receive what was not sent yet.
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
}
