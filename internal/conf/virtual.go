package conf

import (
	"slices"
	"strings"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

func (l *loader) ssl(s statement) {
	if l.cfg.SSL != nil {
		l.errorf(CodeDuplicate, s.Words[0],
			"there is an SSL block on line %d already; this one is skipped", l.cfg.SSL.Pos().Line)
		return
	}
	l.checkBlock(s.Node, "SSL")
	l.cfg.SSL = s.Node
}

// virtualServer checks a virtual_server block against the table of words and keeps it as it is.
func (l *loader) virtualServer(s statement) {
	switch first := s.Words[1]; first.Text {
	case "fwmark", "group":
		if len(s.Words) < 3 {
			l.fatalf(CodeMissingArgument, first, "virtual_server %s needs a value", first.Text)
			return
		}
		if first.Text == "fwmark" {
			l.wholeNumber(s.Words[2], "fwmark", limits(1, 1<<32-1))
		} else if l.declared["virtual_server_group"][s.Words[2].Text] == nil {
			target := s.Words[2].Text
			l.reference("virtual_server_group", s.Words[2], &target)
		}
	default:
		l.addressPort(s.Words[1:])
	}
	l.checkBlock(s.Node, "virtual_server")
	if !slices.ContainsFunc(s.Children, func(n *Node) bool { return n.Keyword() == "real_server" }) {
		l.warnf(CodeLVS, s.Words[0], "the virtual_server has no real_server")
	}
	l.cfg.VirtualServers = append(l.cfg.VirtualServers, s.Node)
}

// addressPort checks ADDR [PORT].
func (l *loader) addressPort(ws []syntax.Word) {
	l.address(ws[0], "address")
	if len(ws) > 1 {
		l.wholeNumber(ws[1], "port", limits(0, 65535))
	}
}

// virtualServerGroup checks the entries of a virtual_server_group: ADDR[-LAST|-ADDR2|/LEN] [PORT] or fwmark N [inet|inet6].
func (l *loader) virtualServerGroup(s statement) {
	for _, n := range s.Children {
		l.noBlock(n)
		ws := n.Words
		if ws[0].Text == "fwmark" {
			if len(ws) < 2 {
				l.errorf(CodeMissingArgument, ws[0], "fwmark needs a number")
				continue
			}
			l.wholeNumber(ws[1], "fwmark", limits(0, 1<<32-1))
			if len(ws) > 2 {
				l.choiceWord(ws[2], "fwmark", "inet", "inet6")
			}
			continue
		}
		first := ws[0]
		first.Text, _, _ = strings.Cut(first.Text, "-")
		if strings.Contains(first.Text, "/") {
			l.prefix(first, "address")
		} else {
			l.address(first, "address")
		}
		if len(ws) > 1 {
			l.wholeNumber(ws[1], "port", limits(0, 65535))
		}
		if len(ws) > 2 {
			l.warnf(CodeSurplus, ws[2], "what follows the port is ignored: %s", joinWords(ws[2:]))
		}
	}
	l.cfg.VirtualServerGroups = append(l.cfg.VirtualServerGroups, s.Node)
}

// checkBlock checks the statements of a block, and of those in it, against the table of words: numbers and their ranges,
// booleans, addresses, ports, and words of which there are only some.
func (l *loader) checkBlock(block *Node, name string) {
	h := make(handlers)
	for _, row := range words.Rows(name) {
		if row.Kind == words.Keyword {
			h[row.Word] = func(s statement) { l.checkStatement(s, name) }
		}
	}
	l.statements(block.Children, name, h)
}

func (l *loader) checkStatement(s statement, block string) {
	if s.IsBlock {
		if s.Keyword() == "real_server" {
			l.addressPort(s.Words[1:])
		}
		l.checkBlock(s.Node, block+"/"+s.Keyword())
		return
	}
	if len(s.Args()) == 0 {
		return
	}
	w := s.Words[1]
	switch s.row.Type() {
	case words.Int, words.Port:
		l.number(w, s.Keyword(), true, s.row.Limits())
	case words.Dec:
		l.number(w, s.Keyword(), false, s.row.Limits())
	case words.Bool:
		l.boolean(s)
	case words.Addr:
		if s.Keyword() == "sorry_server" {
			l.addressPort(s.Words[1:])
		} else {
			l.address(w, s.Keyword())
		}
	default:
		if s.row.Spec().Command && s.Keyword() != "regex" {
			l.command(s)
			return
		}
		l.checkChoice(s, block)
	}
}

// valuesOf are the words whose values the table lists under another word.
var valuesOf = map[string]string{
	"lvs_sched": "virtual_server/lb_algo", "lvs_method": "virtual_server/lb_kind",
	"sorry_server_lvs_method": "virtual_server/lb_kind",
}

// checkChoice checks a word of which the table lists the values.
func (l *loader) checkChoice(s statement, block string) {
	values := block + "/" + s.Keyword()
	if other, found := valuesOf[s.Keyword()]; found {
		values = other
	}
	values = strings.Replace(values, "/SSL_GET/http_protocol", "/HTTP_GET/http_protocol", 1)
	allowed := words.Names(values)
	if len(allowed) == 0 {
		return
	}
	w := s.Words[1]
	switch s.Keyword() {
	case "protocol", "type": // the case of these does not count
		w.Text = strings.ToUpper(w.Text)
	case "lb_kind", "lvs_method", "sorry_server_lvs_method":
		allowed = []string{"NAT", "DR", "TUN"}
	case "regex_options":
		for _, option := range s.Args() {
			l.choiceWord(option, s.Keyword(), allowed...)
		}
		return
	}
	l.choiceWord(w, s.Keyword(), allowed...)
}

// resolveStatic gives static addresses without an interface the default one, and makes instances track the interfaces of
// the static entries whose track_group they are in.
func (l *loader) resolveStatic() {
	for i := range l.cfg.Static.Addresses {
		a := &l.cfg.Static.Addresses[i]
		if a.Interface == "" {
			a.Interface = l.global.DefaultInterface
		}
		if a.TrackGroup != "" && !a.Track {
			l.warnf(CodeTracking, wordAt(a.Pos), "an address with no_track cannot have a track_group, which is ignored")
			a.TrackGroup = ""
		}
		l.trackFor(a.TrackGroup, a.Pos, a.Interface)
	}
	for _, r := range l.cfg.Static.Routes {
		l.trackFor(r.TrackGroup, r.Pos, r.Interface)
	}
	for _, r := range l.cfg.Static.Rules {
		l.trackFor(r.TrackGroup, r.Pos, r.InputInterface)
	}
}

// trackFor makes the instances of a track_group track an interface.
func (l *loader) trackFor(group string, at Pos, iface string) {
	for _, g := range l.cfg.TrackGroups {
		for i := range l.cfg.Instances {
			if in := &l.cfg.Instances[i]; g.Name == group && slices.Contains(g.Members, in.Name) {
				in.trackInterface(at, iface)
			}
		}
	}
}

// resolveRouting makes each instance track the interfaces that its tracked routes and rules name.
func (l *loader) resolveRouting() {
	for i := range l.cfg.Instances {
		in := &l.cfg.Instances[i]
		for _, r := range in.Routes {
			if r.Track {
				in.trackInterface(r.Pos, r.Interface)
			}
		}
		for _, r := range in.Rules {
			if r.Track {
				in.trackInterface(r.Pos, r.InputInterface)
				in.trackInterface(r.Pos, r.OutputInterface)
			}
		}
	}
}

// trackInterface makes an interface one that the instance cannot do without, unless its tracking is settled.
func (in *Instance) trackInterface(at Pos, iface string) {
	settled := iface == "" || iface == in.Interface && in.TrackPrimary ||
		slices.ContainsFunc(in.Tracking.Interfaces, func(t Track) bool { return t.Name == iface })
	if !settled {
		in.Tracking.Interfaces = append(in.Tracking.Interfaces, Track{Pos: at, Name: iface})
	}
}
