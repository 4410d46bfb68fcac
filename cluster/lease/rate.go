package lease

import (
	"time"

	"github.com/hactl/had/internal/clock"
)

// rateWindow is the span over which the rate of another member's clock is measured: long enough that a millisecond of
// network makes less than a tenth of the drift bound.
const rateWindow = time.Minute

// sampleEvery is how often a voter's clock is read that speaks anyway, if that is not asked for oftener.
const sampleEvery = rateWindow / 4

// DriftAlarm is the relative rate of two lease clocks from which on somebody should look after them: a quarter of the
// drift bound.
const DriftAlarm = 0.25 / driftDivisor

// ClockOff tells whether this member's lease clock is the odd one out: its rate differs from most other voters' by more
// than half of the drift bound. Then it must not own anything.
func (n *Node) ClockOff() bool {
	off, known := 0, 0
	for _, p := range n.peers {
		if p.life == 0 {
			continue
		}
		known++
		if p.clock.drift > 2*DriftAlarm || p.clock.drift < -2*DriftAlarm {
			off++
		}
	}
	return known > 0 && off > known/2
}

// rate measures how fast another member's lease clock runs beside ours.
type rate struct {
	here, there clock.Time // start of the window
	noise       time.Duration
	drift       float64
}

// sample takes in a pair of readings; the other one was taken within roundTrip before ours.
func (r *rate) sample(here, there clock.Time, roundTrip time.Duration) {
	if r.here.IsZero() {
		*r = rate{here: here, there: there, noise: roundTrip}
		return
	}
	span := here.Sub(r.here)
	if span < rateWindow {
		return
	}
	drift := float64(there.Sub(r.there)-span) / float64(span)
	noise := float64(roundTrip+r.noise) / float64(span)
	switch { // what the network may have caused is not the clock's
	case drift > noise:
		r.drift = drift - noise
	case drift < -noise:
		r.drift = drift + noise
	default:
		r.drift = 0
	}
	r.here, r.there, r.noise = here, there, roundTrip
}
