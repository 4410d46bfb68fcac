//go:build integ

package integ

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hactl/had/internal/lab/report"
	"github.com/hactl/had/internal/lab/site"
)

// The daemon of the owner is killed alone: its companion shuts the guard and gives the lease up, whether the dead one led the log
// or not. Nobody waits for the lease to end.
func TestTheOwnersDaemonDies(t *testing.T) {
	const (
		wanted = 6 // of each
		tries  = 40
		wish   = 100 * time.Millisecond
	)
	s := newSite(t, nil)
	lease := leaseIntervals * s.AdvertInterval / 2
	taken := map[bool][]time.Duration{} // by whether the dead one led the log
	for try := 0; (len(taken[true]) < wanted || len(taken[false]) < wanted) && try < tries; try++ {
		owner, other := awaitWhole(t, s)
		status, err := s.Status(t.Context(), owner)
		if err != nil {
			t.Fatal(err)
		}
		led := status.Leader == owner.Name
		if len(taken[led]) >= wanted && (led || status.Leader == other.Name) { // then the other one's death would be the other event
			move(t, s, owner, other)
			continue
		}
		v := takenOver(t, s, owner, other, s.KillDaemon)
		t.Logf("the dead one led the log: %t: %s", led, v.String())
		if v.Void == "" {
			taken[led] = append(taken[led], v.Interruption())
		}
		if err := s.Start(owner); err != nil {
			t.Fatal(err)
		}
	}
	for led, event := range map[bool]string{false: "kill -9 of the owner's daemon alone", true: "the same, and it led the log"} {
		if len(taken[led]) < wanted {
			t.Errorf("%s: seen %d times only, of %d wanted", event, len(taken[led]), wanted)
			continue
		}
		spreads.Set(event, 1, fmt.Sprintf("%s; wanted %s, bound half a lease, %s", report.Spread(taken[led]), report.Milliseconds(wish),
			report.Milliseconds(lease/2)))
		slices.Sort(taken[led])
		if longest := taken[led][len(taken[led])-1]; longest > lease/2 {
			t.Errorf("%s: out for up to %s: no better than the end of the lease", event, longest)
		}
		most := wish
		if led { // an election comes on top
			most = handover
		}
		if median := taken[led][len(taken[led])/2]; median > most {
			t.Errorf("%s: half of them were out for more than %s, want at most %s", event, median, most)
		}
	}
}

// withoutCompanion is for an owner whose daemon and companion do nothing any more.
var withoutCompanion = withinDownInterval

func TestDeathsOfProcesses(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	var before int
	for _, tr := range []trial{
		{
			name: "kill -9 of the owner's companion", expect: stays, bound: withoutLoss, hold: 2 * time.Second,
			make: func(s *scene) (err error) {
				if before, err = s.owner.Companion(); err != nil {
					return err
				}
				return syscall.Kill(before, syscall.SIGKILL)
			},
			during: func(t *testing.T, s *scene) {
				after, err := s.owner.Companion()
				t.Logf("a companion takes %s", memoryOf(after))
				if err != nil || after == before || !lives(after) {
					t.Errorf("there is no companion in place of %d: %d, %v", before, after, err)
				}
			},
		},
		{ // by the companion that was started in the course of things
			name: "kill -9 of the owner's daemon", expect: moves, bound: withinHandover, hold: time.Second,
			make: func(s *scene) error { return s.KillDaemon(s.owner) },
			during: func(t *testing.T, s *scene) {
				if pid, err := s.owner.Companion(); err != nil || lives(pid) {
					t.Errorf("the companion %d stays: %v", pid, err)
				}
				if has, err := s.owner.Host.HasAddr(site.VIP4); err != nil || has {
					t.Errorf("the address stays: %t, %v", has, err)
				}
			},
			heal: func(s *scene) error { return s.Start(s.owner) },
		},
		{
			name: "kill -9 of the owner's daemon, which starts at once", expect: whatever, bound: withoutCompanion, hold: 2 * time.Second,
			make: func(s *scene) error { return errors.Join(s.KillDaemon(s.owner), s.Start(s.owner)) },
		},
		{
			name: "kill -9 of the owner's daemon, cut off from all members", expect: moves, bound: withoutCompanion,
			make: func(s *scene) error {
				return errors.Join(keep(s.Lab.DropPair(s.owner.Host, s.other.Host)), keep(s.Lab.DropPair(s.owner.Host, s.Witness().Host)),
					s.KillDaemon(s.owner))
			},
			heal: func(s *scene) error { return s.Start(s.owner) },
		},
		{ // the kernel lets a process group that has lost its parent go on; if it does not, the lease ends, and the next daemon the companion
			name: "kill -9 of the owner's daemon while its companion is frozen", expect: moves, bound: withoutCompanion, hold: time.Second,
			make: func(s *scene) error {
				pid, err := s.owner.Companion()
				return errors.Join(err, syscall.Kill(pid, syscall.SIGSTOP), s.KillDaemon(s.owner))
			},
			heal: func(s *scene) error { return s.Start(s.owner) },
		},
		{
			name: "kill -9 of the standby's daemon", expect: stays, bound: withoutLoss, hold: time.Second,
			make: func(s *scene) error { return s.KillDaemon(s.other) },
			heal: func(s *scene) error { return s.Start(s.other) },
		},
	} {
		play(t, s, tr)
	}
}

// Without nftables only the absence of the addresses counts.
func TestTheOwnersDaemonDiesWithoutAGuard(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(p *site.Plan) { p.Cluster = append(p.Cluster, "guard lifetime") })
	play(t, s, trial{
		name: "kill -9 of the owner's daemon", expect: moves, bound: withinHandover, hold: time.Second,
		make: func(s *scene) error { return s.KillDaemon(s.owner) },
		heal: func(s *scene) error { return s.Start(s.owner) },
	})
}

// An interface with one of the addresses goes together with the daemon.
func TestTheOwnersDaemonDiesWithAnInterface(t *testing.T) {
	t.Parallel()
	const name = "vip0"
	s := setUp(t, func(p *site.Plan) {
		p.Instance = append(p.Instance, "virtual_ipaddress_excluded {\n        10.78.0.9/24 dev "+name+"\n    }")
	})
	add := func(n *site.Node) error {
		kernel, own := n.Host.Netlink(), &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
		return errors.Join(kernel.LinkAdd(own), kernel.LinkSetUp(own))
	}
	for _, n := range s.Directors() {
		if err := add(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.StartAll(); err != nil {
		t.Fatal(err)
	}
	play(t, s, trial{
		name: "kill -9 of the owner's daemon, and an interface goes", expect: moves, bound: withinHandover, hold: time.Second,
		make: func(s *scene) error {
			if err := s.owner.Proc.Signal(syscall.SIGSTOP); err != nil { // it is to have no time to react
				return err
			}
			kernel := s.owner.Host.Netlink()
			own, err := kernel.LinkByName(name)
			if err == nil {
				err = kernel.LinkDel(own)
			}
			return errors.Join(err, s.KillDaemon(s.owner))
		},
		heal: func(s *scene) error { return errors.Join(add(s.owner), s.Start(s.owner)) },
	})
}

// lives tells whether a process runs; one that nobody has collected yet does not.
func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// memoryOf is what of a process is in memory for it alone, in KiB.
func memoryOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "RssAnon") {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(lines, ", ")
}
