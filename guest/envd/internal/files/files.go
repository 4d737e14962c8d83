// Package files serves /files: contents in and out of the guest over plain HTTP.
package files

import (
	"errors"
	"net/http"
	"os"
	"syscall"

	"torpor/guest/envd/internal/access"
	"torpor/guest/envd/internal/account"
	"torpor/guest/envd/internal/guestos"
	"torpor/guest/envd/internal/httperr"
	"torpor/guest/envd/internal/settings"
)

// Handler serves GET and POST of /files.
type Handler struct {
	settings *settings.Settings
	os       guestos.OS
}

func New(settings *settings.Settings, os guestos.OS) *Handler {
	return &Handler{settings: settings, os: os}
}

func (h *Handler) Download(w http.ResponseWriter, r *http.Request) {
	if err := h.download(w, r); err != nil {
		httperr.Write(w, r, err)
	}
}

func (h *Handler) Upload(w http.ResponseWriter, r *http.Request) {
	if err := h.upload(w, r); err != nil {
		httperr.Write(w, r, err)
	}
}

// caller is who the request acts for, once it has proved that it may.
func (h *Handler) caller(r *http.Request, operation access.Operation) (*account.Account, error) {
	if err := access.AuthorizeFile(r, operation, h.settings.AccessToken(), h.os.Now()); err != nil {
		return nil, err
	}
	name := r.URL.Query().Get("username")
	if name == "" {
		name = account.RequestedName(r.Context())
	}
	found, err := h.settings.Account(name)
	var unknown *account.UnknownUserError
	if errors.As(err, &unknown) {
		return nil, httperr.New(http.StatusUnauthorized, "%w", err)
	}
	return found, err
}

func (h *Handler) resolve(user *account.Account, path string) (string, error) {
	resolved, err := user.ResolvePath(path, h.settings.DefaultWorkdir())
	if err != nil {
		return "", httperr.New(http.StatusBadRequest, "%w", err)
	}
	return resolved, nil
}

// fileError gives the system's refusals the statuses that clients turn into errors
// of their own.
func fileError(err error, path string) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return httperr.New(http.StatusNotFound, "path '%s' does not exist", path)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return httperr.New(http.StatusInsufficientStorage, "not enough disk space available to write '%s'", path)
	case errors.Is(err, syscall.EISDIR):
		return httperr.New(http.StatusBadRequest, "path '%s' is a directory", path)
	case errors.Is(err, syscall.ENOTDIR):
		return httperr.New(http.StatusBadRequest, "path '%s': a parent is not a directory", path)
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ETXTBSY):
		return httperr.New(http.StatusBadRequest, "path '%s': %w", path, err)
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		return httperr.New(http.StatusBadRequest, "path '%s' cannot be changed: %w", path, err)
	default:
		return err
	}
}
