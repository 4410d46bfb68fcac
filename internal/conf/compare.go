package conf

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// Change says what becomes of a named part of a configuration when another one replaces it.
type Change uint8

// The changes. The zero Change is not valid.
const (
	Unchanged Change = iota + 1
	Changed
	Added
	Removed
)

// String returns the change in one word.
func (c Change) String() string {
	switch c {
	case Unchanged:
		return "unchanged"
	case Changed:
		return "changed"
	case Added:
		return "added"
	case Removed:
		return "removed"
	}
	return fmt.Sprintf("change(%d)", uint8(c))
}

// Item is one named part and its change.
type Item struct {
	Name   string
	Was    string // its name in the old configuration; empty if it is Added
	Change Change
}

// Difference is what lies between two configurations of the same machine.
type Difference struct {
	// Refused names what differs and cannot be changed while the daemon runs. If it is not empty the new configuration
	// cannot replace the old one.
	Refused []string

	Instances []Item // in the order of the new configuration, then those that are removed
	Groups    []Item // vrrp_sync_group
	Scripts   []Item // vrrp_script
	Global    bool   // global_defs differs
	Other     bool   // something else differs
}

// Nothing tells whether the configurations mean the same.
func (d *Difference) Nothing() bool {
	same := func(items []Item) bool {
		return !slices.ContainsFunc(items, func(i Item) bool { return i.Change != Unchanged })
	}
	return len(d.Refused) == 0 && same(d.Instances) && same(d.Groups) && same(d.Scripts) && !d.Global && !d.Other
}

// Compare finds what lies between the configuration that is in force and one that is to replace it.
//
// An instance is the same one as before if its virtual router is: VRID, family, interface, and multicast group or unicast
// source. Its name may have changed, unless leases are granted to it by that name: in a cluster, it, or its sync group, is
// what a lease names.
func Compare(before, after *Config) Difference {
	d := Difference{Refused: fixed(before, after)}
	d.Instances = compareInstances(before, after)
	d.Groups = compareNamed(before.SyncGroups, after.SyncGroups, func(g *SyncGroup) string { return g.Name })
	d.Scripts = compareNamed(before.Scripts, after.Scripts, func(s *Script) string { return s.Name })
	d.Global = !Same(before.Global, after.Global)
	b, a := *before, *after
	for _, c := range []*Config{&b, &a} {
		c.Path, c.Files, c.Global, c.Instances, c.SyncGroups, c.Scripts, c.Cluster = "", nil, Global{}, nil, nil, nil, nil
	}
	d.Other = !Same(b, a) || !Same(before.Cluster, after.Cluster)
	return d
}

// fixed names the words that cannot be changed by a reload. Apart from those of the cluster block they are keepalived's.
func fixed(before, after *Config) []string {
	var refused []string
	check := func(what string, a, b any) {
		if !Same(a, b) {
			refused = append(refused, what)
		}
	}
	p, q := before.Process, after.Process
	check("net_namespace", p.NetNamespace, q.NetNamespace)
	check("net_namespace_ipvs", [2]any{p.NetNamespaceIPVS, p.IPVSInHostNamespace}, [2]any{q.NetNamespaceIPVS, q.IPVSInHostNamespace})
	check("instance", p.Instance, q.Instance)
	check("use_pid_dir", p.UsePIDDir, q.UsePIDDir)
	g, h := before.Global, after.Global
	check("tmp_config_directory", g.TmpConfigDir, h.TmpConfigDir)
	check("disable_local_igmp", g.DisableLocalIGMP, h.DisableLocalIGMP)
	check("nftables", g.Firewall.Nftables, h.Firewall.Nftables)
	check("nftables_ipvs", g.Firewall.IPVSTable, h.Firewall.IPVSTable)
	if (before.Cluster == nil) != (after.Cluster == nil) {
		return append(refused, "cluster (the block as a whole)")
	}
	if before.Cluster == nil {
		return refused
	}
	b, c := before.Cluster, after.Cluster
	for _, w := range []struct {
		word string
		a, b any
	}{
		{"name", b.Name, c.Name}, {"node", b.Node, c.Node}, {"key_file", b.KeyFile, c.KeyFile}, {"data_dir", b.DataDir, c.DataDir},
		{"port", b.Port, c.Port}, {"peer", b.Peers, c.Peers}, {"gateway", b.Gateways, c.Gateways},
		{"gateway_require", b.GatewaysNeeded, c.GatewaysNeeded}, {"quorum_loss", b.QuorumLoss, c.QuorumLoss},
		{"arbitration", b.Arbitration, c.Arbitration}, {"guard", b.Guard, c.Guard},
		{"fencing", b.Fencing, c.Fencing}, {"watchdog", b.Watchdog, c.Watchdog},
		{"control_socket", b.ControlSocket, c.ControlSocket},
	} {
		check("cluster "+w.word, w.a, w.b)
	}
	if a, b := before.LeaseDuration(), after.LeaseDuration(); a != b {
		what := fmt.Sprintf("cluster lease (%v would become %v", a, b)
		if c.Lease == 0 {
			what += ", because of the smallest advert_int"
		}
		refused = append(refused, what+")")
	}
	return refused
}

// sameness is what makes a virtual router the same one as before.
type sameness struct {
	vrid    uint8
	family  Family
	iface   string
	unicast bool
	group   netip.Addr // multicast
	source  netip.Addr // unicast
	device  string     // use_vmac, use_ipvlan
	lease   string     // what a lease names, in a cluster
}

func (c *Config) sameness(in *Instance) sameness {
	r := sameness{vrid: in.VRID, family: in.Family, iface: in.Interface, unicast: in.Unicast, group: in.MulticastGroup}
	if in.Unicast {
		r.group, r.source = netip.Addr{}, in.Source
	}
	switch {
	case in.VMAC != nil:
		r.device = "vmac " + in.VMAC.Name
	case in.IPVLAN != nil:
		r.device = "ipvlan " + in.IPVLAN.Name
	}
	if c.Cluster != nil {
		r.lease = in.SyncGroup
		if r.lease == "" {
			r.lease = in.Name
		}
	}
	return r
}

// compareInstances pairs instances: first those of the same name, then the others.
func compareInstances(before, after *Config) []Item {
	old, byName := map[string]*Instance{}, map[string]*Instance{}
	for i := range before.Instances {
		old[before.Instances[i].Name] = &before.Instances[i]
	}
	maps.Copy(byName, old)
	items := make([]Item, len(after.Instances))
	for i := range after.Instances {
		in := &after.Instances[i]
		items[i] = Item{Name: in.Name, Change: Added}
		if o := old[in.Name]; o != nil && before.sameness(o) == after.sameness(in) {
			items[i].Was = o.Name
			delete(old, o.Name)
		}
	}
	renamed := map[sameness]string{}
	for name, o := range old {
		renamed[before.sameness(o)] = name
	}
	for i := range items {
		r := after.sameness(&after.Instances[i])
		if name := renamed[r]; name != "" && items[i].Was == "" {
			items[i].Was = name
			delete(renamed, r)
			delete(old, name)
		}
	}
	for i := range items {
		if items[i].Was == "" {
			continue
		}
		items[i].Change = Changed
		if Same(byName[items[i].Was], &after.Instances[i]) {
			items[i].Change = Unchanged
		}
	}
	for i := range before.Instances {
		if name := before.Instances[i].Name; old[name] != nil {
			items = append(items, Item{Name: name, Was: name, Change: Removed})
		}
	}
	return items
}

func compareNamed[T any](before, after []T, name func(*T) string) []Item {
	var items []Item
	old := map[string]*T{}
	for i := range before {
		old[name(&before[i])] = &before[i]
	}
	for i := range after {
		item := Item{Name: name(&after[i]), Change: Added}
		if o := old[item.Name]; o != nil {
			item.Was, item.Change = item.Name, Changed
			if Same(*o, after[i]) {
				item.Change = Unchanged
			}
			delete(old, item.Name)
		}
		items = append(items, item)
	}
	for i := range before {
		if n := name(&before[i]); old[n] != nil {
			items = append(items, Item{Name: n, Was: n, Change: Removed})
		}
	}
	return items
}

// Same tells whether two values of a configuration mean the same, wherever they stand in the files.
func Same(a, b any) bool { return same(reflect.ValueOf(a), reflect.ValueOf(b)) }

var posType, sourceType = reflect.TypeFor[Pos](), reflect.TypeFor[*source]()

func same(a, b reflect.Value) bool {
	if a.IsValid() != b.IsValid() {
		return false
	}
	if !a.IsValid() || a.Type() == posType || a.Type() == sourceType {
		return true
	}
	if a.Type() != b.Type() {
		return false
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return same(a.Elem(), b.Elem())
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	}
	return a.Equal(b) // panics for kinds that a Config does not have
}

// Summary says in one line what a Difference is.
func (d *Difference) Summary() string {
	if d.Nothing() {
		return "nothing has changed"
	}
	var parts []string
	for _, kind := range []struct {
		what  string
		items []Item
	}{{"instance", d.Instances}, {"sync group", d.Groups}, {"script", d.Scripts}} {
		counts := map[Change]int{}
		for _, i := range kind.items {
			counts[i.Change]++
		}
		for _, change := range []Change{Changed, Added, Removed} {
			switch n := counts[change]; n {
			case 0:
			case 1:
				parts = append(parts, fmt.Sprintf("1 %s %s", kind.what, change))
			default:
				parts = append(parts, fmt.Sprintf("%d %ss %s", n, kind.what, change))
			}
		}
	}
	if d.Global {
		parts = append(parts, "global_defs changed")
	}
	if d.Other {
		parts = append(parts, "other blocks changed")
	}
	return strings.Join(parts, ", ")
}
