package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/fsm"
)

// Options say whose directory is opened.
type Options struct {
	Dir     string
	Node    string
	Cluster string
	Logger  *slog.Logger
	Fault   Fault // tests only
}

// Fault is called before each operation on the disk of raft.db: it may block, and an error that it returns is taken for
// the disk's. Operations are "store-logs", "delete-range", "set" and "get-log".
type Fault func(operation string) error

// InUseError says that another process has locked the directory.
type InUseError struct{ PID int }

func (e *InUseError) Error() string { return fmt.Sprintf("in use by process %d", e.PID) }

// WrongOwnerError says that the directory belongs to another node or cluster.
type WrongOwnerError struct{ Text string }

func (e *WrongOwnerError) Error() string { return e.Text }

// Directory is an open data directory. Any goroutine may call its methods.
type Directory struct {
	dir    string
	opt    Options
	log    *slog.Logger
	lock   *os.File
	record *recordFile
	moved  string
}

// asideKept is how many damaged generations are kept.
const asideKept = 3

// Open takes a data directory for this process. Damaged contents are moved aside, which Moved reports.
func Open(opt Options) (*Directory, error) {
	d := &Directory{dir: opt.Dir, opt: opt, log: opt.Logger}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := d.takeLock(); err != nil {
		return nil, err
	}
	if err := d.takeContents(); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Directory) path(name string) string { return filepath.Join(d.dir, name) }

func (d *Directory) takeLock() error {
	f, err := os.OpenFile(d.path("lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			buf := make([]byte, 32)
			n, _ := f.ReadAt(buf, 0)
			pid, _ := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
			return &InUseError{PID: pid}
		}
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	// The pid is for people: a full disk must not keep the member from starting.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	d.lock = f
	return nil
}

// takeContents reads what earlier lives have left, judges it, and counts this life.
func (d *Directory) takeContents() error {
	record, err := openRecord(d.path("member"))
	fresh := errors.Is(err, errNoRecord)
	if err != nil && !fresh {
		return err
	}
	d.record = record
	if !fresh {
		r := d.Record()
		if node := r.Member.Node(); node != d.opt.Node {
			return &WrongOwnerError{fmt.Sprintf("belongs to node %s, and this is %s", node, d.opt.Node)}
		}
		if r.Cluster != d.opt.Cluster {
			return &WrongOwnerError{fmt.Sprintf("belongs to cluster %s, and this is %s", r.Cluster, d.opt.Cluster)}
		}
	}
	damage, blank, err := d.judge(fresh)
	if err != nil {
		return err
	}
	if blank {
		if err := d.forgetBlank(); err != nil {
			return fmt.Errorf("remove an empty log: %w", err)
		}
	}
	ceiling := d.Record().Ceiling
	if damage != "" {
		if err := d.moveAside(damage); err != nil {
			return fmt.Errorf("move damaged data aside: %w", err)
		}
		if d.record, err = openRecord(d.path("member")); !errors.Is(err, errNoRecord) {
			return fmt.Errorf("make a new member record: %w", err)
		}
		fresh = true
	}
	if !fresh {
		return d.record.update(func(r *Record) { r.Run++ })
	}
	member, err := newMember(d.opt.Node)
	if err != nil {
		return err
	}
	err = d.record.update(func(r *Record) {
		*r = Record{Member: member, Cluster: d.opt.Cluster, Run: 1, Ceiling: ceiling}
	})
	if err != nil {
		return err
	}
	return d.syncDir()
}

func newMember(node string) (fsm.Member, error) {
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		return "", fmt.Errorf("choose a member id: %w", err)
	}
	return fsm.Member(node + "/" + hex.EncodeToString(id)), nil
}

// judge says what is wrong with the contents, empty if they can be trusted, and whether they are blank: this member has
// neither stored an entry nor voted, so that nobody relies on what it remembers.
func (d *Directory) judge(fresh bool) (damage string, blank bool, err error) {
	hasLog, err := exists(d.path("raft.db"))
	if err != nil {
		return "", false, err
	}
	snapshots, err := filepath.Glob(d.path("snapshots/*"))
	if err != nil {
		return "", false, err
	}
	r := d.Record()
	switch {
	case fresh && (hasLog || len(snapshots) > 0):
		return "the member record is missing or damaged", false, nil
	case fresh:
		return "", false, nil
	case r.Condemned != "":
		return r.Condemned, false, nil
	case !hasLog && r.RaftRun > 0:
		return "raft.db is missing", false, nil
	case !hasLog && len(snapshots) > 0:
		return "there are snapshots and no log", false, nil
	case !hasLog:
		return "", true, nil
	}
	blank, err = checkLog(d.path("raft.db"), r.RaftRun, len(snapshots) > 0)
	var bad *damageError
	switch {
	case err != nil && !errors.As(err, &bad):
		return "", false, fmt.Errorf("check raft.db: %w", err)
	case err != nil && r.RaftRun == 0:
		return "", true, nil // the process ended while it made the file
	case err != nil:
		return fmt.Sprintf("raft.db is damaged: %v", err), false, nil
	case !blank && r.RaftRun == 0:
		return "there is a log that the member record does not know", false, nil
	}
	return "", blank, nil
}

// forgetBlank makes the directory look as if raft had never run.
func (d *Directory) forgetBlank() error {
	err := d.record.update(func(r *Record) { r.RaftRun, r.ClusterID = 0, "" })
	if err != nil {
		return err
	}
	if err := os.Remove(d.path("raft.db")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.syncDir()
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// moveAside renames everything but the lock into a directory of its own, and deletes the oldest such directories.
func (d *Directory) moveAside(reason string) error {
	_ = d.record.close()
	name := "lost-" + time.Now().UTC().Format("20060102T150405.000")
	if err := os.Mkdir(d.path(name), 0o700); err != nil {
		return err
	}
	for _, file := range []string{"member", "raft.db", "snapshots"} {
		err := os.Rename(d.path(file), filepath.Join(d.path(name), file))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	_ = os.WriteFile(filepath.Join(d.path(name), "reason"), []byte(reason+"\n"), 0o600)
	d.log.Error("data directory cannot be trusted: moved aside, this node comes back as a new member",
		"reason", reason, "moved_to", d.path(name))
	d.moved = reason
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	var aside []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "lost-") {
			aside = append(aside, e.Name())
		}
	}
	slices.Sort(aside)
	for len(aside) > asideKept {
		if err := os.RemoveAll(d.path(aside[0])); err != nil {
			return err
		}
		aside = aside[1:]
	}
	return d.syncDir()
}

func (d *Directory) syncDir() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Record is the newest durable record. It does not wait for the disk.
func (d *Directory) Record() Record { return *d.record.current.Load() }

// Moved says why Open moved the contents aside; empty if it did not.
func (d *Directory) Moved() string { return d.moved }

// SetClusterID makes the directory a part of a cluster.
func (d *Directory) SetClusterID(id string) error {
	return d.record.update(func(r *Record) { r.ClusterID = id })
}

// RaiseCeiling notes the longest promise. A shorter one than the noted changes nothing.
func (d *Directory) RaiseCeiling(ceiling time.Duration) error {
	if ceiling <= d.Record().Ceiling {
		return nil
	}
	return d.record.update(func(r *Record) { r.Ceiling = max(r.Ceiling, ceiling) })
}

// Condemn makes the next Open move the contents aside.
func (d *Directory) Condemn(reason string) error {
	return d.record.update(func(r *Record) { r.Condemned = reason })
}

// SetRemoved notes that the member was taken out of the cluster on purpose.
func (d *Directory) SetRemoved(reason string) error {
	return d.record.update(func(r *Record) { r.Removed = reason })
}

// Force makes the directory a part of another cluster, with this member as its only voter; Recover carries that out, and comes
// before OpenLog. ceiling is the longest promise that any of the former voters may have given.
func (d *Directory) Force(f fsm.Force, ceiling time.Duration) error {
	return d.record.update(func(r *Record) {
		r.ClusterID, r.Force, r.Ceiling = f.ClusterID, &Force{Force: f}, max(r.Ceiling, ceiling)
	})
}

// Recover makes this member the only voter if that was ordered and has not been done. All that is in the log counts as
// committed. machine is of no use afterwards. A crash at any point of it is made up for at the next call. It blocks on the disk.
func (d *Directory) Recover(config *raft.Config, machine raft.FSM, damaged func(error)) error {
	force := d.Record().Force
	if force == nil || force.Done {
		return nil
	}
	log, err := d.OpenLog(LogHooks{Damaged: damaged})
	if err != nil {
		return err
	}
	files, err := d.snapshotFiles(config.Logger)
	if err != nil {
		return errors.Join(err, log.Close())
	}
	_, encoder := raft.NewInmemTransport(raft.ServerAddress(config.LocalID)) // of addresses in the snapshot
	alone := raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: config.LocalID, Address: raft.ServerAddress(config.LocalID)}}}
	err = raft.RecoverCluster(config, machine, log, log, files, encoder, alone)
	if err = errors.Join(err, log.Close()); err != nil {
		return fmt.Errorf("make this member the only voter: %w", err)
	}
	return d.record.update(func(r *Record) {
		done := *r.Force
		done.Done = true
		r.Force = &done
	})
}

// NoteRun remembers the run number of another member, if it is larger than the one remembered.
func (d *Directory) NoteRun(member fsm.Member, run uint64) error {
	known := func(r Record) bool {
		return slices.ContainsFunc(r.Seen, func(s SeenRun) bool { return s.Member == member && s.Run >= run })
	}
	if known(d.Record()) {
		return nil
	}
	return d.record.update(func(r *Record) {
		if known(*r) {
			return
		}
		r.Seen = slices.DeleteFunc(r.Seen, func(s SeenRun) bool { return s.Member == member })
		r.Seen = append(r.Seen, SeenRun{member, run})
		if surplus := len(r.Seen) - seenKept; surplus > 0 {
			r.Seen = r.Seen[surplus:]
		}
	})
}

// Close gives the directory back. The log of OpenLog must be closed before.
func (d *Directory) Close() error {
	var err error
	if d.record != nil {
		err = d.record.close()
	}
	return errors.Join(err, d.lock.Close())
}
