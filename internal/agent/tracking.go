package agent

import (
	"context"
	"errors"
	"maps"
	"reflect"
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
	stop     context.CancelFunc
}

// scriptResult is the outcome of one run.
type scriptResult struct {
	script  *script
	outcome notify.Outcome
}

// trackedScripts lists the scripts of a configuration that somebody tracks, and finds their programs. It asks the disk and
// the user database.
func trackedScripts(cfg *conf.Config) []*script {
	tracked := map[string]bool{}
	for i := range cfg.Instances {
		for _, t := range cfg.Instances[i].Tracking.Scripts {
			tracked[t.Name] = true
		}
	}
	var scripts []*script
	for i := range cfg.Scripts {
		c := &cfg.Scripts[i]
		if !tracked[c.Name] {
			continue
		}
		s := &script{conf: c}
		var err error
		if s.run, err = resolve(&cfg.Global, &c.Command); err != nil {
			s.unusable = err.Error()
		}
		scripts = append(scripts, s)
	}
	return scripts
}

// watch begins to run a script. One that cannot be used is dropped, as in keepalived, and said.
func (a *Agent) watch(s *script) {
	if s.unusable != "" {
		a.log.Error("tracked script cannot be used, what it tracks is ignored", "script", s.conf.Name, "err", s.unusable)
		return
	}
	ctx, stop := context.WithCancel(a.work)
	s.stop = stop
	go a.runner.Watch(ctx, s.run, s.conf.Interval, s.conf.Timeout, func(o notify.Outcome) {
		a.post(ctx, scriptResult{script: s, outcome: o})
	})
}

// replaceScripts brings what is run in line with a new configuration. A script that stays the same goes on; one that has
// changed keeps its state, and one that is new holds up nobody.
func (a *Agent) replaceScripts(scripts []*script) {
	before := map[string]*script{}
	for _, s := range a.scripts {
		before[s.conf.Name] = s
	}
	for i, s := range scripts {
		old := before[s.conf.Name]
		if old != nil && conf.Same(old.conf, s.conf) && reflect.DeepEqual(old.run, s.run) && old.unusable == s.unusable {
			old.conf = s.conf
			scripts[i] = old
			delete(before, s.conf.Name)
			continue
		}
		s.state = track.Script{Condition: track.Pending}
		if old != nil {
			s.state, s.last = old.state, old.last
		}
		a.watch(s)
	}
	for _, s := range before {
		if s.stop != nil {
			s.stop()
		}
	}
	a.scripts = scripts
}

// scriptDone counts a result and tells the machine what follows from it.
func (a *Agent) scriptDone(r scriptResult) {
	s := r.script
	before := s.state.Condition
	s.state = s.state.Result(r.outcome.OK(), s.conf.Rise, s.conf.Fall)
	s.last = ""
	if r.outcome.Err != nil {
		s.last = r.outcome.Err.Error()
	}
	if s.state.Condition != before {
		a.log.Info("tracked script changed", "script", s.conf.Name, "from", before.String(), "to", s.state.Condition.String(),
			"reason", s.last)
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
	switch ev := ev.(type) {
	case link.AddressAdded:
		a.lookAfter(ev.Address)
	case link.AddressChanged:
		a.lookAfter(ev.Address)
	case link.AddressRemoved:
		a.staticAddressGone(ev.Address)
		a.virtualAddressGone(ev.Address)
		a.lookAfter(ev.Address)
	default:
		a.look()
	}
}

// lookAfter looks after an address has come, gone or changed. Virtual addresses come and go by the hundred, and nothing
// depends on them unless somebody has configured one as a source.
func (a *Agent) lookAfter(changed address.Address) {
	addr := changed.Prefix.Addr()
	if a.isVirtual(addr) && !slices.ContainsFunc(a.cfg.Instances, func(in conf.Instance) bool {
		return in.TrackSource && in.Source.WithZone("") == addr
	}) {
		return
	}
	a.look()
}

// virtualAddressGone tells the machine of an address that is gone and should not.
func (a *Agent) virtualAddressGone(gone address.Address) {
	for _, name := range a.virtual[gone.Prefix.Addr()] {
		if i := a.instances[name]; i.holding.taken && !i.holding.byUs(gone) && i.holding.tracks(gone) {
			i.restored++
			a.step(director.AddressesGone{Instance: name, Reason: gone.Prefix.String() + " was removed by somebody else"})
		}
	}
}

// removeForeign removes a virtual address that somebody else has added while its group is not held here. The guard keeps
// it from being used meanwhile.
func (a *Agent) removeForeign(added address.Address) {
	for _, name := range a.virtual[added.Prefix.Addr()] {
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
	for _, ev := range a.worldEvents() {
		a.step(ev)
	}
	a.tellPriorities()
}

// worldEvents compares what instances depend on with what the machine was told.
func (a *Agent) worldEvents() []director.Event {
	var events []director.Event
	for _, name := range a.order {
		i := a.instances[name]
		if source := i.speaker.Status().Source; source != i.source {
			i.source = source
			events = append(events, director.Source{Instance: name, Address: source})
		}
		up := a.linkUp(i)
		if up && !i.linkUp {
			events = append(events, director.LinkUp{Instance: name})
		}
		i.linkUp = up
	}
	a.seeDelayed(a.clock.Now())
	return slices.Concat(events, a.hardwareEvent(), a.faultEvents())
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
	if a.services != nil && len(a.cfg.VirtualServers) > 0 && !a.services.complete.Load() {
		causes["the virtual services are not in the kernel yet"] = true
	}
	if i.conf.TrackSource && !a.hasSource(i.conf) {
		causes["source address "+i.conf.Source.String()+" is absent"] = false
	}
	if i.conf.Unicast && len(i.conf.Peers) == 0 {
		causes["there is no unicast peer"] = false // unicast_fault_no_peer
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
	return slices.Concat(objects, a.trackedProcesses(i), a.trackedSessions(i))
}

// linkUp tells whether an instance's interface works.
func (a *Agent) linkUp(i *instance) bool {
	l, ok := a.table.ByName(i.conf.Interface)
	return ok && l.Works()
}
