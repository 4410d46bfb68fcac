package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fencing"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/clock"
)

// process is one life of a daemon: a director or a witness, its part of the replicated log, and the shell that carries
// out what the pure machine decides, one action after the other.
type process struct {
	machine *machine
	member  fsm.Member
	cluster int
	life    lease.Life
	random  random
	ended   bool
	stops   int // SIGSTOP, counted because faults overlap

	director *director.Machine // nil on a witness
	witness  *lease.Node       // nil on a director
	log      consensus
	state    *fsm.State

	inbox   []director.Event
	results []director.Event  // of actions: they go first
	queue   []director.Action // what is left of the last step
	aslept  []func()          // what the other threads will do after a stop
	busy    bool              // inside run
	held    bool              // between two actions for a while
	wakeAt  clock.Time        // what the timer is set to; zero: not set
	wakeGen uint64
	missed  bool // the timer has fired during a stop

	dieAfter int // actions until the process is killed; zero: it is not to be
	deadFor  time.Duration

	serial    uint64 // of request ids
	standings map[string]lease.Standing

	home  string          // the group that has the roaming address
	fresh bool            // its lease does not cover that yet
	taken map[string]bool // by group: its addresses should be there

	told map[string]lease.Epoch // what its companion knows: by group, under which epoch it may be visible
}

// inboxSize bounds what waits for a process that is stopped; what comes later is lost, as from a full socket.
const inboxSize = 1000

func (p *process) say(format string, args ...any) {
	p.machine.world.say(p.machine.name, format, args...)
}

// The process is its machines' view of the replicated state (lease.Log), because a snapshot replaces the state.

func (p *process) Epoch(group string) uint64    { return p.state.Epoch(group) }
func (p *process) Released(group string) uint64 { return p.state.Released(group) }
func (p *process) ReleasedBy(group string) (fsm.Member, uint64, uint64) {
	return p.state.ReleasedBy(group)
}
func (p *process) Grant(group string) (fsm.Grant, bool) { return p.state.Grant(group) }
func (p *process) Placed(group string) bool             { return p.state.Placed(group) }
func (p *process) InMaintenance(node string) bool       { return p.state.InMaintenance(node) }
func (p *process) Held(node string) []fsm.Proof         { return p.state.Held(node) }
func (p *process) Fence(node string) (fsm.FenceRecord, bool) {
	return p.state.Fence(node)
}

// frozen tells whether nothing of the process runs.
func (p *process) frozen() bool { return p.stops > 0 || p.machine.state != running }

// startProcess begins a life. What earlier lives left in the kernel goes first.
func (m *machine) startProcess() {
	w := m.world
	w.lives++
	p := &process{machine: m, member: m.disk.member, cluster: m.disk.cluster, life: lease.Life(w.lives), random: newRandom(w.cfg.Seed, 3, w.lives),
		taken: map[string]bool{}, told: map[string]lease.Epoch{}}
	m.process = p
	m.clocks.read(w.now)
	if w.cfg.Adversarial {
		p.log = newChaos(p)
	} else {
		p.log = newRaft(p)
	}
	cfg := lease.Config{Self: p.member, Life: p.life, Duration: w.shape.lease, Slack: w.slack(), Ceiling: m.disk.ceiling, Broken: w.cfg.Lease}
	if w.cfg.Broken.ForgetCeiling {
		cfg.Ceiling = 0
	}
	if m.witness {
		p.witness = lease.NewNode(m.reading(), cfg, p)
	} else {
		if !w.cfg.Broken.KeepLeftovers {
			m.install()
			clear(m.kernel.addresses)
			clear(m.kernel.roaming)
			w.shutAll(m)
		}
		groups := make([]director.Group, 0, len(w.shape.groups))
		for i := range w.shape.groups {
			groups = append(groups, m.config(i))
		}
		p.home = w.shape.groups[m.home].name
		p.director = director.New(m.reading(), director.Config{Node: m.name, Groups: groups, Lease: &cfg,
			Fencing: m.fencing(&cfg), Place: w.shape.places, Hold: w.cfg.Hold,
			Arbitrate: w.cfg.Arbitrate, SightSpan: w.sightSpan(), Broken: w.cfg.Director}, p)
	}
	if m.seenAs != p.cluster { // epochs of the one tell nothing about those of the other
		m.seenAs = p.cluster
		w.forget(m)
	}
	p.say("starts life %d as %s", p.life, p.member)
	p.log.begin()
	if p.director != nil {
		p.post(director.Start{})
		p.probe()
		for _, cause := range sortedKeys(m.causes) {
			p.fault(cause, false)
		}
	}
	p.gossip()
	p.knock()
	p.watchReturn()
	p.wake()
}

// restartAfter is how soon a supervisor starts a process again that nothing keeps away.
const restartAfter = 100 * time.Millisecond

// end kills the process: what it had in hand is gone.
func (p *process) end(how string) {
	if p.ended {
		return
	}
	p.say("%s", how)
	p.ended, p.inbox, p.results, p.queue, p.aslept = true, nil, nil, nil, nil
	p.wakeGen++
	p.log.end()
	p.machine.process = nil
	p.machine.world.after(restartAfter, p.machine.start)
}

// post gives the loop an event.
func (p *process) post(ev director.Event) {
	if p.ended || len(p.inbox) >= inboxSize {
		return
	}
	p.inbox = append(p.inbox, ev)
	p.run()
}

// aside runs something of another thread than the loop's.
func (p *process) aside(do func()) {
	switch {
	case p.ended:
	case !p.frozen():
		do()
	case len(p.aslept) < inboxSize:
		p.aslept = append(p.aslept, do)
	}
}

// thaw goes on after a stop. What had become due is done in either order: nobody promises one.
func (p *process) thaw() {
	if p.ended || p.frozen() {
		return
	}
	asides := func() {
		late := p.aslept
		p.aslept = nil
		for _, do := range late {
			p.aside(do)
		}
	}
	p.machine.clocks.read(p.machine.world.now)
	if p.random.chance(500_000) {
		asides()
		asides = func() {}
	}
	if p.missed {
		p.missed = false
		tick := director.Event(director.Tick{})
		if p.random.chance(500_000) {
			p.inbox = append([]director.Event{tick}, p.inbox...)
		} else {
			p.inbox = append(p.inbox, tick)
		}
	}
	p.run()
	asides()
}

// run is the loop: it takes one event, carries out all that follows from it, and takes the next.
func (p *process) run() {
	if p.busy {
		return
	}
	p.busy = true
	for !p.ended && !p.frozen() && !p.held {
		switch {
		case len(p.queue) > 0:
			a := p.queue[0]
			p.queue = p.queue[1:]
			p.execute(a)
			p.doom()
			p.hesitate()
		case len(p.results) > 0:
			ev := p.results[0]
			p.results = p.results[1:]
			p.step(ev)
			p.hesitate()
		case len(p.inbox) > 0:
			ev := p.inbox[0]
			p.inbox = p.inbox[1:]
			p.step(ev)
			p.hesitate()
		default:
			p.busy = false
			p.wake()
			return
		}
	}
	p.busy = false
}

// doom kills a process that is to die between two actions.
func (p *process) doom() {
	if p.dieAfter > 0 {
		if p.dieAfter--; p.dieAfter == 0 {
			p.machine.kill(p.deadFor, "killed between two actions")
		}
	}
}

// hesitate is the scheduler, which lets a thread wait wherever it likes.
func (p *process) hesitate() {
	if p.random.chance(p.machine.world.shape.hesitation) && (p.witness != nil || p.machine.kernel.installed) {
		p.hold(p.random.span(0, pick(&p.random, 100*time.Microsecond, 5*time.Millisecond, 100*time.Millisecond)))
	}
}

// hold keeps the loop from going on for d.
func (p *process) hold(d time.Duration) {
	p.held = true
	p.machine.world.after(d, func() {
		p.held = false
		p.run()
	})
}

func (p *process) step(ev director.Event) {
	now := p.machine.reading()
	if p.machine.world.trace.on {
		p.say("<- %s", describe(ev))
	}
	var actions []director.Action
	if p.director != nil {
		switch wish := ev.(type) {
		case moveWish:
			actions, _ = p.director.Move(now, wish.group, wish.to, "operator")
		case reloadWish:
			actions = p.tryReload(now, wish)
		default:
			actions = p.director.Step(now, ev)
		}
	} else {
		for _, a := range p.witnessStep(now, ev) {
			actions = append(actions, a)
		}
	}
	for _, a := range actions {
		p.machine.world.decided(p, a)
	}
	p.queue = append(p.queue, actions...)
}

// reloadWish is another configuration: the machine's groups without one of them. What goes is retired first, and the rest waits
// until nothing is left of it.
type reloadWish struct {
	groups  []director.Group
	home    string
	retired bool
}

// reload gives the director the machine's groups without the one of this index; -1: all of them.
func (p *process) reload(without int) {
	var wish reloadWish
	for i, g := range p.machine.world.shape.groups {
		if i == without {
			continue
		}
		wish.groups = append(wish.groups, p.machine.config(i))
		if i == p.machine.home {
			wish.home = g.name
		}
	}
	p.post(wish)
}

func (p *process) tryReload(now clock.Time, wish reloadWish) []director.Action {
	if !wish.retired {
		wish.retired = true
		p.post(wish)
		var gone director.Retire
		for _, g := range p.machine.world.shape.groups {
			if _, known := p.director.Group(g.name); known && !slices.ContainsFunc(wish.groups, func(o director.Group) bool { return o.Name == g.name }) {
				gone.Groups = append(gone.Groups, g.name)
			}
		}
		return p.director.Step(now, gone)
	}
	if p.director.Retiring() {
		p.machine.world.after(retirePoll, func() { p.post(wish) })
		return nil
	}
	p.rehome(wish.home)
	kept := map[string]string{}
	var world []director.Event
	for _, g := range wish.groups {
		_, known := p.director.Group(g.Name)
		for _, c := range g.Instances {
			if known {
				kept[c.Name] = c.Name
				continue
			}
			for _, cause := range sortedKeys(p.machine.causes) {
				world = append(world, director.Fault{Instance: c.Name, Cause: cause})
			}
		}
	}
	return p.director.Step(now, director.Reload{Groups: wish.groups, Kept: kept, World: world, Guard: true,
		Fencing: p.machine.fencing(&lease.Config{}), Place: p.machine.world.shape.places})
}

// retirePoll is how often a reload looks whether what it removes has become invisible.
const retirePoll = 50 * time.Millisecond

// moveWish is an operator's wish that a member should own a group.
type moveWish struct {
	group string
	to    fsm.Member
}

func (p *process) witnessStep(now clock.Time, ev director.Event) []lease.Action {
	switch ev := ev.(type) {
	case lease.Input:
		return p.witness.Step(now, ev)
	case director.Tick:
		return p.witness.Tick(now)
	case moveWish:
		actions, _ := p.witness.Move(now, ev.group, ev.to, "operator")
		return actions
	}
	panic(fmt.Sprintf("sim: a witness was given a %T", ev))
}

// wake sets the timer to the machine's deadline.
func (p *process) wake() {
	if p.ended || p.frozen() {
		return
	}
	var at clock.Time
	if p.director != nil {
		at = p.director.Deadline()
	} else {
		at = p.witness.Deadline()
	}
	if at == p.wakeAt {
		return
	}
	p.wakeAt = at
	p.wakeGen++
	if at.IsZero() {
		return
	}
	gen := p.wakeGen
	m := p.machine
	m.clocks.read(m.world.now)
	late := p.random.span(0, pick(&p.random, 200*time.Microsecond, 200*time.Microsecond, time.Millisecond))
	if p.random.chance(m.world.shape.lateTimers) {
		late = p.random.span(0, 200*time.Millisecond)
	}
	m.world.at(max(m.clocks.when(at), m.world.now.add(50*time.Microsecond)).add(late), func() {
		switch {
		case gen != p.wakeGen:
		case p.frozen():
			p.missed, p.wakeAt = true, 0
		default:
			p.wakeAt = 0
			p.post(director.Tick{})
		}
	})
}

// speak sends a message of the log to another member.
func (p *process) speak(to fsm.Member, message any, after time.Duration) {
	w := p.machine.world
	target := w.machineOf(to)
	if target == nil || to == p.member {
		return
	}
	if after > 0 {
		w.after(after, func() { p.aside(func() { p.speak(to, message, 0) }) })
		return
	}
	from := p.member
	w.send(p.machine, target, clusterPort, func() {
		if q := target.process; q != nil && q.member == to && w.meet(p, q) {
			q.aside(func() { q.log.receive(from, message) })
		}
	})
}

// gossip tells the others what this director says of itself, now and then again.
func (p *process) gossip() {
	w := p.machine.world
	if p.ended {
		return
	}
	if p.standings != nil && !p.frozen() {
		p.tellStanding()
	}
	if p.director != nil && w.shape.places.On() {
		p.machine.clocks.read(w.now)
		p.post(director.Minute{OfDay: int(p.machine.clocks.wall / int64(time.Minute) % (24 * 60))})
	}
	w.after(2*time.Second, p.gossip)
}

func (p *process) tellStanding() {
	said := lease.Stands{Member: p.member, Groups: p.standings}
	p.post(said)
	for _, other := range p.machine.world.machines {
		if other != p.machine {
			p.machine.world.send(p.machine, other, clusterPort, func() {
				if q := other.process; q != nil {
					q.post(said)
				}
			})
		}
	}
}

// apply applies a command of the log.
func (p *process) apply(index uint64, c fsm.Command) fsm.Result {
	result, err := p.state.Apply(index, c)
	if err != nil {
		panic(fmt.Sprintf("sim: %s: %v", p.member, err))
	}
	p.machine.world.applied(p, index, c, result)
	return result
}

// fault tells the director that an instance may not run for a cause, or may again.
func (p *process) fault(cause string, gone bool) {
	for _, i := range p.machine.instances() {
		p.post(director.Fault{Instance: i, Cause: cause, Gone: gone})
	}
}

// The parts of arming the guard between which the process may be stopped.
type (
	armWrite struct {
		director.GuardArm
		window  fencing.Window
		attempt int
	}
	armCheck armWrite
)

// armAttempts is how often a shell that was held up while arming tries again before it shuts the group.
const armAttempts = 3

func (p *process) execute(a director.Action) {
	m, w := p.machine, p.machine.world
	now := m.reading()
	if w.trace.on {
		p.say("-> %s", describe(a))
	}
	late := func(notAfter clock.Time) bool { return !notAfter.IsZero() && now >= notAfter }
	switch a := a.(type) {
	case lease.Send:
		p.sendLease(a)
	case lease.Propose:
		p.serial++
		c := a.Command
		c.ID, c.Time, c.Node = fmt.Sprintf("%s-%d-%d", p.member, p.life, p.serial), fsm.Wall(m.clocks.wall/1e6), m.name
		p.log.submit(c.Clip(), func(result fsm.Result, err error) {
			p.post(lease.Outcome{Tag: a.Tag, Result: result, Err: err})
		})
	case lease.RaiseCeiling:
		w.after(m.write(), func() {
			if p.ended {
				return
			}
			m.disk.ceiling = max(m.disk.ceiling, a.Promise)
			p.post(lease.CeilingRaised(a))
		})
	case director.Look:
		w.after(a.Within, func() {
			if !p.ended {
				p.post(director.Looked{Group: a.Group, Serial: a.Serial, Others: w.answers(m, a.Group)})
			}
		})
	case director.SendAdvert:
		if !late(a.NotAfter) {
			p.advertise(a)
		}
	case director.GuardArm:
		p.arm(a, 1)
	case armWrite:
		p.armWrite(a)
	case armCheck:
		p.armCheck(a)
	case director.GuardRestore:
		m.install()
		for i := len(a.Open) - 1; i >= 0; i-- {
			p.queue = append([]director.Action{a.Open[i]}, p.queue...)
		}
	case director.GuardShut:
		m.shut(a.Group)
		if !w.shape.lifetimes {
			w.shut(m, a.Group)
		}
	case director.TakeAddresses:
		if !late(a.NotAfter) {
			if !m.addAddress(a.Instance, w.groupOf(a.Instance), a.NotAfter.Sub(now)) {
				p.results = append(p.results, director.AddressesFailed{Instance: a.Instance, Reason: "too little is left"})
			}
			p.takes(a.Instance)
		}
	case director.ChangeAddresses:
		if !late(a.NotAfter) {
			p.changes(a.Instance)
		}
	case director.DropAddresses:
		m.dropAddress(a.Instance, w.groupOf(a.Instance))
		p.drops(a.Instance)
	case director.Announce:
		if !late(a.NotAfter) {
			w.announced(m, w.groupOf(a.Instance))
		}
	case director.ConfirmInvisible:
		delete(p.told, a.Group)
		w.shut(m, a.Group)
		p.results = append(p.results, director.Invisible(a))
	case director.Submit:
		p.submit(a.Command)
	case director.SwitchOff:
		p.switchOff(a)
	case director.SwitchOn:
		w.after(p.random.span(0, 3*time.Second), func() { p.post(director.SwitchedOn{Node: a.Node, Request: a.Request}) })
	case director.Transition:
		w.stats.Transitions++
	case director.Stand:
		p.standings = a.Groups
		p.tellStanding()
	case director.Journal:
		p.note(a)
	case director.Stopped:
		p.end("stopped as asked")
	case director.LowerHeard:
	default:
		panic(fmt.Sprintf("sim: unknown action %T", a))
	}
}

func (p *process) sendLease(a lease.Send) {
	w := p.machine.world
	target := w.machineOf(a.To)
	w.sending(p, a.Message)
	if target == nil {
		return
	}
	message := a.Message
	if w.shape.onTheWire { // as bytes
		decoded, err := lease.Decode(message.Encode())
		if err != nil {
			panic(err)
		}
		message = decoded
	}
	from := p.member
	w.send(p.machine, target, clusterPort, func() {
		if q := target.process; q != nil && q.member == a.To && w.meet(p, q) {
			if len(q.inbox) < inboxSize && (message.ToLife == 0 || message.ToLife == q.life) {
				w.links[p.machine.index][target.index].heard = w.now
			}
			q.post(lease.Received{From: from, Message: message})
		}
	})
}

// advertise sends an advertisement, unless the guard stops it.
func (p *process) advertise(a director.SendAdvert) {
	m, w := p.machine, p.machine.world
	group := w.groupOf(a.Instance)
	if a.Priority > 0 {
		if _, open := m.passes(group); !open {
			return
		}
		w.announced(m, group)
	}
	for _, other := range w.machines {
		if other == m || other.witness {
			continue
		}
		w.send(m, other, vrrpGroup, func() {
			if q := other.process; q != nil {
				q.post(director.Advert{Instance: a.Instance, From: m.address, Priority: a.Priority, Interval: w.shape.interval})
			}
		})
	}
}

// note puts a line into the cluster's journal, again and again until it is there.
func (p *process) note(a director.Journal) {
	w := p.machine.world
	if !p.random.chance(w.shape.notes) {
		return
	}
	p.serial++
	w.submit(fsm.Command{ID: fmt.Sprintf("%s-%d-%d", p.member, p.life, p.serial), Node: p.machine.name,
		Note: &fsm.Note{Kind: a.Kind, Severity: fsm.Severity(a.Severity), Group: a.Group, Text: a.Text}}.Clip())
}

// arm opens a group's guard, or moves its deadline: a look at the clocks, a write to the kernel, and another look.
func (p *process) arm(a director.GuardArm, attempt int) {
	m := p.machine
	switch {
	case a.First && a.Epoch == 0: // without a lease there is none to be given up
		delete(p.told, a.Group)
	case a.First:
		p.told[a.Group] = a.Epoch
	}
	if m.world.shape.lifetimes { // one look at the clock, one write
		m.kernel.held[a.Group] = &element{epoch: a.Epoch}
		m.extend(a.Group, a.Until.Sub(m.reading()))
		p.armed(a, "")
		return
	}
	reading := fencing.Reading{Before: m.reading(), Wall: m.clocks.wall, After: m.reading()}
	window, ok := fencing.WindowUntil(a.Until, reading)
	if p.machine.world.cfg.Broken.SlewedTimeout && ok {
		left := a.Until.Sub(reading.After)
		window = fencing.Window{Timeout: left, Deadline: reading.Wall + int64(left)}
	}
	if !ok || m.armsFail > 0 && p.random.chance(500_000) {
		p.armed(a, "refused")
		return
	}
	p.queue = append([]director.Action{armWrite{a, window, attempt}}, p.queue...)
	m.clocks.read(m.world.now)
	if d := m.stopAtArming; d > 0 {
		m.stopAtArming = 0
		m.world.stats.Faults++
		m.stop(d)
	}
}

func (p *process) armWrite(a armWrite) {
	m := p.machine
	if !m.open(a.Group, a.Epoch, a.window, a.First, a.Until.Sub(m.reading())) {
		p.armed(a.GuardArm, "lapsed")
		return
	}
	p.queue = append([]director.Action{armCheck(a)}, p.queue...)
}

func (p *process) armCheck(a armCheck) {
	m := p.machine
	if a.window.Covers(a.Until, m.reading()) {
		p.armed(a.GuardArm, "")
		return
	}
	if a.attempt == armAttempts {
		p.armed(a.GuardArm, "too busy")
		return
	}
	a.First = false
	p.arm(a.GuardArm, a.attempt+1)
}

// armed reports the outcome; a group that failed is shut.
func (p *process) armed(a director.GuardArm, failed string) {
	if failed != "" {
		p.machine.shut(a.Group)
	}
	p.results = append(p.results, director.GuardDone{Group: a.Group, Epoch: a.Epoch, Failed: failed})
}
