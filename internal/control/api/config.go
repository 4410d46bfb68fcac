package api

// ConfigReport is what hactl config check answers.
type ConfigReport struct {
	Schema   string          `json:"schema"`
	Files    []string        `json:"files"`    // all that were read
	Loadable bool            `json:"loadable"` // had would start with it
	Errors   int             `json:"errors"`
	Warnings int             `json:"warnings"`
	Notes    int             `json:"notes"`
	Findings []ConfigFinding `json:"findings"`
}

// ConfigFinding is one thing that was found in a configuration. Lines and columns count from 1, columns bytes; both are 0 if
// it is about the file as a whole.
type ConfigFinding struct {
	Severity string `json:"severity"` // error, warning or note
	Code     string `json:"code"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	UsedAt   string `json:"used_at,omitempty"` // file:line:column where the text came into effect, if elsewhere
	Message  string `json:"message"`
	Fatal    bool   `json:"fatal,omitempty"` // had does not start with it
}

// WordReport is what hactl config explain answers.
type WordReport struct {
	Schema  string      `json:"schema"`
	Word    string      `json:"word"`
	Entries []WordEntry `json:"entries"`
}

// WordEntry is a word as one or several blocks know it.
type WordEntry struct {
	Blocks    []string `json:"blocks"` // names of the blocks down to this one, separated by slashes
	Kind      string   `json:"kind"`   // keyword, value or lexical
	Arguments string   `json:"arguments,omitempty"`
	Unit      string   `json:"unit,omitempty"`
	Default   string   `json:"default,omitempty"`
	Range     string   `json:"range,omitempty"`
	Tier      int      `json:"tier"` // 1 everyday, 2 serious production, 3 rare
	Meaning   string   `json:"meaning"`
	Own       bool     `json:"own,omitempty"`  // had's, not keepalived's
	Status    string   `json:"status"`         // same, differs, warned or refused, compared with keepalived
	Text      string   `json:"text,omitempty"` // how it differs, or what is lost
}
