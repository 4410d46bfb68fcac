package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/director"
)

// Kind is a kind of fault. The letters of safety-and-faults in the comments are its catalogue's.
type Kind string

// The kinds.
const (
	Cut        Kind = "cut"         // N10: nothing passes from On to To
	Isolate    Kind = "isolate"     // N01, N06, N07: On is cut off from everybody
	Deafen     Kind = "deafen"      // N08: On hears nothing
	Mute       Kind = "mute"        // N09: On cannot send
	Split      Kind = "split"       // N24: two halves, On and To in different ones
	BlockVRRP  Kind = "block-vrrp"  // N11: no advertisement passes
	BlockPort  Kind = "block-port"  // N12: nothing of the cluster's passes from and to On, VRRP does
	SlowLink   Kind = "slow-link"   // N14: half of what goes from On to To is late, by up to seconds
	Lossy      Kind = "lossy"       // N13: everybody loses a fifth
	Doubling   Kind = "doubling"    // N15: a tenth arrives twice
	LinkDown   Kind = "link-down"   // N02: On loses its carrier, and its director knows
	KillProc   Kind = "kill"        // P01, P07, P10: kill -9, started again after For
	StopProc   Kind = "stop"        // P02, P03, P09: SIGSTOP for For
	StopArm    Kind = "stop-arming" // P04: the process is stopped when it next arms the guard
	KillDaemon Kind = "kill-daemon" // as KillProc, but its companion lives
	KillSoon   Kind = "kill-soon"   // P20: as KillProc, between two actions of one step
	Terminate  Kind = "terminate"   // P12: SIGTERM, started again after For
	KillAll    Kind = "kill-all"    // M12: all processes at once
	PowerCut   Kind = "power-cut"   // H01: the machine is off for For
	PauseVM    Kind = "pause-vm"    // C04: a virtual machine is stopped, its clocks count
	Suspend    Kind = "suspend"     // C03: the kernel's clocks stand still
	Rate       Kind = "rate"        // the oscillator's rate changes within its bound
	Slew       Kind = "slew"        // C02: the kernel's clocks are slewed
	StepWall   Kind = "step-wall"   // C01: the wall clock is set forward or back
	SlowDisk   Kind = "slow-disk"   // D02
	HungDisk   Kind = "hung-disk"   // D03, D04
	LoseData   Kind = "lose-data"   // D09, M06: killed, and the data directory is gone
	FlushGuard Kind = "flush-guard" // H06: somebody removes the guard's rules
	FlushAddrs Kind = "flush-addrs" // H04, H10: somebody removes the addresses
	StrayAddr  Kind = "stray-addr"  // H05: somebody adds the addresses by hand
	ArmsFail   Kind = "arms-fail"   // the kernel refuses half of the orders to the guard
	Script     Kind = "script"      // a tracked script fails
	Priority   Kind = "priority"    // tracking changes the priority
	MoveGroup  Kind = "move"        // an operator moves a group to On
	Maintain   Kind = "maintenance" // an operator marks On for For
	Reload     Kind = "reload"      // the configuration of On loses a group, and has it again after For
	Rehome     Kind = "rehome"      // the configuration of On gives an address to another group for For
	Competitor Kind = "competitor"  // X07: a stranger claims an address
	Claim      Kind = "claim"       // X03: On is made to believe that there is no owner
	NoGateway  Kind = "no-gateway"  // N21: the gateway does not answer On; only where it decides
	Force      Kind = "force"       // a person forces a quorum on On; machines that are switched off for it are so for For
)

// kinds lists all of them with how often they are drawn, relative to each other.
var kinds = []struct {
	kind   Kind
	weight int
}{
	{Cut, 6}, {Isolate, 4}, {Deafen, 2}, {Mute, 2}, {Split, 3}, {BlockVRRP, 2}, {BlockPort, 2}, {SlowLink, 4},
	{Lossy, 1}, {Doubling, 1}, {LinkDown, 2}, {KillProc, 6}, {StopProc, 6}, {StopArm, 3}, {KillSoon, 3}, {Terminate, 3},
	{KillAll, 1}, {PowerCut, 2}, {PauseVM, 2}, {Suspend, 1}, {Rate, 1}, {Slew, 1}, {StepWall, 2}, {SlowDisk, 1},
	{HungDisk, 2}, {LoseData, 1}, {FlushGuard, 1}, {FlushAddrs, 1}, {StrayAddr, 1}, {ArmsFail, 1}, {Script, 2},
	{Priority, 2}, {MoveGroup, 3}, {Maintain, 1}, {Competitor, 1}, {Claim, 2}, {Reload, 2}, {Rehome, 3},
	{KillDaemon, 6},
}

// Fault is one thing that goes wrong. On and To are indices of machines, or roles.
type Fault struct {
	At     time.Duration
	Kind   Kind
	On, To int
	For    time.Duration
	By     int64 // per kind: nanoseconds, per million, or a number
}

// String is the fault as a literal of Go, to be copied into a test.
func (f Fault) String() string {
	parts := []string{fmt.Sprintf("At: %d", int64(f.At)), fmt.Sprintf("Kind: %q", string(f.Kind))}
	for _, field := range []struct {
		name  string
		value int64
	}{{"On", int64(f.On)}, {"To", int64(f.To)}, {"For", int64(f.For)}, {"By", f.By}} {
		if field.value != 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", field.name, field.value))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// Machines by what they do at the moment of a fault, in place of an index.
const (
	Owner  = -1 - iota // who was last seen to answer for the first group
	Other              // another director
	Leader             // who leads the log, as far as it knows
	Voter              // a member that is neither owner nor Other, if there is one
)

// machineAt resolves an index or a role.
func (w *world) machineAt(i int) *machine {
	if i >= len(w.machines) {
		return nil // the plan is that of a larger cluster
	}
	if i >= 0 {
		return w.machines[i]
	}
	owner := w.machines[0]
	if s := w.checks.sights[w.shape.groups[0].name]; s != nil && s.owner != nil {
		owner = s.owner
	}
	switch i {
	case Owner:
		return owner
	case Other:
		return w.machines[(owner.index+1)%w.shape.directors]
	case Leader:
		for _, m := range w.machines {
			if p := m.process; p != nil && p.log.leads() {
				return m
			}
		}
	}
	return w.machines[len(w.machines)-1]
}

// profile is a manner of going wrong.
type profile struct {
	kinds   []Kind          // all, if empty
	pause   []time.Duration // mean time between two faults: one of these
	longest []time.Duration // of a fault: one of these
	roles   []int           // whom it hits: one of these, or any machine
	late    int             // per million messages, instead of what the shape says
	claims  time.Duration   // mean time between two claims on top of all; zero: none
}

// Profiles by name. A run draws one of them unless its Config names one.
const (
	Anything = "anything" // everything at any time
	Storm    = "storm"    // directors that claim all the time, voters that restart, messages that come late
	OneWay   = "one-way"  // an owner that some hear and some do not
	Guards   = "guards"   // stops and clocks
	Leaving  = "leaving"  // owners that end
	Members  = "members"  // machines that lose their data
	Files    = "files"    // configurations that differ
	Fences   = "fences"   // owners that are lost while their leases run, and are switched off; it is drawn by nobody
	Forced   = "forced"   // majorities that are lost, and forced by a person; it is drawn by nobody
	Lonely   = "lonely"   // two directors that lose each other for long; it is drawn by nobody
)

func profileOf(name string, s shape) profile {
	few, all := s.lease/16, []time.Duration{s.lease / 8, s.lease, 4 * s.lease}
	switch name {
	case Storm:
		return profile{
			kinds: []Kind{MoveGroup, KillProc, StopProc, StopProc, Cut, Cut, Cut, SlowLink, SlowLink, Isolate, PowerCut, KillAll, KillDaemon},
			pause: []time.Duration{s.lease / 4, s.lease, 2 * s.lease}, longest: []time.Duration{few, s.lease, 2 * s.lease},
			roles: []int{Owner, Other, Voter, Leader}, late: 50_000, claims: s.lease / 8,
		}
	case OneWay:
		return profile{
			kinds: []Kind{Cut, Cut, Mute, Deafen, SlowLink, KillProc, KillProc, KillSoon, StopProc, BlockVRRP, Suspend, Claim, KillDaemon},
			pause: []time.Duration{s.lease / 4, s.lease}, longest: []time.Duration{few, 2 * s.lease, 4 * s.lease},
			roles: []int{Owner, Other, Voter}, late: 20_000,
		}
	case Guards:
		return profile{
			kinds: []Kind{StopArm, StopArm, StopProc, KillProc, KillSoon, Slew, StepWall, Suspend, PauseVM, ArmsFail, Rate,
				FlushGuard, Isolate, StrayAddr, KillDaemon},
			pause: []time.Duration{s.lease / 2, s.lease}, longest: all, roles: []int{Owner, Owner, Other},
		}
	case Leaving:
		return profile{
			kinds: []Kind{Terminate, Terminate, Script, Maintain, MoveGroup, Priority, LinkDown, KillSoon, SlowLink, Cut, StopProc,
				KillDaemon, KillDaemon},
			pause: []time.Duration{s.lease / 2, s.lease}, longest: all, roles: []int{Owner, Other, Leader}, late: 20_000,
		}
	case Files:
		return profile{
			kinds: []Kind{Rehome, Rehome, Rehome, MoveGroup, MoveGroup, Reload, KillProc, StopProc, Cut, BlockVRRP, SlowLink, Isolate,
				KillDaemon},
			pause: []time.Duration{s.lease / 2, 2 * s.lease}, longest: all, roles: []int{Owner, Other, Leader},
		}
	case Members:
		return profile{
			kinds: []Kind{LoseData, LoseData, LoseData, KillProc, Cut, SlowLink, StopProc, MoveGroup, Claim, HungDisk, Isolate},
			pause: []time.Duration{s.lease / 2, s.lease}, longest: all, roles: []int{Owner, Other, Leader, Voter}, late: 20_000,
		}
	}
	switch name {
	case Lonely:
		return profile{
			kinds: []Kind{Split, Split, Isolate, Cut, BlockPort, NoGateway, NoGateway, KillDaemon, KillDaemon, KillProc, StopProc, SlowLink,
				MoveGroup, Terminate},
			pause: []time.Duration{2 * s.lease, 4 * s.lease}, longest: []time.Duration{4 * s.lease, 12 * s.lease},
			roles: []int{Owner, Owner, Other},
		}
	case Forced:
		return profile{
			kinds: []Kind{Isolate, KillProc, KillDaemon, StopProc, Cut, SlowLink, MoveGroup, PowerCut, Claim, Terminate},
			pause: []time.Duration{2 * s.lease, 4 * s.lease}, longest: []time.Duration{s.lease, 2 * s.lease},
			roles: []int{Owner, Other, Leader, Voter},
		}
	case Fences:
		return profile{
			kinds: []Kind{Isolate, Isolate, Mute, Deafen, StopProc, KillProc, Cut, BlockVRRP, SlowLink, Claim, Claim, PowerCut, Terminate, KillDaemon},
			pause: []time.Duration{s.lease / 2, s.lease, 2 * s.lease}, longest: []time.Duration{s.lease, 2 * s.lease, 4 * s.lease},
			roles: []int{Owner, Owner, Other, Leader}, claims: 2 * s.lease,
		}
	}
	return profile{
		pause:   []time.Duration{500 * time.Millisecond, 2 * time.Second, 2 * time.Second, 5 * time.Second},
		longest: []time.Duration{time.Second, 5 * time.Second, 20 * time.Second},
	}
}

// newPlan draws the faults of a run: of all kinds a random half, so that rare combinations are not drowned, and an
// intensity of its own.
func newPlan(cfg Config, s shape, r *random) []Fault {
	how := profileOf(s.profile, s)
	enabled := how.kinds
	for len(enabled) == 0 {
		for _, k := range kinds {
			if r.chance(500_000) {
				for range k.weight {
					enabled = append(enabled, k.kind)
				}
			}
		}
	}
	pause, longest := pick(r, how.pause...), pick(r, how.longest...)
	favourite := r.below(s.voters) // faults that hit one machine again and again find more than those that hit all alike
	var plan []Fault
	for at := r.span(0, 20*time.Second); at < cfg.Span; at += r.span(0, 2*pause) {
		f := Fault{At: at, Kind: pick(r, enabled...), On: r.below(s.voters)}
		if r.chance(300_000) {
			f.On = favourite
		}
		f.To = (f.On + 1 + r.below(s.voters-1)) % s.voters
		if len(how.roles) > 0 && r.chance(700_000) {
			f.On, f.To = pick(r, how.roles...), pick(r, how.roles...)
		}
		f.For = r.span(time.Millisecond, pick(r, s.lease/8, s.lease, longest))
		switch f.Kind {
		case Rate:
			f.By = pick(r, 0, int64(sharpest), -int64(sharpest), int64(r.below(2*int(sharpest)))-int64(sharpest))
		case Slew:
			f.By = pick(r, 0, 83_333, -83_333, int64(r.below(166_666))-83_333)
			f.For *= 10
		case StepWall:
			f.By = int64(r.span(0, pick(r, 2*s.lease, time.Hour)))
			if r.chance(500_000) {
				f.By = -f.By
			}
		case Priority:
			f.By = int64(1 + r.below(254))
		case KillSoon, Reload, Rehome:
			f.By = int64(r.below(12))
		}
		plan = append(plan, f)
		if r.chance(150_000) { // and once more, soon
			again := f
			again.At += r.span(0, 2*s.lease)
			plan = append(plan, again)
		}
	}
	if how.claims > 0 {
		for at := r.span(0, 10*time.Second); at < cfg.Span; at += r.span(0, 2*how.claims) {
			plan = append(plan, Fault{At: at, Kind: Claim, On: pick(r, Other, Other, Owner, r.below(s.directors))})
		}
	}
	if cfg.Arbitrate { // who loses its data is not taken in again by one voter that is left
		plan = slices.DeleteFunc(plan, func(f Fault) bool { return f.Kind == LoseData })
		for at := r.span(0, 20*time.Second); at < cfg.Span; at += r.span(0, 20*time.Second) {
			plan = append(plan, Fault{At: at, Kind: NoGateway, On: pick(r, Owner, Other, 0, 1), For: r.span(0, pick(r, s.lease, 8*s.lease))})
		}
	}
	if s.profile == Forced {
		plan = append(plan, newForces(cfg, s, r)...)
	}
	slices.SortStableFunc(plan, func(a, b Fault) int { return int(a.At - b.At) })
	return plan
}

// newForces draws when a person forces a quorum: on a director whose others lose their power, or most of them, or which is cut off from them.
func newForces(cfg Config, s shape, r *random) (plan []Fault) {
	for at := 10*time.Second + r.span(0, 10*s.lease); at < cfg.Span; at += 12*s.lease + r.span(0, 24*s.lease) {
		on := r.below(s.directors)
		for other := range s.voters {
			if other != on && r.chance(750_000) {
				plan = append(plan, Fault{At: at - r.span(0, 3*s.lease), Kind: PowerCut, On: other, For: r.span(3*s.lease, 12*s.lease)})
			}
		}
		if r.chance(500_000) {
			early := r.span(0, 2*s.lease)
			plan = append(plan, Fault{At: at - early, Kind: Isolate, On: on, For: early + r.span(time.Millisecond, pick(r, s.lease, s.lease, 8*s.lease))})
		}
		plan = append(plan, Fault{At: at, Kind: Force, On: on, For: r.span(10*time.Millisecond, pick(r, time.Second, 6*s.lease))})
	}
	return plan
}

// inject lets a fault happen, and end.
func (w *world) inject(f Fault) {
	m, to := w.machineAt(f.On), w.machineAt(f.To)
	if m == nil || to == nil {
		return
	}
	if w.shape.lifetimes && (f.Kind == Suspend || f.Kind == StrayAddr || f.Kind == FlushGuard) {
		return // lifetimes stand still in a suspend, and nothing guards addresses that somebody else adds
	}
	p := m.process
	w.say("", "fault %s on %s (%s) for %v by %d", f.Kind, m.name, to.name, f.For, f.By)
	w.stats.Faults++
	undo := func(do func()) { w.after(f.For, do) }
	cut := func(hits func(from, to int) bool, classes ...class) {
		change := func(by int) {
			for from := range w.machines {
				for to := range w.machines {
					if from != to && hits(from, to) {
						for _, c := range classes {
							w.links[from][to].cuts[c] += by
						}
					}
				}
			}
		}
		change(1)
		undo(func() { change(-1) })
	}
	count := func(counter *int) {
		*counter++
		undo(func() { *counter-- })
	}
	switch f.Kind {
	case Cut:
		cut(func(from, into int) bool { return from == m.index && into == to.index }, clusterPort, vrrpGroup)
	case NoGateway:
		m.unsee(f.For)
	case Force:
		w.force(m, f)
	case Isolate:
		m.unsee(f.For)
		cut(func(from, to int) bool { return from == m.index || to == m.index }, clusterPort, vrrpGroup)
	case Deafen:
		m.unsee(f.For)
		cut(func(from, to int) bool { return to == m.index }, clusterPort, vrrpGroup)
	case Mute:
		m.unsee(f.For)
		cut(func(from, to int) bool { return from == m.index }, clusterPort, vrrpGroup)
	case Split:
		side := newRandom(w.cfg.Seed, 6, uint64(f.At))
		left := make([]bool, len(w.machines))
		for i := range left {
			left[i] = i == m.index || i != to.index && side.chance(500_000)
		}
		cut(func(from, to int) bool { return left[from] != left[to] }, clusterPort, vrrpGroup)
	case BlockVRRP:
		cut(func(int, int) bool { return true }, vrrpGroup)
	case BlockPort:
		cut(func(from, to int) bool { return from == m.index || to == m.index }, clusterPort)
	case SlowLink:
		count(&w.links[m.index][to.index].slow)
	case Lossy:
		for from := range w.links {
			for to := range w.links[from] {
				count(&w.links[from][to].lossy)
			}
		}
	case Doubling:
		for from := range w.links {
			for to := range w.links[from] {
				count(&w.links[from][to].doubling)
			}
		}
	case LinkDown:
		m.unsee(f.For)
		cut(func(from, to int) bool { return from == m.index || to == m.index }, clusterPort, vrrpGroup)
		m.blame("eth0 is down", f.For, true)
	case KillProc:
		m.kill(f.For, "killed")
	case StopProc:
		m.stop(f.For)
	case StopArm:
		m.stopAtArming = f.For
	case KillDaemon:
		m.die(f.For)
	case KillSoon:
		if p != nil {
			p.dieAfter, p.deadFor = 1+int(f.By), f.For
		}
	case Terminate:
		m.terminate(f.For)
	case KillAll:
		for _, each := range w.machines {
			each.kill(each.random.span(0, f.For), "killed with all others")
		}
	case PowerCut:
		m.crash(f.For)
	case PauseVM:
		m.pause(f.For, false)
	case Suspend:
		if _, setBack := m.kernel.oneLock(); setBack {
			return // see the package's doc comment
		}
		m.pause(f.For, true)
	case Rate:
		m.clocks.read(w.now)
		m.clocks.rate = perMillion(f.By)
	case Slew:
		m.clocks.read(w.now)
		m.clocks.slew = perMillion(f.By)
		undo(func() {
			m.clocks.read(w.now)
			m.clocks.slew = 0
		})
	case StepWall:
		if slept, _ := m.kernel.oneLock(); f.By < 0 && (slept || m.arming()) {
			return // see the package's doc comment
		}
		m.step(time.Duration(f.By))
	case SlowDisk:
		count(&m.slow)
	case HungDisk:
		m.hungUntil = max(m.hungUntil, w.now.add(f.For))
	case LoseData:
		if w.cfg.Adversarial || !w.complete() {
			return // another one is still being replaced: the cluster would be lost for good
		}
		m.kill(f.For, "killed, and its data is gone")
		m.loseData()
	case FlushGuard:
		if p == nil || p.director == nil || p.frozen() || p.held {
			return // nobody would notice in time (see the package's doc comment)
		}
		m.kernel.installed = false
		p.post(director.GuardGone{Reason: "the guard's rules were removed"})
	case FlushAddrs:
		clear(m.kernel.addresses)
		w.touchedAll(m)
		for _, i := range m.instances() {
			m.tellLater(director.AddressesGone{Instance: i, Reason: "somebody removed the addresses"})
		}
	case StrayAddr:
		for _, g := range w.shape.groups {
			for _, i := range g.instances {
				if m.kernel.addresses[i] == nil && m.kernel.installed {
					m.addAddress(i, g.name, time.Minute)
				}
			}
		}
	case ArmsFail:
		count(&m.armsFail)
	case Script:
		m.blame("script chk failed", f.For, false)
	case Priority:
		for _, i := range m.instances() {
			m.tellLater(director.Priority{Instance: i, Priority: uint8(f.By)})
		}
		undo(func() {
			for _, g := range w.shape.groups {
				for _, c := range g.configs[m.index] {
					m.tellLater(director.Priority{Instance: c.Name, Priority: c.Priority})
				}
			}
		})
	case MoveGroup:
		wish := moveWish{w.shape.groups[int(f.At/time.Millisecond)%len(w.shape.groups)].name, m.disk.member}
		for _, each := range w.machines {
			if each.process != nil {
				each.process.post(wish) // whoever leads will do it
			}
		}
	case Reload:
		if p != nil && p.director != nil {
			p.reload(int(f.By) % len(w.shape.groups))
			undo(func() {
				if q := m.process; q != nil && q.director != nil {
					q.reload(-1)
				}
			})
		}
	case Rehome:
		home := func(group int) {
			m.home = group
			if q := m.process; q != nil && q.director != nil {
				q.reload(-1)
			}
		}
		home(int(f.By) % len(w.shape.groups))
		undo(func() { home(0) })
	case Claim:
		if p != nil && p.director != nil {
			for _, g := range w.shape.groups {
				p.post(lease.Received{From: p.member, Message: lease.Message{FromLife: p.life,
					Invite: &lease.Invite{Group: g.name, Kind: lease.MasterDown, Reason: "hears nobody"}}})
			}
		}
	case Maintain:
		w.mark(m, 1)
		undo(func() { w.mark(m, -1) })
	case Competitor:
		for _, i := range m.instances() {
			m.tellLater(director.Competitor{Instance: i, Address: m.address, Hardware: "02:00:00:00:00:99"})
		}
	default:
		panic(fmt.Sprintf("sim: unknown fault %q", f.Kind))
	}
}

// blame gives all instances of a director a cause of a fault for d.
func (m *machine) blame(cause string, d time.Duration, link bool) {
	m.causes[cause]++
	if m.process != nil && m.process.director != nil {
		m.process.fault(cause, false)
	}
	m.world.after(d, func() {
		m.causes[cause]--
		if m.causes[cause] > 0 {
			return
		}
		delete(m.causes, cause)
		if p := m.process; p != nil && p.director != nil {
			p.fault(cause, true)
			for _, i := range m.instances() {
				if link {
					p.post(director.LinkUp{Instance: i})
				}
			}
		}
	})
}

// terminate asks the process to hand over and end; it is started again after d. What does not end is killed.
func (m *machine) terminate(d time.Duration) {
	p := m.process
	if p == nil {
		return
	}
	m.keepAway(d)
	if p.director == nil {
		p.end("ended")
		return
	}
	p.post(director.Shutdown{})
	m.world.after(10*time.Second, func() {
		if !p.ended {
			m.world.stats.ForcedKills++
			p.end("killed, since it did not end as asked") // as a supervisor does
		}
	})
}

// arming tells whether the shell is between two looks at the clock around a write to the guard.
func (m *machine) arming() bool {
	if m.process == nil {
		return false
	}
	for _, a := range m.process.queue {
		switch a.(type) {
		case armWrite, armCheck:
			return true
		}
	}
	return false
}

// mark is an operator's maintenance mark: set while at least one fault wants it.
func (w *world) mark(m *machine, by int) {
	before := m.marks > 0
	m.marks += by
	if on := m.marks > 0; on != before {
		w.commands++
		w.submit(fsm.Command{ID: fmt.Sprintf("operator-%d", w.commands), Node: "operator",
			Maintenance: &fsm.Maintenance{Node: m.name, On: on, By: "operator"}})
	}
}
