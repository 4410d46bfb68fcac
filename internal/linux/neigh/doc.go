// Package neigh tells the neighbours on a link who has an address, and hears what they say about it: ARP for IPv4,
// neighbour discovery for IPv6.
//
// A Sender announces addresses (gratuitous ARP, unsolicited neighbour advertisements) and asks for them. A Watcher
// reports Claims: frames by which another station says that an address which it was told to watch is its own. It looks
// through packet sockets, so it sees claims also while the guard drops ARP and ND for the address, and it has the
// hardware address of the claimant. A filter in the kernel passes nothing but claims: a quiet link costs nothing.
//
// Claims name what was heard, and decide nothing. Anything on the link can forge them.
package neigh
