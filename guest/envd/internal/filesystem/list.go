package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"connectrpc.com/connect"

	rpc "torpor/guest/envd/gen/filesystem"
	"torpor/guest/envd/internal/entry"
)

// ListDir is in lexical order, a directory before what is in it. A symbolic link is
// listed but not entered, except when it is the path asked for.
func (s *Service) ListDir(ctx context.Context, req *connect.Request[rpc.ListDirRequest]) (*connect.Response[rpc.ListDirResponse], error) {
	_, path, err := s.resolve(ctx, req.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, coded(err, path)
	}
	if !info.IsDir() {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("path '%s' is not a directory", path))
	}
	walk := &listing{ctx: ctx, describer: entry.NewDescriber()}
	if err := walk.directory(path, int(max(req.Msg.GetDepth(), 1))); err != nil {
		return nil, err
	}
	return connect.NewResponse(&rpc.ListDirResponse{Entries: walk.entries}), nil
}

type listing struct {
	ctx       context.Context
	describer *entry.Describer
	entries   []*rpc.EntryInfo
}

func (l *listing) directory(path string, depth int) error {
	children, err := os.ReadDir(path)
	if err != nil {
		return coded(err, path)
	}
	for _, child := range children {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		childPath := filepath.Join(path, child.Name())
		info, err := l.describer.Describe(childPath)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was read
		}
		if err != nil {
			return coded(err, childPath)
		}
		l.entries = append(l.entries, info)
		if !child.IsDir() || depth == 1 {
			continue
		}
		if err := l.directory(childPath, depth-1); err != nil && connect.CodeOf(err) != connect.CodeNotFound {
			return err
		}
	}
	return nil
}
