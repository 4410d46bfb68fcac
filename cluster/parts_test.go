package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	content, err := GenerateKey()
	must(t, err)
	path := filepath.Join(t.TempDir(), "cluster.key")
	must(t, os.WriteFile(path, content, 0o600))
	key, err := ReadKey(path)
	must(t, err)
	if len(key) != KeySize {
		t.Errorf("%d bytes", len(key))
	}
	again, err := GenerateKey()
	must(t, err)
	if string(again) == string(content) {
		t.Error("two keys are the same")
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o610} {
		must(t, os.Chmod(path, mode))
		if _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), "0600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	must(t, os.Chmod(path, 0o400))
	if _, err := ReadKey(path); err != nil {
		t.Error(err)
	}
	if _, err := ReadKey(filepath.Dir(path)); err == nil {
		t.Error("a directory is taken for a key")
	}
	line := strings.TrimSpace(string(content[strings.LastIndex(string(content), keyPrefix):]))
	for name, bad := range map[string]string{
		"empty":     "",
		"comment":   "# nothing\n",
		"other":     "secret\n",
		"short":     keyPrefix + "AAAA\n",
		"no base64": keyPrefix + "!!!!\n",
		"two keys":  line + "\n" + line + "\n",
		"too long":  strings.Repeat("#\n", maxKeyFile),
	} {
		path := filepath.Join(t.TempDir(), "bad.key")
		must(t, os.WriteFile(path, []byte(bad), 0o600))
		_, err := ReadKey(path)
		if err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), line[len(keyPrefix):]) {
			t.Errorf("%s: the message shows the key", name)
		}
	}
}

func TestTimesFollowFromTheLease(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ lease, heartbeat, beat time.Duration }{
		{100 * time.Millisecond, 150 * time.Millisecond, 15 * time.Millisecond},
		{300 * time.Millisecond, 240 * time.Millisecond, 24 * time.Millisecond},
		{time.Second, 800 * time.Millisecond, 80 * time.Millisecond},
		{2500 * time.Millisecond, 2 * time.Second, 650 * time.Millisecond},
		{time.Minute, 2 * time.Second, 650 * time.Millisecond},
	} {
		got := timingFor(c.lease)
		if got.Heartbeat != c.heartbeat || got.Beat != c.beat || got.Lease <= max(2*got.Beat, got.Silence) || got.Lease >= got.Heartbeat ||
			got.Transport <= got.Heartbeat {
			t.Errorf("lease %s: %+v", c.lease, got)
		}
		member := &Cluster{timing: got}
		if err := raft.ValidateConfig(member.raftConfig()); err == nil || !strings.Contains(err.Error(), "LocalID") {
			t.Errorf("lease %s: %v", c.lease, err)
		}
	}
}

func TestRanksPutDirectorsFirstAndSkipTheDeadLeader(t *testing.T) {
	t.Parallel()
	peers := map[string]Peer{"lb1": {Name: "lb1"}, "lb2": {Name: "lb2"}, "w1": {Name: "w1", Witness: true}}
	for _, c := range []struct {
		self, gone string
		want       int
	}{
		{"lb1", "", 0}, {"lb2", "", 1}, {"w1", "", 2},
		{"lb2", "lb1", 0}, {"w1", "lb1", 1},
		{"lb1", "w1", 0}, {"lb2", "w1", 1},
	} {
		member := &Cluster{cfg: Config{Node: c.self, Self: peers[c.self]}, peers: map[string]Peer{}}
		for name, p := range peers {
			if name != c.self {
				member.peers[name] = p
			}
		}
		if got := member.rank(c.gone); got != c.want {
			t.Errorf("%s after the death of %q: rank %d, want %d", c.self, c.gone, got, c.want)
		}
	}
}

func TestALateReaderLosesTheOldestOfAKindAndIsTold(t *testing.T) {
	t.Parallel()
	b := newMailbox()
	for i := range waitingMessages + 10 {
		b.put(Message{Payload: fmt.Append(nil, i)})
	}
	b.put(Leadership{Term: 1})
	for i := range uint64(waitingApplied + 5) {
		b.put(Applied{Index: i})
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { b.run(ctx); close(done) }()
	first, ok := (<-b.out).(Message)
	if !ok || string(first.Payload) != "10" {
		t.Errorf("first: %+v", first)
	}
	for range waitingMessages - 1 {
		<-b.out
	}
	if e := <-b.out; e != (Leadership{Term: 1}) {
		t.Errorf("%+v", e)
	}
	if a := (<-b.out).(Applied); !a.Missed || a.Index != 5 {
		t.Errorf("%+v", a)
	}
	if a := (<-b.out).(Applied); a.Missed || a.Index != 6 {
		t.Errorf("%+v", a)
	}
	if b.droppedCount() != 15 {
		t.Errorf("%d dropped", b.droppedCount())
	}
	cancel()
	<-done
	if _, open := <-b.out; open {
		t.Error("the channel is open")
	}
}

func servers(ids ...string) raft.Configuration {
	var c raft.Configuration
	for _, id := range ids {
		s := raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(strings.TrimSuffix(id, "?"))}
		if strings.HasSuffix(id, "?") {
			s.Suffrage = raft.Nonvoter
		}
		s.Address = raft.ServerAddress(s.ID)
		c.Servers = append(c.Servers, s)
	}
	return c
}

func TestConfigurationsAreFollowedThroughAppendCommitAndTruncate(t *testing.T) {
	t.Parallel()
	var got []string
	c := &configurations{changed: func(v Voters) {
		got = append(got, fmt.Sprintf("%d%v %d%v", v.Committed.Index, v.Committed.Members, v.Latest.Index, v.Latest.Members))
	}}
	c.appended(1, servers("b/1", "a/1", "w/1"))
	c.commit(1, servers("b/1", "a/1", "w/1"))
	c.commit(1, servers("b/1", "a/1", "w/1"))
	c.appended(5, servers("a/1", "w/1"))
	c.truncated(5)
	c.truncated(9)
	c.appended(6, servers("a/1", "w/1", "b/2?"))
	c.commit(6, servers("a/1", "w/1", "b/2?"))
	c.commit(1, servers("b/1", "a/1", "w/1")) // replayed
	c.commit(20, servers("a/1", "w/1", "b/2"))
	want := []string{
		"0[] 1[a/1 b/1 w/1]",
		"1[a/1 b/1 w/1] 1[a/1 b/1 w/1]",
		"1[a/1 b/1 w/1] 5[a/1 w/1]",
		"1[a/1 b/1 w/1] 1[a/1 b/1 w/1]",
		"1[a/1 b/1 w/1] 6[a/1 w/1]",
		"6[a/1 w/1] 6[a/1 w/1]",
		"20[a/1 b/2 w/1] 20[a/1 b/2 w/1]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheNextChangeOfTheMembers(t *testing.T) {
	t.Parallel()
	now := time.Now()
	asks := func(member string, lastIndex uint64, ago time.Duration) map[string]join {
		id := MemberID(member)
		return map[string]join{id.Node(): {member: id, lastIndex: lastIndex, at: now.Add(-ago)}}
	}
	for _, c := range []struct {
		name     string
		servers  []string
		joins    map[string]join
		removals map[string]bool
		want     string
	}{
		{"nothing to do", []string{"a/1", "b/1", "w/1"}, nil, nil, ""},
		{"a node is back under a new id", []string{"a/1", "b/1", "w/1"}, asks("b/2", 0, 0), nil, "votes: b/1"},
		{"its request is old", []string{"a/1", "b/1", "w/1"}, asks("b/2", 0, joinForgets), nil, ""},
		{"the old id is out", []string{"a/1", "w/1"}, asks("b/2", 0, 0), nil, "b/2"},
		{"it is behind", []string{"a/1", "w/1", "b/2?"}, asks("b/2", 10, 0), nil, ""},
		{"it has caught up", []string{"a/1", "w/1", "b/2?"}, asks("b/2", 990, 0), nil, "votes: b/2"},
		{"it had caught up a while ago", []string{"a/1", "w/1", "b/2?"}, asks("b/2", 990, rejoinWindow), nil, ""},
		{"it lost its data once more", []string{"a/1", "w/1", "b/2?"}, asks("b/3", 0, 0), nil, "b/2"},
		{"a voter asks although it is one", []string{"a/1", "b/1", "w/1"}, asks("b/1", 5, 0), nil, ""},
		{"an operator removes one", []string{"a/1", "b/1", "w/1"}, nil, map[string]bool{"b": true}, "votes: b/1"},
	} {
		committed := configuration{7, servers(c.servers...).Servers}
		got := ""
		if step := nextChange(committed, c.joins, c.removals, 1000, now); step != nil {
			got = string(step.server.ID)
			if step.votes {
				got = "votes: " + got
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestListsOfPeersAreTold(t *testing.T) {
	t.Parallel()
	a := Peer{Name: "a", Address: netip.MustParseAddr("10.0.0.1")}
	b := Peer{Name: "b", Address: netip.MustParseAddr("10.0.0.2"), Witness: true}
	same := digestOf([]Peer{a, b})
	if digestOf([]Peer{b, a}) != same {
		t.Error("the order matters")
	}
	for _, change := range []func(*Peer){
		func(p *Peer) { p.Name = "c" },
		func(p *Peer) { p.Address = p.Address.Next() },
		func(p *Peer) { p.Witness = false },
	} {
		other := b
		change(&other)
		if digestOf([]Peer{a, other}) == same {
			t.Errorf("%+v is the same as %+v", other, b)
		}
	}
}

// tcpStream is a raft.StreamLayer on a plain socket.
type tcpStream struct{ net.Listener }

func (tcpStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

// Heartbeats must go through raft's main loop: its fast path beside it breaks what raft promises (hashicorp/raft 695).
func TestHeartbeatsGoThroughRaftsMainLoop(t *testing.T) {
	t.Parallel()
	network := func() *raft.NetworkTransport {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		n := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: tcpStream{l}, MaxRPCsInFlight: 1,
			Timeout: 5 * time.Second, Logger: hclog.NewNullLogger()})
		t.Cleanup(func() {
			_ = n.Close()
			n.CloseStreams()
		})
		return n
	}
	host := &raftHost{timing: timingFor(lease), running: make(chan struct{})}
	host.ctx, host.cancel = context.WithCancel(context.Background())
	defer host.work.Wait()
	defer host.cancel()
	trans := newRaftTransport(network(), host)
	trans.SetHeartbeatHandler(func(rpc raft.RPC) {
		t.Error("the fast path was taken")
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	})
	if _, err := trans.AppendEntriesPipeline("", ""); err != raft.ErrPipelineReplicationNotSupported {
		t.Errorf("pipelining: %v", err)
	}
	go func() {
		rpc := <-trans.Consumer() // raft's main loop reads here
		rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
	}()
	var answer raft.AppendEntriesResponse
	heartbeat := &raft.AppendEntriesRequest{Term: 1, RPCHeader: raft.RPCHeader{Addr: []byte("a")}}
	must(t, network().AppendEntries("a", trans.LocalAddr(), heartbeat, &answer))
	if !answer.Success {
		t.Errorf("%+v", answer)
	}
}
