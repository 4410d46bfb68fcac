package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/fencing"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/linux/route"
	"github.com/hactl/had/internal/linux/vmac"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/lvs/check"
	"github.com/hactl/had/vrrp/speaker"
)

// retirePoll is how often a reload looks whether what it removes has become invisible.
const retirePoll = 50 * time.Millisecond

// candidate is a configuration that is to replace the running one, with everything that the loop must not wait for.
type candidate struct {
	read       *conf.Config // as it was read
	cfg        *conf.Config // with the interfaces that are made for instances
	carriers   []*carrier
	findings   []conf.Finding
	difference conf.Difference
	groups     []director.Group
	spec       fencing.GuardSpec
	scripts    []*script
	notify     notifyScripts
	pipes      []pipe
	alerts     alerts
	trackers   *trackers // nil: those that run stay
	ways       *ways
	monitor    *route.Monitor // of routes and rules, if they are the first; else nil
	presented  *check.TLS

	retired  bool       // the machine has been told what goes
	patience time.Time  // until when the loop waits for new carriers; zero: they are not made yet
	unneeded []*carrier // to be deleted
}

// leftover is the addresses of an instance that could not be removed when the instance was.
type leftover struct {
	instance string
	holding  *holding
}

// Reload reads the configuration and replaces the running one by it: what is the same in both is not touched. One reload
// runs at a time. The error says why the running configuration stays; once anything has been changed the reload is
// carried through, even after ctx has ended.
func (a *Agent) Reload(ctx context.Context) (api.ReloadOutcome, error) {
	a.reloads.Lock()
	defer a.reloads.Unlock()
	a.opt.Supervisor.Reloading()
	defer a.opt.Supervisor.Ready()
	outcome, err := a.reload(ctx)
	if err != nil {
		a.log.Error("the configuration was not reloaded; the running one stays", "err", err)
		return outcome, err
	}
	a.log.Info("configuration reloaded", "changes", outcome.Summary)
	return outcome, nil
}

func (a *Agent) reload(ctx context.Context) (api.ReloadOutcome, error) {
	var pipes []pipe
	var running alerts
	var router *route.Manager
	if err := a.inLoop(ctx, func(clock.Time) { pipes, running, router = a.pipes, a.alerts, a.router }); err != nil {
		return api.ReloadOutcome{}, err
	}
	c, err := a.read()
	if err != nil {
		return api.ReloadOutcome{}, err
	}
	outcome := api.ReloadOutcome{Schema: api.Schema, Node: a.node, Config: c.cfg.Path, Summary: c.difference.Summary(),
		Nothing: c.difference.Nothing(), Changes: []api.ReloadChange{}, Findings: []string{}}
	for _, f := range c.findings {
		if f.Severity == conf.Warning {
			a.log.Warn(f.String())
			outcome.Findings = append(outcome.Findings, f.String())
		}
	}
	for _, kind := range []struct {
		name  string
		items []conf.Item
	}{{"vrrp_instance", c.difference.Instances}, {"vrrp_sync_group", c.difference.Groups}, {"vrrp_script", c.difference.Scripts}} {
		for _, i := range kind.items {
			if i.Change == conf.Unchanged {
				outcome.Unchanged++
			} else {
				outcome.Changes = append(outcome.Changes, api.ReloadChange{Kind: kind.name, Name: i.Name, Change: i.Change.String()})
			}
		}
	}
	if err := a.prepareCandidate(c, pipes, running, router); err != nil {
		return outcome, err
	}
	ctx = context.WithoutCancel(ctx)
	for {
		var done, stopping bool
		if err := a.inLoop(ctx, func(clock.Time) {
			if stopping = a.stopping; !stopping {
				done = a.adopt(c)
			}
		}); err != nil {
			return outcome, err
		}
		switch {
		case stopping:
			return outcome, errStopped
		case done:
			closing, cancel := context.WithTimeout(ctx, lastWords)
			closePipes(closing, pipes, c.pipes, a.log)
			running.stop(closing, c.alerts)
			cancel()
			return outcome, nil
		}
		time.Sleep(retirePoll)
	}
}

// read reads the configuration and compares it with the running one. It changes nothing. The error is for people: it
// holds everything that speaks against the new configuration.
func (a *Agent) read() (*candidate, error) {
	shown, err := a.showReload()
	if err != nil {
		a.log.Error("a reload cannot be shown", "err", err)
	}
	cfg, findings, err := a.opt.Reread()
	shown()
	if err != nil {
		return nil, &api.Problem{Kind: api.Failed, What: "the configuration cannot be read; the running one stays", Why: err.Error()}
	}
	var wrong []string
	for _, f := range findings {
		if f.Severity == conf.Error {
			a.log.Error(f.String())
			wrong = append(wrong, f.String())
		}
	}
	if len(wrong) > 0 || cfg == nil {
		return nil, &api.Problem{Kind: api.Refused, Check: "config-errors",
			What: fmt.Sprintf("the configuration has errors (%d); the running one stays", len(wrong)), Details: wrong,
			Next: "correct the file, then hactl config reload"}
	}
	c := &candidate{read: cfg, findings: findings, difference: conf.Compare(a.running.Load(), cfg)}
	if fixed := c.difference.Refused; len(fixed) > 0 {
		return nil, &api.Problem{Kind: api.Refused, Check: "fixed-words",
			What: "the configuration changes what cannot change while had runs; the running one stays",
			Why:  strings.Join(fixed, ", "), Next: "take the change back, or restart had"}
	}
	existing, err := vmac.List()
	if err != nil {
		return nil, err
	}
	c.cfg, c.carriers = place(cfg, existing)
	c.groups = groupsOf(c.cfg)
	c.spec = guardSpec(c.cfg, c.groups, c.carriers)
	if _, err := c.spec.Plan(); err != nil && a.clustered() {
		wrong = append(wrong, err.Error())
	}
	var speakers []speaker.Config
	for i := range c.cfg.Instances {
		speakers = append(speakers, a.speakerConfig(&c.cfg.Instances[i], c.carriers))
	}
	for _, err := range speaker.Check(speakers) {
		wrong = append(wrong, err.Error())
	}
	if len(wrong) > 0 {
		return nil, &api.Problem{Kind: api.Refused, Check: "config-errors",
			What: "the configuration cannot work; the running one stays", Details: wrong}
	}
	return c, nil
}

// prepareCandidate does what the loop must not wait for.
func (a *Agent) prepareCandidate(c *candidate, open []pipe, running alerts, router *route.Manager) (err error) {
	if c.ways, err = a.openWays(c.cfg, router); err != nil {
		return err
	}
	if router == nil && c.ways.router != nil {
		if c.monitor, err = route.Open(a.log, c.ways.router.Port()); err != nil {
			c.ways.router.Close()
			return err
		}
	}
	c.scripts = trackedScripts(c.cfg)
	if running := a.running.Load(); !wantedTrackers(c.read).same(wantedTrackers(running)) {
		c.trackers = openTrackers(c.read, running, a.log)
	}
	c.notify = resolveNotifyScripts(c.cfg, a.log)
	c.pipes = openPipes(c.cfg, open, a.log)
	c.alerts = startAlerts(&c.cfg.Global, running, a.log)
	c.presented = presentedTo(c.cfg.SSL, a.log)
	return nil
}

// adopt makes a candidate the running configuration, as far as that can be done now; false: what goes is not invisible
// yet. The order: what goes resigns and becomes invisible, and only then is its epoch released; addresses that an
// instance loses are removed; the guard covers the new configuration; what is new becomes visible.
func (a *Agent) adopt(c *candidate) (done bool) {
	if !c.retired {
		c.retired = true
		a.step(a.retirement(c))
	}
	if a.machine.Retiring() {
		return false
	}
	if c.patience.IsZero() {
		c.unneeded, c.patience = a.bringCarriers(c.carriers), time.Now().Add(carrierPatience)
	}
	if !a.carriersWork() && time.Now().Before(c.patience) {
		return false
	}
	a.router, a.unusable = c.ways.router, c.ways.unusable
	if c.monitor != nil {
		a.runForwardingMonitor(c.monitor)
	}
	before := a.order
	kept := a.replaceInstances(c)
	a.bequeathAll()
	for _, name := range before {
		if a.instances[name] == nil {
			a.opt.Companion.Drop(name)
		}
	}
	for _, old := range c.unneeded {
		a.deleteCarrier(old)
	}
	changed := !reflect.DeepEqual(c.spec, a.spec)
	a.cfg, a.groups, a.spec = c.cfg, c.groups, c.spec
	a.members, a.grain = membersOf(a.groups), grainOf(a.cfg)
	a.opt.Findings = c.findings
	a.running.Store(c.read)
	select {
	case a.reconfigured <- struct{}{}:
	default: // it has yet to look
	}
	a.replaceFilter()
	a.replacePromotion()
	a.replaceStatic(c.ways)
	a.replaceScripts(c.scripts)
	a.neighbors.Configure(sessionsOf(a.cfg))
	if c.trackers != nil {
		a.replaceTrackers(c.trackers)
	}
	a.pipes, a.notifier.FIFOs = c.pipes, fifosOf(c.pipes, c.cfg.Global.NotifyFIFO, c.cfg.Global.VRRPNotifyFIFO)
	a.alerts, a.notifier.Receivers = c.alerts, c.alerts.receivers()
	a.notifyScripts = c.notify
	a.serve(c.presented)
	maps.DeleteFunc(a.unshut, func(group string, _ bool) bool { return a.members[group] == nil })
	maps.DeleteFunc(a.lapsed, func(group string, _ time.Time) bool { return a.members[group] == nil })
	maps.DeleteFunc(a.groupStates, func(group string, _ notify.State) bool { return a.members[group] == nil })
	a.step(director.Reload{Groups: a.groups, Kept: kept, World: a.worldEvents(), Guard: changed,
		Fencing: fencingOf(a.cfg), Place: placementOf(a.cfg.Cluster)})
	a.tellPriorities()
	a.watchStrangers()
	if a.cfg.Global.FIFOWriteOnReload {
		a.writeStates()
	}
	if !c.difference.Nothing() {
		a.note(fsm.Note{Kind: "config", Severity: fsm.Info, Text: "configuration reloaded: " + c.difference.Summary()})
	}
	return true
}

// retirement lists what goes: groups that are no more, and instances whose group stays.
func (a *Agent) retirement(c *candidate) director.Retire {
	var gone director.Retire
	stays := map[string]bool{}
	for _, g := range c.groups {
		stays[g.Name] = true
	}
	kept := map[string]bool{}
	for _, item := range c.difference.Instances {
		switch item.Change {
		case conf.Unchanged, conf.Changed:
			kept[a.instances[item.Was].group] = true
		case conf.Removed:
			a.instances[item.Was].removed = true
			gone.Instances = append(gone.Instances, item.Was)
		}
	}
	for _, g := range a.groups {
		// Without a lease a group is no more than its members: those that stay may well find themselves in another one.
		if !stays[g.Name] && (a.clustered() || !kept[g.Name]) {
			gone.Groups = append(gone.Groups, g.Name)
		}
	}
	return gone
}

// replaceInstances gives every instance its new configuration: those that stay keep what they have, apart from addresses
// that are not theirs any more. It returns the names of those that stay, new to old.
func (a *Agent) replaceInstances(c *candidate) (kept map[string]string) {
	before := a.instances
	a.instances, a.order, kept = map[string]*instance{}, nil, map[string]string{}
	for _, item := range c.difference.Instances {
		if item.Change == conf.Removed {
			i := before[item.Was]
			i.speaker.Close()
			if i.stuck != "" {
				a.leftovers = append(a.leftovers, leftover{item.Was, i.holding})
			}
		}
	}
	changed := map[string]*forwarding{}
	for n := range c.cfg.Instances {
		in, item := &c.cfg.Instances[n], c.difference.Instances[n]
		a.order = append(a.order, in.Name)
		if item.Change == conf.Added {
			continue
		}
		i := before[item.Was]
		kept[in.Name] = item.Was
		a.instances[in.Name] = i
		i.conf, i.group = in, groupOf(in)
		if item.Change == conf.Unchanged && (len(c.carriers) == 0 || conf.Same(before[item.Was].holding.instance, in)) {
			i.holding.instance = in // the same, in another file
			continue
		}
		changed[in.Name] = i.forwarding
		i.forwarding = c.ways.of[in.Name]
		a.changeInstance(i, in)
	}
	for name, before := range changed { // once all instances have theirs: what one of them wants stays
		if err := a.instances[name].forwarding.succeed(before, a.forwardings()); err != nil {
			a.log.Error("cannot remove routes or rules", "instance", name, "err", err)
		}
	}
	for n := range c.cfg.Instances { // once those that stay have removed what they lose
		if in := &c.cfg.Instances[n]; a.instances[in.Name] == nil {
			a.instances[in.Name] = a.startInstance(in, c.ways.of[in.Name])
		}
	}
	a.indexAddresses()
	a.guardLeftovers(c)
	return kept
}

// startInstance makes an instance that a reload has brought. As at the start of the process, what an earlier life has
// left behind is removed first.
func (a *Agent) startInstance(in *conf.Instance, f *forwarding) *instance {
	i := a.newInstance(in)
	i.holding.kernel, i.forwarding = a.manager, f
	if err := errors.Join(i.forwarding.drop(a.forwardings()), i.holding.drop()); err != nil {
		a.log.Error("cannot remove what an earlier life left behind", "instance", in.Name, "err", err)
	}
	if err := a.openSpeaker(i); err != nil {
		panic(fmt.Sprintf("agent: %v", err)) // read has checked it
	}
	return i
}

// changeInstance gives an instance that stays another configuration.
func (a *Agent) changeInstance(i *instance, in *conf.Instance) {
	before := *i.holding
	lost, err := i.holding.replace(in)
	if lost {
		i.speaker.CancelAnnouncements() // some are of addresses that may be somebody else's from here on
	}
	if err != nil {
		a.log.Error("cannot remove addresses", "instance", in.Name, "err", err)
		a.leftovers = append(a.leftovers, leftover{in.Name, &before})
	}
	i.speaker.Configure(a.speakerConfig(in, a.carriers))
}

// guardLeftovers keeps addresses guarded, and the guard shut for them, that should be gone and are not.
func (a *Agent) guardLeftovers(c *candidate) {
	guarded := map[string]bool{}
	for _, g := range c.spec.Groups {
		for _, addr := range g.Addresses {
			guarded[addr.String()] = true
		}
	}
	for _, l := range a.leftovers {
		g := fencing.GuardedGroup{Name: "removed: " + l.instance}
		for _, addr := range held(l.holding.instance) {
			if zoned := zoned(addr); !guarded[zoned.String()] {
				guarded[zoned.String()] = true
				g.Addresses = append(g.Addresses, zoned)
			}
		}
		if len(g.Addresses) > 0 {
			c.spec.Groups = append(c.spec.Groups, g)
		}
	}
}

// dropLeftovers tries again to remove what a reload could not, and tells whether nothing is left of it.
func (a *Agent) dropLeftovers() bool {
	a.leftovers = slices.DeleteFunc(a.leftovers, func(l leftover) bool {
		for _, addr := range slices.Backward(held(l.holding.instance)) {
			k, _, err := l.holding.kernelAddress(addr)
			if err != nil || a.holds(k.Index, addr) {
				continue // no interface, no address; or it belongs to another instance by now
			}
			if err := l.holding.kernel.Remove(k); err != nil {
				return false
			}
		}
		return true
	})
	return len(a.leftovers) == 0
}

// holds tells whether an instance has an address in its configuration.
func (a *Agent) holds(index int, addr conf.Address) bool {
	for _, i := range a.instances {
		for _, mine := range held(i.conf) {
			if k, _, err := i.holding.kernelAddress(mine); err == nil && k.Index == index && mine.Prefix == addr.Prefix {
				return true
			}
		}
	}
	return false
}

// writeStates writes all states into the pipes again (fifo_write_vrrp_states_on_reload).
func (a *Agent) writeStates() {
	var changes []notify.Change
	for _, name := range a.order {
		changes = append(changes, notify.Change{Kind: notify.Instance, Name: name,
			State: notify.State(a.status(name).KeepalivedName()), Priority: a.instances[name].priority})
	}
	for _, sg := range a.cfg.SyncGroups {
		if state := a.groupStates[sg.Name]; state != "" {
			changes = append(changes, notify.Change{Kind: notify.Group, Name: sg.Name, State: state})
		}
	}
	for _, change := range changes {
		a.notifier.Write(change)
	}
}

// Configuration is what a next life in the same process begins with. It may be called once Run has returned.
func (a *Agent) Configuration() (*conf.Config, []conf.Finding) {
	return a.running.Load(), a.opt.Findings
}
