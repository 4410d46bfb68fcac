package cluster

import (
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// configurations follows the raft configurations that this member has in its log: the newest, and the newest committed.
// Raft itself tells neither the index of the newest nor when one is committed; its stores and its FSM are told.
type configurations struct {
	changed func(Voters)

	mu    sync.Mutex
	known []configuration // ascending; the first is the newest that is committed, once there is one
	// committed is the index up to which configurations are known to be committed.
	committed uint64
	reported  Voters
}

type configuration struct {
	index   uint64
	servers []raft.Server
}

func (c configuration) voters() VoterSet {
	v := VoterSet{Index: c.index}
	for _, s := range c.servers {
		if s.Suffrage == raft.Voter {
			v.Members = append(v.Members, MemberID(s.ID))
		}
	}
	slices.Sort(v.Members)
	return v
}

func (c configuration) has(id MemberID) (server raft.Server, ok bool) {
	i := slices.IndexFunc(c.servers, func(s raft.Server) bool { return s.ID == raft.ServerID(id) })
	if i < 0 {
		return raft.Server{}, false
	}
	return c.servers[i], true
}

// appended notes a configuration entry of the log.
func (c *configurations) appended(index uint64, conf raft.Configuration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetFrom(index)
	c.known = append(c.known, configuration{index, conf.Clone().Servers})
	c.report()
}

// truncated notes that the entries from index on are gone.
func (c *configurations) truncated(index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetFrom(index)
	c.report()
}

func (c *configurations) forgetFrom(index uint64) {
	c.known = slices.DeleteFunc(c.known, func(k configuration) bool { return k.index >= index })
}

// commit notes that a configuration is committed.
func (c *configurations) commit(index uint64, conf raft.Configuration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index < c.committed {
		return // replayed after a restart of raft
	}
	c.committed = index
	c.known = slices.DeleteFunc(c.known, func(k configuration) bool { return k.index <= index })
	c.known = slices.Insert(c.known, 0, configuration{index, conf.Clone().Servers})
	c.report()
}

// state returns the newest committed configuration and the newest in the log. The caller holds mu.
func (c *configurations) state() (committed, latest configuration) {
	if len(c.known) == 0 {
		return
	}
	latest = c.known[len(c.known)-1]
	if c.known[0].index <= c.committed {
		committed = c.known[0]
	}
	return committed, latest
}

func (c *configurations) report() {
	committed, latest := c.state()
	now := Voters{Committed: committed.voters(), Latest: latest.voters()}
	if now.Committed.Equal(c.reported.Committed) && now.Latest.Equal(c.reported.Latest) {
		return
	}
	c.reported = now
	c.changed(now)
}

func (c *configurations) get() (committed, latest configuration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state()
}

func (c *configurations) voters() Voters {
	committed, latest := c.get()
	return Voters{Committed: committed.voters(), Latest: latest.voters()}
}
