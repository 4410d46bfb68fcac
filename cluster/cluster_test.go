package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/fsm"
)

// dumpOnFailure shows the members' logs when HAD_TEST_LOG is set.
func dumpOnFailure(t *testing.T, w *world) {
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("HAD_TEST_LOG") != "" {
			w.log.dump()
		}
	})
}

// lease gives raft its shortest timeouts, or some air where the race detector makes everything slow.
var lease = 300 * time.Millisecond * patience

func TestThreeNewMembersFoundAClusterInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"lb1", "lb2", "w1"}, {"w1", "lb2", "lb1"}} {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lease)
			dumpOnFailure(t, w)
			w.startAll(order[:2]...)
			time.Sleep(200 * time.Millisecond)
			for _, name := range order[:2] {
				s := w.nodes[name].Status()
				if s.ClusterID != "" || s.State != StateFounding || !strings.Contains(s.StateText, order[2]) {
					t.Fatalf("%s does not wait for the third: %+v", name, s)
				}
			}
			w.start(order[2])
			w.whole(10 * time.Second)
			w.nodes["w1"].submit(t, 2*time.Second, "hello")
			w.eventually(2*time.Second, "every copy knows the cluster's id and the note", func() error {
				for name, n := range w.nodes {
					if v := n.State(); v.ClusterID != n.Status().ClusterID || !slices.Equal(n.notes(), []string{"hello"}) {
						return fmt.Errorf("%s: %+v %v", name, v, n.notes())
					}
				}
				return nil
			})
		})
	}
}

func TestMembersComeBackAfterAllWereStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	ids := map[string]MemberID{}
	for name, n := range w.nodes {
		ids[name] = n.Self()
	}
	w.nodes["lb2"].submit(t, 2*time.Second, "before")
	for _, n := range w.nodes {
		n.kill()
		if n.err != nil {
			t.Errorf("%s ended with: %v", n.name, n.err)
		}
	}
	w.startAll("w1", "lb2", "lb1")
	w.whole(10 * time.Second)
	w.nodes["lb1"].submit(t, 2*time.Second, "after")
	for name, n := range w.nodes {
		if n.Self() != ids[name] {
			t.Errorf("%s was %s and is now %s", name, ids[name], n.Self())
		}
		w.eventually(2*time.Second, "notes on "+name, func() error {
			if got := n.notes(); !slices.Equal(got, []string{"before", "after"}) {
				return fmt.Errorf("%v", got)
			}
			return nil
		})
	}
}

func TestADirectorLeadsAfterTheLeaderWasKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	old := w.leader(2*time.Second, "lb1", "lb2")
	other := map[string]string{"lb1": "lb2", "lb2": "lb1"}[old.name]
	start := time.Now()
	old.kill()
	next := w.leader(5*time.Second, other, "w1")
	t.Logf("next leader, %s, after %s", next.name, time.Since(start))
	next = w.leader(5*time.Second, other) // a witness would hand over
	next.submit(t, 2*time.Second, "after")
	w.start(old.name)
	w.whole(10 * time.Second)
}

func TestEventsTellLeadershipVotersCommandsAndOutcomes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	leader := w.leader(2*time.Second, "lb1", "lb2", "w1")
	must(t, leader.Verify(context.Background()))
	for _, n := range w.nodes {
		n.Propose(7, noteCommand("proposed by "+n.name))
	}
	for _, n := range w.nodes {
		w.eventually(5*time.Second, "events of "+n.name, func() error {
			missing := map[string]bool{"leadership": true, "voters": true, "applied": true, "proposed": true, "peer": true}
			n.seen(func(e Event) bool {
				switch e := e.(type) {
				case Leadership:
					if e.Leader == leader.Self() && e.Self == (n == leader) && e.Term > 0 {
						delete(missing, "leadership")
					}
				case Voters:
					if len(e.Committed.Members) == 3 && e.Committed.Equal(e.Latest) && e.Committed.Index == 1 {
						delete(missing, "voters")
					}
				case Applied:
					if e.Cmd.Note != nil && e.Result.OK && e.Index > 1 {
						delete(missing, "applied")
					}
				case Proposed:
					if e.Tag == 7 && (n == leader) == (e.Err == nil && e.Result.OK) &&
						(n != leader) == errors.Is(e.Err, ErrNotLeader) {
						delete(missing, "proposed")
					}
				case PeerChanged:
					if e.Reachable && e.Name != n.name && e.Member != "" {
						delete(missing, "peer")
					}
				}
				return false
			})
			if len(missing) > 0 {
				return fmt.Errorf("missing %v", missing)
			}
			return nil
		})
	}
}

func TestAStrangerWithAnotherKeyIsRefusedAndNamedOnBothSides(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	w.nodes["lb2"].kill()
	delete(w.nodes, "lb2")
	w.tweak = func(c *Config) {
		if c.Node == "lb2" {
			c.Key = slices.Repeat([]byte{7}, KeySize)
		}
	}
	bad := w.start("lb2")
	for _, from := range []string{"lb1", "lb2"} {
		at := w.nodes[from]
		other := map[string]string{"lb1": "lb2", "lb2": "lb1"}[from]
		w.eventually(5*time.Second, from+" names "+other, func() error {
			if !w.log.contains(func(line string) bool {
				return strings.Contains(line, "node="+from) && strings.Contains(line, "connection refused") &&
					strings.Contains(line, "node="+other) && strings.Contains(line, "another cluster key") &&
					strings.Contains(line, w.peer(other).Address.String())
			}) {
				return errors.New("not in the log")
			}
			for _, r := range at.Status().Refusals {
				if r.Node == other && strings.Contains(r.Reason, "another cluster key") {
					return nil
				}
			}
			return fmt.Errorf("not in the status: %+v", at.Status().Refusals)
		})
	}
	lines := 0
	w.log.contains(func(line string) bool {
		if strings.Contains(line, "connection refused") && strings.Contains(line, " node=lb1 ") {
			lines++
		}
		return false
	})
	if lines > 10 {
		t.Errorf("%d lines about it", lines)
	}
	if s := bad.Status(); s.Leader != "" || s.Quorum {
		t.Errorf("the stranger takes part: %+v", s)
	}
	w.nodes["lb1"].submit(t, 2*time.Second, "goes on")
	bad.kill()
	w.tweak = nil
	w.start("lb2")
	w.whole(10 * time.Second)
}

func TestAMemberOfAnotherClusterWithTheSameNameIsRefused(t *testing.T) {
	t.Parallel()
	one, two := newWorld(t, lease), newWorld(t, lease)
	dumpOnFailure(t, one)
	two.key = one.key
	one.found()
	two.found()
	// lb2 of the second cluster moves to the addresses of the first one, with its data.
	one.nodes["lb2"].kill()
	two.nodes["lb2"].kill()
	delete(two.nodes, "lb2")
	own := one.dirs["lb2"]
	one.dirs["lb2"] = two.dirs["lb2"]
	stranger := one.start("lb2")
	one.eventually(5*time.Second, "both sides say so", func() error {
		for _, n := range []*node{stranger, one.nodes["lb1"]} {
			if !slices.ContainsFunc(n.Status().Refusals, func(r Refusal) bool {
				return strings.Contains(r.Reason, "another cluster of the name")
			}) {
				return fmt.Errorf("%s: %+v", n.name, n.Status().Refusals)
			}
		}
		return nil
	})
	stranger.kill()
	one.dirs["lb2"] = own
	one.start("lb2")
	one.whole(10 * time.Second)
}

func TestANameThatIsUsedTwiceIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	// A fourth machine copied lb2's file, and put its own address into it.
	other := newWorld(t, lease)
	other.key = w.key
	other.peers = slices.Clone(w.peers)
	other.peers[1].Address = newWorld(t, lease).peers[1].Address
	double := other.start("lb2")
	w.eventually(5*time.Second, "both sides say so", func() error {
		for _, n := range []*node{double, w.nodes["lb1"]} {
			if !slices.ContainsFunc(n.Status().Refusals, func(r Refusal) bool {
				return strings.Contains(r.Reason, `node name "lb2"`) && strings.Contains(r.Reason, "used twice")
			}) {
				return fmt.Errorf("%s: %+v", n.name, n.Status().Refusals)
			}
		}
		return nil
	})
	w.whole(time.Second)
}

func TestAMemberWithoutItsDataComesBackAsANewOne(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, dir string){
		"directory deleted": func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
		"log overwritten": func(t *testing.T, dir string) {
			path := filepath.Join(dir, "raft.db")
			info, err := os.Stat(path)
			must(t, err)
			must(t, os.WriteFile(path, slices.Repeat([]byte{0x5a}, int(info.Size())), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lease)
			dumpOnFailure(t, w)
			var asked atomic.Int32
			w.tweak = func(c *Config) {
				c.MayChange = func() bool { return asked.Add(1) > 1 }
			}
			w.found()
			w.nodes["lb1"].submit(t, 2*time.Second, "kept")
			old := w.nodes["lb2"].Self()
			says := func(text string) {
				t.Helper()
				must(t, w.nodes["lb2"].SetStanding([]byte(text)))
				w.eventually(10*time.Second, "its standing is known", func() error {
					if s := w.nodes["w1"].Standings()["lb2"]; string(s.Data) != text || s.Member != w.nodes["lb2"].Self() {
						return fmt.Errorf("%s says %q", s.Member, s.Data)
					}
					return nil
				})
			}
			says("first")
			w.nodes["lb2"].kill()
			w.start("lb2")
			w.whole(15 * time.Second)
			says("in its second run")
			w.nodes["lb2"].kill()
			damage(t, w.dirs["lb2"])
			start := time.Now()
			back := w.start("lb2")
			if back.Self() == old {
				t.Fatalf("it still is %s", old)
			}
			w.whole(15 * time.Second)
			took := time.Since(start)
			t.Logf("whole again after %s", took)
			if p := lease + lease/100; took < p {
				t.Errorf("the voters were exchanged after %s, before promises of %s had run out", took, p)
			}
			if asked.Load() < 2 {
				t.Error("MayChange was not asked")
			}
			says("as another member, in its first run")
			w.eventually(2*time.Second, "its copy is complete", func() error {
				if got := back.notes(); !slices.Equal(got, []string{"kept"}) {
					return fmt.Errorf("%v", got)
				}
				return nil
			})
			for _, n := range w.nodes {
				if slices.Contains(n.Status().Voters.Committed.Members, old) {
					t.Errorf("%s still counts %s", n.name, old)
				}
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheLeaderWithoutItsDataComesBackAsANewMember(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	leader := w.leader(2*time.Second, "lb1", "lb2", "w1")
	leader.kill()
	w.wipe(leader.name)
	w.start(leader.name)
	w.whole(15 * time.Second)
}

func TestAMemberThatIsStoppedWhileItStartsKeepsItsData(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	self := w.nodes["lb2"].Self()
	for i := range 12 {
		w.nodes["lb2"].kill()
		if n := w.start("lb2"); n.Self() != self || n.Status().DataLost != "" {
			t.Fatalf("%s has become %s: %s", self, n.Self(), n.Status().DataLost)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
	}
	w.whole(10 * time.Second)
}

func TestAMemberKnowsTheVotersBeforeThereIsALeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	for _, n := range w.nodes {
		n.kill()
	}
	alone := w.start("lb1")
	w.eventually(2*time.Second, "it knows its voters", func() error {
		if s := alone.Status(); s.State != StateMember || len(s.Voters.Latest.Members) != 3 || s.Quorum {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func TestANewMemberIsBroughtUpWithASnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	leader := w.leader(2*time.Second, "lb1", "lb2")
	other := map[string]string{"lb1": "lb2", "lb2": "lb1"}[leader.name]
	w.nodes[other].kill()
	w.wipe(other)
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("note ", i))
		leader.submit(t, 5*time.Second, want[i])
	}
	short := leader.host().raft.ReloadableConfig()
	short.TrailingLogs = 1
	must(t, leader.host().raft.ReloadConfig(short))
	must(t, leader.host().raft.Snapshot().Error())
	back := w.start(other)
	w.whole(15 * time.Second)
	w.eventually(2*time.Second, "its copy is complete", func() error {
		if got := back.notes(); !slices.Equal(got, want) {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	if !back.seen(func(e Event) bool { a, ok := e.(Applied); return ok && a.Restored }) {
		t.Error("no snapshot was restored")
	}
	// What it got is enough to start from.
	back = w.restart(other)
	w.whole(10 * time.Second)
	if got := back.notes(); !slices.Equal(got, want) {
		t.Errorf("after a restart: %v", got)
	}
}

func TestADirectoryPutBackFromACopyIsRecognised(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	old := w.nodes["lb2"].Self()
	w.nodes["lb2"].kill()
	copyDir(t, w.dirs["lb2"], w.dirs["lb2"]+".copy")
	w.start("lb2")
	w.whole(10 * time.Second)
	w.nodes["lb1"].submit(t, 2*time.Second, "not in the copy")
	w.nodes["lb2"].kill()
	w.wipe("lb2")
	must(t, os.Rename(w.dirs["lb2"]+".copy", w.dirs["lb2"]))
	back := w.start("lb2")
	select {
	case <-back.done:
	case <-time.After(5 * time.Second):
		t.Fatal("it goes on with a copy")
	}
	var restart *RestartError
	if !errors.As(back.err, &restart) || !strings.Contains(restart.Reason, "put back from a copy") {
		t.Fatalf("ended with: %v", back.err)
	}
	if again := w.start("lb2"); again.Self() == old {
		t.Fatalf("it still is %s", old)
	}
	w.whole(15 * time.Second)
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.CopyFS(to, os.DirFS(from)))
}

func TestALeaderWhoseDiskHangsIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	old := w.leader(2*time.Second, "lb1", "lb2", "w1")
	thaw := w.disks[old.name].freeze()
	defer thaw()
	old.Propose(1, noteCommand("lost or not"))
	var others []string
	for name := range w.nodes {
		if name != old.name {
			others = append(others, name)
		}
	}
	start := time.Now()
	next := w.leader(5*time.Second, others...)
	t.Logf("next leader after %s", time.Since(start))
	next.submit(t, 2*time.Second, "goes on")
	if d := old.Status().Disk; d.Healthy || !strings.Contains(d.Text, "waiting for the disk") {
		t.Errorf("status of the disk that hangs: %+v", d)
	}
	thaw()
	w.whole(10 * time.Second)
	w.eventually(5*time.Second, "the old leader follows", func() error {
		if !slices.Contains(old.notes(), "goes on") {
			return fmt.Errorf("%v", old.notes())
		}
		return nil
	})
}

func TestAClusterOfSlowDisksStillElectsAndCommits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	for _, d := range w.disks {
		d.setSlow(200 * time.Millisecond) // longer than raft's shortest timeouts
	}
	old := w.leader(2*time.Second, "lb1", "lb2", "w1")
	start := time.Now()
	old.submit(t, 20*time.Second, "slowly")
	t.Logf("committed after %s", time.Since(start))
	leader := w.leader(20*time.Second, "lb1", "lb2", "w1")
	start = time.Now()
	leader.kill()
	delete(w.nodes, leader.name)
	var others []string
	for name := range w.nodes {
		others = append(others, name)
	}
	w.nodes[others[0]].submit(t, 30*time.Second, "slowly again")
	t.Logf("another leader has committed after %s", time.Since(start))
}

func TestAFullDiskCostsOneElectionAtMostAndNoProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	full := w.leader(2*time.Second, "lb1", "lb2", "w1")
	w.disks[full.name].fail(syscall.ENOSPC)
	var others []string
	for name := range w.nodes {
		if name != full.name {
			others = append(others, name)
		}
	}
	full.Propose(1, noteCommand("refused"))
	next := w.leader(5*time.Second, others...)
	next.submit(t, 2*time.Second, "goes on")
	// The others lose their leader again: the one with the full disk is asked for its vote and must not fall over it.
	term := next.Status().Term
	if d := full.Status().Disk; d.Healthy || !strings.Contains(d.Text, "no space left") {
		t.Errorf("status of the full disk: %+v", d)
	}
	w.isolate(next.name, true)
	time.Sleep(time.Second)
	if full.isLeader() {
		t.Error("a member that cannot write leads")
	}
	w.isolate(next.name, false)
	w.disks[full.name].fail(nil)
	w.whole(10 * time.Second)
	if got := w.nodes["lb1"].Status().Term; got < term {
		t.Errorf("term went from %d to %d", term, got)
	}
	w.eventually(5*time.Second, "the disk is fine again", func() error {
		if d := full.Status().Disk; !d.Healthy {
			return errors.New(d.Text)
		}
		return nil
	})
}

func TestACutOffLeaderIsReplacedAndFollowsWhenItIsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	old := w.leader(2*time.Second, "lb1", "lb2", "w1")
	w.isolate(old.name, true)
	var others []string
	for name := range w.nodes {
		if name != old.name {
			others = append(others, name)
		}
	}
	next := w.leader(5*time.Second, others...)
	next.submit(t, 2*time.Second, "goes on")
	w.eventually(3*time.Second, "the old leader knows that it is alone", func() error {
		if s := old.Status(); s.Quorum || s.Leader != "" || s.Reachable != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	w.isolate(old.name, false)
	start := time.Now()
	w.whole(5 * time.Second)
	t.Logf("whole %s after the cut was healed", time.Since(start))
}

func TestAHealedPathCarriesMessagesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	const rounds = 3
	var took []time.Duration
	for range rounds {
		w.isolate("lb2", true)
		w.eventually(3*time.Second, "the cut is noticed", func() error {
			if w.nodes["lb1"].Status().Peers[0].Reachable {
				return errors.New("lb1 still reaches lb2")
			}
			return nil
		})
		time.Sleep(600 * time.Millisecond)
		w.isolate("lb2", false)
		start := time.Now()
		text := fmt.Sprintf("after the cut %d", start.UnixNano())
		w.eventually(3*time.Second, "a message arrives", func() error {
			w.nodes["lb1"].Send(w.nodes["lb2"].Self(), []byte(text))
			if !w.nodes["lb2"].seen(func(e Event) bool {
				m, ok := e.(Message)
				return ok && string(m.Payload) == text
			}) {
				return errors.New("not yet")
			}
			return nil
		})
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("a message arrived %s after the cut was healed", took)
	// A busy machine may spoil one.
	if limit := time.Second * patience; took[rounds/2] > limit {
		t.Errorf("it took %s, more than %s", took[rounds/2], limit)
	}
}

func TestMessagesArriveInOrderFromWhoSentThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	from, to := w.nodes["lb1"], w.nodes["w1"]
	const count = 400
	for i := range count {
		from.Send(to.Self(), fmt.Appendf(nil, "%d", i))
	}
	from.Send(from.Self(), []byte("to myself"))
	from.Send("w1/00000000", []byte("to nobody"))
	from.Send("stranger/00000000", []byte("to nobody"))
	w.eventually(2*time.Second, "all messages are there", func() error {
		next := 0
		to.seen(func(e Event) bool {
			if m, ok := e.(Message); ok && m.From == from.Self() && string(m.Payload) == fmt.Sprint(next) {
				next++
			}
			if m, ok := e.(Message); ok && string(m.Payload) == "to nobody" {
				t.Error("a message for another member arrived")
			}
			return false
		})
		if next != count {
			return fmt.Errorf("%d of %d", next, count)
		}
		return nil
	})
	w.eventually(time.Second, "the message to itself", func() error {
		if !from.seen(func(e Event) bool { m, ok := e.(Message); return ok && string(m.Payload) == "to myself" }) {
			return errors.New("missing")
		}
		return nil
	})
}

func TestGossipHealsAfterACut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	must(t, w.nodes["lb1"].SetStanding([]byte("before")))
	known := func(at, want string) func() error {
		return func() error {
			s, ok := w.nodes[at].Standings()["lb1"]
			if !ok || string(s.Data) != want || s.Member != w.nodes["lb1"].Self() {
				return fmt.Errorf("%s has %+v of lb1", at, s)
			}
			return nil
		}
	}
	w.eventually(5*time.Second, "the standing is known", known("w1", "before"))
	w.isolate("lb1", true)
	w.eventually(15*time.Second, "gossip gives lb1 up", gossips(w.nodes["w1"], "lb1", "missing"))
	must(t, w.nodes["lb1"].SetStanding([]byte("after")))
	w.isolate("lb1", false)
	w.eventually(5*time.Second, "the new standing is known", known("w1", "after"))
	w.eventually(5*time.Second, "gossip has all", func() error {
		for name, n := range w.nodes {
			for _, p := range n.Status().Peers {
				if p.Gossip != "alive" {
					return fmt.Errorf("%s sees %s as %s", name, p.Name, p.Gossip)
				}
			}
		}
		return nil
	})
}

// gossips says that a node sees another one in a state.
func gossips(at *node, about, state string) func() error {
	return func() error {
		if g := at.gossip.state(about); g != state {
			return fmt.Errorf("%s sees %s as %s", at.name, about, g)
		}
		return nil
	}
}

// Rumours of memberlist's are rare: neither a standing nor the word of a member that leaves waits for them.
func TestWhatIsSaidByGossipDoesNotWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	lb1, w1 := w.nodes["lb1"], w.nodes["w1"]
	w.eventually(10*time.Second, "w1 is there", gossips(lb1, "w1", "alive"))
	w.fabric.set(w.peer("lb1").Address, w.peer("w1").Address, true)
	must(t, lb1.SetStanding([]byte("passed on")))
	w.eventually(gossipInterval/2, "a standing takes the way over the third member", func() error {
		if s := w1.Standings()["lb1"]; string(s.Data) != "passed on" {
			return fmt.Errorf("w1 has %+v of lb1", s)
		}
		return nil
	})
	w.fabric.set(w.peer("lb1").Address, w.peer("w1").Address, false)
	w.eventually(10*time.Second, "lb2 is there", gossips(lb1, "lb2", "alive"))
	began := time.Now()
	lb1.gossip.leave()
	if took := time.Since(began); took > gossipLeave+time.Second {
		t.Errorf("leaving took %s", took)
	}
	w.eventually(gossipInterval/2, "lb2 knows that lb1 has left", gossips(w.nodes["lb2"], "lb1", "missing"))
}

func TestALargeStandingIsSpreadToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.startAll("lb1", "lb2")
	large := slices.Repeat([]byte("x"), MaxStanding)
	must(t, w.nodes["lb1"].SetStanding(large))
	if err := w.nodes["lb1"].SetStanding(append(large, 'x')); err == nil {
		t.Error("a standing above the limit is taken")
	}
	w.start("w1") // its Join exchanges states
	w.eventually(5*time.Second, "the standing is known", func() error {
		if got := w.nodes["w1"].Standings()["lb1"].Data; len(got) != len(large) {
			return fmt.Errorf("%d bytes", len(got))
		}
		return nil
	})
	must(t, w.nodes["lb1"].SetStanding(large[1:]))
	w.eventually(gossipPushPull/2, "another one is known before states are exchanged", func() error {
		if got := w.nodes["lb2"].Standings()["lb1"].Data; len(got) != len(large)-1 {
			return fmt.Errorf("%d bytes", len(got))
		}
		return nil
	})
}

func TestCallsReachMembersAndTheLeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	type question struct{ Text string }
	w.startAll()
	for _, name := range []string{"lb1", "lb2", "w1"} {
		n := w.start(name)
		n.Handle("echo", func(_ context.Context, from string, req json.RawMessage) (any, error) {
			var q question
			if err := json.Unmarshal(req, &q); err != nil {
				return nil, err
			}
			return question{from + ">" + name + ":" + q.Text}, nil
		})
		n.Handle("fail", func(context.Context, string, json.RawMessage) (any, error) { return nil, errors.New("no such luck") })
		n.Handle("sleep", func(ctx context.Context, _ string, _ json.RawMessage) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
	}
	w.whole(10 * time.Second)
	lb1 := w.nodes["lb1"]
	ctx := context.Background()
	var a question
	for _, to := range []string{"lb2", "w1", "lb1"} {
		if err := lb1.Call(ctx, to, "echo", question{"hi"}, &a); err != nil || a.Text != "lb1>"+to+":hi" {
			t.Errorf("call to %s: %q, %v", to, a.Text, err)
		}
	}
	leader := w.leader(time.Second, "lb1", "lb2", "w1")
	if err := w.nodes["w1"].Call(ctx, "", "echo", question{"hi"}, &a); err != nil || a.Text != "w1>"+leader.name+":hi" {
		t.Errorf("call to the leader: %q, %v", a.Text, err)
	}
	var remote *RemoteError
	if err := lb1.Call(ctx, "w1", "fail", nil, nil); !errors.As(err, &remote) || remote.Text != "no such luck" || remote.Node != "w1" {
		t.Errorf("error of a handler: %v", err)
	}
	if err := lb1.Call(ctx, "w1", "unheard of", nil, nil); !errors.As(err, &remote) {
		t.Errorf("unknown method: %v", err)
	}
	if err := lb1.Call(ctx, "w9", "echo", nil, nil); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("unknown node: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond*patience)
	defer cancel()
	if err := lb1.Call(short, "w1", "sleep", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("call beyond its deadline: %v", err)
	}
	w.nodes["lb2"].kill()
	var unreachable *UnreachableError
	start := time.Now()
	if err := lb1.Call(ctx, "lb2", "echo", question{}, nil); !errors.As(err, &unreachable) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("call to a member that is gone: %v", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestLeadershipIsHandedOverToADirector(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	// As when groups are released: the other one is an entry behind at that moment.
	var asked atomic.Int32
	w.opened = func(c *Cluster) {
		c.handlers[methodFitness] = func(ctx context.Context, from string, _ json.RawMessage) (any, error) {
			f, err := c.onFitness(ctx, from, struct{}{})
			if asked.Add(1) == 1 {
				f.LastIndex--
			}
			return f, err
		}
	}
	w.found()
	old := w.leader(2*time.Second, "lb1", "lb2")
	other := map[string]string{"lb1": "lb2", "lb2": "lb1"}[old.name]
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second*patience)
	defer cancel()
	// A busy machine may need longer for an answer than a leader who leaves waits for it.
	w.eventually(5*time.Second, "it hands over", func() error { return old.Leave(ctx) })
	w.leader(2*time.Second, other)
	old.kill()
	w.nodes[other].submit(t, 2*time.Second, "goes on")
	w.start(old.name)
	w.whole(10 * time.Second)
}

func TestAWitnessThatLeadsHandsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	old := w.leader(2*time.Second, "lb1", "lb2")
	w.transfer(old, w.nodes["w1"])
	w.eventually(2*time.Second, "the witness leads", func() error {
		if !w.nodes["w1"].seen(func(e Event) bool { l, ok := e.(Leadership); return ok && l.Self }) {
			return errors.New("not yet")
		}
		return nil
	})
	w.leader(5*time.Second, "lb1", "lb2")
	w.whole(2 * time.Second)
}

// After an interrupted transfer raft may refuse every proposal for ever (raft#696). Whether it does so here is
// a matter of luck; that the cluster can commit afterwards is not.
func TestInterruptedTransfersLeaveAClusterThatCommits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	old := w.leader(2*time.Second, "lb1", "lb2")
	other := map[string]string{"lb1": "lb2", "lb2": "lb1"}[old.name]
	w.fabric.set(w.peer(old.name).Address, w.peer("w1").Address, true)
	witness := raft.ServerID(w.nodes["w1"].Self())
	for range 2 {
		_ = old.host().raft.LeadershipTransferToServer(witness, raft.ServerAddress(witness)).Error()
	}
	go old.host().raft.LeadershipTransferToServer(witness, raft.ServerAddress(witness))
	w.isolate(old.name, true)
	w.leader(5*time.Second, other, "w1")
	w.isolate(old.name, false)
	w.whole(10 * time.Second)
	// Back to the one whose transfers were interrupted.
	leader := w.leader(2*time.Second, "lb1", "lb2", "w1")
	if leader != old {
		id := raft.ServerID(old.Self())
		_ = leader.host().raft.LeadershipTransferToServer(id, raft.ServerAddress(id)).Error()
	}
	w.nodes["w1"].submit(t, 10*time.Second, "goes on")
	w.whole(10 * time.Second)
}

func TestARemovedMemberStaysOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	// As when it asks to be taken in just before it is told: it hears that nobody knows it after it has been told why.
	asks := make(chan struct{})
	var once sync.Once
	w.opened = func(c *Cluster) {
		join, removed := c.handlers[methodJoin], c.handlers[methodRemoved]
		c.handlers[methodJoin] = func(ctx context.Context, from string, req json.RawMessage) (any, error) {
			for c.beingRemoved(from) {
				once.Do(func() { close(asks) })
				time.Sleep(time.Millisecond)
			}
			return join(ctx, from, req)
		}
		c.handlers[methodRemoved] = func(ctx context.Context, from string, req json.RawMessage) (any, error) {
			go c.askToJoin(context.Background())
			select {
			case <-asks:
			case <-ctx.Done():
				t.Error("it does not ask")
			}
			return removed(ctx, from, req)
		}
	}
	w.found()
	leader := w.leader(2*time.Second, "lb1", "lb2")
	other := map[string]string{"lb1": "lb2", "lb2": "lb1"}[leader.name]
	gone := w.nodes[other]
	w.eventually(10*time.Second, "it is removed", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second*patience)
		defer cancel()
		return w.nodes["w1"].RemoveMember(ctx, other)
	})
	w.eventually(3*time.Second, "it is out", func() error {
		if s := leader.Status(); slices.Contains(s.Voters.Committed.Members, gone.Self()) || len(s.Voters.Committed.Members) != 2 {
			return fmt.Errorf("%v", s.Voters)
		}
		if s := gone.Status(); s.State != StateRemoved {
			return fmt.Errorf("%s: %s", gone.name, s.State)
		}
		return nil
	})
	gone = w.restart(other)
	time.Sleep(1500 * time.Millisecond)
	if s := gone.Status(); s.State != StateRemoved || len(leader.Status().Voters.Latest.Members) != 2 {
		t.Fatalf("it came back: %+v, %v", s, leader.Status().Voters)
	}
	gone.kill()
	w.wipe(other)
	w.start(other)
	w.whole(15 * time.Second)
}

func TestRaftIsStartedAnewWhenItRefusesAllProposals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	var refuses atomic.Value // the node whose raft refuses
	refuses.Store("")
	w.tweak = func(cfg *Config) {
		node := cfg.Node
		cfg.seams.barrier = func() error {
			if refuses.Load() == node {
				return raft.ErrLeadershipTransferInProgress
			}
			return nil
		}
	}
	w.found()
	stuck := w.leader(2*time.Second, "lb1", "lb2")
	before := stuck.host()
	other := w.nodes[map[string]string{"lb1": "lb2", "lb2": "lb1"}[stuck.name]]
	w.transfer(stuck, other)
	w.leader(10*time.Second, other.name)
	refuses.Store(stuck.name)
	w.transfer(other, stuck)
	w.eventually(10*time.Second, "another raft runs", func() error {
		if h := stuck.host(); h == nil || h == before {
			return errors.New("not yet")
		}
		return nil
	})
	refuses.Store("")
	w.whole(10 * time.Second)
	w.leader(10*time.Second, "lb1", "lb2", "w1").submit(t, 5*time.Second, "after")
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.start("lb1")

	t.Run("directory in use", func(t *testing.T) {
		_, err := Open(w.config("lb1"))
		var inUse *DirectoryInUseError
		if !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
			t.Errorf("%v", err)
		}
	})
	t.Run("port taken", func(t *testing.T) {
		cfg := w.config("lb1")
		cfg.DataDir = t.TempDir()
		_, err := Open(cfg)
		var listen *ListenError
		if !errors.As(err, &listen) || !errors.Is(err, syscall.EADDRINUSE) || listen.Purpose != "cluster" {
			t.Errorf("%v", err)
		}
	})
	t.Run("address of another machine", func(t *testing.T) {
		cfg := w.config("lb2")
		cfg.Peers = slices.Clone(cfg.Peers)
		cfg.Peers[1].Address = netip.MustParseAddr("192.0.2.1")
		cfg.Self = cfg.Peers[1]
		_, err := Open(cfg)
		if !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("%v", err)
		}
	})
	t.Run("directory of another node", func(t *testing.T) {
		cfg := w.config("lb2")
		c, err := Open(cfg)
		must(t, err)
		must(t, c.Close())
		w.dirs["w1"], w.dirs["lb2"] = w.dirs["lb2"], w.dirs["w1"]
		_, err = Open(w.config("w1"))
		var dir *DataDirError
		if !errors.As(err, &dir) || !strings.Contains(err.Error(), "belongs to node lb2, and this is w1") {
			t.Errorf("%v", err)
		}
	})
	t.Run("directory not writable", func(t *testing.T) {
		cfg := w.config("lb2")
		file := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(file, nil, 0o600))
		cfg.DataDir = filepath.Join(file, "had")
		_, err := Open(cfg)
		var dir *DataDirError
		if !errors.As(err, &dir) || dir.Dir != cfg.DataDir {
			t.Errorf("%v", err)
		}
	})
	for name, change := range map[string]func(*Config){
		"key too short":   func(c *Config) { c.Key = c.Key[1:] },
		"no name":         func(c *Config) { c.Name = "" },
		"node not a peer": func(c *Config) { c.Node = "lb9" },
		"peer twice":      func(c *Config) { c.Peers = append(slices.Clone(c.Peers), c.Peers[0]) },
		"only witnesses":  func(c *Config) { c.Peers, c.Node, c.Self = c.Peers[2:], "w1", c.Peers[2] },
		"slash in a name": func(c *Config) {
			c.Peers = append(slices.Clone(c.Peers), Peer{Name: "a/b", Address: c.Self.Address.Next()})
		},
		"no lease":           func(c *Config) { c.Lease = 0 },
		"port out of range":  func(c *Config) { c.Port = 65535 },
		"peer's own address": func(c *Config) { c.Peers = append(slices.Clone(c.Peers), Peer{Name: "x", Address: c.Self.Address}) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := w.config("lb2")
			change(&cfg)
			var bad *ConfigError
			if _, err := Open(cfg); !errors.As(err, &bad) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestThePromiseCeilingSurvivesRestartsAndDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	n := w.start("lb1")
	if got := n.PromiseCeiling(); got != 0 {
		t.Errorf("a new directory has promised %s", got)
	}
	must(t, n.SetPromiseCeiling(3*time.Second))
	must(t, n.SetPromiseCeiling(time.Second))
	n = w.restart("lb1")
	if got := n.PromiseCeiling(); got != 3*time.Second {
		t.Errorf("the ceiling is %s", got)
	}
	must(t, n.dir.Condemn("test"))
	before := n.Self()
	n = w.restart("lb1")
	if n.Self() == before || n.PromiseCeiling() != 3*time.Second {
		t.Errorf("after damage: %s, %s", n.Self(), n.PromiseCeiling())
	}
}

func TestAClusterOfOneMemberWorks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.peers = w.peers[:1]
	w.start("lb1")
	w.whole(5 * time.Second)
	w.nodes["lb1"].submit(t, time.Second, "alone")
	w.restart("lb1")
	w.whole(5 * time.Second)
}

func TestSubmitAppliesOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lease)
	dumpOnFailure(t, w)
	w.found()
	cmd := noteCommand("once")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, name := range []string{"lb1", "lb2", "w1"} {
		if r, err := w.nodes[name].Submit(ctx, cmd); err != nil || !r.OK {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	leader := w.leader(time.Second, "lb1", "lb2", "w1")
	if got := leader.notes(); len(got) != 1 {
		t.Errorf("notes: %v", got)
	}
	if _, err := leader.Submit(ctx, fsm.Command{ID: "bad"}); err == nil {
		t.Error("an invalid command is taken")
	}
	w.eventually(5*time.Second, "whoever leads makes sure of it", func() error {
		return w.leader(time.Second, "lb1", "lb2", "w1").Verify(ctx)
	})
}
