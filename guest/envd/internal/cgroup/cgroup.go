// Package cgroup keeps programs apart from the agent, and terminals ahead of batch
// work, so that a busy guest still answers.
package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
)

// Groups are open cgroup v2 directories to start processes in; nil where unavailable.
type Groups struct {
	User *os.File
	PTY  *os.File
}

// Shares of the processor when it is contended; 100 is the default, the agent's.
const (
	userWeight = "50"
	ptyWeight  = "80"
)

// Open makes the groups where root is a cgroup v2 mount. The groups of an earlier run
// of the agent are used again.
func Open(root string) (Groups, error) {
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err != nil {
		return Groups{}, fmt.Errorf("no cgroup v2 at '%s': %w", root, err)
	}
	// Without the controller the groups still separate, only unweighted.
	_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+cpu"), 0)
	user, err := open(filepath.Join(root, "user"), userWeight)
	if err != nil {
		return Groups{}, err
	}
	pty, err := open(filepath.Join(root, "pty"), ptyWeight)
	if err != nil {
		user.Close()
		return Groups{}, err
	}
	return Groups{User: user, PTY: pty}, nil
}

func open(path, weight string) (*os.File, error) {
	if err := os.Mkdir(path, 0o755); err != nil && !os.IsExist(err) {
		return nil, err
	}
	_ = os.WriteFile(filepath.Join(path, "cpu.weight"), []byte(weight), 0)
	return os.Open(path)
}
