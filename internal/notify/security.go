package notify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// SecurityKind is the result of the security check. The zero value is not valid.
type SecurityKind uint8

// The results.
const (
	Secure          SecurityKind = iota + 1
	NotOwnedByRoot               // a component of the path belongs to another user
	WritableByGroup              // a component is writable by a group other than root's
	WritableByAll                // a component is writable by everybody
)

// Security is the outcome of CheckSecurity.
type Security struct {
	Kind      SecurityKind
	Component string // the file or directory that is at fault
}

// String returns the outcome in words.
func (s Security) String() string {
	switch s.Kind {
	case Secure:
		return "secure"
	case NotOwnedByRoot:
		return fmt.Sprintf("runs as root, but %s does not belong to root", s.Component)
	case WritableByGroup:
		return fmt.Sprintf("runs as root, but %s is writable by a group other than root's", s.Component)
	case WritableByAll:
		return fmt.Sprintf("runs as root, but %s is writable by everybody", s.Component)
	}
	return fmt.Sprintf("security(%d)", uint8(s.Kind))
}

// maxLinks is how many symbolic links a path may have, as in the kernel.
const maxLinks = 40

// CheckSecurity tells whether nobody but root can change what runs when a script is executed as root. It concerns scripts
// that run as root, by user or group, or that are setuid or setgid root; all others are Secure. Every component of the
// path, the file itself and the components of symbolic links on the way must belong to root, and no file and no directory
// without sticky bit may be writable by a group other than root's or by everybody. path is absolute.
func CheckSecurity(path string, id Identity) (Security, error) {
	return checkSecurity(path, id, lstat, os.Readlink)
}

func checkSecurity(path string, id Identity, lstat func(string) (*syscall.Stat_t, error),
	readlink func(string) (string, error)) (Security, error) {
	links, current := 0, "/"
	rest := strings.Split(filepath.Clean(path), "/")
	var found Security
	var st *syscall.Stat_t
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		current = filepath.Join(current, name)
		var err error
		if st, err = lstat(current); err != nil {
			return Security{}, fmt.Errorf("check security of script %s: %w", path, err)
		}
		if found.Kind == 0 {
			found = component(current, st)
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFLNK {
			continue
		}
		if links++; links > maxLinks {
			return Security{}, fmt.Errorf("check security of script %s: %w", path, errors.New("too many symbolic links"))
		}
		target, err := readlink(current)
		if err != nil {
			return Security{}, fmt.Errorf("check security of script %s: %w", path, err)
		}
		// The parts of a relative target follow from the directory of the link.
		current = filepath.Dir(current)
		if filepath.IsAbs(target) {
			current = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	becomesRoot := st.Mode&syscall.S_ISUID != 0 && st.Uid == 0 || st.Mode&syscall.S_ISGID != 0 && st.Gid == 0
	if found.Kind == 0 || !id.Root() && !becomesRoot {
		return Security{Kind: Secure}, nil
	}
	return found, nil
}

// component judges one file, directory or link of a path; the zero Security is no fault. The mode of a link means nothing.
func component(path string, st *syscall.Stat_t) Security {
	kind := st.Mode & syscall.S_IFMT
	sticky := kind == syscall.S_IFDIR && st.Mode&syscall.S_ISVTX != 0
	switch {
	case st.Uid != 0:
		return Security{Kind: NotOwnedByRoot, Component: path}
	case kind == syscall.S_IFLNK || sticky:
		return Security{}
	case st.Mode&0o002 != 0:
		return Security{Kind: WritableByAll, Component: path}
	case st.Mode&0o020 != 0 && st.Gid != 0:
		return Security{Kind: WritableByGroup, Component: path}
	}
	return Security{}
}
