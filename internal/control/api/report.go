package api

// NodeReport is what one node knows for itself, taken at one moment from one process. It needs no quorum. A director
// fills everything; a witness has no instances, no groups, no guard and no gateways.
type NodeReport struct {
	Schema        string    `json:"schema"`
	Node          string    `json:"node"`
	Role          Role      `json:"role"`
	State         NodeState `json:"state"`
	StateText     string    `json:"state_text,omitempty"` // why the state is not ready, one line
	MemberID      string    `json:"member_id,omitempty"`
	Address       string    `json:"address,omitempty"`
	Version       string    `json:"version"`
	Life          string    `json:"life,omitempty"` // id of this process life, 16 hex digits
	At            Time      `json:"at"`             // the node's own wall clock
	StartedAt     Time      `json:"started_at,omitzero"`
	UptimeSeconds Seconds   `json:"uptime_seconds"`

	ClockSource        string `json:"clock_source,omitempty"` // the kernel's: tsc, kvm-clock...
	ClockSourceWarning string `json:"clock_source_warning,omitempty"`

	Cluster   *Membership      `json:"cluster,omitempty"` // nil without a cluster block
	Guard     *GuardReport     `json:"guard,omitempty"`
	Instances []InstanceReport `json:"instances,omitempty"`
	Groups    []GroupReport    `json:"groups,omitempty"`
	Gateways  []GatewayReport  `json:"gateways,omitempty"`
	Promises  []Promise        `json:"promises,omitempty"`
	Findings  []Finding        `json:"findings,omitempty"` // what this node itself has to complain about
}

// Membership is how one node sees its cluster.
type Membership struct {
	Name                string  `json:"name"`
	ClusterID           string  `json:"cluster_id,omitempty"`
	Leader              string  `json:"leader,omitempty"` // node name
	Term                uint64  `json:"term"`
	AppliedIndex        uint64  `json:"applied_index"`
	Founding            string  `json:"founding,omitempty"` // "", or what founding or joining waits for
	LeaseSeconds        Seconds `json:"lease_seconds"`      // D as configured or derived here
	QuorumLoss          string  `json:"quorum_loss"`        // demote or hold
	Arbitration         string  `json:"arbitration"`        // majority or gateway
	Quorum              bool    `json:"quorum"`             // a majority of voters answered this node within the last lease
	Voters              int     `json:"voters"`
	Reachable           int     `json:"reachable"`                      // voters that answer this node, itself included
	MajorityLastContact Time    `json:"majority_last_contact,omitzero"` // last time that a majority answered
	DiskText            string  `json:"disk_text,omitempty"`            // "" when healthy
	Peers               []Peer  `json:"peers"`
}

// Peer is another configured member as this node sees it.
type Peer struct {
	Name             string  `json:"name"`
	Role             Role    `json:"role"`
	Address          string  `json:"address"`
	Reachable        bool    `json:"reachable"`
	RTTSeconds       Seconds `json:"rtt_seconds,omitempty"`
	LastHeardSeconds Seconds `json:"last_heard_seconds,omitempty"` // 0 while never heard
	Error            string  `json:"error,omitempty"`              // last connection error while unreachable
	Version          string  `json:"version,omitempty"`
	Gossip           string  `json:"gossip,omitempty"`         // alive, suspect, dead, left or unknown: a hint only
	LeaseSeconds     Seconds `json:"lease_seconds,omitempty"`  // as configured there
	ConfigDiffers    bool    `json:"config_differs,omitempty"` // its cluster block names other members
}

// GuardReport says whether the kernel enforces the leases of this node.
type GuardReport struct {
	Kind string `json:"kind"` // nftables, lifetime or none
	OK   bool   `json:"ok"`
	Text string `json:"text,omitempty"` // what is wrong, or since when it was repaired
}

// InstanceReport is one vrrp_instance.
type InstanceReport struct {
	Name                  string            `json:"name"`
	Group                 string            `json:"group"`
	State                 string            `json:"state"` // INIT, BACKUP, MASTER or FAULT
	Since                 Time              `json:"since,omitzero"`
	Interface             string            `json:"interface"`
	VRID                  int               `json:"virtual_router_id"`
	Version               int               `json:"version"`
	Family                string            `json:"family"` // ipv4 or ipv6
	Unicast               bool              `json:"unicast,omitempty"`
	Priority              int               `json:"priority"` // configured
	EffectivePriority     int               `json:"effective_priority"`
	AdvertIntervalSeconds Seconds           `json:"advert_interval_seconds"`
	DownIntervalSeconds   Seconds           `json:"down_interval_seconds"` // Active_Down_Interval at the effective priority
	Preempt               bool              `json:"preempt"`
	PreemptDelaySeconds   Seconds           `json:"preempt_delay_seconds,omitempty"`
	Source                string            `json:"source,omitempty"` // primary address, the tie-break
	VIPs                  []string          `json:"vips"`             // configured, with prefix length
	Routes                []string          `json:"routes,omitempty"` // configured; in the kernel while the state is MASTER
	Rules                 []string          `json:"rules,omitempty"`  // likewise
	LastSentSeconds       Seconds           `json:"last_sent_seconds,omitempty"`
	AdvertsSent           uint64            `json:"adverts_sent"`
	AdvertsReceived       uint64            `json:"adverts_received"`
	Heard                 []AdvertSource    `json:"heard,omitempty"`   // whose adverts arrive here
	Dropped               map[string]uint64 `json:"dropped,omitempty"` // adverts not accepted, by verdict
	Tracks                []Track           `json:"tracks,omitempty"`
	FaultReasons          []string          `json:"fault_reasons,omitempty"`
}

// AdvertSource is a sender of VRRP adverts for one of our virtual routers. A node need not know whose address it is: the
// composition finds out from the other nodes' reports.
type AdvertSource struct {
	Address    string  `json:"address"`
	Node       string  `json:"node,omitempty"` // "" if not known
	Priority   int     `json:"priority"`
	AgoSeconds Seconds `json:"ago_seconds"`
}

// Track is a tracked script, interface, file, process or gateway.
type Track struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Up     bool   `json:"up"`
	Weight int    `json:"weight"` // 0: down means FAULT
	Text   string `json:"text,omitempty"`
}

// GroupReport is one ownership group on one node.
type GroupReport struct {
	Name              string          `json:"name"`
	State             GroupState      `json:"state"`
	Since             Time            `json:"since,omitzero"`
	Epoch             uint64          `json:"epoch"` // of the lease held, or the highest seen
	LeaseSeconds      Seconds         `json:"lease_seconds,omitempty"`
	LeaseLeftSeconds  Seconds         `json:"lease_left_seconds"` // 0 unless this node holds the lease
	LapsedAt          Time            `json:"lapsed_at,omitzero"` // when the last lease of this node ended without a release
	Unprotected       bool            `json:"unprotected,omitempty"`
	UnprotectedText   string          `json:"unprotected_text,omitempty"` // hold, arbitration gateway, guard none, no cluster block
	EffectivePriority int             `json:"effective_priority"`         // lowest of its instances
	Eligible          bool            `json:"eligible"`                   // could own it if the present owner went away
	WhyNot            []Reason        `json:"why_not,omitempty"`          // if not eligible
	Claim             *Claim          `json:"claim,omitempty"`            // while claiming
	Guard             string          `json:"guard,omitempty"`            // open, shut or none
	Placement         *Placement      `json:"placement,omitempty"`        // what the rules for places say, as this node sees it
	Strangers         []Stranger      `json:"strangers,omitempty"`
	Addresses         []AddressReport `json:"addresses"`
}

// Placement is where a group is to be by the group blocks and max_groups of the cluster block.
type Placement struct {
	Node  string `json:"node,omitempty"`  // empty: they do not say, or nobody could own it
	Text  string `json:"text,omitempty"`  // why, and what it waits for, after the name of the group
	Rules string `json:"rules,omitempty"` // of the node's file
	Heir  string `json:"heir,omitempty"`  // that is to have it if its owner, this node, gives all its groups away; empty: they do not say
	// HeirAlone is to have it if its owner gives away this one and keeps the others.
	HeirAlone string `json:"heir_alone,omitempty"`
}

// Reason is one named cause.
type Reason struct {
	Code  string `json:"code"` // stable word: maintenance ([ReasonMaintenance]), fault, no-quorum, gateway, abstaining, stranger...
	Text  string `json:"text"` // one line for people
	Since Time   `json:"since,omitzero"`
}

// ReasonMaintenance is the code of a reason of a node that takes no groups because an operator said so.
const ReasonMaintenance = "maintenance"

// Claim is a request for ownership under way.
type Claim struct {
	ForSeconds  Seconds `json:"for_seconds"`
	Attempts    int     `json:"attempts"`
	LastRefusal string  `json:"last_refusal,omitempty"`
}

// Stranger is a machine outside the cluster that uses our VRID or our address.
type Stranger struct {
	Kind       string  `json:"kind"` // vrrp, arp or nd
	Address    string  `json:"address"`
	MAC        string  `json:"mac,omitempty"`
	Interface  string  `json:"interface"`
	Priority   int     `json:"priority,omitempty"`
	AgoSeconds Seconds `json:"ago_seconds"`
}

// AddressReport is one virtual address on one node.
type AddressReport struct {
	Address              string  `json:"address"` // with prefix length
	Device               string  `json:"device"`
	InKernel             bool    `json:"in_kernel"`
	ValidSeconds         Seconds `json:"valid_seconds,omitempty"` // address lifetime left, 0 for none
	Announced            Time    `json:"announced,omitzero"`
	DuplicateProbe       string  `json:"duplicate_probe,omitempty"` // clean, or whose hardware address answered
	DuplicateProbeAt     Time    `json:"duplicate_probe_at,omitzero"`
	ExcludedFromAdverts  bool    `json:"excluded_from_adverts,omitempty"` // virtual_ipaddress_excluded
	RemovedByOthersCount uint64  `json:"removed_by_others_count,omitempty"`
}

// GatewayReport is one probed gateway.
type GatewayReport struct {
	Address string `json:"address"`
	Method  string `json:"method"` // icmp or arp
	Up      bool   `json:"up"`
	Since   Time   `json:"since,omitzero"`
	Text    string `json:"text,omitempty"` // why the last probe failed
}

// Promise is what this node's voter has promised to the owner of a group: while LeftSeconds is above zero the voter
// helps nobody else. Below zero the promise has been over for that long. It is how a node knows about an owner that it
// cannot ask: a running lease is promised by a majority of voters.
type Promise struct {
	Group       string  `json:"group"`
	Epoch       uint64  `json:"epoch"`
	Holder      string  `json:"holder"` // node name
	LeftSeconds Seconds `json:"left_seconds"`
}

// Finding is a condition worth an operator's attention, with a stable code.
type Finding struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`           // one line
	Next     string   `json:"next,omitempty"` // a command, or what to do
	Node     string   `json:"node,omitempty"`
	Group    string   `json:"group,omitempty"`
}

// View is the replicated state as one node has applied it.
type View struct {
	Consistent   bool          `json:"consistent"` // confirmed by the leader for this very request
	Via          string        `json:"via"`        // the leader that confirmed it, or the node whose copy it is
	AppliedIndex uint64        `json:"applied_index"`
	Leader       string        `json:"leader,omitempty"` // node name
	LeaderSince  Time          `json:"leader_since,omitzero"`
	Term         uint64        `json:"term"`
	Members      []Member      `json:"members"`
	Groups       []GroupRecord `json:"groups"`
	Maintenance  []Maintenance `json:"maintenance"`
	Fences       []Fence       `json:"fences,omitempty"`
	Forced       *Forced       `json:"forced,omitempty"` // nil: no majority was ever done without
}

// Member is one entry of the committed Raft configuration.
type Member struct {
	ID      string `json:"id"`   // lb1/3f9a1c20
	Name    string `json:"name"` // lb1
	Role    Role   `json:"role"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
}

// GroupRecord is what the log says about a group.
type GroupRecord struct {
	Name      string `json:"name"`
	Owner     string `json:"owner,omitempty"` // node name of the last grant, "" after a release
	OwnerID   string `json:"owner_id,omitempty"`
	LastOwner string `json:"last_owner,omitempty"` // node name of the last grant, also after its release
	Epoch     uint64 `json:"epoch"`
	Since     Time   `json:"since,omitzero"` // of the grant, or of the release if there is no owner
	Reason    string `json:"reason,omitempty"`
	Placed    bool   `json:"placed,omitempty"`    // an operator moved it to its owner: preemption does not take it away
	Successor string `json:"successor,omitempty"` // node name while a transfer is pending
}

// Maintenance is one mark in force.
type Maintenance struct {
	Node   string `json:"node"`
	Since  Time   `json:"since,omitzero"`
	Until  Time   `json:"until,omitzero"` // zero: until somebody takes it off
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// PeerReport is the answer of another member, or why there is none.
type PeerReport struct {
	Name    string      `json:"name"`
	Role    Role        `json:"role"`
	Address string      `json:"address"`
	Report  *NodeReport `json:"report,omitempty"`
	Error   string      `json:"error,omitempty"`
}

// Gathered is everything that a composition of the cluster's status starts from.
type Gathered struct {
	At    Time         `json:"at"` // wall clock of the node that gathered
	Self  NodeReport   `json:"self"`
	Peers []PeerReport `json:"peers"`          // all other configured members, in the order of the file
	View  *View        `json:"view,omitempty"` // nil without a cluster block
}
