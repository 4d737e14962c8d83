package main

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"

	"connectrpc.com/connect"

	"torpor/guest/envd/gen/process/processconnect"
	"torpor/guest/envd/gen/torpor/guest/v1/guestv1connect"
)

const (
	protocolVersion = "0.6.13"
	maxBody         = 4 << 20
)

// agent speaks as much of the protocol of guest/envd as the platform's lifecycle and its exec need.
type agent struct {
	vm *machine
	// Of the guest itself: callers from it are not the host.
	address string
}

func serveGuest(vm *machine, listener net.Listener, address string) {
	a := &agent{vm: vm, address: address}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", a.health)
	mux.HandleFunc("GET /envs", a.envs)
	mux.HandleFunc("POST /init", a.init)
	mux.HandleFunc("GET /files", a.download)
	mux.HandleFunc("POST /files", a.upload)
	options := connect.WithReadMaxBytes(maxBody)
	mux.Handle(processconnect.NewProcessHandler(&programs{vm: vm}, options))
	mux.Handle(guestv1connect.NewGuestHandler(&snapshots{vm: vm}, options))
	go func() {
		err := http.Serve(listener, a.admit(mux))
		fmt.Fprintf(os.Stderr, "simulated-vmm: the guest's agent ended: %v\n", err)
	}()
}

// admit lets the host alone do what only it may, and everybody else what the token allows.
func (a *agent) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hostOnly := r.URL.Path == "/init" || strings.HasPrefix(r.URL.Path, "/torpor.guest.v1.Guest/")
		if hostOnly && a.fromInside(r.RemoteAddr) {
			refuse(w, http.StatusForbidden, "only the host may call this, not a program inside the guest")
			return
		}
		token := a.vm.memory.heap().AccessToken
		given := r.Header.Get("X-Access-Token")
		if !hostOnly && r.URL.Path != "/health" && token != "" && subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
			refuse(w, http.StatusUnauthorized, "unauthorized access, please provide a valid access token or method signing if supported")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *agent) fromInside(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	caller := net.ParseIP(host)
	return err != nil || caller == nil || caller.IsLoopback() || host == a.address
}

func (a *agent) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Envd-Version", protocolVersion)
	w.Header().Set("X-Torpor-Agent-Version", "simulated")
	w.WriteHeader(http.StatusNoContent)
}

func (a *agent) envs(w http.ResponseWriter, _ *http.Request) {
	h := a.vm.memory.heap()
	env := maps.Clone(h.Env)
	maps.Copy(env, h.Identity)
	reply(w, http.StatusOK, env)
}

func (a *agent) init(w http.ResponseWriter, r *http.Request) {
	var request struct {
		EnvVars     map[string]string `json:"envVars"`
		AccessToken *string           `json:"accessToken"`
		SandboxID   string            `json:"sandboxId"`
		TemplateID  string            `json:"templateId"`
		Entropy     []byte            `json:"entropy"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&request); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("init: cannot read the request: %v", err))
		return
	}
	err := a.vm.whileAwake(func() error {
		return a.vm.memory.update(func(h *heap) {
			if request.EnvVars != nil {
				h.Env = request.EnvVars
			}
			if request.AccessToken != nil {
				h.AccessToken = *request.AccessToken
			}
			if request.SandboxID != "" {
				h.Identity = map[string]string{"TORPOR_SANDBOX_ID": request.SandboxID, "TORPOR_TEMPLATE_ID": request.TemplateID}
			}
			h.Quiesced = false
		})
	})
	if err != nil {
		refuse(w, http.StatusInternalServerError, "init: "+err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// download has two files that every Linux has, and those that were uploaded. All are in memory only.
func (a *agent) download(w http.ResponseWriter, r *http.Request) {
	memory := a.vm.memory
	switch path := r.URL.Query().Get("path"); path {
	case "/proc/sys/kernel/random/boot_id":
		fmt.Fprintln(w, memory.nonce())
	case "/proc/uptime":
		fmt.Fprintf(w, "%.2f 0.00\n", memory.uptime().Seconds())
	default:
		content, found := memory.heap().Files[path]
		if !found {
			refuse(w, http.StatusNotFound, "path '"+path+"' does not exist")
			return
		}
		if _, err := w.Write(content); err != nil {
			fmt.Fprintf(os.Stderr, "simulated-vmm: answer not sent: %v\n", err)
		}
	}
}

func (a *agent) upload(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") != "application/octet-stream" {
		refuse(w, http.StatusUnsupportedMediaType, "the simulated guest takes uploads as application/octet-stream only")
		return
	}
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	path := r.URL.Query().Get("path")
	err = a.vm.whileAwake(func() error { return a.vm.memory.update(func(h *heap) { h.Files[path] = content }) })
	if err != nil {
		refuse(w, http.StatusInsufficientStorage, err.Error())
		return
	}
	reply(w, http.StatusOK, []map[string]string{{"path": path, "type": "file"}})
}

func refuse(w http.ResponseWriter, code int, message string) {
	reply(w, code, map[string]any{"code": code, "message": message})
}
