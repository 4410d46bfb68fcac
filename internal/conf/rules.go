package conf

import (
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

// firstPreference is that of the first rule of a family that has none; those after it count down, as in keepalived.
const firstPreference = 16384

// rules reads a block of policy rules.
func (l *loader) rules(block *Node, name string) []Rule {
	var found []Rule
	for _, n := range block.Children {
		l.noBlock(n)
		in := &line{l: l, block: name, words: n.Words}
		r := Rule{Pos: n.Pos(), Track: true}
		if p := (&ruleParser{line: in, r: &r}); p.parse() && p.check(n.Words[0]) {
			found = append(found, r)
		}
	}
	return found
}

// ruleParser reads one line of a block of rules.
type ruleParser struct {
	*line
	r *Rule
}

// parse reads the whole line. It returns false if the line has to be dropped; the reason is reported.
func (p *ruleParser) parse() bool {
	r := p.r
	for {
		w, ok := p.take()
		if !ok {
			return true
		}
		switch w.Text {
		case "inet":
			r.Family = IPv4
		case "inet6":
			r.Family = IPv6
		case "not":
			r.Not = true
		case "l3mdev":
			r.L3MDev = true
		case "no_track":
			r.Track = false
		case "nop", "blackhole", "unreachable", "prohibit":
			r.Action = w.Text
		default:
			if row := words.Lookup(p.block, w.Text); row == nil {
				p.unknown(w)
				if strings.ContainsAny(w.Text, "./:") {
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
}

// option reads an option that has a value.
func (p *ruleParser) option(w, v syntax.Word) (ok bool) {
	l, r := p.l, p.r
	switch w.Text {
	case "from":
		r.From, ok = p.selector(v)
	case "to":
		r.To, ok = p.selector(v)
	case "table", "lookup":
		r.Table, ok = l.named(v, tableNames, 32, true)
	case "preference", "order", "priority":
		r.Priority, ok = l.named(v, nil, 32, false)
	case "tos", "dsfield":
		r.TOS, ok = l.named(v, nil, 8, true)
	case "fwmark":
		mark, mask, masked := strings.Cut(v.Text, "/")
		part := v
		part.Text = mark
		if r.FwMark, ok = l.named(part, nil, 32, false); ok && masked {
			part.Text = mask
			r.FwMask, ok = l.named(part, nil, 32, false)
		}
	case "realms":
		r.Realms, ok = v.Text, v.Text != ""
	case "suppress_prefixlength", "sup_pl":
		r.SuppressPrefixLength, ok = l.named(v, nil, 8, false)
	case "suppress_ifgroup", "sup_group":
		r.SuppressIfGroup, ok = l.named(v, nil, 32, true)
	case "dev", "iif":
		r.InputInterface, ok = l.interfaceName(v)
	case "oif":
		r.OutputInterface, ok = l.interfaceName(v)
	case "tunnel-id":
		n, err := strconv.ParseUint(v.Text, 0, 64)
		if ok = err == nil; !ok {
			l.errorf(CodeNumber, v, "tunnel-id %s is not a number of 64 bits", quote(v.Text))
		}
		r.TunnelID, r.TunnelIDSet = n, ok
	case "uidrange":
		r.UIDRange, ok = p.span(v, math.MaxUint32)
	case "sport":
		r.SourcePorts, ok = p.span(v, 65535)
	case "dport":
		r.DestinationPorts, ok = p.span(v, 65535)
	case "protocol":
		r.Protocol, ok = l.named(v, protocolNames, 8, true)
	case "ipproto":
		r.IPProto, ok = l.named(v, ipProtoNames, 8, true)
	case "goto":
		n, valid := l.wholeNumber(v, "goto", limits(0, math.MaxUint32))
		r.Action, r.Goto, ok = "goto", uint32(n), valid
	case "type":
		i := l.choiceWord(v, "type", "nop", "blackhole", "unreachable", "prohibit")
		if ok = i >= 0; ok {
			r.Action = v.Text
		}
	case "track_group":
		r.TrackGroup, ok = v.Text, true
		l.reference("track_group", v, &r.TrackGroup)
	}
	return ok
}

// selector reads ADDR[/LEN] or all; the latter is no prefix.
func (p *ruleParser) selector(v syntax.Word) (netip.Prefix, bool) {
	if v.Text == "all" || v.Text == "any" || v.Text == "default" {
		return netip.Prefix{}, true
	}
	return p.l.prefix(v, "selector")
}

// span reads A-B. A single number is refused by keepalived; here it is both ends.
func (p *ruleParser) span(v syntax.Word, most uint64) (Range, bool) {
	low, high, isRange := strings.Cut(v.Text, "-")
	if !isRange {
		high = low
	}
	a, errA := strconv.ParseUint(low, 10, 32)
	b, errB := strconv.ParseUint(high, 10, 32)
	if errA != nil || errB != nil || a > b || b > most {
		p.l.errorf(CodeRange, v, "%s is not a range FIRST-LAST up to %d", quote(v.Text), most)
		return Range{}, false
	}
	if !isRange {
		p.l.warnf(CodeRule, v, "keepalived wants a range; %s counts as %s-%s", low, low, low)
	}
	return Range{Set: true, First: uint32(a), Last: uint32(b)}, true
}

// check decides the family and refuses what cannot be a rule.
func (p *ruleParser) check(first syntax.Word) bool {
	l, r := p.l, p.r
	for _, prefix := range []netip.Prefix{r.From, r.To} {
		switch {
		case !prefix.IsValid():
		case r.Family == 0:
			r.Family = familyOf(prefix.Addr())
		case r.Family != familyOf(prefix.Addr()):
			l.errorf(CodeFamily, first, "the rule mixes IPv4 and IPv6 and is dropped")
			return false
		}
	}
	if r.Family == 0 {
		r.Family = IPv4
	}
	if r.Action == "" && !r.Table.Set && !r.L3MDev {
		l.errorf(CodeRule, first, "the rule says neither a table nor an action and is dropped")
		return false
	}
	if r.TrackGroup != "" && !r.Track {
		l.warnf(CodeTracking, first, "a rule with no_track cannot have a track_group, which is ignored")
		r.TrackGroup = ""
	}
	if r.Track && r.Protocol.Set && r.Protocol != keepalivedProtocol {
		l.warnf(CodeRule, first, "a rule that is tracked has keepalived's protocol number; write no_track to keep another")
		r.Protocol = keepalivedProtocol
	}
	if !r.Priority.Set {
		n := firstPreference - uint32(l.unnumbered[r.Family])
		l.unnumbered[r.Family]++
		l.warnf(CodeRule, first, "the rule has no preference and gets %d", n)
		r.Priority = Number{Set: true, Value: n}
	}
	return true
}
