package agent

import (
	"testing"

	"github.com/hactl/had/fencing/watchdog"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
)

func TestAWatchdogIsFedAsOftenAsItsTimeoutIsCheckedAgainst(t *testing.T) {
	const now clock.Time = 1_000_000_000
	a := &Agent{housekept: now}
	if every := a.housekeepAt().Sub(now); every != housekeeping {
		t.Errorf("without a watchdog: every %v", every)
	}
	a.dog = &watchdog.Device{}
	if every := a.housekeepAt().Sub(now); every > conf.WatchdogFeed {
		t.Errorf("a watchdog is fed every %v, and its timeout was checked against %v", every, conf.WatchdogFeed)
	}
}
