package cluster

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestAnIdleClusterWritesNothingAndComputesLittle(t *testing.T) {
	w := newWorld(t, 2500*time.Millisecond)
	dumpOnFailure(t, w)
	var writes atomic.Int64
	w.tweak = func(c *Config) {
		c.seams.gossip.rejoin, c.seams.gossip.probe = 0, 0
		c.seams.fault = func(operation string) error {
			if operation != "get-log" {
				writes.Add(1)
			}
			return nil
		}
	}
	w.found()
	time.Sleep(300 * time.Millisecond)
	before, cpu, start := writes.Load(), cpuTime(t), time.Now()
	time.Sleep(2 * time.Second)
	share := 100 * (cpuTime(t) - cpu).Seconds() / time.Since(start).Seconds() / 3
	if n := writes.Load() - before; n != 0 {
		t.Errorf("%d writes while nothing changed", n)
	}
	t.Logf("%.2f%% of a core per member", share)
	if share > 2 && !raceEnabled {
		t.Errorf("an idle member takes %.2f%% of a core", share)
	}
}
