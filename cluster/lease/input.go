package lease

import (
	"fmt"
	"time"

	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
)

// Input is what a Node hears of the cluster. The set is closed.
type Input interface{ input() }

type (
	// Received is a message from a member that the transport has authenticated.
	Received struct {
		From    Member
		Message Message
	}
	// Leads says who leads the Raft group in a term; Member is empty if nobody is known to.
	Leads struct {
		Member Member
		Term   uint64
	}
	// Configured tells what this member's own Raft log holds: the newest committed configuration and the newest of all,
	// which may be the same.
	Configured struct{ Committed, Latest Configuration }
	// Applied says that this member has applied the log up to Index, after all that Configured said of it.
	Applied struct{ Index uint64 }
	// Outcome answers a Propose. With Err it is open whether the command will be applied.
	Outcome struct {
		Tag    uint64
		Result fsm.Result
		Err    error
	}
	// CeilingRaised answers a RaiseCeiling: promises up to this span are noted on disk.
	CeilingRaised struct{ Promise time.Duration }
	// Stands is what a director says of itself for each group. A hint: nothing rests on it being true.
	Stands struct {
		Member Member
		Groups map[string]Standing
		Absent bool // it does not answer
	}
)

func (Received) input()      {}
func (Leads) input()         {}
func (Configured) input()    {}
func (Applied) input()       {}
func (Outcome) input()       {}
func (CeilingRaised) input() {}
func (Stands) input()        {}

// Step takes in what the cluster says.
func (n *Node) Step(now clock.Time, in Input) []Action {
	n.expire(now)
	switch in := in.(type) {
	case Received:
		n.receive(now, in.From, in.Message)
	case Leads:
		n.setLeader(now, in.Member, in.Term)
	case Configured:
		n.configured(now, in.Committed, in.Latest)
	case Applied:
		n.forget(now, in.Index)
		n.settleReleases()
		n.readProofs()
		n.readGrants(now)
		n.retryRefused(now)
		n.coordinate(now)
	case Outcome:
		n.outcome(now, in)
	case CeilingRaised:
		n.voter.ceiling = max(n.voter.ceiling, in.Promise)
	case Stands:
		n.stands(now, in)
	default:
		panic(fmt.Sprintf("lease: unknown input %T", in))
	}
	return n.take(now)
}
