package address

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/rtnl"
)

// Attributes that x/sys/unix does not name.
const attrProtocol = 11 // IFA_PROTO

// requestNew returns the request that adds the address or refreshes it.
func requestNew(a Address, life Lifetime) (*nl.NetlinkRequest, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	life = life.forFamily(a.Prefix.Addr())
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	msg := a.header()
	msg.Scope = uint8(a.Scope)
	req.AddData(msg)
	a.addEnds(req)
	if a.Broadcast.IsValid() {
		req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, a.Broadcast.AsSlice()))
	}
	if a.Label != "" {
		req.AddData(nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(a.Label)))
	}
	req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(uint32(a.Flags&settable))))
	if a.Protocol != 0 {
		req.AddData(nl.NewRtAttr(attrProtocol, nl.Uint8Attr(a.Protocol)))
	}
	lifetimes := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Prefered: uint32(life.Preferred), Valid: uint32(life.Valid)}}
	req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, lifetimes.Serialize()))
	return req, nil
}

// requestDelete returns the request that removes the address. It names only what identifies an address: interface,
// address, length and peer.
func requestDelete(a Address) (*nl.NetlinkRequest, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	req := nl.NewNetlinkRequest(unix.RTM_DELADDR, unix.NLM_F_ACK)
	req.AddData(a.header())
	a.addEnds(req)
	return req, nil
}

// check tells whether the address can be written into a request.
func (a Address) check() error {
	addr := a.Prefix.Addr()
	switch {
	case !a.Prefix.IsValid() || addr.Is4In6():
		return fmt.Errorf("%v is not an address with a prefix length", a.Prefix)
	case a.Index <= 0:
		return fmt.Errorf("interface index %d is not positive", a.Index)
	case a.Peer.IsValid() && a.Peer.Is4() != addr.Is4():
		return fmt.Errorf("peer %v is not of the family of %v", a.Peer, addr)
	case a.Broadcast.IsValid() && (!a.Broadcast.Is4() || !addr.Is4()):
		return fmt.Errorf("broadcast address %v of %v is not IPv4", a.Broadcast, addr)
	case len(a.Label) >= unix.IFNAMSIZ:
		return fmt.Errorf("label %q is longer than %d bytes", a.Label, unix.IFNAMSIZ-1)
	}
	return nil
}

func (a Address) header() *nl.IfAddrmsg {
	family := unix.AF_INET6
	if a.Prefix.Addr().Is4() {
		family = unix.AF_INET
	}
	msg := nl.NewIfAddrmsg(family)
	msg.Prefixlen = uint8(a.Prefix.Bits())
	msg.Index = uint32(a.Index)
	return msg
}

// addEnds adds the local address and the one at the other end, which is the same where there is no peer.
func (a Address) addEnds(req *nl.NetlinkRequest) {
	local, other := a.Prefix.Addr(), a.Prefix.Addr()
	if a.Peer.IsValid() {
		other = a.Peer
	}
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, local.WithZone("").AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, other.WithZone("").AsSlice()))
}

// ErrMalformed is what Parse returns for a message that is not an address.
var ErrMalformed = errors.New("malformed address message")

// Parse decodes the payload of an RTM_NEWADDR or RTM_DELADDR message.
func Parse(payload []byte) (Address, error) {
	if len(payload) < unix.SizeofIfAddrmsg {
		return Address{}, ErrMalformed
	}
	header := nl.DeserializeIfAddrmsg(payload)
	a := Address{Index: int(header.Index), Scope: Scope(header.Scope), Flags: Flags(header.Flags)}
	var local, other netip.Addr
	for kind, value := range rtnl.Attributes(payload[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		case unix.IFA_ADDRESS:
			other, _ = netip.AddrFromSlice(value)
		case unix.IFA_BROADCAST:
			a.Broadcast, _ = netip.AddrFromSlice(value)
		case unix.IFA_LABEL:
			a.Label = unix.ByteSliceToString(value)
		case unix.IFA_FLAGS:
			a.Flags = Flags(rtnl.Uint32(value))
		case attrProtocol:
			if len(value) >= 1 {
				a.Protocol = value[0]
			}
		}
	}
	// IPv4 gives both, and the local address twice where there is no peer. IPv6 gives the local one only with a peer.
	switch {
	case !local.IsValid():
		local = other
	case other != local:
		a.Peer = other
	}
	a.Prefix = netip.PrefixFrom(local, int(header.Prefixlen))
	if !a.Prefix.IsValid() {
		return Address{}, ErrMalformed
	}
	a.Flags &= reported
	return a, nil
}
