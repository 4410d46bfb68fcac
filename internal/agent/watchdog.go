package agent

import (
	"fmt"

	"github.com/hactl/had/fencing/watchdog"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
)

// openWatchdog starts the watchdog, if there is to be one. Where fencing is required an error says that it cannot be used;
// else that is a finding, and the director works without.
func (a *Agent) openWatchdog() error {
	if !a.clustered() || a.cfg.Cluster.Watchdog == nil {
		return nil
	}
	w := a.cfg.Cluster.Watchdog
	dog, err := watchdog.Open(w.Device, w.Timeout)
	switch {
	case err != nil && a.cfg.Cluster.Fencing == conf.FencingRequired:
		return fmt.Errorf("fencing is required, and there is no watchdog to rely on: %w", err)
	case err != nil:
		a.log.Error("the watchdog cannot be used", "err", err)
		a.dogFault = err.Error()
		return nil
	}
	a.log.Info("the watchdog runs", "device", w.Device, "timeout", w.Timeout)
	a.dog = dog
	return nil
}

// feedWatchdog puts the reset of this machine off, as long as nothing is visible beyond its lease.
func (a *Agent) feedWatchdog(now clock.Time) {
	if a.dog == nil {
		return
	}
	if why := a.overdue(now); why != "" {
		a.log.Error("the watchdog is not fed", "reason", why)
		return
	}
	if err := a.dog.Feed(); err != nil {
		a.log.Error("cannot feed the watchdog", "err", err)
	}
}

// overdue names a group that may be visible although its lease is over: the loop is late, or the guard could not be shut
// and the addresses could not be removed. Empty if there is none.
func (a *Agent) overdue(now clock.Time) string {
	for _, g := range a.groups {
		if v, _ := a.machine.Group(g.Name); v.Held && now >= v.Until {
			return fmt.Sprintf("the lease of %s is over, and it is still held", g.Name)
		}
		for _, name := range a.members[g.Name] {
			if a.unshut[g.Name] && a.instances[name].stuck != "" {
				return fmt.Sprintf("%s has left addresses behind: %s", name, a.instances[name].stuck)
			}
		}
	}
	return ""
}

// closeWatchdog stops the watchdog: nothing is held any more.
func (a *Agent) closeWatchdog() {
	if a.dog == nil {
		return
	}
	if err := a.dog.Close(); err != nil {
		a.log.Error("cannot stop the watchdog", "err", err)
	}
}
