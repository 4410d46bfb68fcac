package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// snapshotFormat numbers the form of snapshots. A program refuses one that it does not know.
const snapshotFormat = 1

// ErrSnapshot is wrapped by every error about a snapshot that cannot be restored.
var ErrSnapshot = errors.New("not a valid snapshot")

// snapshot is the whole State with everything in a fixed order.
type snapshot struct {
	Format      int               `json:"format"`
	Applied     uint64            `json:"applied"`
	ClusterID   string            `json:"cluster_id,omitempty"`
	Former      []string          `json:"former,omitempty"`
	Forced      *Forced           `json:"forced,omitempty"`
	Groups      []Group           `json:"groups"`
	Maintenance []Mark            `json:"maintenance"`
	Fences      []FenceRecord     `json:"fences,omitempty"`
	LVS         *balancerSnapshot `json:"lvs,omitempty"`
	Journal     []Event           `json:"journal"`
	Requests    []request         `json:"requests"`
	Digest      uint64            `json:"digest"`
	Hash        uint64            `json:"hash"`
}

// Snapshot returns the whole state as bytes: JSON, the same bytes for the same state.
func (s *State) Snapshot() []byte {
	b, err := json.Marshal(snapshot{
		Format: snapshotFormat, Applied: s.applied, ClusterID: s.clusterID, Former: s.former, Forced: s.forced, Groups: s.Groups(),
		Maintenance: s.Maintenances(), Fences: s.Fences(), LVS: s.snapshotBalancer(), Journal: s.journal.all(), Requests: s.requests.all(), Digest: s.digest,
		Hash: s.Hash(),
	})
	if err != nil {
		panic(fmt.Sprintf("fsm: plain data cannot be encoded: %v", err))
	}
	return b
}

// Restore returns the state that Snapshot wrote. Errors wrap ErrSnapshot.
func Restore(b []byte) (*State, error) {
	var snap snapshot
	if err := decodeStrictly(b, &snap); err != nil {
		return nil, fmt.Errorf("restore snapshot: %w: %w", ErrSnapshot, err)
	}
	complain := func(format string, args ...any) error {
		return fmt.Errorf("restore snapshot: %w: "+format, append([]any{ErrSnapshot}, args...)...)
	}
	switch {
	case snap.Format != snapshotFormat:
		return nil, complain("format %d, and this program knows %d", snap.Format, snapshotFormat)
	case len(snap.Journal) > JournalSize:
		return nil, complain("%d events, more than %d", len(snap.Journal), JournalSize)
	case len(snap.Requests) > RequestsKept:
		return nil, complain("%d requests, more than %d", len(snap.Requests), RequestsKept)
	}
	s := New()
	s.applied, s.clusterID, s.digest = snap.Applied, snap.ClusterID, snap.Digest
	s.former, s.forced = snap.Former, snap.Forced
	for _, g := range snap.Groups {
		if g.Name != g.Grant.Group {
			return nil, complain("group %q has a grant of group %q", g.Name, g.Grant.Group)
		}
		s.groups[g.Name] = &g
	}
	for _, m := range snap.Maintenance {
		s.maintenance[m.Node] = m
	}
	for _, f := range snap.Fences {
		s.fences[f.Node] = f
	}
	s.restoreBalancer(snap.LVS)
	for _, e := range snap.Journal {
		s.journal.add(e)
	}
	for _, r := range snap.Requests {
		s.requests.add(r)
		s.results[r.ID] = r.Result
	}
	if hash := s.Hash(); hash != snap.Hash {
		return nil, complain("its hash is %016x and says %016x", hash, snap.Hash)
	}
	if !bytes.Equal(b, s.Snapshot()) {
		return nil, complain("not in the form in which snapshots are written")
	}
	return s, nil
}
