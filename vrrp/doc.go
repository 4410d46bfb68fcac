// Package vrrp is the state machine of one virtual router, for VRRP version 2 (RFC 3768) and version 3 (RFC 9568), with
// the behaviour of keepalived where the RFCs leave a choice.
//
// The machine is pure: it takes an event and a reading of the lease clock and gives back its next state and a list of
// actions. It owns no timer, socket or goroutine. Timers are absolute deadlines inside the State; Deadline says when
// the machine next wants a Tick, and a late or spurious Tick is harmless. The order of the actions is part of the
// contract and is given with each action.
//
// # Ungated and gated
//
// With Config.Gated unset a machine behaves as keepalived does: when its down timer runs out it becomes Active. With
// Config.Gated set VRRP only says who should be Active and a lease decides who may: the machine stays Backup, sets
// Claiming and emits Claim, and becomes Active on the event Granted only. The caller that holds the lease tells the
// machine with Granted, and takes it back with Yield. A gated machine that is claiming may have no deadline, because
// the one that repeats the claim is the caller; every other running machine (Backup, Active) always has one.
//
// # What it does not do
//
// Checks of received packets are done by package vrrp/packet before an advertisement becomes an event. Sync groups are
// the caller's: it holds members back (Hold) and moves them together (Granted, Yield, Faulted). Tracking is done by
// vrrp/track, whose result reaches the machine as SetPriority, Faulted and Recovered.
//
// Nothing in this package may be called concurrently on the same State; States are values and may be copied freely.
package vrrp
