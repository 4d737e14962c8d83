package access

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"torpor/guest/envd/internal/httperr"
)

// Operation is what a signed URL allows.
type Operation string

const (
	Read  Operation = "read"
	Write Operation = "write"
)

// Signature is how a URL proves knowledge of the token without containing it. Path
// is the query's value as the caller wrote it, not the resolved one. A nil
// expiration never expires.
func Signature(path string, operation Operation, user, token string, expiration *int64) string {
	raw := path + ":" + string(operation) + ":" + user + ":" + token
	if expiration != nil {
		raw += ":" + strconv.FormatInt(*expiration, 10)
	}
	sum := sha256.Sum256([]byte(raw))
	return "v1_" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// AuthorizeFile accepts the token header, or a signature in the query.
func AuthorizeFile(r *http.Request, operation Operation, token string, now time.Time) error {
	if token == "" {
		return nil
	}
	if given := r.Header.Get(tokenHeader); given != "" {
		if sameSecret(given, token) {
			return nil
		}
		return httperr.New(http.StatusUnauthorized, "access token present in header but does not match")
	}
	query := r.URL.Query()
	given := query.Get("signature")
	if given == "" {
		return httperr.New(http.StatusUnauthorized, "missing signature query parameter")
	}
	expiration, err := parseExpiration(query.Get("signature_expiration"))
	if err != nil {
		return err
	}
	if !sameSecret(given, Signature(query.Get("path"), operation, query.Get("username"), token, expiration)) {
		return httperr.New(http.StatusUnauthorized, "invalid signature")
	}
	if expiration != nil && *expiration < now.Unix() {
		return httperr.New(http.StatusUnauthorized, "signature is already expired")
	}
	return nil
}

func parseExpiration(text string) (*int64, error) {
	if text == "" {
		return nil, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, httperr.New(http.StatusBadRequest, "signature_expiration '%s' is not a time in unix seconds", text)
	}
	return &seconds, nil
}
