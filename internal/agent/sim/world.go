package sim

import (
	"fmt"
	"time"
)

// event is something that will happen.
type event struct {
	at  instant
	seq uint64
	do  func()
}

// agenda is a heap of events, ordered by time and then by the order in which they were made.
type agenda struct {
	now    instant
	seq    uint64
	events []event
}

func (a *agenda) before(i, j int) bool {
	x, y := &a.events[i], &a.events[j]
	return x.at < y.at || x.at == y.at && x.seq < y.seq
}

// at lets do happen at t, or now if t has passed.
func (a *agenda) at(t instant, do func()) {
	a.seq++
	a.events = append(a.events, event{max(t, a.now), a.seq, do})
	for i := len(a.events) - 1; i > 0; {
		parent := (i - 1) / 2
		if !a.before(i, parent) {
			break
		}
		a.events[i], a.events[parent] = a.events[parent], a.events[i]
		i = parent
	}
}

func (a *agenda) after(d time.Duration, do func()) { a.at(a.now.add(d), do) }

// pop takes out the next event; false if there is none until the given time.
func (a *agenda) pop(until instant) (event, bool) {
	if len(a.events) == 0 || a.events[0].at > until {
		return event{}, false
	}
	next := a.events[0]
	last := len(a.events) - 1
	a.events[0] = a.events[last]
	a.events[last] = event{}
	a.events = a.events[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if a.before(child, least) {
				least = child
			}
		}
		if least == i {
			break
		}
		a.events[i], a.events[least] = a.events[least], a.events[i]
		i = least
	}
	a.now = next.at
	return next, true
}

// traceKept is how many lines of a run's end are shown with a failure.
const traceKept = 200

// trace keeps the last lines of a run. It is off unless somebody will read it, because formatting is most of the work.
type trace struct {
	on    bool
	lines []string
	next  int
}

func (t *trace) add(line string) {
	if len(t.lines) < traceKept {
		t.lines = append(t.lines, line)
		return
	}
	t.lines[t.next] = line
	t.next = (t.next + 1) % traceKept
}

func (t *trace) all() []string {
	return append(append([]string{}, t.lines[t.next:]...), t.lines[:t.next]...)
}

// say notes what happened on a machine (or to the whole, with an empty name).
func (w *world) say(who, format string, args ...any) {
	if w.trace.on {
		w.trace.add(fmt.Sprintf("%13.6f %-4s %s", float64(w.now)/1e9, who, fmt.Sprintf(format, args...)))
	}
}
