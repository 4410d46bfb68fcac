//go:build integ

package observer

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab"
)

// lan is a switch with two hosts, a and b, that may own the addresses, and an observer.
func lan(t *testing.T) (l *lab.Lab, a, b *lab.Host, o *Observer) {
	t.Helper()
	l, err := lab.New(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	add := func(name, addr4, addr6 string) *lab.Host {
		h, err := l.AddHost(name, netip.MustParsePrefix(addr4), netip.MustParsePrefix(addr6))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	a = add("a", "10.77.0.1/24", "fd00:77::1/64")
	b = add("b", "10.77.0.2/24", "fd00:77::2/64")
	client := add("client", "10.77.0.200/24", "fd00:77::200/64")
	o, err = Start(t.Context(), client, Config{
		VIPs:     []netip.Addr{vip4, vip6},
		Sources4: Sources(netip.MustParseAddr("10.77.0.200"), 16),
		Sources6: Sources(netip.MustParseAddr("fd00:77::200"), 16),
		Stations: []*lab.Host{a, b},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Stop)
	return l, a, b, o
}

func set(t *testing.T, h *lab.Host, vip netip.Addr) {
	t.Helper()
	if err := h.AddAddr(netip.PrefixFrom(vip, vip.BitLen())); err != nil {
		t.Fatal(err)
	}
}

func unset(t *testing.T, h *lab.Host, vip netip.Addr) {
	t.Helper()
	if err := h.RemoveAddr(netip.PrefixFrom(vip, vip.BitLen())); err != nil {
		t.Fatal(err)
	}
}

// judged runs act and judges the time of it and of a rest before and after. A void run is repeated.
func judged(t *testing.T, o *Observer, prepare, act func()) Verdict {
	t.Helper()
	const attempts = 30
	for range attempts {
		prepare()
		time.Sleep(100 * time.Millisecond)
		from := Now()
		time.Sleep(200 * time.Millisecond)
		act()
		time.Sleep(200 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		v, err := o.Judge(ctx, from, Now())
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		t.Log(v.String())
		if v.Void == "" {
			return v
		}
	}
	t.Fatalf("the observer could not stay awake in any of %d runs: this machine is too busy to judge anything", attempts)
	panic("unreachable")
}

func owners(v *Verdict, vip netip.Addr) []string {
	var names []string
	for _, station := range v.VIP(vip).Owners() {
		names = append(names, v.Name(station))
	}
	return names
}

func TestOneOwnerIsSeenWithoutInterruption(t *testing.T) {
	_, a, _, o := lan(t)
	set(t, a, vip4)
	set(t, a, vip6)
	v := judged(t, o, func() {}, func() {})
	for _, vip := range []netip.Addr{vip4, vip6} {
		if got := owners(&v, vip); !slices.Equal(got, []string{"a"}) {
			t.Errorf("owners of %s = %v, want a", vip, got)
		}
		if w := v.VIP(vip); w.DualFor != 0 || w.Lost() != 0 {
			t.Errorf("%s: two owners for %s, %d requests lost, want none", vip, w.DualFor, w.Lost())
		}
	}
}

func TestTwoOwnersAreReported(t *testing.T) {
	_, a, b, o := lan(t)
	set(t, a, vip4)
	set(t, a, vip6)
	for _, vip := range []netip.Addr{vip4, vip6} {
		t.Run(vip.String(), func(t *testing.T) {
			var before, after time.Time
			v := judged(t, o, func() {}, func() {
				before = time.Now()
				set(t, b, vip)
				time.Sleep(50 * time.Millisecond)
				unset(t, b, vip)
				after = time.Now()
			})
			// On a busy machine answers come late.
			if got, most := v.VIP(vip).DualFor, after.Sub(before)+2*time.Millisecond; got < 30*time.Millisecond || got > most {
				t.Errorf("two owners for %s, want about 50 ms, and at most %s", got, most)
			}
			if v.DualFor() != v.VIP(vip).DualFor {
				t.Errorf("the other address has two owners for %s", v.DualFor())
			}
		})
	}
}

func TestTheShortestTimeWithTwoOwnersIsReported(t *testing.T) {
	_, a, b, o := lan(t)
	set(t, a, vip4)
	for range 5 {
		v := judged(t, o, func() {}, func() {
			set(t, b, vip4)
			time.Sleep(2 * time.Millisecond)
			unset(t, b, vip4)
		})
		if v.DualFor() == 0 {
			t.Error("two owners for 2 ms were not seen")
		}
	}
}

func TestNobodyIsReported(t *testing.T) {
	_, _, _, o := lan(t)
	v := judged(t, o, func() {}, func() {})
	for _, vip := range []netip.Addr{vip4, vip6} {
		w := v.VIP(vip)
		if len(w.Spans) != 0 || w.Resolve.Answered != 0 || w.Echo.Answered != 0 {
			t.Errorf("%s: spans %v, %d and %d answers, want none", vip, w.Spans, w.Resolve.Answered, w.Echo.Answered)
		}
		if whole := v.To.Sub(v.From); w.Interruption() < whole*9/10 {
			t.Errorf("%s: out %s of %s", vip, w.Interruption(), whole)
		}
	}
}

func TestAHandoverIsMeasured(t *testing.T) {
	_, a, b, o := lan(t)
	set(t, a, vip4)
	v := judged(t, o, func() {
		if has, _ := b.HasAddr(vip4); has {
			unset(t, b, vip4)
			set(t, a, vip4)
		}
	}, func() {
		unset(t, a, vip4)
		time.Sleep(30 * time.Millisecond)
		set(t, b, vip4)
	})
	if got := owners(&v, vip4); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("owners = %v, want a, then b", got)
	}
	if v.DualFor() != 0 {
		t.Errorf("two owners for %s", v.DualFor())
	}
	if got := v.VIP(vip4).Interruption(); got < 29*time.Millisecond || got > 60*time.Millisecond {
		t.Errorf("interruption %s, want about 30 ms", got)
	}
}

func TestAStationThatOnlyAcceptsPacketsIsAnOwnerToo(t *testing.T) {
	l, a, b, o := lan(t)
	set(t, a, vip4)
	set(t, b, vip4)
	// b answers no ARP, as far as the LAN can see, but still takes the packets that clients with an old neighbour entry send.
	if _, err := l.Drop("b is silent", lab.Filter{From: b, EtherType: 0x0806}); err != nil {
		t.Fatal(err)
	}
	v := judged(t, o, func() {}, func() {})
	if v.DualFor() < 300*time.Millisecond {
		t.Errorf("two owners for %s, want all the time: b answers pings", v.DualFor())
	}
}

func TestAPortCutIsSeenAndHealed(t *testing.T) {
	l, a, _, o := lan(t)
	set(t, a, vip4)
	for name, cut := range map[string]func() (*lab.Fault, error){
		"port":     func() (*lab.Fault, error) { return l.CutPort(a) },
		"carrier":  func() (*lab.Fault, error) { return l.LinkDown(a) },
		"one way":  func() (*lab.Fault, error) { return l.DropOneWay(a, nil) },
		"other":    func() (*lab.Fault, error) { return l.DropOneWay(nil, a) },
		"pair":     func() (*lab.Fault, error) { return l.DropPair(a, l.Host("client")) },
		"ARP, all": func() (*lab.Fault, error) { return l.Drop("no ARP", lab.Filter{EtherType: 0x0806}) },
	} {
		t.Run(name, func(t *testing.T) {
			v := judged(t, o, func() {}, func() {
				fault, err := cut()
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(100 * time.Millisecond)
				if err := fault.Heal(); err != nil {
					t.Fatal(err)
				}
			})
			if got := v.VIP(vip4).Resolve.LongestOut(); got < 95*time.Millisecond || got > 200*time.Millisecond {
				t.Errorf("out for %s, want about 100 ms", got)
			}
		})
	}
}

func TestLossIsRandomAndPartial(t *testing.T) {
	l, a, _, o := lan(t)
	set(t, a, vip4)
	if _, err := l.Lose(20, a, nil); err != nil {
		t.Fatal(err)
	}
	v := judged(t, o, func() {}, func() { time.Sleep(time.Second) })
	reach := v.VIP(vip4).Resolve
	lost := float64(reach.Asked-reach.Answered) / float64(reach.Asked)
	if lost < 0.25 || lost > 0.47 { // 1 - 0.8 * 0.8: request and answer
		t.Errorf("%.0f%% of the requests lost, want about 36%%", 100*lost)
	}
}

func TestTheObserverEndsWithItsHost(t *testing.T) {
	l, _, _, o := lan(t)
	if err := l.Host("client").Destroy(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := o.Judge(ctx, Now(), Now().Add(time.Hour)); err == nil || ctx.Err() != nil {
		t.Errorf("Judge = %v, want the end of the observer", err)
	}
}
