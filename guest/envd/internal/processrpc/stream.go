package processrpc

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"

	rpc "torpor/guest/envd/gen/process"
	"torpor/guest/envd/internal/account"
	"torpor/guest/envd/internal/process"
)

const defaultKeepalive = 90 * time.Second

func (s *Service) Start(ctx context.Context, req *connect.Request[rpc.StartRequest], stream *connect.ServerStream[rpc.StartResponse]) error {
	spec, err := s.spec(ctx, req.Msg)
	if err != nil {
		return err
	}
	entry, reader, err := s.table.Start(spec, req.Msg.GetTag(), req.Msg.GetProcess())
	if err != nil {
		return coded(err)
	}
	return follow(ctx, entry, reader, req.Header(), func(event *rpc.ProcessEvent) error {
		return stream.Send(&rpc.StartResponse{Event: event})
	})
}

func (s *Service) Connect(ctx context.Context, req *connect.Request[rpc.ConnectRequest], stream *connect.ServerStream[rpc.ConnectResponse]) error {
	entry, err := s.find(req.Msg.GetProcess())
	if err != nil {
		return err
	}
	return follow(ctx, entry, entry.Log.NewReader(), req.Header(), func(event *rpc.ProcessEvent) error {
		return stream.Send(&rpc.ConnectResponse{Event: event})
	})
}

func (s *Service) spec(ctx context.Context, request *rpc.StartRequest) (process.Spec, error) {
	user, err := s.settings.Account(account.RequestedName(ctx))
	if err != nil {
		return process.Spec{}, coded(err)
	}
	config := request.GetProcess()
	directory, err := user.ResolvePath(config.GetCwd(), s.settings.DefaultWorkdir())
	if err != nil {
		return process.Spec{}, connect.NewError(connect.CodeInvalidArgument, err)
	}
	spec := process.Spec{
		Command:   config.GetCmd(),
		Args:      config.GetArgs(),
		User:      user,
		Directory: directory,
		Env:       []map[string]string{s.settings.Env(), config.GetEnvs()},
		NoStdin:   request.Stdin != nil && !request.GetStdin(),
		Cgroup:    s.groups.User,
	}
	// Connect-Timeout-Ms ends the stream through ctx; this ends the process even when
	// the client has gone before.
	if deadline, ok := ctx.Deadline(); ok {
		spec.Deadline = deadline
	}
	if request.GetPty() != nil {
		size, err := terminalSize(request.GetPty().GetSize())
		if err != nil {
			return process.Spec{}, err
		}
		spec.Terminal, spec.Cgroup = &size, s.groups.PTY
	}
	return spec, nil
}

func terminalSize(size *rpc.PTY_Size) (process.Size, error) {
	if size.GetCols() > math.MaxUint16 || size.GetRows() > math.MaxUint16 {
		return process.Size{}, connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("terminal of %dx%d: at most %d each way", size.GetCols(), size.GetRows(), math.MaxUint16))
	}
	return process.Size{Cols: uint16(size.GetCols()), Rows: uint16(size.GetRows())}, nil
}

// follow sends events until the process has ended or the client is gone. The client
// going is no concern of the process.
func follow(ctx context.Context, entry *process.Entry, reader *process.Reader, headers http.Header, send func(*rpc.ProcessEvent) error) error {
	defer reader.Close()
	keepalive, err := keepaliveInterval(headers)
	if err != nil {
		return err
	}
	started := &rpc.ProcessEvent_StartEvent{Pid: uint32(entry.PID)}
	if err := send(&rpc.ProcessEvent{Event: &rpc.ProcessEvent_Start{Start: started}}); err != nil {
		return err
	}
	for {
		event, ok, err := reader.Next(ctx, keepalive)
		if err != nil {
			return coded(err)
		}
		message := &rpc.ProcessEvent{Event: &rpc.ProcessEvent_Keepalive{Keepalive: &rpc.ProcessEvent_KeepAlive{}}}
		if ok {
			message = translate(event, entry.HasTerminal())
		}
		if err := send(message); err != nil {
			return err
		}
		if event.Exit != nil {
			return nil
		}
	}
}

func keepaliveInterval(headers http.Header) (time.Duration, error) {
	text := headers.Get("Keepalive-Ping-Interval")
	if text == "" {
		return defaultKeepalive, nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 1 {
		return 0, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("Keepalive-Ping-Interval '%s': a whole number of seconds above 0 is needed", text))
	}
	return time.Duration(seconds) * time.Second, nil
}

func translate(event process.Event, terminal bool) *rpc.ProcessEvent {
	if exit := event.Exit; exit != nil {
		end := &rpc.ProcessEvent_EndEvent{ExitCode: int32(exit.Code), Exited: exit.Exited, Status: exit.Status}
		if exit.Error != "" {
			end.Error = &exit.Error
		}
		return &rpc.ProcessEvent{Event: &rpc.ProcessEvent_End{End: end}}
	}
	data := &rpc.ProcessEvent_DataEvent{DroppedBytes: event.Dropped}
	kind, content := event.Kind, event.Data
	if event.Dropped > 0 {
		kind = process.Stderr
		if terminal {
			kind = process.PTY
		}
		content = fmt.Appendf(nil, "\r\n[torpor: %d bytes of output were dropped here, more than can be kept for a reader that does not keep up]\r\n", event.Dropped)
	}
	switch kind {
	case process.Stdout:
		data.Output = &rpc.ProcessEvent_DataEvent_Stdout{Stdout: content}
	case process.Stderr:
		data.Output = &rpc.ProcessEvent_DataEvent_Stderr{Stderr: content}
	case process.PTY:
		data.Output = &rpc.ProcessEvent_DataEvent_Pty{Pty: content}
	}
	return &rpc.ProcessEvent{Event: &rpc.ProcessEvent_Data{Data: data}}
}
