package files

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"torpor/guest/envd/internal/access"
	"torpor/guest/envd/internal/account"
	"torpor/guest/envd/internal/entry"
	"torpor/guest/envd/internal/httperr"
)

// written is one file of the answer. No metadata, no field: clients compare exactly.
type written struct {
	Path     string            `json:"path"`
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

func (h *Handler) upload(w http.ResponseWriter, r *http.Request) error {
	// A client still sending when an error is answered must be able to read it.
	defer func() { _, _ = io.CopyN(io.Discard, r.Body, 1<<20) }()
	user, err := h.caller(r, access.Write)
	if err != nil {
		return err
	}
	metadata, err := entry.MetadataFromHeaders(r.Header)
	if err != nil {
		return httperr.New(http.StatusBadRequest, "%w", err)
	}
	body, err := decoded(r)
	if err != nil {
		return err
	}
	job := &uploadJob{handler: h, user: user, path: r.URL.Query().Get("path"), metadata: metadata, length: r.ContentLength}
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return httperr.New(http.StatusBadRequest, "Content-Type '%s': %w", r.Header.Get("Content-Type"), err)
	}
	switch kind {
	case "multipart/form-data":
		err = job.multipart(multipart.NewReader(body, parameters["boundary"]))
	case "application/octet-stream":
		err = job.single(body)
	default:
		err = httperr.New(http.StatusUnsupportedMediaType,
			"Content-Type '%s': multipart/form-data or application/octet-stream is needed", kind)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if err := json.NewEncoder(w).Encode(job.done); err != nil {
		slog.Debug("answer not sent", "path", r.URL.Path, "error", err)
	}
	return nil
}

func decoded(r *http.Request) (io.Reader, error) {
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return r.Body, nil
	case "gzip":
		body, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, httperr.New(http.StatusBadRequest, "body is not gzip, as Content-Encoding says: %w", err)
		}
		return body, nil
	default:
		return nil, httperr.New(http.StatusUnsupportedMediaType, "Content-Encoding '%s': gzip or identity is needed", encoding)
	}
}

type uploadJob struct {
	handler  *Handler
	user     *account.Account
	path     string
	metadata map[string]string
	length   int64
	done     []written
}

func (j *uploadJob) single(body io.Reader) error {
	if j.path == "" {
		return httperr.New(http.StatusBadRequest, "query parameter 'path' is required for application/octet-stream")
	}
	return j.store(j.path, body)
}

func (j *uploadJob) multipart(parts *multipart.Reader) error {
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return httperr.New(http.StatusBadRequest, "multipart body: %w", err)
		}
		if part.FormName() != "file" {
			continue
		}
		path := j.path
		if path == "" {
			// FileName() keeps the last element only; here the name is a path.
			_, parameters, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
			if err != nil || parameters["filename"] == "" {
				return httperr.New(http.StatusBadRequest, "multipart body: part 'file' has no filename")
			}
			path = parameters["filename"]
		} else if len(j.done) > 0 {
			return httperr.New(http.StatusBadRequest, "query parameter 'path' names one file, but several were sent")
		}
		if err := j.store(path, part); err != nil {
			return err
		}
	}
	if len(j.done) == 0 {
		return httperr.New(http.StatusBadRequest, "multipart body has no part named 'file'")
	}
	return nil
}

func (j *uploadJob) store(asked string, content io.Reader) error {
	path, err := j.handler.resolve(j.user, asked)
	if err != nil {
		return err
	}
	for _, other := range j.done {
		if other.Path == path {
			return httperr.New(http.StatusBadRequest, "path '%s' was sent twice", path)
		}
	}
	uid, gid := int(j.user.UID), int(j.user.GID)
	folder := filepath.Dir(path)
	if err := entry.MakeParents(folder, uid, gid); err != nil {
		if info, statErr := os.Stat(folder); statErr == nil && !info.IsDir() {
			return httperr.New(http.StatusBadRequest, "path '%s': '%s' is not a directory", path, folder)
		}
		return fileError(err, path)
	}
	if err := enoughSpace(folder, j.length, path); err != nil {
		return err
	}
	if err := writeFile(path, content, uid, gid); err != nil {
		return err
	}
	if err := entry.ReplaceMetadata(path, j.metadata); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			return fileError(unix.ENOSPC, path)
		}
		return err
	}
	j.done = append(j.done, written{Path: path, Name: filepath.Base(path), Type: "file", Metadata: j.metadata})
	return nil
}

// enoughSpace refuses early what cannot fit, before an old file is cut to nothing.
func enoughSpace(folder string, length int64, path string) error {
	var space unix.Statfs_t
	if err := unix.Statfs(folder, &space); err != nil {
		return err
	}
	available := int64(space.Bavail) * space.Bsize
	if length > available {
		return httperr.New(http.StatusInsufficientStorage,
			"not enough disk space available to write '%s': %d bytes were announced, %d are free", path, length, available)
	}
	return nil
}

func writeFile(path string, content io.Reader, uid, gid int) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return httperr.New(http.StatusBadRequest, "path '%s' is a directory", path)
	case err == nil && !info.Mode().IsRegular():
		return httperr.New(http.StatusBadRequest, "path '%s' is not a regular file", path)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fileError(err, path)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fileError(err, path)
	}
	defer file.Close()
	if _, err := io.Copy(file, &uploaded{content}); err != nil {
		return fileError(err, path)
	}
	if err := file.Chown(uid, gid); err != nil {
		return fileError(err, path)
	}
	// Some file systems report a full disk only here.
	if err := file.Close(); err != nil {
		return fileError(err, path)
	}
	return nil
}

// uploaded marks the client's failures, to tell them from those of the disk.
type uploaded struct{ from io.Reader }

func (u *uploaded) Read(buffer []byte) (int, error) {
	n, err := u.from.Read(buffer)
	if err != nil && err != io.EOF {
		err = httperr.New(http.StatusBadRequest, "upload broken off: %w", err)
	}
	return n, err
}
