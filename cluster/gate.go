package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/cluster/store"
	"github.com/hactl/had/cluster/transport"
)

// gate decides which connections are accepted. It is a Cluster seen from its transport.
type gate Cluster

// Self implements transport.Gate.
func (g *gate) Self() transport.Hello {
	c := (*Cluster)(g)
	c.mu.Lock()
	defer c.mu.Unlock()
	return transport.Hello{
		Cluster: c.cfg.Name, ClusterID: c.clusterID, Member: string(c.self), Run: c.dir.Record().Run, Life: c.cfg.Life,
		Version: c.cfg.Version, Lease: int64(c.cfg.Lease), Peers: c.digest,
	}
}

// Admit implements transport.Gate.
func (g *gate) Admit(node string, address netip.Addr, hello transport.Hello, incoming bool) *transport.Refusal {
	c := (*Cluster)(g)
	refuse := func(code transport.Code, format string, args ...any) *transport.Refusal {
		return &transport.Refusal{Code: code, Node: node, Address: address, Incoming: incoming,
			Reason: fmt.Sprintf(format, args...)}
	}
	member := MemberID(hello.Member)
	if hello.Cluster != c.cfg.Name {
		return refuse(transport.CodeCluster, "it belongs to the cluster %q, and this is %q", hello.Cluster, c.cfg.Name)
	}
	if member.Node() != node {
		return refuse(transport.CodeName, "its certificate is for node %q, and it calls itself %q", node, hello.Member)
	}
	if node == c.cfg.Node {
		return refuse(transport.CodeName, "node name %q is used twice: here, and at %s", node, address)
	}
	peer, configured := c.peers[node]
	if !configured {
		return refuse(transport.CodeName, "no peer %q is configured here", node)
	}
	if address != peer.Address.Unmap() {
		return refuse(transport.CodeAddress, "node name %q is used at %s, and is configured here at %s: used twice, or moved?",
			node, address, peer.Address)
	}
	c.mu.Lock()
	ours, removed := c.clusterID, c.removed
	old := c.meetings[node].hello
	c.mu.Unlock()
	if ours != "" && hello.ClusterID != ours && c.superseded(hello.ClusterID) {
		return refuse(transport.CodeSuperseded, "it belongs to %s, which goes on as %s: it was declared dead, or left behind, when another "+
			"member was made the only voter", hello.ClusterID, ours)
	}
	if ours != "" && hello.ClusterID != "" && hello.ClusterID != ours {
		return refuse(transport.CodeCluster, "it belongs to another cluster of the name %q (%s, and this is %s)",
			c.cfg.Name, hello.ClusterID, ours)
	}
	if reason := c.rolledBack(member, hello, old); reason != "" {
		return refuse(transport.CodeRolledBack, "%s", reason)
	}
	select {
	case c.notes <- noteRun{member, hello.Run}:
	default:
	}
	if hello.Kind != transport.KindRaft || !incoming {
		return nil
	}
	switch {
	case removed != "":
		return refuse(transport.CodeMember, "this member was removed from the cluster: %s", removed)
	case hello.To != string(c.self):
		return refuse(transport.CodeMember, "it wants member %s, and this is %s", hello.To, c.self)
	case hello.ClusterID == "":
		return refuse(transport.CodeCluster, "it has no cluster yet")
	case ours == "":
		// Somebody has this very member in a raft configuration: founding got as far as that.
		c.adopt(hello.ClusterID)
		return refuse(transport.CodeNotReady, "this member is about to start raft")
	case c.host() == nil:
		return refuse(transport.CodeNotReady, "raft does not run here yet")
	}
	return nil
}

// rolledBack says why a member cannot be the one that was known: its directory was started less often than is known of
// it, or as often in another life.
func (c *Cluster) rolledBack(member MemberID, hello, old transport.Hello) string {
	seen := c.dir.Record().Seen
	i := slices.IndexFunc(seen, func(s store.SeenRun) bool { return s.Member == member })
	known := uint64(0)
	if i >= 0 {
		known = seen[i].Run
	}
	if old.Member == hello.Member {
		known = max(known, old.Run)
	}
	again := old.Member == hello.Member && old.Run == hello.Run && old.Life != hello.Life
	if hello.Run < known || again {
		return fmt.Sprintf("its data directory was put back from a copy: this is start %d of it, and start %d was seen before",
			hello.Run, known)
	}
	return ""
}

// refusalsKept is how many refusals the status shows.
const refusalsKept = 16

// Refused implements transport.Gate.
func (g *gate) Refused(r *transport.Refusal) {
	c := (*Cluster)(g)
	if r.Code == transport.CodeNotReady {
		return
	}
	node := r.Node
	if node == "" {
		// It did not get to say who it is: the address may tell.
		for _, p := range c.peers {
			if p.Address.Unmap() == r.Address {
				node = p.Name
			}
		}
	}
	reason := r.Reason
	if r.Theirs {
		reason = "the other side refuses: " + reason
	}
	c.note(Refusal{Node: node, Address: r.Address.String(), Reason: reason, Count: 1, Last: time.Now()})
	if ok, suppressed := c.limit.allow(strings.Join([]string{"refused", node, r.Address.String(), reason}, "\x00")); ok {
		c.log.Warn("connection refused", "node", node, "address", r.Address.String(), "incoming", r.Incoming,
			"reason", reason, "suppressed", suppressed)
	}
	if r.Theirs && (r.Code == transport.CodeRolledBack || r.Code == transport.CodeSuperseded) {
		c.condemn(fmt.Sprintf("%s says: %s", node, r.Reason))
	}
}

func (c *Cluster) note(r Refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.refusals, func(old Refusal) bool {
		return old.Node == r.Node && old.Address == r.Address && old.Reason == r.Reason
	})
	if i >= 0 {
		r.Count += c.refusals[i].Count
		c.refusals = slices.Delete(c.refusals, i, i+1)
	}
	c.refusals = slices.Insert(c.refusals, 0, r)
	if len(c.refusals) > refusalsKept {
		c.refusals = c.refusals[:refusalsKept]
	}
}
