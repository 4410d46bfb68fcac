package conf

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
)

// Defaults of the cluster block.
const (
	defaultKeyFile       = "/etc/had/cluster.key"
	defaultDataDir       = "/var/lib/had"
	defaultPort          = 7770
	defaultControlSocket = "/run/had/had.sock"
	maxSocketPath        = 107 // sun_path without the terminating zero
	maxName              = 63
	manyVoters           = 7

	defaultFenceTimeout    = 20 * time.Second
	defaultFenceRetries    = 2
	defaultWatchdogTimeout = 5 * time.Second
	agentDir               = "/usr/sbin" // where distributions keep fence agents
)

// clusterDraft is the cluster block as it was given.
type clusterDraft struct {
	Cluster
	words  map[string]*Node
	node   syntax.Word   // the argument of the word node
	peerAt []syntax.Word // the names of the peers
	placed []placedNames // of the group blocks, in their order
}

func (d *clusterDraft) at(keyword string) syntax.Word {
	if n := d.words[keyword]; n != nil {
		return n.Words[0]
	}
	return wordAt(d.Pos)
}

func (l *loader) clusterBlock(s statement) {
	l.inCluster = true
	d := &clusterDraft{Cluster: Cluster{
		Pos: s.Pos(), KeyFile: defaultKeyFile, DataDir: defaultDataDir, Port: defaultPort,
		ControlSocket: defaultControlSocket,
	}}
	d.words = l.statements(s.Children, "cluster", l.clusterWords(d))
	l.inCluster = false
	l.clusterDraft = d
}

func (l *loader) clusterWords(d *clusterDraft) handlers {
	return handlers{
		"name": func(s statement) { d.Name = l.name(s.Words[1], "the name of the cluster") },
		"node": func(s statement) {
			d.node = s.Words[1]
			d.Node = l.name(s.Words[1], "the name of the node")
		},
		"key_file":        func(s statement) { l.absolutePath(s, &d.KeyFile) },
		"data_dir":        func(s statement) { l.absolutePath(s, &d.DataDir) },
		"port":            func(s statement) { l.setInt(s, &d.Port) },
		"lease":           func(s statement) { l.setSeconds(s, &d.Lease) },
		"peer":            func(s statement) { l.peer(s, d) },
		"gateway":         func(s statement) { l.gateway(s, d) },
		"gateway_require": func(s statement) { l.gatewayRequire(s, d) },
		"group":           func(s statement) { l.placement(s, d) },
		"max_groups":      func(s statement) { l.setInt(s, &d.MaxGroups) },
		"quorum_loss": func(s statement) {
			if i := l.choice(s, "demote", "hold"); i >= 0 {
				d.QuorumLoss = QuorumLoss(i)
			}
		},
		"arbitration": func(s statement) {
			if i := l.choice(s, "majority", "gateway"); i >= 0 {
				d.Arbitration = Arbitration(i)
			}
		},
		"guard": func(s statement) {
			if i := l.choice(s, "nftables", "lifetime", "none"); i >= 0 {
				d.Guard = Guard(i)
			}
		},
		"fencing": func(s statement) {
			if i := l.choice(s, "off", "preferred", "required"); i >= 0 {
				d.Fencing = Fencing(i)
			}
		},
		"fence":    func(s statement) { l.fence(s, d) },
		"watchdog": func(s statement) { l.watchdog(s, d) },
		"control_socket": func(s statement) {
			l.absolutePath(s, &d.ControlSocket)
			if len(d.ControlSocket) > maxSocketPath {
				l.errorf(CodeRange, s.Words[1], "the path of the control socket has %d bytes, more than %d",
					len(d.ControlSocket), maxSocketPath)
			}
		},
	}
}

// name checks the name of a cluster or a node. Such names stand in certificates, member identifiers and messages.
func (l *loader) name(w syntax.Word, what string) string {
	bad := strings.IndexFunc(w.Text, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c))
	})
	if w.Text == "" || len(w.Text) > maxName || bad >= 0 || strings.ContainsRune("._-", rune(w.Text[0])) {
		l.errorf(CodeRange, w,
			"%s: %s is not 1 to %d letters, digits, dots, underscores and hyphens that begin with a letter or digit%s",
			what, quote(w.Text), maxName, strange(w.Text))
	}
	return w.Text
}

func (l *loader) absolutePath(s statement, p *string) {
	if !path.IsAbs(s.Words[1].Text) {
		l.errorf(CodeRange, s.Words[1], "%s: %s is not an absolute path", s.Keyword(), quote(s.Words[1].Text))
		return
	}
	*p = path.Clean(s.Words[1].Text)
}

func (l *loader) peer(s statement, d *clusterDraft) {
	p := Peer{Pos: s.Pos(), Name: l.name(s.Words[1], "the name of the peer")}
	last := l.statements(s.Children, "cluster/peer", l.peerWords(&p))
	if last["address"] == nil {
		l.errorf(CodePeer, s.Words[1], "peer %s has no address", p.Name)
	}
	for _, o := range d.Peers {
		if o.Name == p.Name {
			l.errorf(CodePeer, s.Words[1], "there is a peer %s on line %d already", p.Name, o.Pos.Line)
		}
		if p.Address.IsValid() && o.Address == p.Address {
			l.errorf(CodePeer, last["address"].Words[1], "peer %s has the address %v already", o.Name, o.Address)
		}
	}
	d.Peers = append(d.Peers, p)
	d.peerAt = append(d.peerAt, s.Words[1])
}

func (l *loader) peerWords(p *Peer) handlers {
	return handlers{
		"address": func(s statement) {
			a, ok := l.address(s.Words[1], "peer")
			switch {
			case !ok:
			case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
				l.errorf(CodePeer, s.Words[1], "%v is not the address of one host", a)
			case a.IsLinkLocalUnicast():
				l.errorf(CodePeer, s.Words[1],
					"%v is link-local: peers need addresses that mean the same on all of them", a)
			default:
				p.Address = a
			}
		},
		"witness": setTrue(&p.Witness),
	}
}

// everyGateway is the number of gateways needed while it is not known how many there are.
const everyGateway = -1

// gatewayRequire reads any, all or a number.
func (l *loader) gatewayRequire(s statement, d *clusterDraft) {
	switch w := s.Words[1]; w.Text {
	case "any":
		d.GatewaysNeeded = 1
	case "all":
		d.GatewaysNeeded = everyGateway
	default:
		n, err := strconv.Atoi(w.Text)
		if err != nil || n < 1 {
			l.errorf(CodeRange, w, "gateway_require: %s is none of any, all and a number of gateways", quote(w.Text))
			return
		}
		d.GatewaysNeeded = n
	}
}

// gatewaysNeeded settles how many of the gateways that there are a director must reach.
func (l *loader) gatewaysNeeded(d *clusterDraft) {
	switch n := len(d.Gateways); {
	case n == 0 && d.words["gateway_require"] != nil:
		l.warnf(CodeMissing, d.at("gateway_require"), "gateway_require has no effect without a gateway")
		d.GatewaysNeeded = 0
	case n == 0:
	case d.GatewaysNeeded == everyGateway:
		d.GatewaysNeeded = n
	case d.GatewaysNeeded > n:
		l.errorf(CodeRange, d.words["gateway_require"].Words[1], "gateway_require %d: there are %d gateways", d.GatewaysNeeded, n)
	default:
		d.GatewaysNeeded = max(d.GatewaysNeeded, 1)
	}
}

func (l *loader) gateway(s statement, d *clusterDraft) {
	g := Gateway{Pos: s.Pos(), Interval: second, Fall: 3, Rise: 2}
	a, ok := l.address(s.Words[1], "gateway")
	if ok && (a.IsUnspecified() || a.IsMulticast()) {
		l.errorf(CodeAddress, s.Words[1], "%v is not the address of one host", a)
	}
	g.Address = a
	last := l.statements(s.Children, "cluster/gateway", l.gatewayWords(&g))
	if g.Timeout == 0 {
		g.Timeout = min(g.Interval, second)
	}
	if g.Timeout > g.Interval {
		l.errorf(CodeRange, last["timeout"].Words[1],
			"the timeout %v is longer than the interval %v", g.Timeout, g.Interval)
	}
	if g.Method == ProbeARP && g.Interface == "" {
		l.errorf(CodeMissing, last["method"].Words[0], "method arp needs the word interface")
	}
	if g.Address.IsLinkLocalUnicast() && g.Interface == "" {
		l.errorf(CodeMissing, s.Words[1], "%v is link-local and needs the word interface", g.Address)
	}
	if g.Source.IsValid() && ok && g.Source.Is4() != g.Address.Is4() {
		l.errorf(CodeAddress, last["source"].Words[1], "the source %v is of another family than the gateway %v", g.Source, g.Address)
	}
	if slices.ContainsFunc(d.Gateways, func(o Gateway) bool { return o.Address == g.Address }) {
		l.errorf(CodeDuplicate, s.Words[1], "there is a gateway %v already", g.Address)
	}
	d.Gateways = append(d.Gateways, g)
}

func (l *loader) gatewayWords(g *Gateway) handlers {
	return handlers{
		"interval": func(s statement) { l.setSeconds(s, &g.Interval) },
		"timeout":  func(s statement) { l.setSeconds(s, &g.Timeout) },
		"fall":     func(s statement) { l.setInt(s, &g.Fall) },
		"rise":     func(s statement) { l.setInt(s, &g.Rise) },
		"method": func(s statement) {
			if i := l.choice(s, "icmp", "arp"); i >= 0 {
				g.Method = ProbeMethod(i)
			}
		},
		"interface": func(s statement) { l.setInterface(s, &g.Interface) },
		"source": func(s statement) {
			a, ok := l.address(s.Words[1], "source")
			switch {
			case !ok:
			case a.IsUnspecified() || a.IsMulticast():
				l.errorf(CodeAddress, s.Words[1], "%v is not the address of one host", a)
			default:
				g.Source = a
			}
		},
	}
}

// checkCluster applies the rules that need the whole cluster block, or more than it.
func (l *loader) checkCluster() {
	d := l.clusterDraft
	if d == nil {
		return
	}
	l.inCluster = true
	defer func() { l.inCluster = false }()
	if d.Name == "" {
		l.errorf(CodeCluster, wordAt(d.Pos), "the cluster has no name; every member needs the same one")
	}
	l.self(d)
	l.voters(d)
	l.peerAddresses(d)
	l.gatewaysNeeded(d)
	l.checkPlacement(d)
	l.checkLease(d)
	l.checkFencing(d)
	l.groupNames()
	switch d.Guard {
	case GuardLifetime:
		l.warnf(CodeUnprotected, d.at("guard"),
			"guard lifetime works in whole seconds and up to 1.1 s late, so that a takeover from a "+
				"dead owner takes that much longer; guard nftables is exact")
	case GuardNone:
		l.warnf(CodeUnprotected, d.at("guard"),
			"with guard none nothing stops a frozen had from keeping its addresses: two owners are "+
				"possible")
	}
	l.cfg.Cluster = &d.Cluster
}

// self decides which of the peers this machine is.
func (l *loader) self(d *clusterDraft) {
	names := make([]string, len(d.Peers))
	for i, p := range d.Peers {
		names[i] = p.Name
	}
	if len(names) == 0 {
		l.errorf(CodePeer, wordAt(d.Pos), "the cluster has no peer")
		return
	}
	if d.Node != "" {
		if !slices.Contains(names, d.Node) {
			hint := ""
			if near, ok := syntax.Nearest(d.Node, names); ok {
				hint = "; did you mean " + near + "?"
			}
			l.errorf(CodeNode, d.node,
				"node %s is none of the peers %s%s", quote(d.Node), strings.Join(names, ", "), hint)
		}
		return
	}
	short, _, _ := strings.Cut(l.opts.Node, ".")
	for _, candidate := range []string{l.opts.ConfigID, l.opts.Node, short} {
		if slices.Contains(names, candidate) {
			d.Node = candidate
			return
		}
	}
	l.errorf(CodeNode, wordAt(d.Pos),
		"this machine's name %s is none of the peers %s; say which of them it is with the word node, "+
			"or with -i", quote(l.opts.Node), strings.Join(names, ", "))
}

func (l *loader) voters(d *clusterDraft) {
	directors := len(d.Peers) - d.Witnesses()
	at := wordAt(d.Pos)
	switch n := len(d.Peers); {
	case n == 0:
		return
	case directors == 0:
		l.errorf(CodeVoters, at, "all peers are witnesses: nobody can own an address")
	case n == 1:
		l.warnf(CodeVoters, at, "the cluster has one peer: nobody can take over from it")
	case d.Arbitration == ArbitrationGateway && n == 2: // see arbitration
	case n == 2:
		l.warnf(CodeVoters, at, "with two voters the loss of either takes the majority away; add a witness")
	case n%2 == 0:
		l.warnf(CodeVoters, at, "%d voters survive the loss of %d, as %d would; add or remove a witness", n, (n-1)/2, n-1)
	}
	if directors == 1 && len(d.Peers) > 1 {
		l.warnf(CodeVoters, at, "only one peer is a director: nobody can take over from it")
	}
	if n := len(d.Peers); n > manyVoters {
		l.warnf(CodeVoters, at, "%d voters: each has to be reached for every lease; 3 or 5 are usual", n)
	}
	if directors > 0 && d.Witnesses() > directors {
		l.notef(CodeVoters, at,
			"there are more witnesses than directors: they alone are a majority, which can own nothing")
	}
	if d.Arbitration == ArbitrationGateway {
		l.arbitration(d, directors)
	}
	if d.QuorumLoss == QuorumLossHold {
		if len(d.Gateways) == 0 {
			l.errorf(CodeVoters, d.at("quorum_loss"), "quorum_loss hold needs a gateway")
		}
		l.warnf(CodeUnprotected, d.at("quorum_loss"),
			"with quorum_loss hold an owner that is cut off from the others keeps its addresses while they take over: two owners are "+
				"possible")
	}
}

// arbitration checks what the gateway is to decide.
func (l *loader) arbitration(d *clusterDraft, directors int) {
	at := d.at("arbitration")
	if n := len(d.Peers); n != 2 || directors != 2 {
		l.errorf(CodeVoters, at, "arbitration gateway is for two directors without a witness, not for %d peers with %d witnesses", n, n-directors)
	}
	if len(d.Gateways) == 0 {
		l.errorf(CodeVoters, at, "arbitration gateway needs a gateway")
	}
	if d.Fencing == FencingRequired {
		l.errorf(CodeVoters, at,
			"arbitration gateway takes over without a majority, and so without the proof that fencing required waits for")
	}
	l.warnf(CodeUnprotected, at,
		"arbitration gateway is no split-brain protection: two directors that reach the gateway, but not each other, both own the "+
			"addresses; a witness instead of it prevents that")
}

// peerAddresses refuses peers at addresses that move.
func (l *loader) peerAddresses(d *clusterDraft) {
	for i, p := range d.Peers {
		if !p.Address.IsValid() {
			continue
		}
		for _, in := range l.cfg.Instances {
			for _, a := range slices.Concat(in.Addresses, in.Excluded) {
				if a.Prefix.Addr() == p.Address {
					l.errorf(CodePeer, d.peerAt[i],
						"the address %v of peer %s is a virtual address of vrrp_instance %s; peers need "+
							"addresses that stay", p.Address, p.Name, in.Name)
				}
			}
		}
		for _, g := range d.Gateways {
			if g.Address == p.Address {
				l.warnf(CodePeer, d.peerAt[i],
					"peer %s is also a gateway: losing it would look like losing the network", p.Name)
			}
		}
	}
}

// groupNames refuses a sync group and an instance outside any of one name: leases are given by these names.
func (l *loader) groupNames() {
	for _, in := range l.cfg.Instances {
		if in.SyncGroup != "" {
			continue
		}
		for _, g := range l.cfg.SyncGroups {
			if g.Name == in.Name {
				l.errorf(CodeDuplicate, wordAt(g.Pos), "vrrp_sync_group %s has the name of a vrrp_instance outside it, and leases go by "+
					"these names", g.Name)
			}
		}
	}
}

// checkLease compares the lease with the time after which a backup takes over.
func (l *loader) checkLease(d *clusterDraft) {
	at := d.at("lease")
	if d.Lease == 0 && len(l.cfg.Instances) == 0 {
		if d.words["lease"] == nil {
			l.errorf(CodeLease, wordAt(d.Pos),
				"no vrrp_instance stands in this file from which to derive the lease, and all members need "+
					"the same one: give the word lease (2.5 times the smallest advert_int is usual)")
		}
		return
	}
	l.cfg.Cluster = &d.Cluster
	lease := l.cfg.LeaseDuration()
	if d.Guard == GuardLifetime && lease < guardLifetimeLeaseMin {
		l.errorf(CodeLease, d.at("guard"), "guard lifetime counts in whole seconds and needs a lease of at least %v; it is %v",
			guardLifetimeLeaseMin, lease)
	}
	var first *Instance
	var shortest time.Duration
	for i := range l.cfg.Instances {
		in := &l.cfg.Instances[i]
		if down := in.ActiveDownInterval(); first == nil || down < shortest {
			first, shortest = in, down
		}
	}
	if first == nil {
		return
	}
	if smallest := l.cfg.smallestInterval(); d.Lease > 0 && lease < smallest {
		l.notef(CodeLease, at, "the lease of %v is shorter than the smallest advert_int, %v: an owner that reaches no majority for that "+
			"long gives up, while VRRP alone would wait %v", lease, smallest, shortest.Round(time.Millisecond))
	}
	promise := lease + time.Duration(float64(lease)*DriftBound)
	if d.Guard == GuardLifetime {
		promise += GuardLifetimeLateness
	}
	if promise < shortest {
		return
	}
	text := fmt.Sprintf("the lease of %v outlasts the %v after which vrrp_instance %s takes over from an owner that is gone",
		lease, shortest.Round(time.Millisecond), first.Name)
	if d.Guard == GuardLifetime {
		text += " (guard lifetime is up to 1.1 s late)"
	}
	l.warnf(CodeLease, at, "%s: the takeover has to wait up to %v", text, promise.Round(time.Millisecond))
}
