package speaker

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/vrrp/packet"
)

// Config is one virtual router as the wire sees it. Configure replaces that of a Speaker.
type Config struct {
	Name string // of the vrrp_instance, for errors and logs
	IPv6 bool   // family of the advertisements and of Addresses

	// Interface carries the advertisements. It may be empty for a unicast router with a Source.
	Interface string

	// Base is the interface below Interface, if that is one that has no address of its own over IPv4 (a macvlan with the
	// virtual router's MAC address): the primary address of Base is then the source. Empty: Interface itself has one.
	Base string

	Version  uint8         // 2 or 3
	VRID     uint8         // 1..255
	Interval time.Duration // that is advertised, and that version 2 demands of others

	// Addresses are advertised, in this order. They and Excluded are virtual addresses, never the source of advertisements.
	Addresses []netip.Addr
	Excluded  []netip.Addr

	// Group is the multicast group; not valid: the standard one. Unused if there are Peers.
	Group netip.Addr

	// Peers makes the router a unicast one: each of them gets a copy of every advertisement.
	Peers []packet.Peer

	// CheckSource drops advertisements of a unicast router that do not come from one of Peers.
	CheckSource bool

	// UnicastTTL is the TTL or hop limit of unicast advertisements; 0: 255 over IPv4, the kernel's default over IPv6.
	UnicastTTL int

	// Source is the source address (mcast_src_ip, unicast_src_ip); not valid: the interface's primary address. IPv6 can
	// only use a source that Interface has.
	Source netip.Addr

	Auth            packet.Auth  // version 2
	Seal            *packet.Seal // auth_hmac; nil: none
	Options         packet.Options
	NeverOldUnicast bool

	// ReceiveBuffer is the size of the socket's receive buffer in bytes; 0: the kernel's default. The largest of the
	// routers that share a socket when it is opened counts.
	ReceiveBuffer int

	// OnRejected is called for each message for this router that failed a check. May be nil.
	OnRejected func(Rejected) `json:"-"`

	// OnStatus is called when the Status changes after Open, in the order of the changes, by whoever caused the change and
	// with the Hub locked. May be nil.
	OnStatus func(Status) `json:"-"`
}

// Received is an advertisement that passed all checks.
type Received struct {
	From          netip.Addr // source address, without zone
	Advertisement packet.Advertisement

	// AddressesDiffer says that the list of addresses is not ours; the advertisement counts all the same.
	AddressesDiffer bool
}

// Rejected is a message that failed a check.
type Rejected struct {
	From    netip.Addr
	Verdict packet.Verdict
}

// Status says whether a Speaker can speak.
type Status struct {
	// Err says why not: it wraps ErrNoInterface, ErrNoMulticast, ErrNoSource, or what the kernel said. nil: it can.
	Err error

	Index  int        // of the interface; 0: none
	Source netip.Addr // from which it speaks; not valid: none. May be set while Err is not nil.
}

// Reasons for not being able to speak. All of them end by themselves when the interface changes.
var (
	ErrNoInterface = errors.New("interface does not exist")
	ErrNoMulticast = errors.New("interface has no multicast")
	ErrNoSource    = errors.New("interface has no address to speak from")
)

// ErrDuplicate is what Open returns for a virtual router that is open already.
var ErrDuplicate = errors.New("virtual router is open already")

func (c *Config) unicast() bool { return len(c.Peers) > 0 }

// group returns the multicast group; not valid for a unicast router.
func (c *Config) group() netip.Addr {
	switch {
	case c.unicast():
		return netip.Addr{}
	case c.Group.IsValid():
		return c.Group
	case c.IPv6:
		return packet.GroupIPv6
	}
	return packet.GroupIPv4
}

// ttl returns the TTL of what is sent; 0: the kernel's default.
func (c *Config) ttl() int {
	if c.unicast() && (c.UnicastTTL != 0 || c.IPv6) {
		return c.UnicastTTL
	}
	return packet.LinkTTL
}

// destinations returns the group or the peers.
func (c *Config) destinations() []netip.Addr {
	if !c.unicast() {
		return []netip.Addr{c.group()}
	}
	peers := make([]netip.Addr, len(c.Peers))
	for i, peer := range c.Peers {
		peers[i] = peer.Addr.WithZone("")
	}
	return peers
}

// validate reports everything that can never work. Whether the advertisement fits the wire is found by encoding one.
func (c *Config) validate() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	family := func(what string, addr netip.Addr) {
		if addr.Is6() != c.IPv6 || addr.Is4In6() || !addr.IsValid() {
			complain("%s %v is not of the family of the virtual router", what, addr)
		}
	}
	if c.Source.IsValid() {
		family("source", c.Source)
	}
	if !c.unicast() {
		family("group", c.group())
		if !c.group().IsMulticast() {
			complain("%v is not a multicast group", c.group())
		}
	}
	for _, peer := range c.Peers {
		family("peer", peer.Addr)
	}
	if c.Interface == "" && (!c.unicast() || !c.Source.IsValid()) {
		complain("no interface is given, and not both unicast peers and a source address")
	}
	if c.UnicastTTL < 0 || c.UnicastTTL > 255 {
		complain("TTL %d is not in 0..255", c.UnicastTTL)
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	destination := c.destinations()[0]
	_, err := packet.Append(nil, c.advertisement(0), destination, destination, c.Options)
	return err
}

func (c *Config) advertisement(priority uint8) packet.Advertisement {
	return packet.Advertisement{
		Version:   c.Version,
		VRID:      c.VRID,
		Priority:  priority,
		Interval:  c.Interval,
		Addresses: c.Addresses,
		Auth:      c.Auth,
	}
}

// expect returns what the configuration demands of a received message.
func (c *Config) expect(options packet.Options) packet.Expect {
	return packet.Expect{
		Version:         c.Version,
		VRID:            c.VRID,
		Auth:            c.Auth,
		Interval:        c.Interval,
		Seal:            c.Seal,
		Unicast:         c.unicast(),
		CheckSource:     c.CheckSource,
		Peers:           c.Peers,
		Options:         options,
		NeverOldUnicast: c.NeverOldUnicast,
	}
}

// hasPeer tells whether addr is one of the peers.
func (c *Config) hasPeer(addr netip.Addr) bool {
	return slices.ContainsFunc(c.Peers, func(p packet.Peer) bool { return p.Addr.WithZone("") == addr })
}
