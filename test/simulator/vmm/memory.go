package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Where things are in the guest's memory.
const (
	nonceAt   = 0
	nonceSize = 16
	// Nanoseconds for which the virtual CPUs have run.
	ranAt      = 16
	requestsAt = 24
	bootedAt   = 32
	// Length and JSON of what the agent and its programs keep.
	heapAt   = 64
	heapSize = 512 << 10
)

const (
	tick = 10 * time.Millisecond
	// Written in pieces, so that a save can be given up between two of them.
	piece = 64 << 10
)

// heap is everything that programs of the guest hold in memory.
type heap struct {
	AccessToken string            `json:"accessToken"`
	Env         map[string]string `json:"env"`
	Identity    map[string]string `json:"identity"`
	Quiesced    bool              `json:"quiesced"`
	Files       map[string][]byte `json:"files"`
}

// memory is all that the guest knows. What is not in it or on the disk does not survive a save and a restore.
type memory struct {
	megabytes int

	mu    sync.Mutex
	bytes []byte
	// Since when the virtual CPUs run; zero while they stand still.
	runsSince time.Time
}

// newMemory is that of a machine which was just switched on. Its nonce is nowhere else.
func newMemory(megabytes, touchedMB int) (*memory, error) {
	m, err := allocate(megabytes, touchedMB)
	if err != nil {
		return nil, err
	}
	// Every page gets something that neither a hole in a file nor a page of zeros could stand for.
	if _, err := rand.Read(m.bytes); err != nil {
		return nil, err
	}
	clear(m.bytes[ranAt : heapAt+4])
	return m, m.update(func(h *heap) {
		h.Env, h.Identity, h.Files = map[string]string{}, map[string]string{}, map[string][]byte{}
	})
}

func allocate(megabytes, touchedMB int) (*memory, error) {
	size := min(megabytes, touchedMB) << 20
	if size < heapAt+heapSize {
		return nil, fmt.Errorf("memory of %d MiB, of which at most %d are real, is too little", megabytes, touchedMB)
	}
	buffer, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("no memory for the guest: %w", err)
	}
	return &memory{megabytes: megabytes, bytes: buffer}, nil
}

func (m *memory) nonce() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return hex.EncodeToString(m.bytes[nonceAt : nonceAt+nonceSize])
}

// run and stop are the virtual CPUs' clock. Nobody counts while nobody looks: a timer in each of some hundred guests would
// take the machine for itself. What a guest sees is the same.
func (m *memory) run() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runsSince = time.Now()
}

func (m *memory) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	m.runsSince = time.Time{}
}

func (m *memory) advance() time.Duration {
	ran := time.Duration(binary.LittleEndian.Uint64(m.bytes[ranAt:]))
	if !m.runsSince.IsZero() {
		now := time.Now()
		ran += now.Sub(m.runsSince)
		m.runsSince = now
		binary.LittleEndian.PutUint64(m.bytes[ranAt:], uint64(ran))
	}
	return ran
}

func (m *memory) uptime() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.advance()
}

func (m *memory) ticks() int64 { return int64(m.uptime() / tick) }

func (m *memory) requests() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return binary.LittleEndian.Uint64(m.bytes[requestsAt:])
}

func (m *memory) countRequest() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := binary.LittleEndian.Uint64(m.bytes[requestsAt:]) + 1
	binary.LittleEndian.PutUint64(m.bytes[requestsAt:], count)
	return count
}

func (m *memory) booted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes[bootedAt] == 1
}

func (m *memory) setBooted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes[bootedAt] = 1
}

func (m *memory) heap() heap {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readHeap()
}

var errGuestMemoryFull = errors.New("the guest is out of memory")

func (m *memory) update(change func(*heap)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.readHeap()
	change(&h)
	encoded, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if len(encoded) > heapSize-4 {
		return errGuestMemoryFull
	}
	binary.LittleEndian.PutUint32(m.bytes[heapAt:], uint32(len(encoded)))
	copy(m.bytes[heapAt+4:], encoded)
	return nil
}

func (m *memory) readHeap() heap {
	var h heap
	length := int(binary.LittleEndian.Uint32(m.bytes[heapAt:]))
	if length == 0 {
		return h
	}
	// Only update writes here, and a file that differs from what was saved is not loaded.
	if err := json.Unmarshal(m.bytes[heapAt+4:heapAt+4+length], &h); err != nil {
		panic(fmt.Sprintf("the guest's heap is damaged: %v", err))
	}
	return h
}

// save writes the memory of a machine that stands still. The file ends with a checksum of all before it.
func (m *memory) save(ctx context.Context, path string, took time.Duration) (written int64, sum string, err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	whole, content := sha256.New(), sha256.New()
	write := func(part []byte) error {
		n, err := file.Write(part)
		written += int64(n)
		whole.Write(part[:n])
		return err
	}
	header := m.header()
	content.Write([]byte(header))
	if err := write([]byte(header)); err != nil {
		return 0, "", err
	}
	pause := took / time.Duration(len(m.bytes)/piece)
	for at := 0; at < len(m.bytes); at += piece {
		if err := wait(ctx, pause); err != nil {
			return 0, "", err
		}
		part := m.bytes[at:min(at+piece, len(m.bytes))]
		content.Write(part)
		if err := write(part); err != nil {
			return 0, "", err
		}
	}
	if err := write(content.Sum(nil)); err != nil {
		return 0, "", err
	}
	if err := file.Sync(); err != nil {
		return 0, "", err
	}
	return written, hex.EncodeToString(whole.Sum(nil)), ctx.Err()
}

func wait(ctx context.Context, pause time.Duration) error {
	if pause == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (m *memory) header() string {
	return fmt.Sprintf("simulated memory 1, machine of %d MiB, %d bytes\n", m.megabytes, len(m.bytes))
}

// loadMemory goes on where save stopped: same nonce, same counters, same programs.
func loadMemory(path string, megabytes, touchedMB int) (*memory, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	m, err := allocate(megabytes, touchedMB)
	if err != nil {
		return nil, err
	}
	refuse := func(why string) error { return fmt.Errorf("load of saved memory %s failed: %s", path, why) }
	content, header := sha256.New(), m.header()
	head := make([]byte, len(header))
	if _, err := io.ReadFull(file, head); err != nil || string(head) != header {
		return nil, refuse("it does not begin as the memory of this machine would, with: " + header[:len(header)-1])
	}
	content.Write(head)
	if _, err := io.ReadFull(file, m.bytes); err != nil {
		return nil, refuse("it ends too early")
	}
	content.Write(m.bytes)
	sum, err := io.ReadAll(io.LimitReader(file, sha256.Size+1))
	if err != nil {
		return nil, refuse(err.Error())
	}
	if !bytes.Equal(sum, content.Sum(nil)) {
		return nil, refuse("its content does not match its checksum")
	}
	return m, nil
}
