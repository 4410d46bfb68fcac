// Package witness is the role of a member that only votes: it keeps the replicated state and promises leases, and acts on
// neither. It needs no privilege.
package witness

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/clock/alarm"
	"github.com/hactl/had/internal/clock/leaseclock"
	"github.com/hactl/had/internal/control"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/member"
)

// housekeeping is how often the loop does what has no event of its own, at least.
const housekeeping = time.Second

var errStopped = errors.New("hawitness is stopping")

// Supervisor is who watches over the process: a service manager. Its methods do not wait.
type Supervisor interface {
	Ready()
	Stopping()
	Alive() // the loop turns
}

// Witness is one member without groups. Make one with New, then call Run once.
type Witness struct {
	cluster  *cluster.Cluster
	config   cluster.Config
	clock    *leaseclock.Clock
	link     *member.Link
	service  *member.Service
	node     *lease.Node
	watched  Supervisor
	started  time.Time
	requests chan func(clock.Time) // run by the loop
	ended    chan struct{}

	housekept clock.Time // when the last housekeeping was; the loop's
}

// New makes the witness of an open cluster. It comes before cluster.Run.
func New(cfg cluster.Config, c *cluster.Cluster, lc *leaseclock.Clock, watched Supervisor) *Witness {
	w := &Witness{
		cluster: c, config: cfg, clock: lc, link: member.NewLink(c, cfg.Logger), started: time.Now(), watched: watched,
		requests: make(chan func(clock.Time)), ended: make(chan struct{}),
	}
	w.service = member.NewService(cfg, c, w.report, w.move, w.reload, nil)
	return w
}

// Backend answers the control socket.
func (w *Witness) Backend() control.Backend { return w.service }

// Run works until ctx or the cluster ends.
func (w *Witness) Run(ctx context.Context) error {
	defer close(w.ended)
	ctx, stop := context.WithCancel(ctx) // the service ends with this part of the process
	defer stop()
	w.node = lease.NewNode(w.clock.Now(), lease.Config{
		Self: w.cluster.Self(), Life: lease.Life(w.config.Life), Duration: w.config.Lease, Slack: w.config.Slack,
		Ceiling: w.cluster.PromiseCeiling(),
	}, member.LogState{Cluster: w.cluster})
	go w.service.Run(ctx)
	var timer alarm.Alarm
	defer timer.Stop()
	w.watched.Ready()
	for {
		now := w.clock.Now()
		w.housekeep(now)
		timer.Set(w.wait(now))
		select {
		case <-ctx.Done():
			w.watched.Stopping()
			return nil
		case ev, open := <-w.cluster.Events():
			if !open {
				return nil
			}
			w.service.Observe(ev)
			for _, in := range w.link.Translate(ev) {
				w.do(w.node.Step(w.clock.Now(), in))
			}
		case in := <-w.link.Inputs:
			w.do(w.node.Step(w.clock.Now(), in))
		case f := <-w.requests:
			f(w.clock.Now())
		case <-timer.C:
			w.do(w.node.Tick(w.clock.Now()))
		}
	}
}

// housekeep does what has no event of its own. It goes along with what has one, as soon as half of its interval is over.
func (w *Witness) housekeep(now clock.Time) {
	if now < w.housekept.Add(housekeeping/2) {
		return
	}
	w.housekept = now
	w.watched.Alive()
	w.service.CheckQuorum()
	for _, in := range w.link.Standings() {
		w.do(w.node.Step(now, in))
	}
}

// wait is the span to what is due next.
func (w *Witness) wait(now clock.Time) time.Duration {
	return clock.Earliest(w.node.Deadline(), w.housekept.Add(housekeeping)).Sub(now)
}

func (w *Witness) do(actions []lease.Action) {
	for _, a := range actions {
		w.link.Do(a)
	}
}

// inLoop runs f on the loop's goroutine and waits for it.
func (w *Witness) inLoop(ctx context.Context, f func(clock.Time)) error {
	done := make(chan struct{})
	select {
	case w.requests <- func(now clock.Time) { f(now); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the witness is busy: %w", ctx.Err())
	case <-w.ended:
		return errStopped
	}
}

func (w *Witness) move(ctx context.Context, group string, to cluster.MemberID, reason string) error {
	var refused error
	if err := w.inLoop(ctx, func(now clock.Time) {
		var actions []lease.Action
		actions, refused = w.node.Move(now, group, to, reason)
		w.do(actions)
	}); err != nil {
		return err
	}
	return refused
}

// reload refuses: everything that a witness reads is fixed while it runs.
func (w *Witness) reload(context.Context) (api.ReloadOutcome, error) {
	return api.ReloadOutcome{}, &api.Problem{Kind: api.Refused, Check: "witness", What: "nothing was reloaded",
		Why:  "a witness reads the cluster block only, and that cannot change while it runs",
		Next: "restart hawitness if the cluster block has changed"}
}

// report says what this witness knows.
func (w *Witness) report(ctx context.Context) (api.NodeReport, error) {
	r := w.service.BaseReport(api.Witness, w.started)
	err := w.inLoop(ctx, func(now clock.Time) { w.service.AddVoter(&r, w.node, now) })
	return r, err
}
