package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"torpor/guest/envd/internal/account"
)

const (
	fallbackPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// Above 0: when memory runs out the kernel takes a program before the agent.
	oomScore = "100"
)

// InvalidError is a request that cannot be started as it stands.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return e.Reason }

func invalid(format string, args ...any) error {
	return &InvalidError{Reason: fmt.Sprintf(format, args...)}
}

// environment has the later of two equal names win: account, sandbox, request.
func environment(user *account.Account, layers ...map[string]string) map[string]string {
	path := os.Getenv("PATH")
	if path == "" {
		path = fallbackPath
	}
	env := map[string]string{"PATH": path, "HOME": user.Home, "USER": user.Name, "LOGNAME": user.Name}
	for _, layer := range layers {
		for name, value := range layer {
			env[name] = value
		}
	}
	return env
}

func checkEnvironment(env map[string]string) ([]string, error) {
	list := make([]string, 0, len(env))
	for name, value := range env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) {
			return nil, invalid("environment variable %q: the name must be free of '=', and neither it nor the value may contain a zero byte", name)
		}
		list = append(list, name+"="+value)
	}
	return list, nil
}

func checkDirectory(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return invalid("cwd '%s' does not exist", path)
	case err != nil:
		return invalid("cwd '%s': %v", path, err)
	case !info.IsDir():
		return invalid("cwd '%s' is not a directory", path)
	}
	return nil
}

// findProgram searches the PATH that the program itself will see, not the agent's.
func findProgram(name, directory, path string) (string, error) {
	if name == "" {
		return "", invalid("error starting process: no command given")
	}
	if strings.Contains(name, "/") {
		if filepath.IsAbs(name) {
			return name, nil
		}
		return filepath.Join(directory, name), nil
	}
	for _, folder := range filepath.SplitList(path) {
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(directory, folder)
		}
		candidate := filepath.Join(folder, name)
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", invalid("error starting process '%s': not found in PATH '%s'", name, path)
}

// credential is nil where the agent runs unprivileged, as itself, in tests.
func credential(user *account.Account) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: user.UID, Gid: user.GID, Groups: user.Groups}
}

var oomLock sync.Mutex

// withOOMScore runs start while this process has the score that children inherit.
// Setting it on the child afterwards would come too late for what it forks at once,
// and a shell that sets it first would be needed in every root file system.
func withOOMScore(start func() (*os.Process, error)) (*os.Process, error) {
	const file = "/proc/self/oom_score_adj"
	oomLock.Lock()
	defer oomLock.Unlock()
	own, err := os.ReadFile(file)
	if err != nil || os.WriteFile(file, []byte(oomScore), 0) != nil {
		return start() // not allowed to: the program runs with the agent's score
	}
	defer func() { _ = os.WriteFile(file, own, 0) }()
	return start()
}
