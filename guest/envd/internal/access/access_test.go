package access

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

const token = "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0"

func TestSignatureIsTheOneThatClientsCompute(t *testing.T) {
	const want = "v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E"
	if got := Signature("hello.txt", Read, "user", token, nil); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	later := int64(1)
	if got := Signature("hello.txt", Read, "user", token, &later); got == want {
		t.Error("an expiration must change the signature")
	}
}

func TestAuthorizeFile(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	future, past := now.Unix()+1, now.Unix()-1
	signed := func(path string, operation Operation, user string, expiration *int64) string {
		return url.QueryEscape(Signature(path, operation, user, token, expiration))
	}
	cases := []struct {
		name, query, header, want string
		token                     string
	}{
		{name: "no token in force"},
		{name: "right header", token: token, header: token},
		{name: "wrong header beats a right signature", token: token, header: "x", query: "path=f&signature=" + signed("f", Read, "", nil), want: "access token present in header but does not match"},
		{name: "nothing", token: token, query: "path=f", want: "missing signature query parameter"},
		{name: "right signature", token: token, query: "path=f&username=u&signature=" + signed("f", Read, "u", nil)},
		{name: "another path", token: token, query: "path=g&signature=" + signed("f", Read, "", nil), want: "invalid signature"},
		{name: "another user", token: token, query: "path=f&username=root&signature=" + signed("f", Read, "u", nil), want: "invalid signature"},
		{name: "for writing", token: token, query: "path=f&signature=" + signed("f", Write, "", nil), want: "invalid signature"},
		{name: "not expired", token: token, query: "path=f&signature_expiration=1700000001&signature=" + signed("f", Read, "", &future)},
		{name: "expired", token: token, query: "path=f&signature_expiration=1699999999&signature=" + signed("f", Read, "", &past), want: "signature is already expired"},
		{name: "expiration taken away", token: token, query: "path=f&signature=" + signed("f", Read, "", &past), want: "invalid signature"},
		{name: "expiration is no number", token: token, query: "path=f&signature_expiration=x&signature=y", want: "signature_expiration 'x'"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/files?"+c.query, nil)
			if c.header != "" {
				r.Header.Set("X-Access-Token", c.header)
			}
			err := AuthorizeFile(r, Read, c.token, now)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestOnlyTheHostMayCallHostPaths(t *testing.T) {
	own := func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("169.254.0.21")}, nil }
	unknown := func() ([]netip.Addr, error) { return nil, errors.New("no netlink") }
	cases := []struct {
		path, remote string
		own          OwnAddresses
		want         int
	}{
		{"/init", "169.254.0.22:1000", own, http.StatusOK},
		{"/init", "169.254.0.21:1000", own, http.StatusForbidden},
		{"/init", "127.0.0.1:1000", own, http.StatusForbidden},
		{"/init", "[::1]:1000", own, http.StatusForbidden},
		{"/init", "[::ffff:127.0.0.1]:1000", own, http.StatusForbidden},
		{"/init", "[::ffff:169.254.0.21]:1000", own, http.StatusForbidden},
		{"/init", "nonsense", own, http.StatusForbidden},
		{"/init", "169.254.0.22:1000", unknown, http.StatusForbidden},
		{"/torpor.guest.v1.Guest/Quiesce", "127.0.0.1:1000", own, http.StatusForbidden},
		{"/torpor.guest.v1.Guest/Unquiesce", "169.254.0.22:1000", own, http.StatusOK},
		{"/envs", "127.0.0.1:1000", own, http.StatusOK},
	}
	for _, c := range cases {
		handler := RequireHost(c.own, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		r := httptest.NewRequest(http.MethodPost, c.path, nil)
		r.RemoteAddr = c.remote
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s from %s: got %d, want %d", c.path, c.remote, w.Code, c.want)
		}
	}
}
