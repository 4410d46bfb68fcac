package faults

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/report"
)

const root = "../../.."

var (
	testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	playedID = regexp.MustCompile(`\b(?:id|ID): "([A-Z]\d\d)"|"([A-Z]\d\d)"(?:, "\w+": "([A-Z]\d\d)")?\}\[name\]`)
)

// sources reads all tests: which there are, and which rows trials report.
func sources(t *testing.T) (tests, played map[string]bool) {
	tests, played = map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, m := range testFunc.FindAllSubmatch(data, -1) {
			tests[dir+"."+string(m[1])] = true
		}
		if strings.HasSuffix(path, "_integ_test.go") {
			for _, m := range playedID.FindAllSubmatch(data, -1) {
				for _, id := range m[1:] {
					played[string(id)] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(played, "")
	return tests, played
}

// TestEveryFaultHasATestOrAReason: no row without one, no test that is not there, no trial of a fault that nobody knows.
func TestEveryFaultHasATestOrAReason(t *testing.T) {
	tests, played := sources(t)
	ids := map[string]bool{}
	for _, s := range Catalogue {
		for _, row := range s.Rows {
			if ids[row.ID] {
				t.Errorf("there are two %s", row.ID)
			}
			ids[row.ID] = true
			if !played[row.ID] && len(row.By) == 0 && row.Note == "" {
				t.Errorf("%s (%s) has no test and no reason", row.ID, row.Fault)
			}
			for _, name := range row.By {
				if !tests[name] {
					t.Errorf("%s: there is no %s", row.ID, name)
				}
			}
		}
	}
	for id := range played {
		if !ids[id] {
			t.Errorf("a trial is of %s, which is not in the catalogue", id)
		}
	}
	if len(played) < 30 {
		t.Errorf("%d faults are played: the pattern that finds them is wrong", len(played))
	}
	for letter, count := range map[string]int{"N": 25, "P": 24, "D": 11, "C": 8, "H": 11, "X": 12, "M": 20, "F": 8} {
		got := 0
		for id := range ids {
			if strings.HasPrefix(id, letter) {
				got++
			}
		}
		if got != count {
			t.Errorf("%d rows %s, want %d", got, letter, count)
		}
	}
}

// TestThePageIsOfThisCatalogue: `make faults` has been run since the catalogue was changed.
func TestThePageIsOfThisCatalogue(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/faults.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range Catalogue {
		for _, row := range s.Rows {
			if start := "| " + row.ID + " | " + row.Fault + " | " + row.Expected + " | "; !bytes.Contains(page, []byte(start)) {
				t.Errorf("docs/faults.md has no row %q", start)
			}
			for _, text := range append(slices.Clone(row.By), row.Note) {
				if !bytes.Contains(page, []byte(text)) {
					t.Errorf("docs/faults.md, %s: no %q", row.ID, text)
				}
			}
		}
	}
}

func TestAPageShowsWhatWasReported(t *testing.T) {
	all, err := Read(strings.NewReader(`{"ID":"N01","Test":"TestX/cut","Void":10,"Unproved":true}
{"ID":"N01","Test":"TestX/cut","Expected":"moves","Out":3000000000,"AtMost":4000000000,"Void":2}
{"ID":"N24","Test":"TestY","Expected":"any","Dual":1000000}
{"ID":"N24","Test":"TestZ","Expected":"any","Void":10,"Unproved":true}
`))
	if err != nil || len(all) != 3 || all[0].Out != 3*time.Second {
		t.Fatalf("%+v, %v", all, err)
	}
	var b bytes.Buffer
	if err := Page(&b, append(all, report.Fault{ID: "N01", Test: "TestA", Expected: "moves"})); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"In this run: 4 faults before an observer, of which 1 were not proved; 12 trials were void.",
		"| N01 | O is cut off, its link stays up | O's lease ends, B takes over | moves: TestA | 0.0 ms | 0.0 ms | - | 0 |\n" +
			"|  |  |  | moves: TestX/cut | 0.0 ms | 3000.0 ms | 4000.0 ms | 2 |\n" +
			"|  |  |  | internal/agent/sim.TestTimes |  |  |  |  |\n",
		"any: TestY | 1.0 ms |", "any: TestZ | not proved | not proved | - | 10 |", "| N21 | O alone does not reach the gateway | one handover | not in this run |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	if _, err := Read(strings.NewReader("{")); err == nil {
		t.Error("half a report is read")
	}
}
