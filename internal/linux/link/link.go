// Package link follows the interfaces of a network namespace and their addresses.
//
// A Monitor turns the kernel's notifications into a stream of Events: first everything that exists, then Synced, then
// every change in the order in which it happened. When the kernel could not keep up and dropped notifications, the
// Monitor reads everything again, reports the difference and says Synced once more, so that a consumer that applies the
// stream to a Table has the kernel's state again. Refreshing an address is no event.
//
// An interface is its index: one that is deleted and created again under its old name is removed and appears anew. A
// consumer that waits for a name looks at the names of LinkChanged.
package link

import (
	"fmt"

	"github.com/hactl/had/internal/linux/address"
	"github.com/hactl/had/internal/linux/ether"
)

// Link is an interface. It is comparable.
type Link struct {
	Index  int
	Name   string
	Kind   string    // "veth", "vlan", "macvlan", "bridge"...; empty: a device of its own
	Parent int       // index of the interface below a vlan or macvlan, of the peer of a veth; 0: none
	Master int       // index of the bridge, bond or VRF that this interface belongs to; 0: none
	MAC    ether.MAC // zero unless Ethernet
	MTU    int       // bytes

	VRFTable uint32 // routing table of a VRF; 0: it is none

	Up        bool // set up by the administrator (IFF_UP)
	Running   bool // the link works (IFF_RUNNING)
	Multicast bool // IFF_MULTICAST
	NoARP     bool // IFF_NOARP
	Loopback  bool // IFF_LOOPBACK
	Ethernet  bool // has Ethernet hardware addresses
}

// Works tells whether the interface can carry packets: keepalived's "up".
func (l Link) Works() bool { return l.Up && l.Running }

// String returns the name and index.
func (l Link) String() string { return fmt.Sprintf("%s(%d)", l.Name, l.Index) }

// Event is a change that the Monitor reports. The set is closed: LinkChanged, LinkRemoved, AddressAdded,
// AddressChanged, AddressRemoved, Synced.
type Event interface{ event() }

type (
	// LinkChanged says that an interface appeared (Before is the zero Link) or changed, be it only its name.
	LinkChanged struct{ Before, Link Link }

	// LinkRemoved says that an interface is gone. Its addresses were reported as removed before.
	LinkRemoved struct{ Link Link }

	// AddressAdded says that an interface has an address.
	AddressAdded struct{ Address address.Address }

	// AddressChanged says that an address has other properties: a flag such as Tentative, or its label.
	AddressChanged struct{ Before, Address address.Address }

	// AddressRemoved says that an address is gone: removed by somebody, expired, or its interface went away.
	AddressRemoved struct{ Address address.Address }

	// Synced says that everything that existed has been reported: at the start (Lost is nil), and after notifications
	// were lost.
	Synced struct{ Lost error }
)

func (LinkChanged) event()    {}
func (LinkRemoved) event()    {}
func (AddressAdded) event()   {}
func (AddressChanged) event() {}
func (AddressRemoved) event() {}
func (Synced) event()         {}
