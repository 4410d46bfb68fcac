package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// direct is a TCP connection whose system calls Go's scheduler is not told of. They never wait, since Go's sockets do not, so that it has
// nothing to do for them; but told of one while the program is idle, it wakes its monitor, a thread that then looks around several times
// before it sleeps again. A cluster at rest is mostly messages that come in while the program is idle (docs/architecture.md).
//
// A deadline of writes is the socket's only while a write waits: few do, and the timer of each one that is set wakes the program when it
// is over, or was before it was put off.
type direct struct {
	net.Conn // everything but what is below
	raw      syscall.RawConn

	writing sync.Mutex // held during a write

	mu      sync.Mutex
	writeBy time.Time
	waiting bool // a write waits: writeBy is the socket's, too
}

func newDirect(conn net.Conn) (*direct, error) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &direct{Conn: conn, raw: raw}, nil
}

// Read implements net.Conn.
func (d *direct) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	waited := d.raw.Read(func(fd uintptr) bool {
		n, err = call(unix.SYS_READ, fd, b)
		return err != unix.EAGAIN
	})
	if err = d.named("read", waited, err); n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Write implements net.Conn.
func (d *direct) Write(b []byte) (written int, err error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	var waits, late bool
	waited := d.raw.Write(func(fd uintptr) bool {
		if late = d.late(); late {
			return true
		}
		for written < len(b) && err == nil {
			var n int
			n, err = call(unix.SYS_WRITE, fd, b[written:])
			written += n
		}
		if err != unix.EAGAIN {
			return true
		}
		err = nil
		if !waits {
			waits = true
			d.wait(true)
		}
		return false
	})
	if waits {
		d.wait(false)
	}
	if late {
		waited = os.ErrDeadlineExceeded
	}
	return written, d.named("write", waited, err)
}

// late tells whether the deadline of writes is over.
func (d *direct) late() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.writeBy.IsZero() && time.Now().After(d.writeBy)
}

// wait says whether a write waits from now on. Only a socket that is closed refuses a deadline, and then nothing waits for it.
func (d *direct) wait(waiting bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var by time.Time
	if d.waiting = waiting; waiting {
		by = d.writeBy
	}
	_ = d.Conn.SetWriteDeadline(by)
}

// SetWriteDeadline implements net.Conn.
func (d *direct) SetWriteDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writeBy = t
	if d.waiting {
		return d.Conn.SetWriteDeadline(t)
	}
	return nil
}

// SetDeadline implements net.Conn.
func (d *direct) SetDeadline(t time.Time) error {
	return errors.Join(d.SetReadDeadline(t), d.SetWriteDeadline(t))
}

// call has the kernel fill a buffer, or take it, as far as it can without waiting.
func call(trap, fd uintptr, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// named is an error of the connection, as net's own ones read: of waiting until the socket is ready, which goes first, or of the kernel.
func (d *direct) named(operation string, waited, err error) error {
	switch failure, ok := waited.(*net.OpError); {
	case ok: // net calls it "raw-read"
		err = failure.Err
	case waited != nil:
		err = waited
	case err == nil:
		return nil
	default:
		err = os.NewSyscallError(operation, err)
	}
	return &net.OpError{Op: operation, Net: "tcp", Source: d.LocalAddr(), Addr: d.RemoteAddr(), Err: err}
}
