// Package lease is the lease protocol: who may hold an ownership group, and until when.
//
// A Node is one member's part in it, as a pure state machine: a Voter that makes promises, an owner that renews the
// leases it holds, and, while this member leads the Raft group, a coordinator that clears claims and hands over. Every
// entry point takes the reading of the lease clock and returns the actions to carry out, in order. Nothing here reads a
// clock, sends, sleeps or writes.
//
// What it promises: at no instant do two members hold leases of one group, or leases that cover one address, whatever
// their groups are called in their files; as long as the rates of two machines' lease clocks differ by less than the drift
// bound and the shell carries the actions out in their order. The Raft log numbers epochs and proves releases; the
// exclusiveness of leases does not depend on it.
//
// What it does not promise: anything about a machine whose lease clock stands still while the world goes on.
//
// The rules, by the names used in comments:
//
//	V1  a voter refuses to renew an epoch older than the one it knows; a first renewal while it abstains
//	V2  a voter clears an epoch only if nobody else's promise runs, or that promise is proved to be void
//	V3  a voter that has started abstains for the longest promise it may have made in its last life
//	O1  an owner renews every D/4, one message per voter for all its groups, itself included as a voter
//	O2  a round that a majority acknowledged counts from its sending: deadline = sent + D(1-e)
//	O3  at its deadline a lease has lapsed for good
//	O4  a grant counts only for the latest claim of this life, with the first lease in hand before claim + D(1-e)
//	O5  before anything becomes visible the deadline is looked at again (the shell)
//	H1  a renewal names the voter's life; another life refuses it and tells its own
//	H2  one epoch has one holder
//	H3  a first renewal is refused while somebody else's promise runs and is not void
//	H4  a voter that owns the group itself under an older epoch drops it before it acknowledges
//	H5  a clearance never shortens a promise
//	H6  only the voter's own applied log, or the holder itself, proves that a promise is void
//	H7  a release is final, whatever becomes of its message
//	H8  clearances count only within D/4 of their round and once per life of a voter
//	A1  a voter clears and renews nothing that covers an address which it has promised, or cleared, to somebody else in
//	    another group; an owner adds an address only once a majority has promised it
//	C1  a clearance binds the voter for as long as a promise would; then it is forgotten, as a restart would forget it
//	C2  voters are asked whether they would clear before they are asked to: a claim without a chance disturbs nobody
//	C3  a voter refuses whoever counts by an older configuration than the newest in its log, and tells which
//	C4  majorities are counted in the newest committed configuration and in the newest one known
package lease
