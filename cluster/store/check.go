package store

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// lockWait bounds the wait for bbolt's own file lock, which this process must get at once.
const lockWait = time.Second

// boltOptions opens raft.db with its free list on disk: without it bbolt scans the file in a goroutine of its own when it
// opens it, and a damaged page then ends the process.
func boltOptions(readOnly bool) *bbolt.Options {
	return &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType, ReadOnly: readOnly}
}

// damageError says that what is on the disk is not what was written. Other errors are the machine's.
type damageError struct{ text string }

func (e *damageError) Error() string { return e.text }

func damagef(format string, args ...any) error { return &damageError{fmt.Sprintf(format, args...)} }

// checkLog reads all of a raft.db. The error is a *damageError if its contents are damaged; blank tells that nothing was
// ever stored in it that somebody may rely on.
func checkLog(path string, run uint64, hasSnapshots bool) (blank bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	if info.Size() == 0 && run > 0 {
		return false, damagef("it is empty")
	}
	if info.Size() == 0 {
		return true, nil
	}
	if err := guarded(func() error { return readPages(path) }); err != nil {
		return false, err
	}
	err = guarded(func() error {
		blank, err = readEntries(path, run, hasSnapshots)
		return err
	})
	return blank, err
}

// guarded turns panics and memory faults of f into errors. bbolt panics on pages that are not what they should be, and
// reading a mapped file behind its end is a fault.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damagef("%v", r)
		}
	}()
	return f()
}

// readPages looks at every page in use, so that damage shows here and not later in somebody else's goroutine.
func readPages(path string) error {
	db, err := bbolt.Open(path, 0o600, boltOptions(true))
	switch {
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return damagef("%v", err)
	case err != nil:
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			var sum byte
			return b.ForEach(func(k, v []byte) error {
				for _, bytes := range [][]byte{k, v} {
					for _, c := range bytes {
						sum ^= c
					}
				}
				return nil
			})
		})
	})
}

// readEntries reads every value through the same code as raft does.
func readEntries(path string, run uint64, hasSnapshots bool) (blank bool, err error) {
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(true)})
	if err != nil {
		return false, err
	}
	defer bolt.Close()
	l := &Log{bolt: bolt}
	values := map[string]uint64{}
	for _, key := range []string{"CurrentTerm", keyVoteTerm, string(keyRun)} {
		value, err := l.GetUint64([]byte(key))
		if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
			return false, damagef("%s: %v", key, err)
		}
		values[key] = value
	}
	if noted := values[string(keyRun)]; noted < run {
		return false, damagef("it is older than the member record (run %d, expected %d): put back from a copy?", noted, run)
	}
	first, err := bolt.FirstIndex()
	if err != nil {
		return false, err
	}
	last, err := bolt.LastIndex()
	if err != nil {
		return false, err
	}
	switch {
	case first > 1 && !hasSnapshots:
		return false, damagef("the log begins at %d and there is no snapshot", first)
	case first == 0 && values[keyVoteTerm] == 0 && !hasSnapshots:
		return true, nil
	case first == 0 && !hasSnapshots && values["CurrentTerm"] == 0:
		return false, damagef("there is a vote and no term")
	case first == 0:
		return false, nil
	}
	for index := first; index <= last; index++ {
		var entry raft.Log
		if err := l.GetLog(index, &entry); err != nil {
			return false, damagef("entry %d: %v", index, err)
		}
	}
	return false, nil
}
