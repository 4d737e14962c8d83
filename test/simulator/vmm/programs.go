package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	rpc "torpor/guest/envd/gen/process"
	"torpor/guest/envd/gen/process/processconnect"
	guestv1 "torpor/guest/envd/gen/torpor/guest/v1"
)

// programs is the Process service of a guest that has only the few programs of `execute`. All of them end by themselves, so
// there is never one to list, to signal or to feed.
type programs struct {
	processconnect.UnimplementedProcessHandler
	vm   *machine
	pids atomic.Uint32
}

type outcome struct {
	stdout, stderr string
	exitCode       int32
}

func (p *programs) Start(_ context.Context, request *connect.Request[rpc.StartRequest], stream *connect.ServerStream[rpc.StartResponse]) error {
	send := func(event *rpc.ProcessEvent) error { return stream.Send(&rpc.StartResponse{Event: event}) }
	started := &rpc.ProcessEvent_StartEvent{Pid: 1000 + p.pids.Add(1)}
	if err := send(&rpc.ProcessEvent{Event: &rpc.ProcessEvent_Start{Start: started}}); err != nil {
		return err
	}
	var result outcome
	_ = p.vm.whileAwake(func() error {
		result = p.execute(words(request.Msg.GetProcess()))
		return nil
	})
	for _, data := range []*rpc.ProcessEvent_DataEvent{
		{Output: &rpc.ProcessEvent_DataEvent_Stdout{Stdout: []byte(result.stdout)}},
		{Output: &rpc.ProcessEvent_DataEvent_Stderr{Stderr: []byte(result.stderr)}},
	} {
		if len(data.GetStdout())+len(data.GetStderr()) == 0 {
			continue
		}
		if err := send(&rpc.ProcessEvent{Event: &rpc.ProcessEvent_Data{Data: data}}); err != nil {
			return err
		}
	}
	end := &rpc.ProcessEvent_EndEvent{ExitCode: result.exitCode, Exited: true, Status: fmt.Sprintf("exit status %d", result.exitCode)}
	return send(&rpc.ProcessEvent{Event: &rpc.ProcessEvent_End{End: end}})
}

// words of a command, whether it is given to a shell or by itself.
func words(config *rpc.ProcessConfig) []string {
	args := config.GetArgs()
	if strings.HasSuffix(config.GetCmd(), "sh") && len(args) >= 2 && (args[0] == "-c" || args[0] == "-lc") {
		return strings.Fields(args[1])
	}
	return append([]string{config.GetCmd()}, args...)
}

func (p *programs) execute(words []string) outcome {
	if len(words) == 0 {
		return outcome{}
	}
	printed := func(value any) outcome { return outcome{stdout: fmt.Sprintln(value)} }
	ended := func(err error) outcome {
		if err != nil {
			return outcome{stderr: err.Error() + "\n", exitCode: 1}
		}
		return outcome{}
	}
	memory, disk := p.vm.memory, p.vm.disk
	switch name, args := words[0], words[1:]; {
	case name == "true" && len(args) == 0:
		return outcome{}
	case name == "nonce" && len(args) == 0:
		return printed(memory.nonce())
	case name == "count" && len(args) == 0:
		return printed(memory.countRequest())
	case name == "ticks" && len(args) == 0:
		return printed(memory.ticks())
	case name == "write-disk" && len(args) == 1:
		return ended(disk.writePattern(args[0]))
	case name == "check-disk" && len(args) == 1:
		return ended(disk.checkPattern(args[0]))
	case name == "poweroff" && len(args) == 0:
		p.vm.powerOff("poweroff")
	}
	return outcome{stderr: fmt.Sprintf("sh: 1: %s: not found\n", strings.Join(words, " ")), exitCode: 127}
}

func (p *programs) List(context.Context, *connect.Request[rpc.ListRequest]) (*connect.Response[rpc.ListResponse], error) {
	return connect.NewResponse(&rpc.ListResponse{}), nil
}

func (p *programs) SendSignal(context.Context, *connect.Request[rpc.SendSignalRequest]) (*connect.Response[rpc.SendSignalResponse], error) {
	return nil, errEnded()
}

func (p *programs) SendInput(context.Context, *connect.Request[rpc.SendInputRequest]) (*connect.Response[rpc.SendInputResponse], error) {
	return nil, errEnded()
}

func (p *programs) CloseStdin(context.Context, *connect.Request[rpc.CloseStdinRequest]) (*connect.Response[rpc.CloseStdinResponse], error) {
	return nil, errEnded()
}

func errEnded() error {
	return connect.NewError(connect.CodeNotFound, errors.New("process not found: it has ended"))
}

// snapshots is the Guest service.
type snapshots struct{ vm *machine }

func (s *snapshots) Quiesce(context.Context, *connect.Request[guestv1.QuiesceRequest]) (*connect.Response[guestv1.QuiesceResponse], error) {
	began := time.Now()
	err := s.vm.whileAwake(func() error {
		if err := s.vm.disk.sync(); err != nil {
			return err
		}
		return s.vm.memory.update(func(h *heap) { h.Quiesced = true })
	})
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, fmt.Errorf("quiesce: data is not safely on disk: %w", err))
	}
	step := &guestv1.QuiesceStep{Name: "sync", DurationMs: float64(time.Since(began).Microseconds()) / 1000}
	return connect.NewResponse(&guestv1.QuiesceResponse{Steps: []*guestv1.QuiesceStep{step}}), nil
}

func (s *snapshots) Unquiesce(context.Context, *connect.Request[guestv1.UnquiesceRequest]) (*connect.Response[guestv1.UnquiesceResponse], error) {
	was := false
	err := s.vm.whileAwake(func() error {
		return s.vm.memory.update(func(h *heap) { was, h.Quiesced = h.Quiesced, false })
	})
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	return connect.NewResponse(&guestv1.UnquiesceResponse{WasQuiesced: was}), nil
}
