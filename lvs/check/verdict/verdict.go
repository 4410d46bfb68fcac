// Package verdict decides when a health check is tried and what its tries say about the server. It is pure: it is told the
// time and the outcome of each attempt, and returns the next state and what is to be done. Package lvs/check makes the
// attempts.
package verdict

import (
	"time"

	"github.com/hactl/had/internal/clock"
)

// bootDelay is what passes before the first attempt, besides the random part.
const bootDelay = time.Second

// Config is the schedule of one check.
type Config struct {
	Interval       time.Duration // between attempts while all is well (delay_loop)
	FailedInterval time.Duration // between attempts while the server has failed
	RetryDelay     time.Duration // before another attempt after one that failed (delay_before_retry)
	Retries        int           // failed attempts that are forgiven (retry)
	Warmup         time.Duration // bound of the random part of the delay before the first attempt (warmup)

	// Steps are attempts of different content, such as urls, made one after the other; at least 1.
	Steps int

	// Rounds makes a server recover in two parts: first the step that took it down has to succeed, and then all steps in order.
	// What fails in the second part is tried again after RetryDelay, as often as it takes. Without Rounds the next success is
	// enough.
	Rounds       bool
	FastRecovery bool // no delay between the steps of the first round and of a recovery

	// RetryFailed forgives failures while the server has failed too: a recovery is seen sooner. It goes without Rounds.
	RetryFailed bool

	FromStart bool // the next attempt is timed from the begin of the one before, not from its end
	Alpha     bool // failed until it has succeeded
}

// State is the state of one check. Begin makes it.
type State struct {
	Up     bool // the verdict, or without one what is assumed
	Known  bool // there has been a verdict
	Adjust int  // what the server's weight is changed by

	Failures  int  // attempts failed in a row and forgiven; at most Retries
	Broken    bool // with Rounds: the step that took the server down has not succeeded since; then not Up
	Next      int  // step of the next attempt, or of the one under way; below Steps
	Suspended bool

	Due     clock.Time // when the next attempt begins; zero while one is under way
	started clock.Time // when the last one began
	doubted clock.Time // the verdict is to be reported once attempts from then on have borne it out; zero: it is not doubted
	borne   int        // attempts in a row that have
}

// Begin returns the state of a check that starts at now. fraction in [0, 1) chooses the random part of the first delay.
func Begin(c *Config, now clock.Time, fraction float64) State {
	return State{Up: !c.Alpha, Due: now.Add(bootDelay + time.Duration(fraction*float64(c.Warmup)))}
}

// Outcome is what an attempt found.
type Outcome struct {
	OK     bool
	Adjust int    // what the server's weight is changed by; with OK
	Reason string // one line: what failed, or what succeeded
}

// Event is what a check learns.
type Event interface{ event() }

// The events.
type (
	Tick    struct{}          // time has passed; harmless before Due
	Done    struct{ Outcome } // the attempt has ended
	Suspend struct{}          // attempts are to stop; the verdict stays
	Resume  struct{}
	Doubt   struct{} // somebody wants to know at once what attempts from now on say, even if that is what the ones before said
)

func (Tick) event()    {}
func (Done) event()    {}
func (Suspend) event() {}
func (Resume) event()  {}
func (Doubt) event()   {}

// Action is what is to be done.
type Action interface{ action() }

// The actions.
type (
	// Attempt: make an attempt, and say how it ended (Done).
	Attempt struct{ Step int }

	// Report: there is a first verdict, or another one, or another adjustment of the weight, or what was doubted is borne out; see
	// the state.
	Report struct{ Reason string }

	// Note: an attempt has failed, and the verdict is as it was.
	Note struct{ Reason string }
)

func (Attempt) action() {}
func (Report) action()  {}
func (Note) action()    {}

// Step returns the state after an event at now, and what is to be done: at most one action.
func (s State) Step(c *Config, now clock.Time, event Event) (State, Action) {
	switch event := event.(type) {
	case Tick:
		switch {
		case s.Due.IsZero() || now.Before(s.Due):
		case s.Suspended:
			s.Due = now.Add(c.Interval)
		default:
			s.Due, s.started = 0, now
			return s, Attempt{Step: s.Next}
		}
	case Suspend:
		s.Suspended = true
	case Resume:
		s.Suspended = false
	case Doubt:
		s.doubted, s.borne = now, 0
		if !s.Due.IsZero() && !s.Suspended {
			s.Due = now
		}
	case Done:
		return s.done(c, now, event.Outcome)
	}
	return s, nil
}

// done takes in how the attempt ended.
func (s State) done(c *Config, now clock.Time, o Outcome) (State, Action) {
	from := now
	if c.FromStart {
		from = s.started
	}
	if s.Suspended {
		s.Due = later(now, from.Add(c.Interval))
		return s, nil
	}
	var delay time.Duration
	var action Action
	if o.OK {
		s, delay, action = s.succeed(c, o)
	} else {
		s, delay, action = s.fail(c, o)
	}
	if s, action = s.bear(c, o, action); !s.doubted.IsZero() && o.OK == s.Up {
		delay = 0 // somebody waits for the rest
	}
	s.Due = later(now, from.Add(delay))
	return s, action
}

// bear counts the attempts that bear out a verdict which is doubted: a failure if it is down, or a success of each step.
func (s State) bear(c *Config, o Outcome, action Action) (State, Action) {
	_, reported := action.(Report)
	switch {
	case s.doubted.IsZero():
		return s, action
	case reported:
	case o.OK != s.Up:
		s.borne = 0
		return s, action
	case s.started.Before(s.doubted):
		return s, action
	default:
		s.borne++
		if s.Up && s.borne < c.Steps {
			return s, action
		}
		action = Report{o.Reason}
	}
	s.doubted, s.borne = 0, 0
	return s, action
}

func (s State) succeed(c *Config, o Outcome) (State, time.Duration, Action) {
	settled := s.Up && s.Known
	delay := c.Interval
	if !settled && c.FastRecovery {
		delay = 0
	}
	s.Failures = 0
	switch {
	case s.Broken:
		s.Broken, s.Next = false, 0
		return s, delay, nil
	case s.Next+1 < c.Steps:
		s.Next++
		if !settled {
			return s, delay, nil
		}
	default:
		s.Next = 0
	}
	if settled && s.Adjust == o.Adjust {
		return s, delay, nil
	}
	s.Up, s.Known, s.Adjust = true, true, o.Adjust
	return s, c.Interval, Report{o.Reason}
}

func (s State) fail(c *Config, o Outcome) (State, time.Duration, Action) {
	settled := s.Known && !s.Up // the verdict is there already
	switch {
	case settled && c.Rounds && !s.Broken:
		return s, c.RetryDelay, Note{o.Reason}
	case s.Known && s.Failures < c.Retries && (!settled || c.RetryFailed):
		s.Failures++
		return s, c.RetryDelay, Note{o.Reason}
	case settled:
		s.Failures = 0
		return s, c.FailedInterval, Note{o.Reason}
	}
	// At the start nothing is forgiven.
	s.Up, s.Known, s.Adjust, s.Failures, s.Broken = false, true, 0, 0, c.Rounds
	return s, c.FailedInterval, Report{o.Reason}
}

func later(a, b clock.Time) clock.Time {
	if a.Before(b) {
		return b
	}
	return a
}
