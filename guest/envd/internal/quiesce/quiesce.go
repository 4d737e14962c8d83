// Package quiesce prepares the guest for a snapshot and takes it up again after.
package quiesce

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"connectrpc.com/connect"

	guestv1 "torpor/guest/envd/gen/torpor/guest/v1"
	"torpor/guest/envd/internal/guestos"
)

// Forwarders are the port forwarders, which hold connections open.
type Forwarders interface {
	Stop()
	Start()
}

// Connections know which clients connected before a snapshot.
type Connections interface {
	// Mark divides connections into those before and those after.
	Mark()
	// DropMarked cuts those before the last Mark: after a restore their other end is gone,
	// and a stream waiting for it would hold up the process it reads from. The connection
	// that the request of this context came on is spared: somebody waits at its other end.
	DropMarked(asked context.Context)
}

// Service implements torpor.guest.v1.Guest.
type Service struct {
	os          guestos.OS
	forwarders  Forwarders
	connections Connections

	mu       sync.Mutex
	quiesced bool
}

func New(os guestos.OS, forwarders Forwarders, connections Connections) *Service {
	return &Service{os: os, forwarders: forwarders, connections: connections}
}

// Quiesce runs to its end even when the caller gives up: half of it is of no use. One that
// has not begun by then never does: it would quiesce a guest that has gone on since.
func (s *Service) Quiesce(ctx context.Context, _ *connect.Request[guestv1.QuiesceRequest]) (*connect.Response[guestv1.QuiesceResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, connect.NewError(connect.CodeCanceled, fmt.Errorf("quiesce: not begun: %w", err))
	}
	s.quiesced = true
	s.connections.Mark()

	answer := &guestv1.QuiesceResponse{MemoryUsedBeforeBytes: s.memoryUsed()}
	run := func(name string, step func() error) error {
		began := time.Now()
		err := step()
		took := &guestv1.QuiesceStep{Name: name, DurationMs: float64(time.Since(began).Microseconds()) / 1000}
		if err != nil {
			reason := err.Error()
			took.Skipped = &reason
		}
		answer.Steps = append(answer.Steps, took)
		return err
	}

	_ = run("forwarders", func() error { s.forwarders.Stop(); return nil })
	if err := run("sync", s.os.Sync); err != nil {
		return nil, connect.NewError(connect.CodeInternal, fmt.Errorf("quiesce: data is not safely on disk: %w", err))
	}
	// Not every disk can be trimmed; the steps say so, and the snapshot is merely larger.
	_ = run("trim", func() (err error) { answer.TrimmedBytes, err = s.os.Trim(); return err })
	_ = run("drop_caches", func() error { debug.FreeOSMemory(); return s.os.DropCaches() })
	// No compact_memory: it took ten seconds in an emulated guest, and moving pages about
	// makes a snapshot no smaller.
	answer.MemoryUsedAfterBytes = s.memoryUsed()
	return connect.NewResponse(answer), nil
}

// Unquiesce is for a snapshot that was called off, or one the guest lives on after.
func (s *Service) Unquiesce(context.Context, *connect.Request[guestv1.UnquiesceRequest]) (*connect.Response[guestv1.UnquiesceResponse], error) {
	return connect.NewResponse(&guestv1.UnquiesceResponse{WasQuiesced: s.release()}), nil
}

// Restored is the same after a restore, where old connections lead nowhere.
func (s *Service) Restored(asked context.Context) {
	if s.release() {
		s.connections.DropMarked(asked)
	}
}

// Quiesced tells whether a snapshot may have been taken since the last release.
func (s *Service) Quiesced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.quiesced
}

func (s *Service) release() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.quiesced
	s.quiesced = false
	if was {
		s.forwarders.Start()
	}
	return was
}

func (s *Service) memoryUsed() uint64 {
	used, err := s.os.MemoryUsed()
	if err != nil {
		slog.Warn("memory in use unknown", "error", err)
	}
	return used
}
