package conf

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

// virtualDraft is a virtual_server block as it was given.
type virtualDraft struct {
	VirtualServer
	node *Node
	word syntax.Word // that names it
	last map[string]*Node
	checkTimes

	servers     []*realDraft
	weight      int
	inhibit     bool
	alpha       bool
	virtualHost string
	family      Family // ip_family; 0: not given
	forwarding  *Forwarding
	protocol    *Protocol
	smtpAlert   *bool
	persistence *time.Duration
	granularity syntax.Word
	sorryMethod *Forwarding
}

// at returns the word of a keyword of the block, or the block's.
func (d *virtualDraft) at(keyword string) syntax.Word {
	if n := d.last[keyword]; n != nil {
		return n.Words[0]
	}
	return d.word
}

const (
	defaultPersistence  = 360 * second
	defaultDelayLoop    = 60 * second
	defaultCheckTimeout = 5 * second
)

func (l *loader) virtualServer(s statement) {
	d := &virtualDraft{node: s.Node, word: s.Words[1], weight: 1}
	d.Pos, d.Quorum = s.Pos(), 1
	usable := l.virtualName(s, d)
	d.last = l.statements(s.Children, "virtual_server", l.virtualServerWords(d))
	if usable {
		l.virtuals = append(l.virtuals, d)
	}
}

// virtualName reads what stands between virtual_server and its block.
func (l *loader) virtualName(s statement, d *virtualDraft) (ok bool) {
	switch d.word.Text {
	case "fwmark", "group":
	default:
		d.Address, ok = l.addressPort(s.Words[1:], 0)
		return ok
	}
	if len(s.Words) < 3 {
		l.errorf(CodeMissingArgument, d.word, "virtual_server %s needs a value; the block is skipped", d.word.Text)
		return false
	}
	value := s.Words[2]
	if d.word.Text == "fwmark" {
		d.word = value
		n, ok := l.wholeNumber(value, "fwmark", limits(1, math.MaxUint32))
		d.Mark = uint32(n)
		return ok
	}
	d.word, d.Group = value, value.Text
	if l.declared["virtual_server_group"][d.Group] == nil {
		return l.reference("virtual_server_group", value, &d.Group)
	}
	return true // as in keepalived the group may stand further down
}

// addressPort reads ADDR [PORT].
func (l *loader) addressPort(ws []syntax.Word, port uint16) (netip.AddrPort, bool) {
	a, ok := l.address(ws[0], "address")
	if len(ws) > 1 {
		n, valid := l.wholeNumber(ws[1], "port", limits(0, math.MaxUint16))
		port, ok = uint16(n), ok && valid
	}
	return netip.AddrPortFrom(a, port), ok
}

func (l *loader) virtualServerWords(d *virtualDraft) handlers {
	h := handlers{
		"ip_family": func(s statement) {
			if i := l.choice(s, "inet", "inet6"); i >= 0 {
				d.family = []Family{IPv4, IPv6}[i]
			}
		},
		"inhibit_on_failure": setTrue(&d.inhibit),
		"lb_algo": func(s statement) {
			if l.choice(s, words.Names("virtual_server/lb_algo")...) >= 0 {
				d.Scheduler = s.Words[1].Text
			}
		},
		"hashed":             func(statement) {},
		"ops":                setTrue(&d.OnePacket),
		"flag-1":             setTrue(&d.Flags[0]),
		"flag-2":             setTrue(&d.Flags[1]),
		"flag-3":             setTrue(&d.Flags[2]),
		"sh-fallback":        l.schedulerFlag(d, "sh", 0),
		"sh-port":            l.schedulerFlag(d, "sh", 1),
		"mh-fallback":        l.schedulerFlag(d, "mh", 0),
		"mh-port":            l.schedulerFlag(d, "mh", 1),
		"lb_kind":            func(s statement) { l.forwarding(s, &d.forwarding) },
		"persistence_engine": l.setText(&d.PersistenceEngine),
		"persistence_timeout": func(s statement) {
			span, ok := defaultPersistence, true
			if len(s.Args()) > 0 {
				span, ok = l.span(s)
			}
			if ok {
				d.persistence = &span
			}
		},
		"persistence_granularity": func(s statement) { d.granularity = s.Words[1] },
		"protocol": func(s statement) {
			w := s.Words[1]
			w.Text = strings.ToUpper(w.Text)
			if i := l.choiceWord(w, s.Keyword(), "TCP", "UDP", "SCTP"); i >= 0 {
				d.protocol = &[]Protocol{TCP, UDP, SCTP}[i]
			}
		},
		"ha_suspend":   setTrue(&d.HASuspend),
		"smtp_alert":   func(s statement) { l.setOptional(s, &d.smtpAlert) },
		"virtualhost":  l.setText(&d.virtualHost),
		"snmp_name":    l.setText(&d.SNMPName),
		"alpha":        setTrue(&d.alpha),
		"omega":        setTrue(&d.Omega),
		"quorum_up":    func(s statement) { l.setCommand(s, &d.QuorumUp) },
		"quorum_down":  func(s statement) { l.setCommand(s, &d.QuorumDown) },
		"quorum":       func(s statement) { l.setInt(s, &d.Quorum) },
		"hysteresis":   func(s statement) { l.setInt(s, &d.Hysteresis) },
		"weight":       func(s statement) { l.setInt(s, &d.weight) },
		"sorry_server": func(s statement) { l.sorryServer(s, d) },
		"sorry_server_inhibit": func(s statement) {
			if d.Sorry == nil {
				l.warnf(CodeOrder, s.Words[0], "sorry_server_inhibit has to follow sorry_server and is ignored")
				return
			}
			d.Sorry.Inhibit = true
		},
		"sorry_server_lvs_method": func(s statement) { l.forwarding(s, &d.sorryMethod) },
		"real_server":             func(s statement) { l.realServer(s, d) },
	}
	h["lvs_sched"], h["lvs_method"] = h["lb_algo"], h["lb_kind"]
	l.checkTimeWords(h, &d.checkTimes)
	return h
}

// schedulerFlag is the word for a flag under the name that a scheduler has for it.
func (l *loader) schedulerFlag(d *virtualDraft, scheduler string, flag int) func(statement) {
	return func(s statement) {
		if d.Scheduler != scheduler {
			l.warnf(CodeLVS, s.Words[0], "%s has to follow lb_algo %s and is ignored", s.Keyword(), scheduler)
			return
		}
		d.Flags[flag] = true
	}
}

// forwarding reads NAT|DR|TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum].
func (l *loader) forwarding(s statement, p **Forwarding) {
	i := l.choice(s, "NAT", "DR", "TUN")
	if i < 0 {
		return
	}
	f := Forwarding{Method: Method(i)}
	args := s.Args()[1:]
	if f.Method != TUN && len(args) > 0 {
		l.warnf(CodeSurplus, args[0], "what follows %s is ignored: %s", s.Words[1].Text, joinWords(args))
		args = nil
	}
	value := func() (w syntax.Word, ok bool) {
		if len(args) < 2 {
			l.errorf(CodeMissingArgument, args[0], "%s needs a value", args[0].Text)
			return w, false
		}
		w, args = args[1], args[2:]
		return w, true
	}
	for len(args) > 0 {
		switch option := args[0]; option.Text {
		case "type":
			w, ok := value()
			if !ok {
				return
			}
			kind := l.choiceWord(w, "type", "ipip", "gue", "gre")
			if kind < 0 {
				return
			}
			f.Type = TunnelType(kind)
		case "port":
			w, ok := value()
			if !ok {
				return
			}
			n, ok := l.wholeNumber(w, "port", limits(1, math.MaxUint16))
			if !ok {
				return
			}
			f.Port = uint16(n)
		default:
			sum := l.choiceWord(option, s.Keyword(), "nocsum", "csum", "remcsum", "type", "port")
			if sum < 0 {
				return
			}
			f.Checksum, args = TunnelChecksum(sum), args[1:]
		}
	}
	switch {
	case f.Type == GUE && f.Port == 0:
		l.errorf(CodeMissing, s.Words[0], "%s TUN type gue needs a port", s.Keyword())
		return
	case f.Type != GUE && f.Port != 0, f.Type == IPIP && f.Checksum != NoChecksum, f.Type == GRE && f.Checksum == RemoteChecksum:
		l.warnf(CodeOption, s.Words[0], "%s: a port is for type gue, csum for gue and gre, remcsum for gue; what does not fit is "+
			"ignored", s.Keyword())
		if f.Type != GUE {
			f.Port = 0
			if f.Type == IPIP || f.Checksum == RemoteChecksum {
				f.Checksum = NoChecksum
			}
		}
	}
	*p = &f
}

func (l *loader) sorryServer(s statement, d *virtualDraft) {
	if a, ok := l.addressPort(s.Words[1:], d.Address.Port()); ok {
		d.Sorry = &SorryServer{Pos: s.Words[1].Pos, Address: a}
	}
}

// realDraft is a real_server block as it was given.
type realDraft struct {
	RealServer
	node *Node
	word syntax.Word // its address
	last map[string]*Node
	checkTimes

	weight      *int
	forwarding  *Forwarding
	inhibit     *bool
	alpha       *bool
	smtpAlert   *bool
	virtualHost string
	checkers    []*checkDraft
}

func (l *loader) realServer(s statement, v *virtualDraft) {
	if l.realWords == nil {
		l.realWords = l.realServerWords(&l.real)
	}
	l.real = realDraft{node: s.Node, word: s.Words[1]}
	l.real.Pos = s.Pos()
	var usable bool
	l.real.Address, usable = l.addressPort(s.Words[1:], v.Address.Port())
	l.real.last = l.statements(s.Children, realServerBlock, l.realWords)
	d := l.real
	if !usable {
		return
	}
	for _, other := range v.servers {
		if other.Address == d.Address {
			l.errorf(CodeDuplicate, d.word, "the real_server %v stands at %v already; this block is skipped", d.Address, other.Pos)
			return
		}
	}
	v.servers = append(v.servers, &d)
}

func (l *loader) realServerWords(d *realDraft) handlers {
	h := handlers{
		"weight": func(s statement) {
			if n, ok := l.integer(s); ok {
				d.weight = &n
			}
		},
		"lvs_method":         func(s statement) { l.forwarding(s, &d.forwarding) },
		"uthreshold":         func(s statement) { l.setUint32(s, &d.Upper) },
		"lthreshold":         func(s statement) { l.setUint32(s, &d.Lower) },
		"inhibit_on_failure": func(s statement) { l.setOptional(s, &d.inhibit) },
		"notify_up":          func(s statement) { l.setCommand(s, &d.NotifyUp) },
		"notify_down":        func(s statement) { l.setCommand(s, &d.NotifyDown) },
		"alpha":              func(s statement) { l.setOptional(s, &d.alpha) },
		"smtp_alert":         func(s statement) { l.setOptional(s, &d.smtpAlert) },
		"virtualhost":        l.setText(&d.virtualHost),
		"snmp_name":          l.setText(&d.SNMPName),
	}
	l.checkTimeWords(h, &d.checkTimes)
	l.checkerBlocks(h, d)
	return h
}

// virtualServerGroup reads the entries of a virtual_server_group: ADDR[-LAST|-ADDR2|/LEN] [PORT] or fwmark N [inet|inet6].
func (l *loader) virtualServerGroup(s statement) {
	g := VirtualServerGroup{Pos: s.Pos(), Name: s.Words[1].Text}
	for _, n := range s.Children {
		l.noBlock(n)
		if e, ok := l.groupEntry(n.Words); ok {
			g.Entries = append(g.Entries, e)
		}
	}
	if len(g.Entries) == 0 {
		l.warnf(CodeLVS, s.Words[1], "virtual_server_group %s has no entry", g.Name)
	}
	l.cfg.VirtualServerGroups = append(l.cfg.VirtualServerGroups, g)
}

// maxRange bounds the addresses of one entry of a group, each of which is a service.
const maxRange = 1 << 16

func (l *loader) groupEntry(ws []syntax.Word) (e GroupEntry, ok bool) {
	e.Pos = ws[0].Pos
	if ws[0].Text == "fwmark" {
		if len(ws) < 2 {
			l.errorf(CodeMissingArgument, ws[0], "fwmark needs a number")
			return e, false
		}
		n, ok := l.wholeNumber(ws[1], "fwmark", limits(1, math.MaxUint32))
		e.Mark = uint32(n)
		if len(ws) > 2 {
			i := l.choiceWord(ws[2], "fwmark", "inet", "inet6")
			if i < 0 {
				return e, false
			}
			e.Family = []Family{IPv4, IPv6}[i]
		}
		return e, ok
	}
	if e.First, e.Last, ok = l.addressRange(ws[0]); !ok {
		return e, false
	}
	e.Family = familyOf(e.First)
	if len(ws) > 1 {
		n, ok := l.wholeNumber(ws[1], "port", limits(0, math.MaxUint16))
		if !ok {
			return e, false
		}
		e.Port = uint16(n)
	}
	if len(ws) > 2 {
		l.warnf(CodeSurplus, ws[2], "what follows the port is ignored: %s", joinWords(ws[2:]))
	}
	return e, true
}

// addressRange reads ADDR, ADDR-LAST, ADDR-ADDR2 or ADDR/LEN.
func (l *loader) addressRange(w syntax.Word) (first, last netip.Addr, ok bool) {
	if strings.Contains(w.Text, "/") {
		p, ok := l.prefix(w, "address")
		if !ok {
			return first, last, false
		}
		if p.Masked() != p {
			l.errorf(CodeAddress, w, "%s: the bits after the first %d have to be zero; do you mean %v?", quote(w.Text), p.Bits(), p.Masked())
			return first, last, false
		}
		first, last = p.Addr(), lastOf(p)
		return first, last, l.rangeSize(w, first, last)
	}
	text, end, isRange := strings.Cut(w.Text, "-")
	firstWord := w
	firstWord.Text = text
	if first, ok = l.address(firstWord, "address"); !ok || !isRange {
		return first, first, ok
	}
	last, ok = endOfRange(first, end)
	if !ok || last.BitLen() != first.BitLen() || last.Less(first) {
		l.errorf(CodeAddress, w, "%s is not a range: after the dash comes a later address, or its last %s", quote(w.Text),
			map[bool]string{true: "octet", false: "16 bits in hexadecimal"}[first.Is4()])
		return first, last, false
	}
	return first, last, l.rangeSize(w, first, last)
}

// endOfRange reads what follows the dash of a range: an address, or the last part of one.
func endOfRange(first netip.Addr, text string) (netip.Addr, bool) {
	if strings.ContainsAny(text, ".:") {
		last, err := netip.ParseAddr(text)
		return last, err == nil && last.Zone() == "" && !last.Is4In6()
	}
	whole := first.String()
	if first.Is4() {
		whole = whole[:strings.LastIndexByte(whole, '.')+1] + text
	} else {
		whole = first.StringExpanded()
		whole = whole[:strings.LastIndexByte(whole, ':')+1] + text
	}
	last, err := netip.ParseAddr(whole)
	return last, err == nil
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// rangeSize refuses ranges that are too large.
func (l *loader) rangeSize(w syntax.Word, first, last netip.Addr) bool {
	a, b := first.AsSlice(), last.AsSlice()
	tail := len(a) - 3
	if slices.Equal(a[:tail], b[:tail]) {
		size := func(s []byte) int { return int(s[0])<<16 | int(s[1])<<8 | int(s[2]) }
		if size(b[tail:])-size(a[tail:]) < maxRange {
			return true
		}
	}
	l.errorf(CodeRange, w, "%s has more than %d addresses, each of which would be a service", quote(w.Text), maxRange)
	return false
}

func (l *loader) ssl(s statement) {
	if l.cfg.SSL != nil {
		l.errorf(CodeDuplicate, s.Words[0],
			"there is an SSL block on line %d already; this one is skipped", l.cfg.SSL.Pos.Line)
		return
	}
	l.cfg.SSL = &SSL{Pos: s.Pos()}
	l.statements(s.Children, "SSL", l.sslWords(l.cfg.SSL))
}

func (l *loader) sslWords(v *SSL) handlers {
	return handlers{
		"password": l.setText(&v.Password), "ca": l.setText(&v.CA), "certificate": l.setText(&v.Certificate), "key": l.setText(&v.Key),
	}
}
