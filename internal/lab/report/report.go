// Package report collects what the tests with real daemons have to show, figures and how many trials were void, and shows it
// when they have ended: at the end of the file that HAD_REPORT names, which `make` prints, or on standard output.
package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/hactl/had/internal/lab/observer"
)

// fileVar names the file.
const fileVar = "HAD_REPORT"

// Report is what one test program has to show. Its methods may be called from any goroutine.
type Report struct {
	Title string

	mu           sync.Mutex
	tables       []*Table
	faults       []Fault
	played, void int
	worst        time.Duration // longest pause of an observer
}

// Table has rows with a name and cells.
type Table struct {
	report *Report
	title  string
	header []string
	rows   [][]string
}

// Table makes a table; header names its columns, that of the rows' names included.
func (r *Report) Table(title string, header ...string) *Table {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &Table{report: r, title: title, header: header}
	r.tables = append(r.tables, t)
	return t
}

// Set fills in cells of the row of a name, from one column on. A name that is new gets a row at the end.
func (t *Table) Set(name string, column int, cells ...string) {
	t.report.mu.Lock()
	defer t.report.mu.Unlock()
	i := slices.IndexFunc(t.rows, func(row []string) bool { return row[0] == name })
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, append([]string{name}, make([]string, len(t.header)-1)...))
	}
	copy(t.rows[i][column:], cells)
}

// Fault is what came of a fault of the catalogue (package faults).
type Fault struct {
	ID       string
	Test     string
	Expected string        // of the owner
	Out      time.Duration // the longest interruption
	AtMost   time.Duration // that is allowed; 0: any
	Dual     time.Duration // with two owners
	Void     int           // times that it was played in vain, because the observer was not awake
	Unproved bool          // it was played in vain only
}

// Fault reports a fault. What has been reported goes to a file beside HAD_REPORT, with ".faults" after its name, one JSON value a line.
func (r *Report) Fault(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, f)
}

// Judged counts a trial.
func (r *Report) Judged(v *observer.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.played++
	if v.Void != "" {
		r.void++
	}
	r.worst = max(r.worst, v.Gap)
}

// Show shows the report; it is called once, when the tests have ended.
func (r *Report) Show() error {
	path := os.Getenv(fileVar)
	if path == "" {
		return r.write(os.Stdout)
	}
	if err := errors.Join(add(path, r.write), add(path+".faults", r.writeFaults)); err != nil {
		return fmt.Errorf("show the report of %s: %w", r.Title, err)
	}
	return nil
}

// add has something written to the end of a file.
func add(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func (r *Report) writeFaults(to io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b bytes.Buffer // in one piece: other programs write to the same file
	for _, f := range r.faults {
		if err := json.NewEncoder(&b).Encode(f); err != nil {
			return err
		}
	}
	_, err := to.Write(b.Bytes())
	return err
}

func (r *Report) write(to io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, t := range r.tables {
		if len(t.rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", t.title)
		var text strings.Builder
		w := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
		for _, row := range append([][]string{t.header}, t.rows...) {
			fmt.Fprintln(w, "  "+strings.Join(row, "\t"))
		}
		w.Flush()
		for line := range strings.Lines(text.String()) {
			fmt.Fprintln(&b, strings.TrimRight(line, " \n"))
		}
	}
	if r.played > 0 {
		fmt.Fprintf(&b, "\n%s: the observer judged %d trials; %d were void and played again (its longest pause: %s)\n", r.Title, r.played, r.void,
			Milliseconds(r.worst))
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// Milliseconds prints a time in milliseconds.
func Milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// Spread describes durations by their smallest, middle and largest; it sorts them.
func Spread(list []time.Duration) string {
	if len(list) == 0 {
		return "none"
	}
	slices.Sort(list)
	at := func(share float64) string { return Milliseconds(list[int(share*float64(len(list)-1))]) }
	return fmt.Sprintf("%d times: min %s, median %s, 90%% %s, max %s", len(list), at(0), at(0.5), at(0.9), at(1))
}
