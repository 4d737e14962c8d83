package guestos

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Linux changes the machine it runs on.
type Linux struct{}

var _ OS = Linux{}

// Numbers of linux/random.h and linux/fs.h that golang.org/x/sys/unix lacks.
const (
	ioctlAddEntropy = 0x40085203 // RNDADDENTROPY
	ioctlReseed     = 0x5207     // RNDRESEEDCRNG
	ioctlTrim       = 0xc0185879 // FITRIM
	maxSeed         = 4096
)

func (Linux) Now() time.Time { return time.Now() }

func (Linux) SetClock(to time.Time) error {
	spec := unix.NsecToTimespec(to.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &spec); err != nil {
		return fmt.Errorf("set the clock to %s: %w", to.Format(time.RFC3339Nano), err)
	}
	return nil
}

// AddEntropy is what makes two guests restored from one snapshot differ: without it
// both would draw the same "random" numbers.
func (Linux) AddEntropy(seed []byte) error {
	if len(seed) == 0 || len(seed) > maxSeed {
		return fmt.Errorf("entropy of %d bytes: between 1 and %d are accepted", len(seed), maxSeed)
	}
	random, err := os.OpenFile("/dev/random", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer random.Close()
	var pool struct {
		bits int32
		size int32
		seed [maxSeed]byte
	}
	pool.bits, pool.size = int32(len(seed)*8), int32(len(seed))
	copy(pool.seed[:], seed)
	if err := ioctl(random, ioctlAddEntropy, unsafe.Pointer(&pool)); err != nil {
		return fmt.Errorf("add %d bytes of entropy to /dev/random: %w", len(seed), err)
	}
	if err := ioctl(random, ioctlReseed, nil); err != nil {
		return fmt.Errorf("reseed /dev/random: %w", err)
	}
	return nil
}

func (Linux) Sync() error {
	// The file system of / reports its own write errors; sync(2) has no result.
	unix.Sync()
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unix.Syncfs(int(root.Fd())); err != nil {
		return fmt.Errorf("syncfs /: %w", err)
	}
	return nil
}

func (Linux) Trim() (uint64, error) {
	root, err := os.Open("/")
	if err != nil {
		return 0, err
	}
	defer root.Close()
	area := struct{ start, length, minimum uint64 }{length: ^uint64(0)}
	if err := ioctl(root, ioctlTrim, unsafe.Pointer(&area)); err != nil {
		return 0, fmt.Errorf("trim /: %w", err)
	}
	return area.length, nil
}

// DropCaches frees what can be read again: clean pages, directory and inode caches.
func (Linux) DropCaches() error {
	control, err := os.OpenFile("/proc/sys/vm/drop_caches", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := control.WriteString("3"); err != nil {
		control.Close()
		return err
	}
	return control.Close()
}

func ioctl(file *os.File, request uintptr, argument unsafe.Pointer) error {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), request, uintptr(argument))
	runtime.KeepAlive(file)
	if errno != 0 {
		return errno
	}
	return nil
}
