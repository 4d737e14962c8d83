package access

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

	"torpor/guest/envd/internal/httperr"
)

// OwnAddresses are the addresses that a program inside the guest would call from.
type OwnAddresses func() ([]netip.Addr, error)

// InterfaceAddresses reads them from the kernel; DHCP or a restore may change them.
func InterfaceAddresses() ([]netip.Addr, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	own := make([]netip.Addr, 0, len(found))
	for _, address := range found {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			own = append(own, prefix.Addr().Unmap())
		}
	}
	return own, nil
}

// RequireHost refuses the host-only paths to callers inside the guest, who could
// otherwise replace the token or step the clock. Not knowing means refusing.
func RequireHost(own OwnAddresses, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hostOnly(r.URL.Path) && fromInside(r.RemoteAddr, own) {
			if r.URL.Path == "/init" {
				httperr.Write(w, r, httperr.New(http.StatusForbidden, "%s", refusal))
			} else {
				writePermissionDenied(w)
			}
			return
		}
		next.ServeHTTP(w, r)
	})
}

const refusal = "only the host may call this, not a program inside the guest"

// writePermissionDenied is the Connect protocol's form of the refusal.
func writePermissionDenied(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusForbidden)
	body := map[string]string{"code": "permission_denied", "message": refusal}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		slog.Debug("answer not sent", "error", err)
	}
}

func fromInside(remote string, own OwnAddresses) bool {
	caller, err := netip.ParseAddrPort(remote)
	if err != nil {
		return true
	}
	address := caller.Addr().Unmap().WithZone("")
	if address.IsLoopback() {
		return true
	}
	addresses, err := own()
	if err != nil {
		slog.Error("host-only call refused: own addresses unknown", "error", err)
		return true
	}
	for _, mine := range addresses {
		if mine == address {
			return true
		}
	}
	return false
}
