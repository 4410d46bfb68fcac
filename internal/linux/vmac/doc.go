// Package vmac makes the interfaces on which a virtual router lives apart from the interface of the machine: a private
// macvlan with the virtual router's MAC address (RFC 9568 section 7.3), or an ipvlan, which shares the MAC address of the
// interface below.
//
// Assign decides on names, and which interfaces of an earlier life are used again; it is pure. A Maker makes interfaces,
// with the kernel parameters that they need on themselves and below, deletes them, and puts the parameters back. Join
// makes the interface below a member of multicast groups, because reports of membership must not leave with the virtual
// MAC address from a router that is a backup.
package vmac
