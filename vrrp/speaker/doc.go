// Package speaker speaks VRRP on the wire for the virtual routers of a machine: it joins the codec of vrrp/packet with the
// sockets of internal/linux.
//
// A Hub owns the sockets. It keeps one for each interface, family, and multicast group or unicast, which the Speakers
// there share, and follows the interfaces through HandleLink: a Speaker whose interface does not exist, or has no address
// to speak from, waits and begins by itself. A Speaker sends the advertisements of one virtual router, receives those of
// its peers after the checks of vrrp/packet, and announces virtual addresses by gratuitous ARP and unsolicited neighbour
// advertisements.
//
// The package decides nothing: when to send and what a received advertisement means is the state machine's, whether a
// frame may still be sent is its caller's.
//
// # Goroutines
//
// One for each shared socket, which reads and calls the receive handlers of its Speakers; one for each Hub, which sends
// announcements. Handlers must not wait for long and must not call the Hub or a Speaker: they are for posting an event.
package speaker
