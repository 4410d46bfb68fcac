// Package echo asks hosts whether they are there, by ICMP (RFC 792) and ICMPv6 (RFC 4443).
package echo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Question is one echo request.
type Question struct {
	Host      netip.Addr
	Source    netip.Addr // invalid: what the kernel chooses
	Interface string     // empty: by the routing table
}

// protocolICMP and protocolICMPv6 are the numbers by which messages are parsed.
const (
	protocolICMP   = 1
	protocolICMPv6 = 58
)

// nonceLen is how much of an echo request is random, so that nothing but its own answer passes for it, in bytes.
const nonceLen = 16

// Ask sends an echo request and waits for the answer to it, until the deadline of ctx or until ctx ends. It returns nil if the
// host has answered; else why it is not known to be there: os.ErrDeadlineExceeded if nothing was heard. It needs CAP_NET_RAW,
// and works in the network namespace of the calling thread. Any goroutine may call it.
func Ask(ctx context.Context, q Question) error {
	if err := ask(ctx, q); err != nil {
		return fmt.Errorf("echo request to %v: %w", q.Host, err)
	}
	return nil
}

func ask(ctx context.Context, q Question) error {
	conn, err := dial(ctx, q)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	nonce := make([]byte, nonceLen)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	request := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{
		ID: int(binary.BigEndian.Uint16(nonce)), Seq: 1, Data: nonce}}
	protocol, answer := protocolICMP, icmp.Type(ipv4.ICMPTypeEchoReply)
	if q.Host.Is6() {
		request.Type = ipv6.ICMPTypeEchoRequest
		protocol, answer = protocolICMPv6, ipv6.ICMPTypeEchoReply
	}
	b, err := request.Marshal(nil) // the kernel computes the checksum of ICMPv6
	if err != nil {
		return err
	}
	if _, err := conn.Write(b); err != nil {
		return err
	}
	for b := make([]byte, 1500); ; {
		n, _, err := conn.ReadFromIP(b)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(protocol, b[:n])
		if err != nil || m.Type != answer {
			continue // a raw socket hears everything of its protocol that the host sends
		}
		if e, ok := m.Body.(*icmp.Echo); ok && bytes.Equal(e.Data, nonce) {
			return nil
		}
	}
}

// dial opens a raw socket that hears the host alone.
func dial(ctx context.Context, q Question) (*net.IPConn, error) {
	network, host := "ip4:icmp", q.Host
	if host.Is6() {
		network = "ip6:ipv6-icmp"
		if host.IsLinkLocalUnicast() {
			host = host.WithZone(q.Interface)
		}
	}
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		if q.Interface == "" {
			return nil
		}
		var bound error
		err := raw.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), q.Interface) })
		return errors.Join(err, bound)
	}}
	if q.Source.IsValid() {
		source := q.Source
		if source.IsLinkLocalUnicast() {
			source = source.WithZone(q.Interface)
		}
		d.LocalAddr = &net.IPAddr{IP: source.AsSlice(), Zone: source.Zone()}
	}
	conn, err := d.DialContext(ctx, network, host.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.IPConn), nil
}
