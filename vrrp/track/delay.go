package track

import (
	"time"

	"github.com/hactl/had/internal/clock"
)

// Delayed is a condition that counts only once it has lasted: the state of an interface that is debounced, or of a
// process with fork_delay and terminate_delay. The zero Delayed is Unknown; the first condition that is seen counts at
// once.
type Delayed struct {
	// Condition is the one that counts.
	Condition Condition

	next Condition  // seen last; counts from at
	at   clock.Time // zero: what was seen last counts
}

// See takes in the condition as it is at now, and returns the new state. If it differs from the one that counts, it
// counts after delay, provided that nothing else is seen until then. Seen again while it waits it starts no new delay.
func (d Delayed) See(now clock.Time, seen Condition, delay time.Duration) Delayed {
	d = d.Tick(now)
	switch {
	case d.Condition == Unknown || delay <= 0 || seen == d.Condition:
		return Delayed{Condition: seen}
	case d.at.IsZero() || seen != d.next:
		d.next, d.at = seen, now.Add(delay)
	}
	return d
}

// Tick lets time pass and returns the new state. It is due at Deadline and harmless at any other time.
func (d Delayed) Tick(now clock.Time) Delayed {
	if !d.at.IsZero() && now >= d.at {
		return Delayed{Condition: d.next}
	}
	return d
}

// Deadline is when the condition will change by itself; zero if it will not.
func (d Delayed) Deadline() clock.Time { return d.at }
