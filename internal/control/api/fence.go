package api

// Fence is the newest that the log says of the fencing of a node.
type Fence struct {
	Node   string `json:"node"`
	Stage  string `json:"stage"` // requested, confirmed, failed, withdrawn, returned
	By     string `json:"by"`    // the node that acts
	Since  Time   `json:"since"` // of the request
	At     Time   `json:"at"`    // of this stage
	Method string `json:"method,omitempty"`
	Reason string `json:"reason,omitempty"`
	Person string `json:"person,omitempty"` // who asked for it, or says that the node is off
}

// FenceDevice is one way to switch a node off, as the configuration of the asked node has it. Values of options are never
// part of it.
type FenceDevice struct {
	Node           string   `json:"node"`
	Device         string   `json:"device"`
	Level          int      `json:"level"`
	Options        []string `json:"options"` // names
	TimeoutSeconds Seconds  `json:"timeout_seconds"`
}

// FenceList is the answer to GET /v1/fence.
type FenceList struct {
	Schema  string        `json:"schema"`
	Node    string        `json:"node"`
	Mode    string        `json:"mode"` // off, preferred, required; empty on a witness
	Devices []FenceDevice `json:"devices"`
	Fences  []Fence       `json:"fences"`
}

// FenceCheck is what one device says when it is asked, and nothing is switched.
type FenceCheck struct {
	Node    string  `json:"node"`
	Device  string  `json:"device"`
	Level   int     `json:"level"`
	Power   string  `json:"power,omitempty"` // on, off
	Error   string  `json:"error,omitempty"`
	Seconds Seconds `json:"seconds"`
}

// FenceTest is the answer to POST /v1/fence/test.
type FenceTest struct {
	Schema string       `json:"schema"`
	Node   string       `json:"node"`
	Checks []FenceCheck `json:"checks"`
}

// FenceRequest asks to switch a node off, to attest that it is, or, for /v1/fence/test, to ask its devices.
type FenceRequest struct {
	Node           string  `json:"node"`
	Confirm        bool    `json:"confirm,omitempty"` // it is off: a person says so
	Reason         string  `json:"reason,omitempty"`
	TimeoutSeconds Seconds `json:"timeout_seconds,omitempty"`
}

// FenceOutcome is the answer to POST /v1/fence.
type FenceOutcome struct {
	Schema string `json:"schema"`
	Fence  Fence  `json:"fence"`
}
