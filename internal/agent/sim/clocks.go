package sim

import (
	"time"

	"github.com/hactl/had/internal/clock"
)

// instant is true time since the beginning of a run, in nanoseconds. No machine can read it.
type instant int64

func (t instant) add(d time.Duration) instant { return t + instant(d) }
func (t instant) sub(u instant) time.Duration { return time.Duration(t - u) }

// perMillion is a rate's difference from one.
type perMillion int64

// scale returns d as a clock of that rate counts it. Integers, so that a seed gives the same run on every machine.
func (p perMillion) scale(d time.Duration) time.Duration {
	return d + time.Duration(int64(d)*int64(p)/1_000_000)
}

// clocks are a machine's clocks. All of them run at the machine's own rate; the kernel's are slewed in addition.
type clocks struct {
	at        instant // of the readings below
	lease     clock.Time
	kernel    time.Duration // CLOCK_MONOTONIC and jiffies: stands still during a suspend
	wall      int64         // CLOCK_REALTIME, nanoseconds since 1970
	rate      perMillion    // of the oscillator, which is the lease clock's
	slew      perMillion    // of the kernel's clocks against the oscillator
	suspended bool
}

// read moves the readings to now.
func (c *clocks) read(now instant) {
	passed := c.rate.scale(now.sub(c.at))
	c.at = now
	c.lease = c.lease.Add(passed)
	slewed := c.slew.scale(passed)
	c.wall += int64(slewed)
	if !c.suspended {
		c.kernel += slewed
	}
}

// when returns the first instant at which the lease clock shows at least t, if its rate stays as it is.
func (c *clocks) when(t clock.Time) instant {
	left := t.Sub(c.lease)
	if left <= 0 {
		return c.at
	}
	guess := c.at.add((-c.rate).scale(left))
	for c.lease.Add(c.rate.scale(guess.sub(c.at))) < t {
		guess = guess.add(time.Microsecond + time.Duration(int64(left)/100_000))
	}
	return guess
}
