//go:build integ

package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/clock"
)

func openGuard(t testing.TB, l lan, change func(*Options)) *NFTables {
	t.Helper()
	o := Options{Clock: testClock(t), NetNS: int(l.machine)}
	if change != nil {
		change(&o)
	}
	g, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close(true) })
	return g
}

func installed(t testing.TB, l lan, change func(*Options)) *NFTables {
	t.Helper()
	g := openGuard(t, l, change)
	if err := g.Install(testSpec()); err != nil {
		t.Fatal(err)
	}
	return g
}

func mustArm(t testing.TB, g *NFTables, leases ...Lease) {
	t.Helper()
	for _, err := range g.Arm(leases) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// enough questions within a span, even on a busy machine, that it says something.
const enough = 3

// mustBeSilent fails if any question asked within the span was answered, or if too few were asked to tell.
func mustBeSilent(t *testing.T, results [probeKinds][]probe, from, to clock.Time) {
	t.Helper()
	for kind, probes := range results {
		asked, answered := answeredBetween(probes, from, to)
		if answered != 0 || asked < enough {
			t.Errorf("%v: %d of %d questions answered in %v of silence", probeKind(kind), answered, asked, to.Sub(from))
		}
	}
}

// mustAnswer fails if any question asked within the span was not answered.
func mustAnswer(t *testing.T, results [probeKinds][]probe, from, to clock.Time) {
	t.Helper()
	for kind, probes := range results {
		asked, answered := answeredBetween(probes, from, to)
		if answered != asked || asked < enough {
			t.Errorf("%v: %d of %d questions answered in %v of ownership", probeKind(kind), answered, asked, to.Sub(from))
		}
	}
}

// early is how early answers may end: one jiffy, up to 10 ms, and what a slow machine takes to answer.
var early = 12*time.Millisecond + 10*(probeInterval-time.Millisecond)

// ends tells when the answers ended, relative to when they should have, in milliseconds: when the last question was
// asked that was answered, and the first one after it.
func ends(results [probeKinds][]probe, end clock.Time) (last, next []float64) {
	for _, probes := range results {
		v := judge(probes)
		for _, p := range probes {
			if v.last.Before(p.before) {
				next = append(next, float64(p.before.Sub(end))/1e6)
				break
			}
		}
		last = append(last, float64(v.last.Sub(end))/1e6)
	}
	return last, next
}

func spread(values []float64) string {
	slices.Sort(values)
	return fmt.Sprintf("%.2f / %.2f / %.2f", values[0], values[len(values)/2], values[len(values)-1])
}

func TestNothingIsVisibleBeforeTheFirstArming(t *testing.T) {
	l := newLAN(t)
	g := openGuard(t, l, nil)
	p := startProber(t, l)
	bare := g.clock()
	p.observe()
	before := g.clock()
	if err := g.Install(testSpec()); err != nil {
		t.Fatal(err)
	}
	from := g.clock()
	p.observe()
	to := g.clock()
	results := p.results()
	mustAnswer(t, results, bare, before) // the test would notice answers
	mustBeSilent(t, results, from, to)
}

func TestEachConditionShutsAlone(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	const window, far = 200 * time.Millisecond, time.Minute
	for _, test := range []struct {
		name              string
		timeout, deadline time.Duration
		place             place
	}{
		{"timeout", window, far, placeCommon}, {"deadline", far, window, placeCommon}, {"both", window, window, placeCommon},
		{"timeout, own", window, far, placeOwn}, {"deadline, own", far, window, placeOwn},
	} {
		t.Run(test.name, func(t *testing.T) {
			var last, next []float64
			for range 15 {
				p := startProber(t, l)
				p.observe()
				b := newBatch()
				r := g.read()
				g.rules.open(b, []*arming{{group: 1, place: test.place, window: fencing.Window{
					Timeout: test.timeout, Deadline: r.Wall + int64(test.deadline),
				}}}, nil)
				if refused, err := b.send(g.conn); err != nil || len(refused) > 0 {
					t.Fatal(refused, err)
				}
				armed := g.clock()
				end := armed.Add(window)
				if test.deadline == window {
					end = r.After.Add(window)
				}
				time.Sleep(window + early)
				p.observe()
				now, results := g.clock(), p.results()
				mustAnswer(t, results, armed, end.Add(-early))
				mustBeSilent(t, results, end.Add(time.Millisecond), now)
				a, b2 := ends(results, end)
				last, next = append(last, a...), append(next, b2...)
			}
			t.Logf("relative to the end of the window, ms (min / median / max): last answered question %s, first "+
				"unanswered one %s", spread(last), spread(next))
		})
	}
}

// A wall clock that is an hour fast when the guard reads it puts the absolute deadline an hour away: the timeout is
// left.
func TestFastWallClockLeavesTheTimeout(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, func(o *Options) { o.Wall = func() int64 { return kernelWall() + int64(time.Hour) } })
	p := startProber(t, l)
	until := g.clock().Add(400 * time.Millisecond)
	mustArm(t, g, Lease{Group: group, Until: until, First: true})
	armed := g.clock()
	time.Sleep(until.Sub(armed))
	p.observe()
	now, results := g.clock(), p.results()
	mustAnswer(t, results, armed, armed.Add(360*time.Millisecond-early))
	mustBeSilent(t, results, until, now)
}

func TestSlowWallClockShutsAtOnce(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, func(o *Options) { o.Wall = func() int64 { return kernelWall() - int64(time.Hour) } })
	p := startProber(t, l)
	mustArm(t, g, Lease{Group: group, Until: g.clock().Add(time.Second), First: true})
	from := g.clock()
	p.observe()
	to := g.clock()
	mustBeSilent(t, p.results(), from, to)
}

func TestClockStepIsRepairedByArmingAgain(t *testing.T) {
	l := newLAN(t)
	var offset int64
	g := installed(t, l, func(o *Options) { o.Wall = func() int64 { return kernelWall() + offset } })
	p := startProber(t, l)
	until := g.clock().Add(time.Minute)
	offset = -int64(time.Hour) // as if the clock had been set forward since: the deadline is in the past
	mustArm(t, g, Lease{Group: group, Until: until, First: true})
	shut := g.clock()
	p.observe()
	offset = 0
	repaired := g.clock()
	mustArm(t, g, Lease{Group: group, Until: until})
	open := g.clock()
	p.observe()
	to, results := g.clock(), p.results()
	mustBeSilent(t, results, shut, repaired)
	mustAnswer(t, results, open, to)
}

func TestExtensionCostsNoAnswer(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	mustArm(t, g, Lease{Group: group, Until: g.clock().Add(time.Second), First: true})
	p := startProber(t, l)
	from := g.clock()
	for range 100 {
		mustArm(t, g, Lease{Group: group, Until: g.clock().Add(700 * time.Millisecond)})
		time.Sleep(20 * time.Millisecond)
	}
	to := g.clock()
	mustAnswer(t, p.results(), from, to)
}

func TestFirstArmingOfAnOpenGroupCostsNoAnswer(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	mustArm(t, g, Lease{Group: group, Until: g.clock().Add(time.Second), First: true})
	p := startProber(t, l)
	from := g.clock()
	for range 50 {
		mustArm(t, g, Lease{Group: group, Until: g.clock().Add(time.Second), First: true})
		time.Sleep(5 * time.Millisecond)
	}
	to := g.clock()
	mustAnswer(t, p.results(), from, to)
}

func TestLateExtensionIsRefused(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	until := g.clock().Add(time.Second)
	mustArm(t, g, Lease{Group: group, Until: until, First: true})
	time.Sleep(920 * time.Millisecond) // the window has ended, the lease not yet
	p := startProber(t, l)
	from := g.clock()
	if errs := g.Arm([]Lease{{Group: group, Until: from.Add(time.Second)}}); !errors.Is(errs[0], ErrLapsed) {
		t.Fatalf("late extension: %v", errs[0])
	}
	p.observe()
	to := g.clock()
	mustBeSilent(t, p.results(), from, to)
	mustArm(t, g, Lease{Group: group, Until: g.clock().Add(time.Second), First: true})
}

func TestLeaseThatIsOverOpensNothing(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	mustArm(t, g, Lease{Group: group, Until: g.clock().Add(time.Minute), First: true})
	for _, left := range []time.Duration{-time.Second, 0, fencing.MinTimeout} {
		errs := g.Arm([]Lease{{Group: group, Until: g.clock().Add(left), First: true}})
		if !errors.Is(errs[0], ErrLapsed) {
			t.Errorf("%v left: %v", left, errs[0])
		}
	}
	p := startProber(t, l)
	from := g.clock()
	p.observe()
	to := g.clock()
	mustBeSilent(t, p.results(), from, to) // the last refusal shut what was open
}

func TestShut(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	mustArm(t, g, Lease{Group: group, Until: g.clock().Add(time.Minute), First: true})
	p := startProber(t, l)
	from := g.clock()
	p.observe()
	before := g.clock()
	if err := g.Shut([]string{group, group}); err != nil {
		t.Fatal(err)
	}
	after := g.clock()
	p.observe()
	to, results := g.clock(), p.results()
	mustAnswer(t, results, from, before)
	mustBeSilent(t, results, after, to)
	if err := g.Shut([]string{group}); err != nil {
		t.Errorf("shut again: %v", err)
	}
	if err := g.Shut([]string{"other"}); !errors.Is(err, ErrUnknownGroup) {
		t.Errorf("shut an unknown group: %v", err)
	}
	if errs := g.Arm([]Lease{{Group: group, Until: g.clock().Add(time.Second)}}); !errors.Is(errs[0], ErrLapsed) {
		t.Errorf("extension of a group that was shut: %v", errs[0])
	}
}

func TestReplaceKeepsOwnersOpen(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	mustArm(t, g, Lease{Group: group, Until: g.clock().Add(time.Second), First: true})
	p := startProber(t, l)
	from := g.clock()
	spec := testSpec()
	for i := range 20 {
		spec.Groups = append(spec.Groups, fencing.GuardedGroup{
			Name: fmt.Sprintf("A%d", i), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 1, byte(i)})},
		})
		errs, err := g.Replace(spec, []Lease{
			{Group: group, Until: g.clock().Add(time.Minute)}, {Group: "none", Until: g.clock().Add(time.Minute)},
		})
		if err != nil || errs[0] != nil || !errors.Is(errs[1], ErrUnknownGroup) {
			t.Fatal(err, errs)
		}
		p.observe()
	}
	to := g.clock()
	mustAnswer(t, p.results(), from, to)
}

func TestArmReportsEachLease(t *testing.T) {
	l := newLAN(t)
	g := openGuard(t, l, nil)
	errs := g.Arm([]Lease{{Group: group, Until: g.clock().Add(time.Second), First: true}})
	if !errors.Is(errs[0], ErrNotInstalled) {
		t.Errorf("before Install: %v", errs[0])
	}
	spec := testSpec()
	var leases []Lease
	for i := range 40 {
		name := fmt.Sprintf("G%02d", i)
		spec.Groups = append(spec.Groups, fencing.GuardedGroup{
			Name: name, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 1, byte(i)})},
		})
		leases = append(leases, Lease{Group: name, Until: g.clock().Add(5 * time.Second), First: true})
	}
	leases = append(leases, Lease{Group: group, Until: g.clock().Add(5 * time.Second), First: true})
	if err := g.Install(spec); err != nil {
		t.Fatal(err)
	}
	mustArm(t, g, leases...)
	if err := g.Shut([]string{"G03", "G17"}); err != nil {
		t.Fatal(err)
	}
	for i := range leases {
		leases[i].First = false
		leases[i].Until = g.clock().Add(10 * time.Second)
	}
	leases[20].Until = g.clock().Add(-time.Second)
	leases = append(leases, Lease{Group: "other", Until: g.clock().Add(time.Second)})
	p := startProber(t, l)
	from := g.clock()
	p.observe()
	errs = g.Arm(leases)
	for i, err := range errs {
		want := error(nil)
		switch i {
		case 3, 17, 20:
			want = ErrLapsed
		case 41:
			want = ErrUnknownGroup
		}
		if want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", leases[i].Group, err, want)
		}
	}
	p.observe()
	to := g.clock()
	if arp, inet := heldGroups(t, l); arp != 38 || inet != 38 {
		t.Errorf("%d and %d groups are held, want 38", arp, inet)
	}
	mustAnswer(t, p.results(), from, to)
}

// heldGroups counts the elements of "held" and "held_own" in both tables.
func heldGroups(t *testing.T, l lan) (arp, inet int) {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(l.machine)))
	if err != nil {
		t.Fatal(err)
	}
	for family, count := range map[nftables.TableFamily]*int{nftables.TableFamilyARP: &arp, nftables.TableFamilyINet: &inet} {
		for _, name := range []string{"held", "held_own"} {
			elements, err := c.GetSetElements(&nftables.Set{
				Table: &nftables.Table{Name: tableName, Family: family}, Name: name, KeyType: nftables.TypeInteger,
			})
			if err != nil {
				t.Fatal(err)
			}
			*count += len(elements)
		}
	}
	return arp, inet
}
