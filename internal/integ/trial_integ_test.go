//go:build integ

package integ

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/report"
	"github.com/hactl/had/internal/lab/site"
)

const (
	startLimit   = 60 * time.Second
	recoverLimit = 40 * time.Second
	calm         = 300 * time.Millisecond // before a fault and at the end
	settled      = 300 * time.Millisecond // a new owner has been the only one for this long
	attempts     = observer.Attempts

	// leaseIntervals is twice the number of advertisement intervals in a lease.
	leaseIntervals = 5

	// Bounds of interruptions, with an allowance for busy machines.
	handover  = 250 * time.Millisecond
	none      = 20 * time.Millisecond
	allowance = 500 * time.Millisecond
	// coldElection is for the election of a leader by programs that have just started; programStart for their start.
	coldElection = 3 * time.Second
	programStart = time.Second
)

// expectation is what a fault does to ownership.
type expectation uint8

const (
	stays    expectation = iota + 1 // the owner stays the owner
	moves                           // the other director takes over, and keeps the addresses
	whatever                        // any director may own them at the end, and nobody or anybody in between
)

// String is the expectation in one word.
func (e expectation) String() string {
	return [...]string{stays: "stays", moves: "moves", whatever: "any"}[e]
}

// trial is one fault.
type trial struct {
	name   string
	id     string // of the fault in the catalogue (internal/lab/faults); empty: it has none
	expect expectation
	// bound is the longest interruption allowed; zero: no bound.
	bound func(s *scene) time.Duration
	// prepare is called before each playing; nil: nothing to prepare.
	prepare func(t *testing.T)
	// make makes the fault. hold is how long it lasts, after the takeover if there is to be one. heal ends it, besides what the
	// lab itself undoes.
	make, heal func(s *scene) error
	hold       time.Duration
	// during is called before the fault ends.
	during func(t *testing.T, s *scene)
}

// scene is one playing of a trial.
type scene struct {
	*site.Site
	ctx          context.Context
	owner, other *site.Node
}

// keep drops the fault that a lab method returns: the lab heals it.
func keep(_ *lab.Fault, err error) error { return err }

func withinDownInterval(s *scene) time.Duration { return s.DownInterval(s.other.Member) + allowance }

// withinLeaseToo is for an owner that is heard until its lease ends.
func withinLeaseToo(s *scene) time.Duration {
	return withinDownInterval(s) + leaseIntervals*s.AdvertInterval/2
}
func withinHandover(*scene) time.Duration { return handover }

// withinColdStart is for programs that all start anew: voters abstain for as long as they may have promised, the log needs a leader,
// and VRRP waits for Active_Down_Interval.
func withinColdStart(s *scene) time.Duration {
	return max(leaseIntervals*s.AdvertInterval/2*101/100+coldElection, s.DownInterval(s.other.Member)) + programStart + allowance
}
func withoutLoss(*scene) time.Duration { return none }

// newSite sets up a cluster, starts it and waits until it is healthy.
func newSite(t *testing.T, change func(*site.Plan)) *site.Site {
	t.Helper()
	s := setUp(t, change)
	if err := s.StartAll(); err != nil {
		t.Fatal(err)
	}
	awaitWhole(t, s)
	return s
}

var siteNumber atomic.Int32

// setUp sets up a cluster of which nothing runs.
func setUp(t *testing.T, change func(*site.Plan)) *site.Site {
	t.Helper()
	plan := site.Plan{
		Programs:       programs(),
		Dir:            fmt.Sprintf("%s/s%d", lab.RunDir, siteNumber.Add(1)), // short: it is part of the sockets' paths
		Members:        site.Trio(),
		VIPs:           []netip.Addr{site.VIP4},
		AdvertInterval: time.Second,
	}
	if change != nil {
		change(&plan)
	}
	s, err := site.Build(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range s.Nodes {
				t.Logf("the end of %s's log:\n%s", n.Name, n.LogTail(16<<10))
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// awaitWhole waits for an owner and, with had, for a healthy cluster.
func awaitWhole(t *testing.T, s *site.Site) (owner, other *site.Node) {
	t.Helper()
	owner, other, err := s.AwaitOwner(t.Context(), startLimit)
	if err != nil {
		t.Fatal(err)
	}
	if s.Keepalived == "" {
		if err := s.AwaitHealthy(t.Context(), startLimit); err != nil {
			t.Fatal(err)
		}
	}
	return owner, other
}

// play plays a trial until the observer was awake, and judges it.
func play(t *testing.T, s *site.Site, tr trial) {
	t.Helper()
	passed := t.Run(tr.name, func(t *testing.T) {
		for void := range attempts {
			if tr.prepare != nil {
				tr.prepare(t)
			}
			sc := &scene{Site: s, ctx: t.Context()}
			sc.owner, sc.other = awaitWhole(t, s)
			v := sc.play(t, tr)
			figures.Judged(&v)
			t.Logf("%s: %s", tr.name, v.String())
			sc.judge(t, tr, &v)
			if v.Void == "" {
				sc.note(tr, &v)
				sc.report(t, tr, &v, void)
			}
			if v.Void == "" || t.Failed() {
				return
			}
		}
		if tr.id != "" {
			figures.Fault(report.Fault{ID: tr.id, Test: t.Name(), Expected: tr.expect.String(), Void: attempts, Unproved: true})
		}
		t.Errorf("the observer was not awake in any of %d attempts: nothing is proved", attempts)
	})
	if !passed {
		// The other trials say something only if the cluster has recovered.
		if err := s.AwaitHealthy(t.Context(), recoverLimit); err != nil {
			t.Fatal(err)
		}
	}
}

// play makes the fault, waits for the outcome, heals and waits until all is well again.
func (s *scene) play(t *testing.T, tr trial) observer.Verdict {
	t.Helper()
	from := observer.Now()
	time.Sleep(calm)
	if err := tr.make(s); err != nil {
		if tr.heal != nil {
			err = errors.Join(err, tr.heal(s))
		}
		t.Fatal(errors.Join(err, s.Lab.HealAll()))
	}
	if tr.expect == moves {
		s.awaitTakeover(t)
	}
	time.Sleep(tr.hold)
	if tr.during != nil {
		tr.during(t, s)
	}
	if tr.heal != nil {
		if err := tr.heal(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Lab.HealAll(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.AwaitOwner(s.ctx, recoverLimit); err != nil {
		t.Error(err)
	}
	if err := s.AwaitHealthy(s.ctx, recoverLimit); err != nil {
		t.Error(err)
	}
	time.Sleep(calm)
	v, err := s.Observer.Judge(s.ctx, from, observer.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.Observer.Forget(observer.Now().Add(-time.Second))
	return v
}

// move has the group moved by an operator, and waits until the new owner alone answers.
func move(t *testing.T, s *site.Site, asked, to *site.Node) {
	t.Helper()
	if _, err := s.Hactl(t.Context(), asked, "move", s.Group(), "--to", to.Name, "--yes"); err != nil {
		t.Fatal(err)
	}
	ownedBy(t, s, to)
}

// ownedBy waits until a node alone has answered for the addresses for a while.
func ownedBy(t *testing.T, s *site.Site, n *site.Node) {
	t.Helper()
	if err := s.AwaitOwnedBy(t.Context(), n, settled, recoverLimit); err != nil {
		t.Fatal(err)
	}
}

// awaitTakeover waits until the other director has been the only owner for a while.
func (s *scene) awaitTakeover(t *testing.T) {
	t.Helper()
	if err := s.AwaitOwnedBy(s.ctx, s.other, settled, recoverLimit); err != nil {
		t.Error(err)
	}
}

// note enters what was seen into the table of interruptions, beside what stock keepalived showed, if it is to be compared.
func (s *scene) note(tr trial, v *observer.Verdict) {
	column, bound := 1, ""
	if s.Keepalived != "" {
		column = 4
	} else if tr.bound != nil {
		bound = report.Milliseconds(tr.bound(s))
	}
	cells := []string{report.Milliseconds(v.Interruption()), report.Milliseconds(v.DualFor())}
	if s.Keepalived == "" {
		cells = append(cells, bound)
	}
	interruptions.Set(tr.name+s.setting(), column, cells...)
}

// report enters what was seen into the catalogue of faults.
func (s *scene) report(t *testing.T, tr trial, v *observer.Verdict, void int) {
	if tr.id == "" || s.Keepalived != "" {
		return
	}
	f := report.Fault{ID: tr.id, Test: t.Name(), Expected: tr.expect.String(), Out: v.Interruption(), Dual: v.DualFor(), Void: void}
	if tr.bound != nil {
		f.AtMost = tr.bound(s)
	}
	figures.Fault(f)
}

// setting describes a site that is not the usual one.
func (s *scene) setting() string {
	var texts []string
	if s.AdvertInterval != time.Second {
		texts = append(texts, fmt.Sprintf("advert_int %g", s.AdvertInterval.Seconds()))
	}
	if len(s.VIPs) > 1 {
		texts = append(texts, fmt.Sprintf("%d addresses", len(s.VIPs)))
	}
	for _, statement := range slices.Concat(s.Cluster, s.Instance) {
		if strings.Contains(statement, "\n") {
			statement, _, _ = strings.Cut(statement, "{")
			statement += "{...}"
		}
		texts = append(texts, statement)
	}
	if len(texts) == 0 {
		return ""
	}
	return " (" + strings.Join(texts, ", ") + ")"
}

// judge compares what was seen with what was expected. While the observer was not awake only two owners count: the machine may
// have stood still for longer than a lease.
func (s *scene) judge(t *testing.T, tr trial, v *observer.Verdict) {
	t.Helper()
	for i := range v.VIPs {
		w := &v.VIPs[i]
		if w.DualFor > 0 {
			t.Errorf("%s had two owners for %s: %v", w.VIP, w.DualFor, w.Duals)
		}
		if v.Void != "" {
			continue
		}
		if err := s.ownersAreExpected(tr.expect, names(v, w)); err != nil {
			t.Errorf("%s: %v", w.VIP, err)
		}
		if tr.bound != nil && w.Interruption() > tr.bound(s) {
			t.Errorf("%s was out for %s, want at most %s", w.VIP, w.Interruption(), tr.bound(s))
		}
	}
	if v.Void == "" && tr.expect == stays && len(v.Interleavings) > 0 {
		t.Errorf("two directors advertised in turn: %+v", v.Interleavings)
	}
}

func (s *scene) ownersAreExpected(expect expectation, got []string) error {
	want := []string{s.owner.Name}
	switch expect {
	case whatever:
		return nil
	case moves:
		want = append(want, s.other.Name)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("owners %s, want %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
	return nil
}

// names returns the owners in the order in which they were owners.
func names(v *observer.Verdict, w *observer.VIPVerdict) []string {
	var list []string
	for _, station := range w.Owners() {
		list = append(list, v.Name(station))
	}
	return list
}
