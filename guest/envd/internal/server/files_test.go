package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"

	"torpor/guest/envd/gen/filesystem"
	"torpor/guest/envd/internal/access"
)

var octets = map[string]string{"Content-Type": "application/octet-stream"}

func at(path string, more ...string) string {
	query := url.Values{"path": {path}}
	for i := 0; i < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	return "/files?" + query.Encode()
}

func zipped(t *testing.T, content string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := gzip.NewWriter(&buffer)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func form(t *testing.T, files ...string) (map[string]string, []byte) {
	t.Helper()
	var buffer bytes.Buffer
	w := multipart.NewWriter(&buffer)
	for i := 0; i < len(files); i += 2 {
		header := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name="file"; filename=%q`, files[i])}}
		part, err := w.CreatePart(header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(part, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"Content-Type": w.FormDataContentType()}, buffer.Bytes()
}

func TestUploadAndDownload(t *testing.T) {
	g := newGuest(t, nil)
	path := filepath.Join(t.TempDir(), "a", "b", "file.bin")
	content := strings.Repeat("\x00\xffbinary", 100_000)
	for range 2 { // the second overwrites
		status, _, body := g.do(http.MethodPost, at(path), octets, []byte(content))
		want := fmt.Sprintf(`[{"path":%q,"name":"file.bin","type":"file"}]`+"\n", path)
		if status != http.StatusOK || body != want {
			t.Fatalf("got %d %s", status, body)
		}
	}
	status, headers, body := g.do(http.MethodGet, at(path), nil, nil)
	if status != http.StatusOK || body != content || headers.Get("Content-Length") != fmt.Sprint(len(content)) {
		t.Errorf("got %d, %d bytes, %v", status, len(body), headers)
	}
	status, headers, body = g.do(http.MethodGet, at(path), map[string]string{"Range": "bytes=2-7"}, nil)
	if status != http.StatusPartialContent || body != "binary" || headers.Get("Content-Range") != fmt.Sprintf("bytes 2-7/%d", len(content)) {
		t.Errorf("range: got %d %q %v", status, body, headers)
	}
	// A shorter file leaves nothing of the longer one.
	g.do(http.MethodPost, at(path), octets, []byte("short"))
	if _, _, body := g.do(http.MethodGet, at(path), nil, nil); body != "short" {
		t.Errorf("got %q", body)
	}
}

func TestGzipBothWays(t *testing.T) {
	g := newGuest(t, nil)
	path := filepath.Join(t.TempDir(), "f")
	status, _, body := g.do(http.MethodPost, at(path), map[string]string{"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}, zipped(t, "squeezed"))
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	cases := []struct {
		accept, ranged string
		status         int
		zipped         bool
		want           string
	}{
		{"gzip", "", http.StatusOK, true, "squeezed"},
		{"gzip, deflate, br", "", http.StatusOK, true, "squeezed"},
		{"", "", http.StatusOK, false, "squeezed"},
		{"*", "", http.StatusOK, false, "squeezed"},
		{"identity", "", http.StatusOK, false, "squeezed"},
		{"gzip;q=0", "", http.StatusOK, false, "squeezed"},
		{"gzip;q=0.5, identity", "", http.StatusOK, false, "squeezed"},
		{"gzip", "bytes=0-2", http.StatusPartialContent, false, "squ"},
		{"br, identity;q=0", "", http.StatusNotAcceptable, false, ""},
		{"gzip, identity;q=0", "bytes=0-2", http.StatusNotAcceptable, false, ""},
		{"*;q=0", "", http.StatusNotAcceptable, false, ""},
		{"gzip;q=much", "", http.StatusBadRequest, false, ""},
	}
	for _, c := range cases {
		headers := map[string]string{"Accept-Encoding": c.accept}
		if c.ranged != "" {
			headers["Range"] = c.ranged
		}
		status, answer, body := g.do(http.MethodGet, at(path), headers, nil)
		if status != c.status || (answer.Get("Content-Encoding") == "gzip") != c.zipped {
			t.Errorf("%q %q: got %d %v %s", c.accept, c.ranged, status, answer, body)
			continue
		}
		if c.zipped {
			unzipped, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			plain, err := io.ReadAll(unzipped)
			if err != nil {
				t.Fatal(err)
			}
			body = string(plain)
		}
		if c.want != "" && body != c.want {
			t.Errorf("%q: got %q", c.accept, body)
		}
	}
}

func TestMultipart(t *testing.T) {
	g := newGuest(t, nil)
	folder := t.TempDir()
	one, two := folder+"/x/one.txt", folder+"/y/two.txt"
	headers, body := form(t, one, "1", two, "22")
	status, _, answer := g.do(http.MethodPost, "/files", headers, body)
	want := fmt.Sprintf(`[{"path":%q,"name":"one.txt","type":"file"},{"path":%q,"name":"two.txt","type":"file"}]`+"\n", one, two)
	if status != http.StatusOK || answer != want {
		t.Errorf("got %d %s", status, answer)
	}
	if got, err := os.ReadFile(two); err != nil || string(got) != "22" {
		t.Errorf("got %q, %v", got, err)
	}
	headers, body = form(t, "ignored", "by path")
	g.do(http.MethodPost, at(folder+"/named"), headers, body)
	if got, err := os.ReadFile(folder + "/named"); err != nil || string(got) != "by path" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestOwnershipAndMetadata(t *testing.T) {
	g := newGuest(t, nil)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path := folder + "/new/deep/file"
	headers := map[string]string{"Content-Type": "application/octet-stream", "X-Metadata-Colour": "red", "X-Metadata-Size": "9"}
	status, _, body := g.do(http.MethodPost, at(path, "username", "nobody"), headers, []byte("x"))
	want := fmt.Sprintf(`[{"path":%q,"name":"file","type":"file","metadata":{"colour":"red","size":"9"}}]`+"\n", path)
	if status != http.StatusOK || body != want {
		t.Fatalf("got %d %s", status, body)
	}
	for place, owned := range map[string]bool{folder: false, folder + "/new": true, folder + "/new/deep": true, path: true} {
		info, err := os.Stat(place)
		if err != nil {
			t.Fatal(err)
		}
		uid := fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid)
		if (uid == nobody.Uid) != owned {
			t.Errorf("%s belongs to %s", place, uid)
		}
	}
	entry := g.stat(path)
	if entry.GetMetadata()["colour"] != "red" || len(entry.GetMetadata()) != 2 || entry.GetOwner() != "nobody" || entry.GetPermissions() != "-rw-r--r--" {
		t.Errorf("got %v", entry)
	}
	// Each upload replaces all of it.
	g.do(http.MethodPost, at(path), map[string]string{"Content-Type": "application/octet-stream", "X-Metadata-Size": "10"}, nil)
	if got := g.stat(path).GetMetadata(); len(got) != 1 || got["size"] != "10" {
		t.Errorf("got %v", got)
	}
	g.do(http.MethodPost, at(path), octets, nil)
	if got := g.stat(path).GetMetadata(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	for name, value := range map[string]string{"umlaut": "\xc3\xa4", "long": strings.Repeat("x", 4100)} {
		headers := map[string]string{"Content-Type": "application/octet-stream", "X-Metadata-" + name: value}
		if status, _, body := g.do(http.MethodPost, at(path), headers, nil); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestFilesOfTheKernelHaveNoSizeButContent(t *testing.T) {
	g := newGuest(t, nil)
	for _, path := range []string{"/proc/sys/kernel/random/boot_id", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, body := g.do(http.MethodGet, at(path), nil, nil); status != http.StatusOK || body != string(want) {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	g.do(http.MethodPost, at(empty), octets, nil)
	if status, _, body := g.do(http.MethodGet, at(empty), nil, nil); status != http.StatusOK || body != "" {
		t.Errorf("empty: %d %q", status, body)
	}
}

func TestFileErrors(t *testing.T) {
	g := newGuest(t, nil)
	folder := t.TempDir()
	pipe, file := folder+"/pipe", folder+"/file"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	twice, twiceBody := form(t, file, "1", file, "2")
	several, severalBody := form(t, "a", "1", "b", "2")
	none, noneBody := form(t)
	cases := []struct {
		name, method, path string
		headers            map[string]string
		body               string
		status             int
		text               string
	}{
		{"missing", "GET", at(folder + "/no"), nil, "", 404, fmt.Sprintf("path '%s/no' does not exist", folder)},
		{"directory", "GET", at(folder), nil, "", 400, "is a directory"},
		{"pipe", "GET", at(pipe), nil, "", 400, "is not a regular file"},
		{"below a file", "GET", at(file + "/x"), nil, "", 400, "a parent is not a directory"},
		{"other's home", "GET", at("~root/x"), nil, "", 400, "'~'"},
		{"unknown user", "GET", at(file, "username", "root123"), nil, "", 401, "invalid username: 'root123'"},
		{"upload over a directory", "POST", at(folder), octets, "x", 400, "is a directory"},
		{"upload into a pipe", "POST", at(pipe), octets, "x", 400, "is not a regular file"},
		{"upload below a file", "POST", at(file + "/x"), octets, "x", 400, "not a directory"},
		{"upload without path", "POST", "/files", octets, "x", 400, "'path' is required"},
		{"upload without type", "POST", at(file), nil, "x", 400, "Content-Type"},
		{"upload of JSON", "POST", at(file), map[string]string{"Content-Type": "application/json"}, "{}", 415, "application/json"},
		{"not gzip", "POST", at(file), map[string]string{"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}, "plain", 400, "not gzip"},
		{"unknown encoding", "POST", at(file), map[string]string{"Content-Type": "application/octet-stream", "Content-Encoding": "br"}, "x", 415, "'br'"},
		{"same file twice", "POST", "/files", twice, string(twiceBody), 400, "was sent twice"},
		{"several for one path", "POST", at(file), several, string(severalBody), 400, "names one file"},
		{"empty form", "POST", "/files", none, string(noneBody), 400, "no part named 'file'"},
		{"full disk", "POST", at("/dev/full"), octets, "x", 400, "is not a regular file"},
	}
	for _, c := range cases {
		status, _, body := g.do(c.method, c.path, c.headers, []byte(c.body))
		var answer struct {
			Code    int
			Message string
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != c.status || answer.Code != c.status || !strings.Contains(answer.Message, c.text) {
			t.Errorf("%s: got %d %s, want %d %q", c.name, status, body, c.status, c.text)
		}
	}
}

func TestAFullDiskIsSaid(t *testing.T) {
	g := newGuest(t, nil)
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("this test needs root, to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	announced, _, body := g.do(http.MethodPost, at(folder+"/big"), octets, make([]byte, 1<<20))
	if announced != http.StatusInsufficientStorage || !strings.Contains(body, "not enough disk space") {
		t.Errorf("announced: %d %s", announced, body)
	}
	squeezed, _, body := g.do(http.MethodPost, at(folder+"/big"), map[string]string{"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}, zipped(t, strings.Repeat("x", 1<<20)))
	if squeezed != http.StatusInsufficientStorage || !strings.Contains(body, "not enough disk space") {
		t.Errorf("found out: %d %s", squeezed, body)
	}
}

func TestSignedURLs(t *testing.T) {
	g := newGuest(t, nil)
	g.initialise(map[string]any{"accessToken": "secret"})
	path := filepath.Join(t.TempDir(), "f")
	write := access.Signature(path, access.Write, "", "secret", nil)
	if status, _, body := g.do(http.MethodPost, at(path, "signature", write), octets, []byte("signed")); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	read := access.Signature(path, access.Read, "root", "secret", nil)
	if status, _, body := g.do(http.MethodGet, at(path, "signature", read, "username", "root"), nil, nil); status != http.StatusOK || body != "signed" {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body := g.do(http.MethodGet, at(path, "signature", write), nil, nil); status != http.StatusUnauthorized || !strings.Contains(body, "invalid signature") {
		t.Errorf("%d %s", status, body)
	}
	if status, _, _ := g.do(http.MethodGet, at(path), map[string]string{"X-Access-Token": "secret"}, nil); status != http.StatusOK {
		t.Errorf("header: %d", status)
	}
}

func (g *guest) stat(path string) *filesystem.EntryInfo {
	g.t.Helper()
	answer, err := g.files.Stat(context.Background(), connect.NewRequest(&filesystem.StatRequest{Path: path}))
	if err != nil {
		g.t.Fatal(err)
	}
	return answer.Msg.GetEntry()
}
