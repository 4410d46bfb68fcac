// Package nettest builds small networks for the tests that touch the kernel (build tag integ): the test process moves
// into a network namespace of its own, further Hosts are namespaces beside it, and veth pairs connect them. Nothing
// outside these namespaces is touched, and all of it is gone when the process ends.
package nettest
