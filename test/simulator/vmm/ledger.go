package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ledger is the record of all machines of a test, in one file: whether two VMs of one id ever lived at the same time is
// read from it. Every VMM looks for living predecessors while it writes itself down.
type ledger struct {
	path string
	id   string
}

type entry struct {
	ID string `json:"id"`
	// started, ended, or refused: it could not have its disk or its tap and never ran.
	Event string `json:"event"`
	PID   int    `json:"pid"`
	// In clock ticks after boot: with the pid it tells a process from all others.
	StartTime    string    `json:"startTime"`
	Nonce        string    `json:"nonce,omitempty"`
	RestoredFrom string    `json:"restoredFrom,omitempty"`
	How          string    `json:"how,omitempty"`
	AlsoAlive    []int     `json:"alsoAlive,omitempty"`
	Time         time.Time `json:"time"`
}

func (l ledger) started(nonce, restoredFrom string) error {
	return l.append(entry{Event: "started", Nonce: nonce, RestoredFrom: restoredFrom})
}

func (l ledger) ended(nonce, how string) error {
	return l.append(entry{Event: "ended", Nonce: nonce, How: how})
}

func (l ledger) refused(why error) {
	if err := l.append(entry{Event: "refused", How: why.Error()}); err != nil {
		fmt.Fprintf(os.Stderr, "simulated-vmm: %v\n", err)
	}
}

func (l ledger) append(line entry) (err error) {
	if l.path == "" {
		return nil
	}
	file, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	startTime, _ := startTimeOf(os.Getpid())
	line.ID, line.PID, line.StartTime, line.Time = l.id, os.Getpid(), startTime, time.Now()
	if err := l.write(file, &line); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	// Outside the lock: synced lines of several machines may share one flush.
	return file.Sync()
}

// write looks and writes under one lock, so that of two machines that start at once one sees the other.
func (l ledger) write(file *os.File, line *entry) error {
	fd := int(file.Fd())
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		return err
	}
	defer unix.Flock(fd, unix.LOCK_UN)
	if line.Event == "started" {
		alive, err := l.living(file)
		if err != nil {
			return err
		}
		line.AlsoAlive = alive
	}
	encoded, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = file.Write(append(encoded, '\n'))
	return err
}

// living are the machines of this id that started before and have not ended.
func (l ledger) living(file *os.File) ([]int, error) {
	mine, err := json.Marshal(l.id)
	if err != nil {
		return nil, err
	}
	needle := append([]byte(`{"id":`), mine...)
	var alive []int
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var past entry
		if !bytes.HasPrefix(lines.Bytes(), needle) || json.Unmarshal(lines.Bytes(), &past) != nil || past.Event != "started" {
			continue
		}
		if startTime, running := startTimeOf(past.PID); running && startTime == past.StartTime {
			alive = append(alive, past.PID)
		}
	}
	return alive, nil
}

// startTimeOf is of a process that is there and not merely waiting to be noticed as ended.
func startTimeOf(pid int) (string, bool) {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", false
	}
	// The name in parentheses may contain anything, so fields are counted from its end.
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", false
	}
	return fields[19], true
}
