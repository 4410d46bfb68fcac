package vrrp

import (
	"fmt"
	"net/netip"
)

// Action is something for the caller to do. The set is closed: SendAdvert, Claim, Unclaim, BecomeActive, LeaveActive,
// Announce, LowerHeard, Wished, Transition, Ignored. The caller executes the actions of a step in the order given.
//
// The orders that occur:
//
//	becoming Active     SendAdvert, BecomeActive, Announce, Transition
//	leaving, ungated    SendAdvert{0} (once for Stop and Disturbed, twice for a fault of its own), LeaveActive, Transition
//	leaving, gated      LeaveActive, SendAdvert{0} (Stop, Faulted, and Yield with ShortenPeers), Transition
//	giving way          SendAdvert (only with higher_prio_send_advert), LeaveActive, Transition
//	ending a claim      Unclaim comes before everything else of the step
type Action interface {
	fmt.Stringer
	action()
}

// ClaimKind says why a gated router asks to be Active.
type ClaimKind uint8

const (
	// MasterDown: no Active router is heard, or it has resigned.
	MasterDown ClaimKind = iota + 1
	// Preempt: an Active router of lower priority was heard within the last Active_Down_Interval.
	Preempt
)

// String returns the kind in words.
func (k ClaimKind) String() string {
	switch k {
	case MasterDown:
		return "master down"
	case Preempt:
		return "preempt"
	}
	return fmt.Sprintf("claim kind(%d)", uint8(k))
}

// Takeover says why a router has become Active. The values are those of vrrpv3StatisticsNewMasterReason (RFC 6527).
type Takeover uint8

const (
	// NotActive: the router has become something else.
	NotActive Takeover = iota
	// Resigned: the Active router has sent priority 0.
	Resigned
	// Preempted: an Active router of lower priority was heard within the last Active_Down_Interval.
	Preempted
	// NoResponse: no Active router was heard.
	NoResponse
)

type (
	// SendAdvert asks for one advertisement with this priority, to the group or to each peer.
	SendAdvert struct{ Priority uint8 }

	// Claim asks for the right to be Active (gated only). The caller repeats the claim until Granted, Unclaim, or a
	// further Claim that replaces it because the kind has changed.
	Claim struct{ Kind ClaimKind }

	// Unclaim withdraws the claim.
	Unclaim struct{}

	// BecomeActive asks to add addresses, routes and rules. It follows the first SendAdvert, as in keepalived.
	BecomeActive struct{}

	// LeaveActive asks to remove what BecomeActive added and to drop announcements that are still queued.
	LeaveActive struct{ To Status }

	// Announce asks for one burst of Repeat gratuitous ARP messages or unsolicited neighbour advertisements for every
	// virtual address, with Extra for those on other interfaces than the router's only.
	Announce struct {
		Repeat int
		Extra  bool
	}

	// LowerHeard reports that an Active router heard an advertisement of lower rank: notify_master_rx_lower_pri runs,
	// and the caller sends Defend to the other members of the sync group.
	LowerHeard struct {
		From     netip.Addr
		Priority uint8
	}

	// Wished reports that a held router would now be Active. State.Wish stays set until an advertisement is accepted.
	Wished struct{}

	// Transition reports a change of status: log, notifications, journal. It is the last action of its step.
	Transition struct {
		From, To Status
		Reason   string
		Silent   bool // keepalived tells nobody about this one: no notification, no log above debug level
		Takeover Takeover
	}

	// Ignored reports an event that changed nothing, and why.
	Ignored struct{ Reason string }
)

func (SendAdvert) action()   {}
func (Claim) action()        {}
func (Unclaim) action()      {}
func (BecomeActive) action() {}
func (LeaveActive) action()  {}
func (Announce) action()     {}
func (LowerHeard) action()   {}
func (Wished) action()       {}
func (Transition) action()   {}
func (Ignored) action()      {}

// String returns the action as one line for traces.
func (a SendAdvert) String() string { return fmt.Sprintf("send advert, priority %d", a.Priority) }

// String returns the action as one line for traces.
func (a Claim) String() string { return "claim: " + a.Kind.String() }

// String returns the action as one line for traces.
func (Unclaim) String() string { return "unclaim" }

// String returns the action as one line for traces.
func (BecomeActive) String() string { return "become active" }

// String returns the action as one line for traces.
func (a LeaveActive) String() string { return fmt.Sprintf("leave active for %v", a.To) }

// String returns the action as one line for traces.
func (a Announce) String() string {
	where := ""
	if a.Extra {
		where = " on other interfaces"
	}
	return fmt.Sprintf("announce, %d per address%s", a.Repeat, where)
}

// String returns the action as one line for traces.
func (a LowerHeard) String() string {
	return fmt.Sprintf("lower priority %d heard from %v", a.Priority, a.From)
}

// String returns the action as one line for traces.
func (Wished) String() string { return "wishes to be active" }

// String returns the action as one line for traces.
func (a Transition) String() string {
	silent := ""
	if a.Silent {
		silent = ", silently"
	}
	return fmt.Sprintf("transition %v -> %v%s: %s", a.From, a.To, silent, a.Reason)
}

// String returns the action as one line for traces.
func (a Ignored) String() string { return "ignored: " + a.Reason }
