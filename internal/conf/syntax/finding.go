package syntax

import (
	"cmp"
	"fmt"
	"slices"
)

// Pos is a place in a file. Lines and columns count from 1; a column counts bytes. The zero Pos is no place.
type Pos struct {
	File   string
	Line   int
	Column int
}

// IsValid tells whether p is a place in a file.
func (p Pos) IsValid() bool { return p.Line > 0 }

// String returns "file:line:column", or the file alone if p says no more.
func (p Pos) String() string {
	if p.Line == 0 {
		if p.File == "" {
			return "-"
		}
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Compare orders places by file, line and column.
func (p Pos) Compare(q Pos) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// Severity says how much a finding matters. The zero Severity is not valid.
type Severity uint8

// The severities, in rising order.
const (
	Note    Severity = iota + 1 // worth knowing; nothing is lost
	Warning                     // it loads, and the message says what was ignored, corrected, or will surprise
	Error                       // what is written cannot be done
)

// String returns the word that is printed: note, warning or error.
func (s Severity) String() string {
	switch s {
	case Note:
		return "note"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// Finding is one thing that was found in a configuration.
type Finding struct {
	Severity Severity
	Code     Code
	Pos      Pos

	// Used is where the text at Pos came into effect, if that is another place: a definition, a parameter of ~SEQ or ~LST.
	Used Pos

	// Block is the keyword of the outermost block that it is about, if that was known when it was found.
	Block string

	// Message is one sentence without the place, the severity and a full stop.
	Message string

	// Fatal says that nothing can be started from this configuration. Only an Error is fatal. Stock keepalived would not
	// start either, or the error is in the cluster block.
	Fatal bool
}

// String returns "file:line:column: severity: message [code]".
func (f Finding) String() string {
	used := ""
	if f.Used.IsValid() && f.Used != f.Pos {
		used = fmt.Sprintf(" (used at %v)", f.Used)
	}
	return fmt.Sprintf("%v: %v: %s%s [%s]", f.Pos, f.Severity, f.Message, used, f.Code)
}

// Sort orders findings by the place where their text came into effect, files in the order in which they were first read,
// and keeps the order of findings at one place.
func Sort(findings []Finding, files []string) {
	rank := make(map[string]int, len(files))
	for i, name := range files {
		if _, known := rank[name]; !known {
			rank[name] = i + 1
		}
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank[a.Pos.File], rank[b.Pos.File]), a.Pos.Compare(b.Pos))
	})
}

// Code names a kind of finding. It is printed, it can be looked up, and it does not change.
type Code string
