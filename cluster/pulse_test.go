package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/cluster/transport"
)

// atRest is a whole cluster in virtual time, and whoever leads it, with a disk and a network of a millisecond.
func atRest(t *testing.T, play func(v *virtual, leader *node, followers []*node)) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, 2)
		v.boot(v.names...)
		v.whole(time.Minute)
		for _, d := range v.disks {
			d.setSlow(time.Millisecond)
		}
		leader := v.leader(time.Minute, v.names...)
		time.Sleep(time.Minute) // what was to be told has been
		var followers []*node
		for _, name := range v.names {
			if name != leader.name {
				followers = append(followers, v.nodes[name])
			}
		}
		play(v, leader, followers)
		if now := v.leader(time.Minute, v.names...); now != leader {
			t.Errorf("%s leads now, and %s did", now.name, leader.name)
		}
		v.end()
	})
}

// asked is how many questions there have been.
func asked(p *pulses) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// repeat is what raft asks a follower that has the whole log.
func repeat(leader *raftHost) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{RPCHeader: leader.header(), Term: leader.raft.CurrentTerm(), PrevLogEntry: leader.raft.LastIndex(),
		PrevLogTerm: leader.raft.CurrentTerm(), LeaderCommitIndex: leader.raft.CommitIndex()}
}

func TestARestingLogSaysNothingAlone(t *testing.T) {
	atRest(t, func(v *virtual, leader *node, followers []*node) {
		const rounds = 96
		sent := func(n *node) int { return v.air.count(v.peer(leader.name).Address, v.peer(n.name).Address) }
		var before []int
		for _, f := range followers {
			before = append(before, sent(f))
		}
		questions := asked(&leader.pulses)
		for range rounds {
			time.Sleep(v.lease / 4)
			for _, f := range followers {
				leader.Send(f.Self(), []byte("a renewal"))
			}
			time.Sleep(5 * time.Millisecond)
			for _, f := range followers {
				f.Send(leader.Self(), []byte("an answer"))
			}
		}
		// A heartbeat to each goes along with every other renewal, and what they know is hardly ever said again.
		if questions = asked(&leader.pulses) - questions; questions < rounds*3/4 || questions > rounds*5/4 {
			t.Errorf("raft has asked %d times in %d renewals", questions, rounds)
		}
		// Beside the renewals: the acknowledgements of the other side's pings.
		for i, f := range followers {
			n := sent(f) - before[i]
			t.Logf("%d messages to %s in %d renewals", n, f.name, rounds)
			if n > rounds*4/3 {
				t.Errorf("%d messages to %s in %d renewals", n, f.name, rounds)
			}
		}
	})
}

func TestARestingLogIsNotSilentForLong(t *testing.T) {
	atRest(t, func(v *virtual, leader *node, followers []*node) {
		limit := leader.timing.Silence + 50*time.Millisecond
		for range 6000 {
			time.Sleep(10 * time.Millisecond)
			for _, f := range followers {
				if silent := time.Since(f.host().raft.LastContact()); silent > limit {
					t.Fatalf("%s has heard nothing for %s, want at most %s", f.name, silent, limit)
				}
			}
		}
	})
}

func TestNewsDoesNotWaitForCompany(t *testing.T) {
	atRest(t, func(v *virtual, leader *node, followers []*node) {
		const soon = 50 * time.Millisecond
		took := func(what string, limit time.Duration, is func(f *node) bool) {
			t.Helper()
			began := time.Now()
			for slices.ContainsFunc(followers, func(f *node) bool { return !is(f) }) {
				time.Sleep(time.Millisecond)
			}
			if span := time.Since(began); span > limit {
				t.Errorf("%s: after %s, want at most %s", what, span, limit)
			}
		}
		// All followers, and not only as many as make a majority.
		for _, slow := range []time.Duration{time.Millisecond, 200 * time.Millisecond} {
			for _, d := range v.disks {
				d.setSlow(slow)
			}
			for range 100 {
				time.Sleep(v.draw(4*time.Second, 6*time.Second))
				before := leader.host().raft.LastIndex()
				submitted := make(chan error, 1)
				go func() {
					_, err := leader.Submit(context.Background(), noteCommand("news"))
					submitted <- err
				}()
				took("an entry", 2*slow+soon, func(f *node) bool { return f.host().raft.LastIndex() > before })
				took("that it is committed", 2*leader.timing.Commit+soon, func(f *node) bool { return f.host().raft.CommitIndex() > before })
				if err := <-submitted; err != nil {
					t.Error(err)
				}
			}
		}
		for range 100 {
			time.Sleep(v.draw(4*time.Second, 6*time.Second))
			began := time.Now()
			if err := leader.Verify(context.Background()); err != nil {
				t.Error(err)
			}
			if span := time.Since(began); span > soon {
				t.Errorf("that it leads is verified after %s, want at most %s", span, soon)
			}
		}
	})
}

// What a follower has answered is not asked again for long, unless there is a reason to.
func TestWhatRestsAndWhatEndsARest(t *testing.T) {
	atRest(t, func(v *virtual, leader *node, followers []*node) {
		const soon = 50 * time.Millisecond
		host, f := leader.host(), followers[0]
		ask := func(q *raft.AppendEntriesRequest) {
			t.Helper()
			must(t, host.trans.askPulse(f.Self(), q, &raft.AppendEntriesResponse{}))
		}
		for _, c := range []struct {
			what   string
			rests  bool
			during func()
			change func(q *raft.AppendEntriesRequest)
		}{
			{what: "nothing", rests: true, during: func() {}},
			{what: "a heartbeat", rests: true, during: func() {
				ask(&raft.AppendEntriesRequest{RPCHeader: host.header(), Term: host.raft.CurrentTerm()})
			}},
			{what: "an entry", during: func() { leader.submit(t, time.Minute, "an entry") }},
			{what: "a follower that refuses", during: func() {
				ask(&raft.AppendEntriesRequest{RPCHeader: host.header(), Term: host.raft.CurrentTerm() - 1})
			}},
			{what: "a follower whose raft starts anew", during: func() {
				f.rebuild(f.host(), "the test wants it")
				v.whole(time.Minute)
			}},
			{what: "a connection that is made anew", during: func() {
				leader.Cluster.mu.Lock()
				hello := leader.meetings[f.name].hello
				leader.Cluster.mu.Unlock()
				leader.linkChanged(f.name, transport.LinkState{Up: true, New: true, Remote: hello})
			}},
			{what: "more than was asked", change: func(q *raft.AppendEntriesRequest) { q.LeaderCommitIndex++ }},
			{what: "something that is not committed yet", change: func(q *raft.AppendEntriesRequest) { q.PrevLogEntry++ }},
			{what: "another term", change: func(q *raft.AppendEntriesRequest) { q.Term-- }},
		} {
			q := repeat(host)
			ask(q)
			if c.change != nil {
				c.change(q)
			}
			rested := make(chan time.Duration, 1)
			go func() {
				began := time.Now()
				host.trans.rest(raft.ServerID(f.Self()), q)
				rested <- time.Since(began)
			}()
			wait := soon
			if c.during != nil {
				time.Sleep(leader.timing.Repeat / 4)
				began := time.Now()
				c.during()
				wait += leader.timing.Repeat/4 + time.Since(began)
			}
			span := <-rested
			if c.rests && span != leader.timing.Repeat || !c.rests && span > wait {
				t.Errorf("%s: it rests for %s, which is to be %s at most, and without a reason %s", c.what, span, wait, leader.timing.Repeat)
			}
		}
	})
}

// A raft object that is made anew knows nothing of what is committed, and its leader has told it all that before.
func TestAFollowersRaftThatStartsAnewIsToldWhatIsCommitted(t *testing.T) {
	atRest(t, func(v *virtual, leader *node, followers []*node) {
		for _, f := range followers {
			old, committed := f.host(), leader.host().raft.CommitIndex()
			f.rebuild(old, "the test wants it")
			began := time.Now()
			v.eventually(time.Minute, "it knows what is committed", func() error {
				if host := f.host(); host == nil || host == old || host.raft.CommitIndex() < committed {
					return errors.New("it does not")
				}
				return nil
			})
			if span := time.Since(began); span > leader.timing.Heartbeat {
				t.Errorf("%s knows after %s, want at most %s", f.name, span, leader.timing.Heartbeat)
			}
		}
	})
}

// A leader that is awake for a message asks its followers then, and not when a timer of raft's wakes it for that alone.
func TestALeaderAsksWhenItIsAwake(t *testing.T) {
	atRest(t, func(v *virtual, leader *node, followers []*node) {
		const rounds, soon = 96, 10 * time.Millisecond
		var along, alone uint64
		for range rounds {
			before := asked(&leader.pulses)
			time.Sleep(v.lease/4 - soon)
			after := asked(&leader.pulses)
			for _, f := range followers {
				leader.Send(f.Self(), []byte("a renewal"))
			}
			time.Sleep(soon / 2)
			for _, f := range followers {
				f.Send(leader.Self(), []byte("an answer"))
			}
			time.Sleep(soon / 2)
			alone += after - before
			along += asked(&leader.pulses) - after
		}
		t.Logf("asked %d times along with %d messages, and %d times alone", along, rounds, alone)
		if along < rounds*3/4 || alone > rounds/4 {
			t.Errorf("asked %d times along with %d messages, and %d times alone", along, rounds, alone)
		}
	})
}

// What waits for company goes out when this member speaks to somebody else: it is awake then, and mostly the other ones are, too.
func TestWhatWaitsAccompaniesAMessageToSomebodyElse(t *testing.T) {
	atRest(t, func(v *virtual, leader *node, followers []*node) {
		const rounds, soon = 96, 10 * time.Millisecond
		owner, third := followers[0], followers[1]
		sent := func() int { return v.air.count(v.peer(leader.name).Address, v.peer(third.name).Address) }
		along, alone := 0, 0
		for range rounds {
			before := sent()
			time.Sleep(v.lease/4 - soon)
			after := sent()
			for _, voter := range []*node{leader, third} {
				owner.Send(voter.Self(), []byte("a renewal"))
			}
			time.Sleep(soon / 2)
			for _, voter := range []*node{leader, third} {
				voter.Send(owner.Self(), []byte("an answer"))
			}
			time.Sleep(soon / 2)
			alone += after - before
			along += sent() - after
		}
		t.Logf("%d messages along with %d, and %d alone", along, rounds, alone)
		if along < rounds*3/4 || alone > rounds/8 {
			t.Errorf("%d messages along with %d, and %d alone", along, rounds, alone)
		}
	})
}

// A cut that is too short for gossip to notice has swallowed a standing. The link has noticed.
func TestAPeerThatAnswersAgainIsToldTheStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, 2)
		tweak := v.tweak
		v.tweak = func(cfg *Config) {
			tweak(cfg)
			cfg.seams.gossip.rejoin, cfg.seams.gossip.probe = 0, 0
		}
		v.boot(v.names...)
		v.whole(time.Minute)
		for round := range 6 {
			time.Sleep(v.draw(gossipPushPull, 2*gossipPushPull))
			v.isolate("lb1", true)
			text := fmt.Sprintf("while it was cut off, round %d", round)
			must(t, v.nodes["lb1"].SetStanding([]byte(text)))
			time.Sleep((gossipRepeats + 1) * gossipRejoin)
			v.isolate("lb1", false)
			began := time.Now()
			v.eventually(2*gossipPushPull, "it is known", func() error {
				for _, name := range []string{"lb2", "w1"} {
					if s := v.nodes[name].Standings()["lb1"]; string(s.Data) != text {
						return fmt.Errorf("%s has %+v of lb1", name, s)
					}
				}
				return nil
			})
			if span := time.Since(began); span > 2*gossipRejoin {
				t.Errorf("round %d: it is known after %s", round, span)
			}
		}
		v.end()
	})
}

func TestHasteThatComesLate(t *testing.T) {
	atRest(t, func(v *virtual, leader *node, followers []*node) {
		const soon = 50 * time.Millisecond
		host, f := leader.host(), followers[0]
		longest := func(ask func() error) (longest time.Duration) {
			for range 20 {
				began := time.Now()
				if err := ask(); err != nil {
					t.Error(err)
				}
				longest = max(longest, time.Since(began))
				time.Sleep(v.draw(time.Second, 2*time.Second))
			}
			return longest
		}
		told := func() error {
			return host.trans.askPulse(f.Self(), repeat(host), &raft.AppendEntriesResponse{})
		}
		if span := longest(told); span < soon {
			t.Errorf("what was told already is told again after %s: this proves nothing", span)
		}
		host.last.Add(1) // an entry was written that the question does not know of
		if span := longest(told); span > soon {
			t.Errorf("there is something new, and the old is told after %s", span)
		}
		asked := 0
		if span := longest(func() error {
			_, err := leader.askPulse(context.Background(), f.Self(), &raft.AppendEntriesRequest{Term: host.raft.CurrentTerm()}, time.Second,
				func() bool { asked++; return true })
			return err
		}); span > soon || asked != 20 {
			t.Errorf("haste that comes while the question is sent: after %s, asked %d times", span, asked)
		}
	})
}

func TestAPulseIsRefusedWhereRaftDoesNotRun(t *testing.T) {
	atRest(t, func(v *virtual, leader *node, followers []*node) {
		f := followers[0]
		of := func(cluster string) (before string) {
			f.Cluster.mu.Lock()
			defer f.Cluster.mu.Unlock()
			m := f.meetings[leader.name]
			before, m.hello.ClusterID = m.hello.ClusterID, cluster
			return before
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		never := func() bool { return false }
		before := of("another")
		_, err := leader.askPulse(ctx, f.Self(), &raft.AppendEntriesRequest{}, 0, never)
		of(before)
		if !errors.Is(err, errPulseRefused) {
			t.Errorf("raft does not run for whoever asks: %v", err)
		}
		if _, err := leader.askPulse(ctx, "stranger/00000000", &raft.AppendEntriesRequest{}, 0, never); !errors.Is(err, ErrUnknownNode) {
			t.Errorf("nobody knows it: %v", err)
		}
		// A member of that node that is not there any more.
		if _, err := leader.askPulse(ctx, MemberID(f.name+"/00000000"), &raft.AppendEntriesRequest{}, 0, never); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it is gone: %v", err)
		}
	})
}

func TestAnswersOfPulses(t *testing.T) {
	var p pulses
	first, answer := p.add("lb2/1")
	second, lost := p.add("lb2/1")
	third, other := p.add("w1/1")
	p.answered("w1/1", pulse{ID: first})
	p.answered("lb2/1", pulse{ID: first + 100})
	p.answered("lb2/1", pulse{ID: first, Term: 7})
	p.answered("lb2/1", pulse{ID: first, Term: 8})
	p.lose("lb2")
	if a, came := <-answer; !came || a.Term != 7 {
		t.Errorf("%+v, %t", a, came)
	}
	if a, came := <-lost; came {
		t.Errorf("question %d: %+v", second, a)
	}
	p.drop(third)
	p.answered("w1/1", pulse{ID: third})
	select {
	case a := <-other:
		t.Errorf("it does not wait any more: %+v", a)
	default:
	}
	if len(p.open) != 0 {
		t.Errorf("open: %v", p.open)
	}
}

func FuzzPulse(f *testing.F) {
	f.Add(pulse{Kind: pulseQuestion, ID: 1, Term: 2, PrevLogEntry: 3, PrevLogTerm: 2, Commit: 3}.encode())
	f.Add(pulse{Kind: pulseAnswer, ID: 1, Term: 2, LastLog: 3, Success: true}.encode())
	f.Add(append(pulse{Kind: pulseRefusal, ID: 1}.encode(), 0))
	f.Add(pulse{Kind: pulseRefusal + 1}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePulse(b)
		if err != nil {
			return
		}
		if again, err := decodePulse(p.encode()); err != nil || again != p {
			t.Errorf("%+v becomes %+v, %v", p, again, err)
		}
		if len(b) != len(p.encode()) {
			t.Errorf("%d bytes are taken", len(b))
		}
	})
}
