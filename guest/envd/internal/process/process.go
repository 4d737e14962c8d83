// Package process runs programs for callers: their output, input, signals and end.
package process

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"torpor/guest/envd/internal/account"
)

// Spec is what to run and as whom.
type Spec struct {
	Command   string
	Args      []string
	User      *account.Account
	Directory string
	// Env layers, the later winning, over the account's own variables.
	Env []map[string]string
	// Terminal gives the program one of this size; nil means pipes.
	Terminal *Size
	// NoStdin means /dev/null. Ignored with a terminal.
	NoStdin bool
	// Deadline kills the whole session. Zero means never.
	Deadline time.Time
	// Cgroup is an open cgroup v2 directory to start in; nil means the agent's own.
	Cgroup *os.File
}

// Exit is how a process ended.
type Exit struct {
	Code   int // -1 after a signal
	Exited bool
	Status string
	Error  string // "" after success
}

// ErrEnded is returned for a process that is no longer there.
var ErrEnded = errors.New("process has ended")

// Process is a program that was started. Safe for concurrent use.
type Process struct {
	PID int
	Log *Log

	system   *os.Process
	outputs  map[Kind]*os.File
	terminal *os.File // also the only output
	killer   *time.Timer

	// Held while signalling: the pid must not be reaped, and given to another, meanwhile.
	mu    sync.Mutex
	ended bool

	stdin *os.File // nil when not asked for
	// Held while writing, so that inputs do not mix.
	inputMu     sync.Mutex
	stdinClosed bool

	done chan struct{}
}

// Start returns once the program has been executed. The reader is in place before
// the first byte of output.
func Start(spec Spec) (*Process, *Reader, error) {
	p := &Process{Log: NewLog(), outputs: map[Kind]*os.File{}, done: make(chan struct{})}
	theirs, err := p.connect(spec)
	defer closeAll(theirs...)
	if err == nil {
		p.system, err = execute(spec, theirs)
	}
	if err != nil {
		p.closeOurs()
		return nil, nil, err
	}
	p.PID = p.system.Pid
	reader := p.Log.NewReader()
	if !spec.Deadline.IsZero() {
		p.killer = time.AfterFunc(time.Until(spec.Deadline), func() {
			if err := p.Signal(unix.SIGKILL, false); err != nil && !errors.Is(err, ErrEnded) {
				slog.Error("process outlives its deadline", "pid", p.PID, "error", err)
			}
		})
	}
	go p.supervise()
	return p, reader, nil
}

// connect opens both ends of input and output, and returns the program's.
func (p *Process) connect(spec Spec) (theirs []*os.File, err error) {
	if spec.Terminal != nil {
		master, slave, err := openTerminal(*spec.Terminal, int(spec.User.UID))
		if err != nil {
			return nil, err
		}
		p.terminal, p.outputs[PTY] = master, master
		return []*os.File{slave}, nil
	}
	stdin, err := p.connectStdin(spec)
	if err != nil {
		return nil, err
	}
	theirs = append(theirs, stdin)
	for _, kind := range []Kind{Stdout, Stderr} {
		ours, child, err := os.Pipe()
		if err != nil {
			return theirs, err
		}
		p.outputs[kind] = ours
		theirs = append(theirs, child)
		if err := giveTo(child, spec.User); err != nil {
			return theirs, err
		}
	}
	return theirs, nil
}

func (p *Process) connectStdin(spec Spec) (*os.File, error) {
	if spec.NoStdin {
		return os.Open(os.DevNull)
	}
	child, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.stdin = ours
	if err := giveTo(child, spec.User); err != nil {
		child.Close()
		return nil, err
	}
	return child, nil
}

// giveTo lets the program open /dev/stdout and the like, which are checked against
// the owner of the pipe.
func giveTo(pipe *os.File, user *account.Account) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return pipe.Chown(int(user.UID), int(user.GID))
}

// execute gives every program a session of its own: signals reach all of it, and
// nothing that happens to the agent's terminal reaches any of it.
func execute(spec Spec, theirs []*os.File) (*os.Process, error) {
	if err := checkDirectory(spec.Directory); err != nil {
		return nil, err
	}
	env := environment(spec.User, spec.Env...)
	program, err := findProgram(spec.Command, spec.Directory, env["PATH"])
	if err != nil {
		return nil, err
	}
	list, err := checkEnvironment(env)
	if err != nil {
		return nil, err
	}
	attributes := &syscall.SysProcAttr{Setsid: true, Credential: credential(spec.User)}
	if spec.Terminal != nil {
		attributes.Setctty, attributes.Ctty = true, 0
		theirs = []*os.File{theirs[0], theirs[0], theirs[0]}
	}
	if spec.Cgroup != nil {
		attributes.UseCgroupFD, attributes.CgroupFD = true, int(spec.Cgroup.Fd())
	}
	started, err := withOOMScore(func() (*os.Process, error) {
		return os.StartProcess(program, append([]string{spec.Command}, spec.Args...), &os.ProcAttr{
			Dir: spec.Directory, Env: list, Files: theirs, Sys: attributes,
		})
	})
	if err != nil {
		return nil, startError(spec, err)
	}
	return started, nil
}

// startError tells the caller's mistakes from the guest's shortages.
func startError(spec Spec, err error) error {
	for _, shortage := range []error{unix.ENOMEM, unix.EAGAIN, unix.EMFILE, unix.ENFILE} {
		if errors.Is(err, shortage) {
			return fmt.Errorf("error starting process '%s': %w", spec.Command, err)
		}
	}
	return invalid("error starting process '%s' in '%s' as '%s': %v", spec.Command, spec.Directory, spec.User.Name, err)
}

// supervise sees the process to its end: output complete, then the exit, then nothing.
func (p *Process) supervise() {
	var pumps sync.WaitGroup
	for kind, from := range p.outputs {
		pumps.Go(func() {
			held := pump(from, kind, p.Log)
			if held && kind != PTY {
				go discard(from)
			} else {
				from.Close()
			}
		})
	}
	exit := p.wait()
	if p.killer != nil {
		p.killer.Stop()
	}
	for _, from := range p.outputs {
		leaderGone(from)
	}
	if p.stdin != nil {
		// Others may hold the far end and never read: a write must not wait for them.
		_ = p.stdin.SetWriteDeadline(time.Unix(1, 0))
	}
	p.closeStdin()
	pumps.Wait()
	p.Log.Close(exit)
	close(p.done)
}

// wait first waits without reaping, so that Signal never sees a pid already given
// to another process.
func (p *Process) wait() *Exit {
	for {
		err := unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	state, err := p.system.Wait()
	if err != nil {
		return &Exit{Code: -1, Status: "unknown", Error: fmt.Sprintf("wait for process %d: %v", p.PID, err)}
	}
	exit := &Exit{Code: state.ExitCode(), Exited: state.Exited(), Status: state.String()}
	if !state.Success() {
		exit.Error = state.String()
	}
	return exit
}

// Signal reaches the whole session, or its first process only.
func (p *Process) Signal(signal unix.Signal, leaderOnly bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return ErrEnded
	}
	if !leaderOnly {
		return signalSession(p.PID, signal)
	}
	if err := unix.Kill(p.PID, signal); err != nil {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(signal), p.PID, err)
	}
	return nil
}

// Running is false once the process has been reaped; its last output may still be on its way.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended
}

// Done is closed when the log is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

func (p *Process) closeOurs() {
	p.closeStdin()
	for _, file := range p.outputs {
		file.Close()
	}
}

func (p *Process) closeStdin() {
	p.inputMu.Lock()
	defer p.inputMu.Unlock()
	if p.stdin != nil && !p.stdinClosed {
		p.stdin.Close()
		p.stdinClosed = true
	}
}

func closeAll(files ...*os.File) {
	for _, file := range files {
		file.Close()
	}
}
