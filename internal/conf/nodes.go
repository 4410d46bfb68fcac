package conf

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// NodeConfig is the configuration of one node.
type NodeConfig struct {
	Node   string
	Config *Config
}

const maxNodes = 32

// LoadNodes reads a configuration that serves several nodes once for each of them: for the directors of the cluster
// block, or without one for all nodes that its conditions name. It returns those that can be used, in the order of the
// peers or of the conditions, at most 32; findings about the others are for Load.
func LoadNodes(opts Options) []NodeConfig {
	var names []string
	first := load(opts)
	if d := first.clusterDraft; d != nil {
		for _, p := range d.Peers {
			if !p.Witness && !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
	} else {
		for _, w := range first.tree.Conditions {
			if !slices.Contains(names, w.Text) {
				names = append(names, w.Text)
			}
		}
	}
	var nodes []NodeConfig
	for _, name := range names[:min(len(names), maxNodes)] {
		opts.ConfigID, opts.Node = name, name
		if c, _ := Load(opts); c != nil {
			nodes = append(nodes, NodeConfig{name, c})
		}
	}
	return nodes
}

// CompareNodes finds what differs between nodes and must not, and what their configurations together cannot do: addresses
// and identifiers that differ, priorities that are equal, weights too small to change the owner.
func CompareNodes(nodes []NodeConfig) []Finding {
	c := &comparison{nodes: nodes}
	if len(nodes) < 2 {
		return nil
	}
	c.compareLeases()
	var names []string
	for _, n := range nodes {
		for _, in := range n.Config.Instances {
			if !slices.Contains(names, in.Name) {
				names = append(names, in.Name)
			}
		}
	}
	for _, name := range names {
		c.compareInstance(name)
	}
	return slices.Compact(c.findings)
}

type comparison struct {
	nodes    []NodeConfig
	findings []Finding
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
	node string
	*Instance
}

// compareInstance compares the instances of one name.
func (c *comparison) compareInstance(name string) {
	var found []nodeInstance
	var absent []string
	for _, n := range c.nodes {
		i := slices.IndexFunc(n.Config.Instances, func(in Instance) bool { return in.Name == name })
		if i < 0 {
			absent = append(absent, n.Node)
			continue
		}
		found = append(found, nodeInstance{n.Node, &n.Config.Instances[i]})
	}
	first := found[0]
	if len(absent) > 0 {
		c.add(Warning, CodeNodesDiffer, first.Pos, "node %s has no vrrp_instance %s", strings.Join(absent, ", "), name)
	}
	for _, o := range found[1:] {
		differs := func(severity Severity, what string, a, b any) {
			c.add(severity, CodeNodesDiffer, o.Pos,
				"vrrp_instance %s: %s is %v on node %s and %v on node %s", name, what, a, first.node,
				b, o.node)
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
	if len(found) > 1 {
		c.comparePriorities(name, found)
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
func (c *comparison) comparePriorities(name string, found []nodeInstance) {
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
	if top.Priority == 255 {
		return
	}
	lists := top.Tracking.lists()
	for kind, what := range []string{"interface", "script"} {
		for _, t := range *lists[kind] {
			if t.Weight == 0 || t.Reverse {
				continue
			}
			sick := healthy(top.Instance) - max(t.Weight, -t.Weight)
			switch {
			case sick >= healthy(next.Instance):
				c.add(Warning, CodeWeightTooSmall, t.Pos,
					"the weight %d of %s %s is too small to change the owner: with it failed node %s still "+
						"has priority %d, and node %s %d", t.Weight, what, t.Name, top.node, clampPriority(sick), next.node,
					clampPriority(healthy(next.Instance)))
			case !next.Preempt:
				c.add(Warning, CodeWeightTooSmall, t.Pos,
					"the weight of %s %s changes no owner: node %s has nopreempt and takes over only from "+
						"a router that is silent", what, t.Name, next.node)
			}
		}
	}
}

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
