package link

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// receiveBufferSize holds some 10,000 notifications.
	receiveBufferSize = 8 << 20

	// messageSize is more than a notification ever has.
	messageSize = 64 << 10

	// drainMost bounds the notifications that are thrown away in one go, well above what the receive buffer holds.
	drainMost = 1 << 17
)

// errTruncated is the answer to a notification larger than messageSize: its content is lost.
var errTruncated = errors.New("notification is too large")

// socket receives the notifications of one network namespace. One goroutine receives; Close may come from another.
type socket struct {
	file *os.File
	conn syscall.RawConn
	buf  []byte
}

func subscribe(log *slog.Logger) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open route netlink socket: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBufferSize) != nil {
		// Without CAP_NET_ADMIN the buffer is what net.core.rmem_max allows. Notifications may be lost sooner then,
		// which is made up for by reading everything again.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBufferSize); err != nil {
			log.Debug("receive buffer of the link monitor keeps its size", "err", err)
		}
	}
	const groups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("subscribe to interfaces and addresses: %w", err)
	}
	file := os.NewFile(uintptr(fd), "netlink")
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("subscribe to interfaces and addresses: %w", err)
	}
	return &socket{file: file, conn: conn, buf: make([]byte, messageSize)}, nil
}

func (s *socket) Close() error { return s.file.Close() }

// receive waits for notifications from the kernel. They are valid until the next call. An error other than
// os.ErrClosed means that some were lost.
func (s *socket) receive() ([]syscall.NetlinkMessage, error) {
	n, from, err := s.read(true)
	switch {
	case err != nil:
		return nil, err
	case n > len(s.buf):
		return nil, errTruncated
	}
	if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
		return nil, nil // only the kernel has port 0: any other process may send what it likes
	}
	return syscall.ParseNetlinkMessage(s.buf[:n])
}

// drain throws away all notifications that are queued. empty is false if they came faster than that.
func (s *socket) drain() (empty bool, err error) {
	for range drainMost {
		_, _, err := s.read(false)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return true, nil
		case errors.Is(err, os.ErrClosed):
			return false, err
		}
	}
	return false, nil
}

// read reads one datagram into buf and returns its full length. Without wait an empty queue is EAGAIN.
func (s *socket) read(wait bool) (n int, from unix.Sockaddr, err error) {
	readErr := s.conn.Read(func(fd uintptr) bool {
		for {
			n, from, err = unix.Recvfrom(int(fd), s.buf, unix.MSG_TRUNC)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		return !wait || !errors.Is(err, unix.EAGAIN)
	})
	if readErr != nil { // the poller fails for no other reason
		return 0, nil, os.ErrClosed
	}
	return n, from, err
}
