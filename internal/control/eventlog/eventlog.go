// Package eventlog keeps the last events of one node for its control socket: those of the replicated journal and those
// that only this node has seen, in the order in which the node learned of them.
//
// The numbers that it gives to events (api.Event.Seq) are cursors of this process life only. When an event that was
// first appended locally comes back through the replicated journal (same ID), the kept copy gets its log index and is
// not repeated.
package eventlog

import (
	"sync"

	"github.com/hactl/had/internal/control/api"
)

// Log is a bounded list of events. Any goroutine may call its methods; none of them blocks.
type Log struct {
	mu      sync.Mutex
	node    string
	size    int
	events  []api.Event // oldest first, Seq without gaps
	last    uint64      // Seq of the newest event ever appended
	changed chan struct{}
}

// New makes an empty log of the named node that keeps the newest size events.
func New(node string, size int) *Log {
	return &Log{node: node, size: size, changed: make(chan struct{})}
}

// Append adds e under the next number and wakes all who wait. An event whose ID is already kept is not added: the kept
// one takes its Index if it had none.
func (l *Log) Append(e api.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.ID != "" {
		for i := len(l.events) - 1; i >= 0; i-- {
			if l.events[i].ID == e.ID {
				if l.events[i].Index == 0 {
					l.events[i].Index = e.Index
				}
				return
			}
		}
	}
	l.last++
	e.Seq = l.last
	if len(l.events) == l.size {
		copy(l.events, l.events[1:])
		l.events = l.events[:l.size-1]
	}
	l.events = append(l.events, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

// Since returns the events after the cursor, oldest first, and a channel that is closed by the next Append. A cursor
// beyond the newest event (of an earlier process life) returns all that are kept, marked as Lost; so does one older
// than the oldest kept event. Cursor 0 asks for all and loses nothing.
func (l *Log) Since(after uint64) (api.EventPage, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	page := api.EventPage{Schema: api.Schema, Node: l.node, Events: []api.Event{}, Next: l.last}
	first := l.last - uint64(len(l.events)) // Seq before the oldest kept event
	start := 0
	switch {
	case after > l.last:
		page.Lost = true
	case after < first:
		page.Lost = after != 0
	default:
		start = int(after - first)
	}
	page.Events = append(page.Events, l.events[start:]...)
	return page, l.changed
}
