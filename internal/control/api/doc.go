// Package api holds the values that had and hawitness serve on their control socket and that hactl prints: what one
// node knows for itself (NodeReport), what the cluster has agreed on (View), their merger (ClusterStatus), and the
// requests and outcomes of actions.
//
// The JSON of these values is an interface for programs, named by Schema: fields are added, never renamed or given
// another meaning. Times are RFC 3339 in UTC with milliseconds, spans are floating point seconds in fields that end in
// "_seconds", enumerations are lower case except the VRRP states, which keep keepalived's spelling.
//
// The package holds values only: no I/O, no clock, nothing of the rest of had, so that client, server, director and
// witness can all import it.
package api

// Schema names the version of all JSON that the control socket serves.
const Schema = "hactl/v1"
