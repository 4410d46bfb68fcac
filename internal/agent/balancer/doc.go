// Package balancer serves the virtual servers of a director: it knows which real servers are up, keeps the kernel's IPVS
// table as that asks for, and tells scripts, pipes, mails and traps what changes. It has a goroutine of its own, since a
// table may take the kernel seconds; nobody ever waits for it.
package balancer
