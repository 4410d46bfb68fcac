package conf

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

// scopes are the scopes that iproute2 knows by name (/etc/iproute2/rt_scopes).
var scopes = map[string]uint8{"global": 0, "nowhere": 255, "host": 254, "link": 253, "site": 200}

// line is a line of a block of values, read word by word.
type line struct {
	l     *loader
	block string
	words []syntax.Word
	next  int
}

// take returns the next word. ok is false at the end.
func (n *line) take() (w syntax.Word, ok bool) {
	if n.next >= len(n.words) {
		return syntax.Word{}, false
	}
	n.next++
	return n.words[n.next-1], true
}

func (n *line) peek() string {
	if n.next >= len(n.words) {
		return ""
	}
	return n.words[n.next].Text
}

// value returns the word after an option. It reports one that is missing.
func (n *line) value(option syntax.Word) (w syntax.Word, ok bool) {
	if w, ok = n.take(); !ok {
		n.l.errorf(CodeMissingArgument, option, "%s needs a value; the line is dropped", option.Text)
	}
	return w, ok
}

// unknown reports a word that the block does not know as an option.
func (n *line) unknown(w syntax.Word) {
	var options []string
	for _, r := range words.Rows(n.block) {
		if r.Word != strings.ToUpper(r.Word) { // placeholders are in capitals
			options = append(options, r.Word)
		}
	}
	hint := strange(w.Text)
	if near, ok := syntax.Nearest(w.Text, options); ok {
		hint += "; did you mean " + near + "?"
	}
	n.l.errorf(CodeOption, w, "%s is no option of an entry of %s and is skipped%s", quote(w.Text),
		n.block[strings.LastIndexByte(n.block, '/')+1:], hint)
}

// second reports a further entry on a line that has one already, which keepalived takes for an unknown option.
func (n *line) second(w syntax.Word) {
	n.l.warnf(CodeSecondEntry, w, "%s is a second entry on this line; keepalived skips it, had reads it", quote(w.Text))
}

// addresses reads a block of addresses.
func (l *loader) addresses(block *Node, name string) []Address {
	var found []Address
	for _, n := range block.Children {
		l.noBlock(n)
		in := &line{l: l, block: name, words: n.Words}
		for in.next < len(in.words) {
			w, _ := in.take()
			a, ok := l.addressEntry(w, in)
			if ok {
				found = append(found, a)
			}
			if in.next < len(in.words) {
				in.second(in.words[in.next])
			}
		}
	}
	return found
}

// addressEntry reads an address and its options, up to the end of the line or to the next address.
func (l *loader) addressEntry(w syntax.Word, in *line) (a Address, ok bool) {
	a = Address{Pos: w.Pos, Track: true}
	if a.Prefix, ok = l.prefix(w, "address"); !ok {
		in.next = len(in.words)
		return a, false
	}
	is4 := a.Prefix.Addr().Is4()
	valid, confused := true, false
	a.PreferredLft = PreferredForever
	if !is4 && a.Prefix.IsSingleIP() {
		a.PreferredLft = 0
	}
	only4 := func(option syntax.Word) bool {
		if !is4 {
			l.errorf(CodeOption, option, "%s is for IPv4 addresses only and is ignored", option.Text)
		}
		return is4
	}
	only6 := func(option syntax.Word) bool {
		if is4 {
			l.errorf(CodeOption, option, "%s is for IPv6 addresses only and is ignored", option.Text)
		}
		return !is4
	}
	for in.next < len(in.words) {
		if !confused && looksLikeAddress(in.peek()) {
			break
		}
		option, _ := in.take()
		var v syntax.Word
		switch option.Text {
		case "dev", "scope", "brd", "broadcast", "label", "peer", "preferred_lft", "track_group":
			if v, ok = in.value(option); !ok {
				return a, false
			}
		}
		switch option.Text {
		case "dev":
			if name, ok := l.interfaceName(v); ok {
				a.Interface = name
			} else {
				valid = false
			}
		case "scope":
			if only4(option) {
				a.Scope = l.scope(v, a.Scope)
			}
		case "brd", "broadcast":
			if only4(option) {
				valid = l.broadcast(v, &a) && valid
			}
		case "label":
			if len(v.Text) > maxInterfaceName {
				l.errorf(CodeRange, v,
					"label %s has more than %d characters and is ignored", quote(v.Text), maxInterfaceName)
			} else if only4(option) {
				a.Label = v.Text
			}
		case "peer":
			peer, ok := l.address(v, "peer")
			switch {
			case !ok:
				valid = false
			case peer.Is4() != is4:
				l.errorf(CodeFamily, v, "peer %v is of another family than the address", peer)
				valid = false
			default:
				a.Peer = peer
			}
		case "preferred_lft":
			if v.Text == "forever" {
				a.PreferredLft = PreferredForever
			} else if n, ok := l.wholeNumber(v, "preferred_lft", limits(0, 1<<32-1)); ok {
				a.PreferredLft = time.Duration(n) * second
			}
		case "home":
			a.Home = only6(option)
		case "-nodad":
			a.DAD = only6(option)
		case "nodad":
			l.warnf(CodeOption, option, "nodad always holds and is no option; -nodad takes it away")
		case "mngtmpaddr":
			a.MngTmpAddr = only6(option)
		case "noprefixroute":
			a.NoPrefixRt = true
		case "autojoin":
			a.AutoJoin = true
		case "no_track":
			a.Track = false
		case "use_vmac":
			if in.block == "static_ipaddress" {
				in.unknown(option)
				break
			}
			a.UseVMAC = true
		case "track_group":
			if in.block != "static_ipaddress" {
				in.unknown(option)
				break
			}
			a.TrackGroup = v.Text
			l.reference("track_group", v, &a.TrackGroup)
		default:
			in.unknown(option)
			confused = true // an address after an unknown word is its value, not the next entry
		}
	}
	if !valid {
		return a, false
	}
	if a.Peer.IsValid() {
		if strings.Contains(w.Text, "/") {
			l.errorf(CodeOption, w, "an address with a peer takes no prefix length; %s is dropped", quote(w.Text))
			return a, false
		}
		if a.Broadcast.IsValid() {
			l.errorf(CodeOption, w, "an address with a peer has no broadcast address; it is ignored")
			a.Broadcast = netip.Addr{}
		}
	}
	l.oddAddress(w, a.Prefix)
	return a, true
}

// oddAddress warns of addresses that no host can have.
func (l *loader) oddAddress(w syntax.Word, p netip.Prefix) {
	a := p.Addr()
	switch {
	case a.IsMulticast():
		l.warnf(CodeOddAddress, w, "%v is a multicast address", a)
	case a.IsUnspecified():
		l.warnf(CodeOddAddress, w, "%v is no address that a host can have", a)
	case a.Is4() && p.Bits() < 31 && a == p.Masked().Addr():
		l.warnf(CodeOddAddress, w, "%v is the address of the network itself", p)
	case a.Is4() && p.Bits() < 31 && a == lastAddr(p):
		l.warnf(CodeOddAddress, w, "%v is the broadcast address of its network", p)
	}
}

// lastAddr returns the address of an IPv4 network with all host bits set.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := range b {
		host := byte(0xff)
		if kept := p.Bits() - 8*i; kept >= 8 {
			host = 0
		} else if kept > 0 {
			host >>= kept
		}
		b[i] |= host
	}
	return netip.AddrFrom4(b)
}

func (l *loader) scope(w syntax.Word, otherwise uint8) uint8 {
	if n, known := scopes[w.Text]; known {
		return n
	}
	if n, err := strconv.ParseUint(w.Text, 10, 8); err == nil {
		return uint8(n)
	}
	l.errorf(CodeChoice, w,
		"scope %s is none of global, site, link, host, nowhere and no number up to 255", quote(w.Text))
	return otherwise
}

// broadcast reads ADDR, + (all host bits set) or - (all clear).
func (l *loader) broadcast(w syntax.Word, a *Address) (ok bool) {
	if w.Text != "+" && w.Text != "-" {
		b, ok := l.address(w, "broadcast address")
		if ok && !b.Is4() {
			l.errorf(CodeFamily, w, "broadcast address %v is not an IPv4 address", b)
			return false
		}
		a.Broadcast = b
		return ok
	}
	if a.Prefix.Bits() > 30 {
		l.errorf(CodeOption, w, "brd %s needs a prefix of at most 30 bits and is ignored", w.Text)
		return true
	}
	a.Broadcast = lastAddr(a.Prefix)
	if w.Text == "-" {
		a.Broadcast = a.Prefix.Masked().Addr()
	}
	return true
}

// reference checks that a named block stands in the file, and before the word that names it; keepalived drops the
// reference otherwise, and so do we: *name becomes empty.
func (l *loader) reference(kind string, w syntax.Word, name *string) bool {
	n := l.declared[kind][w.Text]
	if n == nil {
		hint := ""
		if near, ok := syntax.Nearest(w.Text, sortedKeys(l.declared[kind])); ok {
			hint = "; did you mean " + near + "?"
		}
		l.errorf(CodeReference, w, "there is no %s %s%s", kind, quote(w.Text), hint)
		*name = ""
		return false
	}
	if l.order[n] > l.current {
		l.errorf(CodeOrder, w,
			"%s %s stands further down, at %v; as in keepalived it has to come before what names it, and "+
				"is not tracked here", kind, w.Text, n.Pos())
		*name = ""
		return false
	}
	return true
}
