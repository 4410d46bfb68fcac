package agent

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/vrrp/speaker"
	"github.com/hactl/had/vrrp/track"
)

// script is a tracked script. Those that nobody tracks are not run.
type script struct {
	conf     *conf.Script
	run      notify.Script
	state    track.Script
	unusable string // why it cannot be run
	last     string // the last failure, for the status
}

// scriptResult is the outcome of one run.
type scriptResult struct {
	name    string
	outcome notify.Outcome
}

// startScripts begins to run what is tracked. A script that cannot be used is dropped, as in keepalived, and said.
func (a *Agent) startScripts(work context.Context) {
	tracked := map[string]bool{}
	for _, name := range a.order {
		for _, t := range a.instances[name].conf.Tracking.Scripts {
			tracked[t.Name] = true
		}
	}
	for i := range a.cfg.Scripts {
		c := &a.cfg.Scripts[i]
		if !tracked[c.Name] {
			continue
		}
		s := &script{conf: c}
		a.scripts = append(a.scripts, s)
		var err error
		if s.run, err = resolve(&a.cfg.Global, &c.Command); err != nil {
			s.unusable = err.Error()
			a.log.Error("tracked script cannot be used, what it tracks is ignored", "script", c.Name, "err", err)
			continue
		}
		go a.runner.Watch(work, s.run, c.Interval, c.Timeout, func(o notify.Outcome) {
			a.post(work, scriptResult{name: c.Name, outcome: o})
		})
	}
	a.look()
}

// scriptDone counts a result and tells the machine what follows from it.
func (a *Agent) scriptDone(r scriptResult) {
	for _, s := range a.scripts {
		if s.conf.Name != r.name {
			continue
		}
		before := s.state.Condition
		s.state = s.state.Result(r.outcome.OK(), s.conf.Rise, s.conf.Fall)
		s.last = ""
		if r.outcome.Err != nil {
			s.last = r.outcome.Err.Error()
		}
		if s.state.Condition != before {
			a.log.Info("tracked script changed", "script", r.name, "from", before.String(), "to", s.state.Condition.String(),
				"reason", s.last)
		}
	}
	a.look()
}

// fromKernel takes in a change of an interface or an address.
func (a *Agent) fromKernel(ev link.Event) {
	a.handleLink(ev)
	a.carrierEvent(ev)
	if added, ok := ev.(link.AddressAdded); ok && a.clustered() {
		a.removeForeign(added.Address)
	}
	a.promoteNew(ev)
	a.restoreAfter(ev)
	if gone, ok := ev.(link.AddressRemoved); ok {
		a.staticAddressGone(gone.Address)
		for _, name := range a.order {
			if i := a.instances[name]; i.holding.taken && i.holding.tracks(gone.Address) {
				i.restored++
				a.step(director.AddressesGone{Instance: name, Reason: gone.Address.Prefix.String() + " was removed by somebody else"})
			}
		}
	}
	switch ev.(type) {
	case link.LinkChanged, link.LinkRemoved, link.AddressAdded, link.AddressRemoved, link.AddressChanged, link.Synced:
		a.look()
	}
}

// removeForeign removes a virtual address that somebody else has added while its group is not held here. The guard keeps
// it from being used meanwhile.
func (a *Agent) removeForeign(added address.Address) {
	for _, name := range a.order {
		i := a.instances[name]
		if i.holding.taken || !i.holding.has(added) {
			continue
		}
		text := added.Prefix.String() + " was added by somebody else while this node does not own it; removed"
		if err := a.manager.Remove(added); err != nil {
			text = added.Prefix.String() + " was added by somebody else and cannot be removed: " + err.Error()
		}
		a.journal(director.Journal{Group: i.group, Severity: director.Warn, Kind: "address", Text: text})
	}
}

// look evaluates everything that an instance's fitness depends on, and tells the machine what has changed.
func (a *Agent) look() {
	if a.machine == nil {
		return
	}
	for _, name := range a.order {
		i := a.instances[name]
		if source := i.speaker.Status().Source; source != i.source {
			i.source = source
			a.step(director.Source{Instance: name, Address: source})
		}
		up := a.linkUp(i)
		if up && !i.linkUp {
			a.step(director.LinkUp{Instance: name})
		}
		i.linkUp = up
	}
	a.seeDelayed(a.clock.Now())
	for _, ev := range a.faultEvents() {
		a.step(ev)
	}
	a.tellPriorities()
}

// faultEvents compares what keeps instances from running with what the machine was told.
func (a *Agent) faultEvents() []director.Event {
	var events []director.Event
	for _, name := range a.order {
		i := a.instances[name]
		causes, priority := a.fitness(i)
		for _, cause := range slices.Sorted(maps.Keys(causes)) {
			if silent, told := i.causes[cause]; !told || silent != causes[cause] {
				events = append(events, director.Fault{Instance: name, Cause: cause, Silent: causes[cause]})
			}
		}
		if priority != i.priority {
			events = append(events, director.Priority{Instance: name, Priority: priority})
		}
		for _, cause := range slices.Sorted(maps.Keys(i.causes)) {
			if _, still := causes[cause]; !still {
				events = append(events, director.Fault{Instance: name, Cause: cause, Gone: true})
			}
		}
		i.causes, i.priority = causes, priority
	}
	return events
}

// fitness says what keeps an instance from running (with true: only until a first result), and its effective priority.
func (a *Agent) fitness(i *instance) (causes map[string]bool, priority uint8) {
	causes = map[string]bool{}
	if a.guardFault != "" {
		causes[a.guardFault] = false
	}
	for _, name := range interfacesOf(i.conf) {
		_, exists := a.table.ByName(name)
		switch {
		case !exists:
			causes["interface "+name+" does not exist"] = false
		case name != i.conf.Interface || !i.conf.TrackPrimary:
		case !a.works(name):
			causes["interface "+name+" is down"] = false
		}
	}
	for _, c := range a.carriers {
		if c.instance == i.conf.Name && c.trouble != "" {
			causes[c.trouble] = false
		}
	}
	if err := i.speaker.Status().Err; err != nil && !errors.Is(err, speaker.ErrNoInterface) {
		causes[err.Error()] = false
	}
	if i.conf.TrackSource && !a.hasSource(i.conf) {
		causes["source address "+i.conf.Source.String()+" is absent"] = false
	}
	outcome := track.Evaluate(i.conf.Priority, a.objects(i), a.trackedFiles(i))
	for _, f := range outcome.Faults {
		causes[f] = false
	}
	for _, w := range outcome.Waiting {
		causes["waiting for the first result of "+w] = true
	}
	return causes, outcome.Priority
}

// interfacesOf lists the interfaces that an instance cannot do without: its own and those of its addresses.
func interfacesOf(in *conf.Instance) []string {
	var names []string
	if in.Interface != "" {
		names = append(names, in.Interface)
	} else if in.VRF != "" {
		names = append(names, in.VRF)
	}
	for _, addr := range held(in) {
		if addr.Interface != "" && !slices.Contains(names, addr.Interface) {
			names = append(names, addr.Interface)
		}
	}
	return names
}

// objects lists what an instance tracks apart from files, as it stands.
func (a *Agent) objects(i *instance) []track.Object {
	var objects []track.Object
	for _, t := range i.conf.Tracking.Interfaces {
		o := track.Object{Name: "interface " + t.Name, Weight: t.Weight, Reverse: t.Reverse, Condition: track.Failed}
		if a.works(t.Name) {
			o.Condition = track.Good
		}
		objects = append(objects, o)
	}
	for _, t := range i.conf.Tracking.Scripts {
		for _, s := range a.scripts {
			if s.conf.Name == t.Name && s.unusable == "" {
				objects = append(objects, track.Object{Name: "script " + t.Name, Weight: t.Weight, Reverse: t.Reverse,
					Condition: s.state.Condition})
			}
		}
	}
	return append(objects, a.trackedProcesses(i)...)
}

// linkUp tells whether an instance's interface works.
func (a *Agent) linkUp(i *instance) bool {
	l, ok := a.table.ByName(i.conf.Interface)
	return ok && l.Works()
}
