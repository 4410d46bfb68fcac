// Package alarm is a timer for what is put off again and again: a deadline that every message moves on.
//
// Go leaves a timer.Timer that is reset to a later time where it stands in its heap, and wakes the program at the old time to find that
// nothing is due. A timer that is made anew has Go look which of those at the head of the heap still count, so a program at rest sleeps.
package alarm

import "time"

// Alarm goes off once. The zero Alarm never does. One goroutine may use it.
type Alarm struct {
	C     <-chan time.Time // one value when it goes off
	timer *time.Timer
}

// Set has the alarm go off after d, and not before, whatever it was set to. A negative d is none.
func (a *Alarm) Set(d time.Duration) {
	a.Stop()
	a.timer = time.NewTimer(d)
	a.C = a.timer.C
}

// Stop has the alarm never go off.
func (a *Alarm) Stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
	a.C = nil
}
