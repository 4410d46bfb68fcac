//go:build integ

package integ

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab/site"
	"github.com/hactl/had/internal/lab/vm"
)

// stepClock sets the machine's wall clock.
func stepClock(by time.Duration) error {
	if !vm.Inside() {
		return errors.New("the clock of this machine is left alone")
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return err
	}
	then := unix.NsecToTimespec(now.Nano() + int64(by))
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &then); err != nil {
		return fmt.Errorf("set the wall clock by %s: %w", by, err)
	}
	return nil
}

// withinASecond is the time in which a director must have noticed a step and written its guard again, on an emulated processor.
func withinASecond(*scene) time.Duration { return time.Second }

// What may not be done to this machine, or takes a kernel on which everybody may change everybody's rules, as Debian 12's.
func TestVM(t *testing.T) {
	if inVM(t) {
		return
	}
	// The emulated processor is a slow one.
	s := newSite(t, func(p *site.Plan) { p.Period = 5 * time.Millisecond })
	// Steps of the wall clock move nothing: no lease is measured by it. The kernel's guard looks at it, in one of two conditions, and
	// is written again at once.
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		play(t, s, trial{
			name: fmt.Sprintf("the wall clock is set by %s", by), expect: stays, bound: withinASecond, hold: 10 * time.Second,
			make: func(*scene) error { return stepClock(by) },
		})
		// Nobody writes the guard again while the owner is frozen.
		play(t, s, trial{
			name: fmt.Sprintf("the owner is frozen and the wall clock set by %s", by), expect: moves, hold: time.Second,
			make: func(s *scene) error { return errors.Join(s.Freeze(s.owner), stepClock(by)) },
			heal: func(s *scene) error { return s.Thaw(s.owner) },
		})
	}
	// Tables belong to nobody here: the guard is gone, and put in place again.
	for _, n := range s.Directors() {
		if !strings.Contains(n.LogTail(64<<10), "no nf_tables tables that only their owner can change") {
			t.Errorf("%s does not say that its guard is at everybody's mercy: this is not the kernel for this test", n.Name)
		}
	}
	play(t, s, flushOwner)
	play(t, s, flushStandby)
	play(t, s, flushAndFreezeOwner)

	t.Run("the guard alone", func(t *testing.T) {
		cmd := exec.Command(filepath.Join(vm.Programs, guardTests), "-test.v", "-test.run=^TestSetWallClock$")
		cmd.Env = append(os.Environ(), "HAD_TEST_MAY_SET_CLOCK=1", "HAD_NO_SKIP=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
	})
}

// Addresses on an interface of their own that shares the hardware address of the one below (use_ipvlan), which this machine's
// kernel may not have.
func TestVMIPVLAN(t *testing.T) {
	if inVM(t, "ipvlan") {
		return
	}
	s := newSite(t, func(p *site.Plan) { p.Period, p.Instance = 5*time.Millisecond, []string{"use_ipvlan"} })
	owner, _ := awaitWhole(t, s)
	links, err := owner.Host.Netlink().LinkList()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Type() == "ipvlan" }) {
		t.Errorf("%s has no ipvlan: %v", owner.Name, links)
	}
	play(t, s, trial{
		name: "a planned move", expect: moves, bound: withinASecond, hold: time.Second,
		make: func(s *scene) error {
			_, err := s.Hactl(s.ctx, s.owner, "move", s.Group(), "--to", s.other.Name, "--yes")
			return err
		},
	})
	play(t, s, freezeOwner)
	play(t, s, killOwner)
}
