// Package faults is the catalogue of what may go wrong, what has to come of it, and which test shows it. Tests with real daemons
// report what the outside observer saw (package report); Page puts both together.
package faults

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hactl/had/internal/lab/report"
)

// Row is a fault. O is the owner, B the other director, W the witness, L the leader of the log.
type Row struct {
	ID       string
	Fault    string
	Expected string
	By       []string // tests without figures, package.Test; trials that report the ID come by themselves
	Note     string   // why it is not played, or what of it is not
}

// Section is a part of the catalogue.
type Section struct {
	Name string
	Rows []Row
}

// Read reads what tests have reported. What was played again takes the place of what was reported before.
func Read(from io.Reader) ([]report.Fault, error) {
	var all []report.Fault
	for d := json.NewDecoder(from); ; {
		var f report.Fault
		switch err := d.Decode(&f); err {
		case nil:
			all = slices.DeleteFunc(all, func(o report.Fault) bool { return o.ID == f.ID && o.Test == f.Test })
			all = append(all, f)
		case io.EOF:
			return all, nil
		default:
			return nil, fmt.Errorf("read what the tests have reported: %w", err)
		}
	}
}

const head = `# Faults and what comes of them

Made by ` + "`make faults`" + ` from a run of the tests with real daemons: do not edit. An observer on the same LAN asks every millisecond, by ARP or ND and
by ping, who has the virtual address. "Two owners" is the longest time with two answers, "out" the longest without one, "at most" what the
test allows. A trial whose observer was not awake for a while proves nothing: it is void, and played again.

O is the owner, B the other director, W the witness, L the leader of the log.

Tests without figures are those in which no observer takes part: parts of had alone, and the simulation of whole clusters in
virtual time, which plays most of these faults at once and in any order.
`

// Page writes the catalogue with what was reported.
func Page(to io.Writer, all []report.Fault) error {
	var b bytes.Buffer
	b.WriteString(head)
	void, unproved := 0, 0
	for _, f := range all {
		void += f.Void
		if f.Unproved {
			unproved++
		}
	}
	fmt.Fprintf(&b, "\nIn this run: %d faults before an observer, of which %d were not proved; %d trials were void.\n", len(all), unproved, void)
	for _, s := range Catalogue {
		fmt.Fprintf(&b, "\n## %s\n\n| | fault | expected | test | two owners | out | at most | void |\n|---|---|---|---|---|---|---|---|\n", s.Name)
		for _, row := range s.Rows {
			writeRow(&b, row, all)
		}
	}
	_, err := to.Write(b.Bytes())
	return err
}

// writeRow writes a line for each trial, one for all tests without figures, and one for what is to be said.
func writeRow(b *bytes.Buffer, row Row, all []report.Fault) {
	var lines [][]string
	own := slices.DeleteFunc(slices.Clone(all), func(f report.Fault) bool { return f.ID != row.ID })
	slices.SortFunc(own, func(a, b report.Fault) int { return cmp.Compare(a.Test, b.Test) })
	for _, f := range own {
		most := "-"
		if f.AtMost > 0 {
			most = report.Milliseconds(f.AtMost)
		}
		dual, out := report.Milliseconds(f.Dual), report.Milliseconds(f.Out)
		if f.Unproved {
			dual, out, most = "not proved", "not proved", "-"
		}
		lines = append(lines, []string{f.Expected + ": " + f.Test, dual, out, most, fmt.Sprint(f.Void)})
	}
	if len(row.By) > 0 {
		lines = append(lines, []string{strings.Join(row.By, "<br>"), "", "", "", ""})
	}
	if row.Note != "" {
		lines = append(lines, []string{row.Note, "", "", "", ""})
	}
	if len(lines) == 0 {
		lines = [][]string{{"not in this run", "", "", "", ""}}
	}
	for i, line := range lines {
		start := []string{row.ID, row.Fault, row.Expected}
		if i > 0 {
			start = []string{"", "", ""}
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(append(start, line...), " | "))
	}
}
