package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// wire is a connection on which each read and write has its own time, and all together have the attempt's.
type wire struct {
	net.Conn
	timeout time.Duration
	limit   time.Time // of the attempt
	stop    func() bool
	eof     bool // the peer has closed
}

// dial connects. The end of ctx closes the connection. network is tcp or udp.
func (p *Endpoint) dial(ctx context.Context, network string) (*wire, error) {
	dialer := net.Dialer{Timeout: p.Timeout, KeepAlive: -1, FallbackDelay: -1, Control: p.control}
	if p.Bind.IsValid() || p.BindPort != 0 {
		from := p.Bind
		if !from.IsValid() {
			from = netip.IPv4Unspecified()
			if p.Target.Addr().Is6() {
				from = netip.IPv6Unspecified()
			}
		}
		if network == "udp" {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, p.BindPort))
		} else {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, p.BindPort))
		}
	}
	conn, err := dialer.DialContext(ctx, network, p.Target.String())
	if err != nil {
		return nil, fmt.Errorf("connect %v: %s", p.Target, p.reason(err))
	}
	return p.wire(ctx, conn), nil
}

func (p Endpoint) timeout() time.Duration { return p.Timeout }

// wire puts the times of the attempt on a connection.
func (p *Endpoint) wire(ctx context.Context, conn net.Conn) *wire {
	limit, _ := ctx.Deadline()
	return &wire{Conn: conn, timeout: p.Timeout, limit: limit, stop: context.AfterFunc(ctx, func() { conn.Close() })}
}

// control sets up a socket before it is bound and connected.
func (p *Endpoint) control(network, _ string, raw syscall.RawConn) error {
	if p.Mark == 0 && p.Interface == "" && !p.Bind.IsValid() && p.BindPort == 0 {
		return nil
	}
	var err error
	if e := raw.Control(func(fd uintptr) { err = p.setup(int(fd)) }); e != nil {
		return e
	}
	return err
}

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
	if p.BindPort != 0 { // its last connection may still be in TIME_WAIT
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if p.Bind.IsValid() { // the port is chosen when the peer is known, so that more connections than ports are possible
		return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}
	return nil
}

func (w *wire) deadline() time.Time {
	t := time.Now().Add(w.timeout)
	if !w.limit.IsZero() && w.limit.Before(t) {
		return w.limit
	}
	return t
}

func (w *wire) Read(b []byte) (int, error) {
	if err := w.Conn.SetReadDeadline(w.deadline()); err != nil {
		return 0, err
	}
	n, err := w.Conn.Read(b)
	w.eof = w.eof || errors.Is(err, io.EOF)
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	if err := w.Conn.SetWriteDeadline(w.deadline()); err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}

func (w *wire) Close() error {
	w.stop()
	return w.Conn.Close()
}

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
	case errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		return "not finished"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer within %v", p.Timeout)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err.Error()
}
