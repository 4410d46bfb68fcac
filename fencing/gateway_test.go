package fencing

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hactl/had/internal/clock"
)

// prober is one director's probes of one gateway.
type prober struct {
	rules   GatewayRules
	timeout time.Duration
	g       *Gateways
	next    clock.Time // when it probes
	spread  time.Duration
	said    []saying // what it has said, oldest first
}

type saying struct {
	at    clock.Time // when it is known everywhere
	sight Sight
}

// heard is what the others know of it.
func (p *prober) heard(now clock.Time) Sight {
	known := Recovers
	for _, s := range p.said {
		if s.at <= now {
			known = s.sight
		}
	}
	return known
}

func (p *prober) result(now clock.Time, answered bool) {
	before := p.g.Sight()
	p.g.Result(now, 0, now, answered)
	if s := p.g.Sight(); s != before || len(p.said) == 0 {
		if p.said = append(p.said, saying{now.Add(p.spread), s}); len(p.said) > 8 {
			p.said = p.said[1:]
		}
	}
}

// TestAGatewayThatIsDownForEverybodyIsNobodysFault lets a gateway come and go for all directors alike, in any rhythm but one so
// fast that single probes decide, and their words travel as slowly as they may: none of them is ever Blind while it knows of
// another that Sees.
func TestAGatewayThatIsDownForEverybodyIsNobodysFault(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		rules := GatewayRules{Interval: time.Duration(100+rnd.IntN(3000)) * time.Millisecond, Fall: 1 + rnd.IntN(4), Rise: 1 + rnd.IntN(4)}
		timeout := time.Duration(rnd.Int64N(int64(rules.Interval)))
		var all []*prober
		for range 3 {
			all = append(all, &prober{rules: rules, timeout: timeout, g: NewGateways([]GatewayRules{rules}, 1),
				next: clock.Time(1 + rnd.Int64N(int64(rules.Interval))), spread: SightSpread - time.Millisecond})
		}
		type lost struct {
			at clock.Time
			p  *prober
		}
		var waiting []lost
		up, turn, blind := true, clock.Time(1), 0
		for now := clock.Time(1); now < clock.Time(20*time.Minute); now += clock.Time(10 * time.Millisecond) {
			if now >= turn {
				up = !up
				turn = now.Add(time.Duration(rnd.Int64N(int64(rules.Interval) * int64(1+rnd.IntN(20)))))
				if up { // long enough for everybody to notice
					turn = turn.Add(rules.Interval + 20*time.Millisecond)
				}
			}
			for len(waiting) > 0 && waiting[0].at <= now {
				waiting[0].p.result(waiting[0].at, false)
				waiting = waiting[1:]
			}
			for _, p := range all {
				if now < p.next {
					continue
				}
				p.next = p.next.Add(rules.Interval)
				if up {
					p.result(now, true)
				} else {
					waiting = append(waiting, lost{now.Add(timeout), p})
				}
			}
			for _, p := range all {
				if p.g.Sight() != Blind {
					continue
				}
				blind++
				for _, q := range all {
					if q != p && q.heard(now) == Sees {
						t.Fatalf("seed %d: after %v one director is blind and knows of another that sees the gateway (%+v, timeout %v)",
							seed, time.Duration(now), rules, timeout)
					}
				}
			}
		}
		if blind == 0 && rules.Fall < 3 {
			t.Logf("seed %d: nobody was ever blind (%+v)", seed, rules)
		}
	}
}

var second = GatewayRules{Interval: time.Second, Fall: 3, Rise: 2}

// probe gives outcomes a second apart, 1 for an answer, and returns the time after them.
func probe(g *Gateways, now clock.Time, outcomes string) clock.Time {
	for _, o := range outcomes {
		for i := range g.all {
			g.Result(now, i, now, o == '1')
		}
		now = now.Add(time.Second)
	}
	return now
}

func TestAGatewayIsLostAfterFallAndFoundAfterRise(t *testing.T) {
	for _, tt := range []struct {
		outcomes string
		want     Sight
	}{
		{"", Recovers}, {"1", Recovers}, {"0", Recovers}, {"000", Blind}, {"111", Sees}, {"1110", Doubts}, {"11100", Doubts},
		{"111000", Blind}, {"11101", Doubts}, {"1110111", Sees}, {"1110001", Recovers}, {"111000111", Sees},
		{"1110010010010", Doubts}, {"11100010101", Recovers},
	} {
		g := NewGateways([]GatewayRules{second}, 1)
		probe(g, 1, tt.outcomes)
		if got := g.Sight(); got != tt.want {
			t.Errorf("after %q the sight is %d, want %d", tt.outcomes, got, tt.want)
		}
	}
}

func TestAsManyGatewaysAsAreNeeded(t *testing.T) {
	for _, tt := range []struct {
		need, up int
		want     Sight
	}{
		{1, 3, Sees}, {1, 1, Sees}, {1, 0, Blind}, {2, 2, Sees}, {2, 1, Blind}, {3, 3, Sees}, {3, 2, Blind},
	} {
		g := NewGateways([]GatewayRules{second, second, second}, tt.need)
		for now := clock.Time(1); now < clock.Time(4*time.Second); now = now.Add(time.Second) {
			for i := range 3 {
				g.Result(now, i, now, i < tt.up)
			}
		}
		if got := g.Sight(); got != tt.want {
			t.Errorf("%d of 3 gateways answer and %d are needed: sight %d, want %d", tt.up, tt.need, got, tt.want)
		}
	}
}

// TestAFlappingGatewayIsLostRarely lets a gateway come and go at random, and as the worst adversary would: it answers until it
// counts, then for up to a span, then fails until it is lost.
func TestAFlappingGatewayIsLostRarely(t *testing.T) {
	const hours = 24
	for name, span := range map[string]int{"worst": 1, "worst of those who wait": 40 * 60 * 10, "random": 0} {
		rnd := rand.New(rand.NewPCG(1, 2))
		rules := GatewayRules{Interval: 100 * time.Millisecond, Fall: 1, Rise: 1}
		g := NewGateways([]GatewayRules{rules}, 1)
		var losses [hours]int
		outcome, until := true, clock.Time(0)
		seen, usable := false, 0 // lost, and probes for which it was seen
		for i := range int(hours * time.Hour / rules.Interval) {
			now := clock.Time(1).Add(time.Duration(i) * rules.Interval)
			switch s := g.Sight(); {
			case span == 0 && now >= until:
				outcome = rnd.IntN(2) == 0
				until = now.Add(time.Duration(1+rnd.IntN(300)) * rules.Interval)
			case span > 0 && s == Sees && until.IsZero():
				until = now.Add(time.Duration(rnd.IntN(span)) * rules.Interval)
			case span > 0 && s == Sees && now >= until:
				outcome = false
			case span > 0 && s == Blind:
				outcome, until = true, 0
			}
			g.Result(now, 0, now, outcome)
			switch s := g.Sight(); {
			case s == Blind && seen:
				losses[now/clock.Time(time.Hour)%hours]++
				seen = false
			case s == Sees:
				seen = true
				usable++
			}
		}
		t.Logf("%s: losses in each hour %v, sees for %d probes", name, losses, usable)
		for h, n := range losses {
			if n > StrikesPerHour {
				t.Errorf("%s: lost %d times in hour %d", name, n, h)
			}
		}
		if usable == 0 {
			t.Errorf("%s: never seen", name)
		}
	}
}
