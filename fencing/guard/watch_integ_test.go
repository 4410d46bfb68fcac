//go:build integ

package guard

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/hactl/had/internal/clock"
)

// stranger is a socket that is not the guard's, as another program has.
func stranger(t *testing.T, l lan) *nftables.Conn {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(l.machine)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type seenChange struct {
	Change
	at clock.Time
}

// watch collects what Watch reports until the test ends.
func watch(t *testing.T, g *NFTables) <-chan seenChange {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	changes, ended := make(chan seenChange, 64), make(chan error, 1)
	go func() {
		ended <- g.Watch(ctx, func(c Change) { changes <- seenChange{c, g.clock()} })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	return changes
}

func noChange(t *testing.T, changes <-chan seenChange) {
	t.Helper()
	select {
	case c := <-changes:
		t.Errorf("unexpected change: %v", c.Change)
	case <-time.After(30 * time.Millisecond):
	}
}

func TestOwnChangesAreNotReported(t *testing.T) {
	l := newLAN(t)
	g := openGuard(t, l, nil)
	changes := watch(t, g)
	for range 2 {
		if err := g.Install(testSpec()); err != nil {
			t.Fatal(err)
		}
		mustArm(t, g, Lease{Group: group, Until: g.clock().Add(400 * time.Millisecond), First: true})
		mustArm(t, g, Lease{Group: group, Until: g.clock().Add(400 * time.Millisecond)})
		if err := g.Shut([]string{group}); err != nil {
			t.Fatal(err)
		}
		mustArm(t, g, Lease{Group: group, Until: g.clock().Add(400 * time.Millisecond), First: true})
		time.Sleep(1500 * time.Millisecond) // the kernel collects the expired element
	}
	other := stranger(t, l)
	other.AddTable(&nftables.Table{Name: "other", Family: nftables.TableFamilyINet})
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	noChange(t, changes)
}

func TestOthersCannotTouchAnOwnedGuard(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	if g.flags == 0 {
		t.Skip("this kernel has no owned tables that persist")
	}
	changes := watch(t, g)
	mustArm(t, g, Lease{Group: group, Until: g.clock().Add(time.Minute), First: true})
	p := startProber(t, l)
	from := g.clock()
	other := stranger(t, l)
	other.FlushRuleset()
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	held := &nftables.Set{Table: g.rules.tables[0].table, Name: "held", KeyType: nftables.TypeInteger, HasTimeout: true}
	for what, change := range map[string]func(){
		"delete table":   func() { other.DelTable(g.rules.tables[0].table) },
		"delete element": func() { _ = other.SetDeleteElements(held, []nftables.SetElement{{Key: groupKey(1)}}) },
		"add element":    func() { _ = other.SetAddElements(held, []nftables.SetElement{{Key: groupKey(7)}}) },
		"flush table":    func() { other.FlushTable(g.rules.tables[0].table) },
	} {
		change()
		if err := other.Flush(); !errors.Is(err, os.ErrPermission) {
			t.Errorf("%s: %v", what, err)
		}
	}
	p.observe()
	to := g.clock()
	mustAnswer(t, p.results(), from, to)
	if err := g.Shut([]string{group}); err != nil {
		t.Fatal(err)
	}
	p = startProber(t, l)
	from = g.clock()
	p.observe()
	to = g.clock()
	mustBeSilent(t, p.results(), from, to)
	noChange(t, changes)
}

// On kernels without owned tables others can remove the guard. That is noticed, and repaired without a gap for an
// owner.
func TestForeignChangesAreReportedAndRepaired(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(c *nftables.Conn, g *NFTables)
		what   string
		armErr error // of an extension before the repair
	}{
		{"ruleset flushed", func(c *nftables.Conn, _ *NFTables) { c.FlushRuleset() }, "table deleted", ErrNotInstalled},
		{"table deleted", func(c *nftables.Conn, g *NFTables) { c.DelTable(g.rules.tables[1].table) }, "table deleted",
			ErrNotInstalled},
		{"element deleted", func(c *nftables.Conn, g *NFTables) {
			_ = c.SetDeleteElements(g.rules.tables[0].held, []nftables.SetElement{{Key: groupKey(1)}})
		}, "set element deleted", ErrLapsed},
		{"rule added", func(c *nftables.Conn, g *NFTables) {
			inet := g.rules.tables[0]
			c.InsertRule(&nftables.Rule{Table: inet.table, Chain: inet.groupChain(1), Exprs: []expr.Any{
				&expr.Verdict{Kind: expr.VerdictAccept},
			}})
		}, "rule added", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLAN(t)
			g := openGuard(t, l, nil)
			g.flags = 0
			if err := g.Install(testSpec()); err != nil {
				t.Fatal(err)
			}
			changes := watch(t, g)
			lease := Lease{Group: group, Until: g.clock().Add(time.Minute), First: true}
			mustArm(t, g, lease)
			other := stranger(t, l)
			test.change(other, g)
			before := g.clock()
			if err := other.Flush(); err != nil {
				t.Fatal(err)
			}
			var c seenChange
			select {
			case c = <-changes:
			case <-time.After(time.Second):
				t.Fatal("not noticed")
			}
			t.Logf("%v; noticed %.2f ms after it was sent", c.Change, float64(c.at.Sub(before))/1e6)
			if c.What != test.what || c.PID == 0 || c.Process == "" {
				t.Errorf("got %+v", c.Change)
			}
			lease.First = false
			if err := g.Arm([]Lease{lease})[0]; !errors.Is(err, test.armErr) {
				t.Errorf("extension before the repair: %v, want %v", err, test.armErr)
			}
			errs, err := g.Replace(testSpec(), []Lease{lease})
			if err != nil || errs[0] != nil {
				t.Fatal(err, errs)
			}
			p := startProber(t, l)
			from := g.clock()
			p.observe()
			to := g.clock()
			if err := g.Shut([]string{group}); err != nil {
				t.Fatal(err)
			}
			shut := g.clock()
			p.observe()
			end, results := g.clock(), p.results()
			mustAnswer(t, results, from, to)
			mustBeSilent(t, results, shut, end)
			noChange(t, changes)
		})
	}
}

func TestWatchEndsWithTheGuard(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	ended := make(chan error)
	go func() { ended <- g.Watch(context.Background(), func(Change) {}) }()
	time.Sleep(10 * time.Millisecond)
	if err := g.Close(false); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := g.Close(false); err != nil {
		t.Error(err)
	}
}
