package speaker

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/hactl/had/bfd"
)

// trafficClass of what is sent: network control (CS6).
const trafficClass = 0xc0

// socketKey says which sessions receive on one socket.
type socketKey struct{ ipv6, multihop bool }

func (k socketKey) network() string {
	if k.ipv6 {
		return "udp6"
	}
	return "udp4"
}

func (k socketKey) unspecified() netip.Addr {
	if k.ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func (k socketKey) port() uint16 {
	if k.multihop {
		return portMultihop
	}
	return portSingleHop
}

// setTTL sets what the headers of sent packets say.
func (k socketKey) setTTL(conn *net.UDPConn, ttl int) error {
	if k.ipv6 {
		c := ipv6.NewConn(conn)
		return errors.Join(c.SetTrafficClass(trafficClass), c.SetHopLimit(ttl))
	}
	c := ipv4.NewConn(conn)
	return errors.Join(c.SetTOS(trafficClass), c.SetTTL(ttl))
}

// socket receives the packets of all neighbors of a family.
type socket struct {
	*net.UDPConn
	key  socketKey
	read func(buffer []byte) (n, ttl int, from net.Addr, err error)
}

func openSocket(key socketKey) (*socket, error) {
	conn, err := net.ListenUDP(key.network(), &net.UDPAddr{Port: int(key.port())})
	if err != nil {
		return nil, fmt.Errorf("listen for BFD: %w", err)
	}
	o := &socket{UDPConn: conn, key: key}
	if key.ipv6 {
		c := ipv6.NewPacketConn(conn)
		err = c.SetControlMessage(ipv6.FlagHopLimit, true)
		o.read = func(buffer []byte) (n, ttl int, from net.Addr, err error) {
			n, cm, from, err := c.ReadFrom(buffer)
			if cm != nil {
				ttl = cm.HopLimit
			}
			return n, ttl, from, err
		}
	} else {
		c := ipv4.NewPacketConn(conn)
		err = c.SetControlMessage(ipv4.FlagTTL, true)
		o.read = func(buffer []byte) (n, ttl int, from net.Addr, err error) {
			n, cm, from, err := c.ReadFrom(buffer)
			if cm != nil {
				ttl = cm.TTL
			}
			return n, ttl, from, err
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for BFD on %v: %w", conn.LocalAddr(), err), conn.Close())
	}
	return o, nil
}

// receive hands on the packets that are well-formed until the socket is closed. When the sessions are behind they are
// dropped.
func (o *socket) receive(packets chan<- packet) {
	buffer := make([]byte, 512)
	for {
		n, ttl, from, err := o.read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		udp, ok := from.(*net.UDPAddr)
		if err != nil || !ok {
			continue
		}
		p, err := bfd.Parse(buffer[:n])
		if err != nil {
			continue
		}
		select {
		case packets <- packet{from: udp.AddrPort().Addr().Unmap().WithZone(""), to: o.key, ttl: ttl, Packet: p}:
		default:
		}
	}
}
