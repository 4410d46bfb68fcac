package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// wire is a connected socket on which each read and write has its own time, and all together have the attempt's. It is a file,
// for which Go's runtime waits as for a connection of package net, and which takes a third of its allocations to make.
type wire struct {
	*os.File
	*Endpoint
	datagrams bool      // an empty one is not the end
	limit     time.Time // of the attempt
	stop      func() bool
	eof       bool // the peer has closed
}

// dial connects to a TCP or UDP service. The end of ctx closes the connection.
func (p *Endpoint) dial(ctx context.Context, kind, protocol int) (*wire, error) {
	fd, err := p.socket(kind, protocol)
	var w *wire
	if err == nil {
		w, err = p.connect(ctx, fd, kind)
	}
	if err != nil {
		return nil, p.notConnected(err)
	}
	return w, nil
}

func (p *Endpoint) notConnected(err error) error {
	return fmt.Errorf("connect %v: %s", p.Target, p.reason(err))
}

func (p *Endpoint) tcp(ctx context.Context) (*wire, error) {
	return p.dial(ctx, unix.SOCK_STREAM, unix.IPPROTO_TCP)
}

func (p *Endpoint) udp(ctx context.Context) (*wire, error) {
	return p.dial(ctx, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
}

func (p *Endpoint) timeout() time.Duration { return p.Timeout }

func (p *Endpoint) socket(kind, protocol int) (fd int, err error) {
	domain := unix.AF_INET
	if p.Target.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	return fd, os.NewSyscallError("socket", err)
}

// connect connects a socket, which it closes if that fails.
func (p *Endpoint) connect(ctx context.Context, fd, kind int) (*wire, error) {
	to, err := sockaddr(p.Target)
	if err == nil {
		err = p.setup(fd)
	}
	if err == nil {
		err = unix.Connect(fd, to)
	}
	begun := errors.Is(err, unix.EINPROGRESS)
	if err != nil && !begun {
		unix.Close(fd)
		return nil, err
	}
	w := &wire{File: os.NewFile(uintptr(fd), ""), Endpoint: p, datagrams: kind != unix.SOCK_STREAM}
	w.limit, _ = ctx.Deadline()
	w.stop = context.AfterFunc(ctx, func() { w.File.Close() })
	if begun {
		if err := w.established(to); err != nil {
			w.Close()
			return nil, err
		}
	}
	return w, nil
}

// established waits until the connection is there.
func (w *wire) established(to unix.Sockaddr) error {
	if err := w.SetWriteDeadline(w.deadline()); err != nil {
		return err
	}
	raw, err := w.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Write(func(fd uintptr) bool {
		switch result = unix.Connect(int(fd), to); { // again, which says how it went (connect(2))
		case errors.Is(result, unix.EALREADY):
			return false
		case errors.Is(result, unix.EISCONN):
			result = nil
		}
		return true
	})
	return errors.Join(err, result)
}

// setup sets up a socket before it is connected.
func (p *Endpoint) setup(fd int) error {
	if p.Mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(p.Mark)); err != nil {
			return fmt.Errorf("set the mark %d: %w", p.Mark, err)
		}
	}
	if p.Interface != "" {
		if err := unix.BindToDevice(fd, p.Interface); err != nil {
			return fmt.Errorf("bind to %s: %w", p.Interface, err)
		}
	}
	if !p.Bind.IsValid() && p.BindPort == 0 {
		return nil
	}
	var err error
	if p.BindPort != 0 { // its last connection may still be in TIME_WAIT
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	} else { // the port is chosen when the peer is known, so that more connections than ports are possible
		err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}
	if err != nil {
		return err
	}
	from := p.Bind
	if !from.IsValid() {
		from = netip.IPv4Unspecified()
		if p.Target.Addr().Is6() {
			from = netip.IPv6Unspecified()
		}
	}
	address, err := sockaddr(netip.AddrPortFrom(from, p.BindPort))
	if err != nil {
		return err
	}
	return os.NewSyscallError("bind", unix.Bind(fd, address))
}

func sockaddr(a netip.AddrPort) (unix.Sockaddr, error) {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}, nil
	}
	to := &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	if name := a.Addr().Zone(); name != "" {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return nil, err
		}
		to.ZoneId = uint32(i.Index)
	}
	return to, nil
}

func (w *wire) deadline() time.Time {
	t := time.Now().Add(w.Timeout)
	if !w.limit.IsZero() && w.limit.Before(t) {
		return w.limit
	}
	return t
}

func (w *wire) Read(b []byte) (int, error) {
	if err := w.SetReadDeadline(w.deadline()); err != nil {
		return 0, err
	}
	return w.read(b)
}

// read is Read within the time that is set.
func (w *wire) read(b []byte) (int, error) {
	n, err := w.File.Read(b)
	if errors.Is(err, io.EOF) {
		if w.datagrams {
			return 0, nil
		}
		w.eof = true
	}
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	if err := w.SetWriteDeadline(w.deadline()); err != nil {
		return 0, err
	}
	return w.File.Write(b)
}

func (w *wire) Close() error {
	w.stop()
	return w.File.Close()
}

// LocalAddr and RemoteAddr make a net.Conn of it, for TLS and HTTP/2.
func (w *wire) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr returns the server's address.
func (w *wire) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(w.Target) }

// reason says why a connection failed, in as few words as a person needs.
func (p *Endpoint) reason(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case errors.Is(err, unix.ECONNRESET):
		return "reset by the server"
	case errors.Is(err, unix.EHOSTUNREACH):
		return "no route to host"
	case errors.Is(err, unix.ENETUNREACH):
		return "network unreachable"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed by the server"
	case errors.Is(err, os.ErrClosed), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		return "not finished"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer within %v", p.Timeout)
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err.Error()
}
