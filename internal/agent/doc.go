// Package agent is a director's process: the only place where VRRP, leases, guard, addresses and the control socket meet.
//
// One goroutine, the loop, owns the director.Machine and everything that its actions touch: the guard, the addresses, the
// speakers. All else are small goroutines that turn the world into events for the loop: sockets, the kernel's
// notifications, scripts, the cluster. The loop never waits for any of them.
package agent
