package conf

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

// Names that iproute2 knows without a look into /etc/iproute2. Others stay names.
var (
	tableNames    = map[string]uint32{"unspec": 0, "default": 253, "main": 254, "local": 255}
	protocolNames = map[string]uint32{
		"redirect": 1, "kernel": 2, "boot": 3, "static": 4, "ra": 9, "zebra": 11, "bird": 12, "dhcp": 16, "keepalived": 18,
	}
	ipProtoNames = map[string]uint32{
		"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "sctp": 132,
	}
	routePrefs = map[string]uint32{"low": 3, "medium": 0, "high": 1}
)

// keepalivedProtocol is what tells tracked routes and rules from others.
var keepalivedProtocol = Number{Set: true, Value: protocolNames["keepalived"]}

// named reads a number, or a name that the table knows, or another name that has to be looked up on the machine.
func (l *loader) named(w syntax.Word, table map[string]uint32, bits int, lookup bool) (Number, bool) {
	if n, known := table[w.Text]; known {
		return Number{Set: true, Value: n}, true
	}
	if n, err := strconv.ParseUint(w.Text, 0, bits); err == nil {
		return Number{Set: true, Value: uint32(n)}, true
	}
	if lookup && w.Text != "" && (w.Text[0] < '0' || w.Text[0] > '9') && w.Text[0] != '-' {
		return Number{Set: true, Name: w.Text}, true
	}
	l.errorf(CodeNumber, w, "%s is not a number of %d bits", quote(w.Text), bits)
	return Number{}, false
}

// routeTypes returns the names of the types of routes.
func routeTypes() []string { return words.Names("static_routes/TYPE") }

// routes reads a block of routes.
func (l *loader) routes(block *Node, name string) []Route {
	var found []Route
	for _, n := range block.Children {
		l.noBlock(n)
		in := &line{l: l, block: name, words: n.Words}
		r := Route{Pos: n.Pos(), Track: true}
		if p := (&routeParser{line: in, r: &r}); p.parse() && p.check(n.Words[0]) {
			found = append(found, r)
		}
	}
	return found
}

// routeParser reads one line of a block of routes.
type routeParser struct {
	*line
	r           *Route
	destination bool
	typed       bool
	mixed       bool // "via inet6" was written in full: the gateway may be of another family
}

// parse reads the whole line. It returns false if the line has to be dropped; the reason is reported.
func (p *routeParser) parse() bool {
	l, r := p.l, p.r
	for {
		w, ok := p.take()
		if !ok {
			return true
		}
		switch w.Text {
		case "inet", "inet6":
			r.Family = IPv4
			if w.Text == "inet6" {
				r.Family = IPv6
			}
			continue
		case "onlink":
			r.OnLink = true
			continue
		case "add", "prepend", "append":
			r.Mode = map[string]RouteMode{"add": RouteAdd, "prepend": RoutePrepend, "append": RouteAppend}[w.Text]
			continue
		case "no_track":
			r.Track = false
			continue
		case "encap":
			if r.Encap, ok = p.encap(w); !ok {
				return false
			}
			continue
		case "nexthop":
			if !p.nexthops(w) {
				return false
			}
			continue
		case "default", "any", "all", "default6":
			if w.Text == "default6" {
				r.Family = IPv6
				l.warnf(CodeDeprecated, w, "default6 is an old spelling of inet6 default")
			}
			p.destination = true
			continue
		}
		if slices.Contains(routeTypes(), w.Text) && !p.typed && !p.destination {
			r.Type, p.typed = w.Text, true
			continue
		}
		if looksLikeAddress(w.Text) && !p.destination {
			if r.Destination, ok = l.prefix(w, "destination"); !ok {
				return false
			}
			p.destination = true
			continue
		}
		row := words.Lookup(p.block, w.Text)
		if row == nil || w.Text == "DEST" {
			p.unknown(w)
			if strings.ContainsAny(w.Text, "./:") { // a destination that cannot be read
				return false
			}
			continue
		}
		v, ok := p.value(w)
		if !ok || !p.option(w, v) {
			return false
		}
	}
}

// option reads an option that has a value. v is the first word of it.
func (p *routeParser) option(w, v syntax.Word) (ok bool) {
	l, r := p.l, p.r
	switch w.Text {
	case "to":
		if slices.Contains([]string{"default", "any", "all"}, v.Text) {
			p.destination = true
			return true
		}
		r.Destination, ok = l.prefix(v, "destination")
		p.destination = ok
	case "src":
		r.Source, ok = l.address(v, "src")
	case "as":
		if v.Text == "to" {
			if v, ok = p.value(v); !ok {
				return false
			}
		}
		_, ok = l.address(v, "as")
	case "via", "gw":
		if r.Via, ok = p.gateway(v); ok && w.Text == "gw" {
			l.warnf(CodeDeprecated, w, "gw is an old spelling of via")
		}
	case "or": // the gateway so far and this one are the hops of a multipath route
		var second netip.Addr
		if second, ok = p.gateway(v); ok {
			l.warnf(CodeDeprecated, w, "or is an old spelling of nexthop")
			r.Nexthops = []Nexthop{{Pos: w.Pos, Via: r.Via, Weight: 1}, {Pos: w.Pos, Via: second, Weight: 1}}
			r.Via = netip.Addr{}
		}
	case "from":
		r.From, ok = l.prefix(v, "from")
	case "dev", "oif":
		r.Interface, ok = l.interfaceName(v)
	case "vrf":
		r.VRF, ok = l.interfaceName(v)
	case "table":
		r.Table, ok = l.named(v, tableNames, 32, true)
	case "protocol":
		r.Protocol, ok = l.named(v, protocolNames, 8, true)
	case "scope":
		r.Scope = Number{Set: true, Value: uint32(l.scope(v, 0))}
		return true
	case "tos", "dsfield":
		r.TOS, ok = l.named(v, nil, 8, true)
	case "metric", "priority", "preference":
		r.Metric, ok = p.metric(v, 32)
	case "mtu":
		r.MTU, ok = p.metric(v, 32)
	case "hoplimit":
		r.HopLimit, ok = p.metric(v, 8)
	case "advmss":
		r.AdvMSS, ok = p.metric(v, 32)
	case "reordering":
		r.Reordering, ok = p.metric(v, 32)
	case "window":
		r.Window, ok = p.metric(v, 32)
	case "cwnd":
		r.Cwnd, ok = p.metric(v, 32)
	case "ssthresh":
		r.SSThresh, ok = p.metric(v, 32)
	case "initcwnd":
		r.InitCwnd, ok = p.metric(v, 32)
	case "initrwnd":
		r.InitRwnd, ok = p.metric(v, 32)
	case "quickack":
		r.QuickAck, ok = p.metric(v, 1)
	case "fastopen_no_cookie":
		r.FastOpen, ok = p.metric(v, 1)
	case "rtt":
		r.RTT, ok = p.timeMetric(w, v, 8)
	case "rttvar":
		r.RTTVar, ok = p.timeMetric(w, v, 4)
	case "rto_min":
		r.RTOMin, ok = p.timeMetric(w, v, 1)
	case "expires":
		var n int
		n, ok = l.wholeNumber(v, "expires", limits(0, 1<<32-1))
		r.Expires = time.Duration(n) * second
	case "realms":
		r.Realms, ok = v.Text, v.Text != ""
	case "features":
		ok = l.choiceWord(v, "features", "ecn") == 0
		r.ECN = ok
	case "congctl":
		if v.Text == "lock" {
			r.CongCtlLock = true
			if v, ok = p.value(v); !ok {
				return false
			}
		}
		r.CongCtl, ok = v.Text, true
	case "pref":
		r.Preference, ok = l.named(v, routePrefs, 8, false)
	case "ttl-propagate":
		i := l.choiceWord(v, "ttl-propagate", "disabled", "enabled")
		r.TTLPropag, ok = Metric{Set: true, Value: uint32(max(i, 0))}, i >= 0
	case "track_group":
		r.TrackGroup, ok = v.Text, true
		l.reference("track_group", v, &r.TrackGroup)
	default: // a word that only means something after another one
		l.errorf(CodeRoute, w, "%s cannot stand here; the line is dropped", quote(w.Text))
		return false
	}
	return ok
}

// gateway reads [inet|inet6] ADDR.
func (p *routeParser) gateway(v syntax.Word) (a netip.Addr, ok bool) {
	if v.Text == "inet" || v.Text == "inet6" {
		p.mixed = true
		if v, ok = p.value(v); !ok {
			return a, false
		}
	}
	return p.l.address(v, "gateway")
}

// metric reads [lock] INT.
func (p *routeParser) metric(v syntax.Word, bits int) (m Metric, ok bool) {
	if v.Text == "lock" {
		m.Lock = true
		if v, ok = p.value(v); !ok {
			return m, false
		}
	}
	n, ok := p.l.wholeNumber(v, "the value", limits(0, 1<<bits-1))
	m.Set, m.Value = ok, uint32(n)
	return m, ok
}

// The kernel's limits of times of TCP.
const (
	leastRTT = 200 * time.Millisecond
	mostRTT  = 120 * time.Second
)

// timeMetric reads [lock] TIME, which ends in ms or s, or is in the kernel's own unit: so many make a millisecond.
func (p *routeParser) timeMetric(w, v syntax.Word, perMillisecond time.Duration) (m TimeMetric, ok bool) {
	if v.Text == "lock" {
		m.Lock = true
		if v, ok = p.value(v); !ok {
			return m, false
		}
	}
	number := v
	unit := time.Millisecond / perMillisecond
	if text, found := strings.CutSuffix(v.Text, "ms"); found {
		number.Text, unit = text, time.Millisecond
	} else if text, found := strings.CutSuffix(v.Text, "s"); found {
		number.Text, unit = text, second
	}
	micro, ok := p.l.number(number, "the time", false, limits(0, 1<<31))
	m.Set, m.Value = ok, time.Duration(float64(micro)/1e6*float64(unit))
	if within := min(max(m.Value, leastRTT), mostRTT); ok && within != m.Value {
		p.l.warnf(CodeRange, v, "%s %s is outside %v..%v; %v is used", w.Text, clip(v.Text), leastRTT, mostRTT, within)
		m.Value = within
	}
	return m, ok
}

// encapOptions are the options of each type of encapsulation.
var encapOptions = map[string][]string{
	"ip":  {"id", "dst", "src", "tos", "ttl", "flags"},
	"ip6": {"id", "dst", "src", "tc", "hoplimit", "flags"},
}

// encap reads the type of an encapsulation and its options.
func (p *routeParser) encap(w syntax.Word) (found []string, ok bool) {
	kind, ok := p.value(w)
	if !ok || p.l.choiceWord(kind, "encap", "ip", "ip6", "mpls", "ila") < 0 {
		return nil, false
	}
	found = []string{kind.Text}
	if kind.Text == "mpls" || kind.Text == "ila" {
		v, ok := p.value(kind)
		return append(found, v.Text), ok
	}
	for slices.Contains(encapOptions[kind.Text], p.peek()) {
		option, _ := p.take()
		v, ok := p.value(option)
		switch option.Text {
		case "dst", "src":
			if ok {
				_, ok = p.l.address(v, option.Text)
			}
		default:
			if ok {
				_, err := strconv.ParseUint(v.Text, 0, 64)
				if ok = err == nil || option.Text == "tos" || option.Text == "tc"; !ok {
					p.l.errorf(CodeNumber, v, "encap %s: %s is not a number", option.Text, quote(v.Text))
				}
			}
		}
		if !ok {
			return nil, false
		}
		found = append(found, option.Text, v.Text)
	}
	return found, true
}

// nexthops reads the hops of a multipath route, to the end of the line.
func (p *routeParser) nexthops(w syntax.Word) (ok bool) {
	for {
		hop := Nexthop{Pos: w.Pos, Weight: 1}
		for {
			option, more := p.take()
			if !more || option.Text == "nexthop" {
				w = option
				break
			}
			if option.Text == "onlink" {
				hop.OnLink = true
				continue
			}
			if option.Text == "encap" {
				if hop.Encap, ok = p.encap(option); !ok {
					return false
				}
				continue
			}
			v, ok := p.value(option)
			if !ok {
				return false
			}
			switch option.Text {
			case "via":
				hop.Via, ok = p.gateway(v)
			case "dev":
				hop.Interface, ok = p.l.interfaceName(v)
			case "weight":
				hop.Weight, ok = p.l.wholeNumber(v, "weight", limits(1, 256))
			case "realms":
				hop.Realms = v.Text
			case "as":
				if v.Text == "to" {
					if v, ok = p.value(v); !ok {
						return false
					}
				}
				_, ok = p.l.address(v, "as")
			default:
				p.l.errorf(CodeRoute, option, "%s cannot stand in a nexthop; the line is dropped", quote(option.Text))
				return false
			}
			if !ok {
				return false
			}
		}
		p.r.Nexthops = append(p.r.Nexthops, hop)
		if w.Text != "nexthop" {
			return true
		}
	}
}

// check decides the family and refuses what cannot be a route.
func (p *routeParser) check(first syntax.Word) bool {
	l, r := p.l, p.r
	if !p.destination {
		l.errorf(CodeRoute, first, "the route has no destination and is dropped")
		return false
	}
	if r.TrackGroup != "" && (r.Interface == "" || !r.Track) {
		l.warnf(CodeTracking, first, "a route with a track_group needs an interface and no no_track; its track_group is ignored")
		r.TrackGroup = ""
	}
	if r.Track && r.Protocol.Set && r.Protocol != keepalivedProtocol {
		l.warnf(CodeRoute, first, "a route that is tracked has keepalived's protocol number; write no_track to keep another")
		r.Protocol = keepalivedProtocol
	}
	family := r.Family
	agree := func(a netip.Addr) bool {
		if !a.IsValid() {
			return true
		}
		if family == 0 {
			family = familyOf(a)
		}
		return familyOf(a) == family
	}
	same := agree(r.Destination.Addr()) && agree(r.Source) && agree(r.From.Addr())
	if !p.mixed {
		same = same && agree(r.Via)
		for _, hop := range r.Nexthops {
			same = same && agree(hop.Via)
		}
	}
	if !same {
		l.errorf(CodeFamily, first, "the route mixes IPv4 and IPv6 and is dropped")
		return false
	}
	if family == 0 {
		family = IPv4
	}
	r.Family = family
	if !r.Destination.IsValid() {
		r.Destination = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if family == IPv6 {
			r.Destination = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	if masked := r.Destination.Masked(); masked != r.Destination {
		l.warnf(CodeRoute, first, "%v has bits beyond its prefix; the kernel takes %v", r.Destination, masked)
		r.Destination = masked
	}
	if len(r.Nexthops) > 0 && (r.Via.IsValid() || r.Interface != "") {
		l.errorf(CodeRoute, first, "the route has both nexthops and a gateway or interface of its own and is dropped")
		return false
	}
	unicast := r.Type == "" || r.Type == "unicast"
	if unicast && !r.Via.IsValid() && r.Interface == "" && len(r.Nexthops) == 0 && r.VRF == "" && len(r.Encap) == 0 {
		l.warnf(CodeRoute, first, "the route to %v has neither a gateway nor an interface", r.Destination)
	}
	return true
}
