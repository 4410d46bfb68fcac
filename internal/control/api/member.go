package api

// RemovalRequest asks to take a member out of the cluster for good.
type RemovalRequest struct {
	Node           string  `json:"node"`
	Reason         string  `json:"reason,omitempty"`
	TimeoutSeconds Seconds `json:"timeout_seconds,omitempty"`
}

// RemovalOutcome is the answer to POST /v1/member/remove.
type RemovalOutcome struct {
	Schema   string `json:"schema"`
	Node     string `json:"node"`
	MemberID string `json:"member_id"`
	Told     bool   `json:"told"`   // the member answered: it knows, and stays out until it starts with an empty data directory
	Voters   int    `json:"voters"` // that are left
}

// ForceRequest asks to make the asked node the only voter.
type ForceRequest struct {
	Dead           []string `json:"dead"`               // nodes: all the other voters that do not answer
	Attested       []string `json:"attested,omitempty"` // those that a person has seen to be off, whatever their fence devices say
	Reason         string   `json:"reason,omitempty"`
	TimeoutSeconds Seconds  `json:"timeout_seconds,omitempty"`
}

// ForceOutcome is the answer to POST /v1/force-quorum. The node begins anew after it.
type ForceOutcome struct {
	Schema string   `json:"schema"`
	Node   string   `json:"node"`
	Dead   []string `json:"dead"`
	Method string   `json:"method"` // how they are known to be off
}

// Forced is what the log says of the newest time that a node was made the only voter.
type Forced struct {
	Node   string   `json:"node"`
	At     Time     `json:"at"`
	Dead   []string `json:"dead"`
	Method string   `json:"method,omitempty"`
	Person string   `json:"person,omitempty"`
	Reason string   `json:"reason,omitempty"`
}
