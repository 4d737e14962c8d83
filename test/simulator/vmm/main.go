// Command simulated-vmm behaves like the VMM of one small virtual machine, and like the guest in it: it holds a
// tap and a disk, has memory that can be frozen, saved and restored, and answers as the agent of the guest does.
// It exists for tests of the platform around it, which may run hundreds of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

type options struct {
	id         string
	control    string
	tap        string
	address    string
	port       int
	disk       string
	diskFormat string
	memoryMB   int
	touchedMB  int
	restore    string
	console    string
	ledger     string
	boot       time.Duration
	restoring  time.Duration
	saving     time.Duration
}

func main() {
	if err := run(readOptions()); err != nil {
		fmt.Fprintf(os.Stderr, "simulated-vmm: %v\n", err)
		os.Exit(1)
	}
}

func readOptions() options {
	var o options
	milliseconds := func(name, what string) *int { return flag.Int(name, 0, what+", in milliseconds") }
	flag.StringVar(&o.id, "id", "", "whose VM this is, for the ledger")
	flag.StringVar(&o.control, "control", "", "path of the control socket")
	flag.StringVar(&o.tap, "tap", "tap0", "existing tap device of this network namespace")
	flag.StringVar(&o.address, "address", "169.254.0.21", "address of the guest")
	flag.IntVar(&o.port, "port", 49983, "port of the agent in the guest")
	flag.StringVar(&o.disk, "disk", "", "image file")
	flag.StringVar(&o.diskFormat, "disk-format", "qcow2", "qcow2 or raw")
	flag.IntVar(&o.memoryMB, "memory-mb", 128, "memory that the guest believes to have")
	flag.IntVar(&o.touchedMB, "touched-mb", 2, "memory that really exists, at most")
	flag.StringVar(&o.restore, "restore", "", "saved memory to go on from, instead of booting")
	flag.StringVar(&o.console, "console", "", "file of the serial port, appended to")
	flag.StringVar(&o.ledger, "ledger", "", "file of starts and ends, appended to")
	boot := milliseconds("boot-ms", "from the start of the virtual CPUs to the agent")
	restoring := milliseconds("restore-ms", "time that loading memory takes")
	saving := milliseconds("save-ms", "time that saving memory takes")
	flag.Parse()
	o.boot = time.Duration(*boot) * time.Millisecond
	o.restoring = time.Duration(*restoring) * time.Millisecond
	o.saving = time.Duration(*saving) * time.Millisecond
	return o
}

func run(o options) error {
	// Hundreds of these share a machine: little garbage is worth more than speed.
	debug.SetGCPercent(40)
	book := ledger{path: o.ledger, id: o.id}
	console, err := openConsole(o.console)
	if err != nil {
		return err
	}
	disk, err := openDisk(o.disk, o.diskFormat)
	if err != nil {
		book.refused(err)
		return err
	}
	if err := openTap(o.tap); err != nil {
		book.refused(err)
		return err
	}
	memory, err := prepareMemory(o)
	if err != nil {
		return err
	}
	vm := newMachine(memory, disk, console, o.boot)
	door, err := listenAsGuest(vm, o.address, o.port)
	if err != nil {
		return err
	}
	vm.network = door
	vm.powerOff = func(how string) {
		console.print("reboot: Power down")
		if err := book.ended(vm.memory.nonce(), how); err != nil {
			fmt.Fprintf(os.Stderr, "simulated-vmm: %v\n", err)
		}
		os.Exit(0)
	}
	if err := book.started(memory.nonce(), o.restore); err != nil {
		return err
	}
	serveGuest(vm, door, o.address)
	if err := vm.start(o.restore != ""); err != nil {
		return err
	}
	ended, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	context.AfterFunc(ended, func() { vm.powerOff("signal") })
	return serveControl(vm, o)
}

func prepareMemory(o options) (*memory, error) {
	if o.restore == "" {
		return newMemory(o.memoryMB, o.touchedMB)
	}
	time.Sleep(o.restoring)
	return loadMemory(o.restore, o.memoryMB, o.touchedMB)
}
