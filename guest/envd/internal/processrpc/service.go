// Package processrpc is the Process service of the E2B protocol over package process.
package processrpc

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	rpc "torpor/guest/envd/gen/process"
	"torpor/guest/envd/gen/process/processconnect"
	"torpor/guest/envd/internal/account"
	"torpor/guest/envd/internal/cgroup"
	"torpor/guest/envd/internal/process"
	"torpor/guest/envd/internal/settings"
)

// Service implements process.Process.
type Service struct {
	settings *settings.Settings
	table    *process.Table
	groups   cgroup.Groups
}

var _ processconnect.ProcessHandler = (*Service)(nil)

func New(settings *settings.Settings, table *process.Table, groups cgroup.Groups) *Service {
	return &Service{settings: settings, table: table, groups: groups}
}

func (s *Service) List(context.Context, *connect.Request[rpc.ListRequest]) (*connect.Response[rpc.ListResponse], error) {
	answer := &rpc.ListResponse{}
	for _, entry := range s.table.Running() {
		config, ok := entry.Described.(*rpc.ProcessConfig)
		if !ok {
			return nil, connect.NewError(connect.CodeInternal, fmt.Errorf("process %d has no config", entry.PID))
		}
		info := &rpc.ProcessInfo{Config: config, Pid: uint32(entry.PID)}
		if entry.Tag != "" {
			info.Tag = &entry.Tag
		}
		answer.Processes = append(answer.Processes, info)
	}
	return connect.NewResponse(answer), nil
}

func (s *Service) Update(_ context.Context, req *connect.Request[rpc.UpdateRequest]) (*connect.Response[rpc.UpdateResponse], error) {
	entry, err := s.running(req.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	if size := req.Msg.GetPty().GetSize(); size != nil {
		wanted, err := terminalSize(size)
		if err != nil {
			return nil, err
		}
		if err := entry.Resize(wanted); err != nil {
			return nil, coded(err)
		}
	}
	return connect.NewResponse(&rpc.UpdateResponse{}), nil
}

func (s *Service) SendSignal(_ context.Context, req *connect.Request[rpc.SendSignalRequest]) (*connect.Response[rpc.SendSignalResponse], error) {
	entry, err := s.running(req.Msg.GetProcess())
	if err != nil {
		return nil, err
	}
	var signal unix.Signal
	switch req.Msg.GetSignal() {
	case rpc.Signal_SIGNAL_SIGKILL:
		signal = unix.SIGKILL
	case rpc.Signal_SIGNAL_SIGTERM:
		signal = unix.SIGTERM
	default:
		return nil, connect.NewError(connect.CodeUnimplemented, fmt.Errorf("signal %s: only SIGTERM and SIGKILL can be sent", req.Msg.GetSignal()))
	}
	if err := entry.Signal(signal, req.Msg.GetLeaderOnly()); err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(&rpc.SendSignalResponse{}), nil
}

// find selects ended processes as well, while they are remembered.
func (s *Service) find(selector *rpc.ProcessSelector) (*process.Entry, error) {
	switch by := selector.GetSelector().(type) {
	case *rpc.ProcessSelector_Pid:
		if entry, found := s.table.ByPID(int(by.Pid)); found {
			return entry, nil
		}
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("process with pid %d not found", by.Pid))
	case *rpc.ProcessSelector_Tag:
		if entry, found := s.table.ByTag(by.Tag); found {
			return entry, nil
		}
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("process with tag '%s' not found", by.Tag))
	default:
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("process selector needs a pid or a tag"))
	}
}

func (s *Service) running(selector *rpc.ProcessSelector) (*process.Entry, error) {
	entry, err := s.find(selector)
	if err != nil {
		return nil, err
	}
	if !entry.Running() {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("process with pid %d not found: it has ended", entry.PID))
	}
	return entry, nil
}

// coded gives a failure its Connect code.
func coded(err error) error {
	var invalid *process.InvalidError
	var precondition *process.PreconditionError
	var unknown *account.UnknownUserError
	switch {
	case errors.As(err, &invalid):
		return connect.NewError(connect.CodeInvalidArgument, err)
	case errors.As(err, &precondition):
		return connect.NewError(connect.CodeFailedPrecondition, err)
	case errors.As(err, &unknown):
		return connect.NewError(connect.CodeUnauthenticated, err)
	case errors.Is(err, process.ErrEnded):
		return connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	default:
		return connect.NewError(connect.CodeInternal, err)
	}
}
