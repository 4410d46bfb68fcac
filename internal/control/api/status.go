package api

// ClusterStatus is the answer of `hactl status`.
type ClusterStatus struct {
	Schema     string  `json:"schema"`
	Cluster    string  `json:"cluster"`    // "" without a cluster block
	Node       string  `json:"node"`       // whose answer this is
	At         Time    `json:"at"`         // that node's wall clock
	Consistent bool    `json:"consistent"` // false: a local view, the cluster may have moved on
	Protected  bool    `json:"protected"`  // false: something allows two owners; findings say what
	Verdict    Verdict `json:"verdict"`

	Quorum      Quorum        `json:"quorum"`
	Survives    *int          `json:"survives_failures"` // further failures that leave every group served; null when nobody can tell
	Leader      string        `json:"leader"`
	LeaderSince Time          `json:"leader_since,omitzero"`
	Term        uint64        `json:"term"`
	View        ViewOrigin    `json:"view"`
	Nodes       []NodeStatus  `json:"nodes"`
	Groups      []GroupStatus `json:"groups"`
	Maintenance []Maintenance `json:"maintenance"`
	Fences      []Fence       `json:"fences,omitempty"`
	Findings    []Finding     `json:"findings"`
	Last        *Event        `json:"last_event,omitempty"`    // the last change of an owner
	Recent      []Event       `json:"recent_events,omitempty"` // the last few events that this node knows, while it has no quorum
}

// Quorum counts voters.
type Quorum struct {
	OK                  bool     `json:"ok"`
	Voters              int      `json:"voters"`
	Needed              int      `json:"needed"`
	Reachable           int      `json:"reachable"` // that answer the node that was asked, itself included
	Unreachable         []string `json:"unreachable,omitempty"`
	MajorityLastContact Time     `json:"majority_last_contact,omitzero"` // while there is none
}

// ViewOrigin says whose view an answer is.
type ViewOrigin struct {
	Kind string `json:"kind"` // linearizable, local or standalone
	Via  string `json:"via"`  // node name
}

// NodeStatus is one line of the node table.
type NodeStatus struct {
	Name          string    `json:"name"`
	Role          Role      `json:"role"`
	State         NodeState `json:"state"`
	StateText     string    `json:"state_text,omitempty"`
	Address       string    `json:"address"`
	MemberID      string    `json:"member_id,omitempty"`
	Voter         bool      `json:"voter"`
	Leader        bool      `json:"leader"`
	Self          bool      `json:"self"`
	Groups        int       `json:"groups"` // owned
	RTTSeconds    Seconds   `json:"rtt_seconds,omitempty"`
	HeardSeconds  Seconds   `json:"last_heard_seconds,omitempty"`
	Guard         string    `json:"guard,omitempty"` // nftables ok, nftables missing, lifetime ok, none
	ClockSource   string    `json:"clock_source,omitempty"`
	Version       string    `json:"version,omitempty"`
	UptimeSeconds Seconds   `json:"uptime_seconds,omitempty"`
}

// GroupStatus is one line of the group table.
type GroupStatus struct {
	Name             string         `json:"name"`
	Owner            string         `json:"owner"`                // "" when nobody owns it or nobody can tell
	LastOwner        string         `json:"last_owner,omitempty"` // last owner known, while Owner is ""
	Owners           []string       `json:"owners,omitempty"`     // in a conflict: all who say so
	State            Ownership      `json:"state"`
	StateText        string         `json:"state_text,omitempty"`
	Protected        bool           `json:"protected"`
	Placed           bool           `json:"placed,omitempty"` // an operator moved it to its owner: preemption does not take it away
	Placement        *Placement     `json:"placement,omitempty"`
	Heir             string         `json:"heir,omitempty"`       // to whom the owner would hand it over with all that it has; "": to the successor
	HeirAlone        string         `json:"heir_alone,omitempty"` // and to whom if it kept its other groups
	Epoch            uint64         `json:"epoch"`
	LeaseSeconds     Seconds        `json:"lease_seconds"`
	LeaseLeftSeconds Seconds        `json:"lease_left_seconds"` // 0: no lease is known to be running
	Since            Time           `json:"since,omitzero"`     // of the present state: owned, or without owner, since then
	SinceSeconds     Seconds        `json:"since_seconds,omitempty"`
	VIPs             []string       `json:"vips"` // without prefix length
	Successor        string         `json:"successor,omitempty"`
	Candidates       []Candidate    `json:"candidates"` // every director, in the order in which they would take over
	Addresses        []VIPStatus    `json:"addresses"`
	Instances        []InstanceLine `json:"instances"`
}

// Candidate is one director's standing in a group.
type Candidate struct {
	Node                string     `json:"node"`
	State               GroupState `json:"state,omitempty"` // "" when the node did not answer
	Eligible            bool       `json:"eligible"`
	EffectivePriority   int        `json:"effective_priority,omitempty"`
	DownIntervalSeconds Seconds    `json:"down_interval_seconds,omitempty"`
	WhyNot              []Reason   `json:"why_not,omitempty"`
}

// InstanceLine is one vrrp_instance of a group over all nodes.
type InstanceLine struct {
	Name      string            `json:"name"`
	VRID      int               `json:"virtual_router_id"`
	Interface string            `json:"interface"`
	States    map[string]string `json:"states"`           // node to VRRP state
	Routes    []string          `json:"routes,omitempty"` // that the master has, as the first node with any has them configured
	Rules     []string          `json:"rules,omitempty"`  // likewise
}

// VIPStatus is one virtual address.
type VIPStatus struct {
	Address          string   `json:"address"` // without prefix length
	Group            string   `json:"group"`
	Owner            string   `json:"owner"`
	State            string   `json:"state"`     // the group's
	InKernel         []string `json:"in_kernel"` // nodes whose kernel has it
	LeaseLeftSeconds Seconds  `json:"lease_left_seconds"`
	Device           string   `json:"device"`
	Announced        Time     `json:"announced,omitzero"`
	DuplicateProbe   string   `json:"duplicate_probe,omitempty"`
	DuplicateProbeAt Time     `json:"duplicate_probe_at,omitzero"`
}

// Members is the answer of `hactl cluster members`.
type Members struct {
	Schema     string       `json:"schema"`
	Cluster    string       `json:"cluster"`
	Node       string       `json:"node"`
	Consistent bool         `json:"consistent"`
	View       ViewOrigin   `json:"view"`
	Members    []NodeStatus `json:"members"`
}

// VIPs is the answer of `hactl vip list`.
type VIPs struct {
	Schema     string      `json:"schema"`
	Cluster    string      `json:"cluster"`
	Node       string      `json:"node"`
	Consistent bool        `json:"consistent"`
	View       ViewOrigin  `json:"view"`
	VIPs       []VIPStatus `json:"vips"`
}

// Groups is the answer of `hactl group list`.
type Groups struct {
	Schema     string        `json:"schema"`
	Cluster    string        `json:"cluster"`
	Node       string        `json:"node"`
	Consistent bool          `json:"consistent"`
	View       ViewOrigin    `json:"view"`
	Groups     []GroupStatus `json:"groups"`
}

// Why is the answer of `hactl why GROUP`.
type Why struct {
	Schema     string       `json:"schema"`
	Cluster    string       `json:"cluster"`
	Node       string       `json:"node"`
	Consistent bool         `json:"consistent"`
	View       ViewOrigin   `json:"view"`
	Group      GroupStatus  `json:"group"`
	Because    []string     `json:"because"` // why this owner, or why none
	Others     []WhyOther   `json:"others"`
	IfFails    IfOwnerFails `json:"if_owner_fails"`
}

// WhyOther says why another director does not own the group.
type WhyOther struct {
	Node    string   `json:"node"`
	Because []string `json:"because"`
}

// IfOwnerFails predicts what follows when the owner's host is gone now.
type IfOwnerFails struct {
	Successor           string   `json:"successor"`             // "": nobody would take over
	WithinSeconds       Seconds  `json:"within_seconds"`        // bound for the takeover
	LeaseLeftSeconds    Seconds  `json:"lease_left_seconds"`    // nobody else is granted the group earlier
	DownIntervalSeconds Seconds  `json:"down_interval_seconds"` // of the successor
	NeedsElection       bool     `json:"needs_election"`        // the owner is also the leader of the log
	Text                []string `json:"text"`
}
