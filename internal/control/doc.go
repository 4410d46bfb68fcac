// Package control is the control socket: the server that had and hawitness run, and the client that hactl uses.
//
// The socket is a unix socket of mode 0660. Whoever may open it may also act; the kernel's word about the caller
// (SO_PEERCRED) goes into the journal as "by". The protocol is HTTP with JSON:
//
//	GET  /v1/report                    api.NodeReport, this node only, never waits for another
//	GET  /v1/status[?local=1]          api.ClusterStatus
//	GET  /v1/why?group=G               api.Why
//	GET  /v1/events?after=N            api.EventPage
//	GET  /v1/events?after=N&follow=1   one api.EventPage per line, an empty one at least every 5 s
//	POST /v1/move/plan                 api.MoveRequest to api.MovePlan
//	POST /v1/move                      api.MoveRequest of one group to api.MoveOutcome
//	POST /v1/maintenance/plan          api.MaintenanceRequest to api.MaintenancePlan
//	POST /v1/maintenance               api.MaintenanceRequest to api.MaintenanceOutcome
//
// An answer other than 200 carries an api.Problem. A request is bounded in size, in time and in number; an action that
// has begun goes on when its caller hangs up.
package control
