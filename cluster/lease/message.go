package lease

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/hactl/had/internal/clock"
)

// Message is what members say to each other. Exactly one of the pointers is set. The sender's identity is the
// transport's business and no part of it.
type Message struct {
	FromLife Life `json:",omitempty"`
	ToLife   Life `json:",omitempty"` // the life it is meant for; zero where any will do

	Ping        *Ping        `json:",omitempty"`
	Pong        *Pong        `json:",omitempty"`
	Renew       *Renew       `json:",omitempty"`
	RenewReply  *RenewReply  `json:",omitempty"`
	Clear       *Clear       `json:",omitempty"`
	ClearReply  *ClearReply  `json:",omitempty"`
	Waive       *Waive       `json:",omitempty"`
	Claim       *Claim       `json:",omitempty"`
	ClaimReply  *ClaimReply  `json:",omitempty"`
	Yield       *Yield       `json:",omitempty"`
	Release     *Release     `json:",omitempty"`
	Released    *Released    `json:",omitempty"`
	Resign      *Resign      `json:",omitempty"`
	ResignReply *ResignReply `json:",omitempty"`
	Invite      *Invite      `json:",omitempty"`
	Over        *Over        `json:",omitempty"`
}

// Ping asks a member for its life and its clock.
type Ping struct{ Sent clock.Time }

// Pong answers a Ping with the sender's reading, and the answerer's own.
type Pong struct{ Sent, Clock clock.Time }

// Renew asks a voter to promise all that an owner holds for another Promise.
type Renew struct {
	Round         uint64 // grows within the sender's life
	Configuration uint64 // index of the configuration the sender counts by
	Promise       time.Duration
	Groups        []RenewGroup
}

// RenewGroup is one group in a Renew.
type RenewGroup struct {
	Group     string
	Epoch     Epoch
	First     bool         `json:",omitempty"` // the owner holds no lease of this epoch yet
	Addresses []netip.Addr `json:",omitempty"` // that the lease covers (A1)
	Adding    []netip.Addr `json:",omitempty"` // that it is to cover, too, if the voter agrees
}

// RenewReply answers a Renew.
type RenewReply struct {
	Round         uint64
	Refused       Refusal        `json:",omitempty"` // the whole round, with Groups empty
	Configuration *Configuration `json:",omitempty"` // the voter's, with RefusedConfiguration
	Groups        []RenewAnswer  `json:",omitempty"`
}

// RenewAnswer answers for one group. Refused is empty if the voter has promised.
type RenewAnswer struct {
	Group      string
	Epoch      Epoch         // of the question
	Refused    Refusal       `json:",omitempty"`
	VoterEpoch Epoch         `json:",omitempty"`
	Left       time.Duration `json:",omitempty"` // of the promise in the way
	Withheld   bool          `json:",omitempty"` // Adding is not promised, all else is
	Crossing   *Crossing     `json:",omitempty"` // with RefusedAddress, or why it is withheld
}

// Crossing is an address of one group that somebody else has in another group.
type Crossing struct {
	Address netip.Addr
	Group   string
	Holder  Member
}

func (c Crossing) String() string {
	return fmt.Sprintf("%s has %s in its group %s", c.Holder.Node(), c.Address, c.Group)
}

// Clear asks a voter to let Member have Group under Epoch. With Probe it asks only whether it would (C2).
type Clear struct {
	Group         string
	Epoch         Epoch
	Member        Member
	Round         uint64
	Configuration uint64
	Promise       time.Duration // what the claimant will ask to be promised
	Addresses     []netip.Addr  `json:",omitempty"` // that its lease is to cover (A1)
	Probe         bool          `json:",omitempty"`
}

// ClearReply answers a Clear. Refused is empty if the voter agrees.
type ClearReply struct {
	Group         string
	Round         uint64
	Refused       Refusal        `json:",omitempty"`
	Epoch         Epoch          // the newest that the voter knows
	Holder        Member         `json:",omitempty"` // of the promise in the way
	Crossing      *Crossing      `json:",omitempty"` // with RefusedAddress
	Left          time.Duration  `json:",omitempty"` // until the voter might agree
	Configuration *Configuration `json:",omitempty"`
}

// Waive is the holder's own word to a voter that it is no longer visible under an epoch, and never will be again.
type Waive struct {
	Group string
	Epoch Epoch
	Life  Life // of the holder that the epoch was granted to
}

// Claim asks the leader for a group. It is repeated with the same ID until it is answered or too old.
type Claim struct {
	Group     string
	ID        uint64 // unique in the sender's life
	Kind      ClaimKind
	Promise   time.Duration
	Addresses []netip.Addr `json:",omitempty"` // that the lease is to cover
	Reason    string

	// Proved: not before whoever holds it has released it or is proved to be off, even if no promise runs any more.
	Proved bool `json:",omitempty"`
}

// ClaimReply answers a Claim: with Epoch it is granted; else Refused says why and Left when to try again. With Holder,
// Silent is how long a majority has not acknowledged that one's lease; zero if they do.
type ClaimReply struct {
	Group   string
	ID      uint64
	Epoch   Epoch         `json:",omitempty"`
	Refused string        `json:",omitempty"`
	Holder  Member        `json:",omitempty"`
	Left    time.Duration `json:",omitempty"`
	Silent  time.Duration `json:",omitempty"`
}

// Yield tells the owner that a transfer of its epoch is committed: it becomes invisible, then releases.
type Yield struct {
	Group  string
	Epoch  Epoch
	To     Member
	Reason string
}

// Release tells the leader that the sender is invisible under an epoch for good. It is repeated until answered.
type Release struct {
	Group  string
	Epoch  Epoch
	Life   Life // that the epoch was granted to
	Reason string
}

// Released answers a Release: it is in the log, or needs not be.
type Released struct {
	Group string
	Epoch Epoch
}

// Resign asks the leader to find somebody who takes a group over; the sender keeps it until then.
type Resign struct {
	Group  string
	Epoch  Epoch
	Reason string
	Marked bool   // for maintenance: it counts only if the leader's log has the mark, too; the sender's may lag behind
	Heir   string `json:",omitempty"` // node that is to have it, if that one could; empty: the fittest
}

// ResignReply says that nobody takes the group.
type ResignReply struct {
	Group string
	Epoch Epoch
}

// Invite asks a director to claim a group, if it is fit to own it.
type Invite struct {
	Group  string
	Kind   ClaimKind
	Reason string
}

// Over says for a life of a director that it has ended, and that nothing which it had is visible, or ever will be again under it. It
// names the groups that it had.
type Over struct{ Groups []string }

// LastWords is what is to be said for a life of a director that is dead, once it is invisible under an epoch for good: to
// the voters that it gives the epoch up, and to whoever leads the log that somebody else should have the group, and that the
// epoch is over. It is the same for all members, in this order, and may be said at any time and as often as one likes: it
// names the life, which can hold nothing any more.
func LastWords(life Life, group string, epoch Epoch, reason string) []Message {
	return []Message{
		{FromLife: life, Waive: &Waive{Group: group, Epoch: epoch, Life: life}},
		{FromLife: life, Resign: &Resign{Group: group, Epoch: epoch, Reason: reason}},
		{FromLife: life, Release: &Release{Group: group, Epoch: epoch, Life: life, Reason: reason}},
	}
}

// VeryLastWords are said after LastWords of all groups to the other one of two directors, who can decide alone what follows from them:
// that this life is invisible whatever it had, with a lease or without one.
func VeryLastWords(life Life, groups []string) Message {
	return Message{FromLife: life, Over: &Over{Groups: groups}}
}

// Encode returns the wire form of m.
func (m Message) Encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("lease: message cannot be encoded: %v", err)) // only plain data in it
	}
	return b
}

// Decode reads the wire form of a message. An error means that the bytes are not one, or one with no known content.
func Decode(b []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(b, &m); err != nil {
		return Message{}, fmt.Errorf("decode lease message: %w", err)
	}
	contents := 0
	for _, set := range []bool{m.Ping != nil, m.Pong != nil, m.Renew != nil, m.RenewReply != nil, m.Clear != nil,
		m.ClearReply != nil, m.Waive != nil, m.Claim != nil, m.ClaimReply != nil, m.Yield != nil, m.Release != nil,
		m.Released != nil, m.Resign != nil, m.ResignReply != nil, m.Invite != nil, m.Over != nil} {
		if set {
			contents++
		}
	}
	if contents != 1 {
		return Message{}, fmt.Errorf("decode lease message: %d contents instead of one", contents)
	}
	return m, nil
}
