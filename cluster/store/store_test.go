package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/hactl/had/fsm"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func options(dir string) Options {
	return Options{Dir: dir, Node: "lb1", Cluster: "edge", Logger: quiet}
}

func open(t *testing.T, dir string) *Directory {
	t.Helper()
	d, err := Open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func entry(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: fmt.Appendf(nil, "command number %d", index)}
}

// fill makes a directory with a log of some entries, a term and a vote, and closes it.
func fillDirectory(t *testing.T, dir string, entries uint64) fsm.Member {
	t.Helper()
	d, err := Open(options(dir))
	must(t, err)
	must(t, d.SetClusterID("c1"))
	l, err := d.OpenLog(LogHooks{})
	must(t, err)
	must(t, l.SetUint64([]byte("CurrentTerm"), 1))
	must(t, l.SetUint64([]byte("LastVoteTerm"), 1))
	must(t, l.Set([]byte("LastVoteCand"), []byte("lb1/00000000")))
	for i := uint64(1); i <= entries; i++ {
		must(t, l.StoreLog(entry(i)))
	}
	must(t, l.Close())
	member := d.Record().Member
	must(t, d.Close())
	return member
}

func TestANewDirectoryGetsAnIDThatItKeeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	d := open(t, dir)
	first := d.Record()
	if first.Member.Node() != "lb1" || len(first.Member) != len("lb1/12345678") || first.Run != 1 || d.Moved() != "" {
		t.Fatalf("%+v", first)
	}
	info, err := os.Stat(dir)
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
	must(t, d.SetClusterID("c1"))
	must(t, d.Close())
	d = open(t, dir)
	if r := d.Record(); r.Member != first.Member || r.Run != 2 {
		t.Errorf("%+v after %+v", r, first)
	}
	// Raft never ran, so nobody relies on this member: it may found a cluster again.
	if r := d.Record(); r.ClusterID != "" {
		t.Errorf("it still belongs to %s", r.ClusterID)
	}
}

func TestASecondProcessIsToldWhoHasTheDirectory(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := Open(options(dir))
	var inUse *InUseError
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Errorf("%v", err)
	}
}

func TestADirectoryOfSomebodyElseIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, open(t, dir).Close())
	for _, o := range []Options{{Dir: dir, Node: "lb2", Cluster: "edge", Logger: quiet}, {Dir: dir, Node: "lb1", Cluster: "core", Logger: quiet}} {
		_, err := Open(o)
		var wrong *WrongOwnerError
		if !errors.As(err, &wrong) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestTheRecordSurvivesTornWrites(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	must(t, d.RaiseCeiling(time.Second))
	must(t, d.RaiseCeiling(2*time.Second))
	sequence := d.record.sequence
	must(t, d.Close())
	// The newest slot is half written.
	f, err := os.OpenFile(filepath.Join(dir, "member"), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, 64), int64(sequence%2)*slotSize+slotHeader+4)
	must(t, err)
	must(t, f.Close())
	d = open(t, dir)
	if r := d.Record(); r.Ceiling != time.Second || d.Moved() != "" {
		t.Errorf("%+v, moved aside because %q", r, d.Moved())
	}
}

func TestTheRecordNeedsNoSpaceToBeOverwritten(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	size := func() int64 {
		info, err := os.Stat(filepath.Join(dir, "member"))
		must(t, err)
		var st syscall.Stat_t
		must(t, syscall.Stat(filepath.Join(dir, "member"), &st))
		if st.Blocks*512 < info.Size() {
			t.Errorf("%d bytes in %d blocks: it has holes", info.Size(), st.Blocks)
		}
		return info.Size()
	}
	before := size()
	for i := range 40 {
		must(t, d.NoteRun(fsm.Member(fmt.Sprintf("lb%d/12345678", i)), uint64(i+1)))
	}
	if after := size(); after != before {
		t.Errorf("it grew from %d to %d bytes", before, after)
	}
	if n := len(d.Record().Seen); n != seenKept {
		t.Errorf("%d runs are remembered", n)
	}
	must(t, d.NoteRun("lb39/12345678", 5))
	if i := slices.IndexFunc(d.Record().Seen, func(s SeenRun) bool { return s.Member == "lb39/12345678" }); d.Record().Seen[i].Run != 40 {
		t.Errorf("%+v", d.Record().Seen[i])
	}
}

func TestDamageMovesEverythingAsideAndChangesTheID(t *testing.T) {
	log := func(dir string) string { return filepath.Join(dir, "raft.db") }
	overwrite := func(t *testing.T, path string, offset int64, b []byte) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		_, err = f.WriteAt(b, offset)
		must(t, err)
	}
	size := func(t *testing.T, path string) int64 {
		info, err := os.Stat(path)
		must(t, err)
		return info.Size()
	}
	for name, damage := range map[string]func(t *testing.T, dir string){
		"log missing": func(t *testing.T, dir string) { must(t, os.Remove(log(dir))) },
		"log empty":   func(t *testing.T, dir string) { must(t, os.Truncate(log(dir), 0)) },
		"log too short": func(t *testing.T, dir string) {
			must(t, os.Truncate(log(dir), size(t, log(dir))/2))
		},
		"log cut to its meta pages": func(t *testing.T, dir string) { must(t, os.Truncate(log(dir), 2*int64(os.Getpagesize()))) },
		"meta pages lost": func(t *testing.T, dir string) {
			overwrite(t, log(dir), 0, make([]byte, 2*os.Getpagesize()))
		},
		"all other pages lost": func(t *testing.T, dir string) {
			overwrite(t, log(dir), 2*int64(os.Getpagesize()), make([]byte, size(t, log(dir))-2*int64(os.Getpagesize())))
		},
		"a bit flipped in an entry": func(t *testing.T, dir string) {
			b, err := os.ReadFile(log(dir))
			must(t, err)
			found := false
			for i := 0; ; {
				j := bytes.Index(b[i:], []byte("command number 7"))
				if j < 0 {
					break
				}
				b[i+j] ^= 1
				i += j + 1
				found = true
			}
			if !found {
				t.Fatal("the entry is not in the file")
			}
			must(t, os.WriteFile(log(dir), b, 0o600))
		},
		"a bit flipped in the vote": func(t *testing.T, dir string) {
			b, err := os.ReadFile(log(dir))
			must(t, err)
			for i := 0; ; {
				j := bytes.Index(b[i:], []byte("lb1/00000000"))
				if j < 0 {
					break
				}
				b[i+j] ^= 1
				i += j + 1
			}
			must(t, os.WriteFile(log(dir), b, 0o600))
		},
		"record missing": func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "member"))) },
		"record damaged": func(t *testing.T, dir string) {
			overwrite(t, filepath.Join(dir, "member"), 0, make([]byte, 2*slotSize))
		},
		"entry in the middle missing": func(t *testing.T, dir string) {
			db, err := bbolt.Open(log(dir), 0o600, nil)
			must(t, err)
			must(t, db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("logs")).Delete([]byte{0, 0, 0, 0, 0, 0, 0, 5}) }))
			must(t, db.Close())
		},
		"log begins late without a snapshot": func(t *testing.T, dir string) {
			db, err := bbolt.Open(log(dir), 0o600, nil)
			must(t, err)
			must(t, db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("logs")).Delete([]byte{0, 0, 0, 0, 0, 0, 0, 1}) }))
			must(t, db.Close())
		},
		"condemned": func(t *testing.T, dir string) {
			d := open(t, dir)
			must(t, d.Condemn("somebody says so"))
			must(t, d.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			old := fillDirectory(t, dir, 40)
			damage(t, dir)
			d := open(t, dir)
			r := d.Record()
			if d.Moved() == "" || r.Member == old || r.Run != 1 || r.ClusterID != "" || r.RaftRun != 0 {
				t.Fatalf("moved aside because %q: %+v", d.Moved(), r)
			}
			t.Log(d.Moved())
			l, err := d.OpenLog(LogHooks{})
			must(t, err)
			if last, err := l.LastIndex(); err != nil || last != 0 {
				t.Errorf("the new log ends at %d, %v", last, err)
			}
			must(t, l.Close())
		})
	}
}

func TestAnUndamagedDirectoryStays(t *testing.T) {
	dir := t.TempDir()
	old := fillDirectory(t, dir, 40)
	for range 3 {
		d := open(t, dir)
		if d.Moved() != "" || d.Record().Member != old || d.Record().ClusterID != "c1" {
			t.Fatalf("moved aside because %q: %+v", d.Moved(), d.Record())
		}
		l, err := d.OpenLog(LogHooks{})
		must(t, err)
		if term, err := l.GetUint64([]byte("LastVoteTerm")); err != nil || term != 1 {
			t.Errorf("vote in term %d, %v", term, err)
		}
		if candidate, err := l.Get([]byte("LastVoteCand")); err != nil || string(candidate) != "lb1/00000000" {
			t.Errorf("vote for %q, %v", candidate, err)
		}
		must(t, l.Close())
		must(t, d.Close())
	}
}

func TestALogThatSomebodyElseHasOpenIsNotDamaged(t *testing.T) {
	dir := t.TempDir()
	old := fillDirectory(t, dir, 3)
	db, err := bbolt.Open(filepath.Join(dir, "raft.db"), 0o600, nil)
	must(t, err)
	if _, err := Open(options(dir)); err == nil {
		t.Error("it was opened")
	}
	must(t, db.Close())
	if d := open(t, dir); d.Moved() != "" || d.Record().Member != old {
		t.Errorf("moved aside because %q", d.Moved())
	}
}

func TestALogThatIsOlderThanTheRecordIsRecognised(t *testing.T) {
	dir := t.TempDir()
	old := fillDirectory(t, dir, 3)
	b, err := os.ReadFile(filepath.Join(dir, "raft.db"))
	must(t, err)
	d := open(t, dir)
	l, err := d.OpenLog(LogHooks{})
	must(t, err)
	must(t, l.Close())
	must(t, d.Close())
	must(t, os.WriteFile(filepath.Join(dir, "raft.db"), b, 0o600))
	d = open(t, dir)
	if !strings.Contains(d.Moved(), "older than the member record") || d.Record().Member == old {
		t.Errorf("moved aside because %q", d.Moved())
	}
}

func TestALogWithoutVoteAndEntriesIsForgotten(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	member := d.Record().Member
	must(t, d.SetClusterID("c1"))
	l, err := d.OpenLog(LogHooks{})
	must(t, err)
	must(t, l.SetUint64([]byte("CurrentTerm"), 4))
	must(t, l.Close())
	must(t, d.Close())
	d = open(t, dir)
	if r := d.Record(); d.Moved() != "" || r.Member != member || r.ClusterID != "" || r.RaftRun != 0 {
		t.Errorf("%q %+v", d.Moved(), r)
	}
}

func TestOnlyTheNewestDamagedGenerationsAreKept(t *testing.T) {
	dir := t.TempDir()
	for range asideKept + 3 {
		d := open(t, dir)
		must(t, d.Condemn("again"))
		must(t, d.Close())
		time.Sleep(2 * time.Millisecond)
	}
	open(t, dir)
	aside, err := filepath.Glob(filepath.Join(dir, "lost-*"))
	must(t, err)
	if len(aside) != asideKept {
		t.Errorf("%v", aside)
	}
}

func TestDeletingARangeLeavesNothingOfIt(t *testing.T) {
	d := open(t, t.TempDir())
	var truncated []uint64
	l, err := d.OpenLog(LogHooks{Truncated: func(from uint64) { truncated = append(truncated, from) }})
	must(t, err)
	defer l.Close()
	const count = 3000
	var all []*raft.Log
	for i := uint64(1); i <= count; i++ {
		all = append(all, entry(i))
	}
	must(t, l.StoreLogs(all))
	must(t, l.DeleteRange(1, 1000))
	must(t, l.DeleteRange(2001, count))
	if first, last := must1(l.FirstIndex()), must1(l.LastIndex()); first != 1001 || last != 2000 {
		t.Errorf("from %d to %d", first, last)
	}
	for i := uint64(1); i <= count; i++ {
		var e raft.Log
		err := l.GetLog(i, &e)
		if inside := i > 1000 && i <= 2000; inside != (err == nil) || !inside && !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	if !slices.Equal(truncated, []uint64{2001}) {
		t.Errorf("truncated: %v", truncated)
	}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestAVoteIsOneWriteAndCountsOnlyWhenComplete(t *testing.T) {
	dir := t.TempDir()
	var writes atomic.Int32
	o := options(dir)
	o.Fault = func(string) error { writes.Add(1); return nil }
	d, err := Open(o)
	must(t, err)
	l, err := d.OpenLog(LogHooks{})
	must(t, err)
	must(t, l.SetUint64([]byte("CurrentTerm"), 6))
	before := writes.Load()
	must(t, l.SetUint64([]byte("LastVoteTerm"), 5))
	if _, err := l.GetUint64([]byte("LastVoteTerm")); err == nil {
		t.Error("half a vote counts")
	}
	must(t, l.Set([]byte("LastVoteCand"), []byte("lb2/1")))
	if n := writes.Load() - before; n != 1 {
		t.Errorf("a vote takes %d writes", n)
	}
	must(t, l.SetUint64([]byte("LastVoteTerm"), 6)) // and the power fails
	must(t, l.Close())
	must(t, d.Close())
	d = open(t, dir)
	l, err = d.OpenLog(LogHooks{})
	must(t, err)
	defer l.Close()
	if term := must1(l.GetUint64([]byte("LastVoteTerm"))); term != 5 {
		t.Errorf("the vote is in term %d", term)
	}
	if c := must1(l.Get([]byte("LastVoteCand"))); string(c) != "lb2/1" {
		t.Errorf("the vote is for %q", c)
	}
}

// openLog opens a directory and its log, until the test ends.
func openLog(t *testing.T, o Options) *Log {
	t.Helper()
	d, err := Open(o)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	l, err := d.OpenLog(LogHooks{})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func TestAFailingDiskMakesTheMemberUnfitAndRaftWait(t *testing.T) {
	o := options(t.TempDir())
	var failure atomic.Pointer[error]
	o.Fault = func(string) error {
		if err := failure.Load(); err != nil {
			return *err
		}
		return nil
	}
	l := openLog(t, o)
	full := error(syscall.ENOSPC)
	failure.Store(&full)
	if err := l.StoreLog(entry(1)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("storing an entry: %v", err)
	}
	if l.Health().Fit() {
		t.Error("still fit")
	}
	if text, since := l.Health().Describe(); !strings.Contains(text, "no space left") || since.IsZero() {
		t.Errorf("%q %v", text, since)
	}
	set := make(chan error, 1)
	go func() { set <- l.SetUint64([]byte("CurrentTerm"), 9) }()
	select {
	case err := <-set:
		t.Fatalf("setting the term returned %v: raft would panic or believe it", err)
	case <-time.After(150 * time.Millisecond):
	}
	failure.Store(nil)
	must(t, <-set)
	// The member finds out by itself, with a write that is not too small.
	deadline := time.Now().Add(3 * time.Second)
	for !l.Health().Fit() {
		if time.Now().After(deadline) {
			t.Fatal("it stays unfit")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// While writes fail, raft.db is not touched before its directory takes a file.
func TestAFileSystemThatIsNotWritableIsFoundOutBesideTheLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	must(t, os.Mkdir(dir, 0o700))
	o := options(dir)
	var failing atomic.Bool
	o.Fault = func(string) error {
		if failing.Load() {
			return syscall.EIO
		}
		return nil
	}
	l := openLog(t, o)
	failing.Store(true)
	if err := l.StoreLog(entry(1)); !errors.Is(err, syscall.EIO) {
		t.Errorf("storing an entry: %v", err)
	}
	must(t, os.Rename(dir, dir+".away"))
	failing.Store(false)
	if err := l.StoreLog(entry(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("storing an entry where no file can be made: %v", err)
	}
	if last := must1(l.LastIndex()); last != 0 {
		t.Errorf("the last entry is %d", last)
	}
	must(t, os.Rename(dir+".away", dir))
	must(t, l.StoreLog(entry(1)))
	if _, err := os.Stat(filepath.Join(dir, "raft.db.try")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was tried is still there: %v", err)
	}
}

func TestAStuckWriteIsSeenFromOutside(t *testing.T) {
	o := options(t.TempDir())
	var hang atomic.Pointer[chan struct{}]
	o.Fault = func(string) error {
		if c := hang.Load(); c != nil {
			<-*c
		}
		return nil
	}
	l := openLog(t, o)
	c := make(chan struct{})
	hang.Store(&c)
	done := make(chan error, 1)
	go func() { done <- l.StoreLog(entry(1)) }()
	time.Sleep(50 * time.Millisecond)
	if l.Health().Stalled() || !l.Health().Fit() {
		t.Error("a write of 50 ms counts as stuck")
	}
	time.Sleep(stallLimit)
	if !l.Health().Stalled() || l.Health().Fit() {
		t.Error("a stuck write is not seen")
	}
	if text, _ := l.Health().Describe(); !strings.Contains(text, "waiting for the disk") {
		t.Error(text)
	}
	hang.Store(nil)
	close(c)
	must(t, <-done)
	if l.Health().Stalled() {
		t.Error("stuck after its end")
	}
}

func TestADamagedEntryReadLaterDoesNotReachRaft(t *testing.T) {
	d := open(t, t.TempDir())
	damaged := make(chan error, 1)
	l, err := d.OpenLog(LogHooks{Damaged: func(err error) { damaged <- err }})
	must(t, err)
	e := entry(1)
	e.Extensions = []byte{1, 2, 3, 4}
	must(t, l.bolt.StoreLog(e)) // past the checksum
	returned := make(chan error, 1)
	go func() { returned <- l.GetLog(1, &raft.Log{}) }()
	select {
	case err := <-damaged:
		if !errors.Is(err, errDamaged) {
			t.Error(err)
		}
	case err := <-returned:
		t.Fatalf("it returned %v", err)
	}
}

func TestSnapshotsTellTheirConfigurationAndALoop(t *testing.T) {
	d := open(t, t.TempDir())
	var configurations []uint64
	var looping error
	hooks := SnapshotHooks{
		Configuration: func(index uint64, _ raft.Configuration) { configurations = append(configurations, index) },
		Looping:       func(err error) { looping = err },
	}
	s, err := d.OpenSnapshots(hooks, hclog.NewNullLogger())
	must(t, err)
	_, trans := raft.NewInmemTransport("")
	create := func(index uint64) error {
		sink, err := s.Create(1, index, 1, raft.Configuration{}, 3, trans)
		if err != nil {
			return err
		}
		if _, err := sink.Write([]byte("state")); err != nil {
			return err
		}
		return sink.Close()
	}
	must(t, create(10))
	must(t, create(11))
	must(t, create(11))
	if err := create(11); err == nil || looping == nil {
		t.Errorf("the third time: %v, %v", err, looping)
	}
	if !slices.Equal(configurations, []uint64{3, 3, 3}) {
		t.Errorf("%v", configurations)
	}
	configurations = nil
	_, err = d.OpenSnapshots(hooks, hclog.NewNullLogger())
	must(t, err)
	if !slices.Equal(configurations, []uint64{3}) {
		t.Errorf("after opening: %v", configurations)
	}
}
