package entry

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"google.golang.org/protobuf/types/known/timestamppb"

	"torpor/guest/envd/gen/filesystem"
)

// Describer remembers the names of owners: a listing would otherwise read the passwd
// and group files once for every file. Use a new one for every call.
type Describer struct {
	users  map[uint32]string
	groups map[uint32]string
}

func NewDescriber() *Describer {
	return &Describer{users: map[uint32]string{}, groups: map[uint32]string{}}
}

// Describe does not follow a symbolic link, except to tell the type of its target.
func (d *Describer) Describe(path string) (*filesystem.EntryInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	metadata, err := ReadMetadata(path)
	if err != nil {
		return nil, err
	}
	described := &filesystem.EntryInfo{
		Name:         filepath.Base(path),
		Path:         path,
		Type:         typeOf(info.Mode()),
		Size:         info.Size(),
		Mode:         uint32(info.Mode().Perm()),
		Permissions:  listedMode(info.Mode()),
		ModifiedTime: timestamppb.New(info.ModTime()),
		Metadata:     metadata,
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		described.Owner, described.Group = remembered(d.users, owner.Uid, userName), remembered(d.groups, owner.Gid, groupName)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if err := followLink(described, path); err != nil {
			return nil, err
		}
	}
	return described, nil
}

func followLink(described *filesystem.EntryInfo, path string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		target = resolved
		if info, err := os.Stat(resolved); err == nil {
			described.Type = typeOf(info.Mode())
		}
	}
	described.SymlinkTarget = &target
	return nil
}

// typeOf has no word for devices, pipes and sockets: they are unspecified.
func typeOf(mode fs.FileMode) filesystem.FileType {
	switch {
	case mode.IsRegular():
		return filesystem.FileType_FILE_TYPE_FILE
	case mode.IsDir():
		return filesystem.FileType_FILE_TYPE_DIRECTORY
	case mode&fs.ModeSymlink != 0:
		return filesystem.FileType_FILE_TYPE_SYMLINK
	default:
		return filesystem.FileType_FILE_TYPE_UNSPECIFIED
	}
}

// listedMode writes a mode as `ls -l` does; Go's own form differs ("Lrwx", "dtrwx").
func listedMode(mode fs.FileMode) string {
	text := []byte("----------")
	switch {
	case mode.IsDir():
		text[0] = 'd'
	case mode&fs.ModeSymlink != 0:
		text[0] = 'l'
	case mode&fs.ModeCharDevice != 0:
		text[0] = 'c'
	case mode&fs.ModeDevice != 0:
		text[0] = 'b'
	case mode&fs.ModeNamedPipe != 0:
		text[0] = 'p'
	case mode&fs.ModeSocket != 0:
		text[0] = 's'
	}
	const letters = "rwxrwxrwx"
	for i := range letters {
		if mode.Perm()&(1<<(8-i)) != 0 {
			text[i+1] = letters[i]
		}
	}
	special := func(set bool, at int, executable, plain byte) {
		if !set {
			return
		}
		if text[at] == 'x' {
			text[at] = executable
		} else {
			text[at] = plain
		}
	}
	special(mode&fs.ModeSetuid != 0, 3, 's', 'S')
	special(mode&fs.ModeSetgid != 0, 6, 's', 'S')
	special(mode&fs.ModeSticky != 0, 9, 't', 'T')
	return string(text)
}

func remembered(names map[uint32]string, id uint32, find func(uint32) string) string {
	name, known := names[id]
	if !known {
		name = find(id)
		names[id] = name
	}
	return name
}

// userName falls back to the number: files may belong to accounts that are gone.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if found, err := user.LookupId(id); err == nil {
		return found.Username
	}
	return id
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if found, err := user.LookupGroupId(id); err == nil {
		return found.Name
	}
	return id
}

// MakeParents creates the missing directories above and including path, and gives
// only those it created to the owner.
func MakeParents(path string, uid, gid int) error {
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("'%s' is not a directory", path)
		}
		return nil
	}
	if !os.IsNotExist(err) {
		return err
	}
	if err := MakeParents(filepath.Dir(path), uid, gid); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		if os.IsExist(err) {
			return nil // somebody else's upload made it in between
		}
		return err
	}
	return os.Chown(path, uid, gid)
}
