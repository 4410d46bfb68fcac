package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// direct is a TCP connection whose system calls Go's scheduler is not told of. They never wait, since Go's sockets do not, so that it has
// nothing to do for them; but told of one while the program is idle, it wakes its monitor, a thread that then looks around several times
// before it sleeps again. A cluster at rest is mostly messages that come in while the program is idle (docs/architecture.md).
type direct struct {
	net.Conn // everything but what is below
	raw      syscall.RawConn
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
	waited := d.raw.Write(func(fd uintptr) bool {
		for written < len(b) && err == nil {
			var n int
			n, err = call(unix.SYS_WRITE, fd, b[written:])
			written += n
		}
		if err == unix.EAGAIN {
			err = nil
			return false
		}
		return true
	})
	return written, d.named("write", waited, err)
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
