// Package fencing decides how a node is kept from using what it no longer owns, and which node had better not own anything.
//
// It is pure: no clock, no kernel, no goroutine. GuardSpec says which addresses and which VRRP advertisements belong to
// which ownership group; WindowUntil turns a lease's deadline into the two conditions under which the kernel lets them
// pass. Package fencing/guard puts both into the kernel. Gateways says how a director sees its gateways, from the outcomes of its
// probes.
package fencing
