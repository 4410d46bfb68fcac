//go:build integ

package operation

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/daemon"
	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/need"
	"github.com/hactl/had/internal/lab/site"
)

// Everything that keeps a program from starting is said with its name and its place, ends it with its exit code, and leaves
// the cluster that runs meanwhile alone.
func TestWhatKeepsAProgramFromStarting(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	owner, n := s.awaitWhole()
	w := s.Witness()
	s.must(s.Terminate(n))
	had := func(s *stage, args ...string) ended { return s.launch(n, nil, binaries.Had, args...) }
	usual := func(s *stage) ended { return had(s, "-f", n.Config()) }

	s.undisturbed("unknown flag", owner, func(s *stage) {
		had(s, "--frobnicate", "-f", n.Config()).expect(s.t, daemon.ExitFailed, "had: unknown flag: --frobnicate")
		s.launch(w, nil, binaries.Hawitness, "--frobnicate").expect(s.t, daemon.ExitFailed, "hawitness: unknown flag: --frobnicate")
	})
	s.undisturbed("no such file", owner, func(s *stage) {
		had(s, "-f", "/nowhere/keepalived.conf").expect(s.t, daemon.ExitMissing, "/nowhere/keepalived.conf", "no such file")
		had(s, "-t", "-f", "/nowhere/keepalived.conf").expect(s.t, daemon.ExitMissing, "/nowhere/keepalived.conf")
	})
	s.undisturbed("a file with 30 errors", owner, func(s *stage) { thirtyErrors(s, n) })
	s.undisturbed("a witness needs a cluster block", owner, func(s *stage) {
		path := s.write(n, "bare.conf", "global_defs {\n    router_id x\n}\n", 0o600)
		s.launch(n, nil, binaries.Hawitness, "-f", path).expect(s.t, daemon.ExitConfig, "no cluster block")
	})
	s.undisturbed("the program of the other role", owner, func(s *stage) {
		s.launch(n, nil, binaries.Hawitness, "-f", n.Config()).expect(s.t, daemon.ExitConfig, n.Name, "is a director", "run had")
		as := s.write(n, "witness.conf", s.edited(n, "node "+n.Name, "node "+w.Name), 0o600)
		had(s, "-f", as).expect(s.t, daemon.ExitConfig, w.Name, "is a witness", "run hawitness")
	})
	s.undisturbed("no cluster block: said, and nothing else is wrong with it", owner, func(s *stage) { withoutCluster(s, n) })
	s.undisturbed("key file", owner, func(s *stage) {
		key := filepath.Join(n.Dir(), "cluster.key")
		good, err := os.ReadFile(key)
		s.must(err)
		defer func() { s.write(n, "cluster.key", string(good), 0o600) }()
		s.must(os.Chmod(key, 0o640))
		usual(s).expect(s.t, daemon.ExitFailed, "key_file", key, "mode is 0640 and must be 0600")
		s.must(os.Remove(key))
		usual(s).expect(s.t, daemon.ExitFailed, "key_file", key, "no such file")
		s.write(n, "cluster.key", "had-key-1:c2hvcnQ=\n", 0o600)
		usual(s).expect(s.t, daemon.ExitFailed, key, "the key has 5 bytes instead of 32")
		s.write(n, "cluster.key", "-----BEGIN PRIVATE KEY-----\n", 0o600)
		usual(s).expect(s.t, daemon.ExitFailed, key, `no line that begins with \"had-key-1:\"`)
		s.write(n, "cluster.key", "", 0o600)
		usual(s).expect(s.t, daemon.ExitFailed, key, "no key in it")
		s.must(os.Remove(key))
		s.must(os.Mkdir(key, 0o700))
		usual(s).expect(s.t, daemon.ExitFailed, key, "not a regular file")
		s.must(os.Remove(key))
	})
	s.undisturbed("data directory", owner, func(s *stage) {
		elsewhere := func(path string) ended {
			return had(s, "-f", s.write(n, "data.conf", s.edited(n, n.Data(), path), 0o600))
		}
		file := s.write(n, "file", "", 0o600)
		elsewhere(file).expect(s.t, daemon.ExitFailed, "data directory "+file, "not a directory")
		readOnly := n.Dir() + "/ro"
		s.must(os.MkdirAll(readOnly, 0o700))
		s.must(unix.Mount("tmpfs", readOnly, "tmpfs", unix.MS_RDONLY, "size=64k"))
		defer unix.Unmount(readOnly, unix.MNT_DETACH)
		elsewhere(readOnly).expect(s.t, daemon.ExitFailed, "data directory "+readOnly, "read-only file system")
		elsewhere(readOnly+"/sub").expect(s.t, daemon.ExitFailed, "data directory "+readOnly+"/sub", "read-only file system")
		elsewhere(owner.Data()).expect(s.t, daemon.ExitFailed, fmt.Sprintf("data directory %s is used by process %d", owner.Data(),
			owner.Proc.PID()))
		copied := n.Dir() + "/copy"
		s.must(os.RemoveAll(copied)) // of a playing that was void
		s.must(os.CopyFS(copied, os.DirFS(owner.Data())))
		elsewhere(copied).expect(s.t, daemon.ExitFailed, copied, "belongs to node "+owner.Name+", and this is "+n.Name)
	})
	s.undisturbed("a data directory of somebody else's", owner, func(s *stage) {
		if !w.Unprivileged() {
			need.Skip(s.t, "programs cannot be run as another user here")
		}
		foreign := s.write(w, "foreign.conf", s.edited(w, w.Data(), n.Data()), 0o644)
		s.launch(w, &lab.User{UID: nobody, GID: nobody}, binaries.Hawitness, "-f", foreign).
			expect(s.t, daemon.ExitPermission, "data directory "+n.Data(), "permission denied")
	})
	s.undisturbed("port taken", owner, func(s *stage) {
		address := fmt.Sprintf("%s:%d", n.Address, site.Port)
		taken := listen(s, n, "tcp", address)
		usual(s).expect(s.t, daemon.ExitFailed, "listen for cluster traffic on tcp "+address, "another program uses this port")
		taken()
		address = fmt.Sprintf("%s:%d", n.Address, site.Port+1)
		taken = listen(s, n, "udp", address)
		usual(s).expect(s.t, daemon.ExitFailed, "listen for gossip traffic on", address, "address already in use")
		taken()
	})
	s.undisturbed("an address that this machine does not have", owner, func(s *stage) {
		moved := s.write(n, "moved.conf", s.edited(n, fmt.Sprintf("peer %s { address %s", n.Name, n.Address),
			fmt.Sprintf("peer %s { address 10.77.0.77", n.Name)), 0o600)
		had(s, "-f", moved).expect(s.t, daemon.ExitFailed, "10.77.0.77:7770", "this machine does not have this address")
	})
	s.undisturbed("control socket in use", owner, func(s *stage) {
		socket := filepath.Join(n.Dir(), "had.sock")
		l, err := net.Listen("unix", socket)
		s.must(err)
		defer l.Close()
		usual(s).expect(s.t, daemon.ExitFailed, "control socket "+socket, "another process serves it")
	})
	s.undisturbed("a second one beside the owner", owner, func(s *stage) {
		runs := fmt.Sprintf("another daemon runs as process %d", owner.Proc.PID())
		s.launch(owner, nil, binaries.Had, "-f", owner.Config(), "-p", owner.PIDFile()).expect(s.t, daemon.ExitFailed, runs, owner.PIDFile())
		pid := owner.Dir() + "/second.pid"
		s.launch(owner, nil, binaries.Had, "-f", owner.Config(), "-p", pid).expect(s.t, daemon.ExitFailed, runs)
		own := s.write(owner, "second.conf", s.edited(owner, owner.Data(), owner.Dir()+"/second", owner.Socket(), owner.Dir()+"/second.sock"), 0o600)
		s.launch(owner, nil, binaries.Had, "-f", own, "-p", pid).expect(s.t, daemon.ExitFailed, "another program uses this port")
	})
	s.expectNoLeftovers(n)

	s.undisturbed("after all that the node is as good as before", owner, func(s *stage) {
		s.restart(n)
		s.awaitWhole()
	})
}

// thirtyErrors asserts that each of 30 errors is reported with file, line and column, by had and by had -t.
func thirtyErrors(s *stage, n *site.Node) {
	var b strings.Builder
	b.WriteString(s.Configuration(n))
	lines := strings.Count(b.String(), "\n")
	b.WriteString("vrrp_instance BAD {\n")
	for i := range 30 {
		fmt.Fprintf(&b, "    virtual_router_id %d\n", 256+i)
	}
	b.WriteString("}\n")
	path := s.write(n, "bad.conf", b.String(), 0o600)
	plain := s.launch(n, nil, binaries.Had, "-f", path)
	checked := s.launch(n, nil, binaries.Had, "-t", "-f", path)
	for _, e := range []ended{plain, checked} {
		places := map[int]bool{}
		for _, m := range regexp.MustCompile(regexp.QuoteMeta(path)+`:(\d+):(\d+): error`).FindAllStringSubmatch(e.out, -1) {
			var line int
			fmt.Sscan(m[1], &line)
			places[line] = true
		}
		for i := range 30 {
			if !places[lines+2+i] {
				s.t.Errorf("the error on line %d is not reported", lines+2+i)
			}
		}
	}
	s.t.Logf("had printed:\n%s", plain.out)
	if plain.code != daemon.ExitConfig && plain.code != daemon.ExitOK {
		s.t.Errorf("exit code %d", plain.code)
	}
	if checked.code != daemon.ExitTestErrors && checked.code != daemon.ExitTestFatal {
		s.t.Errorf("had -t: exit code %d", checked.code)
	}
}

// withoutCluster runs had without a cluster block, for a virtual router of its own.
func withoutCluster(s *stage, n *site.Node) {
	const vip = "10.77.0.150"
	path := s.write(n, "alone.conf", fmt.Sprintf(`vrrp_instance ALONE {
    interface %s
    virtual_router_id 99
    priority 10
    advert_int 1
    virtual_ipaddress {
        %s/24
    }
}
virtual_server %s 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.77.0.151 80 {
        weight 1
    }
}
`, lab.Interface, vip, vip), 0o600)
	socket := n.Dir() + "/alone.sock"
	log := n.Dir() + "/alone.log"
	proc, err := n.Host.Start(lab.Command{Path: binaries.Had, Args: []string{"-f", path, "--control-socket", socket}, LogFile: log})
	s.must(err)
	s.eventually(sayLimit, func() error {
		data, err := os.ReadFile(log)
		if err == nil && !strings.Contains(string(data), "no cluster block: nothing protects a virtual IP from two owners") {
			err = fmt.Errorf("no warning in:\n%s", data)
		}
		return err
	})
	ctx, cancel := context.WithTimeout(s.ctx, endLimit)
	defer cancel()
	s.eventually(sayLimit, func() error {
		out, err := s.Site.Hactl(ctx, nil, "-s", socket, "status")
		if !strings.Contains(out, "UNPROTECTED") {
			return fmt.Errorf("the status does not say UNPROTECTED: %s %w", out, err)
		}
		return nil
	})
	// A kernel without IPVS takes every call of the usual library for a success: it is asked first.
	_, err = os.Stat("/proc/net/ip_vs")
	missing := err != nil
	out, _ := s.Site.Hactl(ctx, nil, "-s", socket, "status")
	data, err := os.ReadFile(log)
	s.must(err)
	if said := strings.Contains(string(data), "the kernel has no IPVS"); said != missing || strings.Contains(out, "the kernel has no IPVS") != missing {
		s.t.Errorf("IPVS is missing: %v; log:\n%s\nstatus:\n%s", missing, data, out)
	}
	s.must(proc.Signal(syscall.SIGTERM))
	if err := proc.Wait(ctx); err != nil || proc.ExitCode() != daemon.ExitOK {
		s.t.Errorf("after SIGTERM: exit code %d, %v", proc.ExitCode(), err)
	}
}

// listen occupies a port on a node's host until the function returned is called.
func listen(s *stage, n *site.Node, network, address string) (free func()) {
	s.t.Helper()
	var closer interface{ Close() error }
	s.must(n.Host.Do(func() (err error) {
		if network == "udp" {
			closer, err = net.ListenPacket(network, address)
		} else {
			closer, err = net.Listen(network, address)
		}
		return err
	}))
	time.Sleep(10 * time.Millisecond)
	return func() { closer.Close() }
}
