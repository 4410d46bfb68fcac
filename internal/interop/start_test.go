//go:build interop

package interop_test

import (
	"fmt"
	"testing"
	"time"
)

// TestFirstAdvertisement compares how long had waits after its start with how long keepalived does.
func TestFirstAdvertisement(t *testing.T) {
	t.Parallel()
	master := func(i *instance) { i.state = "MASTER" }
	for _, test := range []struct {
		name   string
		c      combination
		change func(*instance)
		// later is what keepalived waits since release 2.3, where the release that we test with does otherwise.
		later time.Duration
	}{
		{name: "as a backup", c: quick},
		{name: "as an initial master", c: quick, change: master, later: quick.advertInterval() * 257 / 256},
		{name: "as an initial master of version 2", c: combination{version: 2}, change: master, later: time.Second * 257 / 256},
		{name: "as the owner", c: quick, change: func(i *instance) { i.state, i.priority = "MASTER", 255 }},
		{name: "as an owner that is told to be a backup", c: quick, change: func(i *instance) { i.priority = 255 }},
		{name: "with priority 1", c: quick, change: func(i *instance) { i.priority = 1 }},
		{name: "after a delay for all", c: quick, change: func(i *instance) { i.global = "vrrp_startup_delay 1.5" }},
		{name: "after more than three advertisements", c: quick,
			change: func(i *instance) { i.lines = append(i.lines, "down_timer_adverts 5") }},
	} {
		t.Run(fmt.Sprintf("had waits as long as keepalived before it speaks %s", test.name), func(t *testing.T) {
			t.Parallel()
			wait := func(p product) time.Duration {
				l := newLAN(t, test.c.vips()...)
				r := l.addRouter(p, test.c.advertInterval())
				i := test.c.instance(r, r, lowPriority)
				if test.change != nil {
					test.change(&i)
				}
				r.write("keepalived.conf", configuration(i))
				start := time.Now()
				r.boot()
				return l.firstAdvert(r, start, 10*time.Second).Sub(start)
			}
			theirs, ours := wait(keepalived), wait(had)
			t.Logf("keepalived %.3f s, had %.3f s", theirs.Seconds(), ours.Seconds())
			if test.later != 0 {
				theirs = test.later
			}
			if (ours - theirs).Abs() > tolerance {
				t.Errorf("keepalived waits %.3f s, had %.3f s", theirs.Seconds(), ours.Seconds())
			}
		})
	}
}
