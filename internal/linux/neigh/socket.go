package neigh

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openSocket opens a raw socket that the runtime's poller serves.
func openSocket(family, protocol int) (*os.File, syscall.RawConn, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(fd), "neigh")
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, conn, nil
}

// control calls f with the descriptor, which stays open meanwhile.
func control(conn syscall.RawConn, f func(fd int) error) error {
	var err error
	if conn.Control(func(fd uintptr) { err = f(int(fd)) }) != nil {
		return os.ErrClosed
	}
	return err
}

// send sends one frame or packet, without waiting for room in the queue.
func send(conn syscall.RawConn, b []byte, to unix.Sockaddr) error {
	return control(conn, func(fd int) error { return unix.Sendto(fd, b, unix.MSG_DONTWAIT, to) })
}

// networkOrder returns v as the kernel wants an EtherType in a socket address.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)})
}
