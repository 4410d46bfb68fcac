package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

// seconds counted from the beginning of a verdict.
func at(s float64) observer.Instant { return observer.Instant(s * float64(time.Second)) }

func span(station int, from, to float64) observer.Span {
	return observer.Span{Station: station, FirstAsked: at(from), FirstHeard: at(from), LastAsked: at(to), LastHeard: at(to), Sightings: 2}
}

func TestTimelines(t *testing.T) {
	stations := []observer.Station{{Name: "lb1"}, {Name: "lb2"}}
	for _, test := range []struct {
		name  string
		to    float64
		spans []observer.Span
		duals []observer.Dual
		marks []mark
		want  string
	}{
		{
			name: "a takeover", to: 7.2,
			spans: []observer.Span{span(0, 0, 0.45), span(1, 4, 7.2)},
			marks: []mark{{at(0.4), "kill -9 lb1"}, {at(5), "start lb1"}},
			want: `
lb1 #####
lb2                                         ################################
    |0 s      |1 s      |2 s      |3 s      |4 s      |5 s      |6 s
        ^ kill -9 lb1                                 ^ start lb1
`,
		},
		{
			name: "two owners", to: 60,
			spans: []observer.Span{span(0, 0, 60), span(1, 30, 60)},
			duals: []observer.Dual{{Interval: observer.Interval{From: at(30), To: at(60)}}},
			marks: []mark{{at(59), "heal"}, {at(26), "cut"}, {at(28), "more"}},
			want: `
lb1 ########################################################################
lb2                                     ####################################
!!                                      !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!
    |0 s        |10 s       |20 s       |30 s       |40 s       |50 s
                                                                     heal ^
                                   ^ cut
                                     ^ more
`,
		},
		{name: "nobody", to: 1, want: `
lb1
lb2
    |0 s
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := observer.VIPVerdict{Spans: test.spans, Duals: test.duals}
			v := observer.Verdict{Interval: observer.Interval{To: at(test.to)}, Stations: stations, VIPs: []observer.VIPVerdict{w}}
			got := strings.Join(timeline(&v, &w, []string{"lb1", "lb2"}, test.marks, true), "\n")
			if want := strings.Trim(test.want, "\n"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestTimelineOfNoTimeIsEmpty(t *testing.T) {
	var v observer.Verdict
	if got := timeline(&v, &observer.VIPVerdict{}, []string{"lb1"}, nil, true); len(got) != 0 {
		t.Errorf("timeline = %q", got)
	}
}

func TestScenesAreJudgedByWhatIsPromised(t *testing.T) {
	s := &scene{owner: &site.Node{Member: site.Member{Name: "lb1"}}, other: &site.Node{Member: site.Member{Name: "lb2"}}}
	bound := func(*scene) time.Duration { return time.Second }
	stations := []observer.Station{{Name: "lb1"}, {Name: "lb2"}}
	out := func(to float64) observer.Reach {
		return observer.Reach{Asked: 1, Out: []observer.Interval{{From: at(1), To: at(to)}}}
	}
	for _, test := range []struct {
		name    string
		moves   bool
		verdict observer.VIPVerdict
		problem error
		want    outcome
	}{
		{"a takeover in time", true, observer.VIPVerdict{Spans: []observer.Span{span(0, 0, 1), span(1, 1.9, 3)}, Resolve: out(1.9)}, nil, passed},
		{"a takeover that takes too long", true, observer.VIPVerdict{Spans: []observer.Span{span(0, 0, 1), span(1, 2.1, 3)}, Resolve: out(2.1)}, nil, wrong},
		{"no takeover", true, observer.VIPVerdict{Spans: []observer.Span{span(0, 0, 1)}, Resolve: out(3)}, ErrFailed, stuck},
		{"a move where none is due", false, observer.VIPVerdict{Spans: []observer.Span{span(0, 0, 1), span(1, 1.1, 3)}}, nil, wrong},
		{"calm", false, observer.VIPVerdict{Spans: []observer.Span{span(0, 0, 3)}}, nil, passed},
		{"a move and back", true, observer.VIPVerdict{Spans: []observer.Span{span(0, 0, 1), span(1, 1.1, 2), span(0, 2.1, 3)}}, nil, wrong},
		{"two owners are worse than no recovery", true, observer.VIPVerdict{DualFor: time.Millisecond}, ErrFailed, wrong},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.verdict.VIP = vip
			v := observer.Verdict{Stations: stations, VIPs: []observer.VIPVerdict{test.verdict}}
			if got := s.judge(phase{moves: test.moves, bound: bound}, &v, test.problem).outcome; got != test.want {
				t.Errorf("outcome %s, want %s", got, test.want)
			}
		})
	}
}

func TestEveryPhaseIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, ph := range phases() {
		if ph.title == "" || ph.short == "" || ph.bound == nil || seen[ph.short] {
			t.Errorf("phase %q is not complete, or there twice", ph.title)
		}
		if len(ph.short) > 22 {
			t.Errorf("%q does not fit the table", ph.short)
		}
		seen[ph.short] = true
	}
}

func TestStoriesNameOwners(t *testing.T) {
	v := observer.Verdict{Stations: []observer.Station{{Name: "lb1"}, {Name: "lb2"}}}
	p := printer{ascii: true}
	for want, w := range map[string]observer.VIPVerdict{
		"nobody":      {},
		"lb1 -> lb2":  {Spans: []observer.Span{span(0, 0, 1), span(1, 2, 3)}},
		"lb1 and lb2": {Spans: []observer.Span{span(0, 0, 1), span(1, 0, 3), span(0, 2, 3)}, DualFor: 1},
	} {
		if got := p.story(&v, &w); got != want {
			t.Errorf("story = %q, want %q", got, want)
		}
	}
}

func TestSummary(t *testing.T) {
	var out bytes.Buffer
	p := printer{out: &out, ascii: true}
	p.summary([]result{
		{short: "planned move", outcome: passed, interruption: 2300 * time.Microsecond},
		{short: "kill -9 of the owner", outcome: wrong, interruption: 3610 * time.Millisecond, dual: 12 * time.Millisecond},
	}, 61*time.Second)
	want := `
Summary
  PHASE                   INTERRUPTION  TWO OWNERS  OUTCOME
  planned move                  2.3 ms        0 ms  OK
  kill -9 of the owner          3.61 s       12 ms  FAILED

  Time with two owners: 12 ms, as seen from outside at a resolution of 1 ms. The demonstration took 61.0 s.
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}
