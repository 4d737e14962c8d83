// Package httperr is the error form of the plain HTTP endpoints: {"code","message"}.
package httperr

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
)

// Error carries the HTTP status that a failure is answered with.
type Error struct {
	Status  int
	Message string
	cause   error
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.cause }

// New formats like fmt.Errorf; %w keeps the cause.
func New(status int, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Status: status, Message: err.Error(), cause: errors.Unwrap(err)}
}

// Write answers with the error's status, or 500 for an error that has none.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	var known *Error
	if errors.As(err, &known) {
		status = known.Status
	}
	if status >= http.StatusInternalServerError {
		slog.Error("request failed", "method", r.Method, "path", r.URL.Path, "status", status, "error", err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	// A download may have announced its own before it failed.
	for _, name := range []string{"Content-Encoding", "Content-Disposition", "Content-Length"} {
		w.Header().Del(name)
	}
	w.WriteHeader(status)
	body := map[string]any{"code": status, "message": err.Error()}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		slog.Debug("answer not sent", "path", r.URL.Path, "error", err)
	}
}
