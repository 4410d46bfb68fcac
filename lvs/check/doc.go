// Package check finds out which real servers answer. An Engine holds the checks, makes their attempts when package verdict
// says so, and reports what changes: a first verdict, another verdict, another weight.
//
// One goroutine owns the state of all checks and two heaps of deadlines, one for attempts over the network and one for
// scripts. It makes the connections of TCP_CHECK itself; an attempt of another kind is a goroutine that exists only while it is under
// way. Go's runtime waits for its socket with epoll, so a goroutine that waits costs some kilobytes and no thread; of ten thousand
// checks of servers that answer within a millisecond some ten are under way at a time. Attempts in flight are bounded. Over the bound
// the next ones wait until one ends: their verdicts come late, and never wrong.
//
// First attempts are spread at random over the warm-up, which by default is the interval, and stay spread, since each next
// one is timed from the end of the last.
//
// What a server sends is bounded too: see the constants. A server that exceeds a bound has failed, and the reason says so.
package check
