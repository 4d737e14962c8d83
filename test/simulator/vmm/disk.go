package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// disk is an image file that nobody else can use while this process has it.
type disk struct {
	file   *os.File
	format string
}

// QEMU's tools tell one another by locks on these bytes who does what with an image: a lock at 100 + n says "I do n", one
// at 200 + n "nobody else may do n". A VM reads, writes and resizes; others may read only.
const (
	doesAt   = 100
	forbidAt = 200
	reads    = 0
	writes   = 1
	resizes  = 3
)

func openDisk(path, format string) (*disk, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	// Among simulated VMMs the first one has it; the locks below are for QEMU's tools.
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("failed to lock the disk %s: another process has it: %w", path, err)
	}
	for _, byteAt := range []int64{doesAt + reads, doesAt + writes, doesAt + resizes, forbidAt + writes, forbidAt + resizes} {
		lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: byteAt, Len: 1}
		if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
			return nil, fmt.Errorf("failed to lock the disk %s: %w", path, err)
		}
	}
	if err := refuseUsed(file, path); err != nil {
		return nil, err
	}
	switch format {
	case "raw":
	case "qcow2":
		magic := make([]byte, 4)
		if _, err := file.ReadAt(magic, 0); err != nil || string(magic) != "QFI\xfb" {
			return nil, fmt.Errorf("the disk %s is not in qcow2 format", path)
		}
	default:
		return nil, fmt.Errorf("disks of format %s are not known", format)
	}
	return &disk{file: file, format: format}, nil
}

// refuseUsed asks, as QEMU does, whether another forbids what a VM does, or does what a VM forbids.
func refuseUsed(file *os.File, path string) error {
	for _, byteAt := range []int64{doesAt + writes, doesAt + resizes, forbidAt + reads, forbidAt + writes, forbidAt + resizes} {
		lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: byteAt, Len: 1}
		if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
			return fmt.Errorf("failed to test the locks of %s: %w", path, err)
		}
		if lock.Type != unix.F_UNLCK {
			return fmt.Errorf("failed to lock the disk %s: another process uses the image", path)
		}
	}
	return nil
}

const (
	patterns     = 8
	patternSize  = 4 << 10
	patternAt    = 1 << 20
	patternApart = 1 << 20
)

// writePattern leaves a mark of `seed` on the disk, spread over several of its clusters.
func (d *disk) writePattern(seed string) error {
	return d.run(seed, "write")
}

// checkPattern fails when the disk has not the mark of `seed`.
func (d *disk) checkPattern(seed string) error {
	return d.run(seed, "read")
}

// run hands the image to QEMU's own code. It leaves locks alone: this process holds them for it.
func (d *disk) run(seed, verb string) error {
	driver := fmt.Sprintf("driver=%s,file.driver=file,file.filename=%s,file.locking=off", d.format, strings.ReplaceAll(d.file.Name(), ",", ",,"))
	argv := []string{"--image-opts", driver}
	if verb == "read" {
		argv = append(argv, "-r")
	}
	for i, pattern := range sha256.Sum256([]byte(seed)) {
		if i == patterns {
			break
		}
		argv = append(argv, "-c", fmt.Sprintf("%s -P 0x%02x %d %d", verb, pattern, patternAt+i*patternApart, patternSize))
	}
	if verb == "write" {
		argv = append(argv, "-c", "flush")
	}
	// The kernel ends the child when the thread that started it ends, and so with this process: a VMM that was killed must
	// not go on writing.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	command := exec.Command("qemu-io", argv...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, err := command.CombinedOutput()
	if text := string(output); err != nil || strings.Contains(text, "verification failed") || strings.Contains(text, "failed:") {
		return errors.Join(fmt.Errorf("%s", strings.TrimSpace(text)), err)
	}
	return nil
}

func (d *disk) sync() error { return unix.Fdatasync(int(d.file.Fd())) }
