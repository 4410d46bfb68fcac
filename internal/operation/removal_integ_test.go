//go:build integ

package operation

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab/observer"
)

// A director leaves for good, though it leads the log: first drained, then removed. Nobody can be removed without whom there would
// be no majority. With an empty data directory it is a new member. Takes 12 s.
func TestRemoveMember(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	owner, other := s.awaitWhole()
	w := s.Witness()
	from := observer.Now()
	before := s.memberID(other, owner)

	_, why := s.hactl(other, api.ExitRefused, "cluster", "remove-member", owner.Name, "--confirm", owner.Name)
	s.says(why, "it owns "+s.Group(), "hactl maintenance on "+owner.Name)

	s.hactl(other, api.ExitOK, "maintenance", "on", owner.Name, "--yes")
	s.must(s.Kill(w))
	s.eventually(recoverLimit, func() error {
		status, err := s.Status(s.ctx, other)
		if err == nil && status.Quorum.Reachable != 2 {
			err = fmt.Errorf("%d votes answer", status.Quorum.Reachable)
		}
		return err
	})
	_, why = s.hactl(other, api.ExitRefused, "cluster", "remove-member", owner.Name, "--confirm", owner.Name)
	s.says(why, "only 1 of 2 votes would answer: no majority")
	s.must(s.Start(w))
	s.eventually(recoverLimit, func() error {
		status, err := s.Status(s.ctx, other)
		if err == nil && status.Quorum.Reachable != 3 {
			err = errors.New("the witness is not back")
		}
		return err
	})

	var out string
	s.eventually(recoverLimit, func() (err error) { // the witness may not be back yet to the leader of the log, which counts the votes
		out, err = s.Hactl(s.ctx, other, "cluster", "remove-member", owner.Name, "--confirm", owner.Name, "--reason", "sold")
		return err
	})
	s.says(out, before+" is no member any more; 2 votes are left")
	s.eventually(recoverLimit, func() error {
		status, err := s.Status(s.ctx, other)
		if err == nil && (status.Quorum.Voters != 2 || nodeStatus(status, owner.Name).Voter) {
			err = fmt.Errorf("%d voters", status.Quorum.Voters)
		}
		return err
	})
	s.eventually(recoverLimit, func() error {
		events, err := s.Hactl(s.ctx, w, "events")
		if err == nil && !containsAll(events, []string{before + " is removed from the cluster", "sold"}) {
			err = errors.New("it is not in the journal: " + events)
		}
		return err
	})
	mark := s.logMark(owner)
	s.restart(owner)
	s.awaitLog(owner, mark, "removed from the cluster on purpose")

	s.must(s.Terminate(owner))
	s.must(os.RemoveAll(owner.Data()))
	s.must(s.Start(owner))
	s.awaitWhole()
	if after := s.memberID(other, owner); after == before {
		t.Errorf("%s came back under its old id", after)
	}
	v, err := s.Observer.Judge(s.ctx, from, observer.Now())
	s.must(err)
	if v.DualFor() > 0 {
		t.Errorf("two owners: %s", v.String())
	}
}
