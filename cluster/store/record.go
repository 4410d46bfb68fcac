package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hactl/had/fsm"
)

// Record is what a member remembers about itself.
type Record struct {
	Member    fsm.Member `json:"member"`
	Cluster   string     `json:"cluster"`              // name
	ClusterID string     `json:"cluster_id,omitempty"` // empty: belongs to none yet
	Run       uint64     `json:"run"`                  // number of this life of the directory, from 1
	RaftRun   uint64     `json:"raft_run,omitempty"`   // raft.db must hold this number or a larger one; 0: no raft.db yet

	// Ceiling is the longest promise given by a voter of this directory, or by the ones whose place it took.
	Ceiling time.Duration `json:"ceiling,omitempty"`

	// Condemned says why the directory must not be used any more: the next Open moves it aside.
	Condemned string `json:"condemned,omitempty"`

	// Removed says that the member was taken out of its cluster on purpose and must not come back by itself.
	Removed string `json:"removed,omitempty"`

	// Force is the newest time that this member was made the only voter.
	Force *Force `json:"force,omitempty"`

	// Seen holds the largest run number heard from other members, so that a directory that was put back from a copy is
	// recognised. At most seenKept entries.
	Seen []SeenRun `json:"seen,omitempty"`
}

// Force is the order to be the only voter.
type Force struct {
	fsm.Force
	Done bool `json:"done,omitempty"` // raft.db and the snapshots say so, too
}

// SeenRun is how often a member's directory had been started when it was last heard of.
type SeenRun struct {
	Member fsm.Member `json:"member"`
	Run    uint64     `json:"run"`
}

const seenKept = 32

// A record file has two slots. A new record overwrites the older one, so a torn write leaves the newer of the others.
// Overwriting blocks that exist needs no free space on the usual file systems.
const (
	slotSize    = 8192
	slotHeader  = 8 + 8 + 4 + 4 // magic, sequence, length, checksum
	recordMagic = "hadmemb1"
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// errNoRecord says that a file holds no valid record.
var errNoRecord = errors.New("no valid record")

// recordFile is an open record file.
type recordFile struct {
	current atomic.Pointer[Record] // durable; read without waiting for a write

	mu       sync.Mutex // held while writing
	file     *os.File
	sequence uint64
}

// openRecord opens or creates the record file. errNoRecord means that it exists and holds nothing valid, or was created
// just now; the file is then usable all the same.
func openRecord(path string) (*recordFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := fill(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	r := &recordFile{file: f}
	found := false
	for slot := range 2 {
		sequence, record, err := readSlot(f, slot)
		if err == nil && (!found || sequence > r.sequence) {
			r.sequence, found = sequence, true
			r.current.Store(&record)
		}
	}
	if !found {
		r.current.Store(&Record{})
		return r, errNoRecord
	}
	return r, nil
}

// fill gives the file its full size, so that later writes need no new blocks.
func fill(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if missing := 2*slotSize - info.Size(); missing > 0 {
		if _, err := f.WriteAt(make([]byte, missing), info.Size()); err != nil {
			return err
		}
		return f.Sync()
	}
	return nil
}

func readSlot(f io.ReaderAt, slot int) (sequence uint64, record Record, err error) {
	buf := make([]byte, slotSize)
	if _, err := f.ReadAt(buf, int64(slot)*slotSize); err != nil && err != io.EOF {
		return 0, Record{}, err
	}
	length := binary.BigEndian.Uint32(buf[16:])
	if string(buf[:8]) != recordMagic || length > slotSize-slotHeader {
		return 0, Record{}, errNoRecord
	}
	payload := buf[slotHeader : slotHeader+length]
	if crc32.Update(crc32.Checksum(buf[:20], crcTable), crcTable, payload) != binary.BigEndian.Uint32(buf[20:]) {
		return 0, Record{}, errNoRecord
	}
	if err := json.Unmarshal(payload, &record); err != nil {
		return 0, Record{}, err
	}
	return binary.BigEndian.Uint64(buf[8:]), record, nil
}

// update changes the record durably. It blocks on the disk.
func (r *recordFile) update(change func(*Record)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := *r.current.Load()
	next.Seen = append([]SeenRun(nil), next.Seen...)
	change(&next)
	payload, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("encode member record: %w", err)
	}
	if len(payload) > slotSize-slotHeader {
		return fmt.Errorf("member record has %d bytes, more than %d", len(payload), slotSize-slotHeader)
	}
	buf := make([]byte, slotSize)
	copy(buf, recordMagic)
	binary.BigEndian.PutUint64(buf[8:], r.sequence+1)
	binary.BigEndian.PutUint32(buf[16:], uint32(len(payload)))
	copy(buf[slotHeader:], payload)
	binary.BigEndian.PutUint32(buf[20:], crc32.Update(crc32.Checksum(buf[:20], crcTable), crcTable, payload))
	if _, err := r.file.WriteAt(buf, int64((r.sequence+1)%2)*slotSize); err != nil {
		return fmt.Errorf("write member record: %w", err)
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("write member record: %w", err)
	}
	r.sequence++
	r.current.Store(&next)
	return nil
}

func (r *recordFile) close() error { return r.file.Close() }
