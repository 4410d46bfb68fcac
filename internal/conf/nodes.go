package conf

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/hactl/had/internal/conf/syntax"
)

// NodeConfig is the configuration of one node.
type NodeConfig struct {
	Node   string
	Config *Config
}

const maxNodes = 32

// NodeNames returns the nodes that a configuration serves: the directors of the cluster block, or without one all nodes that
// its conditions name, at most 32. conditional tells whether what it says depends on the node at all; without conditions it
// says the same to all, and may as well be meant for one of them.
func NodeNames(opts Options) (names []string, conditional bool) {
	l := load(opts)
	if d := l.clusterDraft; d != nil {
		for _, name := range directorsOf(d.Peers) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	} else {
		for _, w := range l.tree.Conditions {
			if !slices.Contains(names, w.Text) {
				names = append(names, w.Text)
			}
		}
	}
	return names[:min(len(names), maxNodes)], len(l.tree.Conditions) > 0
}

// For returns the options with which a node of that name reads the configuration.
func (o Options) For(node string) Options {
	o.ConfigID, o.Node = node, node
	return o
}

// LoadNodes reads a configuration that serves several nodes once for each of them, see NodeNames. It returns those that can
// be used; findings about the others are for Load.
func LoadNodes(opts Options) []NodeConfig {
	var nodes []NodeConfig
	names, _ := NodeNames(opts)
	for _, name := range names {
		if c, _ := Load(opts.For(name)); c != nil {
			nodes = append(nodes, NodeConfig{name, c})
		}
	}
	return nodes
}

// CompareNodes finds what differs between nodes and must not, and what their configurations together cannot do: addresses
// and identifiers that differ, priorities that are equal, weights too small to change the owner, peers that do not know one
// another.
func CompareNodes(nodes []NodeConfig) []Finding {
	c := &comparison{nodes: nodes}
	if len(nodes) < 2 {
		return nil
	}
	c.compareLeases()
	routers := c.routers()
	for _, r := range routers {
		c.compareRouter(r)
	}
	c.strangers(routers)
	c.compareSyncGroups(routers)
	syntax.Sort(c.findings, slices.Concat(c.files()...))
	return slices.Compact(c.findings)
}

type comparison struct {
	nodes    []NodeConfig
	findings []Finding
}

func (c *comparison) files() [][]string {
	var files [][]string
	for _, n := range c.nodes {
		files = append(files, n.Config.Files)
	}
	return files
}

func (c *comparison) add(severity Severity, code Code, at Pos, format string, args ...any) {
	c.findings = append(c.findings, Finding{Severity: severity, Code: code, Pos: at, Message: fmt.Sprintf(format, args...)})
}

func (c *comparison) compareLeases() {
	first := c.nodes[0]
	for _, n := range c.nodes[1:] {
		if first.Config.Cluster == nil || n.Config.Cluster == nil {
			continue
		}
		if a, b := first.Config.LeaseDuration(), n.Config.LeaseDuration(); a != b {
			c.add(Error, CodeLease, n.Config.Cluster.Pos,
				"the lease of node %s is %v, that of node %s %v: give the word lease",
				first.Node, a, n.Node, b)
		}
	}
}

// nodeInstance is an instance on one node.
type nodeInstance struct {
	node    string
	cluster bool
	*Instance
}

// router is one virtual router as its nodes have it, at most one instance of each, in the order of the nodes.
type router []nodeInstance

func (r router) on(node string) bool {
	return slices.ContainsFunc(r, func(in nodeInstance) bool { return in.node == node })
}

// routers finds the instances that are meant to be one virtual router: those of one name, and where a node has none of that
// name, one with the same virtual_router_id or with an address in common.
func (c *comparison) routers() []router {
	var byName []router
	for _, n := range c.nodes {
		for i := range n.Config.Instances {
			in := nodeInstance{n.Node, n.Config.Cluster != nil, &n.Config.Instances[i]}
			k := slices.IndexFunc(byName, func(r router) bool { return r[0].Name == in.Name })
			if k < 0 {
				byName = append(byName, router{in})
			} else {
				byName[k] = append(byName[k], in)
			}
		}
	}
	var all []router
	for _, r := range byName {
		k := slices.IndexFunc(all, func(o router) bool {
			apart := !slices.ContainsFunc(r, func(in nodeInstance) bool { return o.on(in.node) })
			return apart && o[0].Family == r[0].Family && (o[0].VRID == r[0].VRID || shareAddress(o[0].Instance, r[0].Instance))
		})
		if k < 0 {
			all = append(all, r)
		} else {
			all[k] = append(all[k], r...)
		}
	}
	return all
}

// shareAddress tells whether an address is in virtual_ipaddress of both.
func shareAddress(a, b *Instance) bool {
	return slices.ContainsFunc(a.Addresses, func(x Address) bool {
		return slices.ContainsFunc(b.Addresses, func(y Address) bool { return x.Prefix.Addr() == y.Prefix.Addr() })
	})
}

// compareRouter compares the instances of one virtual router.
func (c *comparison) compareRouter(found router) {
	first, name := found[0], found[0].Name
	var absent []string
	for _, n := range c.nodes {
		if !found.on(n.Node) {
			absent = append(absent, n.Node)
		}
	}
	if len(absent) > 0 {
		c.add(Warning, CodeNodesDiffer, first.Pos, "node %s has no vrrp_instance %s", strings.Join(absent, ", "), name)
	}
	for _, o := range found[1:] {
		differs := func(severity Severity, what string, a, b any) {
			c.add(severity, CodeNodesDiffer, o.Pos,
				"vrrp_instance %s: %s is %v on node %s and %v on node %s", name, what, a, first.node,
				b, o.node)
		}
		if first.Name != o.Name {
			if first.SyncGroup == "" && first.cluster {
				c.add(Error, CodeNodesDiffer, o.Pos, "the vrrp_instance %s of node %s is called %s on node %s: leases go by these "+
					"names, so that both could own the addresses", name, first.node, o.Name, o.node)
			} else {
				c.add(Note, CodeNodesDiffer, o.Pos, "the vrrp_instance %s of node %s is called %s on node %s", name, first.node,
					o.Name, o.node)
			}
		}
		if first.VRID != o.VRID {
			differs(Error, "virtual_router_id", first.VRID, o.VRID)
		}
		if first.Version != o.Version {
			differs(Error, "the version", first.Version, o.Version)
		}
		if first.AdvertInterval != o.AdvertInterval {
			severity := Warning
			if first.Version == 2 {
				severity = Error // advertisements with another interval are dropped
			}
			differs(severity, "advert_int", first.AdvertInterval, o.AdvertInterval)
		}
		if first.Auth.Type != o.Auth.Type || !bytes.Equal(first.Auth.Data[:], o.Auth.Data[:]) {
			c.add(Error, CodeNodesDiffer, o.Pos,
				"vrrp_instance %s: the authentication differs between node %s and node %s", name,
				first.node, o.node)
		}
		if first.Unicast != o.Unicast {
			c.add(Error, CodeNodesDiffer, o.Pos,
				"vrrp_instance %s: one of node %s and node %s uses unicast, the other multicast", name,
				first.node, o.node)
		} else if !first.Unicast && first.MulticastGroup != o.MulticastGroup {
			differs(Error, "the multicast group", first.MulticastGroup, o.MulticastGroup)
		}
		if first.SyncGroup != o.SyncGroup {
			differs(Error, "the sync group", orNone(first.SyncGroup), orNone(o.SyncGroup))
		}
		if a, b := addressList(first.Addresses), addressList(o.Addresses); a != b {
			differs(Error, "virtual_ipaddress", orNone(a), orNone(b))
		}
		if a, b := addressList(first.Excluded), addressList(o.Excluded); a != b {
			differs(Error, "virtual_ipaddress_excluded", orNone(a), orNone(b))
		}
	}
	c.comparePeers(found)
	if len(found) > 1 {
		c.comparePriorities(name, found)
	}
}

// comparePeers finds unicast routers that do not send to one another.
func (c *comparison) comparePeers(found router) {
	for _, in := range found {
		for _, o := range found {
			if in.node == o.node || !in.Unicast || !o.Unicast || !o.Source.IsValid() {
				continue
			}
			if !slices.ContainsFunc(in.Peers, func(p UnicastPeer) bool { return p.Address == o.Source }) {
				c.add(Error, CodeUnicast, in.Pos, "vrrp_instance %s: node %s sends from %v, which is no unicast_peer on node %s: "+
					"it would not hear node %s and take over beside it", in.Name, o.node, o.Source, in.node, in.node)
			}
		}
	}
}

// strangers finds instances of different virtual routers on different nodes that would get into each other's way.
func (c *comparison) strangers(routers []router) {
	for i, r := range routers {
		for _, other := range routers[i+1:] {
			for _, in := range r {
				for _, o := range other {
					if in.node == o.node || in.Family != o.Family {
						continue
					}
					switch {
					case shareAddress(in.Instance, o.Instance):
						c.add(Error, CodeSameAddress, o.Pos, "vrrp_instance %s of node %s and vrrp_instance %s of node %s have an "+
							"address in common, and are different virtual routers (virtual_router_id %d and %d)", in.Name, in.node,
							o.Name, o.node, in.VRID, o.VRID)
					case in.VRID == o.VRID && in.Interface == o.Interface && !in.Unicast && !o.Unicast &&
						in.MulticastGroup == o.MulticastGroup:
						c.add(Error, CodeVRIDDuplicate, o.Pos, "vrrp_instance %s of node %s has virtual_router_id %d on %s, as "+
							"vrrp_instance %s of node %s, but other addresses: they take each other for one router", o.Name, o.node,
							o.VRID, orNone(o.Interface), in.Name, in.node)
					}
				}
			}
		}
	}
}

// compareSyncGroups finds groups of which not all members have the highest priority on the same node.
func (c *comparison) compareSyncGroups(routers []router) {
	type top struct {
		node string
		in   nodeInstance
	}
	tops := make(map[string]top)
	for _, r := range routers {
		group := r[0].SyncGroup
		if group == "" || len(r) < 2 {
			continue
		}
		best := slices.MaxFunc(r, func(a, b nodeInstance) int { return cmp.Compare(healthy(a.Instance), healthy(b.Instance)) })
		if slices.ContainsFunc(r, func(o nodeInstance) bool {
			return o.node != best.node && healthy(o.Instance) == healthy(best.Instance)
		}) {
			continue // nobody is meant to be first
		}
		first, found := tops[group]
		switch {
		case !found:
			tops[group] = top{best.node, best}
		case first.node != best.node:
			c.add(Warning, CodeSyncGroup, best.Pos, "vrrp_sync_group %s: %s has its highest priority on node %s, %s on node %s: as they "+
				"move together, each node takes the group from the other", group, first.in.Name, first.node, best.Name, best.node)
		}
	}
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// addressList prints the addresses in a fixed order.
func addressList(addresses []Address) string {
	list := make([]string, len(addresses))
	for i, a := range addresses {
		list[i] = a.Prefix.String()
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// comparePriorities looks at who wins, and whether what the winner tracks can change that.
func (c *comparison) comparePriorities(name string, found router) {
	masters := 0
	for i, in := range found {
		if in.InitialMaster {
			masters++
		}
		for _, o := range found[:i] {
			if in.Priority == o.Priority {
				c.add(Warning, CodeEqualPriority, in.Pos,
					"vrrp_instance %s has priority %d on node %s and on node %s: the higher address wins",
					name, in.Priority, o.node, in.node)
			}
		}
	}
	if masters == len(found) {
		c.add(Note, CodeBothMaster, found[0].Pos,
			"vrrp_instance %s has state MASTER on all nodes: after a start of all each tries to take "+
				"over at once", name)
	}
	best := slices.Clone(found)
	slices.SortStableFunc(best, func(a, b nodeInstance) int { return cmp.Compare(healthy(b.Instance), healthy(a.Instance)) })
	top, next := best[0], best[1]
	if top.Preempt && healthy(top.Instance) > healthy(next.Instance) {
		for _, o := range best[1:] {
			if !o.Preempt {
				c.add(Warning, CodeNoPreempt, o.Pos, "vrrp_instance %s: nopreempt on node %s does not keep node %s, which has the "+
					"highest priority, from taking back: it has to stand there, with state BACKUP", name, o.node, top.node)
				break
			}
		}
	}
	if top.Priority == 255 {
		return
	}
	for kind, t := range top.Tracking.weighted() {
		sick := healthy(top.Instance) - max(t.Weight, -t.Weight)
		switch {
		case clampPriority(sick) >= clampPriority(healthy(next.Instance)):
			c.add(Warning, CodeWeightTooSmall, t.Pos,
				"the weight %d of %s %s is too small to change the owner: with it failed node %s still "+
					"has priority %d, and node %s %d", t.Weight, kind, t.Name, top.node, clampPriority(sick), next.node,
				clampPriority(healthy(next.Instance)))
		case !next.Preempt:
			c.add(Warning, CodeWeightTooSmall, t.Pos,
				"the weight of %s %s changes no owner: node %s has nopreempt and takes over only from "+
					"a router that is silent", kind, t.Name, next.node)
		}
	}
}

// weighted returns what changes the priority by a weight of its own when it fails, with what it is called.
func (t *Tracking) weighted() iter.Seq2[string, Track] {
	return func(yield func(string, Track) bool) {
		for _, list := range []struct {
			kind   string
			tracks []Track
		}{{"interface", t.Interfaces}, {"script", t.Scripts}, {"process", t.Processes}, {"BFD session", t.BFD}} {
			for _, track := range list.tracks {
				if track.Weight != 0 && !track.Reverse && !yield(list.kind, track) {
					return
				}
			}
		}
	}
}

// Suspect finds in the configuration of one node what would be a mistake whatever the others have, or with what they
// usually have. CompareNodes knows better, where their configurations are at hand.
func Suspect(cfg *Config) []Finding {
	c := &comparison{}
	for i := range cfg.Instances {
		in := &cfg.Instances[i]
		if in.Priority == 255 {
			continue
		}
		for kind, t := range in.Tracking.weighted() {
			before, after := healthy(in), healthy(in)-max(t.Weight, -t.Weight)
			lost := clampPriority(before) - clampPriority(after)
			switch {
			case lost == 0:
				c.add(Warning, CodeWeightTooSmall, t.Pos, "the weight %d of %s %s changes nothing: with it failed vrrp_instance %s still "+
					"has priority %d", t.Weight, kind, t.Name, in.Name, clampPriority(after))
			case !in.Preempt:
				c.add(Warning, CodeWeightTooSmall, t.Pos, "the weight of %s %s changes no owner where the other nodes have nopreempt "+
					"too: they take over only from a router that is silent; without weight a failure is a fault, which is", kind,
					t.Name)
			case lost < smallWeight:
				c.add(Note, CodeWeightTooSmall, t.Pos, "with %s %s failed vrrp_instance %s falls from priority %d to %d: the owner changes "+
					"only if the other node has a priority between", kind, t.Name, in.Name, clampPriority(before),
					clampPriority(after))
			}
		}
	}
	return c.findings
}

// smallWeight is below the distance between two nodes' priorities that most configurations have.
const smallWeight = 10

// healthy is the effective priority of an instance while everything it tracks is fit, before it is limited to 1..254: what
// has a positive weight adds it then, or with reverse takes it away.
func healthy(in *Instance) int {
	priority := int(in.Priority)
	if priority == 255 {
		return priority
	}
	for _, list := range [][]Track{in.Tracking.Interfaces, in.Tracking.Scripts, in.Tracking.Processes, in.Tracking.BFD} {
		for _, t := range list {
			switch {
			case t.Weight <= 0:
			case t.Reverse:
				priority -= t.Weight
			default:
				priority += t.Weight
			}
		}
	}
	return priority
}

func clampPriority(p int) int { return min(max(p, 1), 254) }
