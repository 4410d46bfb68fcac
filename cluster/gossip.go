package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/hactl/had/cluster/transport"
)

// Gossip's times. Nothing is decided by it, so they are gentle: each of them wakes all members. A standing that has changed
// does not wait for them, nor does the word of a member that leaves, and a peer that answers again is told what it may have missed. A
// member that is missing is invited again and again, because memberlist never heals a partition by itself.
const (
	gossipProbe      = 15 * time.Second
	gossipSuspicion  = 2 // times gossipProbe: a member that does not answer is suspected for that long
	gossipInterval   = gossipProbe
	gossipTransmits  = 2 // of each rumour; with three members that is once to everybody
	gossipPushPull   = time.Minute
	gossipRejoin     = 3 * time.Second
	gossipTCPTimeout = 2 * time.Second
	gossipLeave      = 500 * time.Millisecond
	gossipReclaim    = 10 * time.Second
	// gossipRepeats is how often a standing is said again, every gossipRejoin: packets get lost.
	gossipRepeats = 3
	// gossipPacket is the largest standing that is spread in a packet of its own; a larger one takes a connection.
	gossipPacket = 900
	// maxGossipState bounds what is read of another member's state.
	maxGossipState = 1 << 20
)

// gossipSeams are where tests reach in.
type gossipSeams struct {
	rejoin time.Duration
	probe  time.Duration
	open   func(*slog.Logger, netip.AddrPort) (memberlist.NodeAwareTransport, error) // in place of openDoor
}

// gossip is this member's part in memberlist. Its callbacks run in memberlist's packet loop and never block.
type gossip struct {
	c      *Cluster
	log    *slog.Logger
	list   *memberlist.Memberlist
	opened chan struct{} // closed when list is set
	news   chan struct{} // this member's standing has changed, or somebody may not know it
	gone   chan struct{} // a member has gone, and is to be invited

	ending sync.Mutex // held while this member leaves and while gossip ends

	mu        sync.Mutex
	mine      standing
	standings map[string]received // of others, by node
	left      bool
}

// standing is what a member says of itself. Of one member the newest is the one with the larger run, then with the larger serial.
type standing struct {
	Node   string
	Member MemberID
	Run    uint64
	Serial uint64
	Data   []byte
}

// newer compares two standings of one node. Runs are those of a data directory: a node that comes back without it begins anew, as
// another member, and has fewer of them. Then the one that was met counts.
func (s standing) newer(t standing, met MemberID) bool {
	switch {
	case s.Member == t.Member:
		return s.Run > t.Run || s.Run == t.Run && s.Serial > t.Serial
	case met == s.Member || met == t.Member:
		return met == s.Member
	}
	return s.Run >= t.Run
}

type received struct {
	standing
	at time.Time
}

func openGossip(c *Cluster) (*gossip, error) {
	g := &gossip{c: c, log: c.log, standings: map[string]received{}, opened: make(chan struct{}), news: make(chan struct{}, 1),
		gone: make(chan struct{}, 1)}
	g.mine = standing{Node: c.cfg.Node, Member: c.self, Run: c.dir.Record().Run}
	key, err := transport.DeriveKey(c.cfg.Key, "gossip", 32)
	if err != nil {
		return nil, err
	}
	address := netip.AddrPortFrom(c.cfg.Self.Address, uint16(c.cfg.Port+1))
	open := openDoor
	if seam := c.cfg.seams.gossip.open; seam != nil {
		open = seam
	}
	door, err := open(c.log, address)
	if err != nil {
		return nil, &ListenError{Purpose: "gossip", Network: "tcp and udp", Address: address, Err: err}
	}
	config := memberlist.DefaultLANConfig()
	config.Name = c.cfg.Node
	config.Transport = door
	config.Label = c.cfg.Name
	config.BindAddr, config.BindPort = address.Addr().String(), int(address.Port())
	config.AdvertiseAddr, config.AdvertisePort = config.BindAddr, config.BindPort
	config.SecretKey = key
	config.Delegate, config.Events = g, g
	config.Logger = newLibraryLog(c.log, "memberlist").StandardLogger(nil)
	config.ProbeInterval, config.ProbeTimeout = gossipProbe, gossipProbe/2
	if d := c.cfg.seams.gossip.probe; d > 0 {
		config.ProbeInterval, config.ProbeTimeout = d, d/2
	}
	config.SuspicionMult = gossipSuspicion
	config.RetransmitMult = gossipTransmits
	config.PushPullInterval = gossipPushPull
	config.GossipInterval = gossipInterval
	config.EnableCompression = false
	config.TCPTimeout = gossipTCPTimeout
	config.DeadNodeReclaimTime = gossipReclaim
	config.RequireNodeNames = true
	config.HandoffQueueDepth = 256
	for _, p := range c.cfg.Peers {
		a := p.Address.Unmap()
		config.CIDRsAllowed = append(config.CIDRsAllowed, net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())})
	}
	if g.list, err = memberlist.Create(config); err != nil {
		return nil, errors.Join(fmt.Errorf("start gossip: %w", err), door.Shutdown())
	}
	close(g.opened)
	return g, nil
}

// openDoor opens the sockets of gossip.
func openDoor(log *slog.Logger, address netip.AddrPort) (memberlist.NodeAwareTransport, error) {
	return memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{address.Addr().String()}, BindPort: int(address.Port()),
		Logger: newLibraryLog(log, "memberlist").StandardLogger(nil),
	})
}

// run tells everybody this member's standing when it has changed, and invites whoever is missing, until ctx ends.
func (g *gossip) run(ctx context.Context) {
	every := gossipRejoin
	if d := g.c.cfg.seams.gossip.rejoin; d > 0 {
		every = d
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	repeats := 0
	for {
		g.mu.Lock()
		left, mine := g.left, g.mine
		g.mu.Unlock()
		if left {
			return
		}
		if repeats > 0 {
			repeats--
			if mine.Serial > 0 {
				g.tell(mine)
			}
		}
		missing := g.missing()
		if len(missing) > 0 {
			if _, err := g.list.Join(missing); err != nil {
				g.log.Debug("gossip does not reach everybody", "missing", fmt.Sprint(missing), "err", err)
			}
		}
		timer.Reset(gossipPushPull)
		if repeats > 0 || len(missing) > 0 {
			timer.Reset(every)
		}
		select {
		case <-ctx.Done():
			return
		case <-g.news:
			repeats = 1 + gossipRepeats
		case <-g.gone:
		case <-timer.C:
		}
	}
}

// missing returns the addresses of the configured peers that are not alive. Dead members are not talked to by
// memberlist, so they would stay dead.
func (g *gossip) missing() []string {
	alive := map[string]bool{}
	for _, n := range g.list.Members() {
		alive[n.Name] = true
	}
	var missing []string
	for _, name := range g.c.names {
		if !alive[name] {
			address := netip.AddrPortFrom(g.c.peers[name].Address, uint16(g.c.cfg.Port+1))
			missing = append(missing, name+"/"+address.String())
		}
	}
	return missing
}

// state is how gossip sees a node.
func (g *gossip) state(node string) string {
	for _, n := range g.list.Members() {
		if n.Name != node {
			continue
		}
		switch n.State {
		case memberlist.StateAlive:
			return "alive"
		case memberlist.StateSuspect:
			return "suspect"
		}
	}
	return "missing"
}

func (g *gossip) setStanding(b []byte) {
	g.mu.Lock()
	g.mine.Serial++
	g.mine.Data = slices.Clone(b)
	node := g.mine.Node
	g.mu.Unlock()
	g.again()
	g.c.box.put(Stands{Node: node})
}

// again has this member say what it says of itself.
func (g *gossip) again() {
	nudge(g.news)
}

// others returns the members that are alive, except this one and another one.
func (g *gossip) others(but string) []*memberlist.Node {
	return slices.DeleteFunc(g.list.Members(), func(n *memberlist.Node) bool { return n.Name == g.c.cfg.Node || n.Name == but })
}

// tell sends a standing to all that are alive, except to whom it is of: in packets, or over a connection each if it is large. That may
// wait for one that does not answer.
func (g *gossip) tell(s standing) {
	b, err := json.Marshal(s)
	if err != nil {
		g.log.Error("standing cannot be encoded", "err", err)
		return
	}
	send := g.list.SendBestEffort
	if len(s.Data) > gossipPacket {
		send = g.list.SendReliable
	}
	for _, n := range g.others(s.Node) {
		if err := send(n, b); err != nil {
			g.log.Debug("standing not sent", "peer", n.Name, "err", err)
		}
	}
}

func (g *gossip) all() map[string]Standing {
	absent := map[string]bool{}
	g.c.mu.Lock()
	for name, m := range g.c.meetings {
		absent[name] = !m.up
	}
	g.c.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	all := map[string]Standing{}
	if g.mine.Serial > 0 {
		all[g.mine.Node] = Standing{Member: g.mine.Member, Data: slices.Clone(g.mine.Data)}
	}
	for node, r := range g.standings {
		all[node] = Standing{Member: r.Member, Data: slices.Clone(r.Data), Age: time.Since(r.at), Absent: absent[node]}
	}
	return all
}

// take notes what another member says of itself, and tells whether it is news.
func (g *gossip) take(s standing) bool {
	if _, configured := g.c.peers[s.Node]; !configured || s.Member.Node() != s.Node || len(s.Data) > MaxStanding {
		return false
	}
	g.c.mu.Lock()
	met := MemberID("")
	if m := g.c.meetings[s.Node]; m != nil {
		met = MemberID(m.hello.Member)
	}
	g.c.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	old, known := g.standings[s.Node]
	if known && !s.newer(old.standing, met) {
		return false
	}
	g.standings[s.Node] = received{s, time.Now()}
	g.c.box.put(Stands{Node: s.Node})
	return true
}

// answers asks a peer, over UDP, whether it is there. It takes as long as a probe.
func (g *gossip) answers(p Peer) bool {
	_, err := g.list.Ping(p.Name, &net.UDPAddr{IP: p.Address.AsSlice(), Port: g.c.cfg.Port + 1})
	return err == nil
}

// leave tells the others that this member goes on purpose, unless gossip has ended: memberlist does not take that. It would say so
// with its next rumours; a ping takes them along at once.
func (g *gossip) leave() {
	g.ending.Lock()
	defer g.ending.Unlock()
	if g.goes() {
		return
	}
	if err := g.list.Leave(time.Nanosecond); err != nil {
		g.log.Debug("gossip is being left", "err", err)
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		var asked sync.WaitGroup
		for _, n := range g.others(g.c.cfg.Node) {
			asked.Go(func() { g.answers(g.c.peers[n.Name]) })
		}
		asked.Wait()
	}()
	select {
	case <-told:
	case <-time.After(gossipLeave):
		g.log.Debug("gossip was left without everybody knowing")
	}
}

// goes notes that this member leaves, and tells whether it did before.
func (g *gossip) goes() (before bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before, g.left = g.left, true
	return before
}

func (g *gossip) close() {
	g.ending.Lock()
	defer g.ending.Unlock()
	g.goes()
	if err := g.list.Shutdown(); err != nil {
		g.log.Debug("gossip ended", "err", err)
	}
}

// NodeMeta implements memberlist.Delegate.
func (g *gossip) NodeMeta(limit int) []byte {
	return []byte(g.c.self)[:min(limit, len(g.c.self))]
}

// NotifyMsg implements memberlist.Delegate.
func (g *gossip) NotifyMsg(b []byte) {
	var s standing
	if json.Unmarshal(b, &s) != nil || !g.take(s) || len(s.Data) > gossipPacket {
		return
	}
	select {
	case <-g.opened:
		g.tell(s) // it may not reach everybody itself
	default:
	}
}

// GetBroadcasts implements memberlist.Delegate.
func (g *gossip) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (g *gossip) LocalState(bool) []byte {
	g.mu.Lock()
	var all []standing
	if g.mine.Serial > 0 {
		all = append(all, g.mine)
	}
	for _, r := range g.standings {
		all = append(all, r.standing)
	}
	g.mu.Unlock()
	b, err := json.Marshal(all)
	if err != nil {
		g.log.Error("standings cannot be encoded", "err", err)
		return nil
	}
	return b
}

// MergeRemoteState implements memberlist.Delegate.
func (g *gossip) MergeRemoteState(b []byte, _ bool) {
	var all []standing
	if len(b) > maxGossipState || json.Unmarshal(b, &all) != nil {
		return
	}
	for _, s := range all {
		g.take(s)
	}
}

// NotifyJoin implements memberlist.EventDelegate.
func (g *gossip) NotifyJoin(n *memberlist.Node) {
	g.log.Debug("gossip: member is there", "peer", n.Name, "address", n.Address())
}

// NotifyLeave implements memberlist.EventDelegate.
func (g *gossip) NotifyLeave(n *memberlist.Node) {
	g.log.Debug("gossip: member is gone", "peer", n.Name, "address", n.Address())
	nudge(g.gone)
}

// NotifyUpdate implements memberlist.EventDelegate.
func (g *gossip) NotifyUpdate(*memberlist.Node) {}
