// Package route puts, removes and watches the routes and policy rules of a network namespace.
//
// Route and Rule are the kernel's form: numbers, and interfaces by index. Putting what exists succeeds, removing what is
// absent succeeds, so that both may be repeated at any time; what somebody else made is adopted. A Monitor tells when
// somebody removes routes and rules that carry keepalived's protocol number.
package route

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Protocol is keepalived's number among the makers of routes and rules (RTPROT_KEEPALIVED).
const Protocol = unix.RTPROT_KEEPALIVED

// Family is an address family of the kernel: unix.AF_INET or unix.AF_INET6.
type Family uint8

// Mode says how a route is put beside existing ones with the same destination, TOS and priority.
type Mode uint8

// The modes.
const (
	Prepend Mode = iota // before them
	Append              // after them
	Add                 // not at all
)

// Route is a route. Zero fields are not sent, and the kernel's defaults hold, except for Table, Type, Scope and Protocol,
// which always count.
type Route struct {
	Family      Family
	Table       uint32
	Type        uint8 // unix.RTN_UNICAST, ...
	Scope       uint8
	Protocol    uint8
	TOS         uint8
	Destination netip.Prefix // masked
	From        netip.Prefix // IPv6: of the sources that it is for
	Source      netip.Addr   // preferred source address
	Priority    uint32
	Hops        []Hop // none: a route of a type that leads nowhere, such as blackhole
	Metrics     []Metric
	Expires     time.Duration // IPv6
	Preference  *uint8        // IPv6 router preference (RFC 4191): 0 medium, 1 high, 3 low
	PropagateTL *bool         // MPLS: the time to live is carried over
	Mode        Mode
}

// Hop is where a route leads.
type Hop struct {
	Index  int        // of the interface; 0: the kernel finds it
	Via    netip.Addr // the gateway; unset: the destination is on the link
	OnLink bool       // the gateway is on the link, whatever the addresses say
	Weight int        // 1..256, among the hops of a route; 0: 1
	Realms uint32     // source and destination realm, 16 bits each
	Encap  *Encap
}

// Metric is an attribute of a route (RTAX_*). Text is for the congestion control, which is a name.
type Metric struct {
	Kind   int
	Value  uint32
	Text   string
	Locked bool // the kernel may not change it
}

// Encap is what packets are wrapped into.
type Encap struct {
	Kind    uint16 // EncapMPLS, ...
	Options []EncapOption
}

// EncapOption is one attribute of an encapsulation, in the kernel's representation.
type EncapOption struct {
	Kind  int
	Value []byte
}

// The kinds of encapsulation (LWTUNNEL_ENCAP_*) and their attributes.
const (
	EncapMPLS uint16 = 1
	EncapIP   uint16 = 2
	EncapILA  uint16 = 3
	EncapIP6  uint16 = 4

	EncapMPLSLabels = 1 // MPLS_IPTUNNEL_DST
	EncapILALocator = 1 // ILA_ATTR_LOCATOR

	EncapIPID    = 1 // LWTUNNEL_IP_*; those of IP6 are the same
	EncapIPDst   = 2
	EncapIPSrc   = 3
	EncapIPTTL   = 4
	EncapIPTOS   = 5
	EncapIPFlags = 6
)

// priority6 is what the kernel gives an IPv6 route without a priority (IP6_RT_PRIO_USER).
const priority6 = 1024

// String names what tells a route from others, as ip-route(8) writes it.
func (r Route) String() string {
	var s strings.Builder
	if name := typeNames[r.Type]; name != "" {
		s.WriteString(name + " ")
	}
	s.WriteString(r.Destination.String())
	if r.From.IsValid() {
		fmt.Fprintf(&s, " from %v", r.From)
	}
	if r.TOS != 0 {
		fmt.Fprintf(&s, " tos %#x", r.TOS)
	}
	for _, h := range r.Hops {
		if len(r.Hops) > 1 {
			s.WriteString(" nexthop")
		}
		if h.Via.IsValid() {
			fmt.Fprintf(&s, " via %v", h.Via)
		}
	}
	if r.Table != unix.RT_TABLE_MAIN {
		fmt.Fprintf(&s, " table %d", r.Table)
	}
	if r.Priority != 0 {
		fmt.Fprintf(&s, " metric %d", r.Priority)
	}
	return s.String()
}

var typeNames = map[uint8]string{
	unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast", unix.RTN_ANYCAST: "anycast", unix.RTN_MULTICAST: "multicast",
	unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit",
	unix.RTN_THROW: "throw", unix.RTN_NAT: "nat", unix.RTN_XRESOLVE: "xresolve",
}

// Is tells whether a route that the kernel reports is r, or one of r's hops.
func (r Route) Is(seen Route) bool {
	priority := r.Priority
	if priority == 0 && r.Family == unix.AF_INET6 {
		priority = priority6
	}
	if r.Family != seen.Family || r.Table != seen.Table || r.Destination != seen.Destination || r.From != seen.From ||
		r.TOS != seen.TOS || r.Type != seen.Type || r.Protocol != seen.Protocol || priority != seen.Priority {
		return false
	}
	if len(r.Hops) == 0 || len(seen.Hops) == 0 {
		return true
	}
	for _, mine := range r.Hops {
		for _, other := range seen.Hops {
			if mine.Via == other.Via && (mine.Index == 0 || mine.Index == other.Index) {
				return true
			}
		}
	}
	return false
}
