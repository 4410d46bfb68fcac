package guard

import (
	"cmp"
	"slices"

	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/clock"
)

// place says under which deadline a group is held.
type place uint8

const (
	placeNone   place = iota // shut
	placeCommon              // an element of "held", under the deadline in the chain "until"
	placeOwn                 // an element of "held_own", under the deadline in its own chain
)

// standing is what the kernel has been told about a group. The group may be shut by then; it is never more open than
// this.
type standing struct {
	place  place
	until  clock.Time // the lease's end
	lapsed bool       // it was found shut, or its time is over: it must be cleared, and not told again
}

// ledger holds the standing of each group, by its number minus one. It keeps the rule that makes a common deadline
// safe: the deadline is only ever replaced in a transaction that also arms, moves or clears each group under it.
type ledger []standing

// arming is a lease on its way into the kernel.
type arming struct {
	Lease
	group  uint32
	extend bool // only if the group is held
	window fencing.Window
	place  place  // where it is going to be held
	result *error // of the lease; nil error means open
}

func (a *arming) fail(err error) { *a.result = groupError(a.Group, err) }

// arrange gives each arming its place: that with most others in the common one, unless more groups would have to be
// moved out of the way than are coming in. It returns the groups that must be moved to their own deadline, and those
// that must be cleared, if the common deadline is to be replaced.
func (l ledger) arrange(armings []*arming) (displaced, clear []uint32) {
	ends := make([]clock.Time, len(armings))
	coming := make(map[uint32]bool, len(armings))
	for i, a := range armings {
		a.place = placeOwn
		ends[i] = a.Until
		coming[a.group] = true
	}
	for i, s := range l {
		group := uint32(i) + 1
		switch {
		case s.place != placeCommon || coming[group]:
		case s.lapsed:
			clear = append(clear, group)
		default:
			displaced = append(displaced, group)
		}
	}
	most, count := mostFrequent(ends)
	if count <= len(displaced) {
		return nil, nil
	}
	for _, a := range armings {
		if a.Until == most {
			a.place = placeCommon
		}
	}
	return displaced, clear
}

// mostFrequent finds the value that occurs most often, the largest of several, and how often it occurs.
func mostFrequent[T cmp.Ordered](values []T) (most T, count int) {
	slices.Sort(values)
	for begin, end := 0, 0; begin < len(values); begin = end {
		for end = begin; end < len(values) && values[end] == values[begin]; end++ {
		}
		if end-begin >= count {
			most, count = values[begin], end-begin
		}
	}
	return most, count
}

// told notes a transaction that the kernel has taken.
func (l ledger) told(armings []*arming, clear []uint32) {
	for _, group := range clear {
		l[group-1] = standing{}
	}
	for _, a := range armings {
		l[a.group-1] = standing{place: a.place, until: a.Until}
	}
}

// lapse notes that a group must be cleared.
func (l ledger) lapse(group uint32) { l[group-1].lapsed = true }

// lapsed lists the groups that must be cleared.
func (l ledger) lapsed() []uint32 {
	var groups []uint32
	for i, s := range l {
		if s.lapsed {
			groups = append(groups, uint32(i)+1)
		}
	}
	return groups
}
