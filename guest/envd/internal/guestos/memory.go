package guestos

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// Memory is what /proc/meminfo says, in bytes.
type Memory struct{ Total, Available, Cached uint64 }

func ReadMemory() (Memory, error) {
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return Memory{}, err
	}
	return parseMemory(content)
}

func parseMemory(content []byte) (Memory, error) {
	var memory Memory
	wanted := map[string]*uint64{
		"MemTotal:": &memory.Total, "MemAvailable:": &memory.Available, "Cached:": &memory.Cached,
	}
	for line := range bytes.Lines(content) {
		fields := bytes.Fields(line)
		if len(fields) < 2 || wanted[string(fields[0])] == nil {
			continue
		}
		kib, err := strconv.ParseUint(string(fields[1]), 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("/proc/meminfo: line %q: %w", line, err)
		}
		*wanted[string(fields[0])] = kib * 1024
	}
	if memory.Total == 0 {
		return Memory{}, fmt.Errorf("/proc/meminfo has no MemTotal")
	}
	return memory, nil
}

func (Linux) MemoryUsed() (uint64, error) {
	memory, err := ReadMemory()
	if err != nil {
		return 0, err
	}
	return memory.Total - min(memory.Available, memory.Total), nil
}
