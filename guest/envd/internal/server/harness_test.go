package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/user"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"torpor/guest/envd/gen/filesystem/filesystemconnect"
	"torpor/guest/envd/gen/process/processconnect"
	"torpor/guest/envd/gen/torpor/guest/v1/guestv1connect"
	"torpor/guest/envd/internal/guestos"
)

// soon is patience for what must happen, so that a failure is not a hang.
const soon = 20 * time.Second

// recorder stands for the kernel of a guest.
type recorder struct {
	mu     sync.Mutex
	offset time.Duration // of the guest's clock
	calls  []string
	fail   map[string]error
}

var _ guestos.OS = (*recorder)(nil)

func (r *recorder) call(what string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, _, _ := strings.Cut(what, " ")
	if err := r.fail[name]; err != nil {
		return err
	}
	r.calls = append(r.calls, what)
	return nil
}

// taken are the calls since the last time.
func (r *recorder) taken() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := strings.Join(r.calls, ",")
	r.calls = nil
	return calls
}

func (r *recorder) breaks(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = map[string]error{name: err}
}

func (r *recorder) Now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Add(r.offset)
}

func (r *recorder) SetClock(to time.Time) error {
	err := r.call("clock")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offset = time.Until(to)
	return err
}

func (r *recorder) SetHostname(name string) error   { return r.call("hostname " + name) }
func (r *recorder) AddEntropy(seed []byte) error    { return r.call("entropy " + string(seed)) }
func (r *recorder) WriteIdentity(s, t string) error { return r.call("identity " + s + " " + t) }
func (r *recorder) Sync() error                     { return r.call("sync") }
func (r *recorder) Trim() (uint64, error)           { return 42, r.call("trim") }
func (r *recorder) DropCaches() error               { return r.call("drop") }
func (r *recorder) MemoryUsed() (uint64, error)     { return 1000, nil }
func (r *recorder) Start()                          { _ = r.call("forward") }
func (r *recorder) Stop()                           { _ = r.call("unforward") }

// guest is an agent on a free port, with clients.
type guest struct {
	t       *testing.T
	os      *recorder
	base    string
	process processconnect.ProcessClient
	files   filesystemconnect.FilesystemClient
	control guestv1connect.GuestClient
}

func newGuest(t *testing.T, own func() ([]netip.Addr, error)) *guest {
	t.Helper()
	os := &recorder{}
	server := New(Parts{Version: "test", OS: os, Forwarders: os, OwnAddresses: own, Retention: time.Minute})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	g := &guest{t: t, os: os, base: "http://" + listener.Addr().String()}
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	g.process = processconnect.NewProcessClient(client, g.base, connect.WithProtoJSON())
	g.files = filesystemconnect.NewFilesystemClient(client, g.base)
	g.control = guestv1connect.NewGuestClient(client, g.base)
	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	g.initialise(map[string]any{"defaultUser": current.Username})
	return g
}

// do sends one plain HTTP request on a connection of its own.
func (g *guest) do(method, path string, headers map[string]string, body []byte) (int, http.Header, string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, g.base+path, bytes.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Close = true
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	answer, err := (&http.Transport{DisableCompression: true}).RoundTrip(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(content)
}

func (g *guest) tryInit(fields map[string]any) (int, string) {
	g.t.Helper()
	body, err := json.Marshal(fields)
	if err != nil {
		g.t.Fatal(err)
	}
	status, _, content := g.do(http.MethodPost, "/init", map[string]string{"Content-Type": "application/json"}, body)
	return status, content
}

func (g *guest) initialise(fields map[string]any) {
	g.t.Helper()
	if status, content := g.tryInit(fields); status != http.StatusNoContent {
		g.t.Fatalf("init: %d %s", status, content)
	}
}

func (g *guest) envs() map[string]string {
	g.t.Helper()
	status, _, content := g.do(http.MethodGet, "/envs", nil, nil)
	env := map[string]string{}
	if err := json.Unmarshal([]byte(content), &env); err != nil || status != http.StatusOK {
		g.t.Fatalf("envs: %d %s", status, content)
	}
	return env
}

func wantCode(t *testing.T, err error, code connect.Code, text string) {
	t.Helper()
	if connect.CodeOf(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %v with %q", err, code, text)
	}
}
