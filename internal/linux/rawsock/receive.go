package rawsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// ErrMalformed is what Receive returns for a packet whose IP header or control data make no sense.
var ErrMalformed = errors.New("malformed packet")

// Receive waits for the next message. Its Payload is valid until the next call. os.ErrClosed is the end; after any other
// error Receive may be called again.
func (s *Socket) Receive() (Datagram, error) {
	for {
		d, err := s.receive()
		// A raw IPv6 socket also hears the groups that other sockets of the interface have joined.
		if err != nil || !d.Dst.IsMulticast() || d.Dst == s.config.Group {
			return d, err
		}
	}
}

// message is one that the kernel has given, as it came.
type message struct {
	buf, control  []byte
	n, controlLen int
	flags         int
	from          unix.Sockaddr
}

// atOnce is how many messages are taken from the kernel at once, if they are there: who works on them is then woken once.
const atOnce = 16

// fill takes what is there from the kernel, once there is something.
func (s *Socket) fill() error {
	s.next, s.filled = 0, 0
	var err error
	readErr := s.conn.Read(func(fd uintptr) bool {
		for s.filled < atOnce {
			m := &s.messages[s.filled]
			if m.buf == nil {
				m.buf, m.control = make([]byte, packetSize), make([]byte, controlSize)
			}
			m.n, m.controlLen, m.flags, m.from, err = unix.Recvmsg(int(fd), m.buf, m.control, 0)
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				return s.filled > 0 || !errors.Is(err, unix.EAGAIN)
			default:
				s.filled++
			}
		}
		return true
	})
	switch {
	case readErr != nil: // the poller fails for no other reason
		return os.ErrClosed
	case s.filled == 0:
		return fmt.Errorf("receive on VRRP socket %v: %w", s.config, err)
	}
	return nil
}

func (s *Socket) receive() (Datagram, error) {
	if s.next == s.filled {
		if err := s.fill(); err != nil {
			return Datagram{}, err
		}
	}
	m := &s.messages[s.next]
	s.next++
	if m.flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return Datagram{}, fmt.Errorf("receive on VRRP socket %v: %w: larger than %d bytes", s.config, ErrMalformed, packetSize)
	}
	var err error
	var d Datagram
	if s.config.IPv6 {
		sender, _ := m.from.(*unix.SockaddrInet6)
		if sender != nil {
			d.Src = netip.AddrFrom16(sender.Addr)
		}
		d.Payload = m.buf[:m.n]
	} else {
		d, err = parseIPv4(m.buf[:m.n])
	}
	if err == nil {
		err = d.parseControl(m.control[:m.controlLen])
	}
	if err != nil {
		return Datagram{}, fmt.Errorf("receive on VRRP socket %v: %w", s.config, err)
	}
	return d, nil
}

// parseIPv4 splits an IPv4 packet. Bytes behind the length in its header are padding of the link and cut off.
func parseIPv4(packet []byte) (Datagram, error) {
	if len(packet) < ipv4HeaderLen || packet[0]>>4 != 4 {
		return Datagram{}, ErrMalformed
	}
	headerLen := int(packet[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(packet[2:]))
	if headerLen < ipv4HeaderLen || total < headerLen || total > len(packet) {
		return Datagram{}, ErrMalformed
	}
	return Datagram{
		Src:     netip.AddrFrom4([4]byte(packet[12:16])),
		Dst:     netip.AddrFrom4([4]byte(packet[16:20])),
		TTL:     int(packet[8]),
		Payload: packet[headerLen:total],
	}, nil
}

// parseControl takes the interface, and for IPv6 destination and hop limit, from the control data of a packet.
func (d *Datagram) parseControl(control []byte) error {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 4:
			d.Index = int(binary.NativeEndian.Uint32(m.Data))
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 20:
			d.Dst = netip.AddrFrom16([16]byte(m.Data))
			d.Index = int(binary.NativeEndian.Uint32(m.Data[16:]))
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4:
			d.TTL = int(binary.NativeEndian.Uint32(m.Data))
		}
	}
	if !d.Src.IsValid() || !d.Dst.IsValid() || d.Index == 0 {
		return ErrMalformed
	}
	return nil
}
