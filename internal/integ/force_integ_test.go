//go:build integ

package integ

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

// reaches waits until a node's status says how many votes answer.
func reaches(t *testing.T, s *site.Site, n *site.Node, votes, of int) {
	t.Helper()
	if err := s.Poll(t.Context(), recoverLimit, func() error {
		status, err := s.Status(t.Context(), n)
		if err == nil && (status.Quorum.Reachable != votes || status.Quorum.Voters != of) {
			err = fmt.Errorf("%d of %d votes answer", status.Quorum.Reachable, status.Quorum.Voters)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// forced orders a node to be the only voter, again for as long as it says that it is too early.
func forced(t *testing.T, s *site.Site, n *site.Node, args ...string) {
	t.Helper()
	args = append([]string{"cluster", "force-quorum"}, args...)
	if err := s.Poll(t.Context(), recoverLimit, func() error {
		_, err := s.Hactl(t.Context(), n, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// refusedFor asserts that a node refuses to be the only voter, and why.
func refusedFor(t *testing.T, s *site.Site, n *site.Node, why string, args ...string) {
	t.Helper()
	args = append([]string{"cluster", "force-quorum"}, args...)
	if _, err := s.Hactl(t.Context(), n, args...); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("%v: %v, want %q", args, err, why)
	}
}

// M16: a majority is lost for good. The director that is left goes on alone once a person has said so, and the old majority, which
// comes back with all its data and at once, never owns anything: its members come back as new ones. Takes 30 s.
func TestForcedQuorumAndTheOldMajorityThatReturns(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(p *site.Plan) { p.VIPs = []netip.Addr{site.VIP4, site.VIP6} })
	for range attempts {
		if forceAndReturn(t, s) || t.Failed() {
			return
		}
	}
	t.Errorf("the observer was not awake in any of %d attempts: nothing is proved", attempts)
}

// forceAndReturn tells whether the observer was awake.
func forceAndReturn(t *testing.T, s *site.Site) bool {
	owner, other := awaitWhole(t, s)
	w := s.Witness()
	names := []string{owner.Name, w.Name, "--confirm", owner.Name + "," + w.Name}
	from := observer.Now()
	refusedFor(t, s, other, "a majority answers", names...)

	for _, n := range []*site.Node{owner, w} {
		if err := s.Kill(n); err != nil {
			t.Fatal(err)
		}
	}
	reaches(t, s, other, 1, 3)
	refusedFor(t, s, other, w.Name+" does not answer either", owner.Name, "--confirm", owner.Name)
	forced(t, s, other, append(names, "--reason", "room 2 has burnt down")...)
	ownedBy(t, s, other)
	reaches(t, s, other, 1, 1)
	status, err := s.Status(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(status.Findings, func(f api.Finding) bool { return f.Code == "forced" }) {
		t.Errorf("the status says nothing of it: %s", site.Describe(status))
	}

	// They are back, in the same moment.
	for _, n := range []*site.Node{owner, w} {
		if err := s.Start(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AwaitHealthy(t.Context(), startLimit); err != nil {
		t.Fatal(err)
	}
	status, err = s.Status(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(status.Nodes, func(n api.NodeStatus) bool { return !n.Voter }) {
		t.Errorf("not all are voters: %s", site.Describe(status))
	}
	if slices.ContainsFunc(status.Findings, func(f api.Finding) bool { return f.Code == "forced" }) {
		t.Errorf("the status still speaks of it: %s", site.Describe(status))
	}
	for _, n := range []*site.Node{owner, w} {
		if log := n.LogTail(1 << 20); !strings.Contains(log, "goes on as") || !strings.Contains(log, "this member begins anew") {
			t.Errorf("%s does not say that it was refused and begins anew", n.Name)
		}
	}
	events, err := s.Hactl(t.Context(), owner, "events")
	if err != nil || !strings.Contains(events, other.Name+" is the only voter") || !strings.Contains(events, "room 2 has burnt down") {
		t.Errorf("the journal does not tell of it: %v\n%s", err, events)
	}
	time.Sleep(calm)
	v, err := s.Observer.Judge(t.Context(), from, observer.Now())
	if err != nil {
		t.Fatal(err)
	}
	figures.Judged(&v)
	t.Logf("forced: %s", v.String())
	if v.DualFor() > 0 {
		t.Errorf("two owners: %s", v.String())
	}
	s.Observer.Forget(observer.Now().Add(-time.Second))
	return v.Void == ""
}

// An operator takes two members for dead that are alive. As long as the owner is heard, this is refused. Where it is not, there are
// two owners, as the page about it says; it ends when they meet, without anybody's help. Takes 30 s.
func TestForcedQuorumAgainstTheLiving(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	owner, other := awaitWhole(t, s)
	w := s.Witness()
	names := []string{owner.Name, w.Name, "--confirm", owner.Name + "," + w.Name}
	for _, n := range []*site.Node{owner, w} {
		for _, protocol := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			if err := keep(s.Lab.DropProtocol(protocol, other.Host, n.Host)); err != nil {
				t.Fatal(err)
			}
		}
	}
	reaches(t, s, other, 1, 3)
	refusedFor(t, s, other, owner.Address.String()+" advertises virtual router 51", names...)

	from := observer.Now()
	for _, n := range []*site.Node{owner, w} {
		if err := keep(s.Lab.DropPair(other.Host, n.Host)); err != nil {
			t.Fatal(err)
		}
	}
	forced(t, s, other, names...)
	awaitOwners(t, s, 2)
	if v, err := s.Observer.Judge(t.Context(), from, observer.Now()); err != nil || v.DualFor() == 0 {
		t.Errorf("the observer has seen no two owners: %v %s", err, v.String())
	}
	if err := s.Lab.HealAll(); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitHealthy(t.Context(), startLimit); err != nil {
		t.Fatal(err)
	}
	ownedBy(t, s, other)
}

// One of the named is alive and keeps its address, and has a fence device: the quorum is not forced before the device says that it is
// off, and then nobody ever sees two owners. Takes 35 s.
func TestForcedQuorumWaitsForTheFenceDevice(t *testing.T) {
	t.Parallel()
	power := newSupply(t)
	s := setUp(t, func(p *site.Plan) {
		p.Cluster = []string{"gateway 10.77.0.254 { interval 0.5 }", "quorum_loss hold",
			fmt.Sprintf("fence lb1 { agent %s/agent\n timeout 2\n retry 0\n }", power.dir)}
	})
	if _, err := s.Lab.AddHost("gw", netip.PrefixFrom(gateway4, site.Subnet4.Bits())); err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.StartAll())
	lb1, lb2, w := s.Node("lb1"), s.Node("lb2"), s.Witness()
	power.connect(t, s, lb1)
	moveTo := func(to *site.Node) {
		t.Helper()
		must(s.Poll(t.Context(), recoverLimit, func() error { // it has to see its gateway for a while
			_, err := s.Hactl(t.Context(), lb2, "move", s.Group(), "--to", to.Name, "--yes")
			return err
		}))
		ownedBy(t, s, to)
	}
	if owner, _ := awaitWhole(t, s); owner != lb1 {
		moveTo(lb1)
	}
	names := []string{lb1.Name, w.Name, "--confirm", lb1.Name + "," + w.Name}
	must(s.Kill(w))
	must(keep(s.Lab.DropPair(lb1.Host, lb2.Host)))
	saysHeld(t, s, lb1)
	reaches(t, s, lb2, 1, 3)

	for _, mode := range []string{"broken", "liar", "hanging"} {
		power.set(t, "mode", mode)
		refusedFor(t, s, lb2, lb1.Name+" could not be switched off", names...)
		if owners := s.Observer.Owners(s.VIPs[0], settled); !slices.Equal(owners, []string{lb1.Name}) {
			t.Errorf("after a refusal (%s) the owners are %v", mode, owners)
		}
	}
	if cuts := power.cuts.Load(); cuts != 0 {
		t.Fatalf("power was cut %d times", cuts)
	}
	power.set(t, "mode", "honest")
	from := observer.Now()
	forced(t, s, lb2, names...)
	ownedBy(t, s, lb2)
	v, err := s.Observer.Judge(t.Context(), from, observer.Now())
	must(err)
	figures.Judged(&v)
	t.Logf("forced with a fence: %s", v.String())
	if v.DualFor() > 0 { // it would be for seconds: an observer that was not awake for a moment misses nothing
		t.Errorf("two owners: %s", v.String())
	}
	if cuts := power.cuts.Load(); cuts != 1 {
		t.Errorf("power was cut %d times", cuts)
	}
	if events, err := s.Hactl(t.Context(), lb2, "events"); err != nil || !strings.Contains(events, "("+lb1.Name+": agent, "+w.Name+": a person's word)") {
		t.Errorf("the journal does not tell how %s is known to be off: %v\n%s", lb1.Name, err, events)
	}
	must(power.restore(t))
	must(s.Start(w))
	must(s.Lab.HealAll())
	must(s.AwaitHealthy(t.Context(), startLimit))
	moveTo(lb1) // it is another member now, and believed
}
