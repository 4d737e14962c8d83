package process

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	chunk = 32 << 10
	// More than a pipe or a terminal holds, so all that the first process wrote is in it.
	drainLimit = 256 << 10
)

// pump copies output to the log until it ends, or until leaderGone interrupts it. It
// returns true when others still hold the far end.
func pump(from *os.File, kind Kind, log *Log) (held bool) {
	buffer := make([]byte, chunk)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			log.Append(kind, buffer[:n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return drain(from, buffer, kind, log)
		}
		if err != nil {
			return false // end of file; for a terminal EIO
		}
	}
}

// leaderGone makes pump stop waiting. Whoever else holds the pipe may do so for ever.
func leaderGone(from *os.File) {
	_ = from.SetReadDeadline(time.Unix(1, 0))
}

// drain takes what is there already. It reads past the runtime's poller, whose
// deadline would fail every read. The limit is for others who write without end.
func drain(from *os.File, buffer []byte, kind Kind, log *Log) (held bool) {
	raw, err := from.SyscallConn()
	if err != nil {
		return false
	}
	for taken := 0; taken < drainLimit; {
		var n int
		var readErr error
		if err := raw.Control(func(fd uintptr) { n, readErr = unix.Read(int(fd), buffer) }); err != nil {
			return false
		}
		switch {
		case errors.Is(readErr, unix.EINTR):
		case errors.Is(readErr, unix.EAGAIN):
			return true
		case readErr != nil || n == 0:
			return false
		default:
			log.Append(kind, buffer[:n])
			taken += n
		}
	}
	return true
}

// discard keeps reading for those who outlive the first process: closing the pipe
// would kill them at their next line of output.
func discard(from *os.File) {
	_ = from.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, from)
	from.Close()
}
