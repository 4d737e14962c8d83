// Package guestos is the guest's kernel as far as the agent changes it as a whole:
// clock, host name, random pool, disk caches. Behind an interface, because a test
// on an ordinary machine must not do any of this for real.
package guestos

import "time"

// OS is implemented by Linux, and by a recorder in tests.
type OS interface {
	Now() time.Time
	SetClock(to time.Time) error
	// SetHostname also makes the name resolve to the guest itself.
	SetHostname(name string) error
	// AddEntropy mixes bytes into the kernel's pool, credits them, and reseeds its generator.
	AddEntropy(seed []byte) error
	// WriteIdentity leaves files that programs can read without the agent's environment.
	WriteIdentity(sandboxID, templateID string) error

	Sync() error
	// Trim tells the disk below / which blocks are free, and returns their total size.
	Trim() (uint64, error)
	DropCaches() error
	// MemoryUsed is total minus available, in bytes.
	MemoryUsed() (uint64, error)
}
