package api

// Caller is who asks for an action, from the credentials that the kernel attests on the control socket.
type Caller struct {
	User string `json:"user"` // name, or uid as a number
	UID  uint32 `json:"uid"`
	PID  int32  `json:"pid"`
}

// Request asks for an action.
type Request interface {
	Patience() Seconds // how long whoever asks waits for the outcome; 0: as long as the daemon thinks fit
}

// The Patience of each request.
func (r MoveRequest) Patience() Seconds        { return r.TimeoutSeconds }
func (r MaintenanceRequest) Patience() Seconds { return r.TimeoutSeconds }
func (r FenceRequest) Patience() Seconds       { return r.TimeoutSeconds }
func (r RemovalRequest) Patience() Seconds     { return r.TimeoutSeconds }
func (r ForceRequest) Patience() Seconds       { return r.TimeoutSeconds }
func (r LVSRequest) Patience() Seconds         { return 0 }

// MoveRequest asks that groups change their owner.
type MoveRequest struct {
	Groups         []string `json:"groups,omitempty"` // names; or All with From
	All            bool     `json:"all,omitempty"`
	From           string   `json:"from,omitempty"`
	To             string   `json:"to,omitempty"` // "": the next candidate
	Reason         string   `json:"reason,omitempty"`
	TimeoutSeconds Seconds  `json:"timeout_seconds,omitempty"`
}

// MovePlan is what a MoveRequest would do.
type MovePlan struct {
	Schema string     `json:"schema"`
	Steps  []MoveStep `json:"steps"`
}

// MoveStep is one group of a plan.
type MoveStep struct {
	Group                       string   `json:"group"`
	From                        string   `json:"from"`
	To                          string   `json:"to"`
	VIPs                        []string `json:"vips"`
	Nothing                     bool     `json:"nothing,omitempty"` // it is there already
	ExpectedInterruptionSeconds Seconds  `json:"expected_interruption_seconds"`
	Warnings                    []string `json:"warnings,omitempty"`
	Refused                     *Problem `json:"refused,omitempty"`
}

// MoveOutcome is what was observed.
type MoveOutcome struct {
	Schema              string  `json:"schema"`
	Group               string  `json:"group"`
	From                string  `json:"from"`
	To                  string  `json:"to"`
	Epoch               uint64  `json:"epoch"`
	Nothing             bool    `json:"nothing,omitempty"`
	Phases              []Phase `json:"phases,omitempty"`
	InterruptionSeconds Seconds `json:"interruption_seconds"` // from the old owner's guard shut to the new owner's announcement; 0 if not measured
	Text                string  `json:"text,omitempty"`
}

// Phase is one observed part of an action.
type Phase struct {
	Text    string  `json:"text"` // released by lb1, lease granted to lb2 (epoch 14), answers from lb2
	Seconds Seconds `json:"seconds"`
}

// MaintenanceRequest puts a node into maintenance or takes it out.
type MaintenanceRequest struct {
	Node           string   `json:"node"` // "": the node that is asked
	On             bool     `json:"on"`
	ForSeconds     Seconds  `json:"for_seconds,omitempty"` // 0: until taken off
	Reason         string   `json:"reason,omitempty"`
	Override       []string `json:"override,omitempty"` // names of safety checks to pass over
	TimeoutSeconds Seconds  `json:"timeout_seconds,omitempty"`
}

// MaintenancePlan is what a MaintenanceRequest would do.
type MaintenancePlan struct {
	Schema  string     `json:"schema"`
	Node    string     `json:"node"`
	On      bool       `json:"on"`
	Until   Time       `json:"until,omitzero"`
	Steps   []MoveStep `json:"steps,omitempty"` // groups that leave the node
	Nothing bool       `json:"nothing,omitempty"`
	Refused *Problem   `json:"refused,omitempty"`
}

// MaintenanceOutcome is what was observed.
type MaintenanceOutcome struct {
	Schema  string         `json:"schema"`
	Mark    Maintenance    `json:"mark"`
	On      bool           `json:"on"`
	Moved   []DrainedGroup `json:"moved,omitempty"`
	Remains []string       `json:"remains,omitempty"` // groups that the node still owns
}

// DrainedGroup is a group that has left a node in maintenance.
type DrainedGroup struct {
	Group   string  `json:"group"`
	To      string  `json:"to"` // "": nobody
	Seconds Seconds `json:"seconds"`
}

// MaintenanceList is the answer of `hactl maintenance list`.
type MaintenanceList struct {
	Schema      string        `json:"schema"`
	Cluster     string        `json:"cluster"`
	Node        string        `json:"node"`
	Consistent  bool          `json:"consistent"`
	View        ViewOrigin    `json:"view"`
	Maintenance []Maintenance `json:"maintenance"`
}

// Kinds of events that programs may rely on. The set is open: further kinds are added.
const (
	EventGrant       = "grant"       // a group has a new owner
	EventTransfer    = "transfer"    // the owner is asked to hand over
	EventRelease     = "release"     // the owner has given a group up
	EventLapse       = "lapse"       // a lease ended without a release
	EventUnowned     = "unowned"     // nobody owns a group, and why
	EventClaim       = "claim"       // a director asks for a group, or was refused
	EventVRRP        = "vrrp"        // a VRRP state changed
	EventFence       = "fence"       // a node was switched off, or was to be
	EventMember      = "member"      // a member came, went, joined or was removed
	EventLeader      = "leader"      // another leader of the log
	EventQuorum      = "quorum"      // a majority was lost or is back
	EventMaintenance = "maintenance" // a mark was set, taken off, or has expired
	EventStranger    = "stranger"    // a machine outside the cluster uses our VRID or address
	EventGuard       = "guard"       // the guard was damaged or repaired
	EventAddress     = "address"     // a virtual address was removed or added by others
	EventNode        = "node"        // start, stop, disk, clock
)

// Event is one line of the journal. Seq grows on the node that serves it and is the cursor for "since"; Index is the
// log index of a replicated event and 0 for what only that node has seen.
type Event struct {
	Seq      uint64   `json:"seq"`
	Index    uint64   `json:"index,omitempty"`
	ID       string   `json:"id,omitempty"` // the same on every node
	Time     Time     `json:"time"`
	Severity Severity `json:"severity"`
	Kind     string   `json:"kind"`
	Node     string   `json:"node,omitempty"`
	Group    string   `json:"group,omitempty"`
	Epoch    uint64   `json:"epoch,omitempty"`
	Text     string   `json:"text"`
	Reason   string   `json:"reason,omitempty"`
	By       string   `json:"by,omitempty"`
}

// EventPage is the answer of `hactl events -o json`.
type EventPage struct {
	Schema string  `json:"schema"`
	Node   string  `json:"node"`
	Events []Event `json:"events"`
	Next   uint64  `json:"next"`           // cursor for the next page
	Lost   bool    `json:"lost,omitempty"` // events before the first one are no longer kept
}

// VersionInfo is the answer of `hactl version`.
type VersionInfo struct {
	Schema string `json:"schema"`
	Client string `json:"client"`
	Node   string `json:"node,omitempty"`
	Server string `json:"server,omitempty"`
}

// ReloadOutcome is what a reload of the configuration has changed.
type ReloadOutcome struct {
	Schema    string         `json:"schema"`
	Node      string         `json:"node"`
	Config    string         `json:"config"` // the file
	Nothing   bool           `json:"nothing,omitempty"`
	Summary   string         `json:"summary"`
	Unchanged int            `json:"unchanged"` // instances, groups and scripts that were not touched
	Changes   []ReloadChange `json:"changes"`
	Findings  []string       `json:"findings"` // warnings about the new configuration
}

// ReloadChange is one named block that a reload has changed.
type ReloadChange struct {
	Kind   string `json:"kind"` // vrrp_instance, vrrp_sync_group, vrrp_script
	Name   string `json:"name"`
	Change string `json:"change"` // changed, added, removed
}
