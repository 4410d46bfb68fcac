//go:build interop

package interop_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"
	"time"
)

// TestFrames compares what had sends in the life of a master with what keepalived sends, with the same file at the same
// place: the same frames, byte for byte.
func TestFrames(t *testing.T) {
	t.Parallel()
	compare := func(name string, c combination, change func(*instance)) {
		t.Run("had sends the very frames that keepalived sends in "+name, func(t *testing.T) {
			t.Parallel()
			compareFrames(t, c, change)
		})
	}
	for _, c := range append(combinations(), combination{version: 2, ipv6: true, password: "let-me-in"}) {
		compare(c.String(), c, func(*instance) {})
	}
	compare("unicast to two peers with a TTL", combination{version: 3, unicast: true}, func(i *instance) {
		i.peer += "\n        " + asker4.String()
		i.lines = append(i.lines, "unicast_ttl 64")
	})
	compare("unicast over IPv6 with a hop limit", combination{version: 3, ipv6: true, unicast: true}, func(i *instance) {
		i.lines = append(i.lines, "unicast_ttl 64")
	})
	compare("multicast from another source address", combination{version: 3}, func(i *instance) {
		i.lines = append(i.lines, "mcast_src_ip 10.77.0.66")
	})
	compare("multicast to other groups", combination{version: 3}, func(i *instance) {
		i.global = "vrrp_mcast_group4 239.255.0.18"
	})
	compare("multicast over IPv6 to other groups", combination{version: 3, ipv6: true}, func(i *instance) {
		i.global = "vrrp_mcast_group6 ff02::99"
	})
	compare("strict mode", combination{version: 3}, func(i *instance) {
		i.lines = append(i.lines, "strict_mode on")
	})
	compare("the life of an owner of twenty addresses, and of two that it does not advertise", combination{version: 3},
		func(i *instance) {
			i.state, i.priority = "MASTER", 255
			for n := range 18 {
				i.vips = append(i.vips, fmt.Sprintf("10.77.0.%d/24", 110+n))
			}
			i.lines = append(i.lines, "virtual_ipaddress_excluded {\n        10.77.0.150/24\n        fd77::150/64\n    }")
		})
}

func compareFrames(t *testing.T, c combination, change func(*instance)) {
	theirs, ours := masterLife(t, keepalived, c, change), masterLife(t, had, c, change)
	dissect(t, append(theirs.wire, ours.wire...))
	for _, part := range []struct {
		name         string
		theirs, ours [][]byte
	}{
		{"advertisements of a master", theirs.adverts, ours.adverts},
		{"first words of a master", theirs.first, ours.first},
		{"announcements of a master", theirs.claims, ours.claims},
		{"last words of a master", theirs.last, ours.last},
	} {
		if len(part.theirs) == 0 {
			t.Errorf("%s: keepalived sent nothing", part.name)
		}
		if diff := difference(part.theirs, part.ours); diff != "" {
			t.Errorf("%s:\n%s", part.name, diff)
		} else {
			t.Logf("%s: %d frames are equal", part.name, len(part.ours))
		}
	}
}

// words are the frames of a master's life, normalised, as they leave its host, and as they arrive at another.
type words struct {
	first   [][]byte // advertisements before the first announcement
	claims  [][]byte // announcements: a burst on becoming master, and one after garp_master_delay
	adverts [][]byte // distinct advertisements after the first announcement
	last    [][]byte // advertisements after SIGTERM
	wire    []heardFrame
}

// masterLife runs a lonely master and returns what it said.
func masterLife(t *testing.T, p product, c combination, change func(*instance)) words {
	const garpDelay = time.Second
	l := newLAN(t, c.vips()...)
	r, silent := l.addRouter(p, c.advertInterval()), l.addRouter(keepalived, c.advertInterval())
	i := c.instance(r, silent, highPriority, "garp_master_delay 1", "garp_master_repeat 3")
	change(&i)
	r.write("keepalived.conf", configuration(i))
	r.boot()
	l.awaitMaster(r, startTime+c.down(highPriority)+r.settle()+tolerance)
	began := l.firstAdvert(r, l.start, 0)
	l.await(startTime, r.name+" has made all its announcements", func() string {
		again := l.record.find(began.Add(garpDelay-early), func(e *event) bool { return e.kind == claim })
		switch {
		case len(again) == 0:
			return "there is no second burst"
		case time.Since(again[len(again)-1].at) < c.advertInterval()/2:
			return "it still makes some"
		}
		return ""
	})
	asked := time.Now()
	r.shutdown()
	l.resignation(r, asked)

	w := words{wire: l.record.wire()}
	seen := map[string]bool{}
	var burst time.Time // the beginning of the second one
	for _, e := range l.record.find(l.start, func(e *event) bool { return e.router == r.name && e.kind != answer }) {
		b := normalised(e.raw)
		switch {
		case !e.at.Before(asked):
			if e.kind == advert {
				w.last = append(w.last, b)
			}
		case e.kind == claim:
			w.claims = append(w.claims, b)
			if burst.IsZero() && !e.at.Before(began.Add(garpDelay-early)) {
				burst = e.at
			}
		case len(w.claims) == 0:
			w.first = append(w.first, b)
		case !seen[string(b)]:
			seen[string(b)] = true
			w.adverts = append(w.adverts, b)
		}
	}
	l.within(r, "second burst of announcements", burst.Sub(began), garpDelay)
	return w
}

// difference shows two lists of frames side by side where they differ.
func difference(theirs, ours [][]byte) string {
	var b bytes.Buffer
	for i := range max(len(theirs), len(ours)) {
		var x, y []byte
		if i < len(theirs) {
			x = theirs[i]
		}
		if i < len(ours) {
			y = ours[i]
		}
		if !bytes.Equal(x, y) {
			fmt.Fprintf(&b, "frame %d: keepalived %s\n%s        had %s\n", i, hex.EncodeToString(x), "   ", hex.EncodeToString(y))
		}
	}
	return b.String()
}
