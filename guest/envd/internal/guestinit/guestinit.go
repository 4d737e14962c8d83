// Package guestinit serves POST /init, with which the host makes a guest the sandbox
// it is meant to be: after every create, resume and restore.
package guestinit

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"torpor/guest/envd/internal/guestos"
	"torpor/guest/envd/internal/httperr"
	"torpor/guest/envd/internal/settings"
)

const (
	maxBody = 4 << 20
	// A clock may lag by the time a request takes; ahead, programs notice every step back.
	clockBehind = 50 * time.Millisecond
	clockAhead  = 5 * time.Second
)

// Request has pointers where absence means "leave it as it is".
type Request struct {
	EnvVars        map[string]string `json:"envVars"`
	AccessToken    *string           `json:"accessToken"`
	Timestamp      *time.Time        `json:"timestamp"`
	DefaultUser    *string           `json:"defaultUser"`
	DefaultWorkdir *string           `json:"defaultWorkdir"`
	LifecycleID    string            `json:"lifecycleID"`
	VolumeMounts   []json.RawMessage `json:"volumeMounts"`
	CABundle       string            `json:"caBundle"`

	SandboxID  string `json:"sandboxId"`
	TemplateID string `json:"templateId"`
	Hostname   string `json:"hostname"`
	Entropy    []byte `json:"entropy"`
}

// Snapshots is what a restore has to tell.
type Snapshots interface {
	Quiesced() bool
	Restored(asked context.Context)
}

// Handler applies one request at a time.
type Handler struct {
	settings  *settings.Settings
	os        guestos.OS
	snapshots Snapshots

	mu sync.Mutex
	// The newest request of this lifecycle, to recognise a late or repeated one.
	latest    time.Time
	lifecycle string
}

func New(settings *settings.Settings, os guestos.OS, snapshots Snapshots) *Handler {
	return &Handler{settings: settings, os: os, snapshots: snapshots}
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request Request
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil && len(body) > 0 {
		err = json.Unmarshal(body, &request)
	}
	if err != nil {
		httperr.Write(w, r, httperr.New(http.StatusBadRequest, "init: cannot read the request: %w", err))
		return
	}
	if err := h.apply(r.Context(), &request); err != nil {
		httperr.Write(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handler) apply(ctx context.Context, request *Request) error {
	if len(request.VolumeMounts) > 0 {
		return httperr.New(http.StatusNotImplemented, "init: volumeMounts are not implemented by this agent")
	}
	if request.CABundle != "" {
		return httperr.New(http.StatusNotImplemented, "init: caBundle is not implemented by this agent")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// It has waited for its turn, and whoever gave up meanwhile may have sent another since.
	if err := ctx.Err(); err != nil {
		return httperr.New(http.StatusServiceUnavailable, "init: not begun: %w", err)
	}

	order := h.order(request)
	if order == stale {
		slog.Warn("init ignored: older than one already applied", "timestamp", request.Timestamp)
		return nil
	}
	// First, and whatever fails later: programs must not share random numbers with the
	// other guests of this snapshot, and certificates are checked against the clock.
	if len(request.Entropy) > 0 {
		if err := h.os.AddEntropy(request.Entropy); err != nil {
			return httperr.New(http.StatusInternalServerError, "init: entropy: %w", err)
		}
	}
	if order == newer {
		if err := h.stepClock(*request.Timestamp); err != nil {
			return httperr.New(http.StatusInternalServerError, "init: clock: %w", err)
		}
	}
	if err := h.identify(request); err != nil {
		return err
	}
	h.applySettings(request)
	h.snapshots.Restored(ctx)
	// Last: a request that failed half-way must be repeatable with the same timestamp.
	if request.Timestamp != nil {
		h.latest, h.lifecycle = *request.Timestamp, request.LifecycleID
	}
	return nil
}

type order int

const (
	newer    order = iota // may step the clock
	repeated              // the same request again, or one without a time: the clock is left alone
	stale                 // overtaken by a newer one: ignored
)

// order compares within one life only. Another lifecycle, or a snapshot in between,
// may come from a host whose clock is behind that of the host before.
func (h *Handler) order(request *Request) order {
	switch {
	case request.Timestamp == nil:
		return repeated
	case h.latest.IsZero() || request.LifecycleID != h.lifecycle || h.snapshots.Quiesced():
		return newer
	case request.Timestamp.Before(h.latest):
		return stale
	case request.Timestamp.Equal(h.latest):
		return repeated
	default:
		return newer
	}
}

func (h *Handler) stepClock(to time.Time) error {
	ahead := h.os.Now().Sub(to)
	if ahead >= -clockBehind && ahead <= clockAhead {
		return nil
	}
	slog.Info("clock stepped", "was_ahead_ms", ahead.Milliseconds())
	return h.os.SetClock(to)
}

func (h *Handler) identify(request *Request) error {
	if request.Hostname != "" {
		if err := h.os.SetHostname(request.Hostname); err != nil {
			return httperr.New(http.StatusInternalServerError, "init: hostname: %w", err)
		}
	}
	if request.SandboxID != "" || request.TemplateID != "" {
		if err := h.os.WriteIdentity(request.SandboxID, request.TemplateID); err != nil {
			return httperr.New(http.StatusInternalServerError, "init: identity files: %w", err)
		}
		h.settings.SetIdentity(request.SandboxID, request.TemplateID)
	}
	return nil
}

func (h *Handler) applySettings(request *Request) {
	if request.EnvVars != nil {
		h.settings.ReplaceEnv(request.EnvVars)
	}
	if request.AccessToken != nil {
		h.settings.SetAccessToken(*request.AccessToken)
	}
	if request.DefaultUser != nil {
		h.settings.SetDefaultUser(*request.DefaultUser)
	}
	if request.DefaultWorkdir != nil {
		h.settings.SetDefaultWorkdir(*request.DefaultWorkdir)
	}
}
