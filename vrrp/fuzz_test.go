package vrrp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hactl/had/internal/clock"
)

// FuzzStep drives one machine by a string of bytes and checks after every step what must always hold: State.Check, a
// deadline in every running State that is not waiting for a grant, a deadline that moves on when it is served, actions
// that agree with the change of State, no Active without a grant when gated, and that equal inputs give equal outputs.
func FuzzStep(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 2, 2, 3, 150, 2, 2})
	f.Add([]byte{0x80, 0, 0, 2, 2, 7, 0, 8, 0, 2})
	f.Add([]byte{0x1f, 255, 0, 2, 3, 255, 2, 2, 3, 255, 2, 2})
	f.Add([]byte{0xff, 100, 11, 0, 0, 2, 2, 7, 5, 6, 1, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) < 2 {
			return
		}
		cfg := fuzzConfig(script[0], script[1])
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		script = script[:min(len(script), 1000)]
		var s State
		now := clock.Time(1)
		for script = script[2:]; len(script) >= 2; script = script[2:] {
			before := s
			ev, advance := fuzzEvent(script[0], script[1])
			if advance {
				if s.Deadline() == 0 {
					now = now.Add(time.Duration(script[1]) * 10 * time.Millisecond)
				} else {
					now = max(now, s.Deadline())
				}
			}
			var actions []Action
			s, actions = before.Step(&cfg, now, ev)
			again, actionsAgain := before.Step(&cfg, now, ev)
			if s != again || len(actions) != len(actionsAgain) {
				t.Fatalf("%v in %+v: two results", ev, before)
			}
			if err := s.Check(&cfg); err != nil {
				t.Fatalf("%v in %+v: %v", ev, before, err)
			}
			checkDeadline(t, before, s, ev, now)
			checkActions(t, &cfg, before, s, ev, actions)
		}
	})
}

func checkDeadline(t *testing.T, before, after State, ev Event, now clock.Time) {
	t.Helper()
	deadline := after.Deadline()
	switch after.Status {
	case Initialize, Fault:
		if deadline != 0 {
			t.Fatalf("%v in %+v: a deadline in %v", ev, before, after.Status)
		}
	default:
		waiting := after.Claiming && after.Claim == MasterDown
		if waiting != (deadline == 0) {
			t.Fatalf("%v in %+v: deadline %v in %+v", ev, before, deadline, after)
		}
	}
	if _, tick := ev.(Tick); tick && deadline != 0 && deadline <= now {
		t.Fatalf("tick at %v in %+v leaves the deadline %v in the past", now, before, deadline)
	}
}

// checkActions derives the change of State from the actions and compares it with the State.
func checkActions(t *testing.T, cfg *Config, before, after State, ev Event, actions []Action) {
	t.Helper()
	fail := func(what string) {
		t.Fatalf("%v in %+v: %s\nactions %v\nafter %+v", ev, before, what, lines(actions), after)
	}
	active, claiming, transitions := before.Status == Active, before.Claiming, 0
	for i, action := range actions {
		switch action := action.(type) {
		case SendAdvert:
			switch {
			case action.Priority != 0 && !active && after.Status != Active:
				fail("a live advertisement from a router that is not active")
			case action.Priority == 0 && cfg.Gated == active:
				fail("priority 0 at the wrong side of leaving")
			}
		case BecomeActive:
			if _, granted := ev.(Granted); cfg.Gated && !granted {
				fail("active without a grant")
			}
			if active || i == 0 || actions[i-1] != (SendAdvert{Priority: after.Priority}) {
				fail("becoming active out of order")
			}
			active = true
		case LeaveActive:
			if !active || action.To != after.Status {
				fail("leaving active out of order")
			}
			active = false
		case Announce:
			if !active || action.Repeat < 1 {
				fail("an announcement by a router that is not active")
			}
		case LowerHeard:
			if !active {
				fail("a lower rank heard by a router that is not active")
			}
		case Claim:
			if !cfg.Gated || action.Kind != after.Claim {
				fail("a wrong claim")
			}
			claiming = true
		case Unclaim:
			if !claiming || i != 0 {
				fail("a claim withdrawn out of order")
			}
			claiming = false
		case Wished:
			if !after.Wish {
				fail("a wish that is not in the state")
			}
		case Transition:
			transitions++
			if i != len(actions)-1 || action.To != after.Status || action.Reason == "" && action.To != Fault {
				fail("a wrong transition")
			}
		case Ignored:
			if before.Status != after.Status || action.Reason == "" {
				fail("an ignored event with an effect")
			}
		}
	}
	if _, granted := ev.(Granted); granted {
		claiming = false
	}
	if active != (after.Status == Active) || claiming != after.Claiming {
		fail("actions that do not lead to the state")
	}
	if changed := before.Status != after.Status; changed && transitions != 1 || !changed && transitions > 1 {
		fail("not one transition for one change")
	}
}

func fuzzConfig(bits, priority byte) Config {
	flag := func(n int) bool { return bits>>n&1 != 0 }
	cfg := Config{
		Name: "VI_1", VRID: 1, Version: Version2, Family: IPv4, Priority: max(1, priority), AdvertInterval: time.Second,
		DownTimerAdverts: 3, Preempt: flag(1), InitialActive: flag(2), GARP: DefaultGARP(), Local: ours,
		HigherPrioSendAdvert: flag(4), LowerPrioNoAdvert: flag(5), Gated: flag(7),
	}
	if flag(0) {
		cfg.Version = Version3
	}
	if flag(3) {
		cfg.PreemptDelay = 5 * time.Second
	}
	if flag(6) {
		cfg.TimerExpiredBackup, cfg.GARP.MasterRefresh, cfg.ExtraAnnounce = 254, 3*time.Second, 2*time.Second
	}
	return cfg
}

func fuzzEvent(kind, arg byte) (ev Event, advance bool) {
	addrs := [4]netip.Addr{lower, ours, higher, {}}
	switch kind % 16 {
	case 0:
		return Start{Delay: time.Duration(arg>>6) * time.Second}, false
	case 1:
		return Stop{}, false
	case 2:
		return Tick{}, true
	case 3, 4:
		return Received{From: addrs[kind>>4&3], Priority: arg, Interval: time.Duration(kind>>6) * time.Second}, false
	case 5:
		return Faulted{Reason: "fault", Silent: arg&1 != 0, Peer: arg&2 != 0}, false
	case 6:
		return Recovered{}, false
	case 7:
		return Granted{}, false
	case 8:
		return Yield{Reason: "yield", ShortenPeers: arg&1 != 0}, false
	case 9:
		return Reannounce{}, false
	case 10:
		return Defend{}, false
	case 11:
		return Hold{}, false
	case 12:
		return Unhold{}, false
	case 13:
		return Disturbed{Reason: "disturbed"}, false
	case 14:
		return SetPriority{Priority: arg}, false
	}
	return Received{From: addrs[kind>>4&3], Priority: arg, Interval: time.Second}, true
}
