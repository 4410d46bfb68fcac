// Package bfd is the pure state machine of a session of Bidirectional Forwarding Detection in asynchronous mode (RFC 5880),
// and the codec of its control packets.
//
// A Session reads no clock and sends nothing: Step takes a reading and an event and returns actions. Values may be copied;
// nothing may be called concurrently on the same value.
package bfd

import (
	"fmt"
	"time"

	"github.com/hactl/had/internal/clock"
)

// State of a session, with its value on the wire.
type State uint8

// The states (RFC 5880 section 4.1).
const (
	AdminDown State = iota
	Down
	Init
	Up
)

// String returns the state in the words of the RFC.
func (s State) String() string {
	if s > Up {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return [...]string{"AdminDown", "Down", "Init", "Up"}[s]
}

// Diag is why a session left Up, with its value on the wire.
type Diag uint8

// The diagnostics that we give (RFC 5880 section 4.1).
const (
	NoDiag         Diag = 0
	Expired        Diag = 1 // nothing was heard for the detection time
	NeighborDown   Diag = 3 // the neighbor said that the session is down
	Administrative Diag = 7
)

// String returns the diagnostic in a few words.
func (d Diag) String() string {
	switch d {
	case NoDiag:
		return "no diagnostic"
	case Expired:
		return "control detection time expired"
	case NeighborDown:
		return "neighbor signaled session down"
	case Administrative:
		return "administratively down"
	}
	return fmt.Sprintf("diagnostic %d", uint8(d))
}

// idleTX is the least interval of packets while a session is not Up (RFC 5880 section 6.8.3).
const idleTX = time.Second

// Config is what a session is to do.
type Config struct {
	MinTX      time.Duration // desired interval of packets while Up
	MinRX      time.Duration // least interval in which packets are taken
	IdleTX     time.Duration // interval of packets while not Up; at least 1 s
	Multiplier uint8         // packets that the neighbor must miss to declare us dead; not 0
	Passive    bool          // say nothing before the neighbor does
}

// Session is one session. Make one with New.
type Session struct {
	State State
	Diag  Diag
	My    uint32 // our discriminator

	your         uint32 // the neighbor's; 0: not known
	remote       Packet // last received; the zero Packet after nothing was heard for the detection time
	polling      bool
	transmitAt   clock.Time // zero: nothing is due
	detectAt     clock.Time // zero: there is nobody to miss
	randomNumber uint32
}

// New returns a session that is Down and begins to speak at the first Tick, unless it is passive. My is its discriminator,
// not 0 and unlike that of any other session of this machine.
func New(cfg *Config, now clock.Time, my uint32) Session {
	s := Session{State: Down, My: my, randomNumber: my}
	if !cfg.Passive {
		s.transmitAt = now
	}
	return s
}

// Event is something that has happened to a session: Tick, Received or Stop.
type Event any

type (
	// Tick lets time pass. It is due at Deadline and harmless at any other time.
	Tick struct{}
	// Received is a packet of the neighbor that Parse accepts and that is meant for this session.
	Received struct{ Packet Packet }
	// Stop takes the session down by administration. It speaks once more.
	Stop struct{}
)

// Action is something to do, in the order given: Send or Changed.
type Action any

type (
	// Send sends a packet to the neighbor.
	Send struct{ Packet Packet }
	// Changed reports a change of state.
	Changed struct {
		From, To State
		Diag     Diag // ours; of the change from Up
		Remote   Diag // what the neighbor said last
	}
)

// Step takes in an event at now and returns the new state and what is to be done.
func (s Session) Step(cfg *Config, now clock.Time, ev Event) (Session, []Action) {
	st := step{Session: s, cfg: cfg, now: now}
	switch ev := ev.(type) {
	case Tick:
		st.tick()
	case Received:
		st.received(ev.Packet)
	case Stop:
		st.become(AdminDown, Administrative)
		st.transmitAt, st.detectAt = 0, 0
	default:
		panic(fmt.Sprintf("bfd: unknown event %T", ev))
	}
	return st.Session, st.actions
}

// Deadline is when Tick is next due; zero if there is nothing to wait for.
func (s Session) Deadline() clock.Time { return clock.Earliest(s.transmitAt, s.detectAt) }

// Wants tells whether a packet from the neighbor's address is meant for this session (RFC 5880 section 6.8.6).
func (s Session) Wants(p Packet) bool { return p.Your == 0 || p.Your == s.My }

// step is one step under way.
type step struct {
	Session
	cfg     *Config
	now     clock.Time
	actions []Action
}

func (st *step) tick() {
	if !st.detectAt.IsZero() && st.now >= st.detectAt {
		st.your, st.remote, st.detectAt = 0, Packet{}, 0
		if st.State == Init || st.State == Up {
			st.become(Down, Expired)
		}
		if st.cfg.Passive {
			st.transmitAt = 0
		}
	}
	if !st.transmitAt.IsZero() && st.now >= st.transmitAt {
		st.send(false)
	}
}

// received takes in a packet (RFC 5880 section 6.8.6).
func (st *step) received(p Packet) {
	if st.State == AdminDown {
		return
	}
	before := st.interval()
	st.your, st.remote = p.My, p
	if p.Final {
		st.polling = false
	}
	st.detectAt = st.now.Add(time.Duration(p.Multiplier) * max(st.cfg.MinRX, p.MinTX))
	switch {
	case p.State == AdminDown && st.State != Down:
		st.become(Down, NeighborDown)
	case st.State == Down && p.State == Down:
		st.become(Init, st.Diag)
	case st.State == Down && p.State == Init, st.State == Init && (p.State == Init || p.State == Up):
		st.become(Up, NoDiag)
	case st.State == Up && p.State == Down:
		st.become(Down, NeighborDown)
	case st.interval() != before || st.transmitAt.IsZero():
		st.schedule()
	}
	if p.Poll {
		st.send(true)
	}
}

// become changes the state and says so at once. Up begins with a poll, because the interval becomes another one.
func (st *step) become(to State, diag Diag) {
	from := st.State
	st.State, st.Diag, st.polling = to, diag, to == Up
	st.actions = append(st.actions, Changed{From: from, To: to, Diag: diag, Remote: st.remote.Diag})
	st.send(false)
}

// minTX is the interval that we ask for.
func (st *step) minTX() time.Duration {
	if st.State == Up {
		return st.cfg.MinTX
	}
	return max(st.cfg.IdleTX, idleTX)
}

// interval of periodic packets (RFC 5880 section 6.8.2); 0: none.
func (st *step) interval() time.Duration {
	switch {
	case st.your == 0:
		return st.minTX() // nobody has asked for another one yet
	case st.remote.MinRX == 0:
		return 0
	case st.remote.Demand && st.State == Up && st.remote.State == Up && !st.polling:
		return 0
	}
	return max(st.minTX(), st.remote.MinRX)
}

// send sends a packet, and begins the interval to the next anew unless it is an answer to a poll.
func (st *step) send(final bool) {
	st.actions = append(st.actions, Send{Packet{
		Diag: st.Diag, State: st.State, Poll: st.polling && !final, Final: final, Multiplier: st.cfg.Multiplier, My: st.My,
		Your: st.your, MinTX: st.minTX(), MinRX: st.cfg.MinRX,
	}})
	if !final {
		st.schedule()
	}
}

// schedule sets the time of the next packet: the interval less a random part of up to a quarter; with a multiplier of 1 at
// least a tenth, so that the neighbor does not miss it (RFC 5880 section 6.8.7).
func (st *step) schedule() {
	interval := st.interval()
	if interval == 0 {
		st.transmitAt = 0
		return
	}
	least, most := uint32(0), uint32(25)
	if st.cfg.Multiplier == 1 {
		least = 10
	}
	st.randomNumber = st.randomNumber*1664525 + 1013904223
	percent := least + (st.randomNumber>>16)%(most-least+1)
	st.transmitAt = st.now.Add(interval - interval*time.Duration(percent)/100)
}
