package process

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torpor/guest/envd/internal/account"
)

func me(t *testing.T) *account.Account {
	t.Helper()
	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	found, err := account.Lookup(current.Username)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func shell(t *testing.T, script string) Spec {
	return Spec{Command: "/bin/sh", Args: []string{"-c", script}, User: me(t), Directory: t.TempDir()}
}

func start(t *testing.T, spec Spec) (*Process, *Reader) {
	t.Helper()
	started, reader, err := Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := started.Signal(unix.SIGKILL, false); err != nil && !errors.Is(err, ErrEnded) {
			t.Error(err)
		}
		reader.Close()
		<-started.Done()
	})
	return started, reader
}

func output(t *testing.T, spec Spec) (string, *Exit) {
	t.Helper()
	_, reader := start(t, spec)
	text, _, exit := readAll(t, reader)
	return string(text), exit
}

// line waits for one whole line.
func line(t *testing.T, reader *Reader) string {
	t.Helper()
	text := ""
	for !strings.HasSuffix(text, "\n") {
		text += string(next(t, reader).Data)
	}
	return strings.TrimSpace(text)
}

// gone waits until a process of another's making has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(soon.Milliseconds()))
	if err != nil || ready == 0 {
		t.Fatalf("process %d is still there (%v)", pid, err)
	}
}

func alive(pid int) bool { return unix.Kill(pid, 0) == nil }

func TestExits(t *testing.T) {
	cases := []struct {
		script string
		want   Exit
	}{
		{"exit 0", Exit{Code: 0, Exited: true, Status: "exit status 0"}},
		{"exit 3", Exit{Code: 3, Exited: true, Status: "exit status 3", Error: "exit status 3"}},
		{"kill -9 $$", Exit{Code: -1, Status: "signal: killed", Error: "signal: killed"}},
	}
	for _, c := range cases {
		if _, got := output(t, shell(t, c.script)); *got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.script, *got, c.want)
		}
	}
}

func TestAllOutputComesBeforeTheEnd(t *testing.T) {
	const size = 3_000_000
	text, _ := output(t, shell(t, fmt.Sprintf("head -c %d /dev/zero; printf end", size)))
	if len(text) != size+3 || !strings.HasSuffix(text, "end") {
		t.Errorf("got %d bytes", len(text))
	}
}

func TestEnvironmentDirectoryAndScore(t *testing.T) {
	spec := shell(t, `echo "$A $B $C $HOME $USER $LOGNAME $(pwd) $(cat /proc/self/oom_score_adj) $(umask)"; echo again > /dev/stdout`)
	spec.Env = []map[string]string{{"A": "default", "B": "default"}, {"B": "request", "C": "request", "USER": "other"}}
	text, _ := output(t, spec)
	want := fmt.Sprintf("default request request %s other %s %s 100 ", spec.User.Home, spec.User.Name, spec.Directory)
	if !strings.HasPrefix(text, want) || !strings.HasSuffix(text, "again\n") {
		t.Errorf("got %q, want %q", text, want)
	}
}

func TestAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root, as the agent does")
	}
	nobody, err := account.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Groups = []uint32{nobody.GID, 4242}
	spec := shell(t, `id -u; id -G; echo x > /dev/stderr`)
	spec.User, spec.Directory = nobody, "/"
	_, reader := start(t, spec)
	// Each by itself: between two streams there is no order.
	text := map[Kind]string{}
	event := next(t, reader)
	for ; event.Exit == nil; event = next(t, reader) {
		text[event.Kind] += string(event.Data)
	}
	want := map[Kind]string{Stdout: fmt.Sprintf("%d\n%d 4242\n", nobody.UID, nobody.GID), Stderr: "x\n"}
	if !maps.Equal(text, want) || event.Exit.Code != 0 {
		t.Errorf("got %v, %+v; want %v", text, event.Exit, want)
	}
}

func TestWhatCannotBeStarted(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, want string
		change     func(*Spec)
	}{
		{"missing directory", "cwd '/nowhere/at/all' does not exist", func(s *Spec) { s.Directory = "/nowhere/at/all" }},
		{"file as directory", "is not a directory", func(s *Spec) { s.Directory = file }},
		{"no command", "no command given", func(s *Spec) { s.Command = "" }},
		{"unknown command", "error starting process 'no-such-program': not found in PATH", func(s *Spec) { s.Command = "no-such-program" }},
		{"not executable", "permission denied", func(s *Spec) { s.Command = file }},
		{"bad variable", "environment variable", func(s *Spec) { s.Env = []map[string]string{{"A=B": "c"}} }},
	}
	for _, c := range cases {
		spec := shell(t, "true")
		c.change(&spec)
		_, _, err := Start(spec)
		var invalid *InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestFailedStartsLeaveNoFileOpen(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	attempt := func(terminal *Size) {
		spec := shell(t, "true")
		spec.Command, spec.Terminal = "no-such-program", terminal
		if _, _, err := Start(spec); err == nil {
			t.Fatal("started")
		}
	}
	attempt(nil)
	before := count()
	for range 20 {
		attempt(nil)
		attempt(&Size{80, 24})
	}
	if after := count(); after > before {
		t.Errorf("%d files open before, %d after", before, after)
	}
}

func TestPathOfTheRequestIsSearched(t *testing.T) {
	spec := Spec{Command: "tool", User: me(t), Directory: t.TempDir()}
	if err := os.WriteFile(filepath.Join(spec.Directory, "tool"), []byte("#!/bin/sh\necho found\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	spec.Env = []map[string]string{{"PATH": spec.Directory + ":/usr/bin:/bin"}}
	if text, _ := output(t, spec); text != "found\n" {
		t.Errorf("got %q", text)
	}
}

func TestStdin(t *testing.T) {
	process, reader := start(t, Spec{Command: "cat", User: me(t), Directory: "/"})
	for _, text := range []string{"one\n", "two\n"} {
		if err := process.WriteStdin(context.Background(), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := process.CloseStdin(); err != nil {
			t.Fatal(err)
		}
	}
	text, _, exit := readAll(t, reader)
	if string(text) != "one\ntwo\n" || exit.Code != 0 {
		t.Errorf("got %q, %+v", text, exit)
	}
	var precondition *PreconditionError
	if err := process.WriteStdin(context.Background(), []byte("x")); !errors.As(err, &precondition) {
		t.Errorf("writing after the end: %v", err)
	}
	if err := process.WriteTerminal(context.Background(), []byte("x")); !errors.As(err, &precondition) {
		t.Errorf("no terminal: %v", err)
	}
	spec := shell(t, "cat; echo end")
	spec.NoStdin = true
	if text, _ := output(t, spec); text != "end\n" {
		t.Errorf("/dev/null: got %q", text)
	}
}

func TestInputThatNobodyReadsCanBeGivenUp(t *testing.T) {
	process, reader := start(t, shell(t, "echo up; exec sleep 1000"))
	line(t, reader)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := process.WriteStdin(ctx, make([]byte, 1<<20)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestTerminal(t *testing.T) {
	spec := shell(t, `test -t 0 && test -t 1 && test -t 2 && stty size; : < /dev/tty && echo controlled; read -r answer; stty size; echo "got $answer"`)
	spec.Terminal = &Size{Cols: 80, Rows: 24}
	process, reader := start(t, spec)
	text := ""
	for !strings.Contains(text, "controlled") {
		event := next(t, reader)
		if event.Kind != PTY {
			t.Fatalf("kind %v", event.Kind)
		}
		text += string(event.Data)
	}
	if !strings.HasPrefix(text, "24 80\r\n") {
		t.Errorf("got %q", text)
	}
	if err := process.Resize(Size{Cols: 100, Rows: 30}); err != nil {
		t.Fatal(err)
	}
	if err := process.WriteTerminal(context.Background(), []byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	rest, _, exit := readAll(t, reader)
	if !strings.Contains(string(rest), "30 100") || !strings.HasSuffix(string(rest), "got hello\r\n") || exit.Code != 0 {
		t.Errorf("got %q, %+v", rest, exit)
	}
	var precondition *PreconditionError
	if err := process.WriteStdin(context.Background(), nil); !errors.As(err, &precondition) {
		t.Errorf("stdin of a terminal: %v", err)
	}
	if err := process.CloseStdin(); !errors.As(err, &precondition) {
		t.Errorf("closing stdin of a terminal: %v", err)
	}
}

func TestTerminalGivesAllItsOutput(t *testing.T) {
	for range 20 {
		spec := shell(t, "seq 1 2000; printf last")
		spec.Terminal = &Size{Cols: 80, Rows: 24}
		if text, _ := output(t, spec); !strings.HasSuffix(text, "2000\r\nlast") || strings.Count(text, "\n") != 2000 {
			t.Fatalf("got %d lines, end %q", strings.Count(text, "\n"), text[max(0, len(text)-20):])
		}
	}
}

func TestSignalsReachTheWholeSession(t *testing.T) {
	// With job control (-m) the background job has a process group of its own.
	for _, script := range []string{
		`sleep 1000 & echo $!; wait`,
		`set -m; sleep 1000 & echo $!; wait`,
	} {
		for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
			process, reader := start(t, Spec{Command: "/bin/bash", Args: []string{"-c", script}, User: me(t), Directory: "/"})
			child, err := strconv.Atoi(line(t, reader))
			if err != nil {
				t.Fatal(err)
			}
			if err := process.Signal(signal, false); err != nil {
				t.Fatal(err)
			}
			if _, _, exit := readAll(t, reader); exit.Code != -1 {
				t.Errorf("%s: %+v", script, exit)
			}
			gone(t, child)
			if err := process.Signal(signal, false); !errors.Is(err, ErrEnded) {
				t.Errorf("signal after the end: %v", err)
			}
		}
	}
}

func TestLeaderOnlySparesChildrenAndTheirOutputDoesNotKillThem(t *testing.T) {
	folder := t.TempDir()
	spec := shell(t, `(while ! test -e go; do read -r -t 0.01 _ < /dev/zero; echo x; done; echo x; echo survived > result; read -r _ < fifo) & echo $!; wait`)
	spec.Command, spec.Directory = "/bin/bash", folder
	if err := unix.Mkfifo(filepath.Join(folder, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	process, reader := start(t, spec)
	text := ""
	for !strings.Contains(text, "\n") {
		text += string(next(t, reader).Data)
	}
	child, err := strconv.Atoi(strings.Fields(strings.ReplaceAll(text, "x\n", " "))[0])
	if err != nil {
		t.Fatal(err)
	}
	defer gone(t, child)
	defer unix.Kill(child, unix.SIGKILL)
	if err := process.Signal(unix.SIGKILL, true); err != nil {
		t.Fatal(err)
	}
	if _, _, exit := readAll(t, reader); exit.Code != -1 {
		t.Errorf("exit %+v", exit)
	}
	if !alive(child) {
		t.Fatal("the child is gone")
	}
	if err := os.WriteFile(filepath.Join(folder, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Opening the pipe waits for the child to get there, past its writes.
	there := make(chan error, 1)
	go func() {
		_, err := os.OpenFile(filepath.Join(folder, "fifo"), os.O_WRONLY, 0)
		there <- err
	}()
	select {
	case err := <-there:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(soon):
		t.Fatal("the child never got past its output")
	}
	if got, err := os.ReadFile(filepath.Join(folder, "result")); err != nil || string(got) != "survived\n" {
		t.Errorf("child wrote %q, %v", got, err)
	}
}

func TestTheEndDoesNotWaitForChildrenThatHoldTheOutput(t *testing.T) {
	process, reader := start(t, shell(t, `sleep 1000 & echo $!`))
	text, _, exit := readAll(t, reader)
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || exit.Code != 0 {
		t.Fatalf("got %q, %+v", text, exit)
	}
	<-process.Done()
	if !alive(child) {
		t.Error("the child was killed")
	}
	if err := unix.Kill(child, unix.SIGKILL); err != nil {
		t.Error(err)
	}
}

func TestDeadlineKillsTheSession(t *testing.T) {
	spec := shell(t, `sleep 1000 & echo $!; wait`)
	spec.Deadline = time.Now().Add(300 * time.Millisecond)
	began := time.Now()
	_, reader := start(t, spec)
	child, err := strconv.Atoi(line(t, reader))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, exit := readAll(t, reader); exit.Code != -1 || exit.Status != "signal: killed" {
		t.Errorf("exit %+v", exit)
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("ended after %v", took)
	}
	gone(t, child)
}

func TestTable(t *testing.T) {
	table := NewTable(time.Hour)
	first, firstReader, err := table.Start(shell(t, "read -r _"), "tag", "first")
	if err != nil {
		t.Fatal(err)
	}
	second, secondReader, err := table.Start(shell(t, "exit 5"), "tag", "second")
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, secondReader)
	<-second.Done()
	if running := table.Running(); len(running) != 1 || running[0].Described != "first" {
		t.Errorf("running: %v", running)
	}
	if found, ok := table.ByTag("tag"); !ok || found != first {
		t.Error("a running process yields to an ended one of the same tag")
	}
	if _, ok := table.ByTag(""); ok {
		t.Error("no tag is not a tag")
	}
	late, ok := table.ByPID(second.PID)
	if !ok {
		t.Fatal("the ended process is forgotten")
	}
	if _, _, exit := readAll(t, late.Log.NewReader()); exit.Code != 5 {
		t.Errorf("late exit %+v", exit)
	}
	if err := first.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	readAll(t, firstReader)
}

func TestTableForgetsAfterTheRetention(t *testing.T) {
	table := NewTable(0)
	entry, reader, err := table.Start(shell(t, "true"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, reader)
	deadline := time.Now().Add(soon)
	for time.Now().Before(deadline) {
		if _, found := table.ByPID(entry.PID); !found {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("still remembered")
}

func TestParseStat(t *testing.T) {
	state, group, session, ok := parseStat([]byte("12 (a) b (c)) S 1 34 56 0 -1"))
	if !ok || state != 'S' || group != 34 || session != 56 {
		t.Errorf("got %c %d %d %v", state, group, session, ok)
	}
	for _, bad := range []string{"", "12 a", "12 (a) S 1", "12 (a) S 1 x y"} {
		if _, _, _, ok := parseStat([]byte(bad)); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	results := make(chan string)
	const count = 30
	for i := range count {
		go func() {
			_, reader, err := Start(Spec{Command: "echo", Args: []string{strconv.Itoa(i)}, User: &account.Account{Home: "/"}, Directory: "/"})
			if err != nil {
				results <- err.Error()
				return
			}
			text := ""
			for {
				event, ok, err := reader.Next(context.Background(), soon)
				if err != nil || !ok || event.Exit != nil {
					break
				}
				text += string(event.Data)
			}
			results <- strings.TrimSpace(text)
		}()
	}
	var got []int
	for range count {
		text := <-results
		number, err := strconv.Atoi(text)
		if err != nil {
			t.Errorf("got %q", text)
		}
		got = append(got, number)
	}
	slices.Sort(got)
	for i, number := range got {
		if i != number {
			t.Fatalf("got %v", got)
		}
	}
}
