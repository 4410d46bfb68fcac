package neigh

import (
	"fmt"
	"net/netip"

	"github.com/hactl/had/internal/linux/arp"
	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/ndp"
)

// Kind says by which message a station claims an address.
type Kind uint8

// The kinds of claims.
const (
	GratuitousARP         Kind = iota + 1 // announces the address to all
	ARPReply                              // answers somebody's question
	ARPRequest                            // asks for another address, naming this one as its own
	NeighborAdvertisement                 // announces the address or answers
	NeighborSolicitation                  // asks for another address from this one
)

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case GratuitousARP:
		return "gratuitous ARP"
	case ARPReply:
		return "ARP reply"
	case ARPRequest:
		return "ARP request"
	case NeighborAdvertisement:
		return "neighbour advertisement"
	case NeighborSolicitation:
		return "neighbour solicitation"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Claim is a message by which a station says that it has an address.
type Claim struct {
	Interface string
	Index     int
	Addr      netip.Addr
	MAC       ether.MAC // hardware address that is to be used for Addr
	Sender    ether.MAC // source of the frame; differs from MAC behind a proxy
	Kind      Kind

	// Ours says that MAC is that of an interface of this machine, seen on another one on the same link. A virtual router
	// MAC is never taken for ours: another router has the same.
	Ours bool

	// Suppressed is the number of equal claims that were not reported since the last one that was.
	Suppressed int
}

// parseClaim returns the claim that a received frame makes. ok is false if it makes none.
func parseClaim(frame []byte) (c Claim, ok bool) {
	header, payload, ok := ether.Parse(frame)
	if !ok {
		return Claim{}, false
	}
	switch header.Type {
	case ether.TypeARP:
		c, ok = arpClaim(payload)
	case ether.TypeIPv6:
		c, ok = ndClaim(payload)
	default:
		return Claim{}, false
	}
	c.Sender = header.Src
	if c.MAC.IsZero() {
		c.MAC = header.Src
	}
	return c, ok
}

func arpClaim(payload []byte) (Claim, bool) {
	m, err := arp.Parse(payload)
	if err != nil || m.SenderIP.IsUnspecified() {
		return Claim{}, false
	}
	c := Claim{Addr: m.SenderIP, MAC: m.SenderMAC}
	switch {
	case m.Gratuitous():
		c.Kind = GratuitousARP
	case m.Operation == arp.Reply:
		c.Kind = ARPReply
	case m.Operation == arp.Request:
		c.Kind = ARPRequest
	default:
		return Claim{}, false
	}
	return c, true
}

func ndClaim(payload []byte) (Claim, bool) {
	m, err := ndp.Parse(payload)
	switch {
	case err != nil:
		return Claim{}, false
	case m.Type == ndp.Advertisement:
		return Claim{Addr: m.Target, MAC: m.LinkLayer, Kind: NeighborAdvertisement}, true
	case m.Src.IsUnspecified(): // duplicate address detection: only a question
		return Claim{}, false
	}
	return Claim{Addr: m.Src, MAC: m.LinkLayer, Kind: NeighborSolicitation}, true
}

// virtualRouterMAC tells whether mac is one that all routers of a virtual router share (RFC 9568 section 7.3).
func virtualRouterMAC(mac ether.MAC) bool {
	return mac[0] == 0 && mac[1] == 0 && mac[2] == 0x5e && mac[3] == 0 && (mac[4] == 1 || mac[4] == 2)
}
