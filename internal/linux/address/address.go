// Package address adds, refreshes, removes and lists the IP addresses of interfaces, with lifetimes after which the
// kernel removes an address by itself.
//
// A virtual address is put with keepalived's conventions (Virtual). Putting an address that exists
// refreshes it, removing one that is absent succeeds, so that both may be repeated at any time.
package address

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Protocol is keepalived's tag for the addresses that it makes (IFA_PROTO, Linux 5.18). An older kernel ignores it and
// reports 0.
const Protocol = 18

// Scope is the range in which an address is valid, in the kernel's numbers.
type Scope uint8

// The scopes that have a name everywhere.
const (
	ScopeGlobal Scope = unix.RT_SCOPE_UNIVERSE
	ScopeSite   Scope = unix.RT_SCOPE_SITE
	ScopeLink   Scope = unix.RT_SCOPE_LINK
	ScopeHost   Scope = unix.RT_SCOPE_HOST
)

// Flags are the kernel's flags of an address.
type Flags uint32

// The flags that can be set, and those that the kernel reports.
const (
	NoDAD           Flags = unix.IFA_F_NODAD          // IPv6: no duplicate address detection
	HomeAddress     Flags = unix.IFA_F_HOMEADDRESS    // IPv6: home address of Mobile IPv6
	ManageTemporary Flags = unix.IFA_F_MANAGETEMPADDR // IPv6: template of temporary addresses
	NoPrefixRoute   Flags = unix.IFA_F_NOPREFIXROUTE
	AutoJoin        Flags = unix.IFA_F_MCAUTOJOIN

	Secondary Flags = unix.IFA_F_SECONDARY // IPv4: another address of this prefix came first; IPv6: temporary
	Tentative Flags = unix.IFA_F_TENTATIVE // IPv6: duplicate address detection is running
	DADFailed Flags = unix.IFA_F_DADFAILED // IPv6: somebody else has it; not used

	settable = NoDAD | HomeAddress | ManageTemporary | NoPrefixRoute | AutoJoin

	// reported are the flags that List and the link monitor give. Flags that only follow from a lifetime are left out,
	// so that refreshing an address does not change it.
	reported = settable | Secondary | Tentative | DADFailed
)

// Address is an IP address of an interface. It is comparable.
type Address struct {
	Index     int          // of the interface
	Prefix    netip.Prefix // the address itself with its prefix length
	Peer      netip.Addr   // other end of a point to point link; the prefix length is the peer's then
	Broadcast netip.Addr   // IPv4; not valid: none
	Label     string       // IPv4; empty: the interface's name
	Scope     Scope        // IPv4; IPv6 follows from the address
	Flags     Flags
	Protocol  uint8 // who made it
}

// Virtual returns a virtual address on the interface with this index as keepalived makes it: without a broadcast
// address, in global scope, tagged, and for IPv6 without duplicate address detection.
func Virtual(index int, prefix netip.Prefix) Address {
	a := Address{Index: index, Prefix: prefix, Protocol: Protocol}
	if prefix.Addr().Is6() {
		a.Flags = NoDAD
	}
	return a
}

// String returns the address as a person would write it.
func (a Address) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%v", a.Prefix)
	if a.Peer.IsValid() {
		fmt.Fprintf(&s, " peer %v", a.Peer)
	}
	fmt.Fprintf(&s, " on interface %d", a.Index)
	return s.String()
}

// Seconds is a lifetime in the kernel's unit.
type Seconds uint32

// Forever is the lifetime that never ends.
const Forever Seconds = math.MaxUint32

// Lifetime says how long an address lives from now on. Both values count whenever an address is put: there is no way to
// leave a lifetime as it is.
type Lifetime struct {
	// Valid is the time until the kernel removes the address; 0 means Forever.
	Valid Seconds

	// Preferred is the time until the address is deprecated: no longer chosen as the source of new connections. 0 means
	// at once. It is cut to Valid. IPv4 has no such choice; its addresses stay preferred.
	Preferred Seconds
}

// forFamily returns the values to write for an address of the family of addr.
func (l Lifetime) forFamily(addr netip.Addr) Lifetime {
	if l.Valid == 0 {
		l.Valid = Forever
	}
	if addr.Is4() || l.Preferred > l.Valid {
		l.Preferred = l.Valid
	}
	return l
}
