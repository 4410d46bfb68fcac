// Package transport carries everything between two members over TCP: mutual TLS 1.3 on one port, connections of three
// kinds, told apart by the first frame.
//
//	link   messages one way, acknowledged, on one connection that is kept open and replaced when it stalls (Link)
//	call   requests and answers (Caller)
//	raft   a byte stream for raft's own transport (Mux.Dial, Mux.Serve)
//
// Both sides present a certificate that is derived from the cluster's key and names the node, and say in a Hello who they
// are; each side decides by itself whether it goes on (Gate). Certificates never expire and no clock is consulted.
//
// Everything that arrives is bounded: connections that have not proved who they are, per address and in all; the time
// they may take for it; connections per peer and kind; and the size of a frame, before memory is taken for it. What one
// peer does, or fails to do, delays nothing for another.
package transport
