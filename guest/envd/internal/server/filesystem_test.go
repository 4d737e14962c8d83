package server

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	rpc "torpor/guest/envd/gen/filesystem"
)

func TestStat(t *testing.T) {
	g := newGuest(t, nil)
	folder := t.TempDir()
	file := folder + "/file"
	if err := os.WriteFile(file, []byte("12345"), 0o640); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"link": "file", "dirlink": folder, "broken": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(folder+"/sticky", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder+"/sticky", 0o1777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	entry := g.stat(file)
	if entry.GetName() != "file" || entry.GetPath() != file || entry.GetSize() != 5 || entry.GetMode() != 0o640 || entry.GetOwner() != "root" || entry.GetGroup() != "root" || entry.SymlinkTarget != nil || entry.GetModifiedTime().AsTime().IsZero() {
		t.Errorf("got %v", entry)
	}
	cases := []struct {
		path, permissions, target string
		kind                      rpc.FileType
	}{
		{file, "-rw-r-----", "", rpc.FileType_FILE_TYPE_FILE},
		{folder, "drwxr-xr-x", "", rpc.FileType_FILE_TYPE_DIRECTORY},
		{folder + "/sticky", "drwxrwxrwt", "", rpc.FileType_FILE_TYPE_DIRECTORY},
		{folder + "/link", "lrwxrwxrwx", file, rpc.FileType_FILE_TYPE_FILE},
		{folder + "/dirlink", "lrwxrwxrwx", folder, rpc.FileType_FILE_TYPE_DIRECTORY},
		{folder + "/broken", "lrwxrwxrwx", folder + "/nowhere", rpc.FileType_FILE_TYPE_SYMLINK},
		{"/dev/null", "crw-rw-rw-", "", rpc.FileType_FILE_TYPE_UNSPECIFIED},
	}
	for _, c := range cases {
		got := g.stat(c.path)
		if got.GetPermissions() != c.permissions || got.GetSymlinkTarget() != c.target || got.GetType() != c.kind {
			t.Errorf("%s: got %v", c.path, got)
		}
	}
	_, err := g.files.Stat(context.Background(), connect.NewRequest(&rpc.StatRequest{Path: folder + "/no"}))
	wantCode(t, err, connect.CodeNotFound, "does not exist")
	_, err = g.files.Stat(context.Background(), connect.NewRequest(&rpc.StatRequest{Path: file + "/below"}))
	wantCode(t, err, connect.CodeInvalidArgument, "not a directory")
}

func TestMakeDirMoveRemove(t *testing.T) {
	g := newGuest(t, nil)
	ctx := context.Background()
	folder := t.TempDir()
	deep := folder + "/a/b"
	made, err := g.files.MakeDir(ctx, connect.NewRequest(&rpc.MakeDirRequest{Path: deep}))
	if err != nil || made.Msg.GetEntry().GetPath() != deep || made.Msg.GetEntry().GetType() != rpc.FileType_FILE_TYPE_DIRECTORY {
		t.Fatalf("got %v, %v", made, err)
	}
	_, err = g.files.MakeDir(ctx, connect.NewRequest(&rpc.MakeDirRequest{Path: deep}))
	wantCode(t, err, connect.CodeAlreadyExists, "already exists")

	if err := os.WriteFile(deep+"/f", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = g.files.MakeDir(ctx, connect.NewRequest(&rpc.MakeDirRequest{Path: deep + "/f"}))
	wantCode(t, err, connect.CodeInvalidArgument, "not a directory")
	_, err = g.files.MakeDir(ctx, connect.NewRequest(&rpc.MakeDirRequest{Path: deep + "/f/g"}))
	wantCode(t, err, connect.CodeInvalidArgument, "not a directory")

	moved, err := g.files.Move(ctx, connect.NewRequest(&rpc.MoveRequest{Source: deep + "/f", Destination: folder + "/c/g"}))
	if err != nil || moved.Msg.GetEntry().GetName() != "g" {
		t.Fatalf("got %v, %v", moved, err)
	}
	_, err = g.files.Move(ctx, connect.NewRequest(&rpc.MoveRequest{Source: deep + "/f", Destination: folder + "/h"}))
	wantCode(t, err, connect.CodeNotFound, "does not exist")

	for range 2 { // the second has nothing to remove
		if _, err := g.files.Remove(ctx, connect.NewRequest(&rpc.RemoveRequest{Path: folder + "/a"})); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(folder + "/a"); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	_, err = g.files.Remove(ctx, connect.NewRequest(&rpc.RemoveRequest{Path: "/a/.."}))
	wantCode(t, err, connect.CodeInvalidArgument, "cannot be removed")
}

func TestListDir(t *testing.T) {
	g := newGuest(t, nil)
	folder := t.TempDir()
	for _, path := range []string{"b/deep/deeper", "a"} {
		if err := os.MkdirAll(filepath.Join(folder, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(folder+"/b/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("b", folder+"/link"); err != nil {
		t.Fatal(err)
	}
	list := func(path string, depth uint32) (string, error) {
		answer, err := g.files.ListDir(context.Background(), connect.NewRequest(&rpc.ListDirRequest{Path: path, Depth: depth}))
		if err != nil {
			return "", err
		}
		names := []string{}
		for _, entry := range answer.Msg.GetEntries() {
			names = append(names, strings.TrimPrefix(entry.GetPath(), folder+"/"))
		}
		return strings.Join(names, " "), nil
	}
	cases := []struct {
		path  string
		depth uint32
		want  string
	}{
		{folder, 0, "a b link"},
		{folder, 1, "a b link"},
		{folder, 2, "a b b/deep b/file link"},
		{folder, 9, "a b b/deep b/deep/deeper b/file link"},
		{folder + "/a", 1, ""},
		{folder + "/link", 1, "link/deep link/file"},
	}
	for _, c := range cases {
		if got, err := list(c.path, c.depth); got != c.want || err != nil {
			t.Errorf("%s to %d: got %q, %v; want %q", c.path, c.depth, got, err, c.want)
		}
	}
	_, err := list(folder+"/no", 1)
	wantCode(t, err, connect.CodeNotFound, "does not exist")
	_, err = list(folder+"/b/file", 1)
	wantCode(t, err, connect.CodeInvalidArgument, "is not a directory")
}

func TestWatchingIsNotImplementedYet(t *testing.T) {
	g := newGuest(t, nil)
	_, err := g.files.CreateWatcher(context.Background(), connect.NewRequest(&rpc.CreateWatcherRequest{Path: "/"}))
	wantCode(t, err, connect.CodeUnimplemented, "not implemented")
	stream, err := g.files.WatchDir(context.Background(), connect.NewRequest(&rpc.WatchDirRequest{Path: "/"}))
	if err == nil {
		defer stream.Close()
		stream.Receive()
		err = stream.Err()
	}
	wantCode(t, err, connect.CodeUnimplemented, "not implemented")
}
