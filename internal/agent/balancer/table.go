package balancer

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/lvs"
	"github.com/hactl/had/lvs/ipvs"
)

const (
	lookInterval = time.Second            // between two looks at the kernel's services
	lookShare    = 10                     // a look that takes long is made so rarely that it takes at most this part of the time
	turnTime     = 10 * time.Millisecond  // for the destinations of some services, in turn: others wait meanwhile
	turnInterval = 200 * time.Millisecond // before those of the next ones, until all have had their turn
	firstRetry   = time.Second            // of what the kernel refuses, and of the door; the next ones come after twice as long each
	lastRetry    = time.Minute
)

// table is the kernel's table and what it lacks. It belongs to the Balancer's goroutine.
type table struct {
	opener func() (Kernel, error)
	log    *slog.Logger

	kernel  Kernel // nil: there is none
	missing error  // why
	openAt  time.Time
	retry   time.Duration
	flushed bool // lvs_flush was done
	lvs     conf.LVS
	conf    map[string]*conf.VirtualServer
	virtual map[lvs.ServiceKey]string // name of the virtual server, by service

	have     lvs.Table               // what the kernel had when it was looked at, with our changes since
	turn     []lvs.ServiceKey        // services whose destinations have yet to be looked at
	ours     map[lvs.ServiceKey]bool // services that we want, or have put there
	queue    []lvs.ServiceKey        // whose entries may differ
	queued   map[lvs.ServiceKey]bool
	refused  map[entry]*refusal
	lookAt   time.Time
	looked   bool // at least once since the door was opened
	repaired int  // services that others had changed
}

// entry is a service, or a destination of one.
type entry struct {
	key    lvs.ServiceKey
	server lvs.DestinationKey // not valid: the service itself
}

// refusal is a change that the kernel did not make.
type refusal struct {
	change lvs.Change
	err    error
	since  time.Time
	again  time.Time
	delay  time.Duration
}

func newTable(open func() (Kernel, error), log *slog.Logger) *table {
	return &table{opener: open, log: log, retry: firstRetry, have: lvs.Table{}, ours: map[lvs.ServiceKey]bool{},
		queued: map[lvs.ServiceKey]bool{}, refused: map[entry]*refusal{}, virtual: map[lvs.ServiceKey]string{}}
}

// settings takes over what global_defs says of IPVS.
func (t *table) settings(c conf.LVS) {
	changed := t.lvs.TCPTimeout != c.TCPTimeout || t.lvs.TCPFinTimeout != c.TCPFinTimeout || t.lvs.UDPTimeout != c.UDPTimeout
	t.lvs = c
	if t.kernel != nil && changed {
		t.setTimeouts()
	}
}

func (t *table) setTimeouts() {
	if !t.lvs.Timeouts {
		return
	}
	if err := t.kernel.SetTimeouts(ipvs.Timeouts{TCP: t.lvs.TCPTimeout, TCPFin: t.lvs.TCPFinTimeout, UDP: t.lvs.UDPTimeout}); err != nil {
		t.log.Error("lvs_timeouts is not in force", "err", err)
	}
}

// locate takes over which services are of which virtual server, and that they are ours.
func (t *table) locate(conf map[string]*conf.VirtualServer, virtuals []lvs.VirtualServer) {
	t.conf = conf
	clear(t.virtual)
	for _, v := range virtuals {
		for _, key := range v.Keys {
			t.ours[key] = true
			if t.virtual[key] == "" {
				t.virtual[key] = v.Name
			}
		}
	}
	for e, r := range t.refused { // it may be another change by now
		r.again = time.Time{}
		t.enqueue([]lvs.ServiceKey{e.key})
	}
}

// enqueue has services compared with what they should be.
func (t *table) enqueue(keys []lvs.ServiceKey) {
	for _, key := range keys {
		if !t.queued[key] {
			t.queued[key] = true
			t.queue = append(t.queue, key)
		}
	}
}

// work brings one service up to date; false: there is nothing to do, or no kernel to do it in.
func (t *table) work(want lvs.Table) bool {
	if len(t.queue) == 0 || !t.ready(want) || len(t.queue) == 0 {
		return false
	}
	key := t.queue[0]
	t.queue = t.queue[1:]
	delete(t.queued, key)
	t.reconcile(key, want)
	return true
}

// ready opens the door if that is due, and looks behind it. It returns false while there is no IPVS.
func (t *table) ready(want lvs.Table) bool {
	if t.kernel != nil {
		return true
	}
	now := time.Now()
	if now.Before(t.openAt) {
		return false
	}
	kernel, err := t.opener()
	if err != nil {
		if t.missing == nil {
			t.log.Error("virtual servers are not served; it is tried again", "err", err)
		}
		t.missing, t.openAt = err, now.Add(t.retry)
		t.retry = min(2*t.retry, lastRetry)
		return false
	}
	if t.missing != nil {
		t.log.Info("the kernel has IPVS now; virtual servers are served")
	}
	t.kernel, t.missing, t.retry, t.looked, t.have = kernel, nil, firstRetry, false, lvs.Table{}
	if t.lvs.Flush && !t.flushed {
		if err := kernel.Flush(); err != nil {
			t.log.Error("IPVS is not cleared at the start (lvs_flush)", "err", err)
		}
	}
	t.flushed = true
	t.setTimeouts()
	t.lookAt = time.Time{}
	t.look(want)
	return t.kernel != nil
}

// watches says whether there is anything to look at now and then.
func (t *table) watches() bool { return len(t.ours) > 0 || len(t.queue) > 0 }

// look reads the kernel's services, if that is due, and the destinations of some, and queues what others have changed and what is to
// be tried again. It returns when to look again.
func (t *table) look(want lvs.Table) time.Duration {
	if len(t.ours) == 0 || !t.ready(want) {
		return lookInterval
	}
	start := time.Now()
	due := !start.Before(t.lookAt)
	var changed []lvs.ServiceKey
	var err error
	if due {
		for e, r := range t.refused {
			if !start.Before(r.again) {
				t.enqueue([]lvs.ServiceKey{e.key})
			}
		}
		changed, err = t.readServices(want)
	}
	if err == nil {
		changed, err = t.readTurn(want, changed)
	}
	if err != nil {
		t.log.Error("the kernel's IPVS table cannot be read", "err", err)
		t.close()
		t.missing, t.openAt = err, start.Add(t.retry)
		return lookInterval
	}
	if due {
		t.lookAt = start.Add(max(lookInterval, lookShare*time.Since(start)))
	}
	if t.looked && len(changed) > 0 {
		t.repaired += len(changed)
		slices.SortFunc(changed, lvs.ServiceKey.Compare)
		t.log.Warn("somebody else has changed the kernel's IPVS table; it is put right", "services", len(changed), "first", changed[0])
	}
	t.looked = true
	slices.SortFunc(t.queue, lvs.ServiceKey.Compare)
	if len(t.turn) > 0 {
		return turnInterval
	}
	return min(time.Until(t.lookAt), lookInterval)
}

// readServices takes in the kernel's services, and the destinations of those that are not as they were. It returns which of ours
// others have changed. Once all services have had their turn, it is theirs again.
func (t *table) readServices(want lvs.Table) (changed []lvs.ServiceKey, err error) {
	services, err := t.kernel.Services()
	if err != nil {
		return nil, err
	}
	for key := range t.ours {
		_, wanted := want[key]
		_, there := services[key]
		_, had := t.have[key]
		switch {
		case there:
		case !wanted:
			delete(t.ours, key)
		default:
			if had && !t.queued[key] {
				changed = append(changed, key)
			}
			t.enqueue([]lvs.ServiceKey{key})
		}
	}
	maps.DeleteFunc(t.have, func(key lvs.ServiceKey, _ lvs.Entry) bool { _, there := services[key]; return !there })
	for key, s := range services {
		if e, known := t.have[key]; !known || e.Service != s {
			if changed, err = t.readDestinations(key, s, want, changed); err != nil {
				return nil, err
			}
		}
	}
	if len(t.turn) == 0 {
		t.turn = slices.Collect(maps.Keys(services))
	}
	return changed, nil
}

// readTurn takes in the destinations of the services whose turn it is, and appends those of ours that others have changed.
func (t *table) readTurn(want lvs.Table, changed []lvs.ServiceKey) ([]lvs.ServiceKey, error) {
	for until := time.Now().Add(turnTime); len(t.turn) > 0 && !time.Now().After(until); {
		key := t.turn[0]
		t.turn = t.turn[1:]
		if e, there := t.have[key]; there {
			var err error
			if changed, err = t.readDestinations(key, e.Service, want, changed); err != nil {
				return nil, err
			}
		}
	}
	return changed, nil
}

// readDestinations takes in those of a service that is so, and appends it if it is ours and others have changed something.
func (t *table) readDestinations(key lvs.ServiceKey, s lvs.Service, want lvs.Table, changed []lvs.ServiceKey) ([]lvs.ServiceKey, error) {
	destinations, err := t.kernel.Destinations(key)
	if err != nil {
		return nil, err
	}
	e, old := lvs.Entry{Service: s, Destinations: destinations}, t.have[key]
	if t.ours[key] && !t.queued[key] && (old.Service != e.Service || !maps.Equal(old.Destinations, e.Destinations)) {
		changed = append(changed, key)
	}
	t.have[key] = e
	if t.ours[key] && len(lvs.PlanService(nil, key, t.have, want)) > 0 {
		t.enqueue([]lvs.ServiceKey{key})
	}
	return changed, nil
}

// reconcile makes the changes of one service, but for those that the kernel has refused a short while ago.
func (t *table) reconcile(key lvs.ServiceKey, want lvs.Table) {
	if !t.ours[key] {
		return
	}
	wrong := map[entry]bool{}
	changes := lvs.PlanService(nil, key, t.have, want)
	ready := changes[:0]
	for _, c := range changes {
		e := entry{key: key, server: c.Server}
		if r := t.refused[e]; r != nil && r.change == c && time.Now().Before(r.again) {
			wrong[e] = true
			if c.Operation == lvs.AddService {
				break // no service, no destinations
			}
			continue
		}
		ready = append(ready, c)
	}
	for i, err := range t.kernel.Apply(ready) {
		c := ready[i]
		e := entry{key: key, server: c.Server}
		r := t.refused[e]
		switch {
		case err == nil:
			t.have.Apply(c)
			if r != nil {
				t.log.Info("the kernel takes it now", "change", c, "at", t.where(e))
			}
		case errors.Is(err, ipvs.ErrExists), errors.Is(err, ipvs.ErrNoService), errors.Is(err, ipvs.ErrNoDestination):
			t.lookAt, t.turn = time.Time{}, slices.Insert(t.turn, 0, key) // the table is not what we took it for
			wrong[e] = wrong[e] || r != nil
		default:
			wrong[e] = true
			t.refuse(e, c, err)
		}
		if err != nil && c.Operation == lvs.AddService {
			break // what became of its destinations says nothing
		}
	}
	for e := range t.refused {
		if e.key == key && !wrong[e] {
			delete(t.refused, e)
		}
	}
	if _, wanted := want[key]; !wanted {
		if _, there := t.have[key]; !there {
			delete(t.ours, key)
		}
	}
}

// refuse takes note of a change that the kernel did not make.
func (t *table) refuse(e entry, c lvs.Change, err error) {
	now := time.Now()
	r := t.refused[e]
	if r == nil || r.change != c || r.err.Error() != err.Error() {
		t.log.Error("the kernel refuses a change of IPVS; the rest is served, and it is tried again", "change", c, "at", t.where(e), "err", err)
		r = &refusal{change: c, since: now, delay: firstRetry}
		t.refused[e] = r
	}
	r.err, r.again = err, now.Add(r.delay)
	r.delay = min(2*r.delay, lastRetry)
}

// where names the place in the configuration that asks for an entry.
func (t *table) where(e entry) string {
	v := t.conf[t.virtual[e.key]]
	if v == nil {
		return "no configuration any more"
	}
	for i := range v.Servers {
		if r := &v.Servers[i]; e.server.IsValid() && r.Address.Addr() == e.server.Addr() &&
			(r.Address.Port() == e.server.Port() || r.Address.Port() == 0) {
			return fmt.Sprintf("%v, real_server %v", r.Pos, r.Address)
		}
	}
	if s := v.Sorry; s != nil && e.server.IsValid() && s.Address.Addr() == e.server.Addr() {
		return fmt.Sprintf("%v, sorry_server %v", s.Pos, s.Address)
	}
	return fmt.Sprintf("%v, virtual_server %s", v.Pos, t.virtual[e.key])
}

// clear removes what is ours from the kernel, or with flush everything.
func (t *table) clear(flush bool) {
	if t.kernel == nil {
		return
	}
	if flush {
		if err := t.kernel.Flush(); err != nil {
			t.log.Error("IPVS is not cleared at the end (lvs_flush_on_stop)", "err", err)
		}
		return
	}
	var changes []lvs.Change
	for key := range t.ours {
		if _, there := t.have[key]; there {
			changes = append(changes, lvs.Change{Operation: lvs.DeleteService, Key: key})
		}
	}
	for i, err := range t.kernel.Apply(changes) {
		if err != nil && !errors.Is(err, ipvs.ErrNoService) {
			t.log.Error("a virtual server stays in the kernel", "service", changes[i].Key, "err", err)
		}
	}
}

func (t *table) close() {
	if t.kernel != nil {
		t.kernel.Close()
		t.kernel = nil
	}
}
