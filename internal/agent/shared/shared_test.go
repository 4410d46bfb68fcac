package shared

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/lvs/check/verdict"
)

const (
	web    = "TCP 192.0.2.10:80"
	second = clock.Time(time.Second)
)

var (
	up   = fsm.Health{Up: true}
	down = fsm.Health{Reason: "connection refused"}
)

func TestDecide(t *testing.T) {
	weight := uint32(7)
	tests := []struct {
		name   string
		server fsm.Server
		own    Health
		held   bool
		group  string
		say    Say
		tell   bool
		doubt  bool
	}{
		{name: "standby goes by the cluster", server: found(down), own: Health{up, true, 1}, group: "g", say: Say{Found: &down}},
		{name: "standby, and nobody has said anything", own: Health{down, true, 1}, group: "g", say: Say{Begins: true}},
		{name: "no group: each by its own", server: found(down), own: Health{up, true, 1}},
		{name: "owner, of one mind", server: found(up), own: Health{up, true, 11 * second}, held: true, group: "g"},
		{name: "new owner, of one mind until its next look", server: found(up), own: Health{up, true, 1}, held: true, group: "g",
			say: Say{Found: &up}},
		{name: "owner, first word", own: Health{up, true, 1}, held: true, group: "g", tell: true},
		{name: "owner that does not know yet", own: Health{up, false, 0}, held: true, group: "g"},
		{name: "owner that does not know yet, but the cluster does", server: found(down), own: Health{up, false, 0}, held: true,
			group: "g", say: Say{Found: &down}},
		{name: "new owner that saw it otherwise before", server: found(up), own: Health{down, true, 9 * second}, held: true, group: "g",
			say: Say{Found: &up}, doubt: true},
		{name: "new owner that has yet to see that it is gone", server: found(down), own: Health{up, true, 10 * second}, held: true, group: "g",
			say: Say{Found: &down}, doubt: true},
		{name: "new owner that has seen it since", server: found(up), own: Health{down, true, 11 * second}, held: true, group: "g", tell: true},
		{name: "another weight", server: found(up), own: Health{fsm.Health{Up: true, Adds: 3}, true, 11 * second}, held: true, group: "g", tell: true},
		{name: "why does not matter", server: found(down), own: Health{fsm.Health{Reason: "timeout"}, true, 11 * second}, held: true, group: "g"},
		{name: "drain and weight", server: fsm.Server{Key: "a:1", Weight: &weight, Drained: &fsm.Drained{}}, own: Health{up, true, 1},
			say: Say{Weight: &weight, Drain: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.server.Key = "a:1"
			name := Server{web, "a:1"}
			w := World{Table: fsm.Table{Changed: 1, Services: []*fsm.Service{{Key: web, Servers: []fsm.Server{test.server}}}},
				Health: map[Server]Health{name: test.own}, Groups: map[string]string{}, Holds: map[string]Hold{}}
			if test.group != "" {
				w.Groups[web] = test.group
			}
			if test.held {
				w.Holds["g"] = Hold{Epoch: 3, Since: 10 * second}
			}
			d := Decide(w)
			if got := d.Says[name]; !reflect.DeepEqual(got, test.say) {
				t.Errorf("says %+v, want %+v", got, test.say)
			}
			if since, doubted := d.Doubt[name]; doubted != test.doubt || doubted && since != 10*second {
				t.Errorf("doubts: %v, from %d on; want %v", doubted, since, test.doubt)
			}
			var want []fsm.Verdicts
			if test.tell {
				want = []fsm.Verdicts{{Group: "g", Epoch: 3, List: []fsm.Verdict{{Service: web, Server: "a:1", Health: test.own.Health}}}}
			}
			if !reflect.DeepEqual(d.Tell, want) {
				t.Errorf("tells %+v, want %+v", d.Tell, want)
			}
		})
	}
}

func found(h fsm.Health) fsm.Server { return fsm.Server{Found: &fsm.Finding{Health: h}} }

func TestOneCommandHoldsSoMuch(t *testing.T) {
	w := World{Groups: map[string]string{web: "g"}, Holds: map[string]Hold{"g": {1, 1}}, Health: map[Server]Health{}}
	service := &fsm.Service{Key: web}
	for i := range fsm.MaxVerdicts + 5 {
		key := fmt.Sprint(i)
		service.Servers = append(service.Servers, fsm.Server{Key: key})
		w.Health[Server{web, key}] = Health{up, true, 1}
	}
	w.Table.Services = []*fsm.Service{service}
	if d := Decide(w); len(d.Tell) != 1 || len(d.Tell[0].List) != fsm.MaxVerdicts {
		t.Errorf("%d commands", len(d.Tell))
	}
}

// trial is two directors, their checks, and a log, in virtual time.
type trial struct {
	t      *testing.T
	random *rand.Rand
	now    clock.Time
	state  *fsm.State
	nodes  [2]*director
	truth  []bool       // of each server
	since  []clock.Time // of truth
	known  []bool       // the log has said it since
}

type director struct {
	name    string
	found   map[Server]Health // by the checks
	health  map[Server]Health // as of the last look at that
	checks  []trialCheck      // of each server
	hold    *Hold
	doubted map[Server]clock.Time
	says    map[Server]Say
	open    []fsm.Verdicts // proposed, not committed
	at      clock.Time     // of their commit
}

// trialCheck is a check whose attempts succeed at once, or time out.
type trialCheck struct {
	verdict.State
	failsAt clock.Time // when the attempt that is under way times out; zero: none is
}

const (
	interval = 5 * time.Second
	timeout  = 2 * time.Second
	servers  = 12
	step     = clock.Time(50 * time.Millisecond)
)

var schedule = verdict.Config{Interval: interval, FailedInterval: interval, RetryDelay: time.Second, Retries: 3, Steps: 1}

// seen is how long a check takes to see what has happened.
const seen = interval + 4*timeout + 3*time.Second

func (tr *trial) apply(c fsm.Command) {
	tr.t.Helper()
	if _, err := tr.state.Apply(tr.state.Applied()+1, c); err != nil {
		tr.t.Fatal(err)
	}
}

func serverName(i int) Server { return Server{web, fmt.Sprintf("10.0.0.%d:80", i)} }

func (tr *trial) decide(d *director) {
	w := World{Table: tr.state.Services(), Groups: map[string]string{web: "g"}, Holds: map[string]Hold{}, Health: d.health}
	if d.hold != nil {
		w.Holds["g"] = *d.hold
	}
	decision := Decide(w)
	d.says = decision.Says
	for i := range d.checks {
		if since := decision.Doubt[serverName(i)]; since != d.doubted[serverName(i)] {
			d.checks[i].State, _ = d.checks[i].Step(&schedule, tr.now, verdict.Doubt{})
		}
	}
	d.doubted = decision.Doubt
	if len(d.open) == 0 && len(decision.Tell) > 0 {
		d.open, d.at = decision.Tell, tr.now+step*clock.Time(1+tr.random.IntN(4))
	}
}

// check lets time pass for a check of a server, and returns whether it has found something.
func (tr *trial) check(c *trialCheck, up bool) (found bool) {
	var action verdict.Action
	event := verdict.Event(verdict.Tick{})
	if !c.failsAt.IsZero() {
		if tr.now < c.failsAt {
			return false
		}
		event, c.failsAt = verdict.Done{}, 0
	}
	if c.State, action = c.Step(&schedule, tr.now, event); action == (verdict.Attempt{}) {
		if !up {
			c.failsAt = tr.now.Add(timeout)
			return false
		}
		c.State, action = c.Step(&schedule, tr.now, verdict.Done{Outcome: verdict.Outcome{OK: true}})
	}
	_, found = action.(verdict.Report)
	return found
}

// serves tells whether a director sends traffic to a server. What its checks find is there at once where they count.
func (d *director) serves(name Server) bool {
	if say := d.says[name]; say.Begins {
		return true
	} else if say.Found != nil {
		return say.Found.Up
	}
	return d.found[name].Up
}

// advance plays one step: servers fail and recover, checks run, proposals are committed.
func (tr *trial) advance() {
	tr.now += step
	for i := range tr.truth {
		if tr.random.IntN(400) == 0 {
			tr.truth[i], tr.since[i], tr.known[i] = !tr.truth[i], tr.now, false
		}
	}
	for _, d := range tr.nodes {
		for i := range tr.truth {
			if c := &d.checks[i]; tr.check(c, tr.truth[i]) {
				d.found[serverName(i)] = Health{fsm.Health{Up: c.Up}, true, tr.now}
			}
		}
		if len(d.open) > 0 && tr.now >= d.at {
			for _, v := range d.open {
				tr.apply(fsm.Command{Node: d.name, Verdicts: &v}) // refused if the epoch is over
				for _, verdict := range v.List {
					tr.learn(verdict.Server)
				}
			}
			d.open = nil
		}
	}
	for _, d := range tr.nodes {
		if tr.random.IntN(2) == 0 {
			d.health = maps.Clone(d.found)
		}
		tr.decide(d)
	}
}

// learn takes note that the log says the truth of a server.
func (tr *trial) learn(server string) {
	for i, s := range tr.state.Services().Services[0].Servers {
		if s.Key == server && s.Found != nil && s.Found.Up == tr.truth[i] {
			tr.known[i] = true
		}
	}
}

// Under flaps, a takeover by itself changes no server: what the new owner serves is what the cluster had, until its own
// checks find something new. A server that has not changed for long is never served wrongly, before, at and after takeovers. One that
// the cluster knows to be down is never served, however long the checks of a new owner take to see it.
func TestTakeoversUnderFlaps(t *testing.T) {
	const takeovers = 100
	changes, judged, dead := 0, 0, 0
	for seed := range uint64(4) {
		tr := &trial{t: t, random: rand.New(rand.NewPCG(seed, 7)), now: second, state: fsm.New(), truth: make([]bool, servers),
			since: make([]clock.Time, servers), known: make([]bool, servers)}
		definition := fsm.Definition{Key: web, Text: "x"}
		for i := range servers {
			definition.Servers = append(definition.Servers, fsm.ServerDefinition{Key: serverName(i).Server, Text: "x"})
			tr.truth[i] = true
		}
		for n, name := range []string{"lb1", "lb2"} {
			d := &director{name: name, found: map[Server]Health{}}
			for range servers {
				d.checks = append(d.checks, trialCheck{State: verdict.Begin(&schedule, tr.now.Add(time.Duration(tr.random.Int64N(int64(interval)))), 0)})
			}
			tr.nodes[n] = d
		}
		tr.apply(fsm.Command{Node: "lb1", Seed: &fsm.Seed{Parts: 1, Services: []fsm.Definition{definition}}})
		for takeover := range takeovers / 4 {
			owner := tr.nodes[takeover%2]
			before := tr.state.Services().Services[0]
			tr.nodes[1-takeover%2].hold = nil
			tr.apply(fsm.Command{Grant: &fsm.Grant{Group: "g", Member: fsm.Member(owner.name + "/1"), Epoch: uint64(takeover + 1)}})
			owner.hold = &Hold{Epoch: uint64(takeover + 1), Since: tr.now}
			tr.decide(owner)
			for i, server := range before.Servers {
				if f := server.Found; f != nil && owner.serves(serverName(i)) != f.Up {
					t.Fatalf("seed %d: the takeover by %s changes %s from up %v", seed, owner.name, server.Key, f.Up)
				}
			}
			until := tr.now.Add(time.Duration(1+tr.random.IntN(25)) * time.Second)
			for tr.now < until {
				was := owner.serves(serverName(0))
				tr.advance()
				if owner.serves(serverName(0)) != was {
					changes++
				}
				const settled = clock.Time(seen+interval+timeout) + 10*step // a check that sees it, another one that is in no doubt, and the commit
				list := tr.state.Services().Services[0].Servers
				for _, d := range tr.nodes {
					for i := range tr.truth {
						name, stable := serverName(i), tr.now-tr.since[i]
						right := d.serves(name) == tr.truth[i]
						known := stable > clock.Time(interval) && list[i].Found != nil && list[i].Found.Up == tr.truth[i]
						if known = known || tr.known[i] && !tr.truth[i]; known && !tr.truth[i] {
							dead++
						}
						if !right && (known || min(stable, tr.now-owner.hold.Since) > settled) {
							t.Fatalf("seed %d, %v: %s serves %s: %v, which is up %v since %v; the cluster knows: %v; %s owns since %v", seed,
								time.Duration(tr.now), d.name, name.Server, d.serves(name), tr.truth[i], time.Duration(tr.since[i]), known,
								owner.name, time.Duration(owner.hold.Since))
						}
						judged++
					}
				}
			}
		}
	}
	if changes < 20 || dead < 1000 {
		t.Errorf("the server changed %d times only, %d looks at servers that were known to be down: nothing was tried", changes, dead)
	}
	t.Logf("%d takeovers, %d changes of one of %d servers, %d looks, %d at servers that were known to be down", takeovers, changes, servers, judged,
		dead)
}
