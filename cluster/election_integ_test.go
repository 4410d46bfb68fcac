//go:build integ

package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/report"
)

// The tricks that shorten an election do. T is long here, so that a busy machine does not hide it; BenchmarkElection measures with
// the shortest T. Ranks and repeated requests prevent a second round that is rare, so their figures are only shown.
func TestTricksShortenElections(t *testing.T) {
	const (
		lease     = time.Second // T = 0.8 s
		elections = 9
		tries     = 3
	)
	var complaints []string
	for range tries {
		results := map[string]*electionTimes{}
		t.Run("elections", func(t *testing.T) {
			for name, tricks := range map[string]tricks{
				"all": allTricks, "none": {}, "no poke": {rank: true, retry: true}, "no retry": {poke: true, rank: true},
				"no rank": {poke: true, retry: true},
			} {
				r := &electionTimes{}
				results[name] = r
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					w := tricked(t, lease, tricks)
					for range elections {
						took, next := w.elect()
						r.times = append(r.times, took)
						if next == "w1" {
							r.witness++
						}
					}
				})
			}
		})
		table := report.Report{}
		rows := table.Table(fmt.Sprintf("Elections after the death of a leader, T = %s:", lease*4/5), "TRICKS", "TIMES", "LED BY THE WITNESS")
		for _, name := range []string{"all", "no poke", "no retry", "no rank", "none"} {
			rows.Set(name, 1, report.Spread(results[name].times), fmt.Sprint(results[name].witness))
		}
		if err := table.Show(); err != nil {
			t.Fatal(err)
		}
		if complaints = compareElections(results); len(complaints) == 0 {
			return
		}
		t.Logf("once more: %q", complaints)
	}
	t.Errorf("%q", complaints)
}

// electionTimes are the times of a number of elections, and how many the witness won.
type electionTimes struct {
	times   []time.Duration
	witness int
}

func (e *electionTimes) median() time.Duration {
	slices.Sort(e.times)
	return e.times[len(e.times)/2]
}

// compareElections says what is not as it should be.
func compareElections(results map[string]*electionTimes) (complaints []string) {
	for name, least := range map[string]float64{"none": 1.25, "no poke": 1.25} {
		if ratio := float64(results[name].median()) / float64(results["all"].median()); ratio < least {
			complaints = append(complaints, fmt.Sprintf("%s: half of the elections take %.2f times as long as with all tricks, want at least %.2f",
				name, ratio, least))
		}
	}
	return complaints
}
