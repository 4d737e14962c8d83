package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	rpc "torpor/guest/envd/gen/process"
	guestv1 "torpor/guest/envd/gen/torpor/guest/v1"
	"torpor/guest/envd/gen/torpor/guest/v1/guestv1connect"
	"torpor/guest/envd/internal/guestinit"
	"torpor/guest/envd/internal/quiesce"
	"torpor/guest/envd/internal/settings"
)

func TestHealth(t *testing.T) {
	g := newGuest(t, nil)
	status, headers, body := g.do(http.MethodGet, "/health", nil, nil)
	if status != http.StatusNoContent || body != "" || headers.Get("X-Envd-Version") != "0.6.13" || headers.Get("X-Torpor-Agent-Version") != "test" {
		t.Errorf("got %d %v %q", status, headers, body)
	}
}

func TestMetrics(t *testing.T) {
	g := newGuest(t, nil)
	status, _, body := g.do(http.MethodGet, "/metrics", nil, nil)
	var sample map[string]float64
	if err := json.Unmarshal([]byte(body), &sample); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	for _, name := range []string{"ts", "cpu_count", "mem_total", "mem_used", "disk_total", "disk_used"} {
		if sample[name] <= 0 {
			t.Errorf("%s is %v", name, sample[name])
		}
	}
	if used := sample["cpu_used_pct"]; used < 0 || used > 100 {
		t.Errorf("cpu_used_pct is %v", used)
	}
}

func TestInitSetsEverything(t *testing.T) {
	g := newGuest(t, nil)
	g.os.taken()
	g.initialise(map[string]any{
		"envVars": map[string]string{"A": "1", "TORPOR_SANDBOX_ID": "forged"}, "timestamp": time.Now().Add(time.Hour).Format(time.RFC3339Nano),
		"sandboxId": "abc", "templateId": "tpl", "hostname": "box", "entropy": []byte("seed"), "defaultWorkdir": "/", "lifecycleID": "1",
	})
	if got := g.os.taken(); got != "entropy seed,clock,hostname box,identity abc tpl" {
		t.Errorf("calls: %s", got)
	}
	want := map[string]string{
		"A": "1", "TORPOR": "true", "TORPOR_SANDBOX_ID": "abc", "TORPOR_TEMPLATE_ID": "tpl",
		"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": "abc", "E2B_TEMPLATE_ID": "tpl",
	}
	if got := g.envs(); !maps.Equal(got, want) {
		t.Errorf("envs: %v", got)
	}
	g.initialise(map[string]any{"envVars": map[string]string{"B": "2"}})
	if got := g.envs(); got["A"] != "" || got["B"] != "2" {
		t.Errorf("variables were not replaced: %v", got)
	}
	g.initialise(map[string]any{})
	if got := g.envs(); got["B"] != "2" || got["TORPOR_SANDBOX_ID"] != "abc" {
		t.Errorf("absent fields changed something: %v", got)
	}
	text, _ := g.run(&rpc.StartRequest{Process: &rpc.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", "echo $B $E2B_SANDBOX_ID; pwd"}}})
	if text != "2 abc\n/\n" {
		t.Errorf("a process sees %q", text)
	}
}

func TestClockSteps(t *testing.T) {
	cases := []struct {
		guestAhead time.Duration
		steps      bool
	}{
		{-time.Hour, true}, {-100 * time.Millisecond, true}, {0, false}, {4 * time.Second, false}, {6 * time.Second, true},
	}
	for _, c := range cases {
		g := newGuest(t, nil)
		g.os.taken()
		g.initialise(map[string]any{"timestamp": g.os.Now().Add(-c.guestAhead)})
		if got := g.os.taken(); (got == "clock") != c.steps {
			t.Errorf("guest %v ahead: calls %q", c.guestAhead, got)
		}
	}
}

func TestStaleInitIsIgnoredWithinOneLife(t *testing.T) {
	g := newGuest(t, nil)
	now := time.Now()
	send := func(life, value string, at time.Time) string {
		g.os.taken()
		g.initialise(map[string]any{"lifecycleID": life, "timestamp": at, "envVars": map[string]string{"V": value}})
		return g.os.taken() + ":" + g.envs()["V"]
	}
	steps := []struct {
		name, life, value string
		at                time.Time
		want              string
	}{
		{"first", "1", "a", now.Add(time.Hour), "clock:a"},
		{"overtaken", "1", "b", now.Add(time.Hour - time.Second), ":a"},
		{"newer", "1", "c", now.Add(2 * time.Hour), "clock:c"},
		{"another life on a slower host", "2", "e", now, "clock:e"},
	}
	for _, s := range steps {
		if got := send(s.life, s.value, s.at); got != s.want {
			t.Errorf("%s: got %q, want %q", s.name, got, s.want)
		}
	}
	// A retry arrives late. Stepping to its time would take the clock back.
	g.os.offset = time.Minute
	if got := send("2", "f", now); got != ":f" {
		t.Errorf("repeated: got %q", got)
	}
	// After a snapshot, the host's clock is right even if it is behind.
	if _, err := g.control.Quiesce(context.Background(), connect.NewRequest(&guestv1.QuiesceRequest{})); err != nil {
		t.Fatal(err)
	}
	if got := send("2", "g", now.Add(-time.Hour)); got != "clock,forward:g" {
		t.Errorf("restored: got %q", got)
	}
}

func TestInitRefuses(t *testing.T) {
	g := newGuest(t, nil)
	cases := []struct {
		name   string
		fields map[string]any
		status int
		text   string
	}{
		{"volumes", map[string]any{"volumeMounts": []any{map[string]string{"path": "/x"}}}, http.StatusNotImplemented, "volumeMounts are not implemented"},
		{"certificates", map[string]any{"caBundle": "PEM"}, http.StatusNotImplemented, "caBundle is not implemented"},
		{"bad time", map[string]any{"timestamp": "yesterday"}, http.StatusBadRequest, "cannot read the request"},
		{"bad entropy", map[string]any{"entropy": "!"}, http.StatusBadRequest, "cannot read the request"},
	}
	for _, c := range cases {
		if status, body := g.tryInit(c.fields); status != c.status || !strings.Contains(body, c.text) {
			t.Errorf("%s: got %d %s", c.name, status, body)
		}
	}
	g.initialise(map[string]any{"volumeMounts": []any{}, "caBundle": ""})
}

func TestAFailedInitCanBeRepeated(t *testing.T) {
	g := newGuest(t, nil)
	fields := map[string]any{"timestamp": time.Now().Add(time.Hour), "hostname": "box", "accessToken": "secret"}
	g.os.breaks("hostname", errors.New("broken"))
	if status, body := g.tryInit(fields); status != http.StatusInternalServerError || !strings.Contains(body, "hostname: broken") {
		t.Fatalf("got %d %s", status, body)
	}
	g.os.breaks("", nil)
	g.initialise(fields)
	if got := g.os.taken(); !strings.Contains(got, "hostname box") {
		t.Errorf("calls: %s", got)
	}
}

func TestOnlyTheHostMayInit(t *testing.T) {
	g := newGuest(t, nil)
	inside := New(Parts{OS: g.os, Forwarders: g.os, OwnAddresses: func() ([]netip.Addr, error) { return nil, nil }})
	g.base = serveOnLoopback(t, inside)
	if status, _ := g.tryInit(map[string]any{}); status != http.StatusForbidden {
		t.Errorf("init: %d", status)
	}
	for _, method := range []string{"Quiesce", "Unquiesce"} {
		status, _, body := g.do(http.MethodPost, "/torpor.guest.v1.Guest/"+method, map[string]string{"Content-Type": "application/json"}, []byte("{}"))
		if status != http.StatusForbidden || !strings.Contains(body, "permission_denied") {
			t.Errorf("%s: %d %s", method, status, body)
		}
	}
}

func TestTokenGuardsEverythingButTheOpenPaths(t *testing.T) {
	g := newGuest(t, nil)
	g.initialise(map[string]any{"accessToken": "secret"})
	json := map[string]string{"Content-Type": "application/json"}
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/health", http.StatusNoContent},
		{http.MethodGet, "/metrics", http.StatusUnauthorized},
		{http.MethodGet, "/envs", http.StatusUnauthorized},
		{http.MethodGet, "/files?path=/etc/hostname", http.StatusUnauthorized},
		{http.MethodPost, "/process.Process/List", http.StatusUnauthorized},
		{http.MethodPost, "/filesystem.Filesystem/Stat", http.StatusUnauthorized},
		{http.MethodPost, "/torpor.guest.v1.Guest/Unquiesce", http.StatusOK},
		{http.MethodPost, "/init", http.StatusNoContent},
	} {
		status, _, body := g.do(c.method, c.path, json, []byte("{}"))
		if status != c.want {
			t.Errorf("%s: got %d %s, want %d", c.path, status, body, c.want)
		}
	}
	for token, want := range map[string]int{"secret": http.StatusOK, "secre": http.StatusUnauthorized} {
		if status, _, _ := g.do(http.MethodGet, "/envs", map[string]string{"X-Access-Token": token}, nil); status != want {
			t.Errorf("token %q: %d", token, status)
		}
	}
	g.initialise(map[string]any{"accessToken": ""})
	g.envs()
}

func TestQuiesce(t *testing.T) {
	g := newGuest(t, nil)
	g.os.taken()
	for range 2 {
		answer, err := g.control.Quiesce(context.Background(), connect.NewRequest(&guestv1.QuiesceRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		names := ""
		for _, step := range answer.Msg.GetSteps() {
			names += step.GetName() + " "
			if step.Skipped != nil {
				t.Errorf("%s: %s", step.GetName(), step.GetSkipped())
			}
		}
		if names != "forwarders sync trim drop_caches " || answer.Msg.GetTrimmedBytes() != 42 {
			t.Errorf("got %v", answer.Msg)
		}
		if got := g.os.taken(); got != "unforward,sync,trim,drop" {
			t.Errorf("calls: %s", got)
		}
	}
	if text, _ := g.run(&rpc.StartRequest{Process: &rpc.ProcessConfig{Cmd: "echo", Args: []string{"usable"}}}); text != "usable\n" {
		t.Errorf("while quiesced: %q", text)
	}
	for _, want := range []bool{true, false} {
		answer, err := g.control.Unquiesce(context.Background(), connect.NewRequest(&guestv1.UnquiesceRequest{}))
		if err != nil || answer.Msg.GetWasQuiesced() != want {
			t.Errorf("got %v, %v; want %v", answer, err, want)
		}
	}
	if got := g.os.taken(); got != "forward" {
		t.Errorf("calls: %s", got)
	}
}

func TestQuiesceNeedsTheDataOnDiskAndNothingElse(t *testing.T) {
	g := newGuest(t, nil)
	quiesce := func() (*connect.Response[guestv1.QuiesceResponse], error) {
		return g.control.Quiesce(context.Background(), connect.NewRequest(&guestv1.QuiesceRequest{}))
	}
	g.os.breaks("trim", errors.New("not supported"))
	answer, err := quiesce()
	if err != nil || answer.Msg.GetSteps()[2].GetSkipped() != "not supported" {
		t.Errorf("got %v, %v", answer, err)
	}
	g.os.breaks("sync", errors.New("I/O error"))
	_, err = quiesce()
	wantCode(t, err, connect.CodeInternal, "not safely on disk: I/O error")
}

// held is a stream that a snapshot finds open.
func (g *guest) held() io.ReadCloser {
	g.t.Helper()
	body := "\x00\x00\x00\x00\x22" + `{"process":{"cmd":"cat"},"tag":"x"}`
	body = body[:4] + string(rune(len(body)-5)) + body[5:]
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	g.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.base+"/process.Process/Start", strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/connect+json")
	answer, err := (&http.Transport{}).RoundTrip(r)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { answer.Body.Close() })
	if _, err := io.ReadFull(answer.Body, make([]byte, 5)); err != nil {
		g.t.Fatal(err)
	}
	return answer.Body
}

func TestRestoreCutsOldConnectionsAndACalledOffSnapshotDoesNot(t *testing.T) {
	g := newGuest(t, nil)
	stream := g.held()
	quiesce := func() {
		t.Helper()
		if _, err := g.control.Quiesce(context.Background(), connect.NewRequest(&guestv1.QuiesceRequest{})); err != nil {
			t.Fatal(err)
		}
	}
	selector := &rpc.ProcessSelector{Selector: &rpc.ProcessSelector_Tag{Tag: "x"}}
	quiesce()
	if _, err := g.control.Unquiesce(context.Background(), connect.NewRequest(&guestv1.UnquiesceRequest{})); err != nil {
		t.Fatal(err)
	}
	g.send(selector, "still here\n")
	buffer := make([]byte, 200)
	for text := ""; !strings.Contains(text, "c3RpbGwgaGVyZQo="); {
		n, err := stream.Read(buffer)
		if err != nil {
			t.Fatalf("after a called-off snapshot: %v", err)
		}
		text += string(buffer[:n])
	}
	quiesce()
	g.initialise(map[string]any{})
	if rest, err := io.ReadAll(stream); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the connection was not cut, but ended with %q, %v", rest, err)
	}
	// The process is there, and what it says from now on reaches the next client.
	g.send(selector, "after\n")
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	again, err := g.process.Connect(ctx, connect.NewRequest(&rpc.ConnectRequest{Process: selector}))
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for !strings.Contains(text, "after\n") && again.Receive() {
		text += string(again.Msg().GetEvent().GetData().GetStdout())
	}
	if text != "after\n" {
		t.Errorf("got %q, %v", text, again.Err())
	}
	g.kill(selector)
}

// A late quiesce may mark the connection that the next init comes on.
func TestRestoreSparesTheConnectionThatTellsOfIt(t *testing.T) {
	g := newGuest(t, nil)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: soon}
	t.Cleanup(client.CloseIdleConnections)
	control := guestv1connect.NewGuestClient(client, g.base)
	if _, err := control.Quiesce(context.Background(), connect.NewRequest(&guestv1.QuiesceRequest{})); err != nil {
		t.Fatal(err)
	}
	answer, err := client.Post(g.base+"/init", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		t.Errorf("init: %d", answer.StatusCode)
	}
}

func TestNothingBeginsAfterItsCallerHasGone(t *testing.T) {
	os := &recorder{}
	open := newConnections()
	snapshots := quiesce.New(os, os, open)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := snapshots.Quiesce(gone, connect.NewRequest(&guestv1.QuiesceRequest{})); connect.CodeOf(err) != connect.CodeCanceled {
		t.Errorf("quiesce: %v", err)
	}
	answer := httptest.NewRecorder()
	body := strings.NewReader(`{"hostname":"late"}`)
	guestinit.New(settings.New(), os, snapshots).ServeHTTP(answer, httptest.NewRequestWithContext(gone, http.MethodPost, "/init", body))
	if answer.Code != http.StatusServiceUnavailable {
		t.Errorf("init: %d", answer.Code)
	}
	if snapshots.Quiesced() || os.taken() != "" {
		t.Error("something was done")
	}
}
