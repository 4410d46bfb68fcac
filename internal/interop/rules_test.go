//go:build interop

package interop_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab"
)

// quick is the combination in which rules are tested that do not depend on it.
var quick = combination{version: 3}

// mixed runs a scenario for two stock daemons and for had in either role.
func mixed(t *testing.T, name string, scenario func(t *testing.T, p pairing)) {
	for _, p := range pairings {
		t.Run(fmt.Sprintf("%s: %s", name, p), func(t *testing.T) {
			t.Parallel()
			scenario(t, p)
		})
	}
}

// duel builds a LAN with a pairing; lines are further ones for the router of higher priority.
func duel(t *testing.T, p pairing, c combination, lines ...string) (l *lan, high, low *router) {
	t.Helper()
	l = newLAN(t, c.vips()...)
	high, low = l.addRouter(p.high, c.advertInterval()), l.addRouter(p.low, c.advertInterval())
	high.configure(c, low, highPriority, lines...)
	low.configure(c, high, lowPriority)
	return l, high, low
}

// electionLimit is long enough for an election on a LAN where nothing is wrong.
func (c combination) electionLimit() time.Duration {
	return startTime + c.down(lowPriority) + c.advertInterval()*5/4 + tolerance
}

func TestRules(t *testing.T) {
	t.Parallel()
	mixed(t, "nopreempt leaves a router of lower priority in peace", func(t *testing.T, p pairing) {
		l, high, low := duel(t, p, quick, "nopreempt")
		low.boot()
		l.awaitMaster(low, quick.electionLimit())
		high.boot()
		l.staysMaster(low, startTime+quick.down(highPriority)+tolerance)
		low.die()
		silence := l.lastAdvert(low)
		l.within(high, "takeover from the dead router",
			l.firstAdvert(high, silence, quick.down(highPriority)+tolerance).Sub(silence), quick.down(highPriority))
		low.revive()
		l.staysMaster(high, startTime+quick.down(lowPriority)+tolerance)
	})

	mixed(t, "preempt_delay puts preemption off, and not a takeover", func(t *testing.T, p pairing) {
		const delay = 2 * time.Second
		l, high, low := duel(t, p, quick, fmt.Sprintf("preempt_delay %d", int(delay/time.Second)))
		low.boot()
		l.awaitMaster(low, quick.electionLimit())
		high.boot()
		boot := time.Now()
		// It counts from the first advertisement of lower priority, and what is left of the down timer comes on top.
		took := l.firstAdvert(high, boot, startTime+delay+quick.down(highPriority)+tolerance).Sub(boot)
		t.Logf("preemption by %s %.3f s after its start", high.name, took.Seconds())
		if took < delay+quick.down(highPriority)-quick.advertInterval()-early {
			t.Errorf("%s has preempted after %.3f s", high.name, took.Seconds())
		}
		l.awaitMaster(high, high.settle()+tolerance)

		high.shutdown()
		l.awaitMaster(low, quick.electionLimit())
		high.boot()
		l.await(startTime, high.name+" runs", func() string {
			if !high.logged("BACKUP") {
				return "it has not reached BACKUP"
			}
			return ""
		})
		time.Sleep(quick.advertInterval() + early)
		low.die()
		silence := l.lastAdvert(low)
		l.within(high, "takeover from the dead router",
			l.firstAdvert(high, silence, quick.down(highPriority)+tolerance).Sub(silence), quick.down(highPriority))
	})

	for _, c := range []combination{{version: 3}, {version: 3, ipv6: true}} {
		mixed(t, fmt.Sprintf("of two masters of equal priority the one with the higher address remains, in %s", c),
			func(t *testing.T, p pairing) { equals(t, p, c) })
	}

	for _, script := range []struct {
		name    string
		options string
		failed  int // the priority of the router whose script fails; 0: it resigns
	}{
		{"a script with a negative weight that fails lowers the priority", "weight -150", highPriority - 150},
		{"a script without a weight that fails makes the router give up", "weight 0", 0},
	} {
		mixed(t, script.name, func(t *testing.T, p pairing) { scripted(t, p, script.options, script.failed) })
	}

	mixed(t, "the owner of the address takes over at once and gives back when it leaves", func(t *testing.T, p pairing) {
		l := newLAN(t, quick.vips()...)
		high, low := l.addRouter(p.high, quick.advertInterval()), l.addRouter(p.low, quick.advertInterval())
		owner := quick.instance(high, low, 255)
		owner.state = "MASTER"
		high.write("keepalived.conf", configuration(owner))
		low.configure(quick, high, lowPriority)
		low.boot()
		l.awaitMaster(low, quick.electionLimit())
		high.boot()
		boot := time.Now()
		l.within(high, "takeover by the owner", l.firstAdvert(high, boot, startTime).Sub(boot), 0)
		l.awaitMaster(high, high.settle()+tolerance)
		l.yielded(low, l.firstAdvert(high, boot, 0))
		goodbye := time.Now()
		high.shutdown()
		resigned := l.resignation(high, goodbye)
		l.within(low, "handover by priority 0",
			l.firstAdvert(low, resigned, quick.skew(lowPriority)+tolerance).Sub(resigned), quick.skew(lowPriority))
	})

	mixed(t, "a sync group moves as one when one of its interfaces fails", syncGroup)

	mixed(t, "a master whose link fails is replaced, and comes back with its link", func(t *testing.T, p pairing) {
		l, high, low := duel(t, p, quick)
		high.boot()
		low.boot()
		l.awaitMaster(high, quick.electionLimit())
		since := time.Now()
		unplugged, err := l.lab.LinkDown(high.host)
		if err != nil {
			t.Fatal(err)
		}
		silence := l.lastAdvert(high)
		l.within(low, "takeover", l.firstAdvert(low, silence, quick.down(lowPriority)+tolerance).Sub(silence), quick.down(lowPriority))
		l.awaitMaster(low, low.settle()+tolerance)
		if list := l.record.adverts(high.name, since.Add(tolerance)); len(list) > 0 {
			t.Errorf("%s still advertised %.3f s after its link had failed", high.name, list[0].at.Sub(since).Seconds())
		}
		if err := unplugged.Heal(); err != nil {
			t.Fatal(err)
		}
		l.awaitMaster(high, linkLimit+quick.electionLimit())
	})

	mixed(t, "an address that somebody removes is back before anybody else takes over", func(t *testing.T, p pairing) {
		l, high, low := duel(t, p, quick)
		high.boot()
		low.boot()
		l.awaitMaster(high, quick.electionLimit())
		since := time.Now()
		vip := l.virtuals[0].vips[0]
		if err := high.host.RemoveAddr(netip.PrefixFrom(vip, 24)); err != nil {
			t.Fatal(err)
		}
		l.await(quick.skew(highPriority)+tolerance, fmt.Sprintf("%s has %s again", high.name, vip), func() string {
			if has, err := high.has(lab.Interface, vip); err != nil || !has {
				return fmt.Sprintf("%t, %v", has, err)
			}
			return ""
		})
		t.Logf("back after %.3f s", time.Since(since).Seconds())
		l.awaitMaster(high, high.settle()+tolerance)
		if list := l.record.adverts(low.name, since); len(list) > 0 {
			t.Errorf("%s has advertised priority %d", low.name, list[0].priority)
		}
	})
}

// equals lets two routers of equal priority become master where they cannot hear each other.
func equals(t *testing.T, p pairing, c combination) {
	l, first, second := duel(t, p, c)
	first.configure(c, second, lowPriority)
	first.boot()
	l.awaitMaster(first, c.electionLimit())
	second.boot()
	l.staysMaster(first, startTime+c.down(lowPriority)+tolerance)

	deaf, err := l.lab.DropProtocol(protocolVRRP, first.host, second.host)
	if err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	l.firstAdvert(second, since, c.down(lowPriority)+c.advertInterval()+tolerance)
	if err := deaf.Heal(); err != nil {
		t.Fatal(err)
	}
	l.awaitMaster(second, c.advertInterval()+second.settle()+tolerance)
	l.staysMaster(second, c.down(lowPriority)+tolerance)
}

// scripted lets the script that the router of higher priority tracks fail and succeed again.
func scripted(t *testing.T, p pairing, options string, failed int) {
	l, high, low := duel(t, p, quick)
	file := filepath.Join(high.dir, "well")
	script := block(fmt.Sprintf("vrrp_script well {\n    script \"/usr/bin/test -e %s\"\n    interval 1\n    %s\n    fall 1\n    rise 1\n}\n",
		file, options))
	high.write("keepalived.conf", configuration(script,
		quick.instance(high, low, highPriority, "track_script {\n        well\n    }")))
	high.write("well", "")
	const scriptTime = 2 * time.Second // until a script has run again

	high.boot()
	low.boot()
	l.awaitMaster(high, scriptTime+quick.electionLimit())

	since := time.Now()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	l.await(scriptTime+tolerance, fmt.Sprintf("%s advertises priority %d", high.name, failed), func() string {
		for _, e := range l.record.adverts(high.name, since) {
			if int(e.priority) == failed {
				return ""
			}
		}
		return "it does not"
	})
	l.awaitMaster(low, quick.electionLimit())

	high.write("well", "")
	l.awaitMaster(high, scriptTime+quick.electionLimit())
	if list := l.record.adverts(high.name, time.Now().Add(-high.settle())); int(list[0].priority) != highPriority {
		t.Errorf("%s advertises priority %d", high.name, list[0].priority)
	}
}

// block is a block of a configuration.
type block string

func (b block) String() string { return string(b) }

// syncGroup takes a cable from a router with two interfaces whose virtual routers are in one sync group.
func syncGroup(t *testing.T, p pairing) {
	l, high, low := duel(t, p, quick)
	inside := []string{"10.78.0.100/24"}
	l.addSegment(vrid+1, inside...)
	group := block("vrrp_sync_group G {\n    group {\n        OUTSIDE\n        INSIDE\n    }\n}\n")
	for r, priority := range map[*router]int{high: highPriority, low: lowPriority} {
		outer := quick.instance(r, r, priority)
		inner := outer
		outer.name = "OUTSIDE"
		inner.name, inner.iface, inner.vrid, inner.vips = "INSIDE", second, vrid+1, inside
		r.write("keepalived.conf", configuration(group, outer, inner))
	}
	high.boot()
	low.boot()
	// A member that is ready before the other waits a second time.
	limit := quick.electionLimit() + quick.down(lowPriority)
	l.awaitMaster(high, limit)

	since := time.Now()
	if err := l.carrier(high, false); err != nil {
		t.Fatal(err)
	}
	l.await(startTime, high.name+" resigns on the interface that works", func() string {
		for _, e := range l.record.adverts(high.name, since) {
			if e.wire == 0 && e.priority == 0 {
				return ""
			}
		}
		return "it does not"
	})
	l.awaitMaster(low, limit)
	if err := l.carrier(high, true); err != nil {
		t.Fatal(err)
	}
	l.awaitMaster(high, limit+linkLimit)
}

// carrier plugs a router's cable to the second segment in or out.
func (l *lan) carrier(r *router, on bool) error {
	nl := l.asker.Netlink()
	port, err := nl.LinkByName(fmt.Sprintf("port%d", r.number))
	if err != nil {
		return err
	}
	if !on {
		return nl.LinkSetDown(port)
	}
	return errors.Join(nl.LinkSetUp(port), awaitUp(nl, port.Attrs().Name))
}
