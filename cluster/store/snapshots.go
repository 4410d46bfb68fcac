package store

import (
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// snapshotsKept is how many snapshots raft keeps: the newest, and one in case it cannot be read.
const snapshotsKept = 2

// installLimit is how often in a row a snapshot of the same index may arrive before the member's log is given up: a
// follower whose log ends in entries that were never committed can be sent the same snapshot for ever
// (raft#697).
const installLimit = 3

// Snapshots is raft's SnapshotStore.
type Snapshots struct {
	raft.SnapshotStore
	hooks SnapshotHooks

	mu        sync.Mutex
	lastIndex uint64
	repeats   int
}

// SnapshotHooks are called from raft's goroutines and must not block.
type SnapshotHooks struct {
	Configuration func(index uint64, c raft.Configuration) // of a snapshot that is complete on disk, thus committed
	Looping       func(error)                              // installing the same snapshot does not get this member on
}

// OpenSnapshots opens the directory of snapshots.
func (d *Directory) OpenSnapshots(hooks SnapshotHooks, logger hclog.Logger) (*Snapshots, error) {
	files, err := d.snapshotFiles(logger)
	if err != nil {
		return nil, err
	}
	s := &Snapshots{SnapshotStore: files, hooks: hooks}
	metas, err := files.List()
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	if len(metas) > 0 {
		hooks.Configuration(metas[0].ConfigurationIndex, metas[0].Configuration)
	}
	return s, nil
}

// snapshotFiles opens the directory of snapshots as raft has it.
func (d *Directory) snapshotFiles(logger hclog.Logger) (*raft.FileSnapshotStore, error) {
	files, err := raft.NewFileSnapshotStoreWithLogger(d.dir, snapshotsKept, logger)
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	return files, nil
}

// Create implements raft.SnapshotStore.
func (s *Snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	if index == s.lastIndex {
		s.repeats++
	} else {
		s.lastIndex, s.repeats = index, 1
	}
	looping := s.repeats >= installLimit
	s.mu.Unlock()
	if looping {
		err := fmt.Errorf("the snapshot of entry %d arrived %d times in a row", index, installLimit)
		s.hooks.Looping(err)
		return nil, err
	}
	sink, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	return &snapshotSink{SnapshotSink: sink, done: func() { s.hooks.Configuration(configurationIndex, configuration) }}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	done func()
}

func (s *snapshotSink) Close() error {
	err := s.SnapshotSink.Close()
	if err == nil {
		s.done()
	}
	return err
}
