package process

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Size of a terminal in characters.
type Size struct{ Cols, Rows uint16 }

// openTerminal returns the agent's end, which the runtime can poll, and the program's,
// owned by the program's user so that it may be opened again by name.
func openTerminal(size Size, uid int) (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, fmt.Errorf("number of the terminal: %w", err)
	}
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	if err = setSize(fd, size); err != nil {
		return nil, nil, err
	}
	name := "/dev/pts/" + strconv.Itoa(number)
	slave, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	if os.Geteuid() == 0 {
		// Keep the group: devpts gives `tty`, which programs like wall(1) rely on.
		if err = slave.Chown(uid, -1); err != nil {
			slave.Close()
			return nil, nil, err
		}
	}
	return master, slave, nil
}

func setSize(fd int, size Size) error {
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: size.Cols, Row: size.Rows}); err != nil {
		return fmt.Errorf("set the terminal's size to %dx%d: %w", size.Cols, size.Rows, err)
	}
	return nil
}
