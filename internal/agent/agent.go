package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bfdspeaker "github.com/hactl/had/bfd/speaker"
	"github.com/hactl/had/cluster"
	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fencing"
	"github.com/hactl/had/fencing/guard"
	"github.com/hactl/had/fencing/watchdog"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/balancer"
	"github.com/hactl/had/internal/agent/companion"
	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/clock/alarm"
	"github.com/hactl/had/internal/clock/leaseclock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/control/eventlog"
	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/filter"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/neigh"
	"github.com/hactl/had/internal/linux/route"
	"github.com/hactl/had/internal/linux/sysctl"
	"github.com/hactl/had/internal/linux/vmac"
	"github.com/hactl/had/internal/member"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/vrrp"
	"github.com/hactl/had/vrrp/speaker"
	"github.com/hactl/had/vrrp/track"
)

const (
	inboxSize    = 1024                   // events of the world that wait for the loop
	housekeeping = time.Second            // how often the loop does what has no event of its own, at least
	retryFailed  = 250 * time.Millisecond // and how often while the kernel has refused something
	earliness    = 50 * time.Millisecond  // how much too early the loop's timer may fire
	hearingSpan  = 20 * time.Millisecond  // how long a tick waits at most for what is in the inbox
	stopGrace    = 5 * time.Second        // how long a shutdown may take in all
	localEvents  = 1024                   // kept without a cluster
)

var errStopped = errors.New("had is stopping")

// Options is what an Agent is made of.
type Options struct {
	Config   *conf.Config
	Findings []conf.Finding   // of Config; those about words that have no effect are shown in the status
	Cluster  *cluster.Cluster // nil without a cluster block
	Member   cluster.Config   // what Cluster was opened with
	Clock    *leaseclock.Clock
	Version  string
	Logger   *slog.Logger

	// Reread reads the configuration again, for a reload, and may take its time. The error says that there is nothing to
	// read; what is wrong with it is in the findings, and the Config is nil if it cannot be used.
	Reread     func() (*conf.Config, []conf.Finding, error)
	Supervisor Supervisor // nil: nobody

	Companion *companion.Keeper // who takes back what is held when this process dies; nil: nobody

	KeepIPVS bool // the table of IPVS stays when the process ends (--dont-release-ipvs)

	Signals <-chan os.Signal // that ask for something while it runs
	DumpDir string           // where dumps go that have no file in the configuration
}

// Supervisor is who watches over the process: a service manager, or nobody. Its methods do not wait.
type Supervisor interface {
	Ready()     // the configuration is in force
	Reloading() // another is on its way; Ready follows
	Stopping()
	Alive() // the loop turns
}

// nobody watches over the process.
type nobody struct{}

func (nobody) Ready()     {}
func (nobody) Reloading() {}
func (nobody) Stopping()  {}
func (nobody) Alive()     {}

// Agent is one director. Make one with New, then call Run once.
type Agent struct {
	opt     Options
	cfg     *conf.Config
	log     *slog.Logger
	clock   *leaseclock.Clock
	started time.Time

	node         string                      // this machine's name in the cluster, or alone
	running      atomic.Pointer[conf.Config] // as it was read, for other goroutines
	reconfigured chan struct{}               // tells reloadAtTime of another running configuration
	reloads      sync.Mutex                  // held during a reload
	inbox        chan any                    // director.Event, link.Event, what is tracked
	requests     chan func()                 // run by the loop
	unwatched    chan error                  // why interfaces are not watched any more
	ended        chan struct{}

	// What follows belongs to the loop.
	work       context.Context // of all that works for the loop; ends after it
	machine    *director.Machine
	link       *member.Link // nil without a cluster
	service    *member.Service
	events     *eventlog.Log // without a cluster; with one, the service has its own
	guard      guard.Guard   // nil: no cluster, guard lifetime, guard none
	spec       fencing.GuardSpec
	guardFault string
	dog        *watchdog.Device     // nil: none
	dogFault   string               // why there is none
	unshut     map[string]bool      // groups whose guard is not known to be shut
	lapsed     map[string]time.Time // when a group's last lease ended without a release
	manager    *address.Manager
	vmacs      vmac.Maker
	carriers   []*carrier     // interfaces that are made for instances
	minute     int            // of the day, as the machine has been told
	hardware   string         // addresses of interfaces that the machine has been told
	filter     filter.Rules   // in force
	router     *route.Manager // nil: there are neither routes nor rules
	static     *holding       // the static addresses
	promotion  promotion
	parameters sysctl.Changes
	table      link.Table
	synced     bool
	instances  map[string]*instance
	order      []string                // of instances, as in the file
	virtual    map[netip.Addr][]string // instances by their addresses, each list as in the file
	members    map[string][]string     // instances by group
	groups     []director.Group
	hub        *speaker.Hub
	sender     *neigh.Sender
	watcher    *neigh.Watcher
	scripts    []*script
	trackers   *trackers
	gateways   gateways
	neighbors  *bfdspeaker.Speaker
	sessionsUp map[string]bool          // BFD sessions by name
	delayed    map[string]track.Delayed // interfaces with interface_up_down_delays
	lookAt     clock.Time               // when something that is tracked will have lasted long enough; zero: never
	runner     *notify.Runner
	notifier   *notify.Notifier
	pipes      []pipe
	alerts     alerts
	balancer   *balancer.Balancer
	services   *services // nil without a cluster
	sync       *connectionSync
	moved      bool // the state of an instance may be another than services and sync know
	checks     *healthChecks
	absent     map[string]bool // virtual servers of which the load balancer has been told that this machine lacks the address
	finished   bool
	stopping   bool
	leaves     bool // addresses, to whoever takes them over when this machine stops

	staticForwarding *forwarding
	unusable         []string // lines of routes and rules

	notifyScripts notifyScripts
	groupStates   map[string]notify.State // last reported
	leftovers     []leftover

	stepped      clock.Time    // when the machine was last told of an event
	grain        time.Duration // of the moments at which the loop wakes by itself without a lease
	housekept    clock.Time    // when the last housekeeping was
	takenChanged bool          // addresses were taken or dropped since it was last said whose claims are to be heard
	radioWaits   atomic.Bool   // a radioChanged is on its way: further changes need no other
	radioMissed  atomic.Bool   // it did not fit into the inbox
	dropped      droppedEvents
}

// instance is one vrrp_instance and what belongs to it outside the machine.
type instance struct {
	conf     *conf.Instance
	group    string
	holding  *holding
	speaker  *speaker.Speaker
	source   netip.Addr
	linkUp   bool
	causes   map[string]bool // faults that the machine has been told; true: silent
	priority uint8
	told     uint8  // priority that the pipes have been told
	stuck    string // why addresses could not be removed
	removed  bool   // by a reload
	counted  counted
	since    time.Time
	reported notify.State // the last one that scripts and pipes were told
	sentAt   time.Time
	restored uint64 // times that somebody else removed addresses

	forwarding *forwarding

	announcedAt time.Time
	heard       map[netip.Addr]heard
	differs     map[netip.Addr]bool // senders whose list of addresses is not ours
	strangers   map[ether.MAC]stranger
}

// heard is a sender of advertisements for one of our virtual routers.
type heard struct {
	priority uint8
	at       time.Time
	count    uint64
}

// droppedEvents counts what the loop was too busy to take.
type droppedEvents struct {
	mu     sync.Mutex
	counts map[string]uint64
}

// New makes the agent of a configuration. With a cluster it comes after cluster.Open and before cluster.Run. It touches
// nothing in the kernel yet.
func New(opt Options) *Agent {
	a := &Agent{
		opt: opt, cfg: opt.Config, log: opt.Logger, clock: opt.Clock, started: time.Now(),
		inbox: make(chan any, inboxSize), requests: make(chan func()), ended: make(chan struct{}),
		reconfigured: make(chan struct{}, 1), unshut: map[string]bool{}, lapsed: map[string]time.Time{}, instances: map[string]*instance{},
		dropped: droppedEvents{counts: map[string]uint64{}}, runner: &notify.Runner{},
		groupStates: map[string]notify.State{}, node: hostName(opt.Config), trackers: &trackers{}, sessionsUp: map[string]bool{},
	}
	a.static, a.staticForwarding = &holding{instance: &conf.Instance{}, table: &a.table}, &forwarding{}
	if a.opt.Supervisor == nil {
		a.opt.Supervisor = nobody{}
	}
	a.running.Store(a.cfg)
	a.notifier = &notify.Notifier{Runner: a.runner, Logger: a.log}
	a.newBalancer()
	a.sync = newConnectionSync(a.log)
	a.groups = groupsOf(a.cfg)
	a.members, a.grain = membersOf(a.groups), grainOf(a.cfg)
	for i := range a.cfg.Instances {
		in := &a.cfg.Instances[i]
		a.instances[in.Name] = a.newInstance(in)
		a.order = append(a.order, in.Name)
	}
	if opt.Cluster != nil {
		a.link = member.NewLink(opt.Cluster, a.log)
		a.services = newServices(a.node, opt.Cluster, a.balancer, a.clock.Now, func() { a.post(a.work, servicesComplete{}) }, a.log)
		a.service = member.NewService(opt.Member, opt.Cluster, a.report, a.move, a.Reload, a.services)
		a.services.member = a.service
		a.service.SetFencer(fencer{a})
	} else {
		a.events = eventlog.New(a.node, localEvents)
	}
	return a
}

func (a *Agent) newInstance(in *conf.Instance) *instance {
	return &instance{conf: in, group: groupOf(in), causes: map[string]bool{}, priority: in.Priority, told: in.Priority,
		since: time.Now(), heard: map[netip.Addr]heard{}, differs: map[netip.Addr]bool{}, strangers: map[ether.MAC]stranger{},
		forwarding: &forwarding{},
		holding:    &holding{instance: in, table: &a.table, lifetime: a.clustered() && a.cfg.Cluster.Guard == conf.GuardLifetime}}
}

func (a *Agent) clustered() bool { return a.opt.Cluster != nil }

// Run works until ctx ends, then hands everything over and returns nil; it also returns when the cluster has ended, with
// nothing held any more. An error says why a director cannot work on this machine.
func (a *Agent) Run(ctx context.Context) error {
	defer close(a.ended)
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	a.work = work
	if err := a.prepare(ctx, work); err != nil {
		return err
	}
	defer a.manager.Close()
	defer a.closeForwarding()
	defer a.closeRadio()
	a.pipes = openPipes(a.cfg, nil, a.log)
	a.notifier.FIFOs = fifosOf(a.pipes, a.cfg.Global.NotifyFIFO, a.cfg.Global.VRRPNotifyFIFO)
	a.alerts = startAlerts(&a.cfg.Global, alerts{}, a.log)
	a.notifier.Receivers = a.alerts.receivers()
	a.notifyScripts = resolveNotifyScripts(a.cfg, a.log)
	defer a.stopNotifying()
	if a.service != nil {
		go a.service.Run(work)
	}
	a.trackers = openTrackers(a.cfg, nil, a.log)
	a.runTrackers()
	defer a.balance(work, presentedTo(a.cfg.SSL, a.log))()
	defer a.keepSessions(work)()
	a.probeGateways()
	a.scripts = trackedScripts(a.cfg)
	for _, s := range a.scripts {
		a.watch(s)
	}
	a.look()
	if err := a.openWatchdog(); err != nil {
		a.withdraw()
		return err
	}
	defer a.closeWatchdog()
	if a.clustered() {
		a.tellMinute(time.Now())
	}
	a.step(director.Start{Delay: a.startDelay()})
	a.opt.Supervisor.Ready()
	go a.obey(work)
	go a.reloadAtTime(work)
	return a.loop(ctx)
}

// prepare opens the doors to the kernel, shuts the guard, removes what earlier lives left behind, and only then makes the
// machine. It is not cut short when the process is asked to end: halfway, rules and addresses would stay behind.
func (a *Agent) prepare(ctx, work context.Context) error {
	var err error
	if a.manager, err = address.New(); err != nil {
		return err
	}
	for _, i := range a.instances {
		i.holding.kernel = a.manager
	}
	a.opt.Companion.Live(a.estate())
	if err := a.placeInstances(); err != nil {
		return err
	}
	a.spec = guardSpec(a.cfg, a.groups, a.carriers)
	if err := a.openForwarding(); err != nil {
		return err
	}
	if err := a.installGuard(work); err != nil {
		return err
	}
	if err := a.openRadio(); err != nil {
		a.closeRadio()
		return err
	}
	monitor, err := link.Open(a.log)
	if err != nil {
		return err
	}
	a.unwatched = make(chan error, 1)
	go func() { a.unwatched <- monitor.Run(work, func(ev link.Event) { a.post(work, ev) }) }()
	if err := a.learnLinks(); err != nil {
		return err
	}
	if err := a.watchForwarding(); err != nil {
		return err
	}
	for _, name := range a.order {
		i := a.instances[name]
		if err := i.forwarding.drop(nil); err != nil {
			a.log.Debug("remove what an earlier life left behind", "instance", name, "err", err)
		}
		if err := i.holding.drop(); err != nil {
			return fmt.Errorf("remove what an earlier life left behind: %w", err)
		}
	}
	if err := a.dropBelow(); err != nil {
		return fmt.Errorf("remove what an earlier life left behind: %w", err)
	}
	if a.cfg.Global.DisableLocalIGMP {
		if err := a.parameters.Set(sysctl.Net("ipv4", "igmp_link_local_mcast_reports"), "0"); err != nil {
			a.log.Warn("the kernel still reports link-local multicast groups", "err", err)
		}
	}
	a.replaceFilter()
	if err := a.awaitCarriers(ctx); err != nil {
		return err
	}
	a.replacePromotion()
	a.takeStatic()
	cfg := director.Config{Node: a.node, Groups: a.groups, Fencing: fencingOf(a.cfg)}
	var log director.Log
	if a.clustered() {
		cfg.Lease = &lease.Config{
			Self: a.opt.Cluster.Self(), Life: lease.Life(a.opt.Member.Life), Duration: a.opt.Member.Lease,
			Slack: a.opt.Member.Slack, Ceiling: a.opt.Cluster.PromiseCeiling(),
			Proved: a.cfg.Cluster.Fencing == conf.FencingRequired,
		}
		if a.cfg.Cluster.Fencing != conf.FencingOff {
			cfg.Lease.Silence = director.Silence(cfg.Lease.Duration)
		}
		cfg.Place = placementOf(a.cfg.Cluster)
		cfg.Hold = a.cfg.Cluster.QuorumLoss == conf.QuorumLossHold
		cfg.Arbitrate = a.cfg.Cluster.Arbitration == conf.ArbitrationGateway
		cfg.SightSpan = sightSpan(a.cfg.Cluster.Gateways)
		log = member.LogState{Cluster: a.opt.Cluster}
	}
	a.machine = director.New(a.clock.Now(), cfg, log)
	return nil
}

// learnLinks takes in the interfaces and addresses that there are. Everything else is looked at once the machine is made.
func (a *Agent) learnLinks() error {
	for !a.synced {
		select {
		case err := <-a.unwatched:
			return fmt.Errorf("watch interfaces: %w", err)
		case ev := <-a.inbox:
			if ev, ok := ev.(link.Event); ok {
				a.handleLink(ev)
				_, a.synced = ev.(link.Synced)
			}
		}
	}
	return nil
}

// awaitCarriers makes the interfaces of the instances and takes in what the kernel says of them, for a while: what begins
// to work a little later is like any interface that comes up.
func (a *Agent) awaitCarriers(ctx context.Context) error {
	a.keepCarriers()
	patience := time.After(carrierPatience)
	for !a.carriersWork() {
		select {
		case <-ctx.Done():
			return nil // the loop hands over what there is
		case <-patience:
			return nil
		case err := <-a.unwatched:
			return fmt.Errorf("watch interfaces: %w", err)
		case ev := <-a.inbox:
			if ev, ok := ev.(link.Event); ok {
				a.handleLink(ev)
				a.carrierEvent(ev)
			}
		}
	}
	return nil
}

// hostName is this machine's name in the cluster, or alone.
func hostName(c *conf.Config) string {
	if c.Cluster != nil {
		return c.Cluster.Node
	}
	return c.ConfigID
}

// installGuard puts the guard in place, shut, and has it watched.
func (a *Agent) installGuard(work context.Context) error {
	if !a.clustered() || a.cfg.Cluster.Guard != conf.GuardNftables {
		return nil
	}
	g, err := guard.Open(guard.Options{Clock: a.clock.Now, Logger: a.log})
	if err != nil {
		return err
	}
	if err := g.Install(a.spec); err != nil {
		return errors.Join(err, g.Close(true))
	}
	a.guard = g
	go func() {
		if err := g.Watch(work, func(c guard.Change) {
			a.post(work, director.GuardGone{Reason: "the guard was changed: " + c.String()})
		}); err != nil {
			a.log.Error("the guard is not watched any more", "err", err)
		}
	}()
	go func() {
		if err := guard.WatchClock(work, func() {
			a.post(work, director.GuardGone{Reason: "the wall clock was set; the guard's deadlines are renewed"})
		}); err != nil {
			a.log.Error("steps of the wall clock are not noticed", "err", err)
		}
	}()
	return nil
}

// post gives the loop something to do and waits for room. It is for what must not get lost.
func (a *Agent) post(ctx context.Context, ev any) {
	select {
	case a.inbox <- ev:
	case <-ctx.Done():
	}
}

// offer gives the loop something to do, or drops it and returns false when the loop is behind. It is for what comes
// again.
func (a *Agent) offer(ev any, kind string) bool {
	select {
	case a.inbox <- ev:
		return true
	default:
		a.dropped.mu.Lock()
		a.dropped.counts[kind]++
		a.dropped.mu.Unlock()
		return false
	}
}

// loop is the one goroutine that decides and acts.
func (a *Agent) loop(ctx context.Context) error {
	var fromCluster <-chan cluster.Event
	var inputs <-chan lease.Input
	if a.clustered() {
		fromCluster, inputs = a.opt.Cluster.Events(), a.link.Inputs
	}
	var timer alarm.Alarm
	defer timer.Stop()
	timer.Set(0)
	armed := a.clock.Now() // when the timer fires; zero: it has
	stopping := ctx.Done()
	var giveUp <-chan time.Time
	for !a.finished {
		select {
		case <-stopping:
			stopping, giveUp = nil, time.After(stopGrace)
			a.stopping = true
			a.leaves = slices.ContainsFunc(a.order, func(name string) bool { return a.instances[name].holding.taken })
			a.opt.Supervisor.Stopping()
			a.step(director.Shutdown{})
		case <-giveUp:
			a.log.Warn("not everything could be handed over in time")
			a.finished = true
		case err := <-a.unwatched:
			a.withdraw()
			return fmt.Errorf("watch interfaces: %w", err)
		case ev, open := <-fromCluster:
			if !open {
				a.withdraw()
				return nil // the cluster's own error says why
			}
			a.fromCluster(ev)
		case in := <-inputs:
			a.step(in)
		case f := <-a.requests:
			f()
		case ev := <-a.inbox:
			a.fromWorld(ev)
		case <-timer.C:
			armed = 0
			a.lookAgain()
			a.moved = true // a group may be given up long after its instances have left Active
			a.hear()
			a.step(director.Tick{})
		}
		if a.moved {
			a.moved = false
			a.tellHolds()
			a.tellSync()
		}
		if a.takenChanged {
			a.watchStrangers()
		}
		a.housekeep()
		// A timer that fires a little early does no harm: most events put off a deadline, and each of hundreds of them by little.
		if at := a.wakeAt(); armed.IsZero() || at < armed || at > armed.Add(earliness) {
			armed = at
			timer.Set(at.Sub(a.clock.Now()))
		}
	}
	a.withdraw()
	return nil
}

// hear takes in what this machine has said before time is let pass: a loop that comes late must not take over from a router
// whose advertisements wait in the inbox. What there is to send does not wait for long.
func (a *Agent) hear() {
	for until := time.Now().Add(hearingSpan); time.Now().Before(until); {
		select {
		case ev := <-a.inbox:
			a.fromWorld(ev)
		default:
			return
		}
	}
}

// grainOf returns how late the loop may be without a lease, so that it does in one turn what is due to many instances at nearly the
// same time: with hundreds of them it would otherwise wake for each, and so would all that hear them. It is a small part of the
// shortest interval of advertisements.
func grainOf(cfg *conf.Config) time.Duration {
	const part, shortest, longest = 20, time.Millisecond, 5 * time.Millisecond
	grain := longest
	for i := range cfg.Instances {
		grain = min(grain, cfg.Instances[i].AdvertInterval/part)
	}
	return max(grain, shortest)
}

// wakeAt is when the loop is next due: the machine's deadline, the next look, or the next housekeeping.
func (a *Agent) wakeAt() clock.Time {
	at := clock.Earliest(a.machine.Deadline(), a.lookAt, a.housekeepAt())
	if !a.clustered() {
		grain := clock.Time(a.grain)
		at = (at + grain - 1) / grain * grain
	}
	return at
}

// housekeepAt is when to do what is due now and then, at the latest.
func (a *Agent) housekeepAt() clock.Time { return a.housekept.Add(a.housekeepEvery()) }

func (a *Agent) housekeepEvery() time.Duration {
	every := housekeeping
	if a.guardFault != "" || len(a.leftovers) > 0 {
		every = min(every, retryFailed)
	}
	if a.dog != nil {
		every = min(every, conf.WatchdogFeed)
	}
	return every
}

// withdraw makes sure that nothing stays behind: the guard is shut and gone only after the addresses are.
func (a *Agent) withdraw() {
	failed := !a.dropLeftovers()
	if a.guard != nil {
		if err := a.guard.Shut(a.groupNames()); err != nil && !errors.Is(err, guard.ErrNotInstalled) {
			a.log.Error("cannot shut the guard", "err", err)
		}
	}
	for _, name := range a.order {
		i := a.instances[name]
		if i.forwarding.taken {
			a.dropForwarding(i)
		}
		if i.holding.taken || i.stuck != "" {
			if err := i.holding.drop(); err != nil {
				failed = true
				a.log.Error("cannot remove addresses", "instance", name, "err", err)
			}
		}
	}
	a.deleteCarriers()
	a.closeFilter()
	if err := a.parameters.Restore(); err != nil {
		a.log.Warn("a kernel parameter stays as it was changed", "err", err)
	}
	if a.guard != nil {
		if err := a.guard.Close(failed); err != nil {
			a.log.Error("cannot remove the guard", "err", err)
		}
	}
	a.dropStatic()
	a.opt.Companion.Forget()
	a.promotion.wanted = nil
	if err := a.promotion.restore(); err != nil {
		a.log.Error("cannot restore promote_secondaries", "err", err)
	}
}

// fromCluster takes in what the cluster says.
func (a *Agent) fromCluster(ev cluster.Event) {
	a.service.Observe(ev)
	if _, applied := ev.(cluster.Applied); applied {
		a.services.look()
	}
	for _, in := range a.link.Translate(ev) {
		a.step(in)
	}
}

// fromWorld takes in what this machine says.
func (a *Agent) fromWorld(ev any) {
	switch ev := ev.(type) {
	case link.Event:
		a.fromKernel(ev)
	case route.Event:
		a.forwardingChanged(ev)
	case received:
		a.advertReceived(ev)
	case claimed:
		a.strangerHeard(ev)
	case radioChanged:
		a.radioWaits.Store(false) // first: what changes from here on may be missed by this look
		a.look()
		a.bequeathAll() // what speaks may speak from elsewhere
	case scriptResult:
		a.scriptDone(ev)
	case fileChanged:
		a.fileChanged(ev)
	case processesCounted:
		a.processesCounted(ev)
	case sessionChanged:
		a.sessionChanged(ev)
	case found:
		a.lookedAround(ev)
	case gatewayProbed:
		a.gatewayProbed(ev)
	case servicesComplete:
		a.look()
	case director.Event:
		a.step(ev)
	}
}

// housekeep does what is due now and then. A loop that is awake anyway does it early: to wake up costs more than the work.
func (a *Agent) housekeep() {
	now := a.stepped
	if now < a.housekept.Add(a.housekeepEvery()/2) {
		return
	}
	a.housekept = now
	a.opt.Supervisor.Alive()
	a.feedWatchdog(a.clock.Now())
	a.dropLeftovers()
	if a.radioMissed.Swap(false) {
		a.radioWaits.Store(false)
		a.look()
	}
	a.watcher.Retry()
	a.keepCarriers()
	a.tellAbsent()
	if a.clustered() {
		a.tellMinute(time.Now())
		a.service.CheckQuorum()
		for _, in := range a.link.Standings() {
			a.step(in)
		}
	}
	if a.guardFault != "" {
		a.step(director.GuardGone{Reason: a.guardFault})
	}
}

// note puts an event into the journal, the cluster's or our own.
func (a *Agent) note(n fsm.Note) {
	if a.service != nil {
		a.service.Note(n)
		return
	}
	a.events.Append(api.Event{Time: api.At(time.Now()), Severity: api.Severity(n.Severity), Kind: n.Kind,
		Node: a.node, Group: n.Group, Text: n.Text})
}

// move starts a move that an operator wants; it works on the leader.
func (a *Agent) move(ctx context.Context, group string, to cluster.MemberID, reason string) error {
	var refused error
	if err := a.inLoop(ctx, func(now clock.Time) {
		var actions []director.Action
		actions, refused = a.machine.Move(now, group, to, reason)
		for _, ev := range a.execute(actions) {
			a.step(ev)
		}
	}); err != nil {
		return err
	}
	return refused
}

// status of an instance in VRRP's words.
func (a *Agent) status(name string) vrrp.Status { return a.machine.State(name).Status }
