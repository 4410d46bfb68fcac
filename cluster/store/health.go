package store

import (
	"fmt"
	"sync"
	"time"
)

// Health tells how the disk under raft.db does. Any goroutine may call it.
type Health struct {
	mu      sync.Mutex
	pending map[uint64]time.Time // began, by operation
	serial  uint64
	failure string        // of the newest write; empty when it succeeded
	since   time.Time     // of the first of the failures in a row
	typical time.Duration // follows the durations of writes slowly
	recent  time.Duration // the longest of the last few, forgotten gradually
}

// stallLimit is the age from which a pending write counts as a stall, on a disk that is not always slow.
const stallLimit = 300 * time.Millisecond

// stall is the age from which a pending write counts as a stall. Where every write takes seconds, a leader that fell
// silent with each of them would be followed by one that does the same. The caller holds mu.
func (h *Health) stall() time.Duration { return max(stallLimit, 3*h.typical) }

// begin notes the start of a write and returns what to call at its end.
func (h *Health) begin() (end func(error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serial++
	id, start := h.serial, time.Now()
	if h.pending == nil {
		h.pending = map[uint64]time.Time{}
	}
	h.pending[id] = start
	return func(err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.pending, id)
		if err != nil {
			if h.failure == "" {
				h.since = time.Now()
			}
			h.failure = err.Error()
			return
		}
		took := time.Since(start)
		if h.typical == 0 {
			h.typical = took
		}
		h.typical += (took - h.typical) / 8
		h.recent = max(took, h.recent*7/8)
	}
}

// recovered forgets failures: a probe has succeeded.
func (h *Health) recovered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failure, h.since = "", time.Time{}
}

// oldest returns the age of the oldest pending write. The caller holds mu.
func (h *Health) oldest() time.Duration {
	var oldest time.Duration
	for _, start := range h.pending {
		oldest = max(oldest, time.Since(start))
	}
	return oldest
}

// Writing tells whether a write is under way.
func (h *Health) Writing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.pending) > 0
}

// Stalled tells whether a write has been pending for too long: whoever leads must not look alive.
func (h *Health) Stalled() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.oldest() > h.stall()
}

// Fit tells whether writes succeed and none stalls: only then may this member ask for votes.
func (h *Health) Fit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failure == "" && h.oldest() <= h.stall()
}

// Failing tells whether a write failed and no probe has succeeded since.
func (h *Health) Failing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failure != ""
}

// Recent is the longest that one of the last few durable writes took; zero before the first.
func (h *Health) Recent() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.recent
}

// Typical is the usual duration of a durable write; zero before the first.
func (h *Health) Typical() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.typical
}

// Describe says what is wrong in one line, and since when; empty if nothing is.
func (h *Health) Describe() (text string, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if oldest := h.oldest(); oldest > stallLimit {
		return fmt.Sprintf("a write has been waiting for the disk for %s", oldest.Round(100*time.Millisecond)),
			time.Now().Add(-oldest)
	}
	if h.failure != "" {
		return "writing fails: " + h.failure, h.since
	}
	return "", time.Time{}
}
