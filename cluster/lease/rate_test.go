package lease

import (
	"testing"
	"time"
)

func TestAMemberWhoseClockRunsAtAnotherRateThanMostIsTheOddOneOut(t *testing.T) {
	perMinute := func(drift float64) time.Duration { return time.Minute + time.Duration(drift*float64(time.Minute)) }
	for _, c := range []struct {
		name      string
		drifts    map[Member]float64 // of the others' clocks beside ours
		roundTrip time.Duration
		off       bool
	}{
		{name: "equal rates", drifts: map[Member]float64{"b/1": 0, "w/1": 0}},
		{name: "both others are faster than half of the bound allows", drifts: map[Member]float64{"b/1": 0.006, "w/1": 0.006}, off: true},
		{name: "both others are slower", drifts: map[Member]float64{"b/1": -0.006, "w/1": -0.006}, off: true},
		{name: "one other is off: it is the odd one", drifts: map[Member]float64{"b/1": 0.02, "w/1": 0}},
		{name: "below half of the bound", drifts: map[Member]float64{"b/1": 0.004, "w/1": 0.004}},
		{name: "the network may have caused it", drifts: map[Member]float64{"b/1": 0.006, "w/1": 0.006}, roundTrip: 100 * time.Millisecond},
		{name: "nobody else is known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := NewNode(start, Config{Self: "a/1", Life: 1, Duration: D}, nil)
			for m, drift := range c.drifts {
				p := n.peer(m)
				p.life = 9
				p.clock.sample(start, start, c.roundTrip)
				p.clock.sample(start.Add(time.Second), start.Add(time.Hour), 0) // within the window: not looked at
				p.clock.sample(start.Add(time.Minute), start.Add(perMinute(drift)), c.roundTrip)
			}
			if n.ClockOff() != c.off {
				t.Errorf("off is %v, want %v", n.ClockOff(), c.off)
			}
		})
	}
}
