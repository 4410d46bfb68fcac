package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/cluster/transport"
	"github.com/hactl/had/fsm"
)

// How a cluster goes on that has lost its majority for good.
//
// A person declares the voters that do not answer dead, and one director becomes the only voter. Two things keep the dead from
// deciding anything if they are not: the cluster has another id from then on, and connections between the two are refused;
// and a member that is told so gives its data up and comes back as a new one. Both need that they meet. As long as they do
// not, the person's word is all there is.
//
// The order is written into the member record, in one write with the new id, before anything is done about it. Then the member
// begins anew: its voter abstains for the longest promise that any of the former voters may have given, and its log is rewritten
// before raft starts on it. What was in the log and not committed counts as committed: nothing about leases rests on the log.

// ForceError says why a member cannot become the only voter.
type ForceError struct{ Text string }

func (e *ForceError) Error() string { return e.Text }

// probeLimit is how long a member that is declared dead has to answer.
const probeLimit = time.Second

// MayForce says why this member cannot become the only voter now, as a *ForceError: dead must be all the other voters that do not
// answer. It asks each of them once more, by TCP and by UDP, for a second each.
func (c *Cluster) MayForce(ctx context.Context, dead []string) error {
	refuse := func(format string, args ...any) error { return &ForceError{fmt.Sprintf(format, args...)} }
	status := c.Status()
	switch {
	case c.cfg.Self.Witness:
		return refuse("a witness cannot be the only voter: ask a director")
	case c.host() == nil || status.LastIndex == 0 || !slices.Contains(status.Voters.Latest.Members, c.self):
		return refuse("%s is no voter", c.cfg.Node)
	case status.Quorum:
		return refuse("a majority answers: %d of %d votes", status.Reachable, len(status.Voters.Latest.Members))
	case len(dead) == 0:
		return refuse("no node is named")
	}
	voters := map[string]bool{}
	for _, m := range slices.Concat(status.Voters.Committed.Members, status.Voters.Latest.Members) {
		voters[m.Node()] = true
	}
	delete(voters, c.cfg.Node)
	for _, node := range dead {
		if !voters[node] {
			return refuse("%s is not one of the other voters", node)
		}
	}
	for _, p := range status.Peers {
		if voters[p.Name] && !p.Reachable && !slices.Contains(dead, p.Name) {
			return refuse("%s does not answer either: if it is dead, name it, too; else get it to answer", p.Name)
		}
	}
	for _, p := range status.Peers {
		if slices.Contains(dead, p.Name) && p.Reachable {
			return refuse("%s answers: it is not dead", p.Name)
		}
	}
	return c.probeAll(ctx, dead)
}

// probeAll asks nodes once more, and complains of one that answers, be it that it refuses.
func (c *Cluster) probeAll(ctx context.Context, dead []string) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	alive := make([]error, 2*len(dead))
	var asked sync.WaitGroup
	for i, node := range dead {
		if _, known := c.peers[node]; !known {
			continue // no peer any more: there is no address to ask
		}
		asked.Go(func() {
			if c.gossip.answers(c.peers[node]) {
				alive[2*i] = &ForceError{node + " answers by gossip: it is not dead"}
			}
		})
		asked.Go(func() {
			err := c.Call(ctx, node, methodFitness, struct{}{}, nil)
			var remote *RemoteError
			var refusal *transport.Refusal
			switch {
			case err == nil || errors.As(err, &remote):
				alive[2*i+1] = &ForceError{node + " answers: it is not dead"}
			case errors.As(err, &refusal):
				alive[2*i+1] = &ForceError{fmt.Sprintf("something answers at the address of %s: %v", node, refusal)}
			}
		})
	}
	asked.Wait()
	return errors.Join(alive...)
}

// ForceQuorum makes this member the only voter of a cluster with a new id, once it has begun anew: Run ends with a *RestartError.
// Dead, Method, Person and Reason of f are set by the caller. A *ForceError says that nothing was done. When ctx ends the outcome
// is unknown.
func (c *Cluster) ForceQuorum(ctx context.Context, f fsm.Force) error {
	if err := c.MayForce(ctx, f.Dead); err != nil {
		return err
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return fmt.Errorf("choose a cluster id: %w", err)
	}
	f.ClusterID, f.Former = hex.EncodeToString(id), c.id()
	if err := (fsm.Command{Force: &f}).Clip().Validate(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := c.dir.Force(f, c.promise())
		done <- err
		if err == nil {
			c.fail(&RestartError{Reason: fmt.Sprintf("it becomes the only voter: %s declared dead by %s", strings.Join(f.Dead, ", "), f.Person)})
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("note the order on the disk: %w", ctx.Err())
	}
}

// recoverForced rewrites the log of a member that was ordered to be the only voter. It comes before the log is opened.
func (c *Cluster) recoverForced() error {
	var failed error
	config := c.raftConfig()
	config.Logger = newLibraryLog(c.log, "raft")
	machine := newReplica(func(Applied) {}, func(uint64, raft.Configuration) {}, func(err error) { failed = err })
	err := c.dir.Recover(config, machine, func(err error) { c.condemn(fmt.Sprintf("its log is damaged: %v", err)) })
	return errors.Join(err, failed)
}

// superseded tells whether a cluster is the one that this member's was before somebody was made the only voter.
func (c *Cluster) superseded(clusterID string) bool {
	if force := c.dir.Record().Force; force != nil && force.Former == clusterID {
		return true
	}
	var known bool
	c.Read(func(s *fsm.State) { known = s.Superseded(clusterID) })
	return known
}
