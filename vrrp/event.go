package vrrp

import (
	"fmt"
	"net/netip"
	"time"
)

// Event is something that happened to a virtual router. The set is closed: Start, Stop, Tick, Received, SetPriority,
// Faulted, Recovered, Granted, Yield, Reannounce, Defend, Hold, Unhold, Disturbed.
type Event interface {
	fmt.Stringer
	event()
}

type (
	// Start begins the router (RFC 9568 section 6.4.1). With a Delay all timers begin that much later and advertisements
	// are ignored until then (vrrp_startup_delay). In Fault it only sets the delay; Recovered then begins the router.
	Start struct{ Delay time.Duration }

	// Stop ends the router: an Active one resigns. The State may be started again.
	Stop struct{}

	// Tick says that time has passed. The caller sends it at Deadline; sent earlier it does nothing.
	Tick struct{}

	// Received is an advertisement that passed all checks of vrrp/packet.
	Received struct {
		From     netip.Addr    // source address
		Priority uint8         // 0: the sender resigns
		Interval time.Duration // advertised interval; version 3 learns it, version 2 does not look at it
		// Unleased: the router has a lease and the sender is known to have none; whatever its priority, it ranks below.
		Unleased bool
	}

	// SetPriority gives the effective priority that results from tracking, 1 to 254. An owner ignores it.
	SetPriority struct{ Priority uint8 }

	// Faulted says that the router may not run: the first tracked object failed, its interface went down, or a peer in
	// the sync group has a fault.
	Faulted struct {
		Reason string
		Silent bool // begin as Fault without telling anybody: the first results of tracked scripts are not in yet
		Peer   bool // the fault is that of another member of the sync group
	}

	// Recovered says that the last fault is gone, in the whole sync group.
	Recovered struct{}

	// Granted lets the router become Active now: gated, because its lease is held; ungated, because all members of its
	// sync group are ready. Sent to an Active router it is a renewed grant and makes it announce its addresses again.
	Granted struct{}

	// Yield makes an Active router Backup now, and a claiming one give up its claim; either way the full down timer
	// begins. The lease ended or was transferred, or a member of the sync group left.
	Yield struct {
		Reason       string
		ShortenPeers bool // send a priority 0 advertisement so that the others need not wait for their down timer
	}

	// Reannounce makes an Active router announce its addresses: its link came up, or a competitor was seen.
	Reannounce struct{}

	// Defend says that another member of the sync group heard an advertisement of lower priority: an Active router
	// announces its addresses as it would had it heard one itself. On its own link nobody needs to be told who is Active.
	Defend struct{}

	// Hold keeps the router from becoming Active or claiming by itself; it then sets Wish and emits Wished when its down
	// timer runs out, and starts that timer again. It stays in force, whatever the status, until Unhold.
	Hold struct{}

	// Unhold ends Hold. The down timer keeps running.
	Unhold struct{}

	// Disturbed says that somebody else removed a virtual address, route or rule of an Active router. An ungated router
	// resigns and comes back after the skew time, adding everything again; a gated one leaves the repair to its caller.
	Disturbed struct{ Reason string }
)

func (Start) event()       {}
func (Stop) event()        {}
func (Tick) event()        {}
func (Received) event()    {}
func (SetPriority) event() {}
func (Faulted) event()     {}
func (Recovered) event()   {}
func (Granted) event()     {}
func (Yield) event()       {}
func (Reannounce) event()  {}
func (Defend) event()      {}
func (Hold) event()        {}
func (Unhold) event()      {}
func (Disturbed) event()   {}

// String returns the event as one line for traces.
func (e Start) String() string {
	if e.Delay > 0 {
		return fmt.Sprintf("start, delayed by %v", e.Delay)
	}
	return "start"
}

// String returns the event as one line for traces.
func (Stop) String() string { return "stop" }

// String returns the event as one line for traces.
func (Tick) String() string { return "tick" }

// String returns the event as one line for traces.
func (e Received) String() string {
	return fmt.Sprintf("received priority %d from %v, interval %v", e.Priority, e.From, e.Interval)
}

// String returns the event as one line for traces.
func (e SetPriority) String() string { return fmt.Sprintf("set priority %d", e.Priority) }

// String returns the event as one line for traces.
func (e Faulted) String() string {
	switch {
	case e.Silent:
		return "faulted silently: " + e.Reason
	case e.Peer:
		return "faulted by a peer: " + e.Reason
	}
	return "faulted: " + e.Reason
}

// String returns the event as one line for traces.
func (Recovered) String() string { return "recovered" }

// String returns the event as one line for traces.
func (Granted) String() string { return "granted" }

// String returns the event as one line for traces.
func (e Yield) String() string {
	if e.ShortenPeers {
		return "yield, shortening the peers' timers: " + e.Reason
	}
	return "yield: " + e.Reason
}

// String returns the event as one line for traces.
func (Reannounce) String() string { return "reannounce" }

// String returns the event as one line for traces.
func (Defend) String() string { return "defend" }

// String returns the event as one line for traces.
func (Hold) String() string { return "hold" }

// String returns the event as one line for traces.
func (Unhold) String() string { return "unhold" }

// String returns the event as one line for traces.
func (e Disturbed) String() string { return "disturbed: " + e.Reason }
