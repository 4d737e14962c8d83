package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	rpc "torpor/guest/envd/gen/process"
)

func serveOnLoopback(t *testing.T, server *http.Server) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return "http://" + listener.Addr().String()
}

func sh(script string) *rpc.StartRequest {
	return &rpc.StartRequest{Process: &rpc.ProcessConfig{Cmd: "/bin/bash", Args: []string{"-c", script}}}
}

func byPID(pid uint32) *rpc.ProcessSelector {
	return &rpc.ProcessSelector{Selector: &rpc.ProcessSelector_Pid{Pid: pid}}
}

func byTag(tag string) *rpc.ProcessSelector {
	return &rpc.ProcessSelector{Selector: &rpc.ProcessSelector_Tag{Tag: tag}}
}

func (g *guest) start(ctx context.Context, request *rpc.StartRequest, headers ...string) (*connect.ServerStreamForClient[rpc.StartResponse], uint32) {
	g.t.Helper()
	message := connect.NewRequest(request)
	for i := 0; i < len(headers); i += 2 {
		message.Header().Set(headers[i], headers[i+1])
	}
	stream, err := g.process.Start(ctx, message)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { stream.Close() })
	if !stream.Receive() || stream.Msg().GetEvent().GetStart() == nil {
		g.t.Fatalf("first event %v, %v", stream.Msg(), stream.Err())
	}
	return stream, stream.Msg().GetEvent().GetStart().GetPid()
}

// run is all output of both kinds, and the end.
func (g *guest) run(request *rpc.StartRequest, headers ...string) (string, *rpc.ProcessEvent_EndEvent) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	stream, _ := g.start(ctx, request, headers...)
	text := ""
	for stream.Receive() {
		event := stream.Msg().GetEvent()
		data := event.GetData()
		text += string(data.GetStdout()) + string(data.GetStderr()) + string(data.GetPty())
		if end := event.GetEnd(); end != nil {
			if stream.Receive() || stream.Err() != nil {
				g.t.Errorf("after the end: %v, %v", stream.Msg(), stream.Err())
			}
			return text, end
		}
	}
	g.t.Fatalf("no end after %q: %v", text, stream.Err())
	return "", nil
}

func (g *guest) failure(request *rpc.StartRequest, headers ...string) error {
	g.t.Helper()
	message := connect.NewRequest(request)
	for i := 0; i < len(headers); i += 2 {
		message.Header().Set(headers[i], headers[i+1])
	}
	// No deadline here: the client would send it in place of the header that is tested.
	stream, err := g.process.Start(context.Background(), message)
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
	}
	return stream.Err()
}

func (g *guest) send(to *rpc.ProcessSelector, text string) {
	g.t.Helper()
	input := &rpc.ProcessInput{Input: &rpc.ProcessInput_Stdin{Stdin: []byte(text)}}
	if _, err := g.process.SendInput(context.Background(), connect.NewRequest(&rpc.SendInputRequest{Process: to, Input: input})); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) kill(selector *rpc.ProcessSelector) {
	g.t.Helper()
	request := &rpc.SendSignalRequest{Process: selector, Signal: rpc.Signal_SIGNAL_SIGKILL}
	if _, err := g.process.SendSignal(context.Background(), connect.NewRequest(request)); err != nil {
		g.t.Fatal(err)
	}
}

func TestStartGivesStartDataEnd(t *testing.T) {
	g := newGuest(t, nil)
	text, end := g.run(sh("echo out; exit 3"))
	if text != "out\n" || end.GetExitCode() != 3 || !end.GetExited() || end.GetStatus() != "exit status 3" || end.GetError() != "exit status 3" {
		t.Errorf("got %q, %v", text, end)
	}
}

func TestStartRefuses(t *testing.T) {
	g := newGuest(t, nil)
	missing := sh("true")
	missing.Process.Cwd = new(string)
	*missing.Process.Cwd = "/no/such"
	wantCode(t, g.failure(missing), connect.CodeInvalidArgument, "cwd '/no/such' does not exist")
	wantCode(t, g.failure(&rpc.StartRequest{}), connect.CodeInvalidArgument, "no command given")
	stranger := "Basic " + base64.StdEncoding.EncodeToString([]byte("root123:"))
	wantCode(t, g.failure(sh("true"), "Authorization", stranger), connect.CodeUnauthenticated, "invalid username: 'root123'")
	wantCode(t, g.failure(sh("true"), "Keepalive-Ping-Interval", "soon"), connect.CodeInvalidArgument, "Keepalive-Ping-Interval 'soon'")
	big := sh("true")
	big.Pty = &rpc.PTY{Size: &rpc.PTY_Size{Cols: 70000, Rows: 1}}
	wantCode(t, g.failure(big), connect.CodeInvalidArgument, "terminal of 70000x1")
}

func TestTheNamedUserRuns(t *testing.T) {
	g := newGuest(t, nil)
	g.initialise(map[string]any{"defaultWorkdir": "/"})
	nobody := "Basic " + base64.StdEncoding.EncodeToString([]byte("nobody:"))
	if text, _ := g.run(sh("id -un; echo $USER"), "Authorization", nobody); text != "nobody\nnobody\n" {
		t.Errorf("got %q", text)
	}
}

func TestDisconnectDoesNotKillAndConnectGoesOn(t *testing.T) {
	g := newGuest(t, nil)
	ctx, leave := context.WithCancel(context.Background())
	request := sh("read -r a; echo got $a; read -r b; echo got $b; exit 4")
	tag := "job"
	request.Tag = &tag
	_, pid := g.start(ctx, request)
	leave()

	g.send(byTag(tag), "one\n")
	list, err := g.process.List(context.Background(), connect.NewRequest(&rpc.ListRequest{}))
	if err != nil || len(list.Msg.GetProcesses()) != 1 || list.Msg.GetProcesses()[0].GetPid() != pid || list.Msg.GetProcesses()[0].GetTag() != tag {
		t.Fatalf("got %v, %v", list, err)
	}
	for range 2 { // the second time it has ended, and is remembered
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		stream, err := g.process.Connect(ctx, connect.NewRequest(&rpc.ConnectRequest{Process: byPID(pid)}))
		if err != nil {
			t.Fatal(err)
		}
		if !stream.Receive() || stream.Msg().GetEvent().GetStart().GetPid() != pid {
			t.Fatalf("got %v, %v", stream.Msg(), stream.Err())
		}
		if len(list.Msg.GetProcesses()) == 1 {
			g.send(byPID(pid), "two\n")
		}
		var end *rpc.ProcessEvent_EndEvent
		for stream.Receive() {
			end = stream.Msg().GetEvent().GetEnd()
		}
		if end.GetExitCode() != 4 {
			t.Fatalf("end %v, %v", end, stream.Err())
		}
		list.Msg.Processes = nil
	}
	_, err = g.process.SendSignal(context.Background(), connect.NewRequest(&rpc.SendSignalRequest{Process: byPID(pid), Signal: rpc.Signal_SIGNAL_SIGKILL}))
	wantCode(t, err, connect.CodeNotFound, "it has ended")
}

func TestUnknownProcess(t *testing.T) {
	g := newGuest(t, nil)
	ctx := context.Background()
	_, err := g.process.SendSignal(ctx, connect.NewRequest(&rpc.SendSignalRequest{Process: byPID(1), Signal: rpc.Signal_SIGNAL_SIGKILL}))
	wantCode(t, err, connect.CodeNotFound, "process with pid 1 not found")
	_, err = g.process.CloseStdin(ctx, connect.NewRequest(&rpc.CloseStdinRequest{Process: byTag("x")}))
	wantCode(t, err, connect.CodeNotFound, "process with tag 'x' not found")
	_, err = g.process.Update(ctx, connect.NewRequest(&rpc.UpdateRequest{}))
	wantCode(t, err, connect.CodeInvalidArgument, "needs a pid or a tag")
}

func TestKeepalive(t *testing.T) {
	g := newGuest(t, nil)
	stream, pid := g.start(context.Background(), sh("sleep 1000"), "Keepalive-Ping-Interval", "1")
	began := time.Now()
	if !stream.Receive() || stream.Msg().GetEvent().GetKeepalive() == nil {
		t.Fatalf("got %v, %v", stream.Msg(), stream.Err())
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("came after %v", took)
	}
	g.kill(byPID(pid))
	if !stream.Receive() || stream.Msg().GetEvent().GetEnd().GetExitCode() != -1 || stream.Msg().GetEvent().GetEnd().GetStatus() != "signal: killed" {
		t.Errorf("got %v, %v", stream.Msg(), stream.Err())
	}
}

func TestTimeoutKillsEvenWhenTheClientHasGone(t *testing.T) {
	g := newGuest(t, nil)
	path := filepath.Join(t.TempDir(), "lock")
	request := sh("exec 9>" + path + "; flock 9; echo locked; sleep 1000")
	wantCode(t, g.failure(request, "Connect-Timeout-Ms", "300"), connect.CodeDeadlineExceeded, "")
	// The lock is free only once everything that held it is dead.
	if text, _ := g.run(sh("exec 9>" + path + "; flock 9; echo free")); text != "free\n" {
		t.Errorf("got %q", text)
	}
	ctx, leave := context.WithCancel(context.Background())
	began := time.Now()
	stream, _ := g.start(ctx, request, "Connect-Timeout-Ms", "500")
	stream.Receive()
	leave()
	if text, _ := g.run(sh("exec 9>" + path + "; flock 9; echo free")); text != "free\n" {
		t.Errorf("got %q", text)
	}
	if took := time.Since(began); took < 500*time.Millisecond || took > soon/2 {
		t.Errorf("killed after %v", took)
	}
}

func TestTerminalOverTheWire(t *testing.T) {
	g := newGuest(t, nil)
	request := sh(`stty -echo; echo ready; read -r _; stty size; exit 0`)
	request.Pty = &rpc.PTY{Size: &rpc.PTY_Size{Cols: 80, Rows: 24}}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	stream, pid := g.start(ctx, request)
	text := ""
	for !strings.Contains(text, "ready") && stream.Receive() {
		text += string(stream.Msg().GetEvent().GetData().GetPty())
	}
	size := &rpc.PTY{Size: &rpc.PTY_Size{Cols: 123, Rows: 45}}
	if _, err := g.process.Update(ctx, connect.NewRequest(&rpc.UpdateRequest{Process: byPID(pid), Pty: size})); err != nil {
		t.Fatal(err)
	}
	_, err := g.process.SendInput(ctx, connect.NewRequest(&rpc.SendInputRequest{Process: byPID(pid), Input: &rpc.ProcessInput{Input: &rpc.ProcessInput_Stdin{}}}))
	wantCode(t, err, connect.CodeFailedPrecondition, "as 'pty'")
	_, err = g.process.SendInput(ctx, connect.NewRequest(&rpc.SendInputRequest{Process: byPID(pid), Input: &rpc.ProcessInput{Input: &rpc.ProcessInput_Pty{Pty: []byte("\n")}}}))
	if err != nil {
		t.Fatal(err)
	}
	var end *rpc.ProcessEvent_EndEvent
	for stream.Receive() {
		text += string(stream.Msg().GetEvent().GetData().GetPty())
		end = stream.Msg().GetEvent().GetEnd()
	}
	if !strings.Contains(text, "45 123") || end == nil || end.GetExitCode() != 0 {
		t.Errorf("got %q, %v", text, end)
	}
}

func TestStreamInputKeepsItsOrder(t *testing.T) {
	g := newGuest(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	request := &rpc.StartRequest{Process: &rpc.ProcessConfig{Cmd: "cat"}}
	stream, pid := g.start(ctx, request)
	input := g.process.StreamInput(ctx)
	post := func(message *rpc.StreamInputRequest) {
		t.Helper()
		if err := input.Send(message); err != nil {
			t.Fatal(err)
		}
	}
	post(&rpc.StreamInputRequest{Event: &rpc.StreamInputRequest_Start{Start: &rpc.StreamInputRequest_StartEvent{Process: byPID(pid)}}})
	want := ""
	for i := range 200 {
		line := fmt.Sprintf("%d\n", i)
		want += line
		post(&rpc.StreamInputRequest{Event: &rpc.StreamInputRequest_Data{Data: &rpc.StreamInputRequest_DataEvent{
			Input: &rpc.ProcessInput{Input: &rpc.ProcessInput_Stdin{Stdin: []byte(line)}},
		}}})
	}
	post(&rpc.StreamInputRequest{Event: &rpc.StreamInputRequest_Keepalive{Keepalive: &rpc.StreamInputRequest_KeepAlive{}}})
	if _, err := input.CloseAndReceive(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.process.CloseStdin(ctx, connect.NewRequest(&rpc.CloseStdinRequest{Process: byPID(pid)})); err != nil {
		t.Fatal(err)
	}
	text := ""
	for stream.Receive() {
		text += string(stream.Msg().GetEvent().GetData().GetStdout())
	}
	if text != want {
		t.Errorf("got %d bytes, want %d", len(text), len(want))
	}
	orphan := g.process.StreamInput(ctx)
	// The refusal may overtake what is being sent; the answer tells.
	_ = orphan.Send(&rpc.StreamInputRequest{Event: &rpc.StreamInputRequest_Data{Data: &rpc.StreamInputRequest_DataEvent{}}})
	_, err := orphan.CloseAndReceive()
	wantCode(t, err, connect.CodeFailedPrecondition, "must be 'start'")
}

func TestAStuckClientHoldsUpNobody(t *testing.T) {
	g := newGuest(t, nil)
	// More than a socket holds for a client that does not read, and than the log keeps.
	const size = 16 << 20
	folder := t.TempDir()
	request := sh(fmt.Sprintf("read -r _; head -c %d /dev/urandom; echo; touch %s/done", size, folder))
	stuck, pid := g.start(context.Background(), request)
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	reading, err := g.process.Connect(ctx, connect.NewRequest(&rpc.ConnectRequest{Process: byPID(pid)}))
	if err != nil || !reading.Receive() {
		t.Fatal(err, reading.Err())
	}
	g.send(byPID(pid), "\n")
	received := uint64(0)
	for reading.Receive() {
		// Until the other's socket is full, that one may be the faster.
		data := reading.Msg().GetEvent().GetData()
		received += uint64(len(data.GetStdout())) + data.GetDroppedBytes()
	}
	if received != size+1 || reading.Err() != nil {
		t.Errorf("received %d of %d, %v", received, size+1, reading.Err())
	}
	if _, err := os.Stat(folder + "/done"); err != nil {
		t.Error(err)
	}
	kept, dropped := 0, uint64(0)
	for stuck.Receive() {
		data := stuck.Msg().GetEvent().GetData()
		if data.GetDroppedBytes() > 0 {
			dropped += data.GetDroppedBytes()
			if !strings.Contains(string(data.GetStderr()), fmt.Sprint(data.GetDroppedBytes(), " bytes of output were dropped")) {
				t.Errorf("the loss reads %q", data.GetStderr())
			}
		}
		kept += len(data.GetStdout())
	}
	if dropped == 0 || uint64(kept)+dropped != size+1 {
		t.Errorf("the stuck client got %d, was told of %d, of %d", kept, dropped, size+1)
	}
}
