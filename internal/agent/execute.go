package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fencing/guard"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/vrrp"
)

// step gives an event to the machine and carries out what it asks for, with all that follows from that.
func (a *Agent) step(ev director.Event) {
	for events := []director.Event{ev}; len(events) > 0; events = events[1:] {
		a.stepped = a.clock.Now()
		events = append(events, a.execute(a.machine.Step(a.stepped, events[0]))...)
	}
}

// execute carries out a batch in order and returns what came of it. Neighbouring orders to the guard go to the kernel
// together.
func (a *Agent) execute(actions []director.Action) (results []director.Event) {
	for len(actions) > 0 {
		switch act := actions[0].(type) {
		case director.GuardArm:
			run := runOf[director.GuardArm](actions)
			results = append(results, a.arm(run)...)
			actions = actions[len(run):]
			continue
		case director.GuardShut:
			run := runOf[director.GuardShut](actions)
			a.shut(run)
			actions = actions[len(run):]
			continue
		case lease.Send, lease.Propose, lease.RaiseCeiling:
			a.link.Do(act.(lease.Action))
		case director.Look:
			go a.lookAround(act, a.lookedAt(act.Group))
		case director.GuardRestore:
			results = append(results, a.restoreGuard(act)...)
		case director.TakeAddresses:
			results = append(results, a.take(act)...)
		case director.ChangeAddresses:
			results = append(results, a.changeAddresses(act)...)
		case director.DropAddresses:
			a.drop(act)
		case director.SendAdvert:
			a.sendAdvert(act)
		case director.Announce:
			a.announce(act)
		case director.ConfirmInvisible:
			results = append(results, a.confirm(act)...)
		case director.Submit:
			a.link.Submit(act.Command)
		case director.SwitchOff:
			a.switchOff(act)
		case director.SwitchOn:
			a.switchOn(act)
		case director.Stand:
			a.link.Publish(act.Groups)
		case director.Transition:
			a.transition(act)
		case director.LowerHeard:
			a.lowerHeard(act)
		case director.Journal:
			a.journal(act)
		case director.Stopped:
			a.finished = true
		}
		actions = actions[1:]
	}
	return results
}

// runOf returns the actions of one type at the head of a batch.
func runOf[T any](actions []director.Action) []T {
	var run []T
	for _, a := range actions {
		t, same := a.(T)
		if !same {
			break
		}
		run = append(run, t)
	}
	return run
}

// expired tells whether a lease's deadline has been reached (O5). It is asked right before anything becomes visible.
func (a *Agent) expired(notAfter clock.Time) bool {
	return !notAfter.IsZero() && a.clock.Now() >= notAfter
}

// arm opens the guard of groups, or keeps it open for longer, and lets their addresses live on.
func (a *Agent) arm(arms []director.GuardArm) (results []director.Event) {
	failed := make([]string, len(arms))
	for _, g := range arms {
		if g.First {
			a.opt.Companion.Lease(g.Group, uint64(g.Epoch))
		}
	}
	if a.guard != nil {
		leases := make([]guard.Lease, len(arms))
		for i, g := range arms {
			leases[i] = guard.Lease{Group: g.Group, Until: g.Until, First: g.First}
		}
		for i, err := range a.guard.Arm(leases) {
			if errors.Is(err, guard.ErrNotInstalled) {
				return []director.Event{director.GuardGone{Reason: "the guard's rules were removed"}}
			}
			if err != nil {
				failed[i] = err.Error()
			}
		}
	}
	for i, g := range arms {
		if failed[i] == "" {
			a.extendAddresses(g)
			delete(a.unshut, g.Group)
		}
		results = append(results, director.GuardDone{Group: g.Group, Epoch: g.Epoch, Failed: failed[i]})
	}
	return results
}

// extendAddresses refreshes the lifetimes of a group's addresses where they need it.
func (a *Agent) extendAddresses(g director.GuardArm) {
	for _, name := range a.members[g.Group] {
		i := a.instances[name]
		if a.guard == nil && !i.holding.lifetime {
			continue // guard none: addresses without a limit
		}
		if err := i.holding.extend(a.clock.Now(), g.Until); err != nil {
			a.log.Error("cannot refresh the lifetime of addresses", "instance", name, "err", err)
		}
	}
}

// shut closes the guard of groups. What cannot be shut is remembered: then only the absence of its addresses counts.
func (a *Agent) shut(groups []director.GuardShut) {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.Group
	}
	if a.guard == nil {
		a.distrust(names)
		return
	}
	if err := a.guard.Shut(names); err != nil {
		a.log.Error("cannot shut the guard", "groups", names, "err", err)
		a.distrust(names)
	}
}

// distrust notes that the guard of groups is not known to be shut.
func (a *Agent) distrust(groups []string) {
	for _, name := range groups {
		a.unshut[name] = true
	}
}

func (a *Agent) groupNames() []string {
	names := make([]string, 0, len(a.groups))
	for _, g := range a.groups {
		names = append(names, g.Name)
	}
	return names
}

// restoreGuard replaces the guard's rules by fresh ones. While that fails, no group may be owned.
func (a *Agent) restoreGuard(act director.GuardRestore) (results []director.Event) {
	if a.guard == nil {
		for _, g := range act.Open {
			results = append(results, director.GuardDone{Group: g.Group, Epoch: g.Epoch})
		}
		return results
	}
	leases := make([]guard.Lease, len(act.Open))
	for i, g := range act.Open {
		leases[i] = guard.Lease{Group: g.Group, Until: g.Until, First: true}
	}
	errs, err := a.guard.Replace(a.spec, leases)
	if err != nil {
		a.guardFault = "the guard cannot be put in place: " + err.Error()
		a.log.Error("cannot put the guard in place", "err", err)
		a.distrust(a.groupNames())
	} else {
		a.guardFault = ""
		clear(a.unshut) // fresh rules are shut for all but those that are to be open
	}
	for i, g := range act.Open {
		done := director.GuardDone{Group: g.Group, Epoch: g.Epoch}
		if errs[i] != nil {
			done.Failed = errs[i].Error()
		}
		results = append(results, done)
	}
	return append(results, a.faultEvents()...)
}

// take adds the addresses, then the routes and rules of an instance that has become Active.
func (a *Agent) take(act director.TakeAddresses) []director.Event {
	i := a.instances[act.Instance]
	if a.expired(act.NotAfter) {
		return nil // the next tick tells the machine
	}
	a.bequeath(i)
	until := act.NotAfter
	if a.guard == nil && !i.holding.lifetime {
		until = 0
	}
	err := i.holding.take(a.clock.Now(), until)
	if err != nil && a.clustered() {
		return []director.Event{director.AddressesFailed{Instance: act.Instance, Reason: err.Error()}}
	}
	if !a.expired(act.NotAfter) {
		a.takeForwarding(i)
	}
	a.takenChanged = true
	if err != nil {
		return []director.Event{director.AddressesFailed{Instance: act.Instance, Reason: err.Error()}}
	}
	return nil
}

// changeAddresses adds what an Active instance has got by a reload: addresses, which are announced, routes and rules.
func (a *Agent) changeAddresses(act director.ChangeAddresses) []director.Event {
	i := a.instances[act.Instance]
	if a.expired(act.NotAfter) {
		return nil // the next tick tells the machine
	}
	a.bequeath(i)
	added, err := i.holding.add(a.clock.Now())
	if len(added) > 0 {
		a.announceAddresses(i, added, max(1, i.conf.GARP.MasterRepeat), act.NotAfter)
		a.takenChanged = true
	}
	if err := i.forwarding.takeNew(); err != nil {
		a.log.Error("cannot add routes or rules", "instance", act.Instance, "err", err)
	}
	if err != nil {
		return []director.Event{director.AddressesFailed{Instance: act.Instance, Reason: err.Error()}}
	}
	return nil
}

// drop removes rules, routes and addresses of an instance that has left Active.
func (a *Agent) drop(act director.DropAddresses) {
	i := a.instances[act.Instance]
	i.speaker.CancelAnnouncements()
	clear(i.strangers) // who claims the addresses from here on may have every right to
	i.stuck = ""
	a.dropForwarding(i)
	if err := i.holding.drop(); err != nil {
		i.stuck = err.Error()
		a.log.Error("cannot remove addresses", "instance", act.Instance, "err", err)
	} else {
		a.opt.Companion.Drop(act.Instance)
	}
	a.takenChanged = true
}

// confirm answers once a group cannot be visible: its guard is shut, or its addresses are gone.
func (a *Agent) confirm(act director.ConfirmInvisible) []director.Event {
	if a.unshut[act.Group] {
		for _, name := range a.members[act.Group] {
			i := a.instances[name]
			if i.stuck == "" {
				continue
			}
			if err := i.holding.drop(); err != nil {
				a.log.Error("cannot remove addresses", "instance", name, "err", err)
				return nil // asked again with the next event
			}
			i.stuck = ""
			a.opt.Companion.Drop(name)
		}
		if a.guard != nil && a.guard.Shut([]string{act.Group}) == nil {
			delete(a.unshut, act.Group)
		}
	}
	a.opt.Companion.Lease(act.Group, 0)
	return []director.Event{director.Invisible(act)}
}

// transition logs an instance's change of status.
func (a *Agent) transition(t director.Transition) {
	i := a.instances[t.Instance]
	i.since, a.moved = time.Now(), true
	switch vrrp.Active {
	case t.To:
		i.counted.became++
	case t.From:
		i.counted.released++
	}
	level := a.log.Info
	if t.Silent {
		level = a.log.Debug
	}
	level("VRRP state changed", "instance", t.Instance, "from", t.From.KeepalivedName(), "to", t.To.KeepalivedName(),
		"reason", t.Reason, "priority", t.Priority)
	if t.Silent {
		return
	}
	a.notify(i, t)
	if t.To == vrrp.Fault || t.From == vrrp.Fault {
		severity := fsm.Warn
		if t.From == vrrp.Fault {
			severity = fsm.Info
		}
		a.note(fsm.Note{Kind: "vrrp", Severity: severity, Group: i.group,
			Text: t.Instance + " is in " + t.To.KeepalivedName() + ": " + t.Reason})
	}
}

func (a *Agent) journal(j director.Journal) {
	level := map[director.Severity]func(string, ...any){director.Info: a.log.Info, director.Warn: a.log.Warn,
		director.Error: a.log.Error}[j.Severity]
	level(j.Text, "group", j.Group, "kind", j.Kind)
	if j.Kind == director.Lapse {
		a.lapsed[j.Group] = time.Now()
	}
	a.note(fsm.Note{Kind: j.Kind, Severity: fsm.Severity(j.Severity), Group: j.Group, Text: j.Text})
}

// inLoop runs f on the loop's goroutine and waits for it.
func (a *Agent) inLoop(ctx context.Context, f func(now clock.Time)) error {
	done := make(chan struct{})
	select {
	case a.requests <- func() { f(a.clock.Now()); close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-a.ended:
		return errStopped
	}
	select {
	case <-done:
		return nil
	case <-a.ended:
		return errStopped
	}
}
