package track

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/clock"
)

// results feeds a script with a string of runs, "+" a success and "-" a failure, and returns its condition after each as
// a string: "+" good, "-" failed.
func results(s Script, rise, fall int, runs string) (Script, string) {
	var out []byte
	for _, run := range runs {
		s = s.Result(run == '+', rise, fall)
		if s.Condition == Good {
			out = append(out, '+')
		} else {
			out = append(out, '-')
		}
	}
	return s, string(out)
}

func TestScriptsRiseAndFall(t *testing.T) {
	tests := []struct {
		name       string
		begin      Script
		rise, fall int
		runs, want string
	}{
		{"one success at first is enough", Script{}, 5, 1, "+", "+"},
		{"one failure at first is enough", Script{}, 1, 5, "-", "-"},
		{"one result is enough after a reload, too", Script{Condition: Pending}, 3, 3, "+---", "++" + "+-"},
		{"by default every result counts", Script{}, 1, 1, "+-+-", "+-+-"},
		{"fall failures in a row take it down", Script{}, 1, 3, "+---", "+++-"},
		{"fewer failures are forgotten after one success", Script{}, 1, 3, "+--+--+---", "+++++++++-"},
		{"rise successes in a row bring it back", Script{}, 3, 1, "+-+++", "+---+"},
		{"fewer successes are forgotten after one failure", Script{}, 3, 1, "-++-++-+++", "---------+"},
		{"after it is back it has all its lives", Script{}, 2, 3, "-++---", "--+++-"},
		{"first failure, then rise", Script{}, 2, 2, "-++--", "--++-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, got := results(tt.begin, tt.rise, tt.fall, tt.runs); got != tt.want {
				t.Errorf("runs %s\ngot  %s\nwant %s", tt.runs, got, tt.want)
			}
		})
	}
}

func TestTheCounterIsThatOfKeepalived(t *testing.T) {
	s := Script{}
	for _, step := range []struct {
		run  bool
		want Script
	}{
		{true, Script{Good, 4}}, // rise 3, fall 2: top is 4
		{false, Script{Good, 3}},
		{true, Script{Good, 4}},
		{false, Script{Good, 3}},
		{false, Script{Failed, 0}},
		{true, Script{Failed, 1}},
		{true, Script{Failed, 2}},
		{false, Script{Failed, 0}},
		{true, Script{Failed, 1}},
		{true, Script{Failed, 2}},
		{true, Script{Good, 4}},
	} {
		if s = s.Result(step.run, 3, 2); s != step.want {
			t.Fatalf("got %+v, want %+v", s, step.want)
		}
	}
}

func TestAChangeOfRiseAndFallKeepsTheCondition(t *testing.T) {
	s, _ := results(Script{}, 1, 10, "+")
	if s = s.Result(false, 5, 2); s.Condition != Good {
		t.Errorf("fewer lives: %+v", s)
	}
	if s = s.Result(false, 5, 2); s.Condition != Failed {
		t.Errorf("no lives: %+v", s)
	}
	s, _ = results(Script{}, 9, 1, "-++++++")
	if s = s.Result(true, 2, 1); s.Condition != Good {
		t.Errorf("failed with more successes than needed: %+v", s)
	}
}

// FuzzScript compares the counter with two plain counts of results in a row.
func FuzzScript(f *testing.F) {
	f.Add(uint8(1), uint8(1), []byte{1, 0})
	f.Add(uint8(3), uint8(2), []byte{1, 0, 1, 1, 0, 0, 0, 1, 1, 1})
	f.Fuzz(func(t *testing.T, rise, fall uint8, runs []byte) {
		r, fl := int(rise%8)+1, int(fall%8)+1
		var s Script
		up, row := false, 0
		for i, run := range runs {
			ok := run&1 != 0
			s = s.Result(ok, r, fl)
			need := r
			if up {
				need = fl
			}
			switch {
			case i == 0:
				up = ok
			case ok == up:
				row = 0
			default:
				if row++; row >= need {
					up, row = ok, 0
				}
			}
			if up != (s.Condition == Good) {
				t.Fatalf("rise %d fall %d run %d: %+v, want up %v", r, fl, i, s, up)
			}
			if s.Counter < 0 || s.Counter > r+fl-1 || (s.Counter >= r) != up {
				t.Fatalf("rise %d fall %d run %d: counter %+v", r, fl, i, s)
			}
		}
	})
}

func TestWeightsOfObjects(t *testing.T) {
	tests := []struct {
		weight    int
		reverse   bool
		condition Condition
		want      uint8
		faults    int
		waiting   int
	}{
		{10, false, Good, 110, 0, 0},
		{10, false, Failed, 100, 0, 0},
		{10, false, Unknown, 100, 0, 0},
		{10, false, Pending, 100, 0, 0},
		{-10, false, Good, 100, 0, 0},
		{-10, false, Failed, 90, 0, 0},
		{-10, false, Unknown, 100, 0, 0},
		{10, true, Good, 90, 0, 0},
		{10, true, Failed, 100, 0, 0},
		{-10, true, Good, 100, 0, 0},
		{-10, true, Failed, 110, 0, 0},
		{0, false, Good, 100, 0, 0},
		{0, false, Failed, 100, 1, 0},
		{0, false, Unknown, 100, 0, 1},
		{0, false, Pending, 100, 0, 0},
		{0, true, Good, 100, 1, 0},
		{0, true, Failed, 100, 0, 0},
		{0, true, Unknown, 100, 0, 1},
		{253, false, Good, 254, 0, 0},
		{-253, false, Failed, 1, 0, 0},
	}
	for _, tt := range tests {
		name := fmt.Sprintf("weight %d reverse %v %v", tt.weight, tt.reverse, tt.condition)
		t.Run(name, func(t *testing.T) {
			got := Evaluate(100, []Object{{"script x", tt.weight, tt.reverse, tt.condition}}, nil)
			if got.Priority != tt.want || len(got.Faults) != tt.faults || len(got.Waiting) != tt.waiting {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestValuesOfFiles(t *testing.T) {
	tests := []struct {
		weight  int
		reverse bool
		value   int32
		want    uint8
		faults  int
	}{
		{1, false, 0, 100, 0},
		{1, false, 20, 120, 0},
		{2, false, 20, 140, 0},
		{-2, false, 20, 60, 0},
		{2, true, 20, 60, 0},
		{-2, true, 20, 140, 0},
		{1, false, 1000, 254, 0},
		{1, false, -253, 1, 0},
		{1, false, -254, 100, 1},
		{1, true, 254, 100, 1},
		{254, false, math.MinInt32, 100, 1},
		{254, false, math.MaxInt32, 254, 0},
		{0, false, 0, 100, 0},
		{0, false, 7, 100, 1},
		{0, true, 0, 100, 1},
		{0, true, 7, 100, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("weight %d reverse %v value %d", tt.weight, tt.reverse, tt.value), func(t *testing.T) {
			got := Evaluate(100, nil, []File{{"file x", tt.weight, tt.reverse, tt.value}})
			if got.Priority != tt.want || len(got.Faults) != tt.faults {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestTrackersAddUpBeforeTheSumIsLimited(t *testing.T) {
	got := Evaluate(100, []Object{{Name: "a", Weight: 200, Condition: Good}, {Name: "b", Weight: -150, Condition: Failed}},
		[]File{{Name: "c", Weight: 1, Value: 5}})
	if got.Priority != 155 {
		t.Errorf("priority %d", got.Priority)
	}
}

func TestFaultsAreCountedAndNamedInOrder(t *testing.T) {
	objects := []Object{
		{Name: "interface eth0", Condition: Failed},
		{Name: "script a", Condition: Good},
		{Name: "script b", Condition: Failed},
		{Name: "script c"},
	}
	got := Evaluate(100, objects, []File{{Name: "file d", Value: 1}})
	if want := []string{"interface eth0", "script b", "file d"}; !slices.Equal(got.Faults, want) {
		t.Errorf("faults %v, want %v", got.Faults, want)
	}
	if want := []string{"script c"}; !slices.Equal(got.Waiting, want) {
		t.Errorf("waiting %v, want %v", got.Waiting, want)
	}
}

func TestThePriorityOfAnOwnerNeverChangesButFaultsConcernIt(t *testing.T) {
	got := Evaluate(255, []Object{{Name: "a", Weight: -50, Condition: Failed}, {Name: "b", Condition: Failed}}, nil)
	if got.Priority != 255 || !slices.Equal(got.Faults, []string{"b"}) {
		t.Errorf("got %+v", got)
	}
}

func TestFileValues(t *testing.T) {
	tests := []struct {
		content string
		want    int32
	}{
		{"", 0}, {"\n", 0}, {"7\n", 7}, {" -12 ", -12}, {"+3", 3}, {"0", 0}, {"0x1F", 31}, {"-0x10", -16}, {"010", 8},
		{"08", 0}, {"0x", 0}, {"seven", 0}, {"7 8", 7}, {"1_000", 1}, {"0b11", 0}, {"--1", 0}, {"-+1", 0}, {"9abc", 9},
		{"12 # from the monitor\n", 12}, {"-", 0}, {"0xg", 0}, {"-0X1f,", -31},
		{"99999999999", math.MaxInt32}, {"-99999999999", math.MinInt32},
		{"99999999999999999999999", math.MaxInt32}, {"-99999999999999999999999", math.MinInt32},
		{"-2147483648", math.MinInt32},
	}
	for _, tt := range tests {
		if got := FileValue(tt.content); got != tt.want {
			t.Errorf("%q is %d, want %d", tt.content, got, tt.want)
		}
	}
}

func TestAConditionCountsOnceItHasLasted(t *testing.T) {
	type step struct {
		at   clock.Time
		seen Condition // Unknown: time passes
		want Condition
	}
	const down, up = 10, 20 // delays
	tests := []struct {
		name  string
		steps []step
	}{
		{"the first one counts at once", []step{{1, Failed, Failed}}},
		{"a change counts after the delay", []step{{1, Good, Good}, {5, Failed, Good}, {14, Unknown, Good}, {15, Unknown, Failed}}},
		{"a change back in time is none", []step{{1, Good, Good}, {5, Failed, Good}, {14, Good, Good}, {15, Unknown, Good},
			{16, Failed, Good}, {25, Unknown, Good}, {26, Unknown, Failed}}},
		{"the same seen again starts no new delay", []step{{1, Good, Good}, {5, Failed, Good}, {14, Failed, Good}, {15, Failed, Failed}}},
		{"a change back too late is one", []step{{1, Good, Good}, {5, Failed, Good}, {16, Good, Failed}, {35, Unknown, Failed},
			{36, Unknown, Good}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var d Delayed
			for _, s := range tt.steps {
				if s.seen == Unknown {
					d = d.Tick(s.at)
				} else {
					d = d.See(s.at, s.seen, map[Condition]time.Duration{Good: up, Failed: down}[s.seen])
				}
				if d.Condition != s.want {
					t.Fatalf("at %d: %v, want %v", s.at, d.Condition, s.want)
				}
				if at := d.Deadline(); !at.IsZero() && at <= s.at {
					t.Fatalf("at %d: the deadline %d is over", s.at, at)
				}
			}
		})
	}
	if d := (Delayed{Condition: Good}).See(1, Failed, 0); d.Condition != Failed {
		t.Errorf("without a delay: %v", d.Condition)
	}
}

func TestWhichProcessesAreMeant(t *testing.T) {
	tests := []struct {
		pattern Pattern
		name    string
		argv    string
		want    bool
	}{
		{Pattern{Command: []string{"sleep"}}, "sleep", "/usr/bin/sleep 5", true},
		{Pattern{Command: []string{"sleep"}}, "sleeper", "sleep 5", false},
		{Pattern{Command: []string{"averylongprocessname"}}, "averylongproces", "x", true},
		{Pattern{Command: []string{"averylongproces"}}, "averylongproces", "x", true},
		{Pattern{Command: []string{"kthreadd"}}, "kthreadd", "", true},
		{Pattern{Command: []string{"/usr/bin/sleep"}}, "sleep", "/usr/bin/sleep 5", false},
		{Pattern{Command: []string{"/usr/bin/sleep"}, FullCommand: true}, "sleep", "/usr/bin/sleep 5", true},
		{Pattern{Command: []string{"sleep"}, FullCommand: true}, "sleep", "/usr/bin/sleep 5", false},
		{Pattern{Command: []string{"sleep"}, FullCommand: true}, "sleep", "", false},
		{Pattern{Command: []string{"sleep"}, FullCommand: true, Params: ParamsEqual}, "sleep", "sleep", true},
		{Pattern{Command: []string{"sleep"}, FullCommand: true, Params: ParamsEqual}, "sleep", "sleep 5", false},
		{Pattern{Command: []string{"sleep", "5", "6"}, FullCommand: true, Params: ParamsEqual}, "sleep", "sleep 5 6", true},
		{Pattern{Command: []string{"sleep", "5", "6"}, FullCommand: true, Params: ParamsEqual}, "sleep", "sleep 5 67", false},
		{Pattern{Command: []string{"sleep", "5", "6"}, FullCommand: true, Params: ParamsPartial}, "sleep", "sleep 5", false},
		{Pattern{Command: []string{"sleep", "5", "6"}, FullCommand: true, Params: ParamsPartial}, "sleep", "sleep 5 6 7", true},
		{Pattern{Command: []string{"sleep", "5", "6"}, FullCommand: true, Params: ParamsPartial}, "sleep", "sleep 5 67", false},
		{Pattern{Command: []string{"sleep", "5", "6"}, FullCommand: true, Params: ParamsInitial}, "sleep", "sleep 5", false},
		{Pattern{Command: []string{"sleep", "5", "6"}, FullCommand: true, Params: ParamsInitial}, "sleep", "sleep 5 67 8", true},
		{Pattern{Command: []string{"sleep", "5", "6"}, FullCommand: true, Params: ParamsInitial}, "sleep", "sleep 56 6", false},
		{Pattern{Command: []string{"sleep"}, FullCommand: true, Params: ParamsInitial}, "sleep", "sleep 5", true},
	}
	for _, tt := range tests {
		if got := tt.pattern.Matches(tt.name, strings.Fields(tt.argv)); got != tt.want {
			t.Errorf("%+v means %s (%s): %v", tt.pattern, tt.name, tt.argv, got)
		}
	}
}

func TestQuorums(t *testing.T) {
	for _, tt := range []struct {
		quorum Quorum
		count  int
		want   Condition
	}{
		{Quorum{1, -1}, 0, Failed}, {Quorum{1, -1}, 1, Good}, {Quorum{1, -1}, 99, Good},
		{Quorum{2, 3}, 1, Failed}, {Quorum{2, 3}, 2, Good}, {Quorum{2, 3}, 3, Good}, {Quorum{2, 3}, 4, Failed},
		{Quorum{1, 0}, 0, Failed}, {Quorum{1, 0}, 1, Failed},
	} {
		if got := tt.quorum.Condition(tt.count); got != tt.want {
			t.Errorf("%+v of %d: %v", tt.quorum, tt.count, got)
		}
	}
}
