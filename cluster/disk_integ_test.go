//go:build integ

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hactl/had/internal/lab/need"
)

// image mounts a small ext4 file system of its own and returns where.
func image(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		need.Skip(t, "mounting a file system takes root")
	}
	for _, program := range []string{"mkfs.ext4", "mount", "fsfreeze"} {
		if _, err := exec.LookPath(program); err != nil {
			need.Skip(t, "%v", err)
		}
	}
	dir := t.TempDir()
	file, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	must(t, os.Mkdir(mount, 0o700))
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Truncate(file, 24<<20))
	run(t, "mkfs.ext4", "-q", "-F", file)
	if out, err := exec.Command("mount", "-o", "loop", file, mount).CombinedOutput(); err != nil {
		need.Skip(t, "no loop mount here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		_ = exec.Command("fsfreeze", "-u", mount).Run()
		run(t, "umount", mount)
	})
	return mount
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// fill takes all space of a file system and returns what gives it back.
func fill(t *testing.T, mount string) (release func()) {
	t.Helper()
	path := filepath.Join(mount, "ballast")
	f, err := os.Create(path)
	must(t, err)
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	_ = f.Sync()
	must(t, f.Close())
	return func() { _ = os.Remove(path) }
}

// onImage makes a cluster in which lb1 leads and has its data on an image.
func onImage(t *testing.T) (w *world, mount string) {
	mount = image(t)
	w = newWorld(t, lease)
	dumpOnFailure(t, w)
	w.dirs["lb1"] = filepath.Join(mount, "had")
	w.found()
	t.Cleanup(func() {
		for _, n := range w.nodes {
			n.kill()
		}
	})
	if leader := w.leader(2*time.Second, "lb1", "lb2", "w1"); leader.name != "lb1" {
		id := w.nodes["lb1"].Self()
		_ = leader.host().raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id)).Error()
		w.leader(5*time.Second, "lb1")
		w.whole(5 * time.Second)
	}
	return w, mount
}

// growLog proposes through lb1 until its file needs more space than there is.
func growLog(t *testing.T, w *world) {
	t.Helper()
	w.eventually(20*time.Second, "lb1's disk is noticed", func() error {
		w.nodes["lb1"].Propose(1, noteCommand(strings.Repeat("x", 1000)))
		if d := w.nodes["lb1"].Status().Disk; d.Healthy {
			return errors.New("healthy")
		}
		return nil
	})
}

func TestD01AFullDiskOfTheLeader(t *testing.T) {
	w, mount := onImage(t)
	release := fill(t, mount)
	growLog(t, w)
	next := w.leader(10*time.Second, "lb2", "w1")
	next.submit(t, 2*time.Second, "goes on")
	if d := w.nodes["lb1"].Status().Disk; !strings.Contains(d.Text, "no space left") {
		t.Errorf("%+v", d)
	}
	// It can be started on a full disk.
	self := w.nodes["lb1"].Self()
	if again := w.restart("lb1"); again.Self() != self {
		t.Errorf("it is %s after a start on a full disk, and was %s", again.Self(), self)
	}
	time.Sleep(500 * time.Millisecond)
	next.submit(t, 2*time.Second, "still goes on")
	release()
	w.whole(15 * time.Second)
}

func TestD02D03AFrozenDiskOfTheLeader(t *testing.T) {
	w, mount := onImage(t)
	run(t, "fsfreeze", "-f", mount)
	w.nodes["lb1"].Propose(1, noteCommand("stuck"))
	start := time.Now()
	next := w.leader(10*time.Second, "lb2", "w1")
	t.Logf("next leader after %s", time.Since(start))
	next.submit(t, 2*time.Second, "goes on")
	if d := w.nodes["lb1"].Status().Disk; !strings.Contains(d.Text, "waiting for the disk") {
		t.Errorf("%+v", d)
	}
	time.Sleep(2 * time.Second)
	run(t, "fsfreeze", "-u", mount)
	w.whole(15 * time.Second)
}

func TestD04AFrozenDiskOfAFollower(t *testing.T) {
	w, mount := onImage(t)
	leader := w.nodes["lb1"]
	id := w.nodes["lb2"].Self()
	_ = leader.host().raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id)).Error()
	next := w.leader(5*time.Second, "lb2")
	w.whole(5 * time.Second)
	term := next.Status().Term
	run(t, "fsfreeze", "-f", mount)
	for i := range 5 {
		next.submit(t, 2*time.Second, fmt.Sprint("goes on ", i))
	}
	time.Sleep(2 * time.Second)
	if s := next.Status(); s.Term != term || s.Leader != next.Self() {
		t.Errorf("the leader changed: term %d after %d", s.Term, term)
	}
	run(t, "fsfreeze", "-u", mount)
	w.whole(15 * time.Second)
}
