// Package filesystem is the Filesystem service of the E2B protocol. The agent is root:
// the user of a call decides where relative paths lead and who owns what is made.
package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	rpc "torpor/guest/envd/gen/filesystem"
	"torpor/guest/envd/gen/filesystem/filesystemconnect"
	"torpor/guest/envd/internal/account"
	"torpor/guest/envd/internal/entry"
	"torpor/guest/envd/internal/settings"
)

// Service implements filesystem.Filesystem. Its watching calls answer `unimplemented`.
type Service struct {
	filesystemconnect.UnimplementedFilesystemHandler
	settings *settings.Settings
}

var _ filesystemconnect.FilesystemHandler = (*Service)(nil)

func New(settings *settings.Settings) *Service { return &Service{settings: settings} }

func (s *Service) Stat(ctx context.Context, req *connect.Request[rpc.StatRequest]) (*connect.Response[rpc.StatResponse], error) {
	_, path, err := s.resolve(ctx, req.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	info, err := describe(path)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&rpc.StatResponse{Entry: info}), nil
}

func (s *Service) MakeDir(ctx context.Context, req *connect.Request[rpc.MakeDirRequest]) (*connect.Response[rpc.MakeDirResponse], error) {
	user, path, err := s.resolve(ctx, req.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil {
		if info.IsDir() {
			return nil, connect.NewError(connect.CodeAlreadyExists, fmt.Errorf("directory '%s' already exists", path))
		}
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("path '%s' already exists but is not a directory", path))
	}
	if err := entry.MakeParents(path, int(user.UID), int(user.GID)); err != nil {
		return nil, coded(err, path)
	}
	info, err := describe(path)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&rpc.MakeDirResponse{Entry: info}), nil
}

func (s *Service) Move(ctx context.Context, req *connect.Request[rpc.MoveRequest]) (*connect.Response[rpc.MoveResponse], error) {
	user, source, err := s.resolve(ctx, req.Msg.GetSource())
	if err != nil {
		return nil, err
	}
	_, destination, err := s.resolve(ctx, req.Msg.GetDestination())
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(source); err != nil {
		return nil, coded(err, source)
	}
	if err := entry.MakeParents(filepath.Dir(destination), int(user.UID), int(user.GID)); err != nil {
		return nil, coded(err, destination)
	}
	if err := os.Rename(source, destination); err != nil {
		if errors.Is(err, unix.EXDEV) {
			return nil, connect.NewError(connect.CodeFailedPrecondition,
				fmt.Errorf("'%s' and '%s' are on different file systems: copy and remove instead", source, destination))
		}
		return nil, coded(err, destination)
	}
	info, err := describe(destination)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&rpc.MoveResponse{Entry: info}), nil
}

func (s *Service) Remove(ctx context.Context, req *connect.Request[rpc.RemoveRequest]) (*connect.Response[rpc.RemoveResponse], error) {
	_, path, err := s.resolve(ctx, req.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	if path == "/" {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("path '/' cannot be removed"))
	}
	if err := os.RemoveAll(path); err != nil {
		return nil, coded(err, path)
	}
	return connect.NewResponse(&rpc.RemoveResponse{}), nil
}

func (s *Service) resolve(ctx context.Context, path string) (*account.Account, string, error) {
	user, err := s.settings.Account(account.RequestedName(ctx))
	var unknown *account.UnknownUserError
	if errors.As(err, &unknown) {
		return nil, "", connect.NewError(connect.CodeUnauthenticated, err)
	}
	if err != nil {
		return nil, "", connect.NewError(connect.CodeInternal, err)
	}
	resolved, err := user.ResolvePath(path, s.settings.DefaultWorkdir())
	if err != nil {
		return nil, "", connect.NewError(connect.CodeInvalidArgument, err)
	}
	return user, resolved, nil
}

func describe(path string) (*rpc.EntryInfo, error) {
	info, err := entry.NewDescriber().Describe(path)
	if err != nil {
		return nil, coded(err, path)
	}
	return info, nil
}

func coded(err error, path string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return connect.NewError(connect.CodeNotFound, fmt.Errorf("path '%s' does not exist", path))
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ELOOP),
		errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EINVAL):
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("path '%s': %w", path, err))
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, fs.ErrExist):
		return connect.NewError(connect.CodeAlreadyExists, fmt.Errorf("path '%s': %w", path, err))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, unix.EBUSY):
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("path '%s': %w", path, err))
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("path '%s': %w", path, err))
	default:
		return connect.NewError(connect.CodeInternal, fmt.Errorf("path '%s': %w", path, err))
	}
}
