// Package interop holds the tests in which had meets routers that were written by others: stock keepalived and FRR's
// vrrpd, from the distribution's packages, as real processes on a real (virtual) LAN.
//
// They need root and the build tag interop (`make interop`). Each test has a LAN of its own (internal/lab): two routers
// and a host that takes no part and asks every few milliseconds, by ARP and neighbour discovery, who has the virtual
// addresses. Packet sockets beside the routers record every advertisement with the kernel's time. What a router is,
// is judged by these two alone: by what it sends and by who answers.
//
// TestDifferences compares had with keepalived: one scenario, two lives, two traces. CONTRIBUTING.md says how to add one.
//
// The other scenarios are also played by two stock keepalived. So a scenario that had fails is one that keepalived passes,
// with the same file, on the same LAN. With INTEROP_FULL=1 in the environment that holds for every combination.
//
// The programs under test are those in bin/, or in the directory that HAD_BIN names.
//
// Frames are built and read here by code that shares nothing with the daemon's own; the last word on what is well-formed
// is tshark's.
package interop
