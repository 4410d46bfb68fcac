package rtnl

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// receiveBufferSize holds some 10,000 notifications.
	receiveBufferSize = 8 << 20

	// MessageSize is more than a notification ever has.
	MessageSize = 64 << 10

	// drainMost bounds the notifications that are thrown away in one go, well above what the receive buffer holds.
	drainMost = 1 << 17
)

// errTruncated is the answer to a notification larger than MessageSize: its content is lost.
var errTruncated = errors.New("notification is too large")

// Subscription receives the notifications of one network namespace. One goroutine receives; Close may come from another.
type Subscription struct {
	file *os.File
	conn syscall.RawConn
	buf  []byte
}

// Subscribe subscribes to multicast groups (unix.RTNLGRP_*, up to 32) in the network namespace of the calling thread.
func Subscribe(log *slog.Logger, groups ...int) (*Subscription, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open route netlink socket: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBufferSize) != nil {
		// Without CAP_NET_ADMIN the buffer is what net.core.rmem_max allows. Notifications may be lost sooner then,
		// which is made up for by reading everything again.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBufferSize); err != nil {
			log.Debug("receive buffer for notifications keeps its size", "err", err)
		}
	}
	var mask uint32
	for _, group := range groups {
		mask |= 1 << (group - 1)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: mask}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("subscribe to route netlink: %w", err)
	}
	file := os.NewFile(uintptr(fd), "netlink")
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("subscribe to route netlink: %w", err)
	}
	return &Subscription{file: file, conn: conn, buf: make([]byte, MessageSize)}, nil
}

// Close ends the use of the Subscription, and a Receive that waits.
func (s *Subscription) Close() error { return s.file.Close() }

// Control gives f the socket.
func (s *Subscription) Control(f func(fd uintptr)) error { return s.conn.Control(f) }

// Filter lets only those notifications through that the program passes. It sees one with its netlink header.
func (s *Subscription) Filter(program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("assemble filter of notifications: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	var set error
	err = s.conn.Control(func(fd uintptr) {
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
	})
	if err = errors.Join(err, set); err != nil {
		return fmt.Errorf("filter notifications: %w", err)
	}
	return nil
}

// Receive waits for notifications from the kernel. They are valid until the next call. An error other than
// os.ErrClosed means that some were lost.
func (s *Subscription) Receive() ([]syscall.NetlinkMessage, error) {
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

// Drain throws away all notifications that are queued. empty is false if they came faster than that.
func (s *Subscription) Drain() (empty bool, err error) {
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
func (s *Subscription) read(wait bool) (n int, from unix.Sockaddr, err error) {
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
