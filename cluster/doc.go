// Package cluster joins the members of one had cluster: it finds them, authenticates them, carries their messages and
// orders the facts that all of them must agree on.
//
// Three mechanisms with separate jobs:
//
//   - A log (hashicorp/raft on raft-boltdb) orders commands of package fsm. Every member keeps the whole state, a witness
//     too. Its leader may be any voter; directors are preferred.
//   - Messages between members (Send, Call) travel over mutual TLS 1.3 on the one TCP port, beside the log's own traffic.
//     They need no quorum, no leader and no disk. Package cluster/lease speaks through Send.
//   - Gossip (hashicorp/memberlist, encrypted, port+1) spreads hints: who is there, and what each member says of itself.
//     Nothing is decided by it.
//
// What the package promises: a command that was reported as applied is in every later state as long as a minority of the
// voters is lost; a member that has lost or damaged its data never votes under its old identity; who does not have the
// cluster's key changes nothing but a counter; no disk, peer or stranger, however slow, delays a message to another
// peer. What it does not promise: that the leader it names is still the leader, that a message arrives, or anything about
// time. Ownership is decided by package cluster/lease, which trusts none of these.
//
// Identity. A member's id is its node name, a slash, and eight hex digits chosen when its data directory was new, for
// example "lb1/3f9a1c20". The id is raft's server id and its address at once: a connection names the id it is meant
// for, and whoever has another id refuses it. A node whose data was lost, damaged or put back from a copy moves what is
// left aside, comes back under a new id, and is taken in by the leader in place of the old one.
package cluster
