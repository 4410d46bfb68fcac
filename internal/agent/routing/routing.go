// Package routing turns the routes and rules of a configuration into the kernel's form. It is pure: names are looked up in
// tables that the caller has read, and interfaces in what the caller knows of them.
package routing

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/route"
)

// Route is a configured route: the kernel's form but for the interfaces, which may come and go.
type Route struct {
	Track bool // its removal by somebody else has a consequence

	kernel     route.Route
	interfaces []string // of the hops; empty: the kernel finds it
	vrf        string
}

// Rule is a configured rule.
type Rule struct {
	Track  bool
	Kernel route.Rule
}

// Links finds an interface by its name.
type Links func(name string) (link.Link, bool)

var types = map[string]uint8{
	"": unix.RTN_UNICAST, "unicast": unix.RTN_UNICAST, "local": unix.RTN_LOCAL, "nat": unix.RTN_NAT,
	"broadcast": unix.RTN_BROADCAST, "brd": unix.RTN_BROADCAST, "anycast": unix.RTN_ANYCAST, "multicast": unix.RTN_MULTICAST,
	"prohibit": unix.RTN_PROHIBIT, "unreachable": unix.RTN_UNREACHABLE, "blackhole": unix.RTN_BLACKHOLE,
	"xresolve": unix.RTN_XRESOLVE, "throw": unix.RTN_THROW,
}

// scopes are those that the kernel demands of IPv4 routes of some types. All others have global scope unless one is given,
// as in keepalived, whatever the gateway.
var scopes = map[uint8]uint8{
	unix.RTN_LOCAL: unix.RT_SCOPE_HOST, unix.RTN_BROADCAST: unix.RT_SCOPE_LINK, unix.RTN_ANYCAST: unix.RT_SCOPE_LINK,
}

// Route turns a route into the kernel's form. An error says that a name is not known on this machine.
func (n Names) Route(c conf.Route) (Route, error) {
	r := Route{Track: c.Track, vrf: c.VRF}
	k := route.Route{Family: family(c.Family), Destination: c.Destination.Masked(), From: c.From.Masked(), Source: c.Source,
		Type: types[c.Type], Priority: c.Metric.Value, Expires: c.Expires,
		Mode: map[conf.RouteMode]route.Mode{conf.RouteAppend: route.Append, conf.RouteAdd: route.Add}[c.Mode]}
	if c.Family == conf.IPv4 {
		k.Scope = scopes[k.Type]
	}
	if c.Scope.Set {
		k.Scope = uint8(c.Scope.Value)
	}
	var err error
	if k.TOS, err = octet(c.TOS, n.DSFields, "TOS"); err != nil {
		return Route{}, err
	}
	if k.Protocol, err = n.maker(c.Protocol, c.Track); err != nil {
		return Route{}, err
	}
	k.Table = unix.RT_TABLE_MAIN
	if c.Table.Set {
		if k.Table, err = number(c.Table, n.Tables, "routing table"); err != nil {
			return Route{}, err
		}
	}
	if c.Preference.Set {
		preference := uint8(c.Preference.Value)
		k.Preference = &preference
	}
	if c.TTLPropag.Set {
		propagate := c.TTLPropag.Value != 0
		k.PropagateTL = &propagate
	}
	k.Metrics = metrics(c)
	hops := c.Nexthops
	if len(hops) == 0 && (c.Via.IsValid() || c.Interface != "" || c.Realms != "" || len(c.Encap) > 0) {
		hops = []conf.Nexthop{{Via: c.Via, Interface: c.Interface, OnLink: c.OnLink, Realms: c.Realms, Encap: c.Encap}}
	}
	for _, c := range hops {
		hop := route.Hop{Via: c.Via, OnLink: c.OnLink, Weight: c.Weight}
		if hop.Realms, err = n.realms(c.Realms); err != nil {
			return Route{}, err
		}
		if hop.Encap, err = n.encap(c.Encap); err != nil {
			return Route{}, err
		}
		k.Hops, r.interfaces = append(k.Hops, hop), append(r.interfaces, c.Interface)
	}
	r.kernel = k
	return r, nil
}

// maker is the protocol number. What is tracked has keepalived's.
func (n Names) maker(c conf.Number, track bool) (uint8, error) {
	if track || !c.Set {
		return route.Protocol, nil
	}
	return octet(c, n.Protocols, "routing protocol")
}

func family(f conf.Family) route.Family {
	if f == conf.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// Kernel returns the route for the interfaces that there are. An error says which one is missing.
func (r Route) Kernel(links Links) (route.Route, error) {
	k := r.kernel
	if r.vrf != "" {
		l, ok := links(r.vrf)
		if !ok || l.VRFTable == 0 {
			return route.Route{}, fmt.Errorf("put route %v: %s is not a VRF", r, r.vrf)
		}
		k.Table = l.VRFTable
	}
	k.Hops = slices.Clone(k.Hops)
	for i, name := range r.interfaces {
		if name == "" {
			continue
		}
		l, ok := links(name)
		if !ok {
			return route.Route{}, fmt.Errorf("put route %v: interface %s does not exist", r, name)
		}
		k.Hops[i].Index = l.Index
	}
	return k, nil
}

// DependsOn tells whether the kernel may have removed the route, without a word, because an interface went down or an
// address was removed from it; addr is unset for the interface as a whole.
func (r Route) DependsOn(iface string, addr netip.Addr) bool {
	if addr.IsValid() {
		return r.kernel.Source == addr
	}
	named := false
	for _, name := range append(r.interfaces, r.vrf) {
		if name == iface {
			return true
		}
		named = named || name != ""
	}
	return !named && len(r.kernel.Hops) > 0 // through whichever interface leads to the gateway
}

// String names the route as ip-route(8) writes it.
func (r Route) String() string { return r.kernel.String() }

// metrics lists the attributes that are given.
func metrics(c conf.Route) []route.Metric {
	var list []route.Metric
	number := func(kind int, m conf.Metric) {
		if m.Set {
			list = append(list, route.Metric{Kind: kind, Value: m.Value, Locked: m.Lock})
		}
	}
	span := func(kind int, m conf.TimeMetric, perMillisecond time.Duration) {
		if m.Set {
			value := uint32(m.Value / (time.Millisecond / perMillisecond))
			list = append(list, route.Metric{Kind: kind, Value: value, Locked: m.Lock})
		}
	}
	number(unix.RTAX_MTU, c.MTU)
	number(unix.RTAX_WINDOW, c.Window)
	span(unix.RTAX_RTT, c.RTT, 8)
	span(unix.RTAX_RTTVAR, c.RTTVar, 4)
	number(unix.RTAX_SSTHRESH, c.SSThresh)
	number(unix.RTAX_CWND, c.Cwnd)
	number(unix.RTAX_ADVMSS, c.AdvMSS)
	number(unix.RTAX_REORDERING, c.Reordering)
	number(unix.RTAX_HOPLIMIT, c.HopLimit)
	number(unix.RTAX_INITCWND, c.InitCwnd)
	if c.ECN {
		list = append(list, route.Metric{Kind: unix.RTAX_FEATURES, Value: unix.RTAX_FEATURE_ECN})
	}
	span(unix.RTAX_RTO_MIN, c.RTOMin, 1)
	number(unix.RTAX_INITRWND, c.InitRwnd)
	number(unix.RTAX_QUICKACK, c.QuickAck)
	if c.CongCtl != "" {
		list = append(list, route.Metric{Kind: unix.RTAX_CC_ALGO, Text: c.CongCtl, Locked: c.CongCtlLock})
	}
	number(unix.RTAX_FASTOPEN_NO_COOKIE, c.FastOpen)
	return list
}

// encap turns the words of an encapsulation, which the loader has checked for their form, into the kernel's attributes.
func (n Names) encap(words []string) (*route.Encap, error) {
	if len(words) == 0 {
		return nil, nil
	}
	switch words[0] {
	case "mpls":
		return encapMPLS(words[1])
	case "ila":
		return encapILA(words[1])
	}
	e := &route.Encap{Kind: map[string]uint16{"ip": route.EncapIP, "ip6": route.EncapIP6}[words[0]]}
	for i := 1; i+1 < len(words); i += 2 {
		var o route.EncapOption
		word, value := words[i], words[i+1]
		switch word {
		case "dst", "src":
			addr, err := netip.ParseAddr(value)
			if err != nil || addr.Is4() != (e.Kind == route.EncapIP) {
				return nil, fmt.Errorf("encap %s: %s %s is not an address of its family", words[0], word, value)
			}
			o = route.EncapOption{Kind: map[string]int{"dst": route.EncapIPDst, "src": route.EncapIPSrc}[word],
				Value: addr.AsSlice()}
		case "tos", "tc":
			tos, known := n.DSFields[value]
			if !known {
				number, err := strconv.ParseUint(value, 0, 8)
				if err != nil {
					return nil, fmt.Errorf("encap %s: no TOS is called %q on this machine", words[0], value)
				}
				tos = uint32(number)
			}
			o = route.EncapOption{Kind: route.EncapIPTOS, Value: []byte{uint8(tos)}}
		default:
			bits := map[string]int{"id": 64, "ttl": 8, "hoplimit": 8, "flags": 16}[word]
			number, err := strconv.ParseUint(value, 0, bits)
			if err != nil {
				return nil, fmt.Errorf("encap %s: %s %s is not a number of %d bits", words[0], word, value, bits)
			}
			switch word {
			case "id":
				o = route.EncapOption{Kind: route.EncapIPID, Value: binary.BigEndian.AppendUint64(nil, number)}
			case "flags":
				o = route.EncapOption{Kind: route.EncapIPFlags, Value: binary.NativeEndian.AppendUint16(nil, uint16(number))}
			default:
				o = route.EncapOption{Kind: route.EncapIPTTL, Value: []byte{uint8(number)}}
			}
		}
		e.Options = append(e.Options, o)
	}
	return e, nil
}

// encapMPLS reads LABEL[/LABEL...] into a label stack (RFC 3032).
func encapMPLS(text string) (*route.Encap, error) {
	labels := strings.Split(text, "/")
	var stack []byte
	for i, label := range labels {
		number, err := strconv.ParseUint(label, 0, 20)
		if err != nil {
			return nil, fmt.Errorf("encap mpls: %s is not a label", label)
		}
		entry := uint32(number) << 12
		if i == len(labels)-1 {
			entry |= 1 << 8 // bottom of the stack
		}
		stack = binary.BigEndian.AppendUint32(stack, entry)
	}
	return &route.Encap{Kind: route.EncapMPLS, Options: []route.EncapOption{{Kind: route.EncapMPLSLabels, Value: stack}}}, nil
}

// encapILA reads a locator: four groups of hexadecimal digits.
func encapILA(text string) (*route.Encap, error) {
	groups := strings.Split(text, ":")
	var locator []byte
	for _, group := range groups {
		number, err := strconv.ParseUint(group, 16, 16)
		if err != nil || len(groups) != 4 {
			return nil, fmt.Errorf("encap ila: %s is not a locator", text)
		}
		locator = binary.BigEndian.AppendUint16(locator, uint16(number))
	}
	return &route.Encap{Kind: route.EncapILA, Options: []route.EncapOption{{Kind: route.EncapILALocator, Value: locator}}}, nil
}

var actions = map[string]route.Action{
	"": route.ToTable, "goto": route.Goto, "nop": route.Nop, "blackhole": route.Blackhole,
	"unreachable": route.Unreachable, "prohibit": route.Prohibit,
}

// Rule turns a rule into the kernel's form. An error says that a name is not known on this machine.
func (n Names) Rule(c conf.Rule) (Rule, error) {
	k := route.Rule{Family: family(c.Family), Priority: c.Priority.Value, Not: c.Not, From: c.From.Masked(), To: c.To.Masked(),
		InputInterface: c.InputInterface, OutputInterface: c.OutputInterface, TunnelID: c.TunnelID,
		UIDs: route.Range(c.UIDRange), SourcePorts: route.Range(c.SourcePorts), DestinationPorts: route.Range(c.DestinationPorts),
		Action: actions[c.Action], L3MDev: c.L3MDev, Target: c.Goto,
		SuppressPrefix: route.Limit{Set: c.SuppressPrefixLength.Set, Value: c.SuppressPrefixLength.Value}}
	var err error
	if k.TOS, err = octet(c.TOS, n.DSFields, "TOS"); err != nil {
		return Rule{}, err
	}
	if c.Track || c.Protocol.Set {
		if k.Protocol, err = n.maker(c.Protocol, c.Track); err != nil {
			return Rule{}, err
		}
	}
	if k.IPProtocol, err = octet(c.IPProto, n.IPProtocols, "IP protocol"); err != nil {
		return Rule{}, err
	}
	if k.Realms, err = n.realms(c.Realms); err != nil {
		return Rule{}, err
	}
	if c.FwMark.Set {
		k.Mark, k.Mask = c.FwMark.Value, math.MaxUint32
	}
	if c.FwMask.Set {
		k.Mask = c.FwMask.Value
	}
	if c.SuppressIfGroup.Set {
		k.SuppressGroup.Set = true
		if k.SuppressGroup.Value, err = number(c.SuppressIfGroup, n.Groups, "group of interfaces"); err != nil {
			return Rule{}, err
		}
	}
	if k.Action == route.ToTable && !k.L3MDev {
		if k.Table, err = number(c.Table, n.Tables, "routing table"); err != nil {
			return Rule{}, err
		}
		if k.Table == 0 {
			k.Table = unix.RT_TABLE_MAIN
		}
	}
	return Rule{Track: c.Track, Kernel: k}, nil
}
