package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// keyRun counts the openings of raft.db, so that one that was put back from a copy is recognised.
var keyRun = []byte("had-run")

// Raft writes a vote as two values, one after the other, and grants it after both. They are stored as one, so that a vote
// costs one write: an election waits for all of them in turn.
var (
	keyVoteTerm      = "LastVoteTerm"
	keyVoteCandidate = "LastVoteCand"
	keyVote          = []byte("had-vote") // term, then candidate
)

// keyProbe is overwritten to find out whether the disk works again.
var keyProbe = []byte("had-probe")

// errDamaged says that a value does not match its checksum.
var errDamaged = errors.New("checksum does not match")

// Log is raft's LogStore and StableStore on raft.db.
//
// Its rules for failures: appending and truncating return errors, upon which raft gives up leadership or tries again.
// Setting the term or a vote never returns an error, because raft would panic: it is tried again until it succeeds.
// Reading a damaged entry, which raft would answer with a panic too, calls Damaged and does not return.
type Log struct {
	bolt   *raftboltdb.BoltStore
	health *Health
	fault  Fault
	log    *slog.Logger
	beside string // a file that is not there

	hooks LogHooks

	voteTerm atomic.Uint64 // of the vote that is being written; raft sets it, then the candidate

	closing chan struct{}
	failed  chan struct{} // a write did
	once    sync.Once
	probes  sync.WaitGroup
}

// LogHooks are called from raft's goroutines and must not block.
type LogHooks struct {
	Configuration func(entry *raft.Log) // a configuration entry is in the log, or has been appended
	Truncated     func(from uint64)     // entries from this index on are gone
	Damaged       func(error)           // an entry read back is not what was written
}

// OpenLog opens raft.db, which Open has checked, and counts this opening. It blocks on the disk.
func (d *Directory) OpenLog(hooks LogHooks) (*Log, error) {
	run := d.Record().RaftRun + 1
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: d.path("raft.db"), BoltOptions: boltOptions(false)})
	if err != nil {
		return nil, fmt.Errorf("open raft.db: %w", err)
	}
	l := &Log{bolt: bolt, health: &Health{}, fault: d.opt.Fault, log: d.log, beside: d.path("raft.db.try"), hooks: hooks,
		closing: make(chan struct{}), failed: make(chan struct{}, 1)}
	count := func() error {
		if err := l.set(keyRun, binary.BigEndian.AppendUint64(nil, run)); err != nil {
			return err
		}
		if err := d.syncDir(); err != nil {
			return err
		}
		return d.record.update(func(r *Record) { r.RaftRun = run })
	}
	if err := count(); err != nil {
		_ = bolt.Close()
		return nil, fmt.Errorf("count opening of raft.db: %w", err)
	}
	if err := l.tellConfigurations(); err != nil {
		_ = bolt.Close()
		return nil, err
	}
	l.probes.Add(1)
	go l.probe()
	return l, nil
}

// tellConfigurations calls the hook for the configurations that are in the log.
func (l *Log) tellConfigurations() error {
	first, err := l.bolt.FirstIndex()
	if err != nil || l.hooks.Configuration == nil {
		return err
	}
	last, err := l.bolt.LastIndex()
	if err != nil {
		return err
	}
	for index := max(first, 1); index <= last; index++ {
		var entry raft.Log
		if err := l.GetLog(index, &entry); err != nil {
			return err
		}
		if entry.Type == raft.LogConfiguration {
			l.hooks.Configuration(&entry)
		}
	}
	return nil
}

// Health tells how the disk does.
func (l *Log) Health() *Health { return l.health }

// Close closes raft.db. Raft must have ended, or be stuck for good in one of the methods that do not return.
func (l *Log) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closing)
		l.probes.Wait()
		err = l.bolt.Close()
	})
	return err
}

// do runs one operation on the disk.
func (l *Log) do(operation string, f func() error) error {
	end := l.health.begin()
	var err error
	if l.fault != nil {
		err = l.fault(operation)
	}
	if err == nil && l.health.Failing() {
		err = l.writable()
	}
	if err == nil {
		err = f()
	}
	end(err)
	if err != nil {
		select {
		case l.failed <- struct{}{}:
		default:
		}
	}
	return err
}

// writable makes and removes a file beside raft.db, which itself is left alone where that is not possible. On a file system that an error has
// made read-only bbolt writes in vain, and when it wants to grow it loses its map of the file: raft.db could not even be read any more,
// which would be taken for damage.
func (l *Log) writable() error {
	f, err := os.OpenFile(l.beside, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = os.Remove(l.beside)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // another goroutine tries the same
	}
	return errors.Join(f.Close(), err)
}

// probeSize is larger than what fits into free pages of a file that cannot grow: on a full disk small writes may go on
// succeeding while entries do not.
const probeSize = 64 << 10

// probeEvery is the time from a write that failed to a probe, and between probes.
const probeEvery = time.Second

// probe writes now and then while writes fail, and declares the disk fit when that succeeds.
func (l *Log) probe() {
	defer l.probes.Done()
	for {
		select {
		case <-l.closing:
			return
		case <-l.failed:
		}
		for l.health.Failing() {
			select {
			case <-l.closing:
				return
			case <-time.After(probeEvery):
			}
			if err := l.set(keyProbe, make([]byte, probeSize)); err != nil {
				continue
			}
			if err := l.set(keyProbe, nil); err == nil {
				l.health.recovered()
			}
		}
	}
}

// FirstIndex implements raft.LogStore.
func (l *Log) FirstIndex() (uint64, error) { return l.bolt.FirstIndex() }

// LastIndex implements raft.LogStore.
func (l *Log) LastIndex() (uint64, error) { return l.bolt.LastIndex() }

// GetLog implements raft.LogStore.
func (l *Log) GetLog(index uint64, entry *raft.Log) error {
	if l.fault != nil {
		if err := l.fault("get-log"); err != nil {
			return l.lost(err)
		}
	}
	if err := l.bolt.GetLog(index, entry); err != nil {
		if errors.Is(err, raft.ErrLogNotFound) {
			return err
		}
		return l.lost(fmt.Errorf("read log entry %d: %w", index, err))
	}
	if entry.Index != index || !checksumMatches(entry) {
		return l.lost(fmt.Errorf("read log entry %d: %w", index, errDamaged))
	}
	entry.Extensions = nil
	return nil
}

// lost reports that the log cannot be read. It returns only to callers that check a log before raft has it.
func (l *Log) lost(err error) error {
	if l.hooks.Damaged == nil {
		return err
	}
	l.hooks.Damaged(err)
	select {} // raft would panic; the member restarts under a new id instead
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	sealed := make([]*raft.Log, len(entries))
	for i, entry := range entries {
		e := *entry
		e.Extensions = checksum(entry)
		sealed[i] = &e
	}
	if err := l.do("store-logs", func() error { return l.bolt.StoreLogs(sealed) }); err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Type == raft.LogConfiguration && l.hooks.Configuration != nil {
			l.hooks.Configuration(entry)
		}
	}
	return nil
}

// checksum covers everything of an entry that replicas must agree on.
func checksum(e *raft.Log) []byte {
	b := binary.BigEndian.AppendUint64(nil, e.Index)
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = append(b, byte(e.Type))
	return binary.BigEndian.AppendUint32(nil, crc32.Update(crc32.Checksum(b, crcTable), crcTable, e.Data))
}

func checksumMatches(e *raft.Log) bool { return string(e.Extensions) == string(checksum(e)) }

// DeleteRange implements raft.LogStore.
func (l *Log) DeleteRange(first, last uint64) error {
	end, err := l.bolt.LastIndex()
	if err != nil {
		return err
	}
	if err := l.do("delete-range", func() error { return l.bolt.DeleteRange(first, last) }); err != nil {
		return err
	}
	if last >= end && l.hooks.Truncated != nil {
		l.hooks.Truncated(first)
	}
	return nil
}

// Set implements raft.StableStore. It returns when the value is durable, however long that takes.
func (l *Log) Set(key, value []byte) error {
	if string(key) == keyVoteCandidate {
		key, value = keyVote, append(binary.BigEndian.AppendUint64(nil, l.voteTerm.Load()), value...)
	}
	return l.insist(key, value)
}

func (l *Log) insist(key, value []byte) error {
	const longest = time.Second
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, longest) {
		err := l.set(key, value)
		if err == nil {
			return nil
		}
		l.log.Warn("term or vote cannot be written; this member takes no part in elections until it can",
			"key", string(key), "err", err)
		select {
		case <-l.closing:
			select {} // an error would make raft panic
		case <-time.After(wait):
		}
	}
}

func (l *Log) set(key, value []byte) error {
	sealed := binary.BigEndian.AppendUint32(nil, crc32.Update(crc32.Checksum(key, crcTable), crcTable, value))
	return l.do("set", func() error { return l.bolt.Set(key, append(sealed, value...)) })
}

// Get implements raft.StableStore.
func (l *Log) Get(key []byte) ([]byte, error) {
	if string(key) == keyVoteCandidate {
		_, candidate, err := l.vote()
		return candidate, err
	}
	return l.get(key)
}

func (l *Log) get(key []byte) ([]byte, error) {
	sealed, err := l.bolt.Get(key)
	if err != nil {
		return nil, err
	}
	if len(sealed) < 4 {
		return nil, errDamaged
	}
	value := sealed[4:]
	if crc32.Update(crc32.Checksum(key, crcTable), crcTable, value) != binary.BigEndian.Uint32(sealed) {
		return nil, errDamaged
	}
	return value, nil
}

// vote is the newest vote that is durable.
func (l *Log) vote() (term uint64, candidate []byte, err error) {
	value, err := l.get(keyVote)
	if err != nil {
		return 0, nil, err
	}
	if len(value) < 8 {
		return 0, nil, errDamaged
	}
	return binary.BigEndian.Uint64(value), value[8:], nil
}

// SetUint64 implements raft.StableStore. It returns when the value is durable, however long that takes; the term of a
// vote is durable once its candidate is.
func (l *Log) SetUint64(key []byte, value uint64) error {
	if string(key) == keyVoteTerm {
		l.voteTerm.Store(value)
		return nil
	}
	return l.insist(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore.
func (l *Log) GetUint64(key []byte) (uint64, error) {
	if string(key) == keyVoteTerm {
		term, _, err := l.vote()
		return term, err
	}
	value, err := l.get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, errDamaged
	}
	return binary.BigEndian.Uint64(value), nil
}
