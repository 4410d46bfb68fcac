package fencing

import (
	"time"

	"github.com/hactl/had/internal/clock"
)

const (
	// The kernel counts element timeouts in jiffies and compares absolute deadlines with the wall clock. Both are slewed
	// with the machine's time by up to 10% (adjtimex tick), the lease clock is not. A tenth of the time left is
	// therefore never handed to the kernel.
	kernelShareNum, kernelShareDen = 9, 10

	// MinTimeout is the shortest element timeout: two jiffies at HZ=100. The kernel counts in jiffies, so a shorter window
	// may be over before it has begun.
	MinTimeout = 20 * time.Millisecond

	// maxBracket is how far apart the two readings of the lease clock around one of the wall clock may be in a reading
	// that is worth using at once.
	maxBracket = 50 * time.Microsecond
)

// Reading is one look at the wall clock between two looks at the lease clock.
type Reading struct {
	Before clock.Time
	Wall   int64 // CLOCK_REALTIME, nanoseconds since 1970
	After  clock.Time
}

// Tight tells whether nothing came between the three looks. A reading that is not tight is safe to use, for the wall
// clock counts as read at After, but makes the deadline earlier than need be.
func (r Reading) Tight() bool { return r.After.Sub(r.Before) < maxBracket }

// Window is how long the kernel keeps a group open: until Timeout has passed since the kernel was told, or until the
// wall clock shows Deadline, whichever comes first.
type Window struct {
	Timeout  time.Duration // whole milliseconds, at least MinTimeout
	Deadline int64         // CLOCK_REALTIME, nanoseconds since 1970
}

// WindowUntil converts a lease's deadline into what the kernel is told. It returns false if the deadline has passed or
// is so near that the kernel cannot keep it: then the group must be shut.
//
// Deadline is safe by itself however late the kernel is told, unless somebody sets the wall clock back. Timeout is safe
// by itself whatever happens to the wall clock, unless the caller is stopped between the reading and the telling;
// Covers finds that out.
func WindowUntil(until clock.Time, r Reading) (Window, bool) {
	if until.IsZero() || r.After.IsZero() || r.After < r.Before {
		return Window{}, false
	}
	left := until.Sub(r.After)
	share := left / kernelShareDen * kernelShareNum
	w := Window{Timeout: share.Truncate(time.Millisecond), Deadline: r.Wall + int64(share)}
	if w.Timeout < MinTimeout {
		return Window{}, false
	}
	return w, true
}

// Covers tells whether the timeout alone ends by the lease's deadline, if told is a reading taken after the kernel was
// told. If not, the caller was held up in between, and must tell the kernel again with a fresh reading or shut the
// group.
func (w Window) Covers(until, told clock.Time) bool { return !until.Before(told.Add(w.Timeout)) }
