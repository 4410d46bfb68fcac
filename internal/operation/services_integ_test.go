//go:build integ

package operation

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab/need"
	"github.com/hactl/had/internal/lab/site"
)

const (
	webService = "TCP 10.77.0.100:80"
	webFirst   = "10.9.0.1:80"
	webSecond  = "10.9.0.2:80"
)

// The virtual services of a cluster, which are its own: seeded by a file, changed at runtime, checked by the owner. The
// kernel may have no IPVS; what it would have is what hactl lvs list shows.
func TestVirtualServices(t *testing.T) {
	t.Parallel()
	s := setUp(t, nil)
	// The check of a server succeeds on a node as long as a file for the two is there.
	script := filepath.Join(s.Dir, "check")
	text := "#!/bin/sh\n"
	for _, n := range s.Directors() {
		text += fmt.Sprintf("grep -qw %s /proc/net/fib_trie && exec test -e %s/$1-%s\n", n.Address, s.Dir, n.Name)
		for _, server := range []string{"first", "second"} {
			s.healthy(n, server, true)
		}
	}
	s.must(need.Program(script, []byte(text)))
	block := fmt.Sprintf(`virtual_server %s 80 {
    delay_loop 1
    lb_algo rr
    lb_kind NAT
    protocol TCP
    real_server 10.9.0.1 80 {
        MISC_CHECK {
            misc_path "%s first"
        }
    }
    real_server 10.9.0.2 80 {
        MISC_CHECK {
            misc_path "%s second"
        }
    }
}
`, site.VIP4, script, script)
	for _, n := range s.Directors() {
		s.must(os.WriteFile(n.Config(), []byte(s.Configuration(n)+block), 0o600))
	}
	s.must(s.StartAll())
	owner, other, err := s.AwaitOwner(s.ctx, startLimit)
	s.must(err)
	w := s.Witness()
	for _, n := range s.Nodes {
		s.awaitServer(n, webFirst, func(v api.LVSServer) bool { return v.State == api.ServerUp && v.Says == owner.Name })
		s.awaitServer(n, webSecond, func(v api.LVSServer) bool { return v.State == api.ServerUp })
	}

	t.Run("checks", func(t *testing.T) { s.on(t).checksCount(owner, other) })
	t.Run("changes", func(t *testing.T) { s.on(t).changesHold(owner, other, w) })
	t.Run("two at once", func(t *testing.T) { s.on(t).oneOrder(owner, other) })
	t.Run("files", func(t *testing.T) { s.on(t).filesDrift(owner, other) })
	t.Run("leaders are killed", func(t *testing.T) { s.on(t).survives() })
	t.Run("without quorum", func(t *testing.T) {
		s := s.on(t)
		owner, other, err := s.AwaitOwner(s.ctx, recoverLimit)
		s.must(err)
		s.must(s.Kill(w))
		s.must(s.Kill(owner))
		out, _ := s.hactl(other, api.ExitOK, "lvs", "list")
		s.says(out, "LOCAL VIEW of "+other.Name, webService, webFirst)
		s.hactl(other, api.ExitNoQuorum, "lvs", "weight", webService, webFirst, "9", "--timeout", "40s")
	})
}

// on is the stage for a part of the test.
func (s *stage) on(t *testing.T) *stage { return &stage{Site: s.Site, t: t, ctx: t.Context()} }

// healthy lets the check of a server succeed on a node, or fail.
func (s *stage) healthy(n *site.Node, server string, up bool) {
	s.t.Helper()
	path := filepath.Join(s.Dir, server+"-"+n.Name)
	if up {
		s.must(os.WriteFile(path, nil, 0o644))
	} else if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
}

// services is what a node lists.
func (s *stage) services(n *site.Node) (r api.LVSReport, err error) {
	out, err := s.Hactl(s.ctx, n, "lvs", "list", "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &r)
	}
	return r, err
}

func find(r api.LVSReport, server string) (api.LVSServer, bool) {
	for _, service := range r.Services {
		for _, v := range service.Servers {
			if service.Key == webService && v.Key == server {
				return v, true
			}
		}
	}
	return api.LVSServer{}, false
}

// awaitServer waits until a node lists a server of the service as it should be.
func (s *stage) awaitServer(n *site.Node, server string, is func(api.LVSServer) bool) {
	s.t.Helper()
	s.eventually(sayLimit, func() error {
		r, err := s.services(n)
		if v, found := find(r, server); err == nil && (!found || !is(v)) {
			err = fmt.Errorf("%s lists %s as %+v", n.Name, server, v)
		}
		return err
	})
}

// serves waits until a director counts a server as up, or not: that is what its kernel's table follows.
func (s *stage) serves(n *site.Node, server string, up bool, weight uint32) {
	s.t.Helper()
	s.awaitServes(n, server, func(v api.LVSServer) bool { return (v.State == api.ServerUp) == up && v.Weight == weight })
}

// awaitServes is awaitServer of a director's own view.
func (s *stage) awaitServes(n *site.Node, server string, is func(api.LVSServer) bool) {
	s.t.Helper()
	s.eventually(sayLimit, func() error {
		out, err := s.Hactl(s.ctx, n, "lvs", "list", "--local", "-o", "json")
		var r api.LVSReport
		if err == nil {
			err = json.Unmarshal([]byte(out), &r)
		}
		if v, found := find(r, server); err == nil && (!found || v.Says != n.Name || !is(v)) {
			err = fmt.Errorf("%s serves %s as %+v", n.Name, server, v)
		}
		return err
	})
}

// checksCount: those of the owner, on both directors; those of the other are shown.
func (s *stage) checksCount(owner, other *site.Node) {
	s.healthy(other, "first", false)
	for _, n := range s.Nodes {
		s.awaitServer(n, webFirst, func(v api.LVSServer) bool {
			return v.State == api.ServerUp && strings.Contains(strings.Join(v.Differs, ""), other.Name+" says down")
		})
	}
	s.serves(other, webFirst, true, 1)
	s.healthy(owner, "second", false)
	for _, n := range s.Directors() {
		s.serves(n, webSecond, false, 1)
	}
	out, _ := s.hactl(other, api.ExitOK, "lvs", "history", "--checks")
	s.says(out, webSecond+" of "+webService)
	s.healthy(owner, "second", true)
	for _, n := range s.Directors() {
		s.serves(n, webSecond, true, 1)
	}
	s.healthy(other, "first", true)
	s.awaitServer(owner, webFirst, func(v api.LVSServer) bool { return len(v.Differs) == 0 })
}

// changesHold: on all directors, and what they refuse changes nothing.
func (s *stage) changesHold(owner, other, w *site.Node) {
	s.hactl(w, api.ExitOK, "lvs", "weight", "10.77.0.100:80", webFirst, "7", "--reason", "slow machine")
	for _, n := range s.Directors() {
		s.serves(n, webFirst, true, 7)
	}
	out, _ := s.hactl(other, api.ExitOK, "lvs", "drain", "10.9.0.2", "--for", "4s")
	s.says(out, "gets no new connections", "Undo: hactl lvs undrain 10.9.0.2")
	for _, n := range s.Directors() {
		s.awaitServer(n, webSecond, func(v api.LVSServer) bool { return v.State == api.ServerDrained && v.Weight == 0 })
	}
	for _, n := range s.Directors() { // by itself
		s.awaitServer(n, webSecond, func(v api.LVSServer) bool { return v.State == api.ServerUp && v.Weight == 1 })
	}
	_, errs := s.hactl(owner, api.ExitRefused, "lvs", "weight", webService, webFirst, "8", "--version", "1")
	s.says(errs, "version", "has been replaced by version")
	_, errs = s.hactl(owner, api.ExitNotFound, "lvs", "weight", "10.77.0.101:80", webFirst, "8")
	s.says(errs, "there are "+webService)
	s.hactl(owner, api.ExitOK, "lvs", "add", "server", webService, "10.9.0.3:80", "--like", webFirst)
	_, errs = s.hactl(other, api.ExitRefused, "lvs", "add", "server", webService, "10.9.0.3:80", "--check", "tcp")
	s.says(errs, "already")
	for _, n := range s.Directors() {
		s.serves(n, "10.9.0.3:80", true, 1)
	}
	s.hactl(other, api.ExitOK, "lvs", "remove", "server", webService, "10.9.0.3:80")
	s.hactl(other, api.ExitOK, "lvs", "add", "service", "10.77.0.99:443", "--server", "10.9.0.4:443=3")
	for _, n := range s.Nodes {
		s.eventually(sayLimit, func() error {
			out, err := s.Hactl(s.ctx, n, "lvs", "list")
			if err == nil && (!strings.Contains(out, "TCP 10.77.0.99:443") || strings.Contains(out, "10.9.0.3:80")) {
				err = errors.New(out)
			}
			return err
		})
	}
	_, errs = s.hactl(other, api.ExitRefused, "lvs", "add", "service", "10.77.0.99:443", "--server", "10.9.0.4:443", "--scheduler", "best")
	s.says(errs, "lb_algo", "best")
	_, errs = s.hactl(w, api.ExitRefused, "lvs", "add", "service", "10.77.0.98:443", "--server", "10.9.0.4:443")
	s.says(errs, "witness")
	s.hactl(owner, api.ExitOK, "lvs", "remove", "service", "10.77.0.99:443", "--yes")
	out, _ = s.hactl(w, api.ExitOK, "lvs", "history", webService)
	s.says(out, webFirst+" of "+webService+" has weight 7 (slow machine) by root")
	s.hactl(owner, api.ExitOK, "lvs", "weight", webService, webFirst, "default")
}

// oneOrder: two directors change the same thing at the same time, and all have the outcome of one order.
func (s *stage) oneOrder(a, b *site.Node) {
	var wait sync.WaitGroup
	for i, n := range []*site.Node{a, b} {
		wait.Go(func() {
			for k := range 10 {
				s.hactl(n, api.ExitOK, "lvs", "weight", webService, webFirst, fmt.Sprint(100*(i+1)+k))
			}
		})
	}
	wait.Wait()
	var weights []uint32
	s.eventually(sayLimit, func() error {
		weights = nil
		for _, n := range s.Nodes {
			r, err := s.services(n)
			if err != nil {
				return err
			}
			v, _ := find(r, webFirst)
			if v.SetWeight == nil || *v.SetWeight != 109 && *v.SetWeight != 209 {
				return fmt.Errorf("%s lists %+v", n.Name, v)
			}
			weights = append(weights, *v.SetWeight)
		}
		for _, w := range weights {
			if w != weights[0] {
				return fmt.Errorf("weights %v", weights)
			}
		}
		return nil
	})
	var histories []string
	for _, n := range s.Nodes {
		out, _ := s.hactl(n, api.ExitOK, "lvs", "history", "has weight", "-o", "name")
		histories = append(histories, out)
	}
	if histories[0] != histories[1] || histories[0] != histories[2] || strings.Count(histories[0], "\n") < 20 {
		s.t.Errorf("the histories differ:\n%s", strings.Join(histories, "\n"))
	}
	s.hactl(a, api.ExitOK, "lvs", "weight", webService, webFirst, "default")
}

// filesDrift: what a reload brings becomes the cluster's; the file of a node that is left behind changes nothing.
func (s *stage) filesDrift(owner, other *site.Node) {
	edit := func(n *site.Node, old, text string) {
		b, err := os.ReadFile(n.Config())
		s.must(err)
		s.must(os.WriteFile(n.Config(), []byte(strings.Replace(string(b), old, text, 1)), 0o600))
		s.hactl(n, api.ExitOK, "config", "reload")
	}
	drifts := func(n *site.Node, code int, texts ...string) {
		s.t.Helper()
		s.eventually(sayLimit, func() error {
			out, err := s.Hactl(s.ctx, n, "lvs", "apply", "--dry-run")
			if err == nil && (strings.Contains(out, "have the same") != (code == api.ExitOK) || !containsAll(out, texts)) {
				err = errors.New(out)
			}
			return err
		})
	}
	drifts(owner, api.ExitOK)
	edit(owner, "lb_algo rr", "lb_algo wrr")
	drifts(owner, api.ExitOK)
	drifts(other, api.ExitFailed, "-    lb_algo wrr", "+    lb_algo rr")
	s.says(first(s.hactl(other, api.ExitOK, "lvs", "list")), "the file of "+other.Name+" differs from the cluster")
	s.restart(other)
	drifts(other, api.ExitFailed, "-    lb_algo wrr", "+    lb_algo rr")
	edit(other, "delay_loop 1", "delay_loop 2") // of a service that is not as the file had it
	drifts(owner, api.ExitOK)
	drifts(other, api.ExitFailed, "+    delay_loop 2")
	s.hactl(other, api.ExitOK, "lvs", "apply", "--yes")
	drifts(other, api.ExitOK)
	drifts(owner, api.ExitFailed, "+    lb_algo wrr")
	s.hactl(owner, api.ExitOK, "lvs", "apply", "--yes")
	drifts(owner, api.ExitOK)
}

func first(out, _ string) string { return out }

// survives: a change that was acknowledged outlives the leader, killed at that moment.
func (s *stage) survives() {
	const kills = 4
	for i := range kills {
		status, err := s.Status(s.ctx, s.Witness())
		s.must(err)
		leader := s.Node(status.Leader)
		if leader == nil {
			s.t.Fatalf("nobody leads: %+v", status)
		}
		var asked *site.Node
		for _, n := range s.Nodes {
			if n != leader {
				asked = n
			}
		}
		weight := fmt.Sprint(1000 + i)
		killed := make(chan error)
		go func() {
			time.Sleep(time.Duration(i*4) * time.Millisecond)
			killed <- s.Kill(leader)
		}()
		_, acknowledged := s.Hactl(s.ctx, asked, "lvs", "weight", webService, webSecond, weight)
		s.must(<-killed)
		s.t.Logf("%s is killed while %s asks: %v", leader.Name, asked.Name, acknowledged)
		if acknowledged == nil {
			s.eventually(recoverLimit, func() error {
				r, err := s.services(asked)
				if v, _ := find(r, webSecond); err == nil && (!r.Consistent || v.SetWeight == nil || fmt.Sprint(*v.SetWeight) != weight) {
					err = fmt.Errorf("an acknowledged change is lost: consistent %v, %+v", r.Consistent, v)
				}
				return err
			})
		}
		s.must(s.Start(leader))
		_, _, err = s.AwaitOwner(s.ctx, recoverLimit)
		s.must(err)
		if acknowledged == nil {
			s.awaitServer(leader, webSecond, func(v api.LVSServer) bool { return v.SetWeight != nil && fmt.Sprint(*v.SetWeight) == weight })
		}
		s.eventually(recoverLimit, func() error {
			status, err := s.Status(s.ctx, s.Witness())
			if err == nil && (status.Leader == "" || !status.Quorum.OK || status.Quorum.Reachable < 3) {
				err = fmt.Errorf("leader %q, quorum %+v", status.Leader, status.Quorum)
			}
			return err
		})
	}
}
