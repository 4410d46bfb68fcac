package lease

import (
	"slices"
	"time"

	"github.com/hactl/had/fsm"
)

// Member is the Raft server id of a member: the node's name, a slash, and the id of its data directory. A node that lost
// its data comes back under its name as another Member.
type Member = fsm.Member

// Life is the random id of one life of a process.
type Life uint64

// Epoch numbers the grants of a group; it only grows.
type Epoch uint64

// driftDivisor is 1/e: the rates of two lease clocks differ by less than 1%.
const driftDivisor = 100

// holdSpan is D(1-e): how long an owner may use a lease, from the sending of the round that gained it.
func holdSpan(duration time.Duration) time.Duration { return duration - duration/driftDivisor }

// promiseSpan is P = D(1+e), plus what the guard may be late.
func promiseSpan(duration, slack time.Duration) time.Duration {
	return duration + duration/driftDivisor + slack
}

// Configuration is a set of voters as the Raft log has it.
type Configuration struct {
	Index  uint64 // of the log entry
	Voters []Member
}

// Has tells whether m is a voter.
func (c Configuration) Has(m Member) bool { return slices.Contains(c.Voters, m) }

// majority tells whether the members for which yes answers true are a majority of c. Nobody is none.
func (c Configuration) majority(yes func(Member) bool) bool {
	count := 0
	for _, m := range c.Voters {
		if yes(m) {
			count++
		}
	}
	return count > len(c.Voters)/2
}

// ClaimKind says why a director asks to own a group, and so what the leader may do to a living owner.
type ClaimKind string

const (
	// MasterDown: no advertisement arrived for Active_Down_Interval. A living owner stays.
	MasterDown ClaimKind = "master_down"
	// Preempt: the owner advertises a lower priority. A living owner is asked to hand over.
	Preempt ClaimKind = "preempt"
	// Handover: the owner wants to give the group away and this member was invited to take it.
	Handover ClaimKind = "handover"
	// Move: an operator wants the group here. As Handover, and the group then stays until moved again or lost.
	Move ClaimKind = "move"
)

// Valid tells whether k is a kind this version knows.
func (k ClaimKind) Valid() bool {
	switch k {
	case MasterDown, Preempt, Handover, Move:
		return true
	default:
		return false
	}
}

// takesFromLiving tells whether a claim of this kind is worth a handover by an owner that is alive.
func (k ClaimKind) takesFromLiving() bool { return k == Preempt || k == Handover || k == Move }

// Refusal says why a voter did not agree.
type Refusal string

const (
	RefusedLife          Refusal = "life"          // H1: meant for an earlier life of the voter
	RefusedEpoch         Refusal = "epoch"         // V1, V2: the voter has cleared a newer epoch
	RefusedSuperseded    Refusal = "superseded"    // V1: the voter has acknowledged a newer epoch's lease
	RefusedHolder        Refusal = "holder"        // H2
	RefusedAbstaining    Refusal = "abstaining"    // V3
	RefusedPromised      Refusal = "promised"      // V2, H3: somebody else's promise runs
	RefusedAddress       Refusal = "address"       // A1: somebody else has one of the addresses in another group
	RefusedReleased      Refusal = "released"      // the holder itself has released this epoch
	RefusedConfiguration Refusal = "configuration" // C3
	RefusedCeiling       Refusal = "ceiling"       // the promise is longer than any the voter has noted on disk
	RefusedStale         Refusal = "stale"         // a round no newer than one already seen
)

// Log is what the lease protocol reads of the state that this member has applied. *fsm.State satisfies it.
type Log interface {
	Epoch(group string) uint64    // the newest granted epoch
	Released(group string) uint64 // the newest epoch released by its owner or fenced
	// ReleasedBy tells whose that epoch was: the member and its process life.
	ReleasedBy(group string) (member Member, life, epoch uint64)
	Grant(group string) (fsm.Grant, bool) // the newest grant
	Placed(group string) bool             // an operator moved the group to its owner
	InMaintenance(node string) bool
}

// Standing is a director's own word on whether it could own a group. It is a hint: nothing rests on it being true.
type Standing struct {
	Eligible bool
	Priority uint8 // effective
	Sight    Sight `json:",omitzero"`

	// Where the configuration says which director is to own the group, this goes before the priority.
	Gain int `json:",omitzero"` // what tracking adds to the configured priority, or takes
	Rank int `json:",omitzero"` // among the directors that are preferred; the smaller, the better

	// Hardware lists the hardware addresses from which it would answer, separated by spaces.
	Hardware string `json:",omitempty"`

	// Sources lists the addresses that its advertisements of the group come from, separated by spaces, if it may keep the
	// group without a lease.
	Sources string `json:",omitempty"`
}

// Sight is how a director sees its gateways. The greater, the worse.
type Sight uint8

// The sights. Only a director that is Blind gives a group away to one that Sees; who is not owner leaves a group to others
// while it is Blind or Recovers.
const (
	Sees     Sight = iota // they answer, or there are none
	Doubts                // they count as reachable, but a probe was lost
	Recovers              // they do not count as reachable yet, but nothing says that they are not
	Blind                 // they do not answer
)

// Broken switches single rules off, so that tests can show that each of them is needed. Production leaves it zero.
type Broken struct {
	ShortPromise          bool // promises end 3% early
	NoAbstain             bool // V3 on clearing
	FirstWhileAbstaining  bool // V3 on first renewals
	AcceptOlderEpochs     bool // V1
	ClearRunningPromise   bool // V2
	ClearResetsPromise    bool // H5
	CountFromAnswer       bool // O2
	LateAckRevives        bool // O3
	IgnoreClaimDeadline   bool // O4
	AnyLife               bool // H1, and answers meant for an earlier life
	AnyHolder             bool // H2
	NoFirstCheck          bool // H3
	KeepOwnWhenSuperseded bool // H4
	AnyRelease            bool // H6: the release of another life of the holder's counts
	TakeReleaseBack       bool // H7
	KeepWhenDeclaredOff   bool // an owner goes on with a lease that its own log says is over, and voters help it
	LateClearances        bool // H8
	ForgetClearance       bool // C1
	AnyAddress            bool // A1
	AnyConfiguration      bool // C3
}
