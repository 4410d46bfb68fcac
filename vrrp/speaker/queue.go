package speaker

import (
	"net/netip"
	"slices"
	"time"
)

// Target is an address to announce, and the interface that has it.
type Target struct {
	Interface string
	Address   netip.Addr
}

// Spacing is the least distance between two announcements on an interface.
type Spacing struct {
	// Group names interfaces that share the spacing; empty: the interface alone.
	Group string
	ARP   time.Duration // between gratuitous ARP messages; 0: none
	NA    time.Duration // between unsolicited neighbour advertisements; 0: none
}

// queue orders announcements. It is pure: time is an argument, counted from any origin. Bursts of several routers take
// turns round by round, so that every address is announced once before any is announced again.
type queue struct {
	spacing func(iface string) Spacing
	bursts  []*burst
	free    map[spacingKey]time.Duration // when the next announcement of a spacing may go
}

// burst is a number of rounds of announcements for one Speaker.
type burst struct {
	owner   *Speaker
	targets []Target
	rounds  int // that remain
	next    int // index into targets
	check   func() bool
	router  map[string]bool // router flag of the interfaces, as far as looked up
}

type spacingKey struct {
	group string
	ipv6  bool
}

// add appends a burst. One with no targets or rounds has nothing to do. What is left of a Speaker's burst with the same targets is not
// queued a second time, so that a flood of what asks for announcements makes no long queue: it begins anew in its place.
func (q *queue) add(b *burst) {
	if len(b.targets) == 0 || b.rounds <= 0 {
		return
	}
	for _, waiting := range q.bursts {
		if waiting.owner == b.owner && slices.Equal(waiting.targets, b.targets) {
			rounds := b.rounds
			if waiting.next > 0 {
				rounds++ // the one that has begun does not count
			}
			waiting.rounds, waiting.check, waiting.router = max(waiting.rounds, rounds), b.check, nil
			return
		}
	}
	q.bursts = append(q.bursts, b)
}

// cancel drops all bursts of a Speaker.
func (q *queue) cancel(owner *Speaker) {
	q.bursts = slices.DeleteFunc(q.bursts, func(b *burst) bool { return b.owner == owner })
}

// drop drops one burst.
func (q *queue) drop(b *burst) {
	q.bursts = slices.DeleteFunc(q.bursts, func(other *burst) bool { return other == b })
}

// take returns the announcement that is next at the time now. ok is false if none is; then wait is the time until one
// is, or 0 if the queue is empty.
func (q *queue) take(now time.Duration) (b *burst, target Target, wait time.Duration, ok bool) {
	for i, b := range q.bursts {
		target := b.targets[b.next]
		key, distance := q.spacingOf(target)
		if free, limited := q.free[key]; limited && now < free {
			if wait == 0 || free-now < wait {
				wait = free - now
			}
			continue
		}
		if distance > 0 {
			q.free[key] = now + distance
		} else {
			delete(q.free, key)
		}
		q.advance(i)
		return b, target, 0, true
	}
	return nil, Target{}, wait, false
}

// advance moves a burst to its next target. After a round it goes to the end of the queue.
func (q *queue) advance(i int) {
	b := q.bursts[i]
	if b.next++; b.next < len(b.targets) {
		return
	}
	b.next = 0
	b.rounds--
	q.bursts = slices.Delete(q.bursts, i, i+1)
	if b.rounds > 0 {
		q.bursts = append(q.bursts, b)
	}
}

func (q *queue) spacingOf(t Target) (spacingKey, time.Duration) {
	spacing := q.spacing(t.Interface)
	key := spacingKey{group: "interface " + t.Interface, ipv6: t.Address.Is6()}
	if spacing.Group != "" {
		key.group = "group " + spacing.Group
	}
	if key.ipv6 {
		return key, spacing.NA
	}
	return key, spacing.ARP
}
