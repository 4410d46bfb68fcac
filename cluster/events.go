package cluster

import (
	"slices"

	"github.com/hactl/had/fsm"
)

// Event is something that happened. The set of kinds is closed.
type Event interface{ event() }

type (
	// Message arrived from a member whose identity is authenticated. The payload is the receiver's.
	Message struct {
		From    MemberID
		Payload []byte
	}
	// Leadership tells who leads the log as far as this member knows. With Self it leads itself, and has applied all
	// that was committed before its term. Leader is empty while nobody is known to lead.
	Leadership struct {
		Leader MemberID
		Term   uint64
		Self   bool
	}
	// Voters tells the voters of the newest committed configuration and of the newest one in this member's log, which
	// may be the same.
	Voters struct {
		Committed, Latest VoterSet
	}
	// Applied tells that a command was applied here. Commands are reported from the moment of Open on: those that are
	// applied again after a restart are reported again. Missed means that events were dropped before this one, so that
	// only Read tells the truth; Restored that the state was replaced by a snapshot (Cmd and Result are empty).
	Applied struct {
		Index    uint64
		Cmd      fsm.Command
		Result   fsm.Result
		Missed   bool
		Restored bool
	}
	// Proposed is the outcome of Propose.
	Proposed struct {
		Tag    uint64
		Index  uint64
		Result fsm.Result
		Err    error
	}
	// PeerChanged tells that a peer began or ceased to answer.
	PeerChanged struct {
		Name      string
		Member    MemberID // empty if it was never met
		Reachable bool
		Reason    string // why not
	}
	// Stands tells that Standings knows something new of a node.
	Stands struct{ Node string }
)

func (Message) event()     {}
func (Leadership) event()  {}
func (Voters) event()      {}
func (Applied) event()     {}
func (Proposed) event()    {}
func (PeerChanged) event() {}
func (Stands) event()      {}

// VoterSet is the voters of one raft configuration, sorted.
type VoterSet struct {
	Index   uint64 // of the log entry; 0: none known
	Members []MemberID
}

// Equal tells whether two sets are the same entry with the same voters.
func (v VoterSet) Equal(w VoterSet) bool {
	return v.Index == w.Index && slices.Equal(v.Members, w.Members)
}
