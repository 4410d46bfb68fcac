package vrrp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Protocol versions.
const (
	Version2 uint8 = 2 // RFC 3768
	Version3 uint8 = 3 // RFC 9568
)

// Priorities with a meaning of their own (RFC 9568 section 5.2.4).
const (
	PriorityResign  uint8 = 0   // the Active router gives up
	PriorityMin     uint8 = 1   // lowest priority of a backup
	PriorityDefault uint8 = 100 // priority where none is configured
	PriorityMax     uint8 = 254 // highest priority of a router that is not the address owner
	PriorityOwner   uint8 = 255 // the router owns the virtual addresses
)

// Family is the address family of a virtual router: one router never carries both (RFC 9568 section 1).
type Family uint8

// The families. The zero Family is not valid.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	}
	return fmt.Sprintf("family(%d)", uint8(f))
}

// Config is what an operator decides about one virtual router. A Config is not changed by the machine and may be
// replaced by another between two steps; timers that run keep running.
type Config struct {
	Name    string // of the vrrp_instance
	VRID    uint8  // 1..255
	Version uint8  // Version2 or Version3
	Family  Family

	// Priority is the base priority, 1..255. 255 is the address owner, whose priority never follows tracking.
	Priority uint8

	// AdvertInterval is Advertisement_Interval: the time between two advertisements that we send. Version 2: whole
	// seconds, 1 to 255. Version 3: whole centiseconds, 10 ms to 40.95 s.
	AdvertInterval time.Duration

	// DownTimerAdverts is the number of advertisement intervals in Active_Down_Interval, 1 to 100. The RFCs say 3.
	DownTimerAdverts int

	// Preempt lets this router take over from an Active router of lower priority (Preempt_Mode).
	Preempt bool

	// PreemptDelay is the time that must pass between the first advertisement of lower priority and preemption.
	PreemptDelay time.Duration

	// InitialActive is keepalived's "state MASTER": an owner starts as Active, another router starts as Backup with a
	// short down timer. The caller clears it for members of a sync group that are to begin as Backup.
	InitialActive bool

	OwnerIgnoreAdverts   bool // an owner does not look at advertisements at all
	HigherPrioSendAdvert bool // send one more advertisement before giving way to a higher priority
	LowerPrioNoAdvert    bool // do not answer an advertisement of lower priority with our own

	// TimerExpiredBackup, if not 0, is the priority whose skew decides that this process was not scheduled for too
	// long: an Active router whose last advertisement is older than three intervals plus that skew goes to Backup,
	// since another must have taken over. Only meaningful without Preempt.
	TimerExpiredBackup uint8

	GARP GARP

	// ExtraAnnounce is the period in which an Active router announces the addresses on other interfaces than its own
	// (keepalived's garp_extra_if); 0: none.
	ExtraAnnounce time.Duration

	// Local is our own source address on the link, for the comparison of equal priorities. It may change between
	// steps. While it is unset every other router of equal priority wins.
	Local netip.Addr

	// Gated says that a lease decides who may be Active. It must not change during the life of a State.
	Gated bool
}

// GARP holds the counts and times of gratuitous ARP messages and unsolicited neighbour advertisements.
type GARP struct {
	MasterRepeat        int           // messages per address on becoming Active, and again after MasterDelay
	MasterDelay         time.Duration // to the second burst; 0: no second burst
	MasterRefresh       time.Duration // period of the refresh while Active; 0: none
	MasterRefreshRepeat int           // messages per address of each refresh
	LowerPrioRepeat     int           // messages per address on hearing a lower priority; 0: none
	LowerPrioDelay      time.Duration // to the second such burst; 0: no second burst
}

// DefaultGARP returns keepalived's defaults.
func DefaultGARP() GARP {
	return GARP{
		MasterRepeat:        5,
		MasterDelay:         5 * time.Second,
		MasterRefreshRepeat: 1,
		LowerPrioRepeat:     5,
		LowerPrioDelay:      5 * time.Second,
	}
}

// Owner tells whether this router owns the virtual addresses (base priority 255).
func (c *Config) Owner() bool { return c.Priority == PriorityOwner }

// Validate reports all values that the machine cannot work with, joined into one error. The caller checks a Config once,
// before its first step; Step relies on it.
func (c *Config) Validate() error {
	var errs []error
	complain := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("virtual router %s: "+format, append([]any{c.Name}, args...)...))
	}
	if c.VRID == 0 {
		complain("virtual router identifier 0 is not in 1..255")
	}
	if c.Family != IPv4 && c.Family != IPv6 {
		complain("%v is neither IPv4 nor IPv6", c.Family)
	}
	if c.Priority == 0 {
		complain("priority 0 is not in 1..255")
	}
	switch c.Version {
	case Version2:
		if c.AdvertInterval < time.Second || c.AdvertInterval > 255*time.Second || c.AdvertInterval%time.Second != 0 {
			complain("advertisement interval %v is not a whole number of seconds in 1..255", c.AdvertInterval)
		}
	case Version3:
		if c.AdvertInterval < centisecond || c.AdvertInterval > 4095*centisecond || c.AdvertInterval%centisecond != 0 {
			complain("advertisement interval %v is not a whole number of centiseconds in 1..4095", c.AdvertInterval)
		}
	default:
		complain("version %d is neither 2 nor 3", c.Version)
	}
	if c.DownTimerAdverts < 1 || c.DownTimerAdverts > 100 {
		complain("%d advertisements in the down timer are not in 1..100", c.DownTimerAdverts)
	}
	if c.PreemptDelay < 0 {
		complain("preemption delay %v is negative", c.PreemptDelay)
	}
	if c.TimerExpiredBackup == PriorityOwner {
		complain("priority 255 of timer_expired_backup is not in 1..254")
	}
	if c.ExtraAnnounce < 0 {
		complain("period %v of announcements on other interfaces is negative", c.ExtraAnnounce)
	}
	if g := c.GARP; g.MasterRepeat < 0 || g.MasterDelay < 0 || g.MasterRefresh < 0 || g.MasterRefreshRepeat < 0 ||
		g.LowerPrioRepeat < 0 || g.LowerPrioDelay < 0 {
		complain("gratuitous ARP settings %+v hold a negative value", g)
	}
	return errors.Join(errs...)
}
