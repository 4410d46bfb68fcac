//go:build integ

package integ

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/need"
	"github.com/hactl/had/internal/lab/site"
)

// supply is the power supply of a director, as files: agents write "0" into power, and find down once the machine has no
// power any more.
type supply struct {
	dir  string
	node *site.Node
	site *site.Site
	cuts atomic.Int32
}

func newSupply(t *testing.T) *supply {
	t.Helper()
	p := &supply{dir: t.TempDir()}
	if err := os.Chmod(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p.set(t, "power", "1")
	p.set(t, "mode", "honest")
	for file, text := range map[string]string{"agent": fenceAgent, "chassis": chassis} {
		path := filepath.Join(p.dir, file)
		if err := need.Program(path, []byte(strings.ReplaceAll(text, "DIR", p.dir))); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// fenceAgent is an agent that does what the file mode says.
const fenceAgent = `#!/bin/sh
cd DIR
action=$(sed -n 's/^action=//p' | tail -1)
[ "$action" = metadata ] && { echo '<resource-agent name="a"><parameters></parameters><actions><action name="off"/><action name="status"/></actions></resource-agent>'; exit 0; }
echo "$action" >>calls
case $action-$(cat mode) in
off-honest) echo 0 >power; while [ ! -e down ]; do sleep 0.01; done;;
off-broken) echo 'the device is broken' >&2; exit 1;;
off-hanging) sleep 1000;;
off-garbage) head -c 100000 /dev/urandom; exit 77;;
on-*) echo 1 >power; exit 0;;
status-garbage) exit 77;;
status-*) [ -e down ] && exit 2;;
esac
exit 0
`

// chassis is what ipmi_sim asks about the power, and has it cut with.
const chassis = `#!/bin/sh
cd DIR
verb=$1; shift
case $verb in
get) for p in "$@"; do
	v=0; [ "$p" = power ] && [ ! -e down ] && v=1
	echo "$p:$v"
done;;
set) [ "$1" = power ] && echo "$2" >power;;
esac
exit 0
`

func (p *supply) set(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// connect lets the power supply work: what is switched off has neither a network nor a process from then on.
func (p *supply) connect(t *testing.T, s *site.Site, n *site.Node) {
	p.site, p.node = s, n
	stop, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-ended })
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			power, _ := os.ReadFile(filepath.Join(p.dir, "power"))
			if strings.TrimSpace(string(power)) != "0" || p.down() {
				continue
			}
			p.cuts.Add(1)
			err := keep(s.Lab.CutPort(n.Host))
			if n.Running() {
				err = errors.Join(err, s.Kill(n))
			}
			vip := netip.PrefixFrom(site.VIP4, site.Subnet4.Bits())
			if has, _ := n.Host.HasAddr(vip.Addr()); has { // a kernel without power forgets
				err = errors.Join(err, n.Host.RemoveAddr(vip))
			}
			if err != nil {
				t.Error(err)
			}
			p.set(t, "down", "")
		}
	}()
}

func (p *supply) down() bool {
	_, err := os.Stat(filepath.Join(p.dir, "down"))
	return err == nil
}

// restore gives the machine power again and starts it.
func (p *supply) restore(t *testing.T) error {
	p.set(t, "power", "1")
	if err := os.RemoveAll(filepath.Join(p.dir, "down")); err != nil {
		return err
	}
	if p.node.Running() {
		return p.site.Thaw(p.node)
	}
	return p.site.Start(p.node)
}

// TestFencing: a director that is lost while its lease runs for long is taken over from when it is off, and not before.
func TestFencing(t *testing.T) {
	t.Parallel()
	const sim = "/usr/bin/ipmi_sim"
	for _, program := range []string{sim, "/usr/sbin/fence_ipmilan"} {
		if _, err := os.Stat(program); err != nil {
			need.Skip(t, "%v", err)
		}
	}
	one, two := newSupply(t), newSupply(t)
	s := newSite(t, func(p *site.Plan) {
		p.Cluster = []string{"lease 8", "fencing required",
			fmt.Sprintf("fence lb1 { agent %s/agent\n timeout 2\n retry 0\n }", one.dir),
			"fence lb2 { agent fence_ipmilan\n option ip 127.0.0.1\n option ipport 9623\n option username admin\n option password test\n" +
				" option lanplus 1\n option cipher 3\n timeout 60\n }"}
	})
	lb1, lb2 := s.Node("lb1"), s.Node("lb2")
	one.connect(t, s, lb1)
	two.connect(t, s, lb2)
	startIPMI(t, sim, lb1.Host, two)
	if _, err := s.Hactl(t.Context(), lb2, "fence", "test", "lb1"); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Hactl(t.Context(), lb1, "fence", "list"); err != nil || strings.Contains(out, "test") || !strings.Contains(out, "password") {
		t.Fatalf("%s, %v", out, err)
	}
	ownedBy := func(n *site.Node) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if owner, _ := awaitWhole(t, s); owner != n {
				move(t, s, owner, n)
			}
		}
	}
	restore := func(sc *scene) error {
		if sc.owner == lb1 {
			return one.restore(t)
		}
		return two.restore(t)
	}
	says := func(t *testing.T, node *site.Node, want string) {
		t.Helper()
		out, err := s.Hactl(t.Context(), node, "fence", "history")
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("the history does not say %q (error: %v):\n%s", want, err, out)
		}
	}

	calls := func() string { b, _ := os.ReadFile(filepath.Join(one.dir, "calls")); return string(b) }
	before := calls()
	play(t, s, trial{
		prepare: ownedBy(lb1),
		name:    "fencing: the directors are cut from each other", id: "F04", expect: stays, bound: withoutLoss, hold: 6 * time.Second,
		make: func(s *scene) error { return keep(s.Lab.DropPair(s.owner.Host, s.other.Host)) },
	})
	if strings.Contains(strings.TrimPrefix(calls(), before), "off") || one.cuts.Load()+two.cuts.Load() != 0 {
		t.Errorf("somebody was fenced who answers a majority: %s", calls())
	}

	play(t, s, trial{
		prepare: ownedBy(lb1),
		name:    "fencing: the owner is frozen, and switched off before its lease is over", id: "F01", expect: moves,
		bound: func(s *scene) time.Duration { return 8 * time.Second },
		make:  func(s *scene) error { return s.Freeze(s.owner) },
		heal:  restore,
	})
	says(t, lb2, "lb1 has been switched off by lb2 with agent")

	// An agent that lies, hangs, prints garbage or fails: nobody takes over, although the lease is over.
	for i, mode := range []string{"liar", "garbage"} {
		play(t, s, trial{
			prepare: ownedBy(lb1),
			name:    "fencing: the owner is dead, and its agent is of the kind " + mode, id: "F02", expect: moves,
			make: func(sc *scene) error {
				one.set(t, "mode", mode)
				if err := errors.Join(keep(s.Lab.CutPort(lb1.Host)), s.Kill(lb1)); err != nil {
					return err
				}
				time.Sleep(11 * time.Second)
				if owner, _, err := s.Owner(); err == nil {
					return fmt.Errorf("%s has taken over from a node that is not known to be off", owner.Name)
				}
				status, err := s.Status(sc.ctx, lb2)
				if err != nil {
					return err
				}
				if text := site.Describe(status); !strings.Contains(text, "fence") {
					return fmt.Errorf("the status does not tell of the fence: %s", text)
				}
				if i == 0 { // the device is repaired, or somebody has seen to it
					one.set(t, "mode", "honest")
					return nil
				}
				_, err = s.Hactl(sc.ctx, lb2, "fence", "confirm", "lb1", "--attest", "lb1", "--reason", "plug pulled")
				return err
			},
			heal: restore,
		})
		one.set(t, "mode", "honest")
		says(t, lb2, "lb2 could not switch lb1 off")
	}
	says(t, lb2, "says that lb1 is off")

	play(t, s, trial{
		prepare: ownedBy(lb2),
		name:    "fencing: the owner is cut off, and its BMC switches it off", id: "F01", expect: moves,
		make: func(s *scene) error { return keep(s.Lab.CutPort(s.owner.Host)) },
		heal: restore,
	})
	if two.cuts.Load() == 0 {
		t.Error("lb2 was not switched off")
	}
	says(t, lb1, "lb2 has been switched off by lb1 with fence_ipmilan")
	out, err := s.Hactl(t.Context(), lb1, "fence", "confirm", "lb2", "--attest", "lb2")
	if err == nil {
		t.Errorf("a fence of a node that answers is confirmed: %s", out)
	}
}

// startIPMI runs a BMC for a power supply on the loopback of a host.
func startIPMI(t *testing.T, program string, host *lab.Host, p *supply) {
	t.Helper()
	conf := filepath.Join(p.dir, "lan.conf")
	p.set(t, "lan.conf", `name "bmc"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 9623
    priv_limit admin
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "`+p.dir+`/chassis"
  user 1 true "" "test" user 10 none md2 md5 straight
  user 2 true "admin" "test" admin 10 none md2 md5 straight
`)
	p.set(t, "sim.emu", "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n")
	proc, err := host.Start(lab.Command{Path: program, LogFile: filepath.Join(p.dir, "sim.log"),
		Args: []string{"-c", conf, "-f", filepath.Join(p.dir, "sim.emu"), "-s", filepath.Join(p.dir, "state"), "-n"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if proc.Running() {
			_ = proc.KillTree()
		}
	})
}
