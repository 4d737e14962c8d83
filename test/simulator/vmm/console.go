package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// console is what the guest prints on its serial port. The host may cut the file, so it is only ever appended to.
type console struct {
	mu   sync.Mutex
	file *os.File
	from time.Time
}

func openConsole(path string) (*console, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &console{file: file, from: time.Now()}, nil
}

// print loses what does not fit on the host's disk, as a serial port does.
func (c *console) print(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := fmt.Fprintf(c.file, "[%12.6f] %s\r\n", time.Since(c.from).Seconds(), line); err != nil {
		fmt.Fprintf(os.Stderr, "simulated-vmm: console: %v\n", err)
	}
}
