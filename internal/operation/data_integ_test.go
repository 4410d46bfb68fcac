//go:build integ

package operation

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab/site"
)

// A member whose data are damaged or lost comes back as a new one, by itself, while the others stand. The owner never notices.
func TestDamagedOrLostData(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	owner, n := s.awaitWhole()
	w := s.Witness()
	edit := func(change func(data []byte) []byte) func(*stage, *site.Node) {
		return func(s *stage, n *site.Node) {
			path := filepath.Join(n.Data(), "raft.db")
			data, err := os.ReadFile(path)
			s.must(err)
			s.must(os.WriteFile(path, change(data), 0o600))
		}
	}
	for _, damage := range []struct {
		name  string
		node  *site.Node
		make  func(*stage, *site.Node)
		says  string
		aside bool // the old data are kept, under another name
	}{
		{"raft.db is empty", n, edit(func([]byte) []byte { return nil }), "it is empty", true},
		{"raft.db is truncated", n, edit(func(data []byte) []byte { return data[:3*4096-100] }), "raft.db is damaged", true},
		{"raft.db is overwritten", n, edit(func(data []byte) []byte {
			for i := 4096; i < len(data)-4096; i++ {
				data[i] ^= 0x5a
			}
			return data
		}), "raft.db is damaged", true},
		{"raft.db is missing", w, func(s *stage, n *site.Node) { s.must(os.Remove(filepath.Join(n.Data(), "raft.db"))) },
			"raft.db is missing", true},
		{"the data directory is gone", n, func(s *stage, n *site.Node) { s.must(os.RemoveAll(n.Data())) }, "", false},
	} {
		s.undisturbed(damage.name, owner, func(s *stage) {
			n := damage.node
			before := s.memberID(owner, n)
			s.must(s.Terminate(n))
			damage.make(s, n)
			mark := s.logMark(n)
			s.must(s.Start(n))
			if damage.says != "" {
				s.awaitLog(n, mark, "level=ERROR", "comes back as a new member", damage.says)
			}
			if aside, _ := filepath.Glob(n.Data() + "/lost-*"); damage.aside != (len(aside) > 0) {
				s.t.Errorf("moved aside: %v", aside)
			}
			s.eventually(recoverLimit, func() error { return s.AwaitHealthy(s.ctx, recoverLimit) })
			if after := s.memberID(owner, n); after == before || after == "" {
				s.t.Errorf("%s is member %s, as before: it must not vote again under the old id", n.Name, after)
			}
		})
	}
	s.run("what came back is good for something: it takes over", func(s *stage) {
		owner, other := s.awaitWhole()
		watched := s.watch()
		s.must(s.Kill(owner))
		s.awaitOwner(other, recoverLimit)
		watched.moved(owner, other, s.takeoverBound(other)+siteElection)
		s.must(s.Start(owner))
		s.awaitWhole()
	})
}

// siteElection is the time for an election of the log's leader, which may have been on the lost node.
const siteElection = 2500 * time.Millisecond

// memberID is the id under which a node is a voter, in the words of another.
func (s *stage) memberID(asked, of *site.Node) string {
	s.t.Helper()
	status, err := s.Status(s.ctx, asked)
	s.must(err)
	n := nodeStatus(status, of.Name)
	if !n.Voter {
		s.t.Errorf("%s is no voter", of.Name)
	}
	if status.Verdict != api.Healthy {
		s.t.Errorf("the cluster is %s", status.Verdict)
	}
	return n.MemberID
}
