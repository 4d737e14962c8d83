package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// status is the answer to most commands.
type status struct {
	Status string `json:"status"`
	Nonce  string `json:"nonce"`
}

type saved struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// failure names the errno of a refusal of the system, else what was wrong with the command.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// serveControl takes commands of the host until the machine ends. The socket appears when the virtual CPUs run.
func serveControl(vm *machine, o options) error {
	listener, err := net.Listen("unix", o.control)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	answer := func(act func() error) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if err := act(); err != nil {
				fail(w, err)
				return
			}
			reply(w, http.StatusOK, status{Status: vm.status(), Nonce: vm.memory.nonce()})
		}
	}
	mux.HandleFunc("GET /status", answer(func() error { return nil }))
	mux.HandleFunc("POST /freeze", answer(vm.freeze))
	mux.HandleFunc("POST /unfreeze", answer(vm.unfreeze))
	mux.HandleFunc("POST /quit", func(http.ResponseWriter, *http.Request) { vm.powerOff("quit") })
	mux.HandleFunc("POST /save", func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			File string `json:"file"`
		}
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			fail(w, fmt.Errorf("the request cannot be read: %w", err))
			return
		}
		// A worker that dies closes its connection, and its save ends with it.
		written, sum, err := vm.save(r.Context(), request.File, o.saving)
		if err != nil {
			fail(w, err)
			return
		}
		reply(w, http.StatusOK, saved{Bytes: written, SHA256: sum})
	})
	return http.Serve(listener, mux)
}

func fail(w http.ResponseWriter, err error) {
	code := "failed"
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		code = unix.ErrnoName(errno)
	case errors.Is(err, errRuns), errors.Is(err, errSavesNow):
		code = "state_conflict"
	}
	reply(w, http.StatusConflict, failure{Code: code, Message: err.Error()})
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		fmt.Fprintf(os.Stderr, "simulated-vmm: answer not sent: %v\n", err)
	}
}
