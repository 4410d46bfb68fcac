package report

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/observer"
)

func TestAReportShowsItsTablesAndHowManyTrialsWereVoid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report")
	if err := os.WriteFile(path, []byte("earlier\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(fileVar, path)
	r := Report{Title: "faults"}
	table := r.Table("interruptions", "FAULT", "HAD", "STOCK")
	r.Table("nothing", "A", "B")
	table.Set("kill -9", 1, "3.6 s")
	table.Set("frozen", 1, "3.7 s")
	table.Set("kill -9", 2, "two owners")
	r.Fault(Fault{ID: "P01", Test: "kill", Expected: "moves", Out: time.Second, Void: 2})
	r.Judged(&observer.Verdict{})
	r.Judged(&observer.Verdict{Void: "asleep", Gap: 30 * time.Millisecond})
	if err := r.Show(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = `earlier

interruptions
  FAULT     HAD     STOCK
  kill -9   3.6 s   two owners
  frozen    3.7 s

faults: the observer judged 2 trials; 1 were void and played again (its longest pause: 30.0 ms)
`
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	got, err = os.ReadFile(path + ".faults")
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"ID":"P01","Test":"kill","Expected":"moves","Out":1000000000,"AtMost":0,"Dual":0,"Void":2,"Unproved":false}` + "\n"; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestASpread(t *testing.T) {
	if got, want := Spread([]time.Duration{3e6, 1e6, 2e6}), "3 times: min 1.0 ms, median 2.0 ms, 90% 2.0 ms, max 3.0 ms"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Spread(nil); got != "none" {
		t.Errorf("got %q", got)
	}
}
