package fsm

// Severity orders events.
type Severity string

// The severities.
const (
	Info  Severity = "info"
	Warn  Severity = "warn"
	Error Severity = "error"
)

func (s Severity) valid() bool { return s == Info || s == Warn || s == Error }

// Event is one line of the journal. Kinds of events that come from commands are those of the commands; a Note brings its
// own.
type Event struct {
	Index    uint64   `json:"index"`        // of the log entry; one entry may cause two events
	ID       string   `json:"id,omitempty"` // unique: the request id, and for a second event of the entry with "/2"
	Time     Wall     `json:"time,omitempty"`
	Severity Severity `json:"severity"`
	Kind     string   `json:"kind"`
	Node     string   `json:"node,omitempty"` // whom it is about
	Group    string   `json:"group,omitempty"`
	Epoch    uint64   `json:"epoch,omitempty"`
	Text     string   `json:"text"`
	Reason   string   `json:"reason,omitempty"`
	By       string   `json:"by,omitempty"` // the person who asked for it
}

// JournalSize is how many events a State keeps.
const JournalSize = 1024

// ring keeps the newest of the values that were added to it.
type ring[T any] struct {
	size   int
	values []T // in order of addition, beginning at first once the ring is full
	first  int
}

// add appends v. If the ring is full it takes out the oldest value and returns it.
func (r *ring[T]) add(v T) (oldest T, removed bool) {
	if len(r.values) < r.size {
		r.values = append(r.values, v)
		return oldest, false
	}
	oldest = r.values[r.first]
	r.values[r.first] = v
	r.first = (r.first + 1) % r.size
	return oldest, true
}

// all returns a copy of the values, the oldest first.
func (r *ring[T]) all() []T {
	return append(append(make([]T, 0, len(r.values)), r.values[r.first:]...), r.values[:r.first]...)
}
