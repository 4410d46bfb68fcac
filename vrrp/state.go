package vrrp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hactl/had/internal/clock"
)

// Status is the state of a virtual router in the words of RFC 9568 section 6.4, with Fault added as in keepalived.
type Status uint8

// The statuses.
const (
	Initialize Status = iota // not started, or stopped
	Backup                   // watches the Active router; a gated one may be claiming
	Active                   // holds the virtual addresses and advertises
	Fault                    // something it tracks has failed: takes no part
)

// String returns the RFC's name in lower case.
func (s Status) String() string {
	switch s {
	case Initialize:
		return "initialize"
	case Backup:
		return "backup"
	case Active:
		return "active"
	case Fault:
		return "fault"
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// KeepalivedName returns the name that keepalived's surfaces use (notify arguments, FIFO lines, logs, status): INIT,
// BACKUP, MASTER or FAULT. This is the only place that maps between the two vocabularies.
func (s Status) KeepalivedName() string {
	switch s {
	case Initialize:
		return "INIT"
	case Backup:
		return "BACKUP"
	case Active:
		return "MASTER"
	case Fault:
		return "FAULT"
	}
	return "UNKNOWN"
}

// State is one virtual router at one moment. The zero State is a router that was not started; States compare with ==.
// Fields are for reading; only Step makes new States. A timer that is zero is not armed.
type State struct {
	Status Status

	// Priority is the effective priority, 1 to 254, or 255 for an owner. 0 until the first step.
	Priority uint8

	// Held: Hold is in force. Wish: the router would be Active were it not held; only in Backup, only when Held.
	Held, Wish bool

	// Claiming: gated only, in Backup only, with DownAt unarmed. Claim is why; it is 0 unless Claiming.
	Claiming bool
	Claim    ClaimKind

	// Unannounced: the Fault began silently and nobody was told yet. Only in Fault.
	Unannounced bool

	// ActiveInterval is Active_Adver_Interval: in version 3 the interval learned from the Active router, else our own.
	// It is set whenever the router was started.
	ActiveInterval time.Duration

	// ActiveFrom and ActivePriority are those of the last accepted advertisement; unset while we are Active ourselves.
	ActiveFrom     netip.Addr
	ActivePriority uint8

	// Resigned: the last Active router has said priority 0, and no other was heard since. Only in Backup.
	Resigned bool

	QuietUntil clock.Time // advertisements are ignored until then (startup delay)
	DownAt     clock.Time // Active_Down_Timer: armed in Backup unless claiming
	PreemptAt  clock.Time // end of preempt_delay; zero: no lower priority was heard yet. Not a deadline.
	LowerUntil clock.Time // a router of lower priority counts as alive until then; a deadline while Claim is Preempt

	// SettledAt is one interval after the grant of a gated router. A higher rank heard before may be the last word of
	// the router that handed over to us, overtaken on its way by the grant; a living one speaks again.
	SettledAt clock.Time

	AdvertAt        clock.Time // Adver_Timer: armed exactly when Active
	AnnounceAt      clock.Time // second burst of announcements after becoming Active
	RefreshAt       clock.Time // next periodic announcement
	LowerAnnounceAt clock.Time // second burst after hearing a lower priority
	ExtraAt         clock.Time // next periodic announcement on other interfaces

	// Another owner of lower address is heard while we are an Active owner: first ConflictAdverts more advertisements
	// are sent, then we wait until ConflictAt, of ConflictInterval 1.2 times, for the other to fall silent.
	ConflictFrom     netip.Addr
	ConflictAdverts  uint8
	ConflictHeard    bool
	ConflictInterval time.Duration
	ConflictAt       clock.Time

	// Lowered: an owner gave way to another owner and runs with priority 254 until that one is gone.
	Lowered bool
}

// Deadline returns when the machine next wants a Tick; zero if it waits for nothing but events, which is so in
// Initialize, in Fault, and in Backup while claiming because no Active router is heard.
func (s State) Deadline() clock.Time {
	switch s.Status {
	case Backup:
		if s.Claiming {
			if s.Claim == Preempt {
				return s.LowerUntil
			}
			return 0
		}
		return s.DownAt
	case Active:
		return clock.Earliest(s.AdvertAt, s.AnnounceAt, s.RefreshAt, s.LowerAnnounceAt, s.ExtraAt, s.ConflictAt)
	}
	return 0
}

// Check reports a combination of fields that must not exist, as a defence for tests and simulations: nil for every State
// that Step returns.
func (s State) Check(cfg *Config) error {
	var errs []error
	must := func(ok bool, rule string) {
		if !ok {
			errs = append(errs, fmt.Errorf("virtual router %s: %s: %+v", cfg.Name, rule, s))
		}
	}
	running := s.Status == Backup || s.Status == Active
	must(s.Status <= Fault, "the status is one of the four")
	must(!running || s.Priority > 0, "a running router has a priority")
	must(!running || s.ActiveInterval > 0, "a running router has an interval")
	must(s.Status == Active || s.AdvertAt == 0 && s.AnnounceAt == 0 && s.RefreshAt == 0 && s.LowerAnnounceAt == 0 && s.ExtraAt == 0,
		"only an active router has advertisement and announcement timers")
	must(s.SettledAt == 0 || cfg.Gated && s.Status == Active, "only a gated active router settles")
	must(s.Status == Active || s.ConflictAt == 0 && s.ConflictAdverts == 0, "only an active router is in conflict")
	must(s.Status != Active || s.AdvertAt != 0, "an active router has an advertisement timer")
	must(s.Status == Backup || s.DownAt == 0 && s.PreemptAt == 0 && s.LowerUntil == 0, "only a backup has a down timer")
	must(s.Status != Backup || s.Claiming == (s.DownAt == 0), "a backup either claims or has a down timer")
	must(!s.Claiming || cfg.Gated && s.Status == Backup && !s.Held, "only a gated backup that is not held claims")
	must(s.Claiming == (s.Claim != 0), "a claim has a kind")
	must(s.Claim != Preempt || s.LowerUntil != 0, "a claim to preempt has an end")
	must(!s.Wish || s.Status == Backup && s.Held, "only a held backup wishes")
	must(!s.Unannounced || s.Status == Fault, "only a fault is silent")
	must(!s.Lowered || cfg.Owner() && s.Status == Backup && s.Priority == PriorityMax, "only an owner is lowered")
	must(!cfg.Owner() || s.Lowered || s.Priority == 0 || s.Priority == PriorityOwner, "an owner has priority 255")
	must(cfg.Owner() || s.Priority <= PriorityMax, "only an owner has priority 255")
	return errors.Join(errs...)
}
