// Package account finds the user that a request acts for, and resolves the paths
// that this user names.
package account

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// Account is a user of the guest with numeric ids ready for system calls.
type Account struct {
	Name   string
	Home   string
	UID    uint32
	GID    uint32
	Groups []uint32
}

// UnknownUserError names a user that the guest's passwd file does not have.
type UnknownUserError struct{ Name string }

func (e *UnknownUserError) Error() string { return fmt.Sprintf("invalid username: '%s'", e.Name) }

// Lookup reads the account afresh each time: users may be added while the agent runs.
func Lookup(name string) (*Account, error) {
	found, err := user.Lookup(name)
	if err != nil {
		var unknown user.UnknownUserError
		if errors.As(err, &unknown) {
			return nil, &UnknownUserError{Name: name}
		}
		return nil, fmt.Errorf("look up user '%s' in /etc/passwd: %w", name, err)
	}
	uid, err := parseID(found.Uid)
	if err != nil {
		return nil, fmt.Errorf("user id of '%s': %w", name, err)
	}
	gid, err := parseID(found.Gid)
	if err != nil {
		return nil, fmt.Errorf("group id of '%s': %w", name, err)
	}
	return &Account{Name: found.Username, Home: found.HomeDir, UID: uid, GID: gid, Groups: groupsOf(found, gid)}, nil
}

// groupsOf falls back to the primary group: a damaged /etc/group must not lock
// everybody out of a sandbox.
func groupsOf(found *user.User, primary uint32) []uint32 {
	groups := []uint32{primary}
	ids, err := found.GroupIds()
	if err != nil {
		return groups
	}
	for _, id := range ids {
		if gid, err := parseID(id); err == nil && gid != primary {
			groups = append(groups, gid)
		}
	}
	return groups
}

func parseID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err
}

// ResolvePath turns what a caller wrote into an absolute path: nothing means the
// default working directory (else home), `~` and relative paths mean home.
func (a *Account) ResolvePath(path, defaultWorkdir string) (string, error) {
	if path == "" {
		path = defaultWorkdir
	}
	switch {
	case strings.ContainsRune(path, 0):
		return "", fmt.Errorf("path %q contains a zero byte", path)
	case path == "" || path == "~":
		return filepath.Clean(a.Home), nil
	case strings.HasPrefix(path, "~/"):
		return filepath.Join(a.Home, path[2:]), nil
	case strings.HasPrefix(path, "~"):
		return "", fmt.Errorf("path '%s': only '~' of the user itself is supported, not of another user", path)
	case filepath.IsAbs(path):
		return filepath.Clean(path), nil
	default:
		return filepath.Join(a.Home, path), nil
	}
}

type requestedKey struct{}

// RememberRequested keeps the user named by Basic authentication for RequestedName.
// The password means nothing: the access token is what authorises.
func RememberRequested(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, _, ok := r.BasicAuth(); ok && name != "" {
			r = r.WithContext(context.WithValue(r.Context(), requestedKey{}, name))
		}
		next.ServeHTTP(w, r)
	})
}

// RequestedName is the user that the caller named, or "" for the default one.
func RequestedName(ctx context.Context) string {
	name, _ := ctx.Value(requestedKey{}).(string)
	return name
}
