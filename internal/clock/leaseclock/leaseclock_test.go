package leaseclock

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/clock"
)

// machine is a computer whose clocks a test moves.
type machine struct {
	monotonic, raw, slept time.Duration
	disturb               func() // runs between two readings
}

func (m *machine) read(id int32) (time.Duration, error) {
	if m.disturb != nil {
		m.disturb()
	}
	switch id {
	case unix.CLOCK_MONOTONIC_RAW:
		return m.raw, nil
	case unix.CLOCK_BOOTTIME:
		return m.monotonic + m.slept, nil
	default:
		return m.monotonic, nil
	}
}

func (m *machine) pass(d time.Duration) { m.monotonic, m.raw = m.monotonic+d, m.raw+d }

func open(t *testing.T, m *machine) *Clock {
	t.Helper()
	c, err := newClock(m.read)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheClockCountsWhatTheMachineSlept(t *testing.T) {
	m := &machine{monotonic: time.Hour, raw: time.Hour}
	c := open(t, m)
	before := c.Now()
	m.pass(time.Second)
	m.slept += time.Minute
	if got := c.Now().Sub(before); got != time.Minute+time.Second {
		t.Fatalf("counted %v", got)
	}
}

func TestTheClockDoesNotSeeSlewing(t *testing.T) {
	m := &machine{monotonic: time.Hour, raw: time.Hour}
	c := open(t, m)
	before := c.Now()
	m.raw += 10 * time.Second
	m.monotonic += 9 * time.Second
	if got := c.Now().Sub(before); got != 10*time.Second {
		t.Fatalf("counted %v", got)
	}
}

func TestAThreadThatIsPreemptedBetweenReadingsSeesNoJump(t *testing.T) {
	m := &machine{monotonic: time.Hour, raw: time.Hour}
	c := open(t, m)
	before := c.Now()
	m.disturb = func() { m.pass(10 * time.Millisecond) }
	after := c.Now()
	m.disturb = nil
	if real := clock.Time(m.raw).Sub(before); after.Sub(before) > real {
		t.Fatalf("counted %v of %v", after.Sub(before), real)
	}
}

func TestSleepBeforeTheStartIsKnownFromTheStart(t *testing.T) {
	m := &machine{monotonic: time.Hour, raw: time.Hour, slept: 24 * time.Hour}
	disturbances := 5
	m.disturb = func() {
		if disturbances > 0 {
			disturbances--
			m.pass(time.Millisecond)
		}
	}
	c := open(t, m)
	if got := c.Now(); got != clock.Time(m.raw+m.slept) {
		t.Fatalf("reads %v", time.Duration(got))
	}
}

func TestAMachineThatIsNeverUndisturbedIsRefused(t *testing.T) {
	m := &machine{}
	m.disturb = func() { m.pass(time.Millisecond) }
	if _, err := newClock(m.read); err == nil {
		t.Fatal("taken")
	}
}

func TestTheKernelsClockGoesForward(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	last := c.Now()
	for range 1000 {
		now := c.Now()
		if now < last {
			t.Fatalf("%d after %d", now, last)
		}
		last = now
	}
}
