package api

import (
	"encoding/json"
	"testing"
	"time"
)

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                 "0s",
		0:                            "0s",
		250 * time.Microsecond:       "0.2ms",
		6200 * time.Microsecond:      "6.2ms",
		41 * time.Millisecond:        "41ms",
		999 * time.Millisecond:       "999ms",
		2690 * time.Millisecond:      "2.6s",
		42 * time.Second:             "42s",
		182 * time.Second:            "3m02s",
		72 * time.Minute:             "1h12m",
		6*24*time.Hour + 2*time.Hour: "6d02h",
	} {
		if got := SecondsOf(d).Short(); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestTime(t *testing.T) {
	in := At(time.Date(2026, 11, 21, 11, 42, 7, 123456789, time.FixedZone("CET", 3600)))
	text, err := json.Marshal(in)
	if err != nil || string(text) != `"2026-11-21T10:42:07.123Z"` {
		t.Errorf("%s, %v", text, err)
	}
	var out Time
	if err := json.Unmarshal(text, &out); err != nil || !out.Equal(in.Truncate(time.Millisecond)) {
		t.Errorf("%s, %v", out, err)
	}
	for _, zero := range []string{`""`, "null"} {
		if err := json.Unmarshal([]byte(zero), &out); err != nil || !out.IsZero() {
			t.Errorf("%s: %s, %v", zero, out, err)
		}
	}
	if err := json.Unmarshal([]byte(`"soon"`), &out); err == nil {
		t.Error("soon is no time")
	}
}

func TestEveryKindOfProblemHasItsExitCode(t *testing.T) {
	for kind, want := range map[ProblemKind]int{Failed: 1, Usage: 2, Unreachable: 3, QuorumLost: 4, Refused: 5, NotFound: 6, TimedOut: 124, "": 1} {
		if got := (&Problem{Kind: kind}).ExitCode(); got != want {
			t.Errorf("%q: %d, want %d", kind, got, want)
		}
	}
}
