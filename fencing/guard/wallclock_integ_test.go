//go:build integ

package guard

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The wall clock is only set where that harms nobody: in a virtual machine made for it.
const maySetClock = "HAD_TEST_MAY_SET_CLOCK"

func stepWallClock(t *testing.T, by time.Duration) {
	t.Helper()
	ts := unix.NsecToTimespec(kernelWall() + int64(by))
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		t.Fatal(err)
	}
}

func TestSetWallClock(t *testing.T) {
	if os.Getenv(maySetClock) == "" {
		t.Skipf("sets the machine's clock: for a virtual machine with %s=1", maySetClock)
	}
	l := newLAN(t)
	g := installed(t, l, nil)
	ctx, cancel := context.WithCancel(context.Background())
	stepped, ended := make(chan struct{}, 8), make(chan error)
	go func() { ended <- WatchClock(ctx, func() { stepped <- struct{}{} }) }()
	time.Sleep(50 * time.Millisecond)
	lease := Lease{Group: group, Until: g.clock().Add(time.Minute), First: true}
	for _, by := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour} {
		mustArm(t, g, lease)
		lease.First = false
		p := startProber(t, l)
		time.Sleep(200 * time.Millisecond)
		at := g.clock()
		stepWallClock(t, by)
		select {
		case <-stepped:
		case <-time.After(10 * time.Second):
			t.Fatal("the step was not noticed")
		}
		noticed := g.clock()
		time.Sleep(200 * time.Millisecond)
		before := g.clock()
		mustArm(t, g, lease)
		repaired := g.clock()
		time.Sleep(200 * time.Millisecond)
		end, results := g.clock(), p.results()
		t.Logf("set by %v: noticed after %.2f ms, armed again in %.2f ms", by, float64(noticed.Sub(at))/1e6,
			float64(repaired.Sub(before))/1e6)
		if by > 0 { // the deadlines in the kernel are in the past
			mustBeSilent(t, results, noticed, before)
		} else {
			mustAnswer(t, results, noticed, before)
		}
		mustAnswer(t, results, repaired, end)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
