package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Histogram counts spans by size. Up to some microseconds two spans count as equal.
type Histogram struct{ buckets map[int]uint64 }

// bucketsPerDouble is how finely spans are told apart.
const bucketsPerDouble = 8

func (h *Histogram) add(d time.Duration) {
	if h.buckets == nil {
		h.buckets = map[int]uint64{}
	}
	h.buckets[bucketOf(d)]++
}

// bucketOf is a logarithm in integers.
func bucketOf(d time.Duration) int {
	micros, doubles := int64(d/time.Microsecond), 0
	for micros >= 2*bucketsPerDouble {
		micros /= 2
		doubles++
	}
	return doubles*bucketsPerDouble + int(micros)
}

// upTo is the end of a bucket.
func upTo(bucket int) time.Duration {
	doubles, rest := 0, bucket
	for rest >= 2*bucketsPerDouble {
		rest -= bucketsPerDouble
		doubles++
	}
	return time.Duration((rest+1)<<doubles) * time.Microsecond
}

// Quantile returns a span that a share q of all spans does not exceed.
func (h Histogram) Quantile(q float64) time.Duration {
	var all, sum uint64
	for _, n := range h.buckets {
		all += n
	}
	for _, b := range sortedKeys(h.buckets) {
		if sum += h.buckets[b]; float64(sum) >= q*float64(all) {
			return upTo(b)
		}
	}
	return 0
}

// Add adds another run's counts.
func (s *Stats) Add(o Stats) {
	s.Simulated += o.Simulated
	s.Events += o.Events
	s.Messages += o.Messages
	s.MessagesLost += o.MessagesLost
	s.Faults += o.Faults
	s.Elections += o.Elections
	s.Grants += o.Grants
	s.Releases += o.Releases
	s.Refusals += o.Refusals
	s.Takeovers += o.Takeovers
	s.Transitions += o.Transitions
	s.Checks += o.Checks
	s.ForcedKills += o.ForcedKills
	s.Fences += o.Fences
	s.Deaths += o.Deaths
	s.Forced += o.Forced
	s.Voids += o.Voids
	s.Kept += o.Kept
	s.KeptBeside += o.KeptBeside
	s.Dark += o.Dark
	for _, b := range sortedKeys(o.Interruption.buckets) {
		if s.Interruption.buckets == nil {
			s.Interruption.buckets = map[int]uint64{}
		}
		s.Interruption.buckets[b] += o.Interruption.buckets[b]
	}
}

// Report prints the counts for people.
func (s Stats) Report() string {
	i := s.Interruption
	return fmt.Sprintf(`%.1f hours simulated, %d events, %d faults
%d takeovers, %d grants, %d releases, %d entries refused, %d elections
%d messages, %d lost; %d checks that nobody else answers; %d processes that had to be killed at their end; %d machines fenced
%d processes that died alone
interruption at a takeover: 50%% within %v, 90%% %v, 99%% %v, all %v`,
		s.Simulated.Hours(), s.Events, s.Faults, s.Takeovers, s.Grants, s.Releases, s.Refusals, s.Elections,
		s.Messages, s.MessagesLost, s.Checks, s.ForcedKills, s.Fences, s.Deaths,
		i.Quantile(0.5), i.Quantile(0.9), i.Quantile(0.99), i.Quantile(1))
}

// Report is what a person needs to know of a failed run: the same run again with its last lines, and the smallest plan
// that still fails.
func Report(cfg Config, o Outcome) string {
	if o.Violation == nil {
		return "no violation"
	}
	traced := cfg
	traced.Trace = true
	again := Run(traced)
	small := Shrink(cfg, *o.Violation)
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %s\n%s\n\nthe last lines:\n%s\n\n", cfg.Seed, o.Violation, o.Shape, strings.Join(again.Trace, "\n"))
	fmt.Fprintf(&b, "the smallest plan found (%d of %d faults), span %v, voters %d, groups %d: %s\n", len(small.Plan), len(o.Plan),
		small.Span, small.Voters, small.Groups, Run(small).Violation)
	for _, f := range small.Plan {
		fmt.Fprintf(&b, "\t%s,\n", f)
	}
	return b.String()
}

// shrinkEffort bounds how long Shrink simulates, in virtual time.
const shrinkEffort = 10 * time.Hour

// Shrink looks for a smaller run with a violation of the same invariant: a shorter span, halves of the plan, single
// faults, shorter faults.
func Shrink(cfg Config, v Violation) Config {
	spent := time.Duration(0)
	fails := func(c Config) bool {
		if spent > shrinkEffort {
			return false
		}
		o := Run(c)
		spent += o.Stats.Simulated
		return o.Violation != nil && o.Violation.Invariant == v.Invariant
	}
	if cfg.Plan == nil {
		cfg.Plan = Run(cfg).Plan
	}
	if shorter := cfg; v.At < cfg.Span {
		shorter.Span = v.At + time.Millisecond
		shorter.Plan = slices.DeleteFunc(slices.Clone(cfg.Plan), func(f Fault) bool { return f.At > v.At })
		if fails(shorter) {
			cfg = shorter
		}
	}
	for size := max(1, len(cfg.Plan)/2); ; {
		dropped := false
		for from := 0; from < len(cfg.Plan); {
			less := cfg
			less.Plan = slices.Delete(slices.Clone(cfg.Plan), from, min(from+size, len(cfg.Plan)))
			if fails(less) {
				cfg, dropped = less, true
				continue
			}
			from += size
		}
		if size == 1 && !dropped {
			break
		}
		size = max(1, size/2)
	}
	for i := range cfg.Plan {
		for try := 0; try < 8; try++ {
			less := cfg
			less.Plan = slices.Clone(cfg.Plan)
			less.Plan[i].For /= 2
			if less.Plan[i].For == 0 || !fails(less) {
				break
			}
			cfg = less
		}
	}
	return cfg
}
