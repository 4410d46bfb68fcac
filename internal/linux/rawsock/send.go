package rawsock

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Send sends a VRRP message from src to dst, without waiting. src need not be an address of this machine over IPv4; over
// IPv6 it must be.
func (s *Socket) Send(src, dst netip.Addr, message []byte) error {
	var err error
	if src.Is6() != s.config.IPv6 || dst.Is6() != s.config.IPv6 || !src.IsValid() || !dst.IsValid() {
		err = fmt.Errorf("addresses are not of the family of socket %v", s.config)
	} else if s.config.IPv6 {
		err = s.sendIPv6(src, dst, message)
	} else {
		err = s.sendIPv4(src, dst, message)
	}
	if err != nil {
		return fmt.Errorf("send VRRP message from %v to %v: %w", src, dst, err)
	}
	return nil
}

func (s *Socket) sendIPv4(src, dst netip.Addr, message []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The kernel would choose the identification itself for 0.
	if s.identification++; s.identification == 0 {
		s.identification = 1
	}
	s.packet = appendIPv4Header(s.packet[:0], src, dst, s.config.TTL, s.identification, len(message))
	s.packet = append(s.packet, message...)
	return s.write(s.packet, nil, &unix.SockaddrInet4{Addr: dst.As4()})
}

func (s *Socket) sendIPv6(src, dst netip.Addr, message []byte) error {
	control := unix.PktInfo6(&unix.Inet6Pktinfo{Addr: src.As16(), Ifindex: uint32(s.config.Index)})
	return s.write(message, control, &unix.SockaddrInet6{Addr: dst.As16(), ZoneId: uint32(s.config.Index)})
}

// write sends one packet. It does not wait: an advertisement that the queue has no room for is better lost than late.
func (s *Socket) write(packet, control []byte, to unix.Sockaddr) error {
	var err error
	controlErr := s.conn.Control(func(fd uintptr) {
		_, err = unix.SendmsgN(int(fd), packet, control, to, unix.MSG_DONTWAIT)
	})
	if controlErr != nil {
		return os.ErrClosed
	}
	return err
}

// ipv4HeaderLen is the length of an IPv4 header without options, in bytes.
const ipv4HeaderLen = 20

// appendIPv4Header appends the header of a packet. The kernel fills in the checksum.
func appendIPv4Header(b []byte, src, dst netip.Addr, ttl int, identification uint16, payload int) []byte {
	b = append(b, 0x45, internetControl)
	b = binary.BigEndian.AppendUint16(b, uint16(ipv4HeaderLen+payload))
	b = binary.BigEndian.AppendUint16(b, identification)
	b = append(b, 0, 0, uint8(ttl), Protocol, 0, 0)
	b = append(b, src.AsSlice()...)
	return append(b, dst.AsSlice()...)
}
