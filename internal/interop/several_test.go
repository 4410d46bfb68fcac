//go:build interop

package interop_test

import (
	"fmt"
	"testing"
	"time"
)

// TestSeveral lets two routers share several virtual routers on one interface: of two versions, of two families, and one of
// them by unicast. Each is the better one for some.
func TestSeveral(t *testing.T) {
	t.Parallel()
	mixed(t, "several virtual routers on one interface have their masters independently", func(t *testing.T, p pairing) {
		combinations := []combination{{version: 3}, {version: 2}, {version: 3, ipv6: true}, {version: 3, unicast: true}}
		vips := [][]string{combinations[0].vips(), {"10.77.0.102/24"}, combinations[2].vips(), {"10.77.0.103"}}
		vrids := []uint8{vrid, vrid + 1, vrid, vrid + 2} // two families may share a number
		l := newLAN(t, vips[0]...)
		for i := range vips[1:] {
			l.share(0, vrids[i+1], vips[i+1]...)
		}
		one, two := l.addRouter(p.high, time.Second), l.addRouter(p.low, time.Second)
		masters := []*router{one, two, two, one}
		for _, r := range l.routers {
			var blocks []fmt.Stringer
			for i, c := range combinations {
				priority, peer := lowPriority, one
				if masters[i] == r {
					priority = highPriority
				}
				if r == one {
					peer = two
				}
				in := c.instance(r, peer, priority)
				in.name, in.vrid, in.vips, in.interval = fmt.Sprintf("VI%d", i), int(vrids[i]), vips[i], time.Second
				blocks = append(blocks, in)
			}
			r.write("keepalived.conf", configuration(blocks...))
			r.boot()
		}
		limit := startTime + 5*time.Second + tolerance
		l.awaitMasters(limit, masters...)
		one.die()
		l.awaitMaster(two, limit)
		one.revive()
		l.awaitMasters(limit, masters...)
		two.shutdown()
		l.awaitMaster(one, limit)
	})
}

// TestThree lets routers of both kinds follow one another by priority.
func TestThree(t *testing.T) {
	t.Parallel()
	for _, products := range [][3]product{{keepalived, had, keepalived}, {had, keepalived, had}} {
		t.Run(fmt.Sprintf("%s, %s and %s take over in the order of their priorities, and back", products[0], products[1], products[2]),
			func(t *testing.T) {
				t.Parallel()
				l := newLAN(t, quick.vips()...)
				priorities := [3]int{highPriority, (highPriority + lowPriority) / 2, lowPriority}
				var routers [3]*router
				for i, p := range products {
					routers[i] = l.addRouter(p, quick.advertInterval())
					routers[i].configure(quick, routers[i], priorities[i])
					routers[i].boot()
				}
				l.awaitMaster(routers[0], quick.electionLimit())
				for i := range 2 {
					routers[i].die()
					silence, next := l.lastAdvert(routers[i]), routers[i+1]
					prescribed := quick.down(priorities[i+1])
					l.within(next, "takeover", l.firstAdvert(next, silence, prescribed+tolerance).Sub(silence), prescribed)
					l.awaitMaster(next, next.settle()+tolerance)
				}
				for i := 1; i >= 0; i-- {
					routers[i].revive()
					l.awaitMaster(routers[i], quick.electionLimit())
				}
			})
	}
}
