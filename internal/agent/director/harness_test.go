package director

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/vrrp"
)

const (
	D       = time.Second // the lease
	hold    = D - D/100
	myLife  = lease.Life(7)
	others  = lease.Life(8) // of both other members
	self    = lease.Member("a/1")
	standby = lease.Member("b/1")
	leader  = lease.Member("w/1")
)

var voters = lease.Configuration{Index: 1, Voters: []lease.Member{self, standby, leader}}

// bench is one machine with a shell that does everything at once, and the rest of a cluster that agrees to everything.
// What the machine asks for is kept in trace.
type bench struct {
	t     *testing.T
	now   clock.Time
	m     *Machine
	log   *fsm.State
	index uint64
	trace []Action

	cut       bool    // nobody else answers anything
	refuses   bool    // the other voters refuse renewals: they have cleared a newer epoch
	deaf      bool    // the other voters do not answer renewals
	noGrants  bool    // the leader does not answer claims
	nobody    bool    // the leader finds nobody for what is given away
	stuck     bool    // the shell cannot confirm that nothing is visible
	armFails  string  // why the guard cannot be armed
	takeFails string  // why addresses cannot be added
	others    []Other // who answers for addresses
	noLooks   bool    // nobody says who does
}

func router(name string, priority uint8) vrrp.Config {
	return vrrp.Config{Name: name, VRID: 1, Version: vrrp.Version3, Family: vrrp.IPv4, Priority: priority,
		AdvertInterval: time.Second, DownTimerAdverts: 3, Preempt: true, GARP: vrrp.DefaultGARP()}
}

// newBench makes a machine whose groups are named by their instances: "x" is a group of one, "x+y" a sync group.
func newBench(t *testing.T, gated bool, groups ...string) *bench {
	b := &bench{t: t, now: 1_000_000_000_000, log: fsm.New()}
	cfg := Config{Node: self.Node()}
	for _, name := range groups {
		g := Group{Name: name}
		for _, i := range strings.Split(name, "+") {
			g.Instances = append(g.Instances, router(i, 100))
		}
		cfg.Groups = append(cfg.Groups, g)
	}
	if gated {
		cfg.Lease = &lease.Config{Self: self, Life: myLife, Duration: D}
	}
	b.m = New(b.now, cfg, b.log)
	return b
}

// start begins a life in a cluster that stands.
func start(t *testing.T, groups ...string) *bench {
	b := newBench(t, true, groups...)
	b.step(lease.Configured{Committed: voters, Latest: voters})
	b.step(lease.Leads{Member: leader, Term: 1})
	b.step(Start{})
	b.pass(D / 2)
	return b
}

// owner is a machine that holds its only group.
func owner(t *testing.T, group string) *bench {
	b := start(t, group)
	b.pass(4 * time.Second)
	b.mustBe(group, true)
	b.trace = nil
	return b
}

// step gives an event to the machine and carries out what it asks for, with all that follows from that.
func (b *bench) step(ev Event) {
	steps := 0
	for events := []Event{ev}; len(events) > 0; events = events[1:] {
		if steps++; steps > 1000 {
			b.t.Fatalf("one event leads to others without end: %.300s", b.story())
		}
		for _, a := range b.m.Step(b.now, events[0]) {
			b.trace = append(b.trace, a)
			events = append(events, b.execute(a)...)
		}
		for place, g := range b.m.groups {
			if due := g.deadline(); b.m.due[place] != due {
				b.t.Fatalf("after %T a tick is due to %s at %d, not at %d", ev, g.name, due, b.m.due[place])
			}
		}
	}
}

func (b *bench) execute(a Action) []Event {
	switch a := a.(type) {
	case lease.Send:
		return b.answer(a)
	case lease.RaiseCeiling:
		return []Event{lease.CeilingRaised(a)}
	case GuardArm:
		return []Event{GuardDone{Group: a.Group, Epoch: a.Epoch, Failed: b.armFails}}
	case GuardRestore:
		var done []Event
		for _, g := range a.Open {
			done = append(done, GuardDone{Group: g.Group, Epoch: g.Epoch, Failed: b.armFails})
		}
		return done
	case Look:
		if !b.noLooks {
			return []Event{Looked{Group: a.Group, Serial: a.Serial, Others: b.others}}
		}
	case TakeAddresses:
		if b.takeFails != "" {
			return []Event{AddressesFailed{Instance: a.Instance, Reason: b.takeFails}}
		}
	case ConfirmInvisible:
		if !b.stuck {
			return []Event{Invisible(a)}
		}
	}
	return nil
}

func (b *bench) apply(c fsm.Command) {
	b.t.Helper()
	b.index++
	if r, err := b.log.Apply(b.index, c); err != nil || r.Refused != "" {
		b.t.Fatalf("log entry: %+v, %v", r, err)
	}
}

// answer is the rest of the cluster.
func (b *bench) answer(s lease.Send) []Event {
	from := func(m lease.Message) []Event {
		m.FromLife, m.ToLife = others, myLife
		return []Event{lease.Received{From: s.To, Message: m}}
	}
	switch m := s.Message; {
	case b.cut:
	case m.Ping != nil:
		return from(lease.Message{Pong: &lease.Pong{Sent: m.Ping.Sent, Clock: b.now}})
	case m.Renew != nil && !b.deaf:
		reply := lease.RenewReply{Round: m.Renew.Round}
		for _, g := range m.Renew.Groups {
			answer := lease.RenewAnswer{Group: g.Group, Epoch: g.Epoch}
			if b.refuses {
				answer.Refused, answer.VoterEpoch = lease.RefusedEpoch, g.Epoch+1
			}
			reply.Groups = append(reply.Groups, answer)
		}
		return from(lease.Message{RenewReply: &reply})
	case m.Claim != nil && !b.noGrants:
		epoch := b.log.Epoch(m.Claim.Group) + 1
		b.apply(fsm.Command{Grant: &fsm.Grant{Group: m.Claim.Group, Member: self, Epoch: epoch, ClaimID: m.Claim.ID,
			Life: uint64(m.FromLife)}})
		return from(lease.Message{ClaimReply: &lease.ClaimReply{Group: m.Claim.Group, ID: m.Claim.ID, Epoch: lease.Epoch(epoch)}})
	case m.Release != nil:
		b.apply(fsm.Command{Release: &fsm.Release{Group: m.Release.Group, Epoch: uint64(m.Release.Epoch), Member: self,
			Life: uint64(m.Release.Life)}})
		return from(lease.Message{Released: &lease.Released{Group: m.Release.Group, Epoch: m.Release.Epoch}})
	case m.Resign != nil && b.nobody:
		return from(lease.Message{ResignReply: &lease.ResignReply{Group: m.Resign.Group, Epoch: m.Resign.Epoch}})
	}
	return nil
}

// receive gives the machine a message of a member.
func (b *bench) receive(from lease.Member, m lease.Message) {
	m.FromLife, m.ToLife = others, myLife
	b.step(lease.Received{From: from, Message: m})
}

// pass lets time pass; the machine is woken at its deadlines.
func (b *bench) pass(d time.Duration) {
	b.t.Helper()
	end := b.now.Add(d)
	for steps := 0; ; steps++ {
		if steps > 10_000 {
			b.t.Fatalf("the machine never rests: deadline %d, now %d", b.m.Deadline(), b.now)
		}
		at := b.m.Deadline()
		if at.IsZero() || at > end {
			b.now = end
			return
		}
		b.now = max(b.now, at)
		b.step(Tick{})
	}
}

func (b *bench) mustBe(group string, held bool) {
	b.t.Helper()
	for _, i := range b.m.byName[group].instances {
		if active := i.state.Status == vrrp.Active; active != held {
			b.t.Fatalf("%s is %v, want Active: %v", i.cfg.Name, i.state.Status, held)
		}
	}
	if v, _ := b.m.Group(group); v.Held != held {
		b.t.Fatalf("%s: held is %v, want %v", group, v.Held, held)
	}
}

// short names the actions whose order matters; the others are empty.
func short(a Action) string {
	switch a := a.(type) {
	case GuardArm:
		if !a.First {
			return ""
		}
		return "arm " + a.Group
	case GuardShut:
		return "shut " + a.Group
	case TakeAddresses:
		return "take " + a.Instance
	case DropAddresses:
		return "drop " + a.Instance
	case SendAdvert:
		if a.Priority == 0 {
			return "resign " + a.Instance
		}
		return "advert " + a.Instance
	case Announce:
		return "announce " + a.Instance
	case Transition:
		return fmt.Sprintf("%v %s", a.To, a.Instance)
	case ConfirmInvisible:
		return "confirm " + a.Group
	case Stopped:
		return "stopped"
	case lease.Send:
		switch m := a.Message; {
		case m.Waive != nil:
			return "waive " + m.Waive.Group
		case m.Release != nil:
			return "release " + m.Release.Group
		case m.Claim != nil:
			return "claim " + m.Claim.Group
		case m.Resign != nil:
			return "give " + m.Resign.Group
		case m.RenewReply != nil:
			return "acknowledge"
		}
	}
	return ""
}

// story is the trace in short, each action once in a row.
func (b *bench) story() string {
	var all []string
	for _, a := range b.trace {
		if s := short(a); s != "" && (len(all) == 0 || all[len(all)-1] != s) {
			all = append(all, s)
		}
	}
	return strings.Join(all, ", ")
}

func (b *bench) mustTell(want string) {
	b.t.Helper()
	if got := b.story(); got != want {
		b.t.Fatalf("story:\n got  %s\n want %s", got, want)
	}
}

// mustNot fails if an action of that name was asked for.
func (b *bench) mustNot(names ...string) {
	b.t.Helper()
	for _, a := range b.trace {
		for _, name := range names {
			if short(a) == name {
				b.t.Fatalf("%q was asked for: %s", name, b.story())
			}
		}
	}
}

// journal counts the entries of a kind.
func (b *bench) journal(kind string) int {
	n := 0
	for _, a := range b.trace {
		if j, ok := a.(Journal); ok && j.Kind == kind {
			n++
		}
	}
	return n
}

// renewals counts the voters that were asked to acknowledge a lease.
func (b *bench) renewals() int {
	n := 0
	for _, a := range b.trace {
		if s, ok := a.(lease.Send); ok && s.Message.Renew != nil {
			n++
		}
	}
	return n
}

func (b *bench) advert(instance string, priority uint8) {
	b.step(Advert{Instance: instance, From: netip.MustParseAddr("10.0.0.2"), Priority: priority, Interval: time.Second})
}
