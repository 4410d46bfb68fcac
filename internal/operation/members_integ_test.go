//go:build integ

package operation

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/site"
)

// A node that does not belong is refused, and named in the logs of both sides and in the status. The owner never notices. What a
// program that stands has said of a refusal it does not say again, so that its whole log is looked at.
func TestNodesThatDoNotBelong(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	owner, n := s.awaitWhole()

	s.undisturbed("wrong key", owner, func(s *stage) {
		key := n.Dir() + "/cluster.key"
		good, err := os.ReadFile(key)
		s.must(err)
		s.must(s.Terminate(n))
		other, _ := s.hactl(nil, api.ExitOK, "keygen")
		s.write(n, "cluster.key", other, 0o600)
		theirs := s.logMark(n)
		s.must(s.Start(n))
		s.awaitFile(owner.Log(), "level=WARN", "connection refused", "node="+n.Name, n.Address.String(), "it has another cluster key")
		s.awaitLog(n, theirs, "level=WARN", "connection refused", "node="+owner.Name, owner.Address.String(), "another cluster key")
		s.awaitFinding(owner, "connection-refused", n.Name, n.Address.String(), "another cluster key")
		out, _ := s.hactl(owner, api.ExitOK, "cluster", "status")
		s.says(out, n.Name, "another cluster key")
		s.awaitFinding(n, "connection-refused", owner.Name, "another cluster key")
		out, _ = s.hactl(n, api.ExitNoQuorum, "cluster", "status")
		s.says(out, "another cluster key", "LOCAL VIEW")
		s.must(s.Terminate(n))
		s.write(n, "cluster.key", string(good), 0o600)
		s.must(s.Start(n))
		s.awaitWhole() // and the refusal is not held against it for ever
	})

	s.undisturbed("duplicate node name", owner, func(s *stage) {
		// Another machine has been given a copy of the standby's file, with an address of its own.
		address := netip.MustParseAddr("10.77.0.9")
		twin := s.addMachine("twin", address)
		path, log := s.furnish(twin, n, "node "+n.Name, "node "+n.Name,
			fmt.Sprintf("peer %s { address %s", n.Name, n.Address), fmt.Sprintf("peer %s { address %s", n.Name, address))
		proc := s.startHad(twin, path, log)
		s.awaitFile(owner.Log(), "connection refused", "node="+n.Name, "used at 10.77.0.9", "configured here at "+n.Address.String())
		s.awaitFinding(owner, "connection-refused", `node name "`+n.Name+`" is used at 10.77.0.9`)
		s.awaitFile(log, "the other side refuses", `node name \"`+n.Name+`\" is used at 10.77.0.9`)
		// The real one goes on.
		if status, err := s.Status(s.ctx, owner); err != nil || nodeStatus(status, n.Name).State != api.NodeReady {
			s.t.Errorf("%s is %q in the status: %v", n.Name, nodeStatus(status, n.Name).State, err)
		}
		s.must(proc.Stop(site.StopGrace))
		// And one that takes itself for the owner.
		path, log = s.furnish(twin, owner, fmt.Sprintf("peer %s { address %s", owner.Name, owner.Address),
			fmt.Sprintf("peer %s { address %s", owner.Name, address))
		proc = s.startHad(twin, path, log)
		s.awaitFinding(owner, "connection-refused", `node name "`+owner.Name+`" is used at 10.77.0.9`)
		s.must(proc.Stop(site.StopGrace))
	})

	s.undisturbed("another cluster of the same name, with another key, names our witness", owner, func(s *stage) {
		w := s.Witness()
		x1, x2 := netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("10.77.0.12")
		other, _ := s.hactl(nil, api.ExitOK, "keygen")
		var logs []string
		for i, address := range []netip.Addr{x1, x2} {
			m := s.addMachine(fmt.Sprintf("x%d", i+1), address)
			path, log := s.furnish(m, n, "node "+n.Name, fmt.Sprintf("node x%d", i+1),
				fmt.Sprintf("peer %s { address %s", owner.Name, owner.Address), fmt.Sprintf("peer x1 { address %s", x1),
				fmt.Sprintf("peer %s { address %s", n.Name, n.Address), fmt.Sprintf("peer x2 { address %s", x2))
			s.must(os.WriteFile(fmt.Sprintf("%s/x%d/cluster.key", s.Dir, i+1), []byte(other), 0o600))
			s.startHad(m, path, log)
			logs = append(logs, log)
		}
		s.awaitFile(w.Log(), "connection refused", "node=x1", "it has another cluster key")
		s.awaitFile(logs[0], "connection refused", "node="+w.Name, "another cluster key")
		s.awaitFile(logs[1], "a new cluster waits until all its members have met: ["+w.Name+"] do not answer")
		s.awaitFinding(owner, "connection-refused", "x1", "another cluster key")
		for _, name := range []string{"x1", "x2"} {
			for _, proc := range s.Lab.Host(name).Procs() {
				s.must(proc.Stop(site.StopGrace))
			}
		}
	})
}

// A node that was founded elsewhere, with the same key and name, is refused, and says what it would take.
func TestTwoClustersWithOneNameAndKey(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	owner, n := s.awaitWhole()
	key, err := os.ReadFile(owner.Dir() + "/cluster.key")
	s.must(err)

	// The other one is founded on a LAN of its own.
	elsewhere := setUp(t, nil)
	for _, m := range elsewhere.Nodes {
		s.must(os.WriteFile(m.Dir()+"/cluster.key", key, 0o600))
	}
	s.must(elsewhere.StartAll())
	elsewhere.awaitWhole()
	foreign := elsewhere.Node(n.Name)
	s.must(elsewhere.Terminate(foreign))

	s.undisturbed("it comes from elsewhere", owner, func(s *stage) {
		s.must(s.Terminate(n))
		s.must(os.RemoveAll(n.Data()))
		s.must(os.CopyFS(n.Data(), os.DirFS(foreign.Data())))
		s.must(os.Chmod(n.Data(), 0o700))
		theirs := s.logMark(n)
		s.must(s.Start(n))
		s.awaitFile(owner.Log(), "connection refused", "node="+n.Name, `it belongs to another cluster of the name \"demo\"`)
		s.awaitLog(n, theirs, "connection refused", "node="+owner.Name, `another cluster of the name \"demo\"`)
		s.awaitFinding(owner, "connection-refused", n.Name, `another cluster of the name "demo"`)
		s.awaitFinding(n, "connection-refused", owner.Name, `another cluster of the name "demo"`)
		out, _ := s.hactl(n, api.ExitNoQuorum, "cluster", "status")
		s.says(out, `another cluster of the name "demo"`)
	})
	s.undisturbed("with an empty directory it is taken in", owner, func(s *stage) {
		s.must(s.Terminate(n))
		s.must(os.RemoveAll(n.Data()))
		s.must(s.Start(n))
		s.awaitWhole()
	})
}

// What differs between the files of two nodes is named in the status of each, and moves nothing.
func TestDifferentFiles(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	owner, n := s.awaitWhole()
	for _, drift := range []struct {
		name, old, replacement, code string
		texts                        []string
	}{
		{"VRID", "virtual_router_id 51", "virtual_router_id 61", "drift-vrid",
			[]string{"virtual_router_id of VI_4 is ", "51 on " + owner.Name, "61 on " + n.Name}},
		{"addresses", "        10.77.0.100/24\n", "        10.77.0.100/24\n        10.77.0.101/24\n", "drift-addresses",
			[]string{"the addresses of VI_4 differ", "10.77.0.101/24 only on " + n.Name}},
		{"lease", "    port 7770\n", "    port 7770\n    lease 1.5\n", "drift-lease",
			[]string{"the lease is ", "2.5s on " + owner.Name, "1.5s on " + n.Name}},
		{"advertisement interval", "advert_int 1\n", "advert_int 2\n", "drift-advert-interval",
			[]string{"advert_int of VI_4 is ", "1 on " + owner.Name, "2 on " + n.Name}},
		{"instance name", "VI_4", "VI_FOUR", "drift-group", []string{n.Name + " has a group VI_FOUR", owner.Name + " has none of that name"}},
		{"members", "peer w1 { address 10.77.0.3", "peer w1 { address 10.77.0.33", "drift-members",
			[]string{"the cluster blocks of", owner.Name, n.Name, "name different members"}},
	} {
		s.undisturbed(drift.name, owner, func(s *stage) {
			s.configure(n, drift.old, drift.replacement)
			s.restart(n)
			s.awaitFinding(owner, drift.code, drift.texts...)
			s.awaitFinding(n, drift.code, drift.texts...)
			time.Sleep(500 * time.Millisecond)
		})
	}
	s.undisturbed("none", owner, func(s *stage) {
		s.configure(n)
		s.restart(n)
		s.awaitWhole()
	})
}

// Two files call one instance by two names, or have one address in two instances: no two nodes have the address, even if
// neither hears the other's advertisements; and whoever waits says for whom.
func TestOneAddressInTwoGroups(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	owner, n := s.awaitWhole()
	// deaf keeps the owner's advertisements from the other one for as long as that takes to notice, and then until hears is called.
	deaf := func(s *stage) (hears func()) {
		fault, err := s.Lab.DropProtocol(site.VRRP, owner.Host, n.Host)
		s.must(err)
		time.Sleep(s.DownInterval(n.Member) + 3*time.Second)
		return func() { s.must(fault.Heal()) }
	}
	s.undisturbed("an instance by two names", owner, func(s *stage) {
		s.configure(n, "VI_4", "VI_FOUR")
		s.restart(n)
		defer deaf(s)()
		s.eventually(sayLimit, func() error {
			out, err := s.Hactl(s.ctx, n, "why", "VI_FOUR")
			if err == nil && !strings.Contains(out, owner.Name+" has 10.77.0.100 in its group VI_4") {
				err = fmt.Errorf("it does not say who has the address:\n%s", out)
			}
			return err
		})
	})
	other := func(vips string) string {
		return "vrrp_instance OTHER {\n    interface " + lab.Interface + "\n    virtual_router_id 77\n    advert_int 1\n    virtual_ipaddress {\n" + vips + "    }\n}\n"
	}
	const more = "        10.77.0.101/24\n"
	s.undisturbed("an address that a reload brings", owner, func(s *stage) {
		s.configure(n, "vrrp_instance VI_4", other(more)+"vrrp_instance VI_4") // a group of its own, which nobody else has
		s.restart(n)
		s.eventually(sayLimit, func() error {
			has, err := n.Host.HasAddr(netip.MustParseAddr("10.77.0.101"))
			if err == nil && !has {
				err = fmt.Errorf("%s does not have 10.77.0.101", n.Name)
			}
			return err
		})
		s.configure(n, "        10.77.0.100/24\n", "        10.77.0.102/24\n",
			"vrrp_instance VI_4", other(more+"        10.77.0.100/24\n")+"vrrp_instance VI_4")
		mark := s.logMark(n)
		s.hactl(n, 0, "config", "reload")
		s.awaitLog(n, mark, "10.77.0.100 is not added yet", owner.Name+" has 10.77.0.100 in its group VI_4")
		deaf(s)()
		s.configure(n)
		s.hactl(n, 0, "config", "reload")
		s.awaitWhole()
	})
}

// addMachine plugs a machine into the LAN that is none of the site's nodes, unless it is there already.
func (s *stage) addMachine(name string, address netip.Addr) *lab.Host {
	s.t.Helper()
	if host := s.Lab.Host(name); host != nil {
		return host
	}
	host, err := s.Lab.AddHost(name, netip.PrefixFrom(address, site.Subnet4.Bits()))
	s.must(err)
	return host
}

// furnish gives a machine the file of a node, edited, with paths of its own, and the cluster's key.
func (s *stage) furnish(host *lab.Host, like *site.Node, pairs ...string) (config, log string) {
	s.t.Helper()
	dir := s.Dir + "/" + host.Name()
	s.must(os.RemoveAll(dir))
	s.must(os.Mkdir(dir, 0o700))
	text := strings.ReplaceAll(s.edited(like, pairs...), like.Dir()+"/", dir+"/")
	s.must(os.WriteFile(dir+"/keepalived.conf", []byte(text), 0o600))
	key, err := os.ReadFile(like.Dir() + "/cluster.key")
	s.must(err)
	s.must(os.WriteFile(dir+"/cluster.key", key, 0o600))
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	return dir + "/keepalived.conf", dir + "/log"
}

func (s *stage) startHad(host *lab.Host, config, log string) *lab.Proc {
	s.t.Helper()
	proc, err := host.Start(lab.Command{Path: binaries.Had, Args: []string{"-f", config}, LogFile: log})
	s.must(err)
	return proc
}
