package control

import (
	"context"

	"github.com/hactl/had/internal/control/api"
)

// Backend is what the control socket serves: a director or a witness. The server calls it from one goroutine per
// request, any number at a time up to its own bound, so every method must be safe for concurrent use and must honour
// ctx. Errors that an operator should act on are *api.Problem; any other error is reported as "failed".
type Backend interface {
	// Report returns what this node knows for itself. It answers at once, with or without quorum, while founding and
	// while stopping, and never asks another node.
	Report(ctx context.Context) (api.NodeReport, error)

	// Gather returns this node's report, the reports of all other members (asked in parallel, a member that is silent
	// for half a second is marked with its error) and the replicated state. With local set nobody else is asked and the
	// replicated state is this node's copy. View.Consistent is true only if the leader has confirmed for this request
	// that the copy is current. Without quorum it answers within a second and marks the view as not consistent; lack of
	// quorum is not an error.
	Gather(ctx context.Context, local bool) (api.Gathered, error)

	// Move makes step.To the owner of step.Group, which step.From owns now, and returns once the outcome has been
	// observed: the old owner has withdrawn, the new one is Active under a new epoch. It refuses if the owner is not
	// step.From any more. The server has checked the step against a fresh Gather, the backend checks again where it
	// decides. When ctx ends it returns ctx's error; the move itself is not undone.
	Move(ctx context.Context, step api.MoveStep, reason string, by api.Caller) (api.MoveOutcome, error)

	// SetMaintenance commits a maintenance mark (mark.Node, Until, By and Reason are set; on false takes it off) and
	// returns once it is applied here. A director in maintenance hands its groups over by itself and takes none.
	SetMaintenance(ctx context.Context, mark api.Maintenance, on bool) error

	// Fences returns the fence devices that this node has, and what the log says of fencing.
	Fences(ctx context.Context) (api.FenceList, error)

	// TestFences asks the fence devices of a node, or of all, whether they answer. It switches nothing.
	TestFences(ctx context.Context, node string) (api.FenceTest, error)

	// Fence has a node switched off by this one, or commits a person's word that it is off, and returns once the log has
	// the outcome. A fence that has failed is an *api.Problem.
	Fence(ctx context.Context, req api.FenceRequest, by api.Caller) (api.FenceOutcome, error)

	// RemoveMember takes a member out of the cluster for good and returns once the log has it. It refuses while the member
	// owns a group and answers, and if those who remain would have no majority.
	RemoveMember(ctx context.Context, req api.RemovalRequest, by api.Caller) (api.RemovalOutcome, error)

	// ForceQuorum makes this node the only voter, because the others are dead for good, and returns once that is ordered: the
	// node then begins anew. It refuses while there is a majority, while one of the dead answers, and while one of them
	// that has a fence device is neither switched off nor attested to be off.
	ForceQuorum(ctx context.Context, req api.ForceRequest, by api.Caller) (api.ForceOutcome, error)

	// Reload makes the node read its configuration again and returns what that has changed. A configuration with errors,
	// or one that cannot replace the running one, changes nothing.
	Reload(ctx context.Context) (api.ReloadOutcome, error)

	// LVS returns what this node could find out about the virtual services: its own view, those of the other directors (as
	// with Gather), and what the cluster has. With local set nobody else is asked. Lack of quorum is not an error.
	LVS(ctx context.Context, local bool) (api.GatheredLVS, error)

	// ChangeLVS commits a change of virtual services and returns once it is applied here.
	ChangeLVS(ctx context.Context, req api.LVSRequest, by api.Caller) (api.LVSOutcome, error)

	// Events returns the events after the cursor (0: all that are kept), oldest first, and a channel that is closed
	// when there may be more.
	Events(ctx context.Context, after uint64) (api.EventPage, <-chan struct{}, error)
}
