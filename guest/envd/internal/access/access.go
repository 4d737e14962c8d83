// Package access decides who may call the agent: holders of the access token,
// holders of a signed file URL, and for some paths the host alone.
package access

import (
	"crypto/subtle"
	"net/http"
	"strings"

	"torpor/guest/envd/internal/httperr"
)

const tokenHeader = "X-Access-Token"

// TokenSource gives the token in force, "" when none is required.
type TokenSource interface{ AccessToken() string }

func hostOnly(path string) bool {
	return path == "/init" || strings.HasPrefix(path, "/torpor.guest.v1.Guest/")
}

// RequireToken guards every path but those with rules of their own: /health is
// open, /files takes signatures too, and the host-only paths ask for the host.
func RequireToken(tokens TokenSource, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open := r.URL.Path == "/health" || r.URL.Path == "/files" || hostOnly(r.URL.Path)
		token := tokens.AccessToken()
		if !open && token != "" && !sameSecret(r.Header.Get(tokenHeader), token) {
			httperr.Write(w, r, httperr.New(http.StatusUnauthorized,
				"unauthorized access, please provide a valid access token or method signing if supported"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// sameSecret takes the same time however much of the guess is right.
func sameSecret(given, wanted string) bool {
	return subtle.ConstantTimeCompare([]byte(given), []byte(wanted)) == 1
}
