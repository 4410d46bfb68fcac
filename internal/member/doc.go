// Package member is what a director and a witness have in common: the lease protocol's way to the cluster's transport
// and log, and the answers on the control socket that need no knowledge of VRRP.
package member
