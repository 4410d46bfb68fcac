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
