package files

import (
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"torpor/guest/envd/internal/access"
	"torpor/guest/envd/internal/httperr"
)

func (h *Handler) download(w http.ResponseWriter, r *http.Request) error {
	user, err := h.caller(r, access.Read)
	if err != nil {
		return err
	}
	path, err := h.resolve(user, r.URL.Query().Get("path"))
	if err != nil {
		return err
	}
	compress, err := chooseEncoding(r)
	if err != nil {
		return err
	}
	file, info, err := openRegular(path)
	if err != nil {
		return err
	}
	defer file.Close()

	w.Header().Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": filepath.Base(path)}))
	w.Header().Set("Vary", "Accept-Encoding")
	w.Header().Set("Cache-Control", "no-cache")
	unsized, err := sizeUnknown(file, info)
	if err != nil {
		return err
	}
	switch {
	case compress:
		sendCompressed(w, r, file)
	case unsized:
		w.Header().Set("Content-Type", "application/octet-stream")
		send(w, r, file)
	default:
		http.ServeContent(w, r, path, info.ModTime(), file)
	}
	return nil
}

// openRegular looks before it opens: opening a pipe would wait for a writer.
func openRegular(path string) (*os.File, os.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fileError(err, path)
	}
	if info.IsDir() {
		return nil, nil, httperr.New(http.StatusBadRequest, "path '%s' is a directory", path)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, httperr.New(http.StatusBadRequest, "path '%s' is not a regular file", path)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fileError(err, path)
	}
	return file, info, nil
}

// sizeUnknown is true of the kernel's own files: /proc gives 0 as their size and /sys
// a whole page, whatever they contain.
func sizeUnknown(file *os.File, info os.FileInfo) (bool, error) {
	if info.Size() == 0 {
		return true, nil
	}
	var where unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &where); err != nil {
		return false, err
	}
	switch int64(where.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC:
		return true, nil
	}
	return false, nil
}

func sendCompressed(w http.ResponseWriter, r *http.Request, file *os.File) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Encoding", "gzip")
	compressed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		panic(err) // only for a level that does not exist
	}
	send(compressed, r, file)
	if err := compressed.Close(); err != nil {
		slog.Debug("download not finished", "path", file.Name(), "error", err)
	}
}

// send has already promised success, so a failure can only be shown by cutting the
// connection: a clean end would pass half a file for a whole one.
func send(to io.Writer, r *http.Request, file *os.File) {
	if r.Method == http.MethodHead {
		return
	}
	if _, err := io.Copy(to, file); err != nil {
		slog.Warn("download cut", "path", file.Name(), "error", err)
		panic(http.ErrAbortHandler)
	}
}

var errEncoding = errors.New("no acceptable encoding")

// chooseEncoding answers gzip where the client takes it. A range is of the plain bytes.
func chooseEncoding(r *http.Request) (compress bool, err error) {
	accepted := strings.Join(r.Header.Values("Accept-Encoding"), ",")
	gzipQuality, identityQuality, err := encodingQualities(accepted)
	if err != nil {
		return false, httperr.New(http.StatusBadRequest, "Accept-Encoding '%s': %w", accepted, err)
	}
	if r.Header.Get("Range") != "" {
		gzipQuality = 0
	}
	switch {
	case gzipQuality > 0 && gzipQuality >= identityQuality:
		return true, nil
	case identityQuality > 0:
		return false, nil
	default:
		return false, httperr.New(http.StatusNotAcceptable,
			"%w: '%s' refuses what this server can send: identity, and gzip without Range", errEncoding, accepted)
	}
}

// encodingQualities follows RFC 9110, 12.5.3: identity is fine unless refused, by name
// or by a star. Where both are welcome, an unnamed identity yields to gzip.
func encodingQualities(header string) (gzipQuality, identityQuality float64, err error) {
	star, identity, compressed := -1.0, -1.0, -1.0
	for item := range strings.SplitSeq(header, ",") {
		name, parameters, _ := strings.Cut(strings.TrimSpace(item), ";")
		quality := 1.0
		if value, ok := strings.CutPrefix(strings.TrimSpace(parameters), "q="); ok {
			if quality, err = strconv.ParseFloat(value, 64); err != nil {
				return 0, 0, err
			}
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip", "x-gzip":
			compressed = quality
		case "identity":
			identity = quality
		case "*":
			star = quality
		}
	}
	if compressed < 0 {
		compressed = max(star, 0)
		if identity < 0 && star > 0 {
			compressed = 0 // a bare star, as simple clients send it, asks for nothing special
		}
	}
	switch {
	case identity >= 0:
	case star == 0:
		identity = 0
	default:
		identity = 0.001
	}
	return compressed, identity, nil
}
