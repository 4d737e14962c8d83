package processrpc

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	rpc "torpor/guest/envd/gen/process"
	"torpor/guest/envd/internal/process"
)

func (s *Service) SendInput(ctx context.Context, req *connect.Request[rpc.SendInputRequest]) (*connect.Response[rpc.SendInputResponse], error) {
	entry, err := s.running(req.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	if err := input(ctx, entry, req.Msg.GetInput()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&rpc.SendInputResponse{}), nil
}

func (s *Service) StreamInput(ctx context.Context, stream *connect.ClientStream[rpc.StreamInputRequest]) (*connect.Response[rpc.StreamInputResponse], error) {
	var entry *process.Entry
	for stream.Receive() {
		switch event := stream.Msg().GetEvent().(type) {
		case *rpc.StreamInputRequest_Start:
			found, err := s.running(event.Start.GetProcess())
			if err != nil {
				return nil, err
			}
			entry = found
		case *rpc.StreamInputRequest_Data:
			if entry == nil {
				return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("the first message of an input stream must be 'start'"))
			}
			if err := input(ctx, entry, event.Data.GetInput()); err != nil {
				return nil, err
			}
		case *rpc.StreamInputRequest_Keepalive:
		default:
			return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("input stream message without an event"))
		}
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return connect.NewResponse(&rpc.StreamInputResponse{}), nil
}

func (s *Service) CloseStdin(_ context.Context, req *connect.Request[rpc.CloseStdinRequest]) (*connect.Response[rpc.CloseStdinResponse], error) {
	entry, err := s.running(req.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	if err := entry.CloseStdin(); err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&rpc.CloseStdinResponse{}), nil
}

func input(ctx context.Context, entry *process.Entry, given *rpc.ProcessInput) error {
	var err error
	switch data := given.GetInput().(type) {
	case *rpc.ProcessInput_Stdin:
		err = entry.WriteStdin(ctx, data.Stdin)
	case *rpc.ProcessInput_Pty:
		err = entry.WriteTerminal(ctx, data.Pty)
	default:
		return connect.NewError(connect.CodeInvalidArgument, errors.New("input needs 'stdin' or 'pty'"))
	}
	if err != nil {
		return coded(err)
	}
	return nil
}
