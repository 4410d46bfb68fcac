// Package director is the pure machine of one director: the VRRP state machines of its instances, the leases of their
// groups, and the order in which guard, addresses and messages follow from both.
//
// VRRP says who should own a group, the lease says who may. An instance with a lease to wait for (gated) claims instead of
// becoming Active; when its group's lease is in hand and the guard is armed, all instances of the group become Active
// together. Leaving goes the other way round: the guard shuts, addresses go, and only when the shell has confirmed that
// nothing is visible any more is the epoch released.
//
// Without a cluster block there is no lease, and the machine is keepalived's.
//
// A Machine reads no clock, sends nothing and knows no kernel: Step takes a reading and an event and returns actions, to
// be carried out in order. What an action achieved comes back as an event.
package director
