package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DefaultPIDFile is keepalived's, so that no keepalived is started beside had, and unit files find it.
const DefaultPIDFile = "/run/keepalived.pid"

// errRuns says that another daemon has a pid file.
var errRuns = errors.New("another daemon runs")

// pidFile is a locked file with the number of this process.
type pidFile struct{ file *os.File }

// pidFileWait is how long a pid file may be in the making, or in the going.
const pidFileWait = time.Second

// errUnfinished says that a pid file is just made, or just removed, by somebody else.
var errUnfinished = errors.New("the pid file is being changed")

// openPIDFile writes the number of this process into a file and locks it. errRuns says that a process which lives has it.
func openPIDFile(path string) (*pidFile, error) {
	for deadline := time.Now().Add(pidFileWait); ; time.Sleep(5 * time.Millisecond) {
		p, err := tryPIDFile(path)
		if !errors.Is(err, errUnfinished) || time.Now().After(deadline) {
			return p, err
		}
	}
}

func tryPIDFile(path string) (*pidFile, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, err
	}
	locked := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	held, err := io.ReadAll(io.LimitReader(file, 32))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(held)))
	switch {
	case err != nil:
	case errors.Is(locked, syscall.EWOULDBLOCK) && (pid == 0 || syscall.Kill(pid, 0) == syscall.ESRCH):
		err = fmt.Errorf("%w: %s", errUnfinished, path)
	case errors.Is(locked, syscall.EWOULDBLOCK), locked == nil && runsKeepalived(pid):
		err = &runsError{path: path, pid: pid}
	case locked != nil:
		err = locked
	case !isAt(file, path):
		err = fmt.Errorf("%w: %s", errUnfinished, path)
	default:
		if err = file.Truncate(0); err == nil {
			_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &pidFile{file}, nil
}

// isAt tells whether an open file still has its name: whoever had it locked may have removed it.
func isAt(file *os.File, path string) bool {
	ours, err1 := file.Stat()
	there, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(ours, there)
}

// runsError is errRuns with its particulars.
type runsError struct {
	path string
	pid  int
}

func (e *runsError) Error() string {
	return fmt.Sprintf("%v as process %d (%s)", errRuns, e.pid, e.path)
}
func (e *runsError) Unwrap() error { return errRuns }

// elsewhere tells whether that daemon works on another network than this process.
func (e *runsError) elsewhere() bool {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", e.pid))
	if err != nil {
		return !errors.Is(err, fs.ErrPermission) // else it has just ended
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	return err == nil && ours != theirs
}

// runsKeepalived tells whether a process is a keepalived, which does not lock its file in all versions. A had always does.
func runsKeepalived(pid int) bool {
	if pid <= 0 || pid == os.Getpid() {
		return false
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && strings.HasPrefix(string(name), "keepalived")
}

// close removes the file while it is still locked.
func (p *pidFile) close() error {
	return errors.Join(os.Remove(p.file.Name()), p.file.Close())
}

// takePIDFile opens the pid file that was asked for, or the default one; nil: there is none, which has been said. Only the
// default one may be missing, or belong to a daemon of another network namespace.
func takePIDFile(asked string, say func(msg string, args ...any)) (*pidFile, error) {
	path := asked
	if path == "" {
		path = DefaultPIDFile
	}
	p, err := openPIDFile(path)
	var runs *runsError
	switch {
	case err == nil:
		return p, nil
	case errors.As(err, &runs) && (asked != "" || !runs.elsewhere()):
		return nil, err
	case asked != "":
		return nil, fmt.Errorf("pid file: %w", err)
	}
	say("no pid file", "err", err)
	return nil, nil
}
