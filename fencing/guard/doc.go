// Package guard makes the kernel keep leases: nf_tables rules that let a virtual IP be used only until its lease ends,
// whatever becomes of the process that holds it.
//
// Two tables named "had", in the families inet and arp, drop everything that makes a virtual IP visible unless its
// group is held: ARP and neighbour solicitations that ask for it, packets sent to it (before connection tracking and
// IPVS see them), ARP and neighbour advertisements that answer for it, packets sent from it (after source NAT), and
// VRRP advertisements of its virtual router with a priority other than 0. Frames written through packet sockets pass no
// hook: whoever writes them looks at the deadline first.
//
// A group is held while two conditions hold at once, and either can end it alone: its number is an element of the set
// "held" or "held_own", with a timeout, and the wall clock is before the absolute deadline in the chain that belongs to
// it. The timeout does not notice that the wall clock is set; the deadline does not care that the process was stopped
// between computing a timeout and telling the kernel. Both end at nine tenths of the time left, because the kernel's
// clocks may be slewed by 10% and the lease clock is not. Groups are shut until they are armed, and nothing but a first
// arming opens a shut group: an extension deletes the old element in the same transaction, which fails if that has
// expired.
//
// Each call is one transaction over both tables in the normal case; it takes some 40 microseconds for a group, and some
// microseconds for each further one whose lease ends at the same time. Where the kernel can (6.12 can, 6.1 cannot), the
// tables are owned by the guard's socket, so that nobody else can change them, and persist when the process dies, so
// that its successor takes them over by Install. Elsewhere Watch reports foreign changes, and Replace repairs them.
//
// What it does not do: a packet that this machine only routes to the owner, or from it, is let pass, because containers
// on a standby are clients like others. Interfaces whose addresses are not six bytes long (InfiniBand) are not
// understood.
//
// One goroutine calls the methods of a guard; Watch and WatchClock run beside it.
package guard
