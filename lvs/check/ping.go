package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/lvs/check/verdict"
)

// Ping succeeds when the server answers an ICMP echo request (PING_CHECK; RFC 792, RFC 4443 4.1). The port of the target
// does not count.
//
// It takes an echo socket, which needs no privilege, and where the kernel does not allow those to this process
// (net.ipv4.ping_group_range) a raw one.
type Ping struct{ Endpoint }

func (*Ping) schedule(*verdict.Config) {}

func (p *Ping) prepare(*Engine) (prober, error) { return p, nil }

func (p *Ping) attempt(ctx context.Context, _ int) verdict.Outcome {
	what := fmt.Sprintf("ping %v: ", p.Target.Addr())
	conn, err := p.open(ctx)
	if err != nil {
		return failed(what + p.reason(err))
	}
	defer conn.Close()

	request := icmp.Message{Type: ipv4.ICMPTypeEcho}
	if p.Target.Addr().Is6() {
		request.Type = ipv6.ICMPTypeEchoRequest
	}
	// The kernel replaces the identifier on an echo socket; the random data tells our answer from those of others.
	data := binary.BigEndian.AppendUint64(nil, rand.Uint64())
	echo := &icmp.Echo{ID: rand.IntN(1 << 16), Seq: 1, Data: data}
	request.Body = echo
	packet, err := request.Marshal(nil)
	if err != nil {
		return failed(what + err.Error())
	}
	if _, err := conn.Write(packet); err != nil {
		return failed(what + p.reason(err))
	}
	buffer := make([]byte, 128) // the longest IP header and the reply
	until := conn.deadline()
	for range strayMax {
		if err := conn.SetReadDeadline(until); err != nil {
			return failed(what + p.reason(err))
		}
		n, err := conn.read(buffer)
		if err != nil {
			return failed(what + p.reason(err))
		}
		if p.answers(buffer[:n], echo) {
			return succeeded(what + "answered")
		}
	}
	return failed(fmt.Sprintf("%s%d packets, none of them an answer", what, strayMax))
}

// answers tells whether a packet is the reply to echo. Raw IPv4 sockets deliver the IP header too.
func (p *Ping) answers(packet []byte, echo *icmp.Echo) bool {
	protocol, want := 1, icmp.Type(ipv4.ICMPTypeEchoReply)
	if p.Target.Addr().Is6() {
		protocol, want = 58, ipv6.ICMPTypeEchoReply
	} else if len(packet) > 0 && packet[0]>>4 == 4 {
		packet = packet[min(len(packet), int(packet[0]&15)*4):]
	}
	m, err := icmp.ParseMessage(protocol, packet)
	if err != nil || m.Type != want {
		return false
	}
	reply, ok := m.Body.(*icmp.Echo)
	return ok && reply.Seq == echo.Seq && string(reply.Data) == string(echo.Data)
}

// open returns a socket that is connected to the target.
func (p *Ping) open(ctx context.Context) (*wire, error) {
	protocol := unix.IPPROTO_ICMP
	if p.Target.Addr().Is6() {
		protocol = unix.IPPROTO_ICMPV6
	}
	fd, err := p.socket(unix.SOCK_DGRAM, protocol)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		fd, err = p.socket(unix.SOCK_RAW, protocol)
	}
	if err != nil {
		return nil, err
	}
	return p.connect(ctx, fd, unix.SOCK_DGRAM)
}
