package cluster

import "time"

// timing holds the times of a member's raft. All voters must have the same, so they follow from the lease duration.
type timing struct {
	Heartbeat time.Duration // T: without contact for that long a follower asks for votes; also raft's ElectionTimeout
	Lease     time.Duration // a leader without contact to a majority for that long gives up
	Beat      time.Duration // a leader sends heartbeats that often, up to twice as rarely
	Company   time.Duration // what tells no news waits that long at most for something to go along with
	Silence   time.Duration // and a heartbeat until that long after the one before, at most
	Commit    time.Duration // a leader tells followers what it has committed that often, up to twice as rarely
	Repeat    time.Duration // and says again what a follower knows after that long
	Transport time.Duration // of one request
}

const (
	beats             = 10 // raft sends heartbeats that often in its HeartbeatTimeout, or down to half as often
	shortestHeartbeat = 150 * time.Millisecond
	longestHeartbeat  = 2 * time.Second
	// calmHeartbeat is the T from which on a leader speaks less than half as often: it leaves TCP, which repeats what is lost after 200 ms,
	// time for several tries, and every message wakes two machines. From then on what tells no news waits for company, too: the renewals
	// of an owner, which with T = 0.8 D come every 5/16 T and a little.
	calmHeartbeat = time.Second
)

// timingFor derives raft's times from the lease duration D: T = 0.8 D, within bounds. With D = 2.5 advertisement intervals
// an election is over before Active_Down_Interval is, and raft's heartbeats, which come 1.5 to 10 times in T, cost little.
func timingFor(lease time.Duration) timing {
	t := min(max(lease*4/5, shortestHeartbeat), longestHeartbeat)
	times := timing{
		Heartbeat: t,
		Lease:     t * 4 / 5,
		Beat:      t / beats,
		Commit:    t / 4,
		Repeat:    t * 8,
		Transport: max(time.Second, t*3/2),
	}
	if t >= calmHeartbeat {
		times.Company, times.Silence = t*3/8, t*13/20
		times.Beat, times.Commit = times.Silence/2, t/2
	}
	return times
}

// rankStep is how much later the next in rank asks for votes: longer than one election takes, which is three writes by
// the candidate and three by a voter, and two round trips.
func (t timing) rankStep(write, roundTrip time.Duration) time.Duration {
	const shortest = 30 * time.Millisecond
	return min(max(shortest, 8*write+4*roundTrip), t.Heartbeat)
}

// shortestUserTimeout leaves TCP time to repeat what is lost, which begins after 200 ms: a connection costs more than that.
const shortestUserTimeout = time.Second

// linkStall is the time without an acknowledgement after which a link is replaced; linkPing how often an idle link is
// used; linkMaxAge how old a message may be when it is sent.
func linkTimes(lease time.Duration) (stall, ping, maxAge time.Duration) {
	stall = min(max(lease/2, 100*time.Millisecond), 2*time.Second)
	ping = min(max(lease*8/5, 50*time.Millisecond), 4*time.Second)
	return stall, ping, lease
}
