// Package entry describes files: to the file system service and to uploads.
package entry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	xattrPrefix    = "user.e2b."
	headerPrefix   = "X-Metadata-"
	maxMetadataKey = 246  // the kernel's limit for a name, less the prefix
	maxMetadata    = 4096 // what ext4 keeps for one file, prefixes included
)

// MetadataFromHeaders takes X-Metadata-<key>; of a repeated header the first counts.
func MetadataFromHeaders(headers http.Header) (map[string]string, error) {
	metadata := map[string]string{}
	total := 0
	for name, values := range headers {
		if !strings.HasPrefix(name, headerPrefix) || len(values) == 0 {
			continue
		}
		key := strings.ToLower(strings.TrimPrefix(name, headerPrefix))
		switch {
		case key == "" || len(key) > maxMetadataKey:
			return nil, fmt.Errorf("metadata key '%s': between 1 and %d bytes are allowed", key, maxMetadataKey)
		case !printable(key) || !printable(values[0]):
			return nil, fmt.Errorf("metadata '%s': key and value must be printable US-ASCII", key)
		}
		total += len(xattrPrefix) + len(key) + len(values[0])
		metadata[key] = values[0]
	}
	if total > maxMetadata {
		return nil, fmt.Errorf("metadata of %d bytes: at most %d are allowed for one file", total, maxMetadata)
	}
	return metadata, nil
}

func printable(text string) bool {
	for i := range len(text) {
		if text[i] < 0x20 || text[i] > 0x7e {
			return false
		}
	}
	return true
}

// ReplaceMetadata leaves exactly the given keys on the file.
func ReplaceMetadata(path string, metadata map[string]string) error {
	old, err := ReadMetadata(path)
	if err != nil {
		return err
	}
	for key := range old {
		if _, kept := metadata[key]; kept {
			continue
		}
		if err := unix.Removexattr(path, xattrPrefix+key); err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("remove metadata '%s' of '%s': %w", key, path, err)
		}
	}
	for key, value := range metadata {
		if err := unix.Setxattr(path, xattrPrefix+key, []byte(value), 0); err != nil {
			return fmt.Errorf("set metadata '%s' of '%s': %w", key, path, err)
		}
	}
	return nil
}

// ReadMetadata does not follow a symbolic link. A file system without extended
// attributes, like /proc, has no metadata.
func ReadMetadata(path string) (map[string]string, error) {
	names, err := readXattr(func(buffer []byte) (int, error) { return unix.Llistxattr(path, buffer) })
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list metadata of '%s': %w", path, err)
	}
	metadata := map[string]string{}
	for name := range strings.SplitSeq(string(names), "\x00") {
		key, ours := strings.CutPrefix(name, xattrPrefix)
		if !ours {
			continue
		}
		value, err := readXattr(func(buffer []byte) (int, error) { return unix.Lgetxattr(path, name, buffer) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, fmt.Errorf("read metadata '%s' of '%s': %w", key, path, err)
		}
		metadata[key] = string(value)
	}
	return metadata, nil
}

// readXattr asks for the size first, and again if the value grew in between.
func readXattr(read func(buffer []byte) (int, error)) ([]byte, error) {
	for {
		size, err := read(nil)
		if err != nil || size == 0 {
			return nil, err
		}
		buffer := make([]byte, size)
		size, err = read(buffer)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buffer[:size], nil
	}
}
