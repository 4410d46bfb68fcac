// Package controltest has a Backend made of values, and the scenarios of a two-director cluster with a witness that the
// tests of the control socket and of hactl share.
package controltest

import (
	"fmt"
	"slices"
	"time"

	"github.com/hactl/had/internal/control/api"
)

// Now is the wall clock of every scenario.
var Now = time.Date(2026, 11, 21, 10, 54, 32, 0, time.UTC)

// ago is the moment d before Now.
func ago(d time.Duration) api.Time { return api.At(Now.Add(-d)) }

const (
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
)

// Scenarios are all scenarios by name.
var Scenarios = map[string]func() api.Gathered{
	"healthy":      Healthy,
	"degraded":     Degraded,
	"minority":     Minority,
	"unowned":      Unowned,
	"claiming":     Claiming,
	"witness-lost": WitnessLost,
	"witness-view": WitnessView,
	"drift":        Drift,
	"stranger":     Stranger,
	"maintenance":  Maintenance,
	"unprotected":  Unprotected,
	"held":         Held,
	"handover":     Handover,
	"unconfirmed":  Unconfirmed,
	"conflict":     Conflict,
	"no-leader":    NoLeader,
	"founding":     Founding,
	"adverts":      AdvertsMissing,
	"displaced":    Displaced,
}

// Names lists the scenarios in order.
func Names() []string {
	var names []string
	for n := range Scenarios {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

var addresses = map[string]string{"lb1": "10.77.0.1", "lb2": "10.77.0.2", "w1": "10.77.0.3"}

func roleOf(name string) api.Role {
	if name == "w1" {
		return api.Witness
	}
	return api.Director
}

func membership(self string) *api.Membership {
	m := &api.Membership{Name: "edge", ClusterID: "5d1c", Leader: "lb1", Term: 14, AppliedIndex: 88260, LeaseSeconds: 2.5,
		QuorumLoss: "demote", Arbitration: "majority", Quorum: true, Voters: 3, Reachable: 3,
		MajorityLastContact: ago(200 * time.Millisecond)}
	for _, name := range []string{"lb1", "lb2", "w1"} {
		if name != self {
			m.Peers = append(m.Peers, api.Peer{Name: name, Role: roleOf(name), Address: addresses[name], Reachable: true,
				RTTSeconds: 0.0003, LastHeardSeconds: 0.1, Version: "1.0.3", Gossip: "alive", LeaseSeconds: 2.5})
		}
	}
	return m
}

func witness() api.NodeReport {
	return api.NodeReport{Schema: api.Schema, Node: "w1", Role: api.Witness, State: api.NodeReady, MemberID: "w1/00aa11bb",
		Address: addresses["w1"], Version: "1.0.3", Life: "00000000000000c3", At: api.At(Now), StartedAt: ago(31 * day),
		UptimeSeconds: api.SecondsOf(31 * day), ClockSource: "tsc", Cluster: membership("w1"),
		Promises: []api.Promise{{Group: "VI_WEB", Epoch: 14, Holder: "lb1", LeftSeconds: 2.3},
			{Group: "VI_DB", Epoch: 9, Holder: "lb2", LeftSeconds: 2.4}}}
}

type group struct {
	name  string
	vrid  int
	vips  []string
	epoch uint64
	owner string
	since api.Time
}

var groups = []group{
	{"VI_WEB", 51, []string{"192.0.2.10/24", "2001:db8::10/64"}, 14, "lb1", ago(6*day + 2*hour)},
	{"VI_DB", 52, []string{"192.0.2.20/24"}, 9, "lb2", ago(72 * minute)},
}

// director is a director with priority 150 for what it owns and 100 for the rest.
func director(name string) api.NodeReport {
	r := api.NodeReport{Schema: api.Schema, Node: name, Role: api.Director, State: api.NodeReady,
		MemberID: name + "/3f9a1c2" + name[2:], Address: addresses[name], Version: "1.0.3", Life: "00000000000000a" + name[2:],
		At: api.At(Now), StartedAt: ago(12 * day), UptimeSeconds: api.SecondsOf(12 * day), ClockSource: "tsc",
		Cluster: membership(name), Guard: &api.GuardReport{Kind: "nftables", OK: true}}
	other := map[string]string{"lb1": "lb2", "lb2": "lb1"}[name]
	for _, g := range groups {
		own := g.owner == name
		priority, state := 100, "BACKUP"
		report := api.GroupReport{Name: g.name, State: api.GroupBackup, Epoch: g.epoch, EffectivePriority: 100, Eligible: true,
			Guard: "shut", Since: g.since}
		instance := api.InstanceReport{Name: g.name, Group: g.name, Interface: "eth0", VRID: g.vrid, Version: 3, Family: "ipv4",
			AdvertIntervalSeconds: 1, Preempt: true, Source: addresses[name], VIPs: g.vips, Since: g.since}
		if own {
			priority, state = 150, "MASTER"
			report.State, report.Guard, report.EffectivePriority = api.GroupOwner, "open", priority
			report.LeaseSeconds, report.LeaseLeftSeconds = 2.5, 2.2
			instance.LastSentSeconds = 0.4
		} else {
			instance.Heard = []api.AdvertSource{{Address: addresses[other], Priority: 150, AgoSeconds: 0.4}}
		}
		for _, v := range g.vips {
			a := api.AddressReport{Address: v, Device: "eth0", InKernel: own}
			if own {
				a.ValidSeconds, a.Announced = 3, g.since
				a.DuplicateProbe, a.DuplicateProbeAt = "clean", ago(12*time.Second)
			}
			report.Addresses = append(report.Addresses, a)
		}
		instance.State, instance.Priority, instance.EffectivePriority = state, priority, priority
		instance.DownIntervalSeconds = api.Seconds(3 + float64(256-priority)/256)
		r.Groups = append(r.Groups, report)
		r.Instances = append(r.Instances, instance)
		r.Promises = append(r.Promises, api.Promise{Group: g.name, Epoch: g.epoch, Holder: g.owner, LeftSeconds: 2.3})
	}
	return r
}

func replicated() *api.View {
	v := &api.View{Consistent: true, Via: "lb1", AppliedIndex: 88260, Leader: "lb1", LeaderSince: ago(6*day + 2*hour), Term: 14}
	for _, r := range []api.NodeReport{director("lb1"), director("lb2"), witness()} {
		v.Members = append(v.Members, api.Member{ID: r.MemberID, Name: r.Node, Role: r.Role, Address: r.Address + ":7770", Voter: true})
	}
	for _, g := range groups {
		v.Groups = append(v.Groups, api.GroupRecord{Name: g.name, Owner: g.owner, LastOwner: g.owner, Epoch: g.epoch, Since: g.since,
			OwnerID: g.owner + "/3f9a1c2" + g.owner[2:], Reason: "preferred by priority"})
	}
	return v
}

func gathered(self api.NodeReport, peers ...api.NodeReport) api.Gathered {
	in := api.Gathered{At: api.At(Now), Self: self, View: replicated()}
	for _, p := range peers {
		in.Peers = append(in.Peers, api.PeerReport{Name: p.Node, Role: p.Role, Address: p.Address, Report: &p})
	}
	return in
}

func silent(name, reason string) api.PeerReport {
	return api.PeerReport{Name: name, Role: roleOf(name), Address: addresses[name], Error: reason}
}

// lose marks peers of a report as unreachable for d.
func lose(r *api.NodeReport, d time.Duration, names ...string) {
	m := r.Cluster
	for i := range m.Peers {
		if p := &m.Peers[i]; slices.Contains(names, p.Name) {
			p.Reachable, p.RTTSeconds, p.LastHeardSeconds, p.Error, p.Gossip = false, 0, api.SecondsOf(d), "i/o timeout", "dead"
			m.Reachable--
		}
	}
	m.Quorum = m.Reachable*2 > m.Voters
}

func groupOf(r *api.NodeReport, name string) *api.GroupReport {
	for i := range r.Groups {
		if r.Groups[i].Name == name {
			return &r.Groups[i]
		}
	}
	panic(fmt.Sprintf("controltest: no group %s on %s", name, r.Node))
}

func instanceOf(r *api.NodeReport, name string) *api.InstanceReport {
	for i := range r.Instances {
		if r.Instances[i].Name == name {
			return &r.Instances[i]
		}
	}
	panic(fmt.Sprintf("controltest: no instance %s on %s", name, r.Node))
}

// take makes r the owner of a group.
func take(r *api.NodeReport, name string, epoch uint64, since api.Time) {
	g := groupOf(r, name)
	g.State, g.Guard, g.LeaseSeconds, g.LeaseLeftSeconds, g.Epoch, g.Since = api.GroupOwner, "open", 2.5, 2.2, epoch, since
	for i := range g.Addresses {
		g.Addresses[i].InKernel, g.Addresses[i].Announced = true, since
	}
	instanceOf(r, name).State, instanceOf(r, name).Heard = "MASTER", nil
}

// drop makes r give a group up.
func drop(r *api.NodeReport, name string, state api.GroupState) {
	g := groupOf(r, name)
	g.State, g.Guard, g.LeaseLeftSeconds = state, "shut", 0
	g.Eligible = state == api.GroupBackup || state == api.GroupClaiming
	for i := range g.Addresses {
		g.Addresses[i].InKernel = false
	}
	instanceOf(r, name).State = map[bool]string{true: "FAULT", false: "BACKUP"}[state == api.GroupFault]
}

func record(v *api.View, name string) *api.GroupRecord {
	for i := range v.Groups {
		if v.Groups[i].Name == name {
			return &v.Groups[i]
		}
	}
	panic("controltest: no record " + name)
}

// Healthy: lb1 owns VI_WEB, lb2 owns VI_DB, everybody answers; asked on lb1.
func Healthy() api.Gathered { return gathered(director("lb1"), director("lb2"), witness()) }

// Degraded: lb2 has been dead for three minutes, lb1 has taken VI_DB over.
func Degraded() api.Gathered {
	lb1, w1 := director("lb1"), witness()
	took := ago(3*minute + 2*time.Second)
	take(&lb1, "VI_DB", 10, took)
	lose(&lb1, 3*minute+5*time.Second, "lb2")
	lose(&w1, 3*minute+5*time.Second, "lb2")
	in := gathered(lb1, w1)
	in.Peers = []api.PeerReport{silent("lb2", "no answer within 500ms"), in.Peers[0]}
	*record(in.View, "VI_DB") = api.GroupRecord{Name: "VI_DB", Owner: "lb1", LastOwner: "lb1", OwnerID: "lb1/3f9a1c21", Epoch: 10, Since: took,
		Reason: "lb2 advertised no more"}
	return in
}

// Minority: asked on lb2, whose uplink was cut three minutes ago; it owned VI_DB.
func Minority() api.Gathered {
	lb2 := director("lb2")
	lose(&lb2, 3*minute+2*time.Second, "lb1", "w1")
	lb2.Cluster.MajorityLastContact = ago(3*minute + 2*time.Second)
	lb2.Cluster.Leader = ""
	drop(&lb2, "VI_DB", api.GroupIneligible)
	g := groupOf(&lb2, "VI_DB")
	g.LapsedAt = ago(2*minute + 59*time.Second)
	for i := range lb2.Groups {
		lb2.Groups[i].Eligible = false
		lb2.Groups[i].WhyNot = []api.Reason{{Code: "no-quorum", Text: "no majority", Since: ago(2*minute + 59*time.Second)}}
	}
	for i := range lb2.Instances {
		lb2.Instances[i].Heard = nil
	}
	for i := range lb2.Promises {
		lb2.Promises[i].LeftSeconds = -177
	}
	in := gathered(lb2)
	in.Peers = []api.PeerReport{silent("lb1", "no answer within 500ms"), silent("w1", "no answer within 500ms")}
	in.View.Consistent, in.View.Via = false, "lb2"
	return in
}

// Unowned: lb1 died twelve seconds ago while lb2 was in fault, so nobody owns anything.
func Unowned() api.Gathered {
	lb2, w1 := director("lb2"), witness()
	lose(&lb2, 12*time.Second, "lb1")
	lose(&w1, 12*time.Second, "lb1")
	for _, name := range []string{"VI_WEB", "VI_DB"} {
		drop(&lb2, name, api.GroupFault)
		groupOf(&lb2, name).WhyNot = []api.Reason{{Code: "fault", Text: "FAULT: interface eth0 is down", Since: ago(40 * minute)}}
		instanceOf(&lb2, name).FaultReasons = []string{"interface eth0 is down"}
		instanceOf(&lb2, name).Heard = nil
	}
	lb2.Promises = []api.Promise{{Group: "VI_WEB", Epoch: 14, Holder: "lb1", LeftSeconds: -9.5}, {Group: "VI_DB", Epoch: 10, Holder: "lb1", LeftSeconds: -9.5}}
	w1.Promises = lb2.Promises
	lb2.Cluster.Leader, w1.Cluster.Leader, lb2.Cluster.Term = "lb2", "lb2", 15
	in := gathered(lb2, w1)
	in.Peers = []api.PeerReport{silent("lb1", "no answer within 500ms"), in.Peers[0]}
	in.View.Leader, in.View.Via, in.View.Term, in.View.LeaderSince = "lb2", "lb2", 15, ago(11*time.Second)
	*record(in.View, "VI_DB") = api.GroupRecord{Name: "VI_DB", Owner: "lb1", LastOwner: "lb1", Epoch: 10, Since: ago(40 * minute)}
	return in
}

// Claiming: as Unowned for VI_WEB, but lb2 is well and asks for it.
func Claiming() api.Gathered {
	in := Unowned()
	lb2 := director("lb2")
	lose(&lb2, 3*time.Second, "lb1")
	lb2.Cluster.Leader = "lb2"
	drop(&lb2, "VI_WEB", api.GroupClaiming)
	groupOf(&lb2, "VI_WEB").Claim = &api.Claim{ForSeconds: 0.3, Attempts: 2, LastRefusal: "w1 has promised it to lb1 for 40ms"}
	instanceOf(&lb2, "VI_WEB").Heard = nil
	lb2.Promises = []api.Promise{{Group: "VI_WEB", Epoch: 14, Holder: "lb1", LeftSeconds: -0.02}, {Group: "VI_DB", Epoch: 9, Holder: "lb2", LeftSeconds: 2.3}}
	in.Self = lb2
	in.Peers[1].Report.Promises = []api.Promise{{Group: "VI_WEB", Epoch: 14, Holder: "lb1", LeftSeconds: -0.02}}
	in.View.Groups = replicated().Groups
	return in
}

// WitnessLost: w1 is gone, both directors serve.
func WitnessLost() api.Gathered {
	lb1, lb2 := director("lb1"), director("lb2")
	lose(&lb1, hour, "w1")
	lose(&lb2, hour, "w1")
	in := gathered(lb1, lb2)
	in.Peers = append(in.Peers, silent("w1", "no answer within 500ms"))
	return in
}

// WitnessView: Healthy, asked on the witness.
func WitnessView() api.Gathered { return gathered(witness(), director("lb1"), director("lb2")) }

// Drift: the directors' files differ in every way that is looked for.
func Drift() api.Gathered {
	lb1, lb2 := director("lb1"), director("lb2")
	lb2.Cluster.LeaseSeconds = 3
	lb2.Cluster.QuorumLoss = "hold"
	web := instanceOf(&lb2, "VI_WEB")
	web.VRID, web.VIPs, web.AdvertIntervalSeconds, web.Version, web.Unicast = 61, []string{"192.0.2.10/24", "192.0.2.11/24"}, 2, 2, true
	db := instanceOf(&lb1, "VI_DB")
	db.Priority = 150
	lb2.Groups = append(lb2.Groups, api.GroupReport{Name: "VI_NEW", State: api.GroupBackup, Eligible: true, EffectivePriority: 90,
		Addresses: []api.AddressReport{{Address: "192.0.2.30/24", Device: "eth0"}}})
	lb2.Version = "1.0.4"
	return gathered(lb1, lb2, witness())
}

// Stranger: a router outside the cluster advertises VRID 51 and another machine answers for an address.
func Stranger() api.Gathered {
	in := Healthy()
	for _, r := range []*api.NodeReport{&in.Self, in.Peers[0].Report} {
		groupOf(r, "VI_WEB").Strangers = []api.Stranger{
			{Kind: "vrrp", Address: "192.0.2.66", MAC: "02:00:00:00:00:66", Interface: "eth0", Priority: 200, AgoSeconds: 0.7},
			{Kind: "arp", Address: "192.0.2.10", MAC: "02:00:00:00:00:67", Interface: "eth0", AgoSeconds: 3},
		}
	}
	return in
}

// Maintenance: lb2 is in maintenance, lb1 owns everything.
func Maintenance() api.Gathered {
	lb1, lb2 := director("lb1"), director("lb2")
	take(&lb1, "VI_DB", 10, ago(4*minute))
	drop(&lb2, "VI_DB", api.GroupIneligible)
	for i := range lb2.Groups {
		lb2.Groups[i].WhyNot = []api.Reason{{Code: api.ReasonMaintenance, Text: "in maintenance"}}
	}
	in := gathered(lb1, lb2, witness())
	*record(in.View, "VI_DB") = api.GroupRecord{Name: "VI_DB", Owner: "lb1", LastOwner: "lb1", Epoch: 10, Since: ago(4 * minute), Reason: "lb2 is in maintenance"}
	in.View.Maintenance = []api.Maintenance{
		{Node: "lb2", Since: ago(4 * minute), Until: api.At(Now.Add(2 * hour)), By: "alice", Reason: "kernel update"},
	}
	return in
}

// Unprotected: a node without a cluster block that is Active for one group and hears another router for the other.
func Unprotected() api.Gathered {
	lb1 := director("lb1")
	lb1.Role, lb1.Cluster, lb1.Guard, lb1.Promises, lb1.MemberID = api.Standalone, nil, nil, nil, ""
	for i := range lb1.Groups {
		g := &lb1.Groups[i]
		g.Unprotected, g.UnprotectedText, g.Epoch, g.LeaseSeconds, g.LeaseLeftSeconds, g.Guard = true, "no cluster block", 0, 0, 0, ""
	}
	return api.Gathered{At: api.At(Now), Self: lb1}
}

// Held: lb1 has lost the majority and keeps VI_WEB because of quorum_loss hold.
func Held() api.Gathered {
	lb1 := director("lb1")
	lose(&lb1, minute, "lb2", "w1")
	lb1.Cluster.QuorumLoss, lb1.Cluster.Leader, lb1.Cluster.MajorityLastContact = "hold", "", ago(minute)
	g := groupOf(&lb1, "VI_WEB")
	g.Unprotected, g.UnprotectedText, g.LeaseLeftSeconds = true, "the gateway 10.77.0.254 answers and nobody else does for the addresses", 0
	groupOf(&lb1, "VI_DB").Eligible = false
	groupOf(&lb1, "VI_DB").WhyNot = []api.Reason{{Code: "no-quorum", Text: "no majority"}}
	lb1.Promises = nil
	in := gathered(lb1)
	in.Peers = []api.PeerReport{silent("lb2", "no answer within 500ms"), silent("w1", "no answer within 500ms")}
	in.View.Consistent, in.View.Via = false, "lb1"
	return in
}

// Displaced: VI_WEB is on lb1 and goes to lb2, which prefers it, at night; the files differ in what is to be of VI_DB.
func Displaced() api.Gathered {
	in := Healthy()
	lb2 := in.Peers[0].Report
	rules := "prefer lb2 lb1, failback between 02:00 and 04:00"
	groupOf(&in.Self, "VI_WEB").Placement = &api.Placement{Node: "lb2", Rules: rules,
		Text: "is to be on lb2, since lb2 is preferred to lb1; it goes there between 02:00 and 04:00"}
	groupOf(lb2, "VI_WEB").Placement = &api.Placement{Node: "lb2", Rules: rules,
		Text: "is to be on lb2, since lb2 is preferred to lb1; it goes there between 02:00 and 04:00; it has been taken often, and waits for " +
			"20 quiet seconds"}
	groupOf(lb2, "VI_DB").Placement = &api.Placement{Node: "lb2", Text: "is to be on lb2, since lb2 is preferred to lb1",
		Rules: "prefer lb2, failback never"}
	return in
}

// Handover: VI_WEB goes from lb1 to lb2; lb1 was asked after the handover, lb2 before it had the grant.
func Handover() api.Gathered {
	in := Healthy()
	record(in.View, "VI_WEB").Successor = "lb2"
	return in
}

// Unconfirmed: lb2 cannot reach lb1, but the witness can.
func Unconfirmed() api.Gathered {
	lb2 := director("lb2")
	lose(&lb2, 20*time.Second, "lb1")
	instanceOf(&lb2, "VI_WEB").Heard = nil
	lb2.Promises = lb2.Promises[1:]
	in := gathered(lb2, witness())
	in.Peers = []api.PeerReport{silent("lb1", "no answer within 500ms"), in.Peers[0]}
	in.View.Consistent, in.View.Via = false, "lb2"
	return in
}

// Conflict: both directors say that they own VI_WEB under one epoch, which must never be.
func Conflict() api.Gathered {
	in := Healthy()
	take(in.Peers[0].Report, "VI_WEB", 14, ago(5*time.Second))
	return in
}

// NoLeader: an election is going on.
func NoLeader() api.Gathered {
	in := Healthy()
	in.Self.Cluster.Leader = ""
	in.View.Consistent, in.View.Leader, in.View.Via = false, "", "lb1"
	return in
}

// Founding: lb1 waits for the others; nothing is owned.
func Founding() api.Gathered {
	lb1 := director("lb1")
	lb1.State, lb1.StateText = api.NodeStarting, "founding"
	lose(&lb1, 0, "lb2", "w1")
	m := lb1.Cluster
	m.Founding, m.Voters, m.Leader, m.Term, m.ClusterID = "waits for lb2, w1", 0, "", 0, ""
	m.MajorityLastContact = api.Time{}
	for i := range m.Peers {
		m.Peers[i].Error = "connection refused"
	}
	drop(&lb1, "VI_WEB", api.GroupIneligible)
	for i := range lb1.Groups {
		lb1.Groups[i].Eligible, lb1.Groups[i].Epoch = false, 0
		lb1.Groups[i].WhyNot = []api.Reason{{Code: "no-quorum", Text: "the cluster is not founded"}}
	}
	lb1.Promises = nil
	return api.Gathered{At: api.At(Now), Self: lb1, View: &api.View{Via: "lb1"},
		Peers: []api.PeerReport{silent("lb2", "connection refused"), silent("w1", "connection refused")}}
}

// AdvertsMissing: VRRP is blocked between the directors; the leases hold.
func AdvertsMissing() api.Gathered {
	in := Healthy()
	instanceOf(in.Peers[0].Report, "VI_WEB").Heard = nil
	instanceOf(&in.Self, "VI_DB").Heard[0].AgoSeconds = 40
	return in
}
