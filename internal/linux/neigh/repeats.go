package neigh

import (
	"net/netip"
	"time"

	"github.com/hactl/had/internal/linux/ether"
)

const (
	// repeatInterval is the least time between two reports of equal claims.
	repeatInterval = 100 * time.Millisecond

	// repeatsMost bounds the claims that are remembered. A flood of more different ones is not reported beyond it.
	repeatsMost = 1024
)

// repeats decides which claims of a stream are reported. It is pure; the caller serialises calls.
type repeats struct {
	seen map[repeatKey]*repeat
}

type repeatKey struct {
	index   int
	address netip.Addr
	mac     ether.MAC
}

type repeat struct {
	reported   time.Duration
	suppressed int
}

// admit tells whether a claim heard at the time now is reported, and how many equal ones were not before it.
func (r *repeats) admit(c Claim, now time.Duration) (suppressed int, ok bool) {
	if r.seen == nil {
		r.seen = make(map[repeatKey]*repeat)
	}
	key := repeatKey{c.Index, c.Addr, c.MAC}
	known := r.seen[key]
	if known == nil {
		if len(r.seen) >= repeatsMost {
			r.forget(now)
		}
		if len(r.seen) >= repeatsMost {
			return 0, false
		}
		r.seen[key] = &repeat{reported: now}
		return 0, true
	}
	if now-known.reported < repeatInterval {
		known.suppressed++
		return 0, false
	}
	suppressed = known.suppressed
	*known = repeat{reported: now}
	return suppressed, true
}

// forget drops the claims that may be reported again anyway.
func (r *repeats) forget(now time.Duration) {
	for key, known := range r.seen {
		if now-known.reported >= repeatInterval {
			delete(r.seen, key)
		}
	}
}
