// Package companion is a second, small process beside the daemon of a director, which outlives it by some milliseconds. The
// daemon tells it what it holds, always before that becomes visible. When the daemon dies without a farewell, the companion
// shuts the guard and removes the virtual addresses; only then it resigns by advertisements of priority 0, and tells the
// other members of the cluster that the leases of the dead are given up. So another director takes over at once, and not
// when the lease has run out.
//
// Two rules make that safe. What the companion says is said for the dead alone: a pidfd tells it that no thread of the daemon
// runs any more, and its messages name the daemon's life, which no later daemon shares. And it says nothing unless all that
// could make this machine answer was undone: if a single step fails, it stays silent, and guard and lease do what they do
// without it.
//
// The lock keeps a companion's work and the next daemon apart: a daemon touches nothing before it has the lock, which its
// predecessor and that one's companion held. See docs/adr.
package companion
