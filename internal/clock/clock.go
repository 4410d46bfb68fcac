// Package clock defines the type of a reading of a machine's lease clock.
//
// A lease clock counts nanoseconds from an arbitrary origin (the machine's boot). It never jumps back, counts the time
// spent suspended, and is neither stepped nor slewed. Readings of two machines cannot be compared; only spans can,
// within the drift bound. The package is pure: who reads the clock is internal/clock/leaseclock.
package clock

import "time"

// Time is a reading of the lease clock, in nanoseconds. The zero Time means "unset": no reading is ever zero.
type Time int64

// Add returns the reading d after t.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the span from u to t; negative if t is before u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Before tells whether t is earlier than u.
func (t Time) Before(u Time) bool { return t < u }

// IsZero tells whether t is unset.
func (t Time) IsZero() bool { return t == 0 }

// Earliest returns the earliest of the readings that are set, or zero if none is.
func Earliest(times ...Time) Time {
	var earliest Time
	for _, t := range times {
		if t != 0 && (earliest == 0 || t < earliest) {
			earliest = t
		}
	}
	return earliest
}
