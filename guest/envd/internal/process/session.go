package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A shell with job control gives each job a group of its own, so one group is not
// enough; the session that Start made holds them all.
const maxRounds = 10

// signalSession reaches every process of the session, children that it forks
// meanwhile included. The caller makes sure that the leader is not yet reaped.
func signalSession(leader int, signal unix.Signal) error {
	if err := unix.Kill(-leader, signal); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to process group %d: %w", unix.SignalName(signal), leader, err)
	}
	done := map[int]bool{}
	for range maxRounds {
		members, err := otherGroups(leader)
		if err != nil {
			return err
		}
		found := false
		for _, pid := range members {
			if done[pid] {
				continue
			}
			found, done[pid] = true, true
			if err := unix.Kill(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("send %s to process %d: %w", unix.SignalName(signal), pid, err)
			}
		}
		if !found {
			return nil
		}
	}
	return nil
}

// otherGroups lists the session's living processes outside of the leader's group.
func otherGroups(session int) ([]int, error) {
	folders, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var members []int
	for _, folder := range folders {
		pid, err := strconv.Atoi(folder.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + folder.Name() + "/stat")
		if err != nil {
			continue // ended since it was listed
		}
		if state, group, of, ok := parseStat(stat); ok && of == session && group != session && state != 'Z' {
			members = append(members, pid)
		}
	}
	return members, nil
}

// parseStat begins after the last ')': a program's name may contain anything.
func parseStat(stat []byte) (state byte, group, session int, ok bool) {
	_, rest, found := cutLast(stat, ')')
	fields := bytes.Fields(rest)
	if !found || len(fields) < 4 {
		return 0, 0, 0, false
	}
	group, errGroup := strconv.Atoi(string(fields[2]))
	session, errSession := strconv.Atoi(string(fields[3]))
	return fields[0][0], group, session, errGroup == nil && errSession == nil
}

func cutLast(text []byte, separator byte) (before, after []byte, found bool) {
	at := bytes.LastIndexByte(text, separator)
	if at < 0 {
		return text, nil, false
	}
	return text[:at], text[at+1:], true
}
