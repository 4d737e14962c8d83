// Package server puts the agent together: one port for HTTP and for the Connect protocol.
package server

import (
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"torpor/guest/envd/gen/filesystem/filesystemconnect"
	"torpor/guest/envd/gen/process/processconnect"
	"torpor/guest/envd/gen/torpor/guest/v1/guestv1connect"
	"torpor/guest/envd/internal/access"
	"torpor/guest/envd/internal/account"
	"torpor/guest/envd/internal/cgroup"
	"torpor/guest/envd/internal/files"
	"torpor/guest/envd/internal/filesystem"
	"torpor/guest/envd/internal/guestinit"
	"torpor/guest/envd/internal/guestos"
	"torpor/guest/envd/internal/metrics"
	"torpor/guest/envd/internal/process"
	"torpor/guest/envd/internal/processrpc"
	"torpor/guest/envd/internal/quiesce"
	"torpor/guest/envd/internal/settings"
)

// ProtocolVersion is the version of the E2B agent that this one behaves as.
const ProtocolVersion = "0.6.13"

// The proxies on the way give up after 610 and 620 s; the innermost must be the last.
const (
	idleTimeout   = 640 * time.Second
	headerTimeout = 30 * time.Second
	// Input for a process arrives whole; files take the streaming way of /files.
	maxMessage = 16 << 20
)

// Parts are what differs between a guest and a test.
type Parts struct {
	Version    string
	OS         guestos.OS
	Forwarders quiesce.Forwarders
	Groups     cgroup.Groups
	// OwnAddresses tells the guest's callers from the host; nil lets everybody pass.
	OwnAddresses access.OwnAddresses
	// Retention of ended processes.
	Retention time.Duration
}

// New is ready for Serve.
func New(parts Parts) *http.Server {
	state := settings.New()
	open := newConnections()
	snapshots := quiesce.New(parts.OS, parts.Forwarders, open)
	content := files.New(state, parts.OS)

	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", health(parts.Version))
	mux.Handle("GET /metrics", &metrics.Handler{})
	mux.HandleFunc("GET /envs", envs(state))
	mux.Handle("POST /init", guestinit.New(state, parts.OS, snapshots))
	mux.HandleFunc("GET /files", content.Download)
	mux.HandleFunc("POST /files", content.Upload)

	options := connect.WithHandlerOptions(
		connect.WithReadMaxBytes(maxMessage),
		// Compressed requests are understood. Answers go to the host, over no network:
		// compressing a program's output would only cost the guest its processor.
		connect.WithCompressMinBytes(math.MaxInt),
	)
	mux.Handle(processconnect.NewProcessHandler(processrpc.New(state, process.NewTable(parts.Retention), parts.Groups), options))
	mux.Handle(filesystemconnect.NewFilesystemHandler(filesystem.New(state), options))
	mux.Handle(guestv1connect.NewGuestHandler(snapshots, options))

	handler := access.RequireToken(state, account.RememberRequested(mux))
	if parts.OwnAddresses != nil {
		handler = access.RequireHost(parts.OwnAddresses, handler)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: handler, ConnState: open.observe, ConnContext: open.remember, Protocols: &protocols,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
	}
}

// health takes no lock, so that it answers at once whatever else goes on.
func health(version string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Envd-Version", ProtocolVersion)
		w.Header().Set("X-Torpor-Agent-Version", version)
		w.WriteHeader(http.StatusNoContent)
	}
}

func envs(state *settings.Settings) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if err := json.NewEncoder(w).Encode(state.Env()); err != nil {
			slog.Debug("answer not sent", "path", r.URL.Path, "error", err)
		}
	}
}
