//go:build integ

package integ

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/site"
)

// What a kernel has one of for all of its namespaces, and which is this machine's, too: control groups, and the table of neighbours.
func TestVMLimits(t *testing.T) {
	if inVM(t) {
		return
	}
	s := setUp(t, func(p *site.Plan) { p.Period = 5 * time.Millisecond })
	groups := map[*site.Node]*lab.Cgroup{}
	for _, n := range s.Directors() {
		group, err := n.Host.Confine()
		if err != nil {
			t.Fatal(err)
		}
		groups[n] = group
	}
	if err := s.StartAll(); err != nil {
		t.Fatal(err)
	}
	awaitWhole(t, s)
	// counted checks that a file of the owner's control group has a line with a name and a number that is not 0.
	counted := func(t *testing.T, s *scene, file, name string) {
		t.Helper()
		text, err := groups[s.owner].Get(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			if number, ok := strings.CutPrefix(line, name+" "); ok && strings.TrimSpace(number) != "0" {
				return
			}
		}
		t.Errorf("%s of %s does not count %s: nothing is proved:\n%s", file, s.owner.Name, name, text)
	}
	play(t, s, trial{
		name: "the owner is frozen by its control group", id: "P05", expect: moves, bound: withinDownInterval, hold: time.Second,
		make:   func(s *scene) error { return groups[s.owner].Set("cgroup.freeze", "1") },
		during: func(t *testing.T, s *scene) { counted(t, s, "cgroup.events", "frozen") },
		heal:   func(s *scene) error { return groups[s.owner].Set("cgroup.freeze", "0") },
	})
	play(t, s, trial{
		name: "the kernel kills the owner, which may not have the memory that it has", id: "P17", expect: moves, bound: withinDownInterval,
		make: func(s *scene) error {
			if err := groups[s.owner].Set("memory.max", "1M"); err != nil {
				return err
			}
			select {
			case <-s.owner.Proc.Done():
				return nil
			case <-time.After(recoverLimit):
				return fmt.Errorf("%s is still there", s.owner.Name)
			}
		},
		during: func(t *testing.T, s *scene) { counted(t, s, "memory.events", "oom_kill") },
		heal: func(s *scene) error {
			return errors.Join(groups[s.owner].Set("memory.max", "max"), s.Start(s.owner))
		},
	})
	full := &stations{next: netip.MustParseAddr("10.99.0.1")}
	play(t, s, trial{
		name: "the table of neighbours is full", id: "H11", expect: stays, bound: repaired,
		make: func(s *scene) error {
			// The observer asks under addresses that no connection keeps in the owner's table, and a kernel does not answer whom it
			// has no room for.
			return errors.Join(s.pinClient(), full.begin(s.owner.Host), full.fill())
		},
		during: func(t *testing.T, s *scene) {
			first := full.added
			for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				if err := full.fill(); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d stations filled the table, and %d more kept it full", first, full.added-first)
		},
		heal: func(*scene) error { return full.end() },
	})
}

// pinClient makes what the owner's kernel knows of the client permanent.
func (s *scene) pinClient() error {
	nl := s.owner.Host.Netlink()
	link, err := nl.LinkByName(lab.Interface)
	if err != nil {
		return err
	}
	list, err := nl.NeighList(link.Attrs().Index, unix.AF_INET)
	if err != nil {
		return err
	}
	for _, n := range list {
		if slices.Equal(n.HardwareAddr, s.Client.MAC()) {
			n.State = netlink.NUD_PERMANENT
			if err := nl.NeighSet(&n); err != nil {
				return err
			}
		}
	}
	return nil
}

// stations are neighbours of a host that are said to be there, on a link that leads nowhere: a kernel keeps them for a while. They take all
// places of its table that are free, and those of all neighbours that nobody needs.
type stations struct {
	host  *lab.Host
	link  netlink.Link
	next  netip.Addr
	added int
}

func (n *stations) begin(host *lab.Host) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "nowhere"
	if err := host.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return err
	}
	link, err := host.Netlink().LinkByName(attrs.Name)
	n.host, n.link = host, link
	return err
}

// fill adds stations until there is no place for one.
func (n *stations) fill() error {
	const most = 1 << 16
	for ; n.added < most; n.added++ {
		err := n.host.Netlink().NeighAdd(&netlink.Neigh{LinkIndex: n.link.Attrs().Index, Family: unix.AF_INET,
			State: netlink.NUD_REACHABLE, IP: n.next.AsSlice(), HardwareAddr: n.host.MAC()})
		switch {
		case errors.Is(err, unix.ENOBUFS):
			return nil
		case err != nil:
			return fmt.Errorf("add the neighbour %s: %w", n.next, err)
		}
		n.next = n.next.Next()
	}
	return errors.New("the table of neighbours cannot be filled")
}

// end removes the link, and them with it.
func (n *stations) end() error { return n.host.Netlink().LinkDel(n.link) }
