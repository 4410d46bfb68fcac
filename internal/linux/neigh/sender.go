package neigh

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/arp"
	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/ndp"
)

// ErrUnable is the cause when an interface has no neighbour protocol to speak: it is not Ethernet, or has no ARP.
var ErrUnable = errors.New("the interface does not resolve neighbours")

// Sender sends ARP and neighbour discovery frames on any interface of a network namespace. Its methods may be called by
// any goroutine and never wait.
//
// ARP leaves through a packet socket, which no firewall rule sees. Neighbour advertisements leave as IPv6 packets, so that
// the guard's rules apply to them even if this process is stopped at the worst moment and goes on after its lease.
type Sender struct {
	arp, ipv6 *os.File
	arpConn   syscall.RawConn
	ipv6Conn  syscall.RawConn

	mu    sync.Mutex // guards frame
	frame []byte
}

// OpenSender opens a Sender in the network namespace of the calling thread. Where the kernel has no IPv6 it sends ARP
// only.
func OpenSender() (*Sender, error) {
	s := &Sender{}
	var err error
	// Protocol 0: a socket that only sends.
	s.arp, s.arpConn, err = openSocket(unix.AF_PACKET, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket for ARP: %w", err)
	}
	s.ipv6, s.ipv6Conn, err = openSocket(unix.AF_INET6, unix.IPPROTO_RAW)
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT):
	case err != nil:
		return nil, errors.Join(fmt.Errorf("open raw socket for neighbour discovery: %w", err), s.Close())
	default:
		err = control(s.ipv6Conn, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0)
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("set IPV6_MULTICAST_LOOP: %w", err), s.Close())
		}
	}
	return s, nil
}

// Close ends the use of the Sender.
func (s *Sender) Close() error {
	err := s.arp.Close()
	if s.ipv6 != nil {
		err = errors.Join(err, s.ipv6.Close())
	}
	return err
}

// Announce sends one message that addr is at the hardware address of l: a gratuitous ARP request, or an unsolicited
// neighbour advertisement, whose router flag is set if router is.
func (s *Sender) Announce(l link.Link, addr netip.Addr, router bool) error {
	err := s.able(l)
	switch {
	case err != nil:
	case addr.Is4():
		err = s.sendARP(l, arp.NewGratuitous(l.MAC, addr))
	default:
		err = s.sendND(l, ndp.NewUnsolicited(l.MAC, addr.WithZone(""), router))
	}
	if err != nil {
		return fmt.Errorf("announce %v on %s: %w", addr, l.Name, err)
	}
	return nil
}

// Ask sends one question to the link of l who has addr. It comes from src, an address of l; an unspecified src makes it that of
// address conflict detection (RFC 5227 section 2.1.1, RFC 4862 section 5.4.2), which changes nobody's neighbour cache.
func (s *Sender) Ask(l link.Link, addr, src netip.Addr) error {
	err := s.able(l)
	switch {
	case err != nil:
	case addr.Is4() && src.Is4() && !src.IsUnspecified():
		err = s.sendARP(l, arp.NewRequest(l.MAC, src, addr))
	case addr.Is4():
		err = s.sendARP(l, arp.NewProbe(l.MAC, addr))
	default:
		err = s.sendND(l, ndp.NewProbe(l.MAC, src.WithZone(""), addr.WithZone("")))
	}
	if err != nil {
		return fmt.Errorf("ask for %v on %s: %w", addr, l.Name, err)
	}
	return nil
}

func (s *Sender) able(l link.Link) error {
	if !l.Ethernet || l.NoARP || l.MAC.IsZero() {
		return ErrUnable
	}
	return nil
}

func (s *Sender) sendARP(l link.Link, message arp.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.frame, err = message.AppendFrame(s.frame[:0], ether.Broadcast); err != nil {
		return err
	}
	return send(s.arpConn, s.frame, &unix.SockaddrLinklayer{Protocol: networkOrder(ether.TypeARP), Ifindex: l.Index})
}

func (s *Sender) sendND(l link.Link, message ndp.Message) error {
	if s.ipv6 == nil {
		return unix.EAFNOSUPPORT
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.frame, err = message.AppendPacket(s.frame[:0]); err != nil {
		return err
	}
	return send(s.ipv6Conn, s.frame, &unix.SockaddrInet6{Addr: message.Dst.As16(), ZoneId: uint32(l.Index)})
}
