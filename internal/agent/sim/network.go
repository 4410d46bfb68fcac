package sim

import "time"

// class tells apart what filters on the way can tell apart.
type class int

const (
	clusterPort class = iota // raft, leases, gossip
	vrrpGroup                // VRRP multicast
	classes
)

// link is one direction between two machines. Counters, because faults overlap.
type link struct {
	cuts     [classes]int
	slow     int     // a fault makes every message late
	lossy    int     // a fault loses some
	doubling int     // a fault doubles some
	heard    instant // when a message of a director's leases arrived
	random   random
}

const (
	nearest, farthest = 100 * time.Microsecond, time.Millisecond // one way, on a healthy network
	longestDelay      = 6 * time.Second                          // now and then
	lossUnderFault    = 200_000                                  // per million
	doubledUnderFault = 100_000
)

// send carries a message to another machine, or does not. arrive runs on arrival.
func (w *world) send(from, to *machine, c class, arrive func()) {
	l := &w.links[from.index][to.index]
	delay := l.random.span(nearest, farthest)
	if l.cuts[c] > 0 || l.random.chance(w.shape.loss) || l.lossy > 0 && l.random.chance(lossUnderFault) {
		w.stats.MessagesLost++
		return
	}
	w.stats.Messages++
	if l.random.chance(w.shape.late) || l.slow > 0 && l.random.chance(500_000) {
		delay = l.random.span(0, pick(&l.random, 20*time.Millisecond, 400*time.Millisecond, longestDelay))
	}
	w.after(delay, arrive)
	if l.random.chance(w.shape.doubled) || l.doubling > 0 && l.random.chance(doubledUnderFault) {
		w.after(delay+l.random.span(0, pick(&l.random, time.Millisecond, longestDelay)), arrive)
	}
}
