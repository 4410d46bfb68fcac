package transport

import (
	"io"
	"net"
	"os"
	"sync"
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

	reading, writing sync.Mutex // guard what is below, which a call of the kernel is told through
	in, out          transfer
}

// transfer is a part of a buffer that the kernel is to fill, or to take.
type transfer struct {
	call func(fd uintptr) bool // returns false if the socket is not ready
	buf  []byte
	n    int
	err  error
}

func newDirect(conn *net.TCPConn) (*direct, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	d := &direct{Conn: conn, raw: raw}
	d.in.call = func(fd uintptr) bool { return d.in.do(unix.SYS_READ, "read", fd) }
	d.out.call = func(fd uintptr) bool { return d.out.do(unix.SYS_WRITE, "write", fd) }
	return d, nil
}

func (t *transfer) do(trap uintptr, name string, fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.buf))), uintptr(len(t.buf)))
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		case 0:
			t.n = int(n)
		default:
			t.n, t.err = 0, os.NewSyscallError(name, errno)
		}
		return true
	}
}

// run has the kernel work on a buffer, and waits until it can.
func (t *transfer) run(wait func(func(fd uintptr) bool) error, buf []byte) (n int, err error) {
	t.buf, t.n, t.err = buf, 0, nil
	if err := wait(t.call); err != nil {
		return 0, err
	}
	t.buf = nil
	return t.n, t.err
}

// Read implements net.Conn.
func (d *direct) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	d.reading.Lock()
	defer d.reading.Unlock()
	n, err := d.in.run(d.raw.Read, b)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, d.named("read", err)
}

// Write implements net.Conn.
func (d *direct) Write(b []byte) (int, error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	written := 0
	for written < len(b) {
		n, err := d.out.run(d.raw.Write, b[written:])
		written += n
		if err != nil {
			return written, d.named("write", err)
		}
	}
	return written, nil
}

// named is an error of the connection, as net's own ones read.
func (d *direct) named(operation string, err error) error {
	if err == nil {
		return nil
	}
	if failure, ok := err.(*net.OpError); ok { // of the waiting: net calls it "raw-read"
		err = failure.Err
	}
	return &net.OpError{Op: operation, Net: "tcp", Source: d.LocalAddr(), Addr: d.RemoteAddr(), Err: err}
}
