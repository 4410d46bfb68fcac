package route

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/rtnl"
)

// request returns the request that adds a route (RTM_NEWROUTE) or removes it (RTM_DELROUTE). For the latter the scope is
// left open: it follows from what else is given.
func request(r Route, kind int) (*nl.NetlinkRequest, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	flags := unix.NLM_F_ACK
	if kind == unix.RTM_NEWROUTE {
		flags |= unix.NLM_F_CREATE | map[Mode]int{Append: unix.NLM_F_APPEND, Add: unix.NLM_F_EXCL}[r.Mode]
	}
	req := nl.NewNetlinkRequest(kind, flags)
	msg := nl.NewRtMsg()
	msg.Family, msg.Type, msg.Scope, msg.Protocol, msg.Tos = uint8(r.Family), r.Type, r.Scope, r.Protocol, r.TOS
	if kind == unix.RTM_DELROUTE {
		msg.Scope = unix.RT_SCOPE_NOWHERE
	}
	req.AddData(msg)
	add := func(kind int, value []byte) { req.AddData(nl.NewRtAttr(kind, value)) }

	msg.Dst_len = uint8(r.Destination.Bits())
	add(unix.RTA_DST, r.Destination.Addr().AsSlice())
	if r.From.IsValid() {
		msg.Src_len = uint8(r.From.Bits())
		add(unix.RTA_SRC, r.From.Addr().AsSlice())
	}
	msg.Table = unix.RT_TABLE_UNSPEC
	if r.Table <= math.MaxUint8 {
		msg.Table = uint8(r.Table)
	}
	add(unix.RTA_TABLE, nl.Uint32Attr(r.Table))
	if r.Source.IsValid() {
		add(unix.RTA_PREFSRC, r.Source.AsSlice())
	}
	if r.Priority != 0 {
		add(unix.RTA_PRIORITY, nl.Uint32Attr(r.Priority))
	}
	if r.Expires != 0 {
		add(unix.RTA_EXPIRES, nl.Uint32Attr(uint32(r.Expires/time.Second)))
	}
	if r.Preference != nil {
		add(unix.RTA_PREF, nl.Uint8Attr(*r.Preference))
	}
	if r.PropagateTL != nil {
		propagate := map[bool]uint8{true: 1}[*r.PropagateTL]
		add(unix.RTA_TTL_PROPAGATE, nl.Uint8Attr(propagate))
	}
	if len(r.Metrics) > 0 {
		req.AddData(metrics(r.Metrics))
	}
	switch len(r.Hops) {
	case 0:
	case 1:
		h := r.Hops[0]
		if h.OnLink {
			msg.Flags |= unix.RTNH_F_ONLINK
		}
		if h.Index != 0 {
			add(unix.RTA_OIF, nl.Uint32Attr(uint32(h.Index)))
		}
		for _, attr := range h.attributes(r.Family) {
			req.AddData(attr)
		}
	default:
		var hops []byte
		for _, h := range r.Hops {
			hops = append(hops, h.serialize(r.Family)...)
		}
		add(unix.RTA_MULTIPATH, hops)
	}
	return req, nil
}

// check tells whether the route can be written into a request.
func (r Route) check() error {
	same := func(a netip.Addr) bool { return a.Is4() == (r.Family == unix.AF_INET) && !a.Is4In6() }
	switch {
	case !r.Destination.IsValid() || !same(r.Destination.Addr()):
		return fmt.Errorf("%v is not a destination of its family", r.Destination)
	case r.From.IsValid() && !same(r.From.Addr()):
		return fmt.Errorf("%v is not of the family of %v", r.From, r.Destination)
	case r.Source.IsValid() && !same(r.Source):
		return fmt.Errorf("%v is not of the family of %v", r.Source, r.Destination)
	}
	return nil
}

// serialize returns the hop as one of several (struct rtnexthop).
func (h Hop) serialize(family Family) []byte {
	hop := &nl.RtNexthop{RtNexthop: unix.RtNexthop{Ifindex: int32(h.Index), Hops: uint8(max(h.Weight, 1) - 1)}}
	if h.OnLink {
		hop.Flags = unix.RTNH_F_ONLINK
	}
	for _, attr := range h.attributes(family) {
		hop.Children = append(hop.Children, attr)
	}
	return hop.Serialize()
}

// attributes are those that a hop has alone and among others.
func (h Hop) attributes(family Family) []*nl.RtAttr {
	var all []*nl.RtAttr
	switch {
	case !h.Via.IsValid():
	case h.Via.Is4() == (family == unix.AF_INET):
		all = append(all, nl.NewRtAttr(unix.RTA_GATEWAY, h.Via.AsSlice()))
	default:
		via := binary.NativeEndian.AppendUint16(nil, map[bool]uint16{true: unix.AF_INET, false: unix.AF_INET6}[h.Via.Is4()])
		all = append(all, nl.NewRtAttr(unix.RTA_VIA, append(via, h.Via.AsSlice()...)))
	}
	if h.Realms != 0 {
		all = append(all, nl.NewRtAttr(unix.RTA_FLOW, nl.Uint32Attr(h.Realms)))
	}
	if h.Encap != nil {
		encap := nl.NewRtAttr(unix.RTA_ENCAP, nil)
		for _, o := range h.Encap.Options {
			encap.AddRtAttr(o.Kind, o.Value)
		}
		all = append(all, nl.NewRtAttr(unix.RTA_ENCAP_TYPE, nl.Uint16Attr(h.Encap.Kind)), encap)
	}
	return all
}

// metrics returns RTA_METRICS.
func metrics(list []Metric) *nl.RtAttr {
	attr := nl.NewRtAttr(unix.RTA_METRICS, nil)
	var lock uint32
	for _, m := range list {
		if m.Locked {
			lock |= 1 << m.Kind
		}
		if m.Text != "" {
			attr.AddRtAttr(m.Kind, nl.ZeroTerminated(m.Text))
			continue
		}
		attr.AddRtAttr(m.Kind, nl.Uint32Attr(m.Value))
	}
	if lock != 0 {
		attr.AddRtAttr(unix.RTAX_LOCK, nl.Uint32Attr(lock))
	}
	return attr
}

// ErrMalformed is what Parse and ParseRule return for a message that is not a route or a rule of IPv4 or IPv6.
var ErrMalformed = errors.New("malformed message")

// Parse decodes what Is needs to know of an RTM_NEWROUTE or RTM_DELROUTE message.
func Parse(payload []byte) (Route, error) {
	if len(payload) < unix.SizeofRtMsg {
		return Route{}, ErrMalformed
	}
	msg := nl.DeserializeRtMsg(payload)
	r := Route{Family: Family(msg.Family), Table: uint32(msg.Table), Type: msg.Type, Scope: msg.Scope, Protocol: msg.Protocol,
		TOS: msg.Tos}
	anywhere, ok := unspecified(r.Family)
	if !ok {
		return Route{}, ErrMalformed
	}
	r.Destination = netip.PrefixFrom(anywhere, 0)
	var hop Hop
	for kind, value := range rtnl.Attributes(payload[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			r.Destination, ok = prefix(value, r.Family, msg.Dst_len)
		case unix.RTA_SRC:
			r.From, ok = prefix(value, r.Family, msg.Src_len)
		case unix.RTA_TABLE:
			r.Table = rtnl.Uint32(value)
		case unix.RTA_PRIORITY:
			r.Priority = rtnl.Uint32(value)
		case unix.RTA_PREFSRC:
			r.Source, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			hop.Index = int(rtnl.Uint32(value))
		case unix.RTA_MULTIPATH:
			r.Hops = parseHops(value)
		default:
			hop.parse(kind, value)
		}
		if !ok {
			return Route{}, ErrMalformed
		}
	}
	if hop.Index != 0 || hop.Via.IsValid() {
		r.Hops = append(r.Hops, hop)
	}
	return r, nil
}

// parse takes in an attribute of a hop.
func (h *Hop) parse(kind uint16, value []byte) {
	switch kind {
	case unix.RTA_GATEWAY:
		h.Via, _ = netip.AddrFromSlice(value)
	case unix.RTA_VIA:
		if len(value) > 2 {
			h.Via, _ = netip.AddrFromSlice(value[2:])
		}
	}
}

// parseHops decodes RTA_MULTIPATH. What cannot be a hop ends it.
func parseHops(b []byte) []Hop {
	var hops []Hop
	for len(b) >= unix.SizeofRtNexthop {
		header := nl.DeserializeRtNexthop(b)
		length := int(header.RtNexthop.Len)
		if length < unix.SizeofRtNexthop || length > len(b) {
			break
		}
		h := Hop{Index: int(header.Ifindex), Weight: int(header.Hops) + 1}
		for kind, value := range rtnl.Attributes(b[unix.SizeofRtNexthop:length]) {
			h.parse(kind, value)
		}
		hops = append(hops, h)
		b = b[min((length+3)/4*4, len(b)):]
	}
	return hops
}

// unspecified is the address of a family whose bits are all zero.
func unspecified(f Family) (netip.Addr, bool) {
	switch f {
	case unix.AF_INET:
		return netip.IPv4Unspecified(), true
	case unix.AF_INET6:
		return netip.IPv6Unspecified(), true
	}
	return netip.Addr{}, false
}

// prefix reads an address of a family with the length that the header gives it.
func prefix(value []byte, f Family, bits uint8) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(value)
	if !ok || addr.Is4() != (f == unix.AF_INET) || int(bits) > addr.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, int(bits)), true
}
