package check

import (
	"context"
	"net/netip"
	"reflect"
	"time"

	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/lvs/check/verdict"
)

// Check is a health check of one server.
type Check struct {
	ID       string // names it among the checks of an Engine
	Schedule Schedule
	Probe    Probe
	Alpha    bool // failed until it has succeeded

	// LogFailures logs each attempt that fails, not only the verdicts.
	LogFailures bool
}

// Schedule is when attempts are made.
type Schedule struct {
	Interval   time.Duration // between attempts
	RetryDelay time.Duration // before another attempt after one that failed
	Retries    int           // failed attempts that are forgiven
	Warmup     time.Duration // bound of the random delay before the first
}

// Result is what is known of a server from one check.
type Result struct {
	ID     string
	Up     bool
	Adjust int        // what the server's weight is changed by; 0 while it is down
	Reason string     // one line for people: what was tried on what, and how it went
	At     clock.Time //
}

// Probe is how one attempt is made: *TCP, *HTTP, *SMTP, *DNS, *UDP, *Ping, Misc or Input. A Probe is data, which is not changed: two
// that are equal do the same.
type Probe interface {
	// schedule completes what verdict needs to know.
	schedule(c *verdict.Config)

	// prepare returns what makes attempts, or why none can be made.
	prepare(e *Engine) (prober, error)
}

// prober makes attempts of one check, one at a time: a *connector, for which the Engine connects, or an attempter.
type prober any

// attempter makes attempts that take a goroutine.
type attempter interface {
	// attempt makes the attempt of a step and returns when it is over, at the latest soon after the end of ctx, whose
	// deadline bounds the attempt as a whole.
	attempt(ctx context.Context, step int) verdict.Outcome
}

// Endpoint is what an attempt over the network connects to, and from where.
type Endpoint struct {
	Target    netip.AddrPort // with the zone of a link-local address
	Bind      netip.Addr     // source address; unset: the kernel's choice
	BindPort  uint16         // source port; 0: the kernel's choice
	Interface string         // that packets leave by; empty: the kernel's choice
	Mark      uint32         // SO_MARK; 0: none

	// Timeout is the time for connecting and for each read.
	Timeout time.Duration
}

// Input is a check without attempts: its outcomes are given to the Engine from outside, such as the value of a file or the
// state of a BFD session.
type Input struct{}

func (Input) schedule(*verdict.Config) {}

func (Input) prepare(*Engine) (prober, error) { return nil, nil }

// config returns the schedule as package verdict wants it.
func (c *Check) config() verdict.Config {
	v := verdict.Config{
		Interval:       c.Schedule.Interval,
		FailedInterval: c.Schedule.Interval,
		RetryDelay:     c.Schedule.RetryDelay,
		Retries:        c.Schedule.Retries,
		Warmup:         c.Schedule.Warmup,
		Steps:          1,
		Alpha:          c.Alpha,
	}
	c.Probe.schedule(&v)
	return v
}

// same tells whether two probes ask the same of the same server, so that the verdict of one holds for the other.
func same(a, b Probe) bool { return reflect.DeepEqual(identity(a), identity(b)) }

// identity returns a probe without what does not decide who answers.
func identity(p Probe) Probe {
	switch p := p.(type) {
	case *HTTP:
		h := *p
		if p.TLS != nil {
			h.TLS = &TLS{id: p.TLS.id}
		}
		return &h
	case Misc:
		p.Weight = 0
		return p
	}
	return p
}

func succeeded(reason string) verdict.Outcome { return verdict.Outcome{OK: true, Reason: reason} }

func failed(reason string) verdict.Outcome { return verdict.Outcome{Reason: reason} }
