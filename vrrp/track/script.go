// Package track computes what tracked objects do to a virtual router: from the results of scripts, the state of
// interfaces and the content of files to an effective priority, and to the faults that keep the router from running.
// The rules are keepalived's.
//
// It is pure: who runs scripts, watches links and reads files is elsewhere, as is what becomes of the outcome. Values
// may be copied; nothing may be called concurrently on the same value.
package track

import "fmt"

// Condition is what is known of a tracked object. The zero Condition is Unknown.
type Condition uint8

// The conditions.
const (
	// Unknown: no result yet. An object of weight 0 then keeps its router in a silent fault, a weighted one adds nothing.
	Unknown Condition = iota
	// Pending: no result yet, for an object that came with a reload: it holds up nobody and adds nothing.
	Pending
	// Good: the script succeeds, the interface is up, the session is up.
	Good
	// Failed: the opposite.
	Failed
)

// String returns the condition in one word.
func (c Condition) String() string {
	switch c {
	case Unknown:
		return "unknown"
	case Pending:
		return "pending"
	case Good:
		return "good"
	case Failed:
		return "failed"
	}
	return fmt.Sprintf("condition(%d)", uint8(c))
}

// Script counts the results of a tracked script. The zero Script is one that has not run; a Script{Condition: Pending}
// is one that came with a reload.
type Script struct {
	Condition Condition

	// Counter runs from 0 to rise+fall-1 and is at least rise exactly when the Condition is Good. It has no meaning
	// before the first result.
	Counter int
}

// Result counts one run of the script and returns the new state. rise successes in a row make a failed script good, fall
// failures in a row make a good one failed; both are at least 1. Fewer are forgotten after one result of the other kind.
// The very first result decides alone, whatever rise and fall say.
//
// rise and fall may have changed since the last result; the counter is then brought into their range.
func (s Script) Result(ok bool, rise, fall int) Script {
	rise, fall = max(1, rise), max(1, fall)
	top := rise + fall - 1
	switch s.Condition {
	case Unknown, Pending:
		s.Counter = rise - 1
	case Good:
		s.Counter = min(max(s.Counter, rise), top)
	case Failed:
		s.Counter = min(s.Counter, rise-1)
	}
	switch {
	case ok && s.Counter >= rise-1:
		return Script{Condition: Good, Counter: top}
	case ok:
		return Script{Condition: Failed, Counter: s.Counter + 1}
	case s.Counter > rise:
		return Script{Condition: Good, Counter: s.Counter - 1}
	}
	return Script{Condition: Failed}
}
