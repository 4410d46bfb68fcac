package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/balancer"
	"github.com/hactl/had/internal/agent/shared"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/control/view"
	"github.com/hactl/had/internal/member"
	"github.com/hactl/had/lvs"
	"github.com/hactl/had/lvs/ipvs"
)

const (
	firstTable   = 5 * time.Second        // how long a start waits for the cluster's services, and to own anything, before the file's serve
	lookAnyway   = time.Minute            // between two looks without services: what makes some wakes who looks
	healthEvery  = 50 * time.Millisecond  // between two looks at what this director's checks say
	tellAgain    = 200 * time.Millisecond // after verdicts that were not committed
	catchUpWait  = 250 * time.Millisecond // for a leader's word: one that has died gives none, and the next one may be there soon
	catchUpPause = 50 * time.Millisecond
	seedPatience = 30 * time.Second // for the log to take the first services
	seedPause    = 2 * time.Second  // at least, before another attempt; at most twice that
)

// loadBalancer is a *balancer.Balancer.
type loadBalancer interface {
	Configure(balancer.Config, map[balancer.Server]balancer.Override)
	Override(map[balancer.Server]balancer.Override)
	Doubt([]balancer.Server)
	Status(context.Context) (balancer.Status, error)
}

// statistics asks the kernel for its counters.
type statistics func() (map[lvs.ServiceKey]ipvs.ServiceStatistics, error)

// services makes the cluster's virtual services those of this director's load balancer, and tells the cluster what the
// director's checks find while it owns the group of a service. As long as the cluster has none, those of the file serve, and
// become the cluster's. Its methods are safe for concurrent use; those that the loop calls do not block.
type services struct {
	node     string
	cluster  *cluster.Cluster
	member   *member.Service
	balancer loadBalancer
	counters statistics
	clock    func() clock.Time
	log      *slog.Logger

	wake      chan struct{} // 1: look again
	complete  atomic.Bool   // the first table is in the kernel, or was waited for long enough
	completed func()        // called by Run when it is complete

	mu      sync.Mutex
	cfg     *conf.Config
	around  balancer.Config        // that goes with cfg, without virtual servers of the cluster's
	holds   map[string]shared.Hold // groups that this director holds; never changed, but replaced
	news    bool                   // something has changed since Run has decided last
	checked bool                   // checks have found something
	version uint64                 // of the table that is served; 0: the file's
	wrong   []string               // what of the table cannot be served here
	drift   int                    // services in which the file differs from the table
	groups  map[string]string      // ownership group by service
	all     []conf.VirtualServer   // that are served
	named   []conf.VirtualServerGroup

	// What follows belongs to Run.
	started  time.Time
	caughtUp chan struct{}    // closed once this member has all that was committed before its start
	served   *conf.Config     // the configuration that is configured; nil: none
	next     *balancer.Config // to be configured with the next decision; nil: none
	table    fsm.Table        // that is configured
	newest   uint64           // newest version of a service in table
	parsed   map[string]parsedService
	health   map[shared.Server]shared.Health
	doubted  map[shared.Server]clock.Time // what the load balancer was told to doubt, as of Decision
	reasons  time.Time                    // of the newest look at health
	decision shared.Decision
	decided  uint64 // table of decision
	telling  chan error
	seeded   chan struct{}
}

// servicesComplete says that complete is set.
type servicesComplete struct{}

// parsedService is a virtual service as the configuration around it reads it.
type parsedService struct {
	from    *fsm.Service
	virtual []conf.VirtualServer // one; none if it cannot be served
	scripts notifyScripts
	groups  []conf.VirtualServerGroup
	wrong   []string
}

// newServices makes services that serve nothing yet. member is set before run is called.
func newServices(node string, c *cluster.Cluster, b loadBalancer, now func() clock.Time, completed func(), log *slog.Logger) *services {
	return &services{node: node, cluster: c, balancer: b, counters: connections, clock: now, log: log, wake: make(chan struct{}, 1),
		completed: completed,
		holds:     map[string]shared.Hold{}, groups: map[string]string{}, parsed: map[string]parsedService{},
		health: map[shared.Server]shared.Health{}, caughtUp: make(chan struct{})}
}

// look makes Run look again.
func (s *services) look() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// found says that the load balancer's checks have found something.
func (s *services) found() {
	s.mu.Lock()
	s.checked = true
	s.mu.Unlock()
	s.look()
}

// hold says which groups this director holds, with their epochs. What it held before it holds since then.
func (s *services) hold(epochs map[string]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(epochs) == len(s.holds) {
		same := true
		for group, epoch := range epochs {
			old, held := s.holds[group]
			same = same && held && old.Epoch == epoch
		}
		if same {
			return
		}
	}
	holds := make(map[string]shared.Hold, len(epochs))
	for group, epoch := range epochs {
		holds[group] = shared.Hold{Epoch: epoch, Since: s.clock()}
		if old, held := s.holds[group]; held && old.Epoch == epoch {
			holds[group] = old
		}
	}
	s.holds, s.news = holds, true
	s.look()
}

// configure gives the running configuration, and what the load balancer needs around virtual servers. What has changed in its virtual services since the one before becomes
// the cluster's, as far as that has had them as they were.
func (s *services) configure(ctx context.Context, c *conf.Config, around balancer.Config) {
	s.mu.Lock()
	before := s.cfg
	s.cfg, s.around = c, around
	s.mu.Unlock()
	s.look()
	if before == nil || conf.Same(before.VirtualServers, c.VirtualServers) && conf.Same(before.VirtualServerGroups, c.VirtualServerGroups) {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, seedPatience)
		defer cancel()
		changed, err := s.member.FollowLVS(ctx, definitionsOf(before), definitionsOf(c))
		switch {
		case err != nil:
			s.log.Warn("the virtual services of the file do not become the cluster's", "err", err, "next", "hactl lvs apply")
		case len(changed) > 0:
			s.log.Info("virtual services of the file are the cluster's", "services", changed)
		}
	}()
}

func definitionsOf(c *conf.Config) []fsm.Definition {
	var all []fsm.Definition
	for _, v := range c.Services() {
		d := fsm.Definition{Key: v.Key, Text: v.Text}
		for _, r := range v.Servers {
			d.Servers = append(d.Servers, fsm.ServerDefinition{Key: r.Key, Text: r.Text})
		}
		all = append(all, d)
	}
	return all
}

// run works until ctx ends.
func (s *services) run(ctx context.Context) {
	s.started = time.Now()
	go s.catchUp(ctx)
	caughtUp := s.caughtUp
	timer := time.NewTimer(firstTable)
	defer timer.Stop()
	for {
		at := s.step(ctx)
		if !s.complete.Load() {
			at = min(at, s.awaitFirst(ctx))
		}
		timer.Reset(at)
		select {
		case <-ctx.Done():
			return
		case <-caughtUp:
			caughtUp = nil
		case <-s.wake:
		case <-timer.C:
		case err := <-s.telling:
			s.telling, s.decision.Tell = nil, nil
			if err != nil {
				s.log.Debug("verdicts were not committed", "err", err)
				time.AfterFunc(tellAgain, s.retry)
			}
		case <-s.seeded:
			s.seeded = nil
		}
	}
}

// retry makes Run decide again.
func (s *services) retry() {
	s.mu.Lock()
	s.news = true
	s.mu.Unlock()
	s.look()
}

// catchUp waits until this member knows all that had been committed when it started.
func (s *services) catchUp(ctx context.Context) {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, catchUpWait)
		err := s.member.CatchUp(attempt)
		cancel()
		if err == nil {
			close(s.caughtUp)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(catchUpPause):
		}
	}
}

// known tells whether what this member has applied is what the cluster has, or it has waited for that long enough. Who holds a group
// has applied the grant, and with it all that was before.
func (s *services) known() bool {
	s.mu.Lock()
	owns := len(s.holds) > 0
	s.mu.Unlock()
	select {
	case <-s.caughtUp:
		return true
	default:
		return owns || time.Since(s.started) >= firstTable
	}
}

// awaitFirst looks whether the kernel has all of the first table: until then this director is not to own anything if another one can. It
// returns when to look again at the latest.
func (s *services) awaitFirst(ctx context.Context) time.Duration {
	if time.Since(s.started) < firstTable {
		if s.served == nil || s.next != nil {
			return healthEvery
		}
		if status, err := s.balancer.Status(ctx); err != nil || status.Pending > 0 && status.Missing == "" {
			return healthEvery
		}
	}
	s.complete.Store(true)
	s.completed()
	return firstTable
}

// step brings everything up to date and returns when to look again at the latest.
func (s *services) step(ctx context.Context) time.Duration {
	s.mu.Lock()
	cfg, around, holds, checked := s.cfg, s.around, s.holds, s.checked
	s.mu.Unlock()
	if cfg == nil {
		return firstTable
	}
	// A copy of the log that has not caught up goes through history: nobody is to serve that, or to be told of it.
	if !s.known() {
		return healthEvery
	}
	var table fsm.Table
	s.cluster.Read(func(state *fsm.State) {
		if table = s.table; state.Balanced() != table.Changed {
			table = state.Services()
		}
	})
	if s.served != cfg || table.Changed != s.table.Changed {
		s.serveTable(cfg, around, table)
	}
	if table.Changed == 0 {
		s.override(map[balancer.Server]balancer.Override{})
		s.seed(ctx, cfg)
		return lookAnyway
	}
	wait := firstTable
	if checked {
		// What the cluster has comes first: the load balancer may take a while to answer.
		s.decideAgain(table, holds)
		if time.Since(s.reasons) < healthEvery {
			wait = healthEvery
		} else {
			s.lookAtHealth(ctx)
		}
	}
	s.decideAgain(table, holds)
	if s.telling == nil && len(s.decision.Tell) > 0 {
		s.tell(ctx, s.decision.Tell)
	}
	return wait
}

// decideAgain decides, if there is anything new.
func (s *services) decideAgain(table fsm.Table, holds map[string]shared.Hold) {
	s.mu.Lock()
	news := s.news
	s.news = false
	s.mu.Unlock()
	if news || table.Changed != s.decided {
		s.decided, s.decision = table.Changed, s.decide(table, holds)
	}
}

// serveTable makes the next configuration of the load balancer, if it has to serve something else. A decision follows, and
// what overrules checks and definitions goes along.
func (s *services) serveTable(cfg *conf.Config, around balancer.Config, table fsm.Table) {
	anew := s.served == nil || s.served != cfg || (s.table.Changed == 0) != (table.Changed == 0)
	if s.served != cfg {
		s.parsed = map[string]parsedService{}
	}
	all, groups := cfg.VirtualServers, cfg.VirtualServerGroups
	var wrong []string
	if table.Changed != 0 {
		all, groups = nil, nil
		around.Scripts = notifyScripts{}
		parsed := make(map[string]parsedService, len(table.Services))
		for _, service := range table.Services {
			p, found := s.parsed[service.Key]
			if !found || !sameDefinition(p.from, service) {
				p = s.parse(cfg, service)
				anew = true
				for _, line := range p.wrong {
					s.log.Warn("virtual service", "service", service.Key, "problem", line)
				}
			}
			p.from = service
			parsed[service.Key] = p
			wrong = append(wrong, p.wrong...)
			all = append(all, p.virtual...)
			maps.Copy(around.Scripts, p.scripts)
			for _, g := range p.groups {
				if !slices.ContainsFunc(groups, func(o conf.VirtualServerGroup) bool { return o.Name == g.Name }) {
					groups = append(groups, g)
				}
			}
		}
		anew = anew || len(parsed) != len(s.parsed)
		s.parsed = parsed
	}
	s.served, s.table = cfg, table
	if anew {
		around.Virtual, around.Groups = all, groups
		s.next = &around
	}
	newest := uint64(0)
	for _, service := range table.Services {
		newest = max(newest, service.Version)
	}
	changed := anew || newest != s.newest
	s.newest = newest
	drift := 0
	if changed && table.Changed != 0 {
		drift = len(view.Drift(member.TableOf(table), member.TextsOf(definitionsOf(cfg))))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.wrong, s.checked, s.news = table.Changed, wrong, s.checked || anew, true
	if changed {
		s.drift = drift
	}
	if anew {
		s.groups, s.all, s.named = groupsOfServices(cfg, all, groups), all, groups
	}
}

// sameDefinition tells whether two versions of a service read the same.
func sameDefinition(a, b *fsm.Service) bool {
	return a == b || a.Text == b.Text && slices.EqualFunc(a.Servers, b.Servers, func(a, b fsm.Server) bool {
		return a.Key == b.Key && a.Text == b.Text
	})
}

// parse reads a service of the cluster.
func (s *services) parse(cfg *conf.Config, service *fsm.Service) parsedService {
	var servers []string
	for _, v := range service.Servers {
		servers = append(servers, v.Text)
	}
	p := parsedService{}
	c, findings := cfg.ReadServices(member.WithServers(service.Text, servers...))
	for _, f := range findings {
		if f.Severity == conf.Error {
			p.wrong = append(p.wrong, fmt.Sprintf("%s: %s", service.Key, f.Message))
		}
	}
	if c != nil {
		p.virtual = slices.DeleteFunc(c.VirtualServers, func(v conf.VirtualServer) bool { return v.Key() != service.Key })
		p.groups = c.VirtualServerGroups
		p.scripts = resolveNotifyScripts(&conf.Config{Global: cfg.Global, VirtualServers: p.virtual}, s.log)
	}
	return p
}

// serving returns the virtual servers that are served.
func (s *services) serving() ([]conf.VirtualServer, []conf.VirtualServerGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all, s.named
}

// groupsOfServices tells which ownership group each service belongs to: the one that has all its addresses. One of marks
// alone belongs to the only group there is. All others belong to none.
func groupsOfServices(cfg *conf.Config, all []conf.VirtualServer, named []conf.VirtualServerGroup) map[string]string {
	owners, only := map[netip.Addr]string{}, map[string]bool{}
	for i := range cfg.Instances {
		in := &cfg.Instances[i]
		only[groupOf(in)] = true
		for _, a := range held(in) {
			owners[a.Prefix.Addr()] = groupOf(in)
		}
	}
	groups := map[string]string{}
	for i := range all {
		v := &all[i]
		found := map[string]bool{}
		if v.Address.IsValid() {
			found[owners[v.Address.Addr()]] = true
		}
		for _, g := range named {
			if g.Name != v.Group {
				continue
			}
			for _, e := range g.Entries {
				for a := e.First; e.Mark == 0; a = a.Next() {
					found[owners[a]] = true
					if a == e.Last || len(found) > 1 {
						break
					}
				}
			}
		}
		if len(found) == 0 {
			found = only
		}
		if len(found) == 1 {
			for group := range found {
				if group != "" {
					groups[v.Key()] = group
				}
			}
		}
	}
	return groups
}

// decide says what counts, and has the load balancer do it.
func (s *services) decide(table fsm.Table, holds map[string]shared.Hold) shared.Decision {
	s.mu.Lock()
	groups := s.groups
	s.mu.Unlock()
	d := shared.Decide(shared.World{Table: table, Holds: holds, Groups: groups, Health: s.health})
	overrides := make(map[balancer.Server]balancer.Override, len(d.Says))
	for name, say := range d.Says {
		address, err := netip.ParseAddrPort(name.Server)
		if err != nil {
			continue // a key that this version does not make
		}
		o := balancer.Override{Override: lvs.Override{Drain: say.Drain, Begins: say.Begins}, Reason: "as the cluster says"}
		if say.Weight != nil {
			weight := int64(*say.Weight)
			o.Weight = &weight
		}
		if say.Found != nil {
			o.Found = &lvs.Verdict{Up: say.Found.Up, Adds: say.Found.Adds}
			if say.Found.Reason != "" {
				o.Reason = say.Found.Reason
			}
		}
		overrides[balancer.Server{Virtual: name.Service, Address: address}] = o
	}
	s.override(overrides)
	s.doubt(d.Doubt)
	return d
}

// doubt has the load balancer find again what this director's checks found too early, once for each time that it takes over.
func (s *services) doubt(all map[shared.Server]clock.Time) {
	var servers []balancer.Server
	for name, since := range all {
		if address, err := netip.ParseAddrPort(name.Server); err == nil && s.doubted[name] != since {
			servers = append(servers, balancer.Server{Virtual: name.Service, Address: address})
		}
	}
	s.doubted = all
	if len(servers) > 0 {
		s.balancer.Doubt(servers)
	}
}

// override gives the load balancer what overrules checks and definitions, together with the next configuration, if there is
// one: what the cluster knows to be down must not be served for a moment.
func (s *services) override(all map[balancer.Server]balancer.Override) {
	if s.next == nil {
		s.balancer.Override(all)
		return
	}
	s.balancer.Configure(*s.next, all)
	s.next = nil
}

// lookAtHealth takes in what this director's own checks say.
func (s *services) lookAtHealth(ctx context.Context) {
	s.reasons = time.Now()
	s.mu.Lock()
	s.checked = false
	s.mu.Unlock()
	status, err := s.balancer.Status(ctx)
	if err != nil {
		return
	}
	health := make(map[shared.Server]shared.Health, len(s.health))
	for _, service := range status.Services {
		for i, r := range service.View.Servers {
			name := shared.Server{Service: service.View.Name, Server: r.Address.String()}
			f := service.Servers[i].Found
			if f == nil {
				continue
			}
			health[name] = shared.Health{Health: fsm.Health{Up: f.Up, Adds: f.Adds, Reason: f.Reason}, Known: true, At: f.At}
		}
	}
	s.health = health
	s.mu.Lock()
	s.news = true
	s.mu.Unlock()
}

// tell has verdicts committed, one command after the other. Run hears of the outcome.
func (s *services) tell(ctx context.Context, all []fsm.Verdicts) {
	done := make(chan error, 1)
	s.telling = done
	go func() {
		var err error
		for _, v := range all {
			err = errors.Join(err, s.member.TellVerdicts(ctx, v))
		}
		done <- err
	}()
}

// seed makes the file's services the cluster's.
func (s *services) seed(ctx context.Context, cfg *conf.Config) {
	if s.seeded != nil || len(cfg.VirtualServers) == 0 {
		return
	}
	done := make(chan struct{})
	s.seeded = done
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(ctx, seedPatience)
		defer cancel()
		err := s.member.SeedLVS(ctx, definitionsOf(cfg))
		if err == nil {
			return
		}
		s.log.Debug("the virtual services of the file are not the cluster's", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(seedPause + rand.N(seedPause)): // not in step with another director
		}
	}()
}

// View is part of member.Balancer.
func (s *services) View(ctx context.Context) (api.NodeLVS, error) {
	s.mu.Lock()
	v := api.NodeLVS{Node: s.node, Version: s.version, Services: []api.NodeService{}}
	wrong, groups, holds := s.wrong, s.groups, maps.Clone(s.holds)
	s.mu.Unlock()
	err := viewOf(ctx, s.balancer, s.counters, &v)
	if v.Problem != "" {
		wrong = append(slices.Clone(wrong), v.Problem)
	}
	v.Problem = strings.Join(wrong, "; ")
	for i := range v.Services {
		n := &v.Services[i]
		n.Group = groups[n.Key]
		_, n.Owner = holds[n.Group]
		n.Owner = n.Owner && n.Group != ""
	}
	return v, err
}

// findings says what people should know of the virtual services.
func (s *services) findings() []api.Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []api.Finding
	if s.drift > 0 {
		all = append(all, api.Finding{Code: "lvs-drift", Severity: api.Warn, Node: s.node,
			Text: fmt.Sprintf("the file of %s differs from the cluster in %d virtual services", s.node, s.drift),
			Next: "hactl config diff, then hactl lvs apply"})
	}
	for _, line := range s.wrong {
		all = append(all, api.Finding{Code: "lvs-unusable", Severity: api.Error, Node: s.node, Text: "virtual service " + line})
	}
	return all
}

// File is part of member.Balancer.
func (s *services) File() []fsm.Definition {
	s.mu.Lock()
	cfg := s.cfg
	s.mu.Unlock()
	if cfg == nil {
		return nil
	}
	return definitionsOf(cfg)
}

// Read is part of member.Balancer.
func (s *services) Read(text string) ([]fsm.Definition, error) {
	s.mu.Lock()
	cfg := s.cfg
	s.mu.Unlock()
	if cfg == nil {
		return nil, errors.New("this director is starting")
	}
	c, findings := cfg.ReadServices(text)
	var wrong []error
	for _, f := range findings {
		if f.Severity == conf.Error {
			wrong = append(wrong, errors.New(f.String()))
		}
	}
	if len(wrong) > 0 || c == nil {
		return nil, errors.Join(wrong...)
	}
	return definitionsOf(c), nil
}

// viewOf adds what the load balancer and the kernel say.
func viewOf(ctx context.Context, b loadBalancer, statistics statistics, v *api.NodeLVS) error {
	status, err := b.Status(ctx)
	if err != nil {
		return err
	}
	v.Problem = status.Missing
	if n := status.Pending; n > 0 {
		v.Kernel = append(v.Kernel, fmt.Sprintf("%d services are still to be written", n))
	}
	for _, r := range status.Refused {
		v.Kernel = append(v.Kernel, fmt.Sprintf("%s: %s (%s)", r.Change, r.Why, r.Where))
	}
	var counts map[lvs.ServiceKey]ipvs.ServiceStatistics
	if status.Missing == "" && len(status.Services) > 0 {
		if counts, err = statistics(); err != nil {
			v.Problem = err.Error()
		}
	}
	for _, s := range status.Services {
		n := api.NodeService{Key: s.View.Name, Quorum: s.View.Quorate, Servers: []api.NodeServer{}}
		for i, r := range s.View.Servers {
			server := api.NodeServer{Key: r.Address.String(), Serves: r.Up, Weight: uint32(r.Weight)}
			if f := s.Servers[i].Found; f != nil {
				server.Found = &api.LVSVerdict{Up: f.Up, Adds: f.Adds, Reason: f.Reason, At: api.At(s.Servers[i].Since)}
			}
			for _, key := range s.View.Keys {
				for address, d := range counts[key].Destinations {
					if address == r.Address || address.Addr() == r.Address.Addr() && r.Address.Port() == 0 {
						server.InKernel = true
						server.Active, server.Inactive = server.Active+d.Active, server.Inactive+d.Inactive
					}
				}
			}
			n.Servers = append(n.Servers, server)
		}
		v.Services = append(v.Services, n)
	}
	return nil
}
