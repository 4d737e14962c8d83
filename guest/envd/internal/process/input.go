package process

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// PreconditionError is a call that does not fit the kind of process.
type PreconditionError struct{ Reason string }

func (e *PreconditionError) Error() string { return e.Reason }

// WriteStdin waits until the program has room for all of data, or the caller gives up.
func (p *Process) WriteStdin(ctx context.Context, data []byte) error {
	if p.terminal != nil {
		return &PreconditionError{"process has a terminal: send its input as 'pty', not as 'stdin'"}
	}
	p.inputMu.Lock()
	defer p.inputMu.Unlock()
	if p.stdin == nil || p.stdinClosed {
		return &PreconditionError{"stdin is not open: it was closed, or never asked for at the start"}
	}
	return p.write(ctx, p.stdin, data)
}

// WriteTerminal is WriteStdin for a terminal.
func (p *Process) WriteTerminal(ctx context.Context, data []byte) error {
	if p.terminal == nil {
		return &PreconditionError{"process has no terminal: send its input as 'stdin', not as 'pty'"}
	}
	p.inputMu.Lock()
	defer p.inputMu.Unlock()
	return p.write(ctx, p.terminal, data)
}

func (p *Process) write(ctx context.Context, to *os.File, data []byte) error {
	stop := context.AfterFunc(ctx, func() { _ = to.SetWriteDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			_ = to.SetWriteDeadline(time.Time{})
		}
	}()
	if n, err := to.Write(data); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("process %d took %d of %d bytes of input: %w", p.PID, n, len(data), ctx.Err())
		}
		return &PreconditionError{fmt.Sprintf("process %d took %d of %d bytes of input: %v", p.PID, n, len(data), err)}
	}
	return nil
}

// CloseStdin is the end of file. Closing twice does no harm.
func (p *Process) CloseStdin() error {
	if p.terminal != nil {
		return &PreconditionError{"process has a terminal: send Ctrl-D (0x04) as input instead of closing stdin"}
	}
	p.closeStdin()
	return nil
}

// Resize tells the program too, by SIGWINCH from the kernel.
func (p *Process) Resize(size Size) error {
	if p.terminal == nil {
		return &PreconditionError{"process has no terminal to resize"}
	}
	raw, err := p.terminal.SyscallConn()
	if err != nil {
		return err
	}
	var resizeErr error
	if err := raw.Control(func(fd uintptr) {
		resizeErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: size.Cols, Row: size.Rows})
	}); err != nil {
		return ErrEnded // the terminal is closed
	}
	return resizeErr
}

// HasTerminal tells which kind of input and output the process has.
func (p *Process) HasTerminal() bool { return p.terminal != nil }
