package trap

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/hactl/had/internal/notify"
)

const (
	maxWaiting = 256             // traps that wait to be sent to one receiver; the oldest makes room
	patience   = 5 * time.Second // for the receiver's name to be looked up
)

// enterprise is the one of Debian, in which KEEPALIVED-MIB lives. It begins our engine IDs (RFC 3411 section 5).
const enterprise = 9586

// Config says which traps go to whom.
type Config struct {
	RouterID  string
	MIBs      MIBs
	Receivers []Receiver
}

// Receiver is one snmp_trap block. With a User it gets traps of version 3, else of version 2c.
type Receiver struct {
	Host      string // address or name
	Port      uint16
	Community string

	User         string
	Auth         string // MD5, SHA, SHA224, SHA256, SHA384, SHA512; empty: no authentication
	AuthPassword string
	Priv         string // DES, AES; empty: no encryption. It needs Auth
	PrivPassword string
	EngineID     []byte // empty: EngineID of the router ID
}

// EngineID is the engine ID that a sender of traps has if none is configured: as text, format 4 of RFC 3411 section 5.
func EngineID(routerID string) []byte {
	id := []byte{0x80 | enterprise>>24, enterprise >> 16 & 0xff, enterprise >> 8, enterprise & 0xff, 4}
	return append(id, routerID[:min(len(routerID), 27)]...)
}

// Sender sends traps. Make one with Start, and call Stop.
type Sender struct {
	cfg     Config
	started time.Time
	targets []*target
}

// target is one receiver and what waits for it.
type target struct {
	name    string
	log     *slog.Logger
	outbox  *notify.Outbox[[]gosnmp.SnmpPDU]
	client  *gosnmp.GoSNMP
	usm     *gosnmp.UsmSecurityParameters // nil: version 2c
	started time.Time
	open    bool
	cancel  context.CancelFunc
	ended   chan struct{}
}

// Start makes a Sender and a goroutine for each receiver.
func Start(cfg Config, log *slog.Logger) *Sender {
	s := &Sender{cfg: cfg, started: time.Now()}
	for _, r := range cfg.Receivers {
		ctx, cancel := context.WithCancel(context.Background())
		t := newTarget(r, cfg.RouterID, s.started, log)
		t.cancel = cancel
		go t.run(ctx)
		s.targets = append(s.targets, t)
	}
	return s
}

// Tell has the traps about a change sent. It does not block.
func (s *Sender) Tell(c notify.Change) { s.put(traps(s.cfg.MIBs, s.cfg.RouterID, c)) }

// TellServer has the trap about a server or a quorum sent. It does not block.
func (s *Sender) TellServer(c notify.ServerChange) {
	if s.cfg.MIBs.Checker {
		s.put([][]gosnmp.SnmpPDU{serverTrap(s.cfg.RouterID, c)})
	}
}

func (s *Sender) put(traps [][]gosnmp.SnmpPDU) {
	uptime := uint32(time.Since(s.started) / (10 * time.Millisecond))
	for _, variables := range traps {
		variables = append([]gosnmp.SnmpPDU{{Name: sysUpTime, Type: gosnmp.TimeTicks, Value: uptime}}, variables...)
		for _, t := range s.targets {
			if dropped := t.outbox.Put(variables); dropped > 0 {
				t.log.Warn("too many traps wait to be sent, the oldest is dropped", "receiver", t.name, "dropped", dropped)
			}
		}
	}
}

// Stop sends what waits, until ctx ends.
func (s *Sender) Stop(ctx context.Context) {
	for _, t := range s.targets {
		t.outbox.Close()
	}
	for _, t := range s.targets {
		select {
		case <-t.ended:
		case <-ctx.Done(): // the goroutine may be looking up a name
		}
		t.cancel()
	}
}

func (t *target) run(ctx context.Context) {
	defer close(t.ended)
	for {
		variables, err := t.outbox.Take(ctx)
		if err != nil {
			return
		}
		if err := t.send(variables); err != nil {
			t.log.Warn("trap not sent", "receiver", t.name, "err", err)
			t.open = false // the name may mean another address by now
		}
	}
}

// send sends one trap, over a fresh socket after an error.
func (t *target) send(variables []gosnmp.SnmpPDU) error {
	if !t.open {
		if t.client.Conn != nil {
			_ = t.client.Conn.Close()
		}
		if err := t.client.Connect(); err != nil {
			return err
		}
		t.open = true
	}
	if t.usm != nil {
		t.usm.AuthoritativeEngineTime = uint32(time.Since(t.started) / time.Second)
	}
	_, err := t.client.SendTrap(gosnmp.SnmpTrap{Variables: variables})
	return err
}

// firstBoot is when engine boots are counted from.
var firstBoot = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// newTarget makes the protocol engine for a receiver. snmpEngineBoots has to grow with every start (RFC 3414 section 2.2),
// and nothing is kept on disk for it: it is the second of the start, by the wall clock.
func newTarget(r Receiver, routerID string, started time.Time, log *slog.Logger) *target {
	c := &gosnmp.GoSNMP{Target: r.Host, Port: r.Port, Timeout: patience, Version: gosnmp.Version2c, Community: r.Community,
		MaxOids: gosnmp.MaxOids}
	t := &target{name: fmt.Sprintf("%s:%d", r.Host, r.Port), log: log, outbox: notify.NewOutbox[[]gosnmp.SnmpPDU](maxWaiting),
		client: c, started: started, ended: make(chan struct{})}
	if r.User == "" {
		return t
	}
	id := r.EngineID
	if len(id) == 0 {
		id = EngineID(routerID)
	}
	boots := max(1, min(int64(started.Sub(firstBoot)/time.Second), math.MaxInt32-1))
	t.usm = &gosnmp.UsmSecurityParameters{UserName: r.User, AuthoritativeEngineID: string(id), AuthoritativeEngineBoots: uint32(boots)}
	c.Version, c.SecurityModel, c.MsgFlags = gosnmp.Version3, gosnmp.UserSecurityModel, gosnmp.NoAuthNoPriv
	c.SecurityParameters, c.ContextEngineID = t.usm, string(id)
	if r.Auth != "" {
		c.MsgFlags = gosnmp.AuthNoPriv
		t.usm.AuthenticationProtocol, t.usm.AuthenticationPassphrase = authProtocols[r.Auth], r.AuthPassword
	}
	if r.Priv != "" {
		c.MsgFlags = gosnmp.AuthPriv
		t.usm.PrivacyProtocol, t.usm.PrivacyPassphrase = privProtocols[r.Priv], r.PrivPassword
	}
	return t
}

var authProtocols = map[string]gosnmp.SnmpV3AuthProtocol{"MD5": gosnmp.MD5, "SHA": gosnmp.SHA, "SHA224": gosnmp.SHA224,
	"SHA256": gosnmp.SHA256, "SHA384": gosnmp.SHA384, "SHA512": gosnmp.SHA512}

var privProtocols = map[string]gosnmp.SnmpV3PrivProtocol{"DES": gosnmp.DES, "AES": gosnmp.AES}
