//go:build integ

package operation

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/daemon"
	"github.com/hactl/had/internal/lab/site"
)

// end sends a node's program a signal and asserts that it ends in an orderly way and leaves nothing behind.
func (s *stage) end(n *site.Node, sig syscall.Signal) {
	s.t.Helper()
	s.must(n.Proc.Signal(sig))
	s.awaitEnd(n, sig)
}

// awaitEnd is end without the sending.
func (s *stage) awaitEnd(n *site.Node, sig syscall.Signal) {
	s.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(s.ctx, endLimit)
	defer cancel()
	if err := n.Proc.Wait(ctx); err != nil || n.Proc.ExitCode() != daemon.ExitOK {
		s.t.Errorf("%s on %s, %s: exit code %d, %v", n.Program(), n.Name, sig, n.Proc.ExitCode(), err)
	}
	s.t.Logf("%s on %s ended %s after %s", n.Program(), n.Name, time.Since(began).Round(time.Millisecond), sig)
	s.expectNoLeftovers(n)
}

// Whenever a program is told to end it ends at once, with exit code 0, and leaves no address, no rule and no socket.
func TestSignals(t *testing.T) {
	t.Parallel()
	s := setUp(t, nil)
	first := s.Nodes[0]
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s.run("alone before the founding: "+sig.String(), func(s *stage) {
			for _, n := range []*site.Node{first, s.Witness()} {
				mark := s.logMark(n)
				s.must(s.Start(n))
				s.awaitLog(n, mark, "a new cluster waits until all its members have met")
				s.end(n, sig)
			}
		})
	}
	s.run("at any moment of the start", func(s *stage) {
		for after := time.Duration(0); after < 60*time.Millisecond; after += 4 * time.Millisecond {
			mark := s.logMark(first)
			s.must(s.Start(first))
			for data := ""; !strings.Contains(data[min(mark, int64(len(data))):], "msg=started"); time.Sleep(time.Millisecond) {
				log, err := os.ReadFile(first.Log())
				s.must(err)
				data = string(log)
			}
			time.Sleep(after)
			s.end(first, syscall.SIGTERM)
		}
	})
	s.run("while the cluster is being founded", func(s *stage) {
		// The founder is told to end at moments around the founding. Whatever had been founded by then, nothing is stuck.
		for _, after := range []time.Duration{20, 50, 90, 150} {
			for _, n := range s.Nodes[1:] {
				mark := s.logMark(n)
				s.must(s.Start(n))
				s.awaitLog(n, mark, "msg=started") // before that it has no say in how it ends
			}
			mark := s.logMark(first)
			s.must(s.Start(first))
			s.awaitLog(first, mark, "cluster member is up")
			time.Sleep(after * time.Millisecond)
			for _, n := range s.Nodes {
				s.must(n.Proc.Signal(syscall.SIGTERM))
			}
			for _, n := range s.Nodes {
				s.awaitEnd(n, syscall.SIGTERM)
			}
		}
	})
	s.must(s.StartAll())
	owner, other := s.awaitWhole()

	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s.run("during a claim: "+sig.String(), func(s *stage) {
			// The standby hears no advertisements, claims, and is refused as long as the owner renews its lease.
			watched := s.watch()
			fault, err := s.Lab.DropProtocol(site.VRRP, owner.Host, other.Host)
			s.must(err)
			s.eventually(sayLimit, func() error {
				status, err := s.Status(s.ctx, other)
				if k := candidate(status, other.Name); err == nil && k.State != api.GroupClaiming {
					err = fmt.Errorf("%s is %s", other.Name, k.State)
				}
				return err
			})
			s.end(other, sig)
			s.must(fault.Heal())
			s.must(s.Start(other))
			s.must(s.AwaitHealthy(s.ctx, recoverLimit))
			watched.kept(owner)
		})
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s.run("while it owns the group: "+sig.String(), func(s *stage) {
			owner, other := s.awaitWhole()
			watched := s.watch()
			s.end(owner, sig)
			s.awaitOwner(other, recoverLimit)
			watched.moved(owner, other, handoverBound)
			s.must(s.Start(owner))
			s.must(s.AwaitHealthy(s.ctx, recoverLimit))
		})
	}
	s.run("SIGHUP without a change changes nothing", func(s *stage) {
		owner, _ := s.awaitWhole()
		watched := s.watch()
		for _, n := range s.Nodes {
			mark := s.logMark(n)
			s.must(n.Proc.Signal(syscall.SIGHUP))
			if n.Witness {
				s.awaitLog(n, mark, "does not reload")
			} else {
				s.awaitLog(n, mark, "nothing has changed")
			}
		}
		watched.kept(owner)
	})
}

// What a killed program has left behind is removed before the next one does anything else.
func TestLeftoversOfAKilledProgram(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.run("address, rules, socket", leaveAndReturn)
}

// leaveAndReturn kills everything and starts the owner alone.
func leaveAndReturn(s *stage) {
	owner, other := s.awaitWhole()
	watched := s.watch()
	// Nobody may own the group from here on: what the owner's next life has cannot be its own.
	s.must(s.Kill(s.Witness()))
	s.must(s.Kill(other))
	s.must(s.Kill(owner))
	left := s.leftovers(owner)
	s.t.Logf("after kill -9 there are: %v", left)
	if len(left) < 3 {
		s.t.Fatalf("a killed owner leaves its address, its rules and its socket behind, not just %v", left)
	}
	began := time.Now()
	s.must(s.Start(owner))
	s.eventually(sayLimit, func() error {
		if has, err := owner.Host.HasAddr(site.VIP4); err != nil || has {
			return fmt.Errorf("%s is still there: %w", site.VIP4, err)
		}
		return nil
	})
	s.t.Logf("the address was removed %s after the start", time.Since(began).Round(time.Millisecond))
	if time.Since(began) > time.Second {
		s.t.Errorf("it took %s to remove the address: its lifetime ended it, not the start", time.Since(began))
	}
	s.eventually(sayLimit, func() error { // the socket is replaced
		_, err := s.Status(s.ctx, owner)
		return err
	})
	s.end(owner, syscall.SIGTERM)
	s.must(s.StartAll())
	s.awaitWhole()
	watched.verdict()
}
