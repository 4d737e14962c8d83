package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// machine is the VM as its VMM sees it.
type machine struct {
	memory   *memory
	disk     *disk
	console  *console
	network  *guestNetwork
	boot     time.Duration
	powerOff func(how string)

	// Held for reading by whatever a guest does, and for writing while it stands still.
	cpus sync.RWMutex

	// Orders commands of the VMM.
	mu     sync.Mutex
	frozen bool
	saving *save
}

// save is one that is under way.
type save struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

var (
	errRuns       = errors.New("the virtual CPUs run: freeze the machine before it is saved")
	errSavesNow   = errors.New("a save is under way already")
	errSaveCalled = errors.New("the save was cancelled")
)

func newMachine(memory *memory, disk *disk, console *console, boot time.Duration) *machine {
	return &machine{memory: memory, disk: disk, console: console, boot: boot}
}

// start lets the virtual CPUs run. A guest that boots is deaf until its agent is up.
func (vm *machine) start(restored bool) error {
	vm.memory.run()
	if !restored {
		vm.console.print(fmt.Sprintf("Simulated machine, %d MiB", vm.memory.megabytes))
	}
	if vm.memory.booted() {
		return vm.network.open()
	}
	if vm.boot == 0 {
		return vm.finishBoot()
	}
	time.AfterFunc(vm.boot, func() {
		if err := vm.finishBoot(); err != nil {
			vm.console.print(fmt.Sprintf("Kernel panic: %v", err))
		}
	})
	return nil
}

func (vm *machine) finishBoot() error {
	return vm.whileAwake(func() error {
		vm.memory.setBooted()
		vm.console.print("torpor-agent: listening")
		return vm.network.open()
	})
}

// whileAwake does something that a frozen guest does not: it begins when the guest is awake, and the guest is not
// frozen before it has ended.
func (vm *machine) whileAwake(act func() error) error {
	vm.cpus.RLock()
	defer vm.cpus.RUnlock()
	return act()
}

// pass returns when the guest is awake.
func (vm *machine) pass() {
	vm.cpus.RLock()
	vm.cpus.RUnlock()
}

func (vm *machine) status() string {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.frozen {
		return "frozen"
	}
	return "running"
}

// freeze returns when the guest stands still and what it had begun to write is written.
func (vm *machine) freeze() error {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.frozen {
		return nil
	}
	vm.cpus.Lock()
	vm.memory.stop()
	vm.frozen = true
	return vm.network.close()
}

// unfreeze also gives up a save that is under way.
func (vm *machine) unfreeze() error {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.saving != nil {
		vm.saving.cancel()
		<-vm.saving.ended
		vm.saving = nil
	}
	if !vm.frozen {
		return nil
	}
	vm.frozen = false
	vm.memory.run()
	booted := vm.memory.booted()
	vm.cpus.Unlock()
	if !booted {
		return nil
	}
	return vm.network.open()
}

func (vm *machine) save(ctx context.Context, path string, took time.Duration) (int64, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mine := &save{cancel: cancel, ended: make(chan struct{})}
	defer close(mine.ended)
	if err := vm.beginSave(mine); err != nil {
		return 0, "", err
	}
	written, sum, err := vm.memory.save(ctx, path, took)
	if errors.Is(err, context.Canceled) {
		return 0, "", errSaveCalled
	}
	return written, sum, err
}

func (vm *machine) beginSave(mine *save) error {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if !vm.frozen {
		return errRuns
	}
	if vm.saving != nil {
		select {
		case <-vm.saving.ended:
		default:
			return errSavesNow
		}
	}
	vm.saving = mine
	return nil
}
