package sim

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fencing"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/vrrp"
)

// shape is what a run's cluster and its surroundings look like, drawn from the seed.
type shape struct {
	voters    int
	directors int // the first machines; the others are witnesses
	groups    []group

	profile  string        // of the faults
	interval time.Duration // Advertisement_Interval
	lease    time.Duration // D
	election time.Duration // Raft's election timeout: T to 2T

	lifetimes    bool // the guard is the addresses' lifetimes, not nftables
	staleLeaders bool // a leader that hears nobody goes on leading
	onTheWire    bool // lease messages are encoded and decoded
	entriesKept  int  // log entries between snapshots

	places    fencing.PlaceConfig // where groups are to be
	fencing   fencingMode
	fenceFail int // per million fences that do not do it, or do and cannot tell

	// Background noise, per million.
	loss, late, doubled int // of messages
	hesitation          int // between two actions of a shell
	lateTimers          int
	applyLate           int // committed entries that are applied late
	notes               int // journal entries that go into the log
}

// fencingMode is what a takeover from a director that is lost waits for.
type fencingMode int

const (
	noFencing fencingMode = iota
	preferred
	required
)

func (f fencingMode) String() string {
	return [...]string{"", ", fencing preferred", ", fencing required"}[f]
}

// group is an ownership group with its instances as each director has them.
type group struct {
	name      string
	instances []string
	configs   map[int][]vrrp.Config // by machine
}

// sharpest is the largest difference of a lease clock's rate from one, either way: two of them differ by less than 1%.
const sharpest perMillion = 4_975

// newShape draws a cluster.
func newShape(cfg Config, r *random) shape {
	s := shape{
		voters:       pick(r, 3, 3, 3, 3, 5),
		interval:     pick(r, 200*time.Millisecond, time.Second, time.Second, time.Second, time.Second),
		staleLeaders: r.chance(300_000), onTheWire: r.chance(100_000), entriesKept: pick(r, 4, 50, 200, 1000),
		loss:       pick(r, 0, 0, 1_000, 20_000),
		late:       pick(r, 0, 1_000, 1_000, 20_000),
		doubled:    pick(r, 0, 1_000, 20_000),
		hesitation: pick(r, 0, 0, 1_000, 10_000),
		lateTimers: pick(r, 0, 1_000, 10_000),
		applyLate:  pick(r, 0, 0, 200_000),
		notes:      pick(r, 0, 100_000),
	}
	count := pick(r, 1, 1, 1, 2, 3)
	if cfg.Voters > 0 {
		s.voters = cfg.Voters
	}
	if cfg.Groups > 0 {
		count = cfg.Groups
	}
	s.directors = pick(r, s.voters-1, s.voters-1, s.voters, max(2, s.voters-2))
	if cfg.Arbitrate {
		s.voters, s.directors = 2, 2
	}
	s.lease = max(s.interval*5/2, 300*time.Millisecond)
	s.election = pick(r, 150*time.Millisecond, min(max(s.lease*2/5, 150*time.Millisecond), time.Second))
	s.profile = pick(r, Anything, Anything, Anything, Storm, OneWay, Guards, Leaving, Members, Files)
	if cfg.Profile != "" {
		s.profile = cfg.Profile
	}
	if s.profile == Fences { // leases that outlast the time after which VRRP wants another owner
		s.interval = 200 * time.Millisecond
		s.lease = s.interval * pick(r, time.Duration(5), 8, 12)
	}
	s.lifetimes = s.lease >= 2*time.Second && cfg.Broken == (Broken{}) && r.chance(150_000)
	if s.profile == Files {
		count = max(count, 2)
	}
	if late := profileOf(s.profile, s).late; late > 0 {
		s.late = late
	}
	vrid := uint8(0)
	for g := range count {
		made := group{name: fmt.Sprintf("G%d", g+1), configs: map[int][]vrrp.Config{}}
		preempt := r.chance(500_000)
		delay := pick(r, 0, 0, 3*s.interval)
		version := pick(r, vrrp.Version3, vrrp.Version3, vrrp.Version2)
		if s.interval%time.Second != 0 {
			version = vrrp.Version3
		}
		members := pick(r, 1, 1, 2)
		first := r.below(s.directors)
		for i := range members {
			vrid++
			name := fmt.Sprintf("VI_%d%c", g+1, 'a'+i)
			made.instances = append(made.instances, name)
			for m := range s.directors {
				made.configs[m] = append(made.configs[m], vrrp.Config{
					Name: name, VRID: vrid, Version: version, Family: vrrp.IPv4, AdvertInterval: s.interval,
					Priority:         uint8(100 + 10*((m+first)%s.directors)),
					DownTimerAdverts: 3, Preempt: preempt, PreemptDelay: delay, GARP: vrrp.DefaultGARP(), Gated: true,
					Local: addressOf(m),
				})
			}
		}
		s.groups = append(s.groups, made)
	}
	s.fencing, s.fenceFail = pick(r, noFencing, noFencing, preferred, required), pick(r, 0, 200_000, 500_000)
	if s.profile == Fences && s.fencing == noFencing {
		s.fencing = preferred
	}
	if cfg.Arbitrate || s.profile == Forced {
		s.fencing = noFencing
	}
	if cfg.Broken == (Broken{}) && cfg.Lease == (lease.Broken{}) && cfg.Director == (director.Broken{}) {
		s.places = newPlaces(cfg.Seed, s)
	}
	return s
}

// newPlaces draws rules for places, which half of the clusters have.
func newPlaces(seed uint64, s shape) fencing.PlaceConfig {
	r := newRandom(seed, 8)
	var c fencing.PlaceConfig
	if r.chance(500_000) {
		return c
	}
	c.MaxGroups, c.Rules = pick(&r, 0, 0, 1, 2), map[string]fencing.PlaceRules{}
	for _, g := range s.groups {
		if r.chance(300_000) {
			continue
		}
		var rules fencing.PlaceRules
		for m := range s.directors {
			if r.chance(500_000) {
				rules.Prefer = append(rules.Prefer, directorName((m+len(g.name))%s.directors))
			}
		}
		if other := s.groups[r.below(len(s.groups))].name; other != g.name {
			rules.ApartFrom = []string{other}
		}
		from := firstMinute + r.below(5)
		rules.Failback = pick(&r, fencing.Failback{}, fencing.Failback{After: r.span(0, 20*time.Second)}, fencing.Failback{Never: true},
			fencing.Failback{Window: true, From: from, Until: from + 1})
		c.Rules[g.name] = rules
	}
	return c
}

// directorName is the name of a machine that is a director.
func directorName(machine int) string { return fmt.Sprintf("lb%d", machine+1) }

// Where wall clocks begin, and the minute of the day that it is then.
const (
	firstWall   = 1_790_000_000e9
	firstMinute = firstWall / int(time.Minute) % (24 * 60)
)

// slack is how much longer voters promise because the guard may be late.
func (w *world) slack() time.Duration {
	if w.shape.lifetimes {
		return lifetimeLateness
	}
	return 0
}

func addressOf(machine int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(machine + 1)}) }

// newMachine makes the machine with that index, switched on and without a process.
func (w *world) newMachine(index int) *machine {
	r := newRandom(w.cfg.Seed, 2, uint64(index))
	m := &machine{world: w, index: index, address: addressOf(index), witness: index >= w.shape.directors,
		kernel: newKernel(), random: r, causes: map[string]int{}}
	m.name = directorName(index)
	if m.witness {
		m.name = fmt.Sprintf("w%d", index-w.shape.directors+1)
	}
	m.clocks = clocks{
		lease: clock.Time(m.random.span(time.Second, 1000*time.Hour)), kernel: m.random.span(time.Second, time.Hour),
		wall: firstWall + int64(m.random.span(0, time.Minute)), rate: m.anyRate(),
	}
	m.disk.member = w.newMember(m)
	return m
}

// anyRate draws the rate of a lease clock. The extremes are where the protocol has no reserve.
func (m *machine) anyRate() perMillion {
	return pick(&m.random, 0, sharpest, -sharpest, perMillion(m.random.below(2*int(sharpest)))-sharpest)
}

// newMember makes the id of a new data directory.
func (w *world) newMember(m *machine) fsm.Member {
	id := memberID(m.name, len(w.roster)+1)
	w.roster = append(w.roster, id)
	w.byMember[id] = m
	return id
}

// String describes the cluster in one line.
func (s shape) String() string {
	text := fmt.Sprintf("%s: %d voters, %d directors, D %v, T %v", s.profile, s.voters, s.directors, s.lease, s.election)
	if s.lifetimes {
		text += ", guard lifetime"
	}
	text += s.fencing.String()
	if s.places.On() {
		text += fmt.Sprintf(", places %+v", s.places)
	}
	for _, g := range s.groups {
		text += "; " + g.name
		for m := range s.directors {
			c := g.configs[m][0]
			text += fmt.Sprintf(" %d", c.Priority)
			if m == 0 && !c.Preempt {
				text += " nopreempt"
			}
		}
	}
	return text
}
