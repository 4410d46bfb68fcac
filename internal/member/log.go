package member

import (
	"github.com/hactl/had/cluster"
	"github.com/hactl/had/fsm"
)

// LogState is what the lease protocol reads of the state that this member has applied. It satisfies lease.Log and director.Log.
type LogState struct{ Cluster *cluster.Cluster }

// Epoch is part of lease.Log.
func (l LogState) Epoch(group string) (epoch uint64) {
	l.Cluster.Read(func(s *fsm.State) { epoch = s.Epoch(group) })
	return epoch
}

// Released is part of lease.Log.
func (l LogState) Released(group string) (epoch uint64) {
	l.Cluster.Read(func(s *fsm.State) { epoch = s.Released(group) })
	return epoch
}

// ReleasedBy is part of lease.Log.
func (l LogState) ReleasedBy(group string) (member fsm.Member, life, epoch uint64) {
	l.Cluster.Read(func(s *fsm.State) { member, life, epoch = s.ReleasedBy(group) })
	return member, life, epoch
}

// Grant is part of lease.Log.
func (l LogState) Grant(group string) (grant fsm.Grant, ok bool) {
	l.Cluster.Read(func(s *fsm.State) { grant, ok = s.Grant(group) })
	return grant, ok
}

// Placed is part of lease.Log.
func (l LogState) Placed(group string) (placed bool) {
	l.Cluster.Read(func(s *fsm.State) { placed = s.Placed(group) })
	return placed
}

// Fence is part of director.Log.
func (l LogState) Fence(node string) (record fsm.FenceRecord, ok bool) {
	l.Cluster.Read(func(s *fsm.State) { record, ok = s.Fence(node) })
	return record, ok
}

// Held is part of director.Log.
func (l LogState) Held(node string) (all []fsm.Proof) {
	l.Cluster.Read(func(s *fsm.State) { all = s.Held(node) })
	return all
}

// InMaintenance is part of lease.Log.
func (l LogState) InMaintenance(node string) (marked bool) {
	l.Cluster.Read(func(s *fsm.State) { marked = s.InMaintenance(node) })
	return marked
}
