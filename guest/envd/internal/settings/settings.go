// Package settings holds what the host tells the agent about its sandbox. Other
// parts read it while POST /init changes it.
package settings

import (
	"maps"
	"sync"

	"torpor/guest/envd/internal/account"
)

// Settings is safe for concurrent use.
type Settings struct {
	mu             sync.RWMutex
	envVars        map[string]string
	identity       map[string]string
	accessToken    string
	defaultUser    string
	defaultWorkdir string
}

// New has no token, so every call is allowed until the host's first POST /init.
func New() *Settings {
	return &Settings{
		envVars:  map[string]string{},
		identity: map[string]string{"TORPOR": "true", "E2B_SANDBOX": "true"},
	}
}

// Env is the environment that every process starts from. Identity wins over the
// host's variables, so that a template cannot make a sandbox claim another's id.
func (s *Settings) Env() map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	env := maps.Clone(s.envVars)
	maps.Copy(env, s.identity)
	return env
}

// ReplaceEnv drops every variable of the call before.
func (s *Settings) ReplaceEnv(vars map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.envVars = maps.Clone(vars)
}

// SetIdentity is told to processes under our names and under E2B's.
func (s *Settings) SetIdentity(sandboxID, templateID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := func(value string, names ...string) {
		if value == "" {
			return
		}
		for _, name := range names {
			s.identity[name] = value
		}
	}
	set(sandboxID, "TORPOR_SANDBOX_ID", "E2B_SANDBOX_ID")
	set(templateID, "TORPOR_TEMPLATE_ID", "E2B_TEMPLATE_ID")
}

func (s *Settings) AccessToken() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.accessToken
}

func (s *Settings) SetAccessToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accessToken = token
}

func (s *Settings) SetDefaultUser(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.defaultUser = name
}

func (s *Settings) DefaultWorkdir() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.defaultWorkdir
}

func (s *Settings) SetDefaultWorkdir(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.defaultWorkdir = path
}

// Account is the named user, or the default one for an empty name. A root file
// system that nobody has set a default for may lack `user`; root is always there.
func (s *Settings) Account(name string) (*account.Account, error) {
	if name != "" {
		return account.Lookup(name)
	}
	s.mu.RLock()
	name = s.defaultUser
	s.mu.RUnlock()
	if name != "" {
		return account.Lookup(name)
	}
	if user, err := account.Lookup("user"); err == nil {
		return user, nil
	}
	return account.Lookup("root")
}
