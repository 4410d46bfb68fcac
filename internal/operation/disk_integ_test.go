//go:build integ

package operation

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab/site"
)

// imageBytes is the size of the file system below a data directory.
const imageBytes = 24 << 20

// loops serializes the search for free loop devices.
var loops sync.Mutex

// disk is a small ext4 file system of its own below a node's data directory.
type disk struct {
	s      *stage
	node   *site.Node
	image  string // the file
	device string // loop device: "loop3"
	frozen bool
	full   bool
}

// giveDisks puts the data directories of all nodes, whose programs do not run yet, on file systems of their own.
func (s *stage) giveDisks() map[*site.Node]*disk {
	s.t.Helper()
	disks := map[*site.Node]*disk{}
	for _, n := range s.Nodes {
		d := &disk{s: s, node: n, image: filepath.Join(s.Dir, n.Name+".img")}
		s.must(os.WriteFile(d.image, nil, 0o600))
		s.must(os.Truncate(d.image, imageBytes))
		out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", d.image).CombinedOutput()
		if err != nil {
			s.t.Fatalf("mkfs.ext4: %v: %s", err, out)
		}
		d.mount()
		s.must(os.Chmod(n.Data(), 0o700))
		if n.Unprivileged() {
			s.must(os.Chown(n.Data(), nobody, nobody))
		}
		disks[n] = d
		s.t.Cleanup(func() {
			if err := errors.Join(unix.Unmount(n.Data(), unix.MNT_DETACH), os.Remove(d.image)); err != nil {
				s.t.Error(err)
			}
		})
	}
	// Before that no program may have a file there, and none ends that waits for a disk.
	s.t.Cleanup(func() {
		for _, d := range disks {
			d.thaw()
		}
		if err := s.Lab.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return disks
}

// mount mounts the disk below the node's data directory.
func (d *disk) mount() {
	d.s.t.Helper()
	device, err := mountImage(d.image, d.node.Data())
	d.s.must(err)
	d.device = device
}

// mountImage mounts a file through a loop device that goes away with the mount, and returns the device's name.
func mountImage(image, dir string) (device string, err error) {
	loops.Lock()
	defer loops.Unlock()
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	for range 10 {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("find a free loop device: %w", err)
		}
		device = fmt.Sprintf("loop%d", number)
		name := "/dev/" + device
		loop, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if errors.Is(err, unix.EBUSY) {
			loop.Close()
			continue // somebody else was faster
		}
		if err == nil {
			err = unix.Mount(name, dir, "ext4", 0, "errors=remount-ro")
		}
		loop.Close()
		if err != nil {
			return "", fmt.Errorf("mount %s on %s by %s: %w", image, dir, name, err)
		}
		return device, nil
	}
	return "", errors.New("no loop device is free")
}

// fail has the file system find an error: from then on it is read-only.
func (d *disk) fail() {
	d.s.t.Helper()
	d.s.must(os.WriteFile(filepath.Join("/sys/fs/ext4", d.device, "trigger_fs_error"), []byte("a test"), 0))
}

// repair checks the disk of a node whose program does not run, and mounts it anew.
func (d *disk) repair() {
	d.s.t.Helper()
	d.s.must(unix.Unmount(d.node.Data(), 0))
	const repaired = 1 // exit code: there were errors, and there are none any more
	out, err := exec.Command("e2fsck", "-f", "-y", d.image).CombinedOutput()
	if exit := new(exec.ExitError); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != repaired) {
		d.s.t.Fatalf("e2fsck: %v: %s", err, out)
	}
	d.mount()
}

// fill takes all of the space.
func (d *disk) fill() {
	d.s.t.Helper()
	d.full = true
	f, err := os.Create(filepath.Join(d.node.Data(), "ballast"))
	d.s.must(err)
	defer f.Close()
	var size int64
	for block := int64(1 << 20); block >= 1<<10; {
		switch err := unix.Fallocate(int(f.Fd()), 0, size, block); {
		case errors.Is(err, unix.ENOSPC):
			block /= 2
		case err != nil:
			d.s.t.Fatal(err)
		default:
			size += block
		}
	}
}

// free gives the space back.
func (d *disk) free() {
	if d.full {
		d.full = false
		if err := os.Remove(filepath.Join(d.node.Data(), "ballast")); err != nil {
			d.s.t.Error(err)
		}
	}
}

const (
	// diskSamples is how often the status is asked while a disk is full.
	diskSamples = 20
	// mostCommits is how many entries at most fit on a full disk: raft.db may have free pages.
	mostCommits = 100
)

// saysDisk tells whether a node's status has a finding about the disk of another.
func (s *stage) saysDisk(asked, of *site.Node) bool {
	s.t.Helper()
	status, err := s.Status(s.ctx, asked)
	s.must(err)
	return slices.ContainsFunc(status.Findings, func(f api.Finding) bool { return f.Code == "disk" && f.Node == of.Name })
}

const (
	fiFreeze = 0xc0045877 // FIFREEZE, _IOWR('X', 119, int)
	fiThaw   = 0xc0045878 // FITHAW
)

// freeze makes every write wait until thaw.
func (d *disk) freeze() {
	d.s.t.Helper()
	d.s.must(d.control(fiFreeze))
	d.frozen = true
}

func (d *disk) thaw() {
	if d.frozen {
		d.frozen = false
		if err := d.control(fiThaw); err != nil {
			d.s.t.Error(err)
		}
	}
}

func (d *disk) control(request uint) error {
	dir, err := os.Open(d.node.Data())
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.IoctlSetInt(int(dir.Fd()), request, 0); err != nil {
		return fmt.Errorf("freeze or thaw the disk of %s: %w", d.node.Name, err)
	}
	return nil
}

// leader waits until a node says who leads the log, and it is none of the others.
func (s *stage) leader(asked *site.Node, not ...*site.Node) *site.Node {
	s.t.Helper()
	var leader *site.Node
	s.eventually(sayLimit, func() error {
		status, err := s.Status(s.ctx, asked)
		if err != nil {
			return err
		}
		leader = s.Node(status.Leader)
		for _, n := range not {
			if leader == n {
				leader = nil
			}
		}
		if leader == nil {
			return fmt.Errorf("%s says that %q leads", asked.Name, status.Leader)
		}
		return nil
	})
	return leader
}

// own makes a node the owner.
func (s *stage) own(n *site.Node) {
	s.t.Helper()
	owner, _ := s.awaitWhole()
	if owner != n {
		s.move(owner, n)
	}
	s.awaitWhole()
}

// commit has one entry committed to the log and returns how long that took.
func (s *stage) commit(asked, marked *site.Node, on bool) time.Duration {
	s.t.Helper()
	began := time.Now()
	verb := map[bool]string{true: "on", false: "off"}[on]
	args := []string{"maintenance", verb, marked.Name, "--yes", "--timeout", "30s"}
	if on {
		args = append(args, "--reason", strings.Repeat("because it is large ", 150)) // a page of raft.db
	}
	s.hactl(asked, api.ExitOK, args...)
	return time.Since(began)
}

// A full disk below a data directory costs nobody an address, is named, leaves takeovers to the others, and is over when
// there is room again.
func TestFullDisks(t *testing.T) {
	t.Parallel()
	s := setUp(t, nil)
	disks := s.giveDisks()
	s.must(s.StartAll())
	s.awaitWhole()
	for _, which := range []struct {
		name string
		// arrange makes the owner and the leader what they should be, and returns whose disk is to be full.
		arrange func(s *stage) *site.Node
	}{
		{"the owner's, who leads too", func(s *stage) *site.Node {
			leader, _, _ := s.leaderAndOwner(true)
			return leader
		}},
		{"the leader's, who owns nothing", func(s *stage) *site.Node {
			leader, _, _ := s.leaderAndOwner(false)
			return leader
		}},
		{"a follower's: the witness", func(s *stage) *site.Node { return s.Witness() }},
		{"the owner's, who follows", func(s *stage) *site.Node {
			_, owner, _ := s.leaderAndOwner(false)
			return owner
		}},
	} {
		s.run(which.name, func(s *stage) {
			full := which.arrange(s)
			owner, other := s.awaitWhole()
			s.t.Logf("%s owns, %s leads, the disk of %s is filled", owner.Name, s.leader(owner).Name, full.Name)
			watched := s.watch()
			defer disks[full].free() // the next part counts on it
			disks[full].fill()
			// Some entries still fit. Each is committed, by the others if need be.
			var slowest time.Duration
			commits := 0
			for ; commits < mostCommits && (commits < 8 || !s.saysDisk(other, full)); commits += 2 {
				slowest = max(slowest, s.commit(owner, other, true), s.commit(owner, other, false))
			}
			s.t.Logf("the slowest of %d commits took %s", commits, slowest)
			s.awaitFinding(other, "disk", "no space left on device")
			s.eventually(sayLimit, func() error {
				out, err := s.Hactl(s.ctx, owner, "cluster", "status")
				if err == nil && !containsAll(out, []string{full.Name, "no space left on device"}) {
					err = fmt.Errorf("the status does not say whose disk is full:\n%s", out)
				}
				return err
			})
			said := 0
			for range diskSamples {
				if s.saysDisk(other, full) {
					said++
				}
				time.Sleep(100 * time.Millisecond)
			}
			s.t.Logf("%d of %d answers said so meanwhile", said, diskSamples)
			watched.kept(owner)

			if other == full && s.standing(owner, full.Name, "in maintenance") == nil {
				s.missed = full.Name + " had no room for the end of its maintenance, and rightly takes nothing"
				disks[full].free()
				s.commit(owner, full, true)
				s.commit(owner, full, false)
				s.must(s.AwaitHealthy(s.ctx, recoverLimit))
				return
			}
			// The other majority can still change owners.
			watched = s.watch()
			if owner == full {
				s.must(s.Kill(owner))
				s.awaitOwner(other, recoverLimit)
				watched.moved(owner, other, s.takeoverBound(other)+2*time.Second)
				disks[full].free()
				s.must(s.Start(owner))
			} else {
				s.move(owner, other)
				watched.moved(owner, other, handoverBound)
				disks[full].free()
				// The next write that succeeds shows that it is well again.
				s.commit(other, owner, true)
				s.commit(other, owner, false)
			}
			s.must(s.AwaitHealthy(s.ctx, recoverLimit))
			watched.verdict()
		})
	}
}

// A file system that turns read-only, as ext4's does when it finds an error, here that of the owner, who leads the log: it costs nobody an
// address, is named, leaves takeovers to the others, and once it is repaired the member goes on with its data.
func TestAReadOnlyDisk(t *testing.T) {
	t.Parallel()
	s := setUp(t, nil)
	disks := s.giveDisks()
	s.must(s.StartAll())
	s.run("the owner's, who leads too", func(s *stage) {
		w := s.Witness()
		_, owner, other := s.leaderAndOwner(true)
		id := s.memberID(w, owner)
		watched := s.watch()
		disks[owner].fail()
		// It shows when something is to be written, which the others do.
		s.commit(w, other, true)
		s.commit(w, other, false)
		s.awaitFinding(w, "disk", owner.Name, "read-only file system")
		watched.kept(owner)

		watched = s.watch()
		s.must(s.Kill(owner))
		s.awaitOwner(other, recoverLimit)
		watched.moved(owner, other, s.takeoverBound(other)+2*time.Second)
		disks[owner].repair()
		s.must(s.Start(owner))
		s.must(s.AwaitHealthy(s.ctx, recoverLimit))
		if again := s.memberID(w, owner); again != id {
			s.t.Errorf("%s was %s, and comes back as %s", owner.Name, id, again)
		}
	})
}

// Disks that stand still cost an owner nothing, on one node or on all.
func TestFrozenDisks(t *testing.T) {
	t.Parallel()
	s := setUp(t, nil)
	disks := s.giveDisks()
	s.must(s.StartAll())
	s.awaitWhole()

	for _, span := range []time.Duration{2 * time.Second, 5 * time.Second} {
		s.run(fmt.Sprintf("every disk for %s", span), func(s *stage) {
			owner, other := s.awaitWhole()
			watched := s.watch()
			began := time.Now()
			for _, d := range disks {
				d.freeze()
			}
			committed := make(chan time.Duration, 1)
			go func() {
				s.commit(owner, other, true)
				committed <- time.Since(began)
			}()
			time.Sleep(span)
			for _, d := range disks {
				d.thaw()
			}
			s.t.Logf("every disk stood still for %s: nothing was committed for %s", span, <-committed)
			s.commit(owner, other, false)
			s.must(s.AwaitHealthy(s.ctx, recoverLimit))
			watched.kept(owner)
		})
	}
	for _, leaderOwns := range []bool{true, false} {
		s.run(fmt.Sprintf("the leader's for 6 s, who owns the group: %v", leaderOwns), func(s *stage) {
			w := s.Witness()
			leader, owner, other := s.leaderAndOwner(leaderOwns)
			watched := s.watch()
			began := time.Now()
			disks[leader].freeze()
			// Something has to be written before anybody can notice. This command waits for the old leader's answer.
			noticed := make(chan error, 1)
			go func() {
				_, err := s.Hactl(s.ctx, w, "maintenance", "on", other.Name, "--yes", "--timeout", "3s")
				noticed <- err
			}()
			next := s.leader(w, leader)
			gap := time.Since(began)
			err := <-noticed
			s.t.Logf("the disk of the leader %s stands still: %s leads after %s; the command that found out, after %s: %v",
				leader.Name, next.Name, gap, time.Since(began), err)
			if gap > giveUpLimit {
				s.t.Errorf("the leader was given up after %s, want at most %s", gap, giveUpLimit)
			}
			if took := s.commit(w, other, true) + s.commit(w, other, false); took > commitLimit {
				s.t.Errorf("two commits took %s while the disk of %s stood still, want at most %s", took, leader.Name, commitLimit)
			}
			s.awaitFinding(w, "disk", "waiting for the disk")
			watched.kept(owner)

			if leaderOwns { // the new leader can grant the group to somebody else
				moving := s.watch()
				s.move(w, other)
				// The owner still takes itself for the leader, so its release reaches nobody and its lease has to end.
				moving.moved(owner, other, s.takeoverBound(other))
			}
			time.Sleep(time.Until(began.Add(6 * time.Second)))
			disks[leader].thaw()
			s.must(s.AwaitHealthy(s.ctx, recoverLimit))
		})
	}
}

// While every disk is slow (each write may wait for two seconds, on all nodes) an election of the log's leader and a restart of the
// witness cost the owner nothing: its address answers every probe.
func TestSlowDisks(t *testing.T) {
	t.Parallel()
	s := setUp(t, nil)
	disks := s.giveDisks()
	s.must(s.StartAll())
	s.run("an election and a restart of the witness", func(s *stage) {
		leader, owner, _ := s.leaderAndOwner(false)
		watched := s.watch()
		stop := s.slow(disks)
		s.must(s.Kill(leader))
		next := s.leader(owner, leader)
		s.must(s.Start(leader))
		s.awaitAnswer(leader)
		s.must(s.Terminate(s.Witness()))
		s.must(s.Start(s.Witness()))
		s.awaitAnswer(s.Witness())
		s.must(s.AwaitHealthy(s.ctx, recoverLimit))
		s.t.Logf("%s led after %s, and %s owned the group", next.Name, leader.Name, owner.Name)
		s.must(stop())
		watched.kept(owner)
	})
}

const (
	slowSpan = 2 * time.Second        // for which the disks stand still, again and again
	fastSpan = 100 * time.Millisecond // in between
)

// slow makes the disks slow until the function returned is called.
func (s *stage) slow(disks map[*site.Node]*disk) (stop func() error) {
	ending, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for running := true; running && err == nil; {
			for _, d := range disks {
				err = errors.Join(err, d.control(fiFreeze))
			}
			select {
			case <-ending:
				running = false
			case <-time.After(slowSpan):
			}
			for _, d := range disks {
				err = errors.Join(err, d.control(fiThaw))
			}
			time.Sleep(fastSpan)
		}
		ended <- err
	}()
	end := sync.OnceValue(func() error { close(ending); return <-ended })
	s.t.Cleanup(func() { _ = end() })
	return end
}

// awaitAnswer waits until a node that was started answers.
func (s *stage) awaitAnswer(n *site.Node) {
	s.t.Helper()
	s.eventually(recoverLimit, func() error {
		_, err := s.Status(s.ctx, n)
		return err
	})
}

// giveUpLimit is how long a leader may stay the leader that cannot write: the limit of a stall, a heartbeat timeout and its
// random part, an election among those who are left, and as long again for a busy machine.
const giveUpLimit = 8 * time.Second

// commitLimit is how long two commits without the member whose disk stands still may take, on a busy machine.
const commitLimit = 6 * time.Second

// leaderAndOwner makes the leader of the log the owner, or the other director.
func (s *stage) leaderAndOwner(same bool) (leader, owner, other *site.Node) {
	s.t.Helper()
	s.awaitWhole()
	leader = s.leader(s.Nodes[0], s.Witness())
	for _, n := range s.Directors() {
		if (n == leader) == same {
			owner = n
		} else {
			other = n
		}
	}
	s.own(owner)
	if now := s.leader(owner); now != leader {
		s.t.Fatalf("%s leads, no longer %s", now.Name, leader.Name)
	}
	return leader, owner, other
}
