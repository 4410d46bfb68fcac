package lvs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
)

// clone copies a table.
func clone(t Table) Table {
	c := maps.Clone(t)
	for k, e := range c {
		e.Destinations = maps.Clone(e.Destinations)
		c[k] = e
	}
	return c
}

// randomTable has some of a few services, each with some of a few destinations.
func randomTable(r *rand.Rand) Table {
	t := Table{}
	for i := range 4 {
		if r.IntN(2) == 0 {
			continue
		}
		e := Entry{Service: Service{Scheduler: []string{"rr", "wlc"}[r.IntN(2)]}, Destinations: map[DestinationKey]Destination{}}
		for n := range 4 {
			if r.IntN(2) == 0 {
				e.Destinations[netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 80)] = Destination{Weight: uint32(r.IntN(3))}
			}
		}
		t[ServiceKey{Family: IPv4, Mark: uint32(i + 1)}] = e
	}
	return t
}

// carryOut applies a plan, and checks what is to hold at each step.
func carryOut(t *testing.T, have Table, plan []Change) Table {
	t.Helper()
	state := clone(have)
	for _, c := range plan {
		before := state[c.Key]
		switch _, exists := state[c.Key]; {
		case exists == (c.Operation == AddService):
			t.Fatalf("%v: the service exists: %v", c, exists)
		case c.Operation == AddDestination || c.Operation == EditDestination || c.Operation == DeleteDestination:
			if _, there := before.Destinations[c.Server]; there == (c.Operation == AddDestination) {
				t.Fatalf("%v: the server is there: %v", c, there)
			}
		}
		state.Apply(c)
	}
	return state
}

func TestPlanLeadsThere(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		have, want := randomTable(r), randomTable(r)
		foreign := ServiceKey{Family: IPv4, Mark: uint32(r.IntN(4) + 1)}
		plan := Plan(have, want, func(k ServiceKey) bool { return k != foreign })
		expected := clone(want)
		if _, wanted := want[foreign]; !wanted {
			if e, exists := have[foreign]; exists {
				expected[foreign] = e
			}
		}
		got := clone(have)
		for i, c := range plan {
			got = carryOut(t, got, plan[i:i+1])
			h, w := have[c.Key].Destinations, want[c.Key].Destinations
			if _, stays := got[c.Key]; stays && len(h) > 0 && len(w) > 0 && len(got[c.Key].Destinations) == 0 {
				t.Fatalf("seed %d: after %v the service has no server", seed, c)
			}
		}
		if !reflect.DeepEqual(got, expected) {
			t.Fatalf("seed %d: %v leads from %v to %v, want %v", seed, plan, have, got, expected)
		}
		if again := Plan(got, want, func(k ServiceKey) bool { return k != foreign }); len(again) != 0 {
			t.Fatalf("seed %d: there is more to do: %v", seed, again)
		}
	}
}

func TestPlanIsAsLongAsTheDifference(t *testing.T) {
	table := Table{}
	for i := range 1000 {
		e := Entry{Destinations: map[DestinationKey]Destination{}}
		for n := range 10 {
			e.Destinations[netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 80)] = Destination{Weight: 1}
		}
		table[ServiceKey{Family: IPv4, Mark: uint32(i + 1)}] = e
	}
	want := clone(table)
	changed := ServiceKey{Family: IPv4, Mark: 500}
	delete(want[changed].Destinations, netip.MustParseAddrPort("10.0.0.3:80"))
	plan := Plan(table, want, func(ServiceKey) bool { return true })
	if got := fmt.Sprint(plan); got != "[delete server 10.0.0.3:80 of mark 500 IPv4]" {
		t.Error(got)
	}
}

// FuzzPool plays configurations and verdicts: what changes is what the pool says has changed, the kernel gets there by the plan
// of those services alone, and what belongs to others stays.
func FuzzPool(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint16(60))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		r := rand.New(rand.NewPCG(seed, 2))
		p := NewPool()
		kernel := randomTable(r)
		stranger := ServiceKey{Family: IPv4, Mark: 99}
		kernel[stranger] = Entry{Service: Service{Scheduler: "lc"}, Destinations: map[DestinationKey]Destination{one: {Weight: 9}}}
		var virtuals []VirtualServer
		foreign := clone(kernel)
		for range min(steps, 200) {
			var out Outcome
			if len(virtuals) == 0 || r.IntN(8) == 0 {
				virtuals = randomVirtuals(r)
				out = p.Configure(virtuals, r.IntN(2) == 0)
			} else {
				v := virtuals[r.IntN(len(virtuals))]
				s := v.Servers[r.IntN(len(v.Servers))]
				if verdict := (Verdict{Up: r.IntN(2) == 0, Adds: int64(r.IntN(5) - 2)}); r.IntN(5) == 0 {
					out = p.Override(v.Name, s.Address, Override{Drain: r.IntN(2) == 0, Found: &verdict})
				} else {
					out = p.Found(v.Name, s.Address, s.Checks[r.IntN(len(s.Checks))].ID, verdict)
				}
			}
			for _, k := range out.Services {
				delete(foreign, k)
				kernel = carryOut(t, kernel, PlanService(nil, k, kernel, p.Want()))
			}
			expected := clone(foreign)
			maps.Copy(expected, p.Want())
			if !reflect.DeepEqual(kernel, expected) {
				t.Fatalf("the kernel has %v, want %v", kernel, expected)
			}
			for _, v := range p.order {
				for _, k := range v.Keys {
					if fresh := v.entry(k); !reflect.DeepEqual(fresh, p.Want()[k]) {
						t.Fatalf("%v is %v, want %v", k, p.Want()[k], fresh)
					}
				}
				if sum := v.total(); v.quorate && sum < v.Quorum-v.Hysteresis || !v.quorate && sum >= v.Quorum+v.Hysteresis {
					t.Fatalf("%s with %d of %d±%d has a quorum: %v", v.Name, sum, v.Quorum, v.Hysteresis, v.quorate)
				}
			}
		}
	})
}

func randomVirtuals(r *rand.Rand) (all []VirtualServer) {
	for i := range 1 + r.IntN(3) {
		v := VirtualServer{Name: fmt.Sprint(r.IntN(4)), Service: Service{Scheduler: "rr"}, Quorum: int64(1 + r.IntN(4)), Omega: r.IntN(2) == 0}
		v.Hysteresis = int64(r.IntN(int(v.Quorum)))
		for n := range 1 + r.IntN(2) {
			v.Keys = append(v.Keys, ServiceKey{Family: IPv4, Mark: uint32(i*2 + n + 1)})
		}
		if r.IntN(2) == 0 {
			v.Sorry = &SorryServer{Address: busy, Inhibit: r.IntN(2) == 0}
		}
		for n := range 1 + r.IntN(3) {
			s := RealServer{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 80), Weight: int64(r.IntN(4)),
				Inhibit: r.IntN(2) == 0}
			for c := range 1 + r.IntN(2) {
				s.Checks = append(s.Checks, Check{ID: fmt.Sprint(c), Alpha: r.IntN(3) == 0})
			}
			v.Servers = append(v.Servers, s)
		}
		all = append(all, v)
	}
	return all
}
