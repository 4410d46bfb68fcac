package cluster

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/fsm"
)

// maxSnapshot bounds what is read of a snapshot.
const maxSnapshot = 64 << 20

// replica is this member's copy of the replicated state: raft's FSM. One is made for each raft object, because raft
// applies its log from the beginning.
//
// Raft calls Apply, StoreConfiguration, Restore and Snapshot from one goroutine; read may be called from any.
type replica struct {
	applied   func(Applied)
	committed func(index uint64, c raft.Configuration)
	fatal     func(error)

	mu     sync.RWMutex
	state  *fsm.State
	failed error
}

var _ raft.ConfigurationStore = (*replica)(nil)

func newReplica(applied func(Applied), committed func(uint64, raft.Configuration), fatal func(error)) *replica {
	return &replica{applied: applied, committed: committed, fatal: fatal, state: fsm.New()}
}

func (r *replica) read(f func(*fsm.State)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	f(r.state)
}

// Apply implements raft.FSM. What it returns comes out of the future of raft.Apply: an fsm.Result, or an error. An entry
// that this program does not understand ends the node: it cannot know what the others make of it.
func (r *replica) Apply(entry *raft.Log) any {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil {
		return r.failed
	}
	cmd, err := fsm.DecodeCommand(entry.Data)
	var result fsm.Result
	if err == nil {
		result, err = r.state.Apply(entry.Index, cmd)
	}
	if err != nil {
		r.failed = fmt.Errorf("log entry %d: %w", entry.Index, err)
		r.fatal(r.failed)
		return r.failed
	}
	r.applied(Applied{Index: entry.Index, Cmd: cmd, Result: result})
	return result
}

// StoreConfiguration implements raft.ConfigurationStore: the configuration is committed.
func (r *replica) StoreConfiguration(index uint64, c raft.Configuration) { r.committed(index, c) }

// Snapshot implements raft.FSM.
func (r *replica) Snapshot() (raft.FSMSnapshot, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.failed != nil {
		return nil, r.failed
	}
	return snapshot(r.state.Snapshot()), nil
}

// Restore implements raft.FSM.
func (r *replica) Restore(source io.ReadCloser) error {
	b, err := io.ReadAll(io.LimitReader(source, maxSnapshot+1))
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	if len(b) > maxSnapshot {
		return errors.New("read snapshot: too long")
	}
	state, err := fsm.Restore(b)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = state
	r.applied(Applied{Index: state.Applied(), Restored: true})
	return nil
}

// snapshot is an encoded state.
type snapshot []byte

// Persist implements raft.FSMSnapshot.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s snapshot) Release() {}
