package view_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/control/controltest"
	"github.com/hactl/had/internal/control/view"
)

// summary is what a test states about a composed status.
type summary struct {
	verdict    api.Verdict
	consistent bool
	protected  bool
	survives   int            // -1: nobody can tell
	groups     map[string]own // by group
	findings   []string       // codes, those of severity info in parentheses
}

type own struct {
	state     api.Ownership
	owner     string
	successor string
}

func TestTheStatusOfEveryScenario(t *testing.T) {
	both := map[string]own{"VI_WEB": {api.Owned, "lb1", "lb2"}, "VI_DB": {api.Owned, "lb2", "lb1"}}
	stated := map[string]summary{
		"healthy":      {api.Healthy, true, true, 1, both, nil},
		"witness-view": {api.Healthy, true, true, 1, both, nil},
		"witness-lost": {api.Degraded, true, true, 0, both, []string{"no-tolerance", "unreachable"}},
		"degraded": {api.Degraded, true, true, 0,
			map[string]own{"VI_WEB": {api.Owned, "lb1", ""}, "VI_DB": {api.Owned, "lb1", ""}},
			[]string{"no-tolerance", "no-backup", "unreachable"}},
		"minority": {api.NoQuorum, false, true, 0,
			map[string]own{"VI_WEB": {api.Unknown, "", ""}, "VI_DB": {api.Unknown, "", ""}},
			[]string{"no-quorum", "unreachable", "unreachable"}},
		"unowned": {api.Critical, true, true, 0,
			map[string]own{"VI_WEB": {api.Unowned, "", ""}, "VI_DB": {api.Unowned, "", ""}},
			[]string{"unowned", "unowned", "no-tolerance", "unreachable", "node-fault"}},
		"claiming": {api.Critical, true, true, 0,
			map[string]own{"VI_WEB": {api.Claiming, "", "lb2"}, "VI_DB": {api.Owned, "lb2", ""}},
			[]string{"unowned", "no-tolerance", "no-backup", "unreachable"}},
		"drift": {api.Critical, true, true, 0,
			map[string]own{"VI_WEB": both["VI_WEB"], "VI_DB": both["VI_DB"], "VI_NEW": {api.Unowned, "", "lb2"}},
			[]string{"unowned", "drift-lease", "drift-quorum-loss", "drift-group", "drift-vrid", "drift-version",
				"drift-advert-interval", "drift-unicast", "drift-addresses", "(version-skew)", "(equal-priority)"}},
		"stranger": {api.Degraded, true, true, 1, both, []string{"stranger", "stranger"}},
		"maintenance": {api.Degraded, true, true, 0,
			map[string]own{"VI_WEB": {api.Owned, "lb1", ""}, "VI_DB": {api.Owned, "lb1", ""}},
			[]string{"no-backup", "(maintenance)"}},
		"unprotected": {api.NotProtected, false, false, -1,
			map[string]own{"VI_WEB": {api.Unprotected, "lb1", ""}, "VI_DB": {api.Unprotected, "", "lb1"}},
			[]string{"unprotected"}},
		"held": {api.NoQuorum, false, false, 0,
			map[string]own{"VI_WEB": {api.Held, "lb1", ""}, "VI_DB": {api.Unknown, "", ""}},
			[]string{"held", "no-quorum", "unreachable", "unreachable"}},
		"displaced": {api.Degraded, true, true, 1, both, []string{"drift-placement", "(displaced)"}},
		"handover": {api.Healthy, true, true, 1,
			map[string]own{"VI_WEB": {api.HandingOver, "lb1", "lb2"}, "VI_DB": both["VI_DB"]}, nil},
		"unconfirmed": {api.Degraded, false, true, 0,
			map[string]own{"VI_WEB": {api.Unconfirmed, "lb1", "lb2"}, "VI_DB": {api.Owned, "lb2", ""}},
			[]string{"no-tolerance", "unconfirmed", "no-backup", "unreachable"}},
		"conflict": {api.Critical, true, false, 0,
			map[string]own{"VI_WEB": {api.Conflict, "", "lb2"}, "VI_DB": both["VI_DB"]}, []string{"conflict"}},
		"no-leader": {api.Degraded, false, true, 1, both, []string{"no-leader"}},
		"founding": {api.NoQuorum, false, true, 0,
			map[string]own{"VI_WEB": {api.Unknown, "", ""}, "VI_DB": {api.Unknown, "", ""}},
			[]string{"founding", "unreachable", "unreachable"}},
		"adverts": {api.Degraded, true, true, 1, both, []string{"adverts-missing", "adverts-missing"}},
	}
	for _, name := range controltest.Names() {
		want := stated[name] // a scenario that is not stated fails
		t.Run(name, func(t *testing.T) {
			s := view.Compose(controltest.Scenarios[name]())
			survives := -1
			if s.Survives != nil {
				survives = *s.Survives
			}
			if s.Verdict != want.verdict || s.Consistent != want.consistent || s.Protected != want.protected || survives != want.survives {
				t.Errorf("verdict %q consistent %v protected %v survives %d, want %q %v %v %d",
					s.Verdict, s.Consistent, s.Protected, survives, want.verdict, want.consistent, want.protected, want.survives)
			}
			for _, g := range s.Groups {
				if got := (own{g.State, g.Owner, g.Successor}); got != want.groups[g.Name] {
					t.Errorf("group %s: %+v, want %+v", g.Name, got, want.groups[g.Name])
				}
			}
			if len(s.Groups) != len(want.groups) {
				t.Errorf("%d groups, want %d", len(s.Groups), len(want.groups))
			}
			var codes []string
			for _, f := range s.Findings {
				if f.Severity == api.Info {
					codes = append(codes, "("+f.Code+")")
				} else {
					codes = append(codes, f.Code)
				}
			}
			if !slices.Equal(codes, want.findings) {
				t.Errorf("findings %q, want %q", codes, want.findings)
			}
		})
	}
}

func TestACompositionIsDeterministicAndItsListsAreNeverNull(t *testing.T) {
	for _, name := range controltest.Names() {
		a, _ := json.Marshal(view.Compose(controltest.Scenarios[name]()))
		b, _ := json.Marshal(view.Compose(controltest.Scenarios[name]()))
		if string(a) != string(b) {
			t.Errorf("%s: two compositions of one input differ", name)
		}
		if strings.Contains(string(a), ":null") && !strings.Contains(string(a), `"survives_failures":null`) {
			t.Errorf("%s: a list is null instead of empty: %s", name, a)
		}
	}
}

func group(t *testing.T, s api.ClusterStatus, name string) api.GroupStatus {
	t.Helper()
	for _, g := range s.Groups {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("no group %s", name)
	return api.GroupStatus{}
}

func reportOf(in *api.Gathered, node string) *api.NodeReport {
	if in.Self.Node == node {
		return &in.Self
	}
	for i := range in.Peers {
		if in.Peers[i].Name == node {
			return in.Peers[i].Report
		}
	}
	return nil
}

func TestAnOlderReportOfAnOwnerIsNoConflict(t *testing.T) {
	in := controltest.Healthy()
	lb2 := reportOf(&in, "lb2")
	lb2.Groups[0].State, lb2.Groups[0].Epoch, lb2.Groups[0].LeaseLeftSeconds = api.GroupOwner, 15, 2.5
	in.View.Groups[0].Owner, in.View.Groups[0].Epoch = "lb2", 15
	g := group(t, view.Compose(in), "VI_WEB")
	if g.State != api.Owned || g.Owner != "lb2" || g.Epoch != 15 {
		t.Errorf("got %s by %q under %d, want owned by lb2 under 15", g.State, g.Owner, g.Epoch)
	}
}

func TestAGrantThatItsOwnerHasNotReportedYetIsAHandover(t *testing.T) {
	in := controltest.Healthy()
	lb1 := reportOf(&in, "lb1")
	lb1.Groups[0].State, lb1.Groups[0].LeaseLeftSeconds = api.GroupBackup, 0
	in.View.Groups[0] = api.GroupRecord{Name: "VI_WEB", Owner: "lb2", LastOwner: "lb2", Epoch: 15, Since: api.At(in.At.Add(-20 * time.Millisecond))}
	if s := view.Compose(in); group(t, s, "VI_WEB").State != api.HandingOver || s.Verdict == api.Critical {
		t.Errorf("20 ms after the grant: group %s, verdict %s", group(t, s, "VI_WEB").State, s.Verdict)
	}
	in.View.Groups[0].Since = api.At(in.At.Add(-2 * time.Second))
	if s := view.Compose(in); group(t, s, "VI_WEB").State != api.Unowned || s.Verdict != api.Critical {
		t.Errorf("2 s after the grant: group %s, verdict %s", group(t, s, "VI_WEB").State, s.Verdict)
	}
}

func TestOwnFindingsAreAllKept(t *testing.T) {
	in := controltest.Healthy()
	in.Self.Findings = []api.Finding{{Code: "script-unusable", Severity: api.Warn, Text: "a"}, {Code: "script-unusable", Severity: api.Warn, Text: "b"}}
	if s := view.Compose(in); len(s.Findings) != 2 || s.Findings[0].Node != "lb1" {
		t.Errorf("got %+v", s.Findings)
	}
}

func TestTwoNodesWithoutAWitness(t *testing.T) {
	in := controltest.Healthy()
	in.Peers = in.Peers[:1]
	in.Self.Cluster.Peers, in.Self.Cluster.Voters, in.Self.Cluster.Reachable = in.Self.Cluster.Peers[:1], 2, 2
	s := view.Compose(in)
	if *s.Survives != 0 || len(s.Findings) != 1 || s.Findings[0].Next != "add a witness: had-cluster.conf(5)" {
		t.Errorf("survives %d, findings %+v", *s.Survives, s.Findings)
	}
}

func TestTwoUnprotectedOwnersAreAConflictWhateverTheirEpochs(t *testing.T) {
	in := controltest.Healthy()
	lb2 := reportOf(&in, "lb2")
	lb2.Groups[0].State, lb2.Groups[0].Epoch, lb2.Groups[0].Unprotected = api.GroupOwner, 13, true
	g := group(t, view.Compose(in), "VI_WEB")
	if g.State != api.Conflict || !slices.Equal(g.Owners, []string{"lb1", "lb2"}) || g.Protected {
		t.Errorf("got %s of %v protected %v, want a conflict of lb1 and lb2", g.State, g.Owners, g.Protected)
	}
}

func TestSinceWhenNobodyOwnsAGroup(t *testing.T) {
	since := func(change func(*api.Gathered)) time.Duration {
		in := controltest.Unowned()
		change(&in)
		g := group(t, view.Compose(in), "VI_WEB")
		if g.State != api.Unowned {
			t.Fatalf("got %s, want unowned", g.State)
		}
		if g.Since.IsZero() {
			return 0
		}
		return in.At.Sub(g.Since.Time)
	}
	for _, test := range []struct {
		name   string
		change func(*api.Gathered)
		want   time.Duration
	}{
		{"the end of the last promise to an owner that is gone", func(*api.Gathered) {}, 9500 * time.Millisecond},
		{"its release", func(in *api.Gathered) {
			in.View.Groups[0].Owner, in.View.Groups[0].Since = "", api.At(in.At.Add(-7*time.Second))
		}, 7 * time.Second},
		{"its lapse, as its last owner reports", func(in *api.Gathered) {
			in.Self.Groups[0].LapsedAt = api.At(in.At.Add(-8 * time.Second))
		}, 8 * time.Second},
		{"unknown when nobody remembers", func(in *api.Gathered) {
			in.Self.Promises, in.Peers[1].Report.Promises = nil, nil
		}, 0},
	} {
		if got := since(test.change); got != test.want {
			t.Errorf("%s: %s ago, want %s", test.name, got, test.want)
		}
	}
}

func TestWithoutAMajorityOfReportsNobodyIsCalledOwnerless(t *testing.T) {
	in := controltest.Unowned()
	in.Peers[1].Report, in.Peers[1].Error = nil, "no answer within 500ms"
	if g := group(t, view.Compose(in), "VI_WEB"); g.State != api.Unknown {
		t.Errorf("one report of three: got %s, want unknown", g.State)
	}
}

func TestAnInstanceHasTheRoutesThatAnyNodeHas(t *testing.T) {
	in := controltest.Healthy()
	lb2 := reportOf(&in, "lb2")
	lb2.Instances[0].Routes, lb2.Instances[0].Rules = []string{"198.51.100.0/24"}, []string{"500: from all"}
	lines := group(t, view.Compose(in), "VI_WEB").Instances
	if len(lines) != 1 || !slices.Equal(lines[0].Routes, lb2.Instances[0].Routes) || !slices.Equal(lines[0].Rules, lb2.Instances[0].Rules) {
		t.Errorf("instances %+v", lines)
	}
}

func TestSuccessorsComeInTheOrderOfTheirDownIntervals(t *testing.T) {
	in := controltest.Healthy()
	lb3 := *reportOf(&in, "lb2")
	lb3.Node = "lb3"
	lb3.Groups, lb3.Instances = slices.Clone(lb3.Groups), slices.Clone(lb3.Instances)
	lb3.Instances[0].Source = "10.77.0.30"
	in.Peers = append(in.Peers, api.PeerReport{Name: "lb3", Role: api.Director, Report: &lb3})
	if g := group(t, view.Compose(in), "VI_WEB"); g.Successor != "lb3" {
		t.Errorf("equal priorities: successor %s, want lb3 with the greater address", g.Successor)
	}
	reportOf(&in, "lb2").Instances[0].DownIntervalSeconds = 3.5
	if g := group(t, view.Compose(in), "VI_WEB"); g.Successor != "lb2" {
		t.Errorf("successor %s, want lb2 with the shorter Active_Down_Interval", g.Successor)
	}
	reportOf(&in, "lb2").Groups[0].Eligible = false
	if g := group(t, view.Compose(in), "VI_WEB"); g.Successor != "lb3" {
		t.Errorf("successor %s, want lb3, as lb2 is not eligible", g.Successor)
	}
}

// Where rules for places have another director in mind than priorities do, a plan names that one, and `why` names both.
func TestAPlanNamesWhomTheRulesForPlacesWouldHave(t *testing.T) {
	in := controltest.Healthy()
	lb3 := *reportOf(&in, "lb2")
	lb3.Node = "lb3"
	lb3.Groups, lb3.Instances = slices.Clone(lb3.Groups), slices.Clone(lb3.Instances)
	in.Peers = append(in.Peers, api.PeerReport{Name: "lb3", Role: api.Director, Report: &lb3})
	reportOf(&in, "lb2").Instances[0].DownIntervalSeconds = 3.5
	reportOf(&in, "lb1").Groups[0].Placement = &api.Placement{Node: "lb1", Rules: "prefer lb1 lb3", Heir: "lb3", HeirAlone: "lb3"}
	for _, eligible := range []bool{true, false} {
		want := map[bool]string{true: "lb3", false: "lb2"}[eligible]
		lb3.Groups[0].Eligible = eligible
		s := view.Compose(in)
		move, problem := view.PlanMove(s, api.MoveRequest{Groups: []string{"VI_WEB"}})
		if problem != nil || len(move.Steps) != 1 || move.Steps[0].To != want || move.Steps[0].Refused != nil {
			t.Errorf("lb3 eligible: %t: move: %+v, %v", eligible, move.Steps, problem)
		}
		drain, problem := view.PlanMaintenance(s, api.MaintenanceRequest{Node: "lb1", On: true})
		if problem != nil || len(drain.Steps) == 0 || drain.Steps[0].Group != "VI_WEB" || drain.Steps[0].To != want {
			t.Errorf("lb3 eligible: %t: maintenance: %+v, %v", eligible, drain.Steps, problem)
		}
		w, problem := view.Why(in, "VI_WEB")
		if problem != nil || w.IfFails.Successor != "lb2" || strings.Contains(strings.Join(w.IfFails.Text, "\n"), "lb3 is to have it") != eligible {
			t.Errorf("lb3 eligible: %t: %+v, %v", eligible, w.IfFails, problem)
		}
	}
	// Whom a group goes to by itself may be another one than if all groups of its owner go.
	lb3.Groups[0].Eligible, reportOf(&in, "lb1").Groups[0].Placement.HeirAlone = true, "lb2"
	s := view.Compose(in)
	for _, tt := range []struct {
		req  api.MoveRequest
		want string
	}{{api.MoveRequest{Groups: []string{"VI_WEB"}}, "lb2"}, {api.MoveRequest{All: true, From: "lb1"}, "lb3"}} {
		plan, problem := view.PlanMove(s, tt.req)
		if problem != nil || len(plan.Steps) == 0 || plan.Steps[0].Group != "VI_WEB" || plan.Steps[0].To != tt.want {
			t.Errorf("%+v: %+v, %v", tt.req, plan.Steps, problem)
		}
	}
}

func TestFindingsOfReports(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*api.Gathered)
		code   string
		text   string
	}{
		{"a guard that is gone", func(in *api.Gathered) { in.Self.Guard.OK, in.Self.Guard.Text = false, "table had is missing" },
			"guard", "the guard of lb1 is not in place: table had is missing"},
		{"guard none", func(in *api.Gathered) { in.Self.Guard.Kind = "none" }, "guard-none", "UNPROTECTED"},
		{"arbitration by gateway", func(in *api.Gathered) { in.Self.Cluster.Arbitration = "gateway" }, "arbitration-gateway", "no split-brain protection"},
		{"an address that is missing", func(in *api.Gathered) { in.Self.Groups[0].Addresses[0].InKernel = false },
			"address-missing", "lb1 owns VI_WEB but 192.0.2.10 is not in its kernel"},
		{"an address left over", func(in *api.Gathered) { reportOf(in, "lb2").Groups[0].Addresses[0].InKernel = true },
			"leftover-address", "192.0.2.10 is in the kernel of lb2, which does not own VI_WEB; its guard is shut"},
		{"a disk that hangs", func(in *api.Gathered) { in.Self.Cluster.DiskText = "a write has been going on for 2s" }, "disk", "lb1: a write"},
		{"a clock source that stops", func(in *api.Gathered) { in.Self.ClockSourceWarning = "kvm-clock stops with the guest" }, "clock-source", "kvm-clock"},
		{"a gateway that is down", func(in *api.Gathered) {
			in.Self.Gateways = []api.GatewayReport{{Address: "10.77.0.254"}}
		}, "gateway", "lb1 does not reach the gateway 10.77.0.254"},
		{"a node's own words", func(in *api.Gathered) {
			in.Self.Cluster.DiskText = "full"
			in.Self.Findings = []api.Finding{{Code: "disk", Severity: api.Error, Text: "free the disk"}}
		}, "disk", "free the disk"},
		{"a router that is no member", func(in *api.Gathered) {
			in.Self.Instances[1].Heard = append(in.Self.Instances[1].Heard, api.AdvertSource{Address: "192.0.2.66", Priority: 200})
		}, "stranger", "192.0.2.66 advertises the VRID of VI_DB with priority 200 on eth0 (heard by lb1): it is no member"},
		{"different members", func(in *api.Gathered) { in.Self.Cluster.Peers[0].ConfigDiffers = true }, "drift-members", "lb1 and lb2 name different"},
		{"its own words", func(in *api.Gathered) {
			in.Self.Findings = []api.Finding{{Code: "own", Severity: api.Warn, Text: "something"}}
		}, "own", "something"},
		{"an instance that one has", func(in *api.Gathered) {
			in.Self.Instances = append(in.Self.Instances, api.InstanceReport{Name: "VI_WEB6", Group: "VI_WEB"})
		}, "drift-instance", "lb1 has an instance VI_WEB6, lb2 has none of that name"},
		{"an instance in another group", func(in *api.Gathered) { in.Self.Instances[1].Group = "VI_WEB" }, "drift-group",
			"VI_DB belongs to group VI_WEB on lb1 but to VI_DB on lb2"},
		{"two address owners", func(in *api.Gathered) {
			in.Self.Instances[0].Priority, reportOf(in, "lb2").Instances[0].Priority = 255, 255
		}, "two-address-owners", "priority 255"},
		{"a director that runs as a witness", func(in *api.Gathered) { reportOf(in, "lb2").Role = api.Witness },
			"drift-role", "lb2 runs as a witness, but lb1 has it as a director in its file"},
		{"a majority done without", func(in *api.Gathered) {
			in.View.Members = slices.DeleteFunc(in.View.Members, func(m api.Member) bool { return m.Name == "w1" })
			in.View.Forced = &api.Forced{Node: "lb1", Dead: []string{"lb2", "w1"}, Person: "alice"}
		}, "forced", "alice declared w1 dead on lb1; if they are alive elsewhere, there may be two owners"},
		{"a node that just started", func(in *api.Gathered) { in.Self.State, in.Self.StateText = api.NodeAbstaining, "for 2s" },
			"node-abstaining", "lb1 is abstaining: for 2s"},
	} {
		in := controltest.Healthy()
		test.change(&in)
		s := view.Compose(in)
		k := slices.IndexFunc(s.Findings, func(f api.Finding) bool { return f.Code == test.code })
		if k < 0 || !strings.Contains(s.Findings[k].Text, test.text) {
			t.Errorf("%s: no finding %q with %q in %+v", test.name, test.code, test.text, s.Findings)
		}
	}
}

func TestWhatFollowsWhenTheOwnerFails(t *testing.T) {
	for _, test := range []struct {
		name      string
		in        api.Gathered
		successor string
		within    api.Seconds
		election  bool
		text      string
	}{
		{"the other director after Active_Down_Interval", controltest.Healthy(), "lb2", 3.609375, true, "lb2 would take over within 3.61s"},
		{"the lease, where it is longer", func() api.Gathered {
			in := controltest.Healthy()
			in.Self.Groups[0].LeaseSeconds = 5
			return in
		}(), "lb2", 5.05, true, "within 5.05s"},
		{"no majority is left", controltest.WitnessLost(), "", 0, false, "nobody would take over: without lb1 only 1 of 3 votes are left"},
		{"nobody else is eligible", controltest.Maintenance(), "", 0, false, "nobody would take over: no other director is eligible"},
		{"no quorum here", controltest.Held(), "", 0, false, "this side has no majority"},
		{"without a cluster", controltest.Unprotected(), "", 0, false, "had cannot tell"},
		{"without an owner, with a candidate", controltest.Claiming(), "lb2", 0, false, "takes it once a majority has cleared it"},
		{"without an owner or a candidate", controltest.Unowned(), "", 0, false, "there is no owner that could fail"},
	} {
		w, problem := view.Why(test.in, "VI_WEB")
		if problem != nil {
			t.Fatal(problem)
		}
		f := w.IfFails
		if f.Successor != test.successor || f.WithinSeconds != test.within || f.NeedsElection != test.election ||
			!strings.Contains(strings.Join(f.Text, "\n"), test.text) {
			t.Errorf("%s: %+v", test.name, f)
		}
	}
}

func TestWhyNamesThePreference(t *testing.T) {
	because := func(change func(in *api.Gathered)) string {
		in := controltest.Healthy()
		reportOf(&in, "lb2").Groups[0].EffectivePriority = 200
		change(&in)
		w, problem := view.Why(in, "192.0.2.10")
		if problem != nil {
			t.Fatal(problem)
		}
		return strings.Join(w.Because, "\n")
	}
	for want, change := range map[string]func(in *api.Gathered){
		"lb2 has the higher priority 200, lb1 has 150: lb2 is about to preempt":                    func(*api.Gathered) {},
		"but an operator moved it to lb1: it stays until moved again or lost":                      func(in *api.Gathered) { in.View.Groups[0].Placed = true },
		"nopreempt keeps it where it is":                                                           func(in *api.Gathered) { reportOf(in, "lb2").Instances[0].Preempt = false },
		"lb2 preempts after 30s of preempt_delay":                                                  func(in *api.Gathered) { reportOf(in, "lb2").Instances[0].PreemptDelaySeconds = 30 },
		"its effective priority 150 is the highest of the eligible directors":                      func(in *api.Gathered) { reportOf(in, "lb2").Groups[0].Eligible = false },
		"lb1 holds the lease of epoch 14, granted 6d02h ago (preferred by priority)\nits lease is": func(*api.Gathered) {},
	} {
		if got := because(change); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
}

func TestAWitnessWithoutQuorumTellsWhatItKnows(t *testing.T) {
	in := controltest.WitnessView()
	in.Self.Cluster.Quorum, in.Self.Cluster.Reachable, in.Self.Cluster.Leader = false, 1, ""
	in.Self.Promises = nil
	in.View.Consistent = false
	for i := range in.Peers {
		in.Peers[i].Report, in.Peers[i].Error = nil, "no answer within 500ms"
	}
	s := view.Compose(in)
	g := group(t, s, "VI_WEB")
	if s.Verdict != api.NoQuorum || g.State != api.Unknown || g.LastOwner != "lb1" {
		t.Errorf("got %s, group %s last owner %q; want no quorum, unknown, lb1", s.Verdict, g.State, g.LastOwner)
	}
}

func TestAGroupThatNobodyHasConfiguredAnyMoreIsNotListed(t *testing.T) {
	in := controltest.Healthy()
	in.View.Groups = append(in.View.Groups, api.GroupRecord{Name: "VI_OLD", LastOwner: "lb1", Epoch: 3})
	if s := view.Compose(in); len(s.Groups) != 2 {
		t.Errorf("%d groups, want 2", len(s.Groups))
	}
}

func TestWhoIsReturningFromMaintenance(t *testing.T) {
	in := controltest.Maintenance()
	in.View.Maintenance = nil // it is over, and lb2 has not heard of that
	status := view.Compose(in)
	sick := status
	sick.Findings = append(slices.Clone(status.Findings), api.Finding{Code: "disk", Node: "lb2"})
	if !view.Returning(status, "lb2") || view.Returning(status, "lb1") || view.Returning(sick, "lb2") || view.Returning(view.Compose(controltest.Healthy()), "lb2") {
		t.Error("lb2 alone is, as long as its disk works")
	}
	for _, g := range status.Groups {
		for _, k := range g.Candidates {
			if k.Node == "lb2" && (len(k.WhyNot) != 1 || k.WhyNot[0].Text != "in maintenance, as its own log still has it") {
				t.Errorf("%s: %+v", g.Name, k.WhyNot)
			}
		}
	}
}
