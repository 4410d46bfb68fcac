package bfd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/clock"
)

var usual = Config{MinTX: 50 * time.Millisecond, MinRX: 20 * time.Millisecond, IdleTX: time.Second, Multiplier: 3}

// pair is two sessions and the wire between them.
type pair struct {
	t      *testing.T
	now    clock.Time
	cfg    [2]Config
	s      [2]Session
	cut    [2]bool // what side i sends is lost
	sentAt [2][]clock.Time
	sent   [2][]Packet
	trace  []string
}

func newPair(t *testing.T, a, b Config) *pair {
	p := &pair{t: t, now: 1e12, cfg: [2]Config{a, b}}
	for i := range p.s {
		p.s[i] = New(&p.cfg[i], p.now, uint32(i+1)*1111)
	}
	return p
}

func (p *pair) step(i int, ev Event) {
	p.t.Helper()
	var actions []Action
	p.s[i], actions = p.s[i].Step(&p.cfg[i], p.now, ev)
	for _, a := range actions {
		switch a := a.(type) {
		case Changed:
			p.trace = append(p.trace, fmt.Sprintf("%c %v", 'a'+i, a.To))
		case Send:
			p.sentAt[i], p.sent[i] = append(p.sentAt[i], p.now), append(p.sent[i], a.Packet)
			got, err := Parse(a.Packet.Append(nil))
			if err != nil || got != a.Packet {
				p.t.Fatalf("sent %+v, parsed %+v, %v", a.Packet, got, err)
			}
			if a.Packet.Poll && a.Packet.Final {
				p.t.Fatalf("poll and final: %+v", a.Packet)
			}
			if !p.cut[i] && p.s[1-i].Wants(got) {
				p.step(1-i, Received{got})
			}
		}
	}
}

func (p *pair) pass(d time.Duration) {
	p.t.Helper()
	for end, steps := p.now.Add(d), 0; ; steps++ {
		if steps > 100_000 {
			p.t.Fatal("the sessions never rest")
		}
		at := clock.Earliest(p.s[0].Deadline(), p.s[1].Deadline())
		if at.IsZero() || at > end {
			p.now = end
			return
		}
		p.now = max(p.now, at)
		for i := range p.s {
			p.step(i, Tick{})
		}
	}
}

func (p *pair) mustBe(a, b State) {
	p.t.Helper()
	if p.s[0].State != a || p.s[1].State != b {
		p.t.Fatalf("states %v and %v, want %v and %v: %s", p.s[0].State, p.s[1].State, a, b, strings.Join(p.trace, ", "))
	}
}

func (p *pair) forget() {
	p.trace, p.sent, p.sentAt = nil, [2][]Packet{}, [2][]clock.Time{}
}

func TestASessionComesUpAndPollsForItsInterval(t *testing.T) {
	p := newPair(t, usual, usual)
	p.pass(3 * time.Second)
	p.mustBe(Up, Up)
	polled, answered := false, false
	for i := range p.s {
		polled = polled || slices.ContainsFunc(p.sent[i], func(p Packet) bool { return p.Poll && p.State == Up })
		answered = answered || slices.ContainsFunc(p.sent[i], func(p Packet) bool { return p.Final })
	}
	if !polled || !answered {
		t.Errorf("polled %v, answered %v", polled, answered)
	}
	p.forget()
	p.pass(10 * time.Second)
	p.mustBe(Up, Up)
	for i := range p.s {
		if slices.ContainsFunc(p.sent[i], func(p Packet) bool { return p.Poll }) {
			t.Error("it polls on")
		}
		for n := 1; n < len(p.sentAt[i]); n++ {
			gap := p.sentAt[i][n].Sub(p.sentAt[i][n-1])
			if gap > 50*time.Millisecond || gap < 37*time.Millisecond {
				t.Fatalf("a gap of %v", gap)
			}
		}
		if n := len(p.sent[i]); n < 190 || n > 280 {
			t.Errorf("%d packets in 10 s", n)
		}
	}
}

func TestTheSlowerOfBothIntervalsCounts(t *testing.T) {
	slow := usual
	slow.MinRX = 200 * time.Millisecond
	p := newPair(t, usual, slow)
	p.pass(3 * time.Second)
	p.forget()
	p.pass(10 * time.Second)
	if n := len(p.sent[0]); n < 48 || n > 70 {
		t.Errorf("%d packets in 10 s to a neighbor that takes one in 200 ms", n)
	}
	if n := len(p.sent[1]); n < 190 {
		t.Errorf("%d packets in 10 s from it", n)
	}
}

func TestSilenceIsNoticedAfterTheDetectionTime(t *testing.T) {
	p := newPair(t, usual, usual)
	p.pass(3 * time.Second)
	p.forget()
	p.cut[0], p.cut[1] = true, true
	last := p.now
	p.pass(90 * time.Millisecond) // 3 x 50 ms, less what has passed since the last packet
	p.mustBe(Up, Up)
	p.pass(61 * time.Millisecond)
	p.mustBe(Down, Down)
	if p.s[0].Diag != Expired {
		t.Errorf("%v", p.s[0].Diag)
	}
	p.forget()
	p.pass(10 * time.Second)
	if n := len(p.sent[0]); n < 10 || n > 14 {
		t.Errorf("%d packets in 10 s while it is down, after %v", n, p.now.Sub(last))
	}
	p.cut = [2]bool{}
	p.pass(3 * time.Second)
	p.mustBe(Up, Up)
}

func TestTheNeighborIsToldThatItIsNotHeard(t *testing.T) {
	p := newPair(t, usual, usual)
	p.pass(3 * time.Second)
	p.forget()
	p.cut[0] = true // b hears nothing, a does
	p.pass(200 * time.Millisecond)
	if p.s[0].State == Up || p.s[0].Diag != NeighborDown || p.s[1].State != Down || p.s[1].Diag != Expired {
		t.Errorf("a is %v (%v), b is %v (%v)", p.s[0].State, p.s[0].Diag, p.s[1].State, p.s[1].Diag)
	}
}

func TestAPassiveSessionWaitsForTheNeighbor(t *testing.T) {
	passive := usual
	passive.Passive = true
	p := newPair(t, passive, passive)
	p.pass(time.Minute)
	if len(p.sent[0])+len(p.sent[1]) > 0 {
		t.Fatal("passive sessions have spoken")
	}
	p = newPair(t, usual, passive)
	p.pass(3 * time.Second)
	p.mustBe(Up, Up)
	p.cut[0] = true
	p.pass(time.Second)
	p.forget()
	p.pass(time.Minute)
	if len(p.sent[1]) > 0 {
		t.Errorf("the passive one has spoken %d times to a neighbor that is gone", len(p.sent[1]))
	}
}

func TestAnAdministratorTakesASessionDown(t *testing.T) {
	p := newPair(t, usual, usual)
	p.pass(3 * time.Second)
	p.forget()
	p.step(0, Stop{})
	p.mustBe(AdminDown, Down)
	p.forget()
	p.pass(time.Minute)
	p.mustBe(AdminDown, Down)
	if len(p.sent[0]) > 0 {
		t.Error("it speaks on")
	}
}

func TestAPacketOfAnotherSessionIsNotWanted(t *testing.T) {
	s := New(&usual, 1, 7)
	if s.Wants(Packet{My: 5, Your: 8}) || !s.Wants(Packet{My: 5, Your: 7}) || !s.Wants(Packet{My: 5}) {
		t.Error("wrong")
	}
}

func TestWhatIsToBeDiscarded(t *testing.T) {
	good := Packet{State: Up, Multiplier: 3, My: 1, Your: 2, MinTX: time.Second, MinRX: time.Second}.Append(nil)
	change := func(at int, to byte) []byte {
		b := slices.Clone(good)
		b[at] = to
		return b
	}
	for name, b := range map[string][]byte{
		"short": good[:23], "version": change(0, 2<<5), "length below 24": change(3, 23), "length beyond the packet": change(3, 25),
		"authentication": change(1, 0xc0|flagAuthentication), "multipoint": change(1, 0xc0|flagMultipoint),
		"multiplier": change(2, 0), "no discriminator": change(7, 0), "none of ours": change(11, 0),
	} {
		if p, err := Parse(b); err == nil {
			t.Errorf("%s: accepted %+v", name, p)
		}
	}
	if _, err := Parse(append(slices.Clone(good), 0, 0)); err != nil {
		t.Errorf("padding: %v", err)
	}
}

// Whatever a neighbor sends, the machine does not panic, rests, and keeps its rules.
func FuzzSession(f *testing.F) {
	f.Add(Packet{State: Down, Multiplier: 1, My: 1}.Append(nil), uint16(1))
	f.Add(Packet{State: Up, Poll: true, Multiplier: 3, My: 9, Your: 7, MinTX: time.Second}.Append(nil), uint16(1000))
	f.Fuzz(func(t *testing.T, b []byte, ms uint16) {
		s, now := New(&usual, 1, 7), clock.Time(1)
		for len(b) >= packetLen {
			now = now.Add(time.Duration(ms) * time.Millisecond)
			var actions []Action
			s, actions = s.Step(&usual, now, Tick{})
			if p, err := Parse(b); err == nil && s.Wants(p) {
				var more []Action
				s, more = s.Step(&usual, now, Received{p})
				actions = append(actions, more...)
			}
			for _, a := range actions {
				if send, ok := a.(Send); ok {
					if got, err := Parse(send.Packet.Append(nil)); err != nil || got != send.Packet {
						t.Fatalf("%+v: %v", send.Packet, err)
					}
				}
			}
			if at := s.Deadline(); !at.IsZero() && at <= now {
				t.Fatalf("the deadline is over by %v", now.Sub(at))
			}
			b = b[packetLen:]
		}
	})
}
