package lease

import (
	"testing"
	"time"

	"github.com/hactl/had/internal/clock"
)

// While nothing happens a voter is pinged if it says nothing by itself, or if its clock is to be read; and along with a renewal, so
// that nobody wakes for it.
func TestPingsAtRest(t *testing.T) {
	w := newWorld(t)
	w.claim("a/1", MasterDown)
	w.pass(2 * sampleEvery)
	w.mustHold("a/1", true)

	const span = 4 * sampleEvery
	pings := map[[2]Member]int{}
	renewals, asked := map[clock.Time]bool{}, map[clock.Time]bool{}
	w.lost = func(from, to Member, m Message) bool {
		switch {
		case m.Renew != nil:
			renewals[w.now] = true
		case m.Ping != nil:
			pings[[2]Member{from, to}]++
			asked[w.now] = true
		}
		return false
	}
	var silent time.Duration
	for range span / (D / 4) {
		w.pass(D / 4)
		for _, n := range w.nodes {
			for _, p := range n.Peers() {
				silent = max(silent, w.now.Sub(p.Heard))
			}
		}
	}
	every := w.nodes["a/1"].PingEvery()
	if silent > every {
		t.Errorf("nothing was heard of a voter for %s", silent)
	}
	for at := range asked {
		if !renewals[at] {
			t.Errorf("a ping %s after the start did not go along with a renewal", at.Sub(start))
		}
	}
	if n := pings[[2]Member{"b/1", "w/1"}] + pings[[2]Member{"w/1", "b/1"}]; n > int(2*span/(every-D/4)) {
		t.Errorf("those that have nothing to say to each other pinged %d times", n)
	}
	for _, to := range []Member{"b/1", "w/1"} {
		there, back := pings[[2]Member{"a/1", to}], pings[[2]Member{to, "a/1"}]
		if want := int(span / sampleEvery); there < want || there > want+1 || back < want || back > want+1 {
			t.Errorf("a clock that is to be read %d times: a/1 pinged %s %d times, and was pinged %d times", want, to, there, back)
		}
	}
}

// Of two voters each has to know that the other one's life has not ended, and only an answer tells.
func TestTwoVotersPingEachOther(t *testing.T) {
	w := newWorld(t)
	two := Configuration{Index: 2, Voters: []Member{"a/1", "b/1"}}
	for _, m := range two.Voters {
		w.run(m, w.nodes[m].Step(w.now, Configured{Committed: two, Latest: two}))
	}
	w.claim("a/1", MasterDown)
	w.pass(4 * D)
	for range 40 {
		w.pass(D / 4)
		for _, m := range two.Voters {
			n := w.nodes[m]
			other, ok := n.Other()
			if age := w.now.Sub(other.Answered); !ok || other.Answerer == 0 || age > n.PingEvery() {
				t.Fatalf("%s: life %d has answered what was sent %s ago", m, other.Answerer, age)
			}
		}
	}
}
