//go:build interop

package interop_test

import (
	"fmt"
	"os"
	"testing"
	"time"
)

const (
	highPriority = 200
	lowPriority  = 100

	// tolerance is what a busy machine may add to a time that VRRP prescribes, and early what it may take away: the
	// sender's time is taken later than its decision.
	tolerance = 700 * time.Millisecond
	early     = 60 * time.Millisecond
	// startTime is what a daemon may need from its start to its first timer.
	startTime = 2 * time.Second
)

// pairing is two products, the first of which has the higher priority.
type pairing struct{ high, low product }

func (p pairing) String() string {
	return fmt.Sprintf("%s with the higher priority and %s", p.high, p.low)
}

// yardstick is the pairing that every scenario must pass, or else the scenario is wrong.
var yardstick = pairing{keepalived, keepalived}

var pairings = []pairing{yardstick, {had, keepalived}, {keepalived, had}}

// everything says that two stock daemons play every combination: a proof of the tests, not of had. Without it they play some.
var everything = os.Getenv("INTEROP_FULL") != ""

func TestElection(t *testing.T) {
	t.Parallel()
	for _, p := range pairings {
		for _, c := range combinations() {
			if p == yardstick && !everything && (c.unicast || c.password != "") {
				continue
			}
			t.Run(fmt.Sprintf("%s elect each other in %s", p, c), func(t *testing.T) {
				t.Parallel()
				election(t, p, c)
			})
		}
	}
}

// election plays the life of a virtual router.
func election(t *testing.T, p pairing, c combination) {
	l := newLAN(t, c.vips()...)
	high, low := l.addRouter(p.high, c.advertInterval()), l.addRouter(p.low, c.advertInterval())
	high.configure(c, low, highPriority)
	low.configure(c, high, lowPriority)

	high.boot()
	low.boot()
	l.awaitMaster(high, startTime+c.down(lowPriority)+high.settle()+tolerance)
	t.Logf("%s was elected", high.name)

	high.die()
	silence := l.lastAdvert(high)
	l.within(low, "takeover from the dead router", l.firstAdvert(low, silence, c.down(lowPriority)+low.tolerance()).Sub(silence),
		c.down(lowPriority))
	l.awaitMaster(low, low.settle()+tolerance)

	high.revive()
	back := time.Now()
	l.awaitMaster(high, startTime+c.down(highPriority)+high.settle()+tolerance)
	t.Logf("preemption %.2f s after the return", l.firstAdvert(high, back, 0).Sub(back).Seconds())
	l.yielded(low, l.firstAdvert(high, back, 0))

	goodbye := time.Now()
	high.shutdown()
	resigned := l.resignation(high, goodbye)
	l.within(low, "handover by priority 0", l.firstAdvert(low, resigned, c.skew(lowPriority)+low.tolerance()).Sub(resigned),
		c.skew(lowPriority))
	l.awaitMaster(low, low.settle()+tolerance)

	low.shutdown()
	l.resignation(low, goodbye)
	dissect(t, l.record.wire())
}

// within fails the test unless the time that r took is what VRRP prescribes.
func (l *lan) within(r *router, what string, measured, prescribed time.Duration) {
	l.t.Helper()
	text := fmt.Sprintf("%s by %s after %.3f s, prescribed are %.3f s", what, r.name, measured.Seconds(), prescribed.Seconds())
	if measured < prescribed-early || measured > prescribed+r.tolerance() {
		l.t.Error(text)
	} else {
		l.t.Log(text)
	}
}

// tolerance is how much later than prescribed the router may be heard. FRR loses its first advertisement over IPv6, because
// the device that it sends from has just come up.
func (r *router) tolerance() time.Duration {
	if r.product == vrrpd {
		return tolerance + r.advert
	}
	return tolerance
}

// yielded fails the test if a router went on advertising, resigned, or answered, after another one with a higher priority had
// spoken.
func (l *lan) yielded(r *router, since time.Time) {
	l.t.Helper()
	for _, e := range l.record.adverts(r.name, since.Add(50*time.Millisecond)) {
		l.t.Errorf("%s still advertised priority %d %.3f s after a router of higher priority had", r.name, e.priority,
			e.at.Sub(since).Seconds())
	}
	var overlap time.Duration
	for _, e := range l.record.find(since, func(e *event) bool { return e.kind == answer && e.router == r.name }) {
		overlap = e.at.Sub(since)
	}
	l.t.Logf("%s answered for %.3f s more", r.name, overlap.Seconds())
	if overlap > 300*time.Millisecond {
		l.t.Errorf("%s still answered %.3f s after a router of higher priority had spoken", r.name, overlap.Seconds())
	}
}

// resignation returns when a router advertised priority 0; it must have been its last word.
func (l *lan) resignation(r *router, since time.Time) time.Time {
	l.t.Helper()
	time.Sleep(readTime)
	list := l.record.adverts(r.name, since)
	if len(list) == 0 || list[len(list)-1].priority != 0 {
		l.t.Fatalf("%s ended without an advertisement of priority 0", r.name)
	}
	return list[len(list)-1].at
}
