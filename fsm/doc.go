// Package fsm is the replicated state of a cluster: who was granted which ownership group under which epoch, what was
// released, which nodes are in maintenance, which virtual services there are and which of their real servers answer, and a
// journal of what happened and why.
//
// A State is a pure function of the commands applied to it. Nothing here reads a clock, draws a random number, depends on
// the order of a map or has a side effect: what the proposer chose, the time included, travels in the Command. Replicas
// that have applied the same log hold the same State, and Hash proves it.
//
// Effects of a State (an owner that claims, a node that drains) come from comparing it with what is, after the log has
// been applied; Apply replays old commands after every restart.
//
// A State is not safe for concurrent use. Its owner serialises Apply and Restore with the reading methods.
package fsm
