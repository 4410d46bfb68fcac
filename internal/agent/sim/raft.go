package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
)

// consensus is the replicated log as one process sees it. Its owner calls it only while the process is not frozen.
type consensus interface {
	begin()
	// submit has a command put into the log, if this process leads it. done is told what became of it; with an error it
	// is open whether the command will be applied.
	submit(c fsm.Command, done func(fsm.Result, error))
	receive(from fsm.Member, message any)
	leads() bool // as far as this process knows
	end()
}

// entry is one entry of the log: a command, a configuration, or neither.
type entry struct {
	term    uint64
	command *fsm.Command
	voters  []fsm.Member
}

// raftDisk is what survives the process.
type raftDisk struct {
	term     uint64
	votedFor fsm.Member

	entries  []entry // from index base+1 on
	base     uint64  // last index in the snapshot
	baseTerm uint64
	snapshot []byte              // the state at base; nil: empty
	voters   lease.Configuration // the configuration at base
}

func (d *raftDisk) last() uint64 { return d.base + uint64(len(d.entries)) }

func (d *raftDisk) termOf(index uint64) uint64 {
	if index == d.base {
		return d.baseTerm
	}
	return d.entries[index-d.base-1].term
}

// configurationAt returns the newest configuration up to an index.
func (d *raftDisk) configurationAt(index uint64) lease.Configuration {
	for i := min(index, d.last()); i > d.base; i-- {
		if e := d.entries[i-d.base-1]; e.voters != nil {
			return lease.Configuration{Index: i, Voters: e.voters}
		}
	}
	return d.voters
}

// compact puts everything up to index into the snapshot.
func (d *raftDisk) compact(index uint64, snapshot []byte) {
	voters, term := d.configurationAt(index), d.termOf(index)
	d.entries = slices.Clone(d.entries[index-d.base:])
	d.base, d.baseTerm, d.snapshot, d.voters = index, term, snapshot, voters
}

type role int

const (
	follower role = iota
	asking        // whether an election would be won (pre-vote)
	candidate
	leader
)

// raft is a model of Raft: elections with a pre-vote, replication, snapshots, one change of voters at a time. It keeps
// Raft's promises and no others: leaders that were deposed do not know it, commits take as long as the network and the
// disks please, and what a proposer is told may be "unknown".
type raft struct {
	p *process
	d *raftDisk

	role            role
	leader          fsm.Member // empty: unknown
	heard           instant    // from the leader
	commit, applied uint64
	turn            uint64 // numbers the timers: only the last one set counts

	votes map[fsm.Member]bool

	// while leader
	next, match map[fsm.Member]uint64
	acked       map[fsm.Member]instant
	learners    map[fsm.Member]bool
	succeeding  bool                               // it is to stand for election
	begun       uint64                             // index of its first entry
	open        map[uint64]func(fsm.Result, error) // who waits for an entry, by index
	changedAt   clock.Time                         // when it saw the last change of voters committed

	told     lease.Leads
	toldSets lease.Configured
}

var (
	errNotLeader = errors.New("not the leader")
	errUnknown   = errors.New("leadership lost while committing")
)

type (
	voteRequest struct {
		term, last, lastTerm uint64
		try                  bool // pre-vote
		succession           bool // that the voter knows a leader is no reason to refuse
	}
	voteReply struct {
		term         uint64 // of the request if granted, else the voter's
		try, granted bool
	}
	appendRequest struct {
		term, previous, previousTerm, commit uint64
		entries                              []entry
	}
	appendReply struct {
		term  uint64
		ok    bool
		match uint64 // if ok
		last  uint64 // the follower's last index, if not ok
	}
	snapshotRequest struct {
		term, base, baseTerm uint64
		snapshot             []byte
		voters               lease.Configuration
	}
)

func newRaft(p *process) *raft {
	d := &p.machine.disk.raft
	r := &raft{p: p, d: d, commit: d.base, applied: d.base, open: map[uint64]func(fsm.Result, error){}}
	p.state = restore(d.snapshot)
	return r
}

func restore(snapshot []byte) *fsm.State {
	if snapshot == nil {
		return fsm.New()
	}
	state, err := fsm.Restore(snapshot)
	if err != nil {
		panic(err)
	}
	return state
}

func (r *raft) begin() {
	r.tell()
	r.wait()
}

func (r *raft) end() { r.turn++ }

func (r *raft) leads() bool { return r.role == leader }

func (r *raft) now() instant           { return r.p.machine.world.now }
func (r *raft) timeout() time.Duration { return r.p.machine.world.shape.election }
func (r *raft) write() time.Duration   { return r.p.machine.write() }
func (r *raft) latest() lease.Configuration {
	return r.d.configurationAt(r.d.last())
}

// timer runs do after d unless another timer has been set meanwhile.
func (r *raft) timer(d time.Duration, do func()) {
	r.turn++
	turn := r.turn
	r.later(d, func() {
		if turn == r.turn {
			do()
		}
	})
}

// later runs do after d in the process, if that still lives.
func (r *raft) later(d time.Duration, do func()) {
	r.p.machine.world.after(d, func() { r.p.aside(do) })
}

func (r *raft) wait() { r.timer(r.p.random.span(r.timeout(), 2*r.timeout()), r.silence) }

// silence begins an election, unless the leader was heard recently.
func (r *raft) silence() {
	if r.role == follower && r.heard != 0 && r.now().sub(r.heard) < r.timeout() {
		r.wait()
		return
	}
	r.leader = ""
	if slices.Contains(r.latest().Voters, r.p.member) {
		r.ask(asking)
	}
	r.tell()
	if r.role != leader {
		r.wait()
	}
}

// succeed stands for election at once if the leader has died, in the order of the members. Nothing rests on it being true.
func (r *raft) succeed(dead fsm.Member) {
	led := func() bool {
		return r.role == follower && r.leader == dead && slices.Contains(r.latest().Voters, r.p.member)
	}
	if !led() || r.succeeding {
		return
	}
	r.succeeding = true
	rank := 0
	for _, m := range r.latest().Voters {
		if m != dead && m < r.p.member {
			rank++
		}
	}
	r.later(time.Duration(rank)*r.timeout()/4, func() {
		if r.succeeding = false; led() {
			r.leader = ""
			r.ask(candidate)
			r.tell()
			if r.role != leader {
				r.wait()
			}
		}
	})
}

// ask requests votes, or with asking those that would be given.
func (r *raft) ask(as role) {
	succession := r.role == follower && as == candidate
	r.role, r.votes = as, map[fsm.Member]bool{r.p.member: true}
	term, delay := r.d.term+1, time.Duration(0)
	if as == candidate {
		r.d.term, r.d.votedFor, delay = term, r.p.member, r.write()
	}
	for _, m := range r.latest().Voters {
		r.p.speak(m, voteRequest{term: term, last: r.d.last(), lastTerm: r.d.termOf(r.d.last()), try: as == asking, succession: succession}, delay)
	}
	r.count()
}

func (r *raft) majority(yes func(fsm.Member) bool) bool {
	voters, count := r.latest().Voters, 0
	for _, m := range voters {
		if yes(m) {
			count++
		}
	}
	return count > len(voters)/2
}

func (r *raft) count() {
	if !r.majority(func(m fsm.Member) bool { return r.votes[m] }) {
		return
	}
	if r.role == asking {
		r.ask(candidate)
		return
	}
	r.role, r.leader = leader, r.p.member
	r.next, r.match, r.acked = map[fsm.Member]uint64{}, map[fsm.Member]uint64{}, map[fsm.Member]instant{}
	r.learners, r.changedAt = map[fsm.Member]bool{}, r.p.machine.reading()
	for _, m := range r.latest().Voters {
		r.acked[m] = r.now()
	}
	r.p.machine.world.stats.Elections++
	r.p.say("raft: elected for term %d", r.d.term)
	r.begun = r.d.last() + 1
	r.append(entry{term: r.d.term})
	r.beat()
}

// follow makes this member a follower in a term.
func (r *raft) follow(term uint64, of fsm.Member) {
	if term > r.d.term {
		r.d.term, r.d.votedFor = term, ""
	}
	was := r.role
	r.role, r.leader = follower, of
	if was == leader {
		for _, index := range sortedKeys(r.open) {
			r.open[index](fsm.Result{}, errUnknown)
		}
		clear(r.open)
		r.wait()
	}
	r.tell()
}

// append adds an entry to the leader's log.
func (r *raft) append(e entry) {
	r.d.entries = append(r.d.entries, e)
	index, term := r.d.last(), r.d.term
	r.later(r.write(), func() {
		if r.role == leader && r.d.term == term {
			r.match[r.p.member] = max(r.match[r.p.member], index)
			r.advance()
		}
	})
	r.tell()
	r.replicate()
}

func (r *raft) beat() {
	if r.role != leader {
		return
	}
	alive := func(m fsm.Member) bool { return m == r.p.member || r.now().sub(r.acked[m]) < r.timeout() }
	if !r.p.machine.world.shape.staleLeaders && !r.majority(alive) {
		r.p.say("raft: steps down, no majority answers")
		r.follow(r.d.term, "")
		return
	}
	r.replicate()
	r.changeVoters()
	r.timer(r.timeout()/5, r.beat)
}

func (r *raft) replicate() {
	voters := r.latest().Voters
	for _, m := range r.p.machine.world.members() {
		if slices.Contains(voters, m) || r.learners[m] {
			r.replicateTo(m)
		}
	}
}

const entriesPerMessage = 64

func (r *raft) replicateTo(m fsm.Member) {
	if m == r.p.member {
		return
	}
	if r.next[m] == 0 {
		r.next[m] = r.d.last() + 1
	}
	if r.next[m] <= r.d.base {
		r.p.speak(m, snapshotRequest{r.d.term, r.d.base, r.d.baseTerm, r.d.snapshot, r.d.voters}, 0)
		return
	}
	previous := r.next[m] - 1
	rest := r.d.entries[previous-r.d.base:]
	r.p.speak(m, appendRequest{r.d.term, previous, r.d.termOf(previous), r.commit,
		slices.Clone(rest[:min(len(rest), entriesPerMessage)])}, 0)
}

func (r *raft) receive(from fsm.Member, message any) {
	switch m := message.(type) {
	case voteRequest:
		r.vote(from, m)
	case voteReply:
		switch {
		case !m.granted && m.term > r.d.term:
			r.follow(m.term, "")
		case m.granted && (r.role == asking && m.try && m.term == r.d.term+1 ||
			r.role == candidate && !m.try && m.term == r.d.term):
			r.votes[from] = true
			r.count()
		}
	case appendRequest:
		r.take(from, m)
	case appendReply:
		r.taken(from, m)
	case snapshotRequest:
		r.takeSnapshot(from, m)
	}
}

func (r *raft) vote(from fsm.Member, m voteRequest) {
	reply := voteReply{term: r.d.term, try: m.try}
	upToDate := m.lastTerm > r.d.termOf(r.d.last()) || m.lastTerm == r.d.termOf(r.d.last()) && m.last >= r.d.last()
	led := r.leader != "" && r.leader != from && (r.role == leader || r.now().sub(r.heard) < r.timeout())
	delay := time.Duration(0)
	switch {
	case m.term < r.d.term, led && !m.succession:
	case m.try:
		reply.granted = upToDate && m.term > r.d.term
	default:
		if m.term > r.d.term {
			r.follow(m.term, "")
		}
		reply.term = r.d.term
		if upToDate && (r.d.votedFor == "" || r.d.votedFor == from) {
			r.d.votedFor, reply.granted, delay = from, true, r.write()
			r.wait()
		}
	}
	if reply.granted {
		reply.term = m.term
	}
	r.p.speak(from, reply, delay)
}

func (r *raft) take(from fsm.Member, m appendRequest) {
	reply := appendReply{term: r.d.term, last: r.d.last()}
	if m.term < r.d.term {
		r.p.speak(from, reply, 0)
		return
	}
	r.hear(from, m.term)
	reply.term = r.d.term
	switch {
	case m.previous < r.d.base: // an old message
		reply.ok, reply.match = true, r.commit
	case m.previous > r.d.last() || r.d.termOf(m.previous) != m.previousTerm:
		reply.last = min(r.d.last(), m.previous-1)
	default:
		reply.ok, reply.match = true, m.previous+uint64(len(m.entries))
		for i, e := range m.entries {
			index := m.previous + 1 + uint64(i)
			if index <= r.d.last() && r.d.termOf(index) == e.term {
				continue
			}
			r.d.entries = append(r.d.entries[:index-r.d.base-1:index-r.d.base-1], m.entries[i:]...)
			break
		}
		r.commitTo(min(m.commit, reply.match))
	}
	delay := time.Duration(0)
	if len(m.entries) > 0 {
		delay = r.write()
		r.tell()
	}
	r.p.speak(from, reply, delay)
}

// hear notes a sign of life of the term's leader.
func (r *raft) hear(from fsm.Member, term uint64) {
	if term > r.d.term || r.role != follower || r.leader != from {
		r.follow(term, from)
	}
	r.heard = r.now()
}

func (r *raft) taken(from fsm.Member, m appendReply) {
	switch {
	case m.term > r.d.term:
		r.follow(m.term, "")
	case r.role != leader || m.term != r.d.term:
	case m.ok:
		r.acked[from] = r.now()
		r.match[from] = max(r.match[from], m.match)
		more := r.next[from] <= r.match[from]
		r.next[from] = max(r.next[from], r.match[from]+1)
		r.advance()
		if more && r.next[from] <= r.d.last() {
			r.replicateTo(from)
		}
	default:
		r.acked[from] = r.now()
		r.next[from] = max(r.match[from], min(r.next[from]-1, m.last)) + 1
		r.replicateTo(from)
	}
}

// advance commits what a majority has, if it is of this term.
func (r *raft) advance() {
	if r.role != leader {
		return
	}
	for index := r.d.last(); index > r.commit && r.d.termOf(index) == r.d.term; index-- {
		if r.majority(func(m fsm.Member) bool { return r.match[m] >= index }) {
			r.commitTo(index)
			r.replicate()
			return
		}
	}
}

// commitTo notes that entries up to index are committed, and applies them, perhaps a little later.
func (r *raft) commitTo(index uint64) {
	if index <= r.commit {
		return
	}
	for i := r.commit + 1; i <= index; i++ {
		r.p.machine.world.committed(r.p, i, r.d.termOf(i))
		if r.d.entries[i-r.d.base-1].voters != nil {
			r.changedAt = r.p.machine.reading()
		}
	}
	r.commit = index
	r.tell()
	if r.p.random.chance(r.p.machine.world.shape.applyLate) {
		r.later(r.p.random.span(0, 300*time.Millisecond), r.apply)
		return
	}
	r.apply()
}

func (r *raft) apply() {
	var outcomes []func()
	for r.applied < r.commit {
		r.applied++
		e := r.d.entries[r.applied-r.d.base-1]
		var result fsm.Result
		if e.command != nil {
			result = r.p.apply(r.applied, *e.command)
		}
		if done := r.open[r.applied]; done != nil {
			delete(r.open, r.applied)
			outcomes = append(outcomes, func() { done(result, nil) })
		}
	}
	r.tell()
	tells := append(outcomes, func() { r.p.post(lease.Applied{Index: r.applied}) })
	if r.p.random.chance(500_000) { // nobody promises an order
		slices.Reverse(tells)
	}
	for _, tell := range tells {
		tell()
	}
	if kept := r.p.machine.world.shape.entriesKept; len(r.d.entries) > 2*kept && r.applied > r.d.base+uint64(kept) {
		r.d.compact(r.applied, r.p.state.Snapshot())
	}
}

func (r *raft) takeSnapshot(from fsm.Member, m snapshotRequest) {
	if m.term < r.d.term {
		r.p.speak(from, appendReply{term: r.d.term}, 0)
		return
	}
	r.hear(from, m.term)
	if m.base > r.applied {
		r.p.say("raft: restores the snapshot of entry %d", m.base)
		var rest []entry
		if m.base <= r.d.last() && r.d.termOf(m.base) == m.baseTerm {
			rest = slices.Clone(r.d.entries[m.base-r.d.base:])
		}
		r.d.entries, r.d.base, r.d.baseTerm, r.d.snapshot, r.d.voters = rest, m.base, m.baseTerm, m.snapshot, m.voters
		r.commit, r.applied = m.base, m.base
		r.p.state = restore(m.snapshot)
		r.p.machine.world.restored(r.p)
		r.tell()
		r.p.post(lease.Applied{Index: r.applied})
	}
	r.p.speak(from, appendReply{term: r.d.term, ok: true, match: m.base}, r.write())
}

func (r *raft) submit(c fsm.Command, done func(fsm.Result, error)) {
	if r.role != leader {
		done(fsm.Result{}, errNotLeader)
		return
	}
	r.open[r.d.last()+1] = done
	r.append(entry{term: r.d.term, command: &c})
}

// changeVoters replaces members whose data is gone: the old id goes, the new one learns, and then has a vote. One change
// at a time, and each of them only when no promise can be older than the last one.
func (r *raft) changeVoters() {
	latest := r.latest()
	if latest.Index > r.commit || r.p.machine.reading().Sub(r.changedAt) < r.p.machine.world.promise() {
		return
	}
	for _, m := range r.p.machine.world.machines {
		if latest.Has(m.disk.member) || m.process == nil || m.process.member != m.disk.member || m.disk.cluster != r.p.cluster {
			continue
		}
		voters := slices.Clone(latest.Voters)
		for i, old := range voters {
			if old.Node() == m.name {
				r.p.say("raft: removes %s", old)
				r.append(entry{term: r.d.term, voters: slices.Delete(voters, i, i+1)})
				return
			}
		}
		if !r.learners[m.disk.member] {
			r.learners[m.disk.member] = true
			r.p.say("raft: teaches %s", m.disk.member)
			return
		}
		if r.match[m.disk.member] == r.d.last() {
			voters = append(voters, m.disk.member)
			slices.Sort(voters)
			delete(r.learners, m.disk.member)
			r.p.say("raft: adds %s", m.disk.member)
			r.append(entry{term: r.d.term, voters: voters})
			return
		}
	}
}

// tell informs the process of what has changed. A leader is told that it leads once it has applied all that was
// committed before.
func (r *raft) tell() {
	leads := lease.Leads{Member: r.leader, Term: r.d.term}
	if r.leader == "" || r.role == leader && r.applied < r.begun {
		leads.Member = ""
	}
	if leads != r.told {
		r.told = leads
		r.p.post(leads)
	}
	sets := lease.Configured{Committed: r.d.configurationAt(r.commit), Latest: r.latest()}
	if sets.Committed.Index != r.toldSets.Committed.Index || sets.Latest.Index != r.toldSets.Latest.Index {
		r.toldSets = sets
		r.p.post(sets)
	}
}
