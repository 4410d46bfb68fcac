// Package speaker keeps BFD sessions over UDP: single hop (RFC 5881) and multihop (RFC 5883).
//
// One goroutine steps all sessions, one per socket receives. The intervals of BFD are of milliseconds: whoever decides
// something slower gets the changes of state only.
package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/bfd"
	"github.com/hactl/had/internal/clock"
)

const (
	portSingleHop = 3784 // RFC 5881 section 4
	portMultihop  = 4784 // RFC 5883 section 5

	sourcePorts     = 49152 // the first one that may be used
	sourcePortTries = 16

	queueSize = 256         // packets that wait for the sessions; more are dropped
	retry     = time.Second // after which a port that could not be opened is tried again
)

// AnyHops turns the check of the TTL off.
const AnyHops = -1

// Config is one session. It is comparable.
type Config struct {
	Name     string
	Source   netip.Addr // not valid: the kernel's choice
	Neighbor netip.Addr
	TTL      int // of what is sent, and that is expected: 1..255
	MaxHops  int // by how much the TTL of what is received may be lower; AnyHops: by anything
	Multihop bool
	Session  bfd.Config
}

func (c *Config) key() socketKey { return socketKey{ipv6: c.Neighbor.Is6(), multihop: c.Multihop} }

// Speaker keeps sessions. Make one with New; Configure gives it sessions, Run keeps them.
type Speaker struct {
	log     *slog.Logger
	now     func() clock.Time
	configs chan []Config
	packets chan packet

	// What follows belongs to Run.
	sessions []*session
	sockets  map[socketKey]*socket
	deaf     string // why a port could not be opened, as it was logged
	report   func(name string, up bool)
}

// session is one session with its socket.
type session struct {
	Config
	bfd.Session
	conn     *net.UDPConn // nil: could not be opened yet
	silenced string       // why it cannot speak, as it was logged
}

// packet is a packet that was received.
type packet struct {
	from netip.Addr
	to   socketKey
	ttl  int
	bfd.Packet
}

// New returns a Speaker without sessions. now reads the clock, from any goroutine.
func New(log *slog.Logger, now func() clock.Time) *Speaker {
	return &Speaker{log: log, now: now, configs: make(chan []Config, 1), packets: make(chan packet, queueSize),
		sockets: map[socketKey]*socket{}}
}

// Configure says which sessions there are from now on. Those that are the same as before stay as they are; others begin
// Down. It does not wait, and no two goroutines may call it.
func (s *Speaker) Configure(configs []Config) {
	select {
	case <-s.configs: // has not been looked at, and is out of date
	default:
	}
	s.configs <- configs
}

// Run keeps the sessions until ctx is done; then it tells the neighbors that they are administratively down. A session that
// has come up, or is up no more, is reported on the calling goroutine. At first all are down.
func (s *Speaker) Run(ctx context.Context, report func(name string, up bool)) {
	s.report = report
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.report = func(string, bool) {}
			s.replace(nil)
			return
		case configs := <-s.configs:
			s.replace(configs)
		case p := <-s.packets:
			s.received(p)
		case <-timer.C:
			s.listen()
			for _, o := range s.sessions {
				s.step(o, bfd.Tick{})
			}
		}
		timer.Reset(s.wait())
	}
}

// replace begins and ends sessions.
func (s *Speaker) replace(configs []Config) {
	s.sessions = slices.DeleteFunc(s.sessions, func(o *session) bool {
		if slices.Contains(configs, o.Config) {
			return false
		}
		s.step(o, bfd.Stop{})
		if o.conn != nil {
			_ = o.conn.Close()
		}
		return true
	})
	for _, c := range configs {
		if !slices.ContainsFunc(s.sessions, func(o *session) bool { return o.Config == c }) {
			s.sessions = append(s.sessions, &session{Config: c, Session: bfd.New(&c.Session, s.now(), s.discriminator())})
		}
	}
	for key, o := range s.sockets {
		if !slices.ContainsFunc(s.sessions, func(o *session) bool { return o.key() == key }) {
			_ = o.Close()
			delete(s.sockets, key)
		}
	}
	s.listen()
}

// discriminator returns one that no session has.
func (s *Speaker) discriminator() uint32 {
	for {
		my := rand.Uint32()
		if my != 0 && !slices.ContainsFunc(s.sessions, func(o *session) bool { return o.My == my }) {
			return my
		}
	}
}

// listen opens the sockets that are missing. Why one cannot be opened is logged once.
func (s *Speaker) listen() {
	for _, o := range s.sessions {
		if s.sockets[o.key()] != nil {
			continue
		}
		socket, err := openSocket(o.key())
		if err != nil {
			if s.deaf != err.Error() {
				s.deaf = err.Error()
				s.log.Error("BFD sessions stay down", "err", err)
			}
			continue
		}
		s.deaf = ""
		s.sockets[o.key()] = socket
		go socket.receive(s.packets)
	}
}

// wait is the span to the next deadline, or to the next try to open a port.
func (s *Speaker) wait() time.Duration {
	var at clock.Time
	for _, o := range s.sessions {
		at = clock.Earliest(at, o.Deadline())
		if s.sockets[o.key()] == nil {
			at = clock.Earliest(at, s.now().Add(retry))
		}
	}
	if at.IsZero() {
		return time.Hour
	}
	return max(0, at.Sub(s.now()))
}

// received gives a packet to its session. One that is meant for none, or comes from too far away, is dropped: anybody can
// send such packets.
func (s *Speaker) received(p packet) {
	for _, o := range s.sessions {
		if o.Neighbor.WithZone("") != p.from || o.key() != p.to || !o.Wants(p.Packet) {
			continue
		}
		if o.MaxHops == AnyHops || o.TTL-p.ttl <= o.MaxHops {
			s.step(o, bfd.Received{Packet: p.Packet})
		}
		return
	}
}

// step gives an event to a session and carries out what follows.
func (s *Speaker) step(o *session, ev bfd.Event) {
	var actions []bfd.Action
	o.Session, actions = o.Session.Step(&o.Config.Session, s.now(), ev)
	for _, a := range actions {
		switch a := a.(type) {
		case bfd.Send:
			s.send(o, a.Packet)
		case bfd.Changed:
			s.log.Info("BFD session changed", "bfd_instance", o.Name, "from", a.From.String(), "to", a.To.String(),
				"reason", a.Diag.String(), "neighbor", a.Remote.String())
			if (a.From == bfd.Up) != (a.To == bfd.Up) {
				s.report(o.Name, a.To == bfd.Up)
			}
		}
	}
}

// send sends a packet. What cannot be sent is lost, as on the wire; why is logged once.
func (s *Speaker) send(o *session, p bfd.Packet) {
	err := o.open()
	if err == nil {
		_, err = o.conn.WriteToUDPAddrPort(p.Append(nil), netip.AddrPortFrom(o.Neighbor, o.key().port()))
	}
	switch {
	case err == nil:
		o.silenced = ""
	case o.silenced != err.Error():
		o.silenced = err.Error()
		s.log.Warn("BFD packet was not sent", "bfd_instance", o.Name, "err", err)
	}
}

// open opens the session's own socket, on a port that RFC 5881 section 4 allows to send from. It is not connected, so that
// every packet takes the route that there is then.
func (o *session) open() error {
	if o.conn != nil {
		return nil
	}
	source := o.Source
	if !source.IsValid() {
		source = o.key().unspecified()
	}
	var conn *net.UDPConn
	var err error
	for range sourcePortTries {
		port := uint16(sourcePorts + rand.IntN(1<<16-sourcePorts))
		local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, port))
		if conn, err = net.ListenUDP(o.key().network(), local); !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return err
	}
	if err := o.key().setTTL(conn, o.TTL); err != nil {
		return errors.Join(fmt.Errorf("set TTL %d: %w", o.TTL, err), conn.Close())
	}
	o.conn = conn
	return nil
}
