package verdict

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/clock"
)

const boot = clock.Time(1000 * time.Second)

// play makes attempts of 100 ms whose outcomes are the letters of script: + succeeds, - fails, a digit succeeds and adds
// so much weight. With ? the verdict is doubted between two attempts, with ! during the next one. For each attempt it says the step, U or D if that verdict was reported then, and the time to the next.
func play(t *testing.T, c Config, script string) string {
	t.Helper()
	s := Begin(&c, boot, 0)
	var told []string
	during := false
	for _, letter := range script {
		switch letter {
		case '?':
			s, _ = s.Step(&c, s.Due.Add(-time.Millisecond), Doubt{})
			continue
		case '!':
			during = true
			continue
		}
		now := s.Due
		var action Action
		s, action = s.Step(&c, now, Tick{})
		attempt, ok := action.(Attempt)
		if !ok {
			t.Fatalf("no attempt when it is due, but %#v", action)
		}
		if during {
			s, _ = s.Step(&c, now.Add(time.Millisecond), Doubt{})
			during = false
		}
		now = now.Add(100 * time.Millisecond)
		o := Outcome{OK: letter != '-', Reason: string(letter)}
		if letter >= '0' && letter <= '9' {
			o.Adjust = int(letter - '0')
		}
		s, action = s.Step(&c, now, Done{o})
		line := fmt.Sprint(attempt.Step)
		if _, ok := action.(Report); ok {
			line += map[bool]string{true: "U", false: "D"}[s.Up]
			if s.Adjust != 0 {
				line += fmt.Sprint(s.Adjust)
			}
		}
		told = append(told, line+"+"+s.Due.Sub(now).String())
	}
	return strings.Join(told, " ")
}

func TestVerdict(t *testing.T) {
	plain := Config{Interval: 10 * time.Second, FailedInterval: 10 * time.Second, RetryDelay: time.Second, Retries: 2, Steps: 1}
	with := func(change func(*Config)) Config {
		c := plain
		change(&c)
		return c
	}
	page := with(func(c *Config) { c.Rounds, c.Retries, c.FailedInterval = true, 1, 12*time.Second })
	three, fast := page, page
	three.Steps, fast.Steps, fast.FastRecovery = 3, 2, true
	for name, tt := range map[string]struct {
		config       Config
		script, want string
	}{
		"up at once":                 {plain, "++", "0U+10s 0+10s"},
		"the first failure counts":   {plain, "--+", "0D+10s 0+10s 0U+10s"},
		"retries":                    {plain, "+---+", "0U+10s 0+1s 0+1s 0D+10s 0U+10s"},
		"one success forgives":       {plain, "+--+---", "0U+10s 0+1s 0+1s 0+10s 0+1s 0+1s 0D+10s"},
		"none after a recovery":      {with(func(c *Config) { c.Retries = 0 }), "-+-", "0D+10s 0U+10s 0D+10s"},
		"alpha reports failure":      {with(func(c *Config) { c.Alpha = true }), "-+", "0D+10s 0U+10s"},
		"timed from the start":       {with(func(c *Config) { c.FromStart = true }), "+-+", "0U+9.9s 0+900ms 0+9.9s"},
		"steps in order":             {three, "++++", "0+10s 1+10s 2U+10s 0+10s"},
		"the step that failed again": {three, "++++--+", "0+10s 1+10s 2U+10s 0+10s 1+1s 1D+12s 1+10s"},
		"recovery from the first": {three, "++++---++++",
			"0+10s 1+10s 2U+10s 0+10s 1+1s 1D+12s 1+12s 1+10s 0+10s 1+10s 2U+10s"},
		"failures in the recovery": {three, "-+-+--+++", "0D+12s 0+10s 0+1s 0+10s 1+1s 1+1s 1+10s 2U+10s 0+10s"},
		"one step, twice":          {page, "-+++", "0D+12s 0+10s 0U+10s 0+10s"},
		"fast start":               {fast, "++-+--", "0+0s 1U+10s 0+1s 0+10s 1+1s 1D+12s"},
		"fast recovery":            {fast, "-+++", "0D+12s 0+0s 0+0s 1U+10s"},
		"retries while down": {with(func(c *Config) { c.RetryFailed = true }), "+---------+",
			"0U+10s 0+1s 0+1s 0D+10s 0+1s 0+1s 0+10s 0+1s 0+1s 0+10s 0U+10s"},
		"doubted, borne out":     {plain, "+?++", "0U+10s 0U+10s 0+10s"},
		"doubted, down":          {plain, "-?--", "0D+10s 0D+10s 0+10s"},
		"doubted by an attempt":  {plain, "+!++", "0U+10s 0+0s 0U+10s"},
		"doubted, refuted":       {plain, "+?---+", "0U+10s 0+1s 0+1s 0D+10s 0U+10s"},
		"doubted, recovered":     {plain, "-?++", "0D+10s 0U+10s 0+10s"},
		"doubted, shaky":         {plain, "+?-++", "0U+10s 0+1s 0U+10s 0+10s"},
		"doubted, first":         {plain, "?++", "0U+10s 0+10s"},
		"all steps bear it out":  {three, "+++?+++-++", "0+10s 1+10s 2U+10s 0+0s 1+0s 2U+10s 0+1s 0+10s 1+10s"},
		"a step that fails":      {three, "+++?++-+++", "0+10s 1+10s 2U+10s 0+0s 1+0s 2+1s 2+0s 0+0s 1U+10s"},
		"weight":                 {plain, "5577", "0U5+10s 0+10s 0U7+10s 0+10s"},
		"weight goes on failure": {with(func(c *Config) { c.Retries = 1 }), "5--+", "0U5+10s 0+1s 0D+10s 0U+10s"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := play(t, tt.config, tt.script); got != tt.want {
				t.Errorf("%s:\n got %s\nwant %s", tt.script, got, tt.want)
			}
		})
	}
}

func TestBegin(t *testing.T) {
	c := Config{Interval: time.Minute, Warmup: 10 * time.Second, Steps: 1}
	for fraction, want := range map[float64]time.Duration{0: time.Second, 0.5: 6 * time.Second} {
		if got := Begin(&c, boot, fraction).Due.Sub(boot); got != want {
			t.Errorf("fraction %v: the first attempt comes after %v, want %v", fraction, got, want)
		}
	}
	if !Begin(&c, boot, 0).Up {
		t.Error("without alpha the server is not assumed up")
	}
	c.Alpha = true
	if s := Begin(&c, boot, 0); s.Up || s.Known {
		t.Errorf("with alpha: %+v", s)
	}
}

func TestTickBeforeItsTime(t *testing.T) {
	c := Config{Interval: time.Minute, Steps: 1}
	s := Begin(&c, boot, 0)
	after, action := s.Step(&c, s.Due-1, Tick{})
	if after != s || action != nil {
		t.Errorf("an early tick does %#v", action)
	}
	s, _ = s.Step(&c, s.Due, Tick{})
	if _, action = s.Step(&c, boot.Add(time.Hour), Tick{}); action != nil {
		t.Errorf("a tick during an attempt does %#v", action)
	}
}

func TestSuspended(t *testing.T) {
	c := Config{Interval: 10 * time.Second, FailedInterval: 10 * time.Second, Steps: 1}
	s := Begin(&c, boot, 0)
	s, _ = s.Step(&c, s.Due, Tick{})
	s, _ = s.Step(&c, boot.Add(2*time.Second), Suspend{})
	s, action := s.Step(&c, boot.Add(3*time.Second), Done{Outcome{OK: false}})
	if action != nil || !s.Up || s.Known {
		t.Errorf("an attempt that ends while suspended changes the verdict: %#v, %+v", action, s)
	}
	due := s.Due
	s, action = s.Step(&c, due, Tick{})
	if action != nil || s.Due != due.Add(c.Interval) {
		t.Errorf("suspended: %#v, next after %v", action, s.Due.Sub(due))
	}
	s, _ = s.Step(&c, due, Resume{})
	if _, action = s.Step(&c, s.Due, Tick{}); action != (Attempt{}) {
		t.Errorf("resumed: %#v", action)
	}
}
