// Package sim runs a whole cluster in virtual time and looks for two owners.
//
// What runs is the code of production: internal/agent/director with vrrp and cluster/lease inside it, fsm, and the
// arithmetic of fencing. What is modelled is everything below and around it: clocks, network, Raft, disks, kernels with
// their guard, processes, machines, and a shell that carries out a director's actions one after the other and may be
// stopped or killed between any two of them. One thread, one heap of events ordered by time and sequence number, one
// seed: the same seed gives the same run on every machine.
//
// # What is checked
//
// After every event that could have changed it, on what machines would show on the wire and not on what daemons
// believe: one owner (S1), no visibility without a lease (S2), growing epochs with one holder each (S3), lapses and
// releases are final (S4, S5), replicas agree (S8). At the end, when faults have stopped: every group has an owner (L1)
// and acknowledged entries are there, once (S7).
//
// # What it would notice
//
// Canaries are rules that are switched off, each of which must lead to two owners within a bounded number of seeds. Rare
// ones are caught by walks of the lease protocol alone, at the mercy of a scheduler that owes nobody anything. Four rules
// have none: H1 and C3, H8 while O4 stands, and that an address is added in two rounds and not in one (A1). Other rules stop
// what they would let in, as far as random search can tell; tables in cluster/lease and the argument in the design hold them.
//
// # What is assumed
//
// The rates of two lease clocks differ by less than 1%. The kernel obeys its own rules, and slews its clocks by at most
// 8.3%. The guard has two locks, a timeout and a deadline on the wall clock, and no fault takes both away at once: nobody
// sets the wall clock back between a shell's two looks at it around one write to the kernel, nor in the same lease in
// which the machine is suspended; and nobody removes the guard's rules while the process that would notice is dead or
// stopped. Who was declared dead when a quorum was forced was off, and reaches the forced cluster, if it comes back, before its
// voter helps anybody again; where it does not, the run is over. A machine whose lease clock stands still together with it is outside.
package sim
