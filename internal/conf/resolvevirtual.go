package conf

import (
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
)

// resolveVirtualServers puts defaults in place, hands down from virtual server to real server to checker, and leaves out
// what cannot be served.
func (l *loader) resolveVirtualServers() {
	seen := make(map[string]Pos)
	for _, d := range l.virtuals {
		group := l.virtualGroup(d)
		l.resolveProtocol(d)
		l.resolveServers(d, group)
		if len(d.servers) == 0 {
			l.errorf(CodeLVS, d.word, "the virtual_server has no real_server and is left out")
			continue
		}
		l.resolveScheduling(d, group)
		l.resolveQuorum(d)
		for _, alert := range []*bool{l.global.Mail.Alert, l.global.Mail.AlertChecker, d.smtpAlert} {
			setIf(&d.SMTPAlert, alert)
		}
		name := fmt.Sprint(d.Protocol, d.Address, d.Group, d.Mark, d.Family)
		if first, found := seen[name]; found {
			l.errorf(CodeDuplicate, d.word, "the virtual_server stands at %v already; this one is left out", first)
			continue
		}
		seen[name] = d.Pos
		d.Servers = make([]RealServer, 0, len(d.servers))
		nodes := make([]*Node, 0, len(d.servers))
		for _, r := range d.servers {
			d.Servers, nodes = append(d.Servers, r.RealServer), append(nodes, r.node)
		}
		l.cfg.VirtualServers = append(l.cfg.VirtualServers, d.VirtualServer)
		if l.texts {
			l.cfg.source.servers = append(l.cfg.source.servers, sourceOf(d.node, l.declared["virtual_server_group"][d.Group], nodes))
		}
	}
	l.sharedServices()
}

// virtualGroup returns the group that a virtual server names, or nil.
func (l *loader) virtualGroup(d *virtualDraft) *VirtualServerGroup {
	for i := range l.cfg.VirtualServerGroups {
		if g := &l.cfg.VirtualServerGroups[i]; d.Group != "" && g.Name == d.Group {
			return g
		}
	}
	return nil
}

// marksOnly tells whether all services of the virtual server are firewall marks.
func (d *virtualDraft) marksOnly(group *VirtualServerGroup) bool {
	return d.Mark != 0 ||
		group != nil && !slices.ContainsFunc(group.Entries, func(e GroupEntry) bool { return e.Mark == 0 })
}

func (l *loader) resolveProtocol(d *virtualDraft) {
	marks := d.marksOnly(l.virtualGroup(d))
	switch {
	case marks && d.protocol != nil:
		l.warnf(CodeLVS, d.at("protocol"), "a firewall mark has no protocol; the word is ignored")
	case marks:
	case d.protocol == nil:
		l.warnf(CodeMissing, d.word, "the virtual_server has no protocol; as in keepalived it is UDP")
		d.Protocol = UDP
	default:
		d.Protocol = *d.protocol
	}
	if d.OnePacket && !marks && d.Protocol != UDP {
		l.errorf(CodeLVS, d.at("ops"), "ops is for UDP and is ignored")
		d.OnePacket = false
	}
	if d.HASuspend && marks {
		l.errorf(CodeLVS, d.at("ha_suspend"), "ha_suspend needs an address and is ignored with a firewall mark")
		d.HASuspend = false
	}
	if d.forwarding != nil {
		d.Forwarding = *d.forwarding
	}
}

// resolveServers completes the real servers and the sorry server, and leaves out those that cannot serve.
func (l *loader) resolveServers(d *virtualDraft, group *VirtualServerGroup) {
	unsaid := false
	for _, r := range d.servers {
		r.RealServer.Forwarding = d.VirtualServer.Forwarding
		if r.forwarding != nil {
			r.RealServer.Forwarding = *r.forwarding
		} else if d.forwarding == nil {
			unsaid = true
		}
	}
	if unsaid {
		l.warnf(CodeMissing, d.word, "the virtual_server has no lb_kind; as in keepalived it is NAT")
	}
	fits := l.resolveFamilies(d, group)
	d.servers = slices.DeleteFunc(d.servers, func(r *realDraft) bool {
		if !fits(r.Address.Addr(), r.RealServer.Forwarding) {
			l.errorf(CodeFamily, r.word, "the real_server %v is of another address family than the virtual_server, which TUN alone "+
				"can serve; it is left out", r.Address.Addr())
			return true
		}
		r.Address = l.destinationPort(d, r.word, r.Address, r.RealServer.Forwarding)
		return false
	})
	l.duplicateServers(d)
	for _, r := range d.servers {
		l.resolveServer(d, r)
	}
	if d.Sorry == nil {
		return
	}
	d.Sorry.Forwarding = d.VirtualServer.Forwarding
	setIf(&d.Sorry.Forwarding, d.sorryMethod)
	w := wordAt(d.Sorry.Pos)
	if !fits(d.Sorry.Address.Addr(), d.Sorry.Forwarding) {
		l.errorf(CodeFamily, w, "the sorry_server %v is of another address family than the virtual_server; it is left out",
			d.Sorry.Address.Addr())
		d.Sorry = nil
		return
	}
	d.Sorry.Address = l.destinationPort(d, w, d.Sorry.Address, d.Sorry.Forwarding)
}

// duplicateServers leaves out servers that their rules about ports have made equal.
func (l *loader) duplicateServers(d *virtualDraft) {
	seen := make(map[netip.AddrPort]Pos, len(d.servers))
	d.servers = slices.DeleteFunc(d.servers, func(r *realDraft) bool {
		first, found := seen[r.Address]
		if found {
			l.errorf(CodeDuplicate, r.word, "the real_server %v stands at %v already; this one is left out", r.Address, first)
			return true
		}
		seen[r.Address] = r.Pos
		return false
	})
}

// resolveFamilies finds the family of the services. fits tells whether a server can be in one of them.
func (l *loader) resolveFamilies(d *virtualDraft, group *VirtualServerGroup) (fits func(netip.Addr, Forwarding) bool) {
	switch {
	case d.Address.IsValid():
		d.Family = familyOf(d.Address.Addr())
		if d.family != 0 && d.family != d.Family {
			l.errorf(CodeFamily, d.at("ip_family"), "%v is not of this family; the word is ignored", d.Address.Addr())
		}
	case d.family != 0:
		d.Family = d.family
	default:
		for _, r := range d.servers {
			if r.RealServer.Forwarding.Method != TUN || d.Family == 0 {
				d.Family = familyOf(r.Address.Addr())
			}
			if r.RealServer.Forwarding.Method != TUN {
				break
			}
		}
	}
	families := []Family{d.Family}
	if group != nil {
		families = nil
		for _, e := range group.Entries {
			if e.Family != 0 {
				families = append(families, e.Family)
			} else {
				families = append(families, d.Family)
			}
		}
	}
	return func(a netip.Addr, f Forwarding) bool {
		return f.Method == TUN || slices.Contains(families, familyOf(a))
	}
}

// destinationPort returns a server with the port that it has to have: by DR and TUN packets arrive as they were sent.
func (l *loader) destinationPort(d *virtualDraft, w syntax.Word, a netip.AddrPort, f Forwarding) netip.AddrPort {
	switch {
	case f.Method == NAT || a.Port() == d.Address.Port():
		return a
	case d.Mark != 0:
		l.warnf(CodeLVS, w, "with a firewall mark and %v there is no port %d; it is ignored", methodNames[f.Method], a.Port())
	case d.Group != "":
		return netip.AddrPortFrom(a.Addr(), 0) // that of the group's entry
	default:
		l.errorf(CodeLVS, w, "with %v the port cannot change from %d to %d; it counts as %d", methodNames[f.Method],
			d.Address.Port(), a.Port(), d.Address.Port())
	}
	return netip.AddrPortFrom(a.Addr(), d.Address.Port())
}

var methodNames = [...]string{NAT: "NAT", DR: "DR", TUN: "TUN"}

func (l *loader) resolveServer(d *virtualDraft, r *realDraft) {
	r.Weight = d.weight
	setIf(&r.Weight, r.weight)
	r.InhibitOnFailure, r.Alpha = d.inhibit, d.alpha
	setIf(&r.InhibitOnFailure, r.inhibit)
	setIf(&r.Alpha, r.alpha)
	r.SMTPAlert = true
	for _, alert := range []*bool{l.global.Mail.Alert, l.global.Mail.AlertChecker, r.smtpAlert} {
		setIf(&r.SMTPAlert, alert)
	}
	if r.Lower > r.Upper {
		w := r.word
		if n := r.last["lthreshold"]; n != nil {
			w = n.Words[0]
		}
		l.errorf(CodeLVS, w, "lthreshold %d is above uthreshold %d, which the kernel refuses; lthreshold is ignored", r.Lower, r.Upper)
		r.Lower = 0
	}
	for _, c := range r.checkers {
		targets := []*checkDraft{c}
		if len(c.hosts) > 0 {
			targets = c.hosts
			for _, h := range c.hosts {
				h.inherit(c)
			}
		}
		for _, t := range targets {
			if l.resolveChecker(d, r, t) {
				r.RealServer.Checkers = append(r.RealServer.Checkers, t.Checker)
			}
		}
	}
}

// inherit completes a host block with what its SMTP_CHECK says.
func (d *checkDraft) inherit(c *checkDraft) {
	d.HeloName = c.HeloName
	for _, p := range []struct{ own, outer **time.Duration }{
		{&d.delayBeforeRetry, &c.delayBeforeRetry}, {&d.warmup, &c.warmup}, {&d.connectTimeout, &c.connectTimeout},
		{&d.delayLoop, &c.delayLoop},
	} {
		if *p.own == nil {
			*p.own = *p.outer
		}
	}
	if d.retry == nil {
		d.retry = c.retry
	}
	if d.alpha == nil {
		d.alpha = c.alpha
	}
	if d.logAll == nil {
		d.logAll = c.logAll
	}
	if !d.connectIP.IsValid() {
		d.connectIP = c.connectIP
	}
	if !d.BindAddress.IsValid() {
		d.BindAddress = c.BindAddress
	}
	if d.BindInterface == "" {
		d.BindInterface = c.BindInterface
	}
	if d.connectPort == 0 {
		d.connectPort = c.connectPort
	}
	if d.BindPort == 0 {
		d.BindPort = c.BindPort
	}
	if d.Checker.Mark == 0 {
		d.Checker.Mark = c.Checker.Mark
	}
}

// resolveScheduling completes what belongs to the services themselves.
func (l *loader) resolveScheduling(d *virtualDraft, group *VirtualServerGroup) {
	if d.Scheduler == "" {
		if d.last["lb_algo"] == nil && d.last["lvs_sched"] == nil {
			l.warnf(CodeMissing, d.word, "the virtual_server has no lb_algo; as in keepalived it is wlc")
		}
		d.Scheduler = "wlc"
	}
	setIf(&d.Persistence, d.persistence)
	allPorts := d.Address.IsValid() && d.Address.Port() == 0 ||
		group != nil && slices.ContainsFunc(group.Entries, func(e GroupEntry) bool { return e.Mark == 0 && e.Port == 0 })
	if d.Persistence == 0 {
		switch {
		case allPorts:
			l.errorf(CodeLVS, d.word, "a virtual_server for all ports needs persistence; it is persistent for 360 seconds")
		case d.PersistenceEngine != "":
			l.errorf(CodeLVS, d.at("persistence_engine"), "persistence_engine needs persistence_timeout; it counts as 360 seconds")
		}
		if allPorts || d.PersistenceEngine != "" || d.granularity.Text != "" {
			d.Persistence = defaultPersistence
		}
	}
	if d.PersistenceEngine != "" && d.Protocol != UDP && !d.marksOnly(group) {
		l.errorf(CodeLVS, d.at("persistence_engine"), "the persistence engine %s reads UDP; it is ignored", quote(d.PersistenceEngine))
		d.PersistenceEngine = ""
	}
	if d.Persistence > 0 {
		d.PersistencePrefix = l.granularity(d)
	}
}

// granularity returns the length of the prefix by which clients of a persistent service are told apart; 0: the address.
func (l *loader) granularity(d *virtualDraft) uint8 {
	w := d.granularity
	if w.Text == "" {
		return 0
	}
	whole := map[Family]int{IPv4: 32, IPv6: 128}[d.Family]
	if mask, err := netip.ParseAddr(w.Text); err == nil && mask.Is4() {
		b := mask.As4()
		n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		length := bits.LeadingZeros32(^n)
		if bits.OnesCount32(n) == length && length > 0 && whole == 32 {
			return uint8(length)
		}
	} else if n, err := strconv.Atoi(w.Text); err == nil && n >= 1 && n <= whole {
		return uint8(n)
	}
	l.errorf(CodeRange, w, "persistence_granularity: %s is neither a netmask nor the length of a prefix of IPv%d; it is ignored",
		quote(w.Text), d.Family)
	return 0
}

func (l *loader) resolveQuorum(d *virtualDraft) {
	total := 0
	for _, r := range d.servers {
		total += r.Weight
	}
	if total = min(max(total, 1), math.MaxInt32); d.Quorum > total {
		l.warnf(CodeLVS, d.at("quorum"), "quorum %d is above the weight of all real servers together and counts as %d", d.Quorum, total)
		d.Quorum = total
	}
	if d.Hysteresis >= d.Quorum {
		l.warnf(CodeLVS, d.at("hysteresis"), "hysteresis %d has to be below the quorum and counts as %d", d.Hysteresis, d.Quorum-1)
		d.Hysteresis = d.Quorum - 1
	}
}

// sharedServices warns of addresses and marks that two virtual servers have: the kernel has one service for both, and the
// first keeps it.
func (l *loader) sharedServices() {
	type service struct {
		protocol Protocol
		address  netip.AddrPort
		mark     uint32
		family   Family
	}
	seen := make(map[service]Pos)
	take := func(s service, at Pos) {
		if first, found := seen[s]; found && first != at {
			what := fmt.Sprintf("%v port %d", s.address.Addr(), s.address.Port())
			if s.mark != 0 {
				what = fmt.Sprintf("the firewall mark %d", s.mark)
			}
			l.errorf(CodeDuplicate, wordAt(at), "%s is a virtual_server at %v already, which keeps it", what, first)
			return
		}
		seen[s] = at
	}
	for _, v := range l.cfg.VirtualServers {
		if v.Group == "" {
			take(service{protocol: v.Protocol, address: v.Address, mark: v.Mark, family: v.Family}, v.Pos)
			continue
		}
		for _, g := range l.cfg.VirtualServerGroups {
			if g.Name != v.Group {
				continue
			}
			for _, e := range g.Entries {
				if e.Mark != 0 {
					take(service{mark: e.Mark, family: max(e.Family, v.Family)}, v.Pos)
					continue
				}
				for a := e.First; ; a = a.Next() {
					take(service{protocol: v.Protocol, address: netip.AddrPortFrom(a, e.Port), family: e.Family}, v.Pos)
					if a == e.Last {
						break
					}
				}
			}
		}
	}
}
