package api

import (
	"fmt"
	"math"
	"time"
)

// Time is a wall clock time, for display and the journal only. It prints as RFC 3339 in UTC with milliseconds; the
// zero Time means "not known" and is left out of JSON.
type Time struct{ time.Time }

// At wraps t.
func At(t time.Time) Time { return Time{t} }

const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// String returns RFC 3339 in UTC with milliseconds, or "" for the zero Time.
func (t Time) String() string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

// MarshalJSON prints String in quotes.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.String() + `"`), nil
}

// UnmarshalJSON reads any RFC 3339 time; "" and null give the zero Time.
func (t *Time) UnmarshalJSON(b []byte) error {
	s := string(b)
	if s == `""` || s == "null" {
		t.Time = time.Time{}
		return nil
	}
	parsed, err := time.Parse(`"`+time.RFC3339Nano+`"`, s)
	if err != nil {
		return fmt.Errorf("parse time %s: %w", s, err)
	}
	t.Time = parsed.UTC()
	return nil
}

// Seconds is a span in seconds, rounded to a microsecond.
type Seconds float64

// SecondsOf converts d.
func SecondsOf(d time.Duration) Seconds {
	return Seconds(math.Round(d.Seconds()*1e6) / 1e6)
}

// Duration converts back.
func (s Seconds) Duration() time.Duration {
	return time.Duration(math.Round(float64(s)*1e6)) * time.Microsecond
}

// Role is what a node is in its cluster.
type Role string

// The roles of a node. A node without a cluster block is Standalone: nothing protects its addresses from a second owner.
const (
	Director   Role = "director"
	Witness    Role = "witness"
	Standalone Role = "standalone"
)

// NodeState says whether a node does its part.
type NodeState string

// The states of a node. A node reports one of the first six about itself; the others are found by the composition
// of the cluster's status.
const (
	NodeReady       NodeState = "ready"       // takes part
	NodeStarting    NodeState = "starting"    // founding, joining or catching up
	NodeAbstaining  NodeState = "abstaining"  // a voter that has just started: it helps nobody before its old promises are over
	NodeUnfit       NodeState = "unfit"       // takes part badly: disk hangs, clock drifts
	NodeLeaving     NodeState = "leaving"     // stopping
	NodeFault       NodeState = "fault"       // every group of this director is in fault
	NodeUnreachable NodeState = "unreachable" // answers nothing
	NodeSilent      NodeState = "silent"      // is heard, but did not report
	NodeMaintenance NodeState = "maintenance" // takes no groups because an operator said so
)

// GroupState is one node's own word about an ownership group.
type GroupState string

// The states of a group on one node.
const (
	GroupOwner      GroupState = "owner"      // holds the lease (or, standalone, is VRRP's Active)
	GroupBackup     GroupState = "backup"     // could take over
	GroupClaiming   GroupState = "claiming"   // asks for the lease, sends nothing
	GroupFault      GroupState = "fault"      // a tracked thing failed
	GroupIneligible GroupState = "ineligible" // healthy for VRRP, but may not own: WhyNot says why
	GroupInit       GroupState = "init"       // not started
)

// Ownership is the composed state of a group in the cluster.
type Ownership string

// The composed states of a group.
const (
	Owned       Ownership = "owned"       // one node holds a running lease
	HandingOver Ownership = "handover"    // the owner has been asked to step down for a successor
	Claiming    Ownership = "claiming"    // nobody owns it, a director is asking for it
	Unowned     Ownership = "unowned"     // nobody owns it and nobody is asking
	Unconfirmed Ownership = "unconfirmed" // the recorded owner does not answer the node that was asked, but may well be serving
	Unknown     Ownership = "unknown"     // no quorum here: the cluster may have moved on
	Held        Ownership = "held"        // quorum_loss hold: kept without a majority, unprotected
	Unprotected Ownership = "unprotected" // no lease decides: VRRP alone
	Conflict    Ownership = "conflict"    // two nodes say that they own it
)

// Severity orders findings and events.
type Severity string

// The severities.
const (
	Info  Severity = "info"
	Warn  Severity = "warn"
	Error Severity = "error"
)

// Verdict is the first word of the status.
type Verdict string

// The verdicts. Degraded: every group is served but something is missing. Critical: a group has no owner, or two.
const (
	Healthy      Verdict = "healthy"
	Degraded     Verdict = "degraded"
	Critical     Verdict = "critical"
	NoQuorum     Verdict = "no quorum"
	NotProtected Verdict = "unprotected"
)

// Short prints the span in the unit that fits, with two significant parts at most: 0.3ms, 41ms, 2.6s, 42s, 3m02s,
// 1h12m, 6d02h. A negative span prints as 0s.
func (s Seconds) Short() string {
	d := s.Duration()
	switch {
	case d <= 0:
		return "0s"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Round(time.Millisecond).Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", math.Floor(d.Seconds()*10)/10)
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}
