package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// fifoMode is the mode of a pipe that we create, before the umask.
const fifoMode = 0o644

// ErrFIFOFull says that a line was lost because nobody reads the pipe fast enough.
var ErrFIFOFull = errors.New("pipe is full, line lost")

// FIFO is a named pipe that receives one line for each change. Its methods may be called by any goroutine and do not
// block.
type FIFO struct {
	path    string
	created bool

	mu sync.Mutex
	fd int // -1 once closed
}

// OpenFIFO opens the pipe and creates it if it is not there. owner, if not nil, becomes its owner and group. The pipe is
// opened for reading, too, so that lines wait for a reader that is not there yet.
func OpenFIFO(path string, owner *Identity) (*FIFO, error) {
	created := false
	switch err := unix.Mkfifo(path, fifoMode); {
	case err == nil:
		created = true
	case !errors.Is(err, unix.EEXIST):
		return nil, fmt.Errorf("create pipe %s: %w", path, err)
	}
	fd, err := openFIFO(path, owner)
	if err != nil {
		if created {
			err = errors.Join(err, os.Remove(path))
		}
		return nil, err
	}
	return &FIFO{path: path, created: created, fd: fd}, nil
}

func openFIFO(path string, owner *Identity) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open pipe %s: %w", path, err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		err = errors.New("it is not a named pipe")
	}
	if err == nil && owner != nil {
		err = unix.Fchown(fd, int(owner.UID), int(owner.GID))
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("open pipe %s: %w", path, err), unix.Close(fd))
	}
	return fd, nil
}

// Path returns the path of the pipe, the last argument of the script that reads it.
func (f *FIFO) Path() string { return f.path }

// WriteLine writes a line, without its end of line. A line is written as a whole or not at all, then with ErrFIFOFull.
func (f *FIFO) WriteLine(line string) error { return f.write(line + "\n") }

// WriteTerminated is WriteLine for a line that a NUL byte follows, as keepalived has it for servers.
func (f *FIFO) WriteTerminated(line string) error { return f.write(line + "\n\x00") }

func (f *FIFO) write(text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd < 0 {
		return fmt.Errorf("write to pipe %s: %w", f.path, fs.ErrClosed)
	}
	for {
		_, err := unix.Write(f.fd, []byte(text))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return fmt.Errorf("write to pipe %s: %w", f.path, ErrFIFOFull)
		default:
			return fmt.Errorf("write to pipe %s: %w", f.path, err)
		}
	}
}

// unread tells whether there are lines that nobody has read yet.
func (f *FIFO) unread() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd < 0 {
		return false
	}
	n, err := unix.IoctlGetInt(f.fd, unix.TIOCINQ)
	return err == nil && n > 0
}

// Close closes the pipe, and removes it if OpenFIFO created it.
func (f *FIFO) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd < 0 {
		return nil
	}
	err := unix.Close(f.fd)
	f.fd = -1
	if f.created {
		err = errors.Join(err, os.Remove(f.path))
	}
	if err != nil {
		return fmt.Errorf("close pipe %s: %w", f.path, err)
	}
	return nil
}
