// Package store keeps what a cluster member must not forget: who it is, what it may have promised, and its part of the
// replicated log.
//
// A data directory holds
//
//	lock           flock'ed, with the pid of the process that uses the directory
//	member         two slots that are overwritten in place, so that a full disk does not matter (Record)
//	raft.db        log, term and vote (raft-boltdb), each value with a checksum of its own
//	snapshots/     raft's snapshots, with their checksums
//	lost-*/        what was found damaged, kept for people to look at
//
// Open checks all of it. Whatever is missing, empty, damaged or older than the rest makes the whole directory worthless
// as a voter's memory: it is moved aside, and the member gets a new id, so that it cannot vote twice.
//
// Writes to raft.db never make raft panic: a failed write of the term or the vote is repeated until it succeeds, and
// Health tells how long writes take, hang or fail.
package store
