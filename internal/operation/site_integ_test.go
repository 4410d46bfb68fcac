//go:build integ

package operation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

const (
	startLimit   = 40 * time.Second
	recoverLimit = 40 * time.Second
	sayLimit     = 15 * time.Second // for a message to appear
	endLimit     = 10 * time.Second // for a program to end

	// The longest silence of an address that counts as none, on a busy machine.
	none     = 20 * time.Millisecond
	attempts = observer.Attempts
)

var siteNumber atomic.Int32

// stage is a site and the test that plays on it.
type stage struct {
	*site.Site
	t   *testing.T
	ctx context.Context

	// proven says which of the part's verdicts, by number, were not void in some attempt; judged counts those of this attempt.
	proven map[int]bool
	judged int
	// missed, if a part sets it, says why it did not come to what it is about.
	missed string
}

// setUp sets up a cluster of which nothing runs.
func setUp(t *testing.T, change func(*site.Plan)) *stage {
	t.Helper()
	plan := site.Plan{
		Programs:       binaries,
		Dir:            fmt.Sprintf("%s/s%d", lab.RunDir, siteNumber.Add(1)), // short: it is part of the sockets' paths
		Members:        site.Trio(),
		VIPs:           []netip.Addr{site.VIP4},
		AdvertInterval: time.Second,
	}
	if change != nil {
		change(&plan)
	}
	s, err := site.Build(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range s.Nodes {
				t.Logf("the end of %s's log:\n%s", n.Name, n.LogTail(12<<10))
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stage{Site: s, t: t, ctx: t.Context()}
}

// newStage sets up a cluster and waits until it is healthy. Tests on stages run side by side.
func newStage(t *testing.T, change func(*site.Plan)) *stage {
	t.Helper()
	s := setUp(t, change)
	s.must(s.StartAll())
	s.awaitWhole()
	return s
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// run plays a part of the test on the same site, until it has come to what it is about and the observer was awake at all that the part
// judges, each at least once: void is not passed. So a part begins with making things as it wants them to be.
func (s *stage) run(name string, part func(s *stage)) {
	s.t.Helper()
	s.t.Run(name, func(t *testing.T) {
		proven := map[int]bool{}
		for range attempts {
			p := &stage{Site: s.Site, t: t, ctx: t.Context(), proven: proven}
			part(p)
			switch {
			case t.Failed():
				return
			case p.missed != "":
				t.Logf("played again: %s", p.missed)
			case len(proven) < p.judged:
				t.Logf("played again: %d of %d verdicts were void so far", p.judged-len(proven), p.judged)
			default:
				return
			}
		}
		t.Errorf("nothing is proved in %d attempts", attempts)
	})
}

// undisturbed plays a part in which one node owns the addresses all the time and answers every request.
func (s *stage) undisturbed(name string, owner *site.Node, part func(s *stage)) {
	s.t.Helper()
	s.run(name, func(s *stage) {
		now, _, err := s.AwaitOwner(s.ctx, recoverLimit)
		s.must(err)
		if now != owner { // the machine stood still for longer than a lease in a part that was void
			s.own(owner)
		}
		watched := s.watch()
		part(s)
		watched.kept(owner)
	})
}

// awaitWhole waits for an owner and a healthy cluster.
func (s *stage) awaitWhole() (owner, other *site.Node) {
	s.t.Helper()
	owner, other, err := s.AwaitOwner(s.ctx, startLimit)
	s.must(err)
	s.must(s.AwaitHealthy(s.ctx, startLimit))
	return owner, other
}

// eventually polls until something is so, and fails the test with its last complaint.
func (s *stage) eventually(limit time.Duration, try func() error) {
	s.t.Helper()
	s.must(s.Poll(s.ctx, limit, try))
}

// restart ends a node's program in an orderly way, if it runs, and starts it.
func (s *stage) restart(n *site.Node) {
	s.t.Helper()
	if n.Running() {
		s.must(s.Terminate(n))
	}
	s.must(s.Start(n))
}

// configure writes a node's file: the usual one with replacements of texts, in pairs. Without any it is the usual one.
func (s *stage) configure(n *site.Node, pairs ...string) {
	s.t.Helper()
	s.must(os.WriteFile(n.Config(), []byte(s.edited(n, pairs...)), 0o600))
	if n.Unprivileged() {
		s.must(os.Chown(n.Config(), nobody, nobody))
	}
}

const nobody = 65534 // as in package site

func (s *stage) edited(n *site.Node, pairs ...string) string {
	s.t.Helper()
	text := s.Configuration(n)
	for i := 0; i+1 < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			s.t.Fatalf("%q is not in the configuration of %s", pairs[i], n.Name)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// write makes a file beside a node's own and returns its path.
func (s *stage) write(n *site.Node, name, text string, mode os.FileMode) string {
	s.t.Helper()
	path := n.Dir() + "/" + name
	s.must(os.WriteFile(path, []byte(text), mode))
	s.must(os.Chmod(path, mode)) // whatever the umask
	return path
}

// run is a program that has ended.
type ended struct {
	code int
	out  string // standard output and error
}

// launch runs a program on a node's host until it ends by itself.
func (s *stage) launch(n *site.Node, user *lab.User, path string, args ...string) ended {
	s.t.Helper()
	var out bytes.Buffer
	proc, err := n.Host.Start(lab.Command{Path: path, Args: args, Output: &out, User: user})
	s.must(err)
	ctx, cancel := context.WithTimeout(s.ctx, endLimit)
	defer cancel()
	if err := proc.Wait(ctx); ctx.Err() != nil {
		s.must(proc.KillTree())
		<-proc.Done()
		s.t.Errorf("%s %s did not end by itself: %v\n%s", path, strings.Join(args, " "), err, out.String())
	}
	return ended{proc.ExitCode(), out.String()}
}

// expect asserts the exit code and that all texts were printed.
func (e ended) expect(t *testing.T, code int, texts ...string) {
	t.Helper()
	if e.code != code {
		t.Errorf("exit code %d, want %d; it printed:\n%s", e.code, code, e.out)
	}
	for _, text := range texts {
		if !strings.Contains(e.out, text) {
			t.Errorf("%q was not printed, but:\n%s", text, e.out)
		}
	}
}

// logMark remembers where a node's log ends.
func (s *stage) logMark(n *site.Node) int64 {
	info, err := os.Stat(n.Log())
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	s.must(err)
	return info.Size()
}

// awaitLog waits until a line of a node's log after the mark has all the texts.
func (s *stage) awaitLog(n *site.Node, mark int64, texts ...string) {
	s.t.Helper()
	s.awaitLine(n.Log(), mark, texts)
}

// awaitFile waits until a line of a file has all the texts.
func (s *stage) awaitFile(path string, texts ...string) {
	s.t.Helper()
	s.awaitLine(path, 0, texts)
}

func (s *stage) awaitLine(path string, mark int64, texts []string) {
	s.t.Helper()
	s.eventually(sayLimit, func() error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data = data[min(mark, int64(len(data))):]
		for line := range strings.Lines(string(data)) {
			if containsAll(line, texts) {
				return nil
			}
		}
		return fmt.Errorf("no line of %s says %q; it says:\n%s", path, texts, data)
	})
}

func containsAll(text string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}

// awaitFinding waits until a node's status of the cluster has a finding of a code with all the texts.
func (s *stage) awaitFinding(n *site.Node, code string, texts ...string) {
	s.t.Helper()
	s.eventually(sayLimit, func() error {
		status, err := s.Status(s.ctx, n)
		if err != nil {
			return err
		}
		for _, f := range status.Findings {
			if f.Code == code && containsAll(f.Text, texts) {
				return nil
			}
		}
		return fmt.Errorf("no finding %s of %s says %q: %+v", code, n.Name, texts, status.Findings)
	})
}

// hactl runs hactl against a node, or none, and asserts its exit code. It returns what it printed.
func (s *stage) hactl(n *site.Node, code int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	if n != nil {
		args = append([]string{"-s", n.Socket()}, args...)
	}
	ctx, cancel := context.WithTimeout(s.ctx, 45*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binaries.Hactl, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("hactl %s: %v", strings.Join(args, " "), err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("hactl %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// says asserts that all texts are in what was printed.
func (s *stage) says(printed string, texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		if !strings.Contains(printed, text) {
			s.t.Errorf("%q is not in:\n%s", text, printed)
		}
	}
}

// watch begins to watch the addresses.
func (s *stage) watch() *watch {
	s.Observer.Forget(observer.Now().Add(-time.Second))
	from := observer.Now()
	time.Sleep(100 * time.Millisecond) // so that the present owner is seen
	return &watch{stage: s, from: from}
}

// watch is a stretch of time that the observer is to judge.
type watch struct {
	*stage
	from observer.Instant
}

// verdict judges the time until now. Two owners are a failure whatever else was meant to happen; otherwise time in which the
// observer was not awake shows nothing, not even a wrong owner (the machine may have stood still for longer than a lease): the part of
// the test has to be played again.
func (w *watch) verdict() observer.Verdict {
	w.t.Helper()
	v, err := w.Observer.Judge(w.ctx, w.from, observer.Now())
	w.must(err)
	figures.Judged(&v)
	if v.DualFor() > 0 {
		w.t.Errorf("two owners: %s", v.String())
	}
	if v.Void == "" {
		w.proven[w.judged] = true
	}
	w.judged++
	return v
}

// kept asserts that one node was the owner all the time and answered every request.
func (w *watch) kept(owner *site.Node) {
	w.t.Helper()
	v := w.verdict()
	w.t.Logf("%s keeps its address: %s", owner.Name, v.String())
	if v.Void != "" {
		return
	}
	for i := range v.VIPs {
		vip := &v.VIPs[i]
		for _, station := range vip.Owners() {
			if v.Name(station) != owner.Name {
				w.t.Errorf("%s was answered for by %s, want %s alone", vip.VIP, v.Name(station), owner.Name)
			}
		}
		if len(vip.Owners()) == 0 {
			w.t.Errorf("nobody answered for %s", vip.VIP)
		}
		if vip.Interruption() > none {
			w.t.Errorf("%s was out for %s", vip.VIP, vip.Interruption())
		}
	}
}

// moved asserts that the address went from one node to another, and how long it was out at most.
func (w *watch) moved(from, to *site.Node, bound time.Duration) {
	w.t.Helper()
	v := w.verdict()
	w.t.Logf("the address goes from %s to %s: %s", from.Name, to.Name, v.String())
	if v.Void != "" {
		return
	}
	for i := range v.VIPs {
		vip := &v.VIPs[i]
		var names []string
		for _, station := range vip.Owners() {
			names = append(names, v.Name(station))
		}
		if !slices.Equal(names, []string{from.Name, to.Name}) {
			w.t.Errorf("owners %v, want %s and then %s", names, from.Name, to.Name)
		}
		if vip.Interruption() > bound {
			w.t.Errorf("%s was out for %s, want at most %s", vip.VIP, vip.Interruption(), bound)
		}
	}
}

// awaitOwner waits until a node alone answers for the addresses.
func (s *stage) awaitOwner(n *site.Node, limit time.Duration) {
	s.t.Helper()
	s.must(s.AwaitOwnedBy(s.ctx, n, 200*time.Millisecond, limit))
}

// move has the group moved, and waits until the new owner alone answers. That a director has become able to own the group
// travels to the leader by gossip, so the leader may refuse for a moment.
func (s *stage) move(asked, to *site.Node) {
	s.t.Helper()
	s.eventually(sayLimit, func() error {
		_, err := s.Hactl(s.ctx, asked, "move", s.Group(), "--to", to.Name, "--yes")
		if err != nil && !strings.Contains(err.Error(), "cannot own") {
			s.t.Fatal(err)
		}
		return err
	})
	s.awaitOwner(to, recoverLimit)
}

// takeoverBound is how long a takeover after the loss of an owner may take, with an allowance for a busy machine.
func (s *stage) takeoverBound(by *site.Node) time.Duration {
	return s.DownInterval(by.Member) + 700*time.Millisecond
}

// handoverBound is how long a planned handover may take on a busy machine.
const handoverBound = 300 * time.Millisecond

// leftovers lists what a program has left behind on a node's host: addresses, nftables tables, the control socket.
func (s *stage) leftovers(n *site.Node) []string {
	s.t.Helper()
	var list []string
	for _, vip := range s.VIPs {
		has, err := n.Host.HasAddr(vip)
		s.must(err)
		if has {
			list = append(list, "address "+vip.String())
		}
	}
	conn, err := nftables.New(nftables.WithNetNSFd(n.Host.Namespace()))
	s.must(err)
	tables, err := conn.ListTables()
	s.must(err)
	for _, table := range tables {
		list = append(list, fmt.Sprintf("nftables table %s of family %d", table.Name, table.Family))
	}
	if _, err := os.Lstat(n.Socket()); err == nil {
		list = append(list, "control socket")
	}
	return list
}

func (s *stage) expectNoLeftovers(n *site.Node) {
	s.t.Helper()
	if list := s.leftovers(n); len(list) > 0 {
		s.t.Errorf("%s left behind: %s", n.Name, strings.Join(list, ", "))
	}
}

// nodeStatus returns the line of a node in another one's status of the cluster.
func nodeStatus(status api.ClusterStatus, name string) api.NodeStatus {
	for _, n := range status.Nodes {
		if n.Name == name {
			return n
		}
	}
	return api.NodeStatus{}
}

// candidate returns a director's standing in the first group.
func candidate(status api.ClusterStatus, name string) api.Candidate {
	for _, g := range status.Groups {
		for _, k := range g.Candidates {
			if k.Node == name {
				return k
			}
		}
	}
	return api.Candidate{}
}
