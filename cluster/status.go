package cluster

import (
	"slices"
	"time"
)

// State is where a member stands.
type State string

// The states of a member.
const (
	StateFounding State = "founding" // new, and so are all members met so far
	StateJoining  State = "joining"  // being taken in, or catching up
	StateMember   State = "member"   // a voter
	StateRemoved  State = "removed"  // taken out of the cluster on purpose
)

// Status is one member's view of the cluster at one moment.
type Status struct {
	Name      string   // of the cluster
	Self      MemberID // of this member
	ClusterID string   // chosen when the cluster was founded; empty before
	State     State
	DataLost  string // why this life began with an empty data directory although there was one; usually empty
	StateText string // what founding or joining waits for, or why the member is removed; one line

	Leader       MemberID // empty: unknown
	Term         uint64
	LeaderSince  time.Time // wall time, of this member's knowledge
	Voters       Voters
	AppliedIndex uint64
	CommitIndex  uint64
	LastIndex    uint64
	Reachable    int       // voters of the newest configuration that answer, this member included
	Quorum       bool      // those who answer are a majority of the newest and of the newest committed configuration
	MajorityAt   time.Time // wall time: when a majority last answered; zero: never

	Peers    []PeerStatus // all other configured members, sorted by name
	Refusals []Refusal    // connections refused lately, newest first
	Disk     DiskStatus
	Dropped  DroppedCounts
}

// PeerStatus is how this member sees a configured peer.
type PeerStatus struct {
	Peer
	Member     MemberID // the newest id heard; empty: never met
	Voter      bool
	Reachable  bool
	Since      time.Time     // wall time of the newest change of Reachable; zero: never met
	RTT        time.Duration // of the newest acknowledged message
	LastHeard  time.Time     // wall time of the newest acknowledgement; zero: never
	Error      string        // why it is not reachable
	Gossip     string        // alive, suspect or missing
	Version    string
	Lease      time.Duration // D as configured there; 0: unknown
	ConfigDiff bool          // its cluster block names other members than ours
}

// Refusal is a connection that was not accepted, by this member or by the other side.
type Refusal struct {
	Node    string // as claimed by the other side, or as configured for its address; may be empty
	Address string
	Reason  string
	Count   int
	Last    time.Time // wall time
}

// DiskStatus is the health of the data directory.
type DiskStatus struct {
	Healthy bool
	Text    string        // "" when healthy
	Since   time.Time     // wall time of the first failure
	Write   time.Duration // typical duration of one durable write; 0: none yet
}

// DroppedCounts counts what bounded queues gave up.
type DroppedCounts struct {
	Events   uint64 // not delivered through Events
	Messages uint64 // not sent to a peer
}

// Standing is what a member says of itself.
type Standing struct {
	Member MemberID
	Data   []byte
	Age    time.Duration // since it was received here
	Absent bool          // the member does not answer
}

// Status describes this member's view of the cluster. It never blocks on the disk or on a peer.
func (c *Cluster) Status() Status {
	voters := c.configurations.voters()
	c.noteMajority()
	c.mu.Lock()
	s := Status{
		Name: c.cfg.Name, Self: c.self, DataLost: c.dir.Moved(), ClusterID: c.clusterID, StateText: c.text, Voters: voters,
		Refusals: slices.Clone(c.refusals), MajorityAt: c.majorityAt,
	}
	host, log, broken, removed := c.raft, c.raftLog, c.broken, c.removed
	for _, name := range c.names {
		m := c.meetings[name]
		p := PeerStatus{
			Peer: c.peers[name], Member: MemberID(m.hello.Member), Reachable: m.up, Since: m.since,
			Version: m.hello.Version, Lease: time.Duration(m.hello.Lease),
			ConfigDiff: m.hello.Member != "" && m.hello.Peers != c.digest,
		}
		p.Voter = p.Member != "" && slices.Contains(voters.Latest.Members, p.Member)
		if !m.up && m.err != nil {
			p.Error = m.err.Error()
		}
		s.Peers = append(s.Peers, p)
	}
	s.Reachable, s.Quorum = c.countReachable(voters)
	c.mu.Unlock()

	for i := range s.Peers {
		p := &s.Peers[i]
		link := c.links[p.Name]
		p.RTT, p.LastHeard = link.Traffic()
		p.Gossip = c.gossip.state(p.Name)
		s.Dropped.Messages += link.Dropped()
	}
	s.Dropped.Events = c.box.droppedCount()
	s.Disk.Healthy = true
	if log != nil {
		s.Disk.Text, s.Disk.Since = log.Health().Describe()
		s.Disk.Write = log.Health().Typical()
	}
	if s.Disk.Text == "" && broken != "" {
		s.Disk.Text = broken
	}
	s.Disk.Healthy = s.Disk.Text == ""
	if host != nil {
		l, since := host.current()
		s.Leader, s.Term, s.LeaderSince = l.Leader, l.Term, since
		s.AppliedIndex, s.CommitIndex, s.LastIndex = host.raft.AppliedIndex(), host.raft.CommitIndex(), host.raft.LastIndex()
	}
	switch {
	case removed != "":
		s.State = StateRemoved
	case slices.Contains(voters.Latest.Members, c.self):
		s.State = StateMember
	case s.ClusterID != "" || c.othersHaveCluster():
		s.State = StateJoining
	default:
		s.State = StateFounding
	}
	return s
}

func (c *Cluster) othersHaveCluster() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.meetings {
		if m.up && m.hello.ClusterID != "" {
			return true
		}
	}
	return false
}

// answering counts the members of a list that answer, this one included. The caller holds mu.
func (c *Cluster) answering(members []MemberID) (n int) {
	for _, id := range members {
		m := c.meetings[id.Node()]
		if id == c.self || m != nil && m.up && MemberID(m.hello.Member) == id {
			n++
		}
	}
	return n
}

// countReachable counts the voters that answer. The caller holds mu.
func (c *Cluster) countReachable(v Voters) (reachable int, quorum bool) {
	majority := func(set VoterSet) bool {
		return len(set.Members) > 0 && c.answering(set.Members) > len(set.Members)/2
	}
	return c.answering(v.Latest.Members), majority(v.Latest) && (v.Committed.Index == 0 || majority(v.Committed))
}

// noteMajority remembers when a majority answered.
func (c *Cluster) noteMajority() {
	voters := c.configurations.voters()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, quorum := c.countReachable(voters); quorum {
		c.majorityAt = time.Now()
	}
}
