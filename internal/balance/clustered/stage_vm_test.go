//go:build integ

package clustered

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/backend"
	"github.com/hactl/had/internal/lab/site"
	"github.com/hactl/had/internal/lab/vm"
	"github.com/hactl/had/lvs"
	"github.com/hactl/had/lvs/ipvs"
)

// All spans are those of the virtual machine, where idle time is skipped: to wait costs little.
const (
	startLimit  = 30 * time.Second
	settleLimit = 15 * time.Second
	// interval is what a check waits for before the next one, and for an answer; there are no retries. So after the sum of both
	// it has noticed whatever happened.
	interval = time.Second
)

var (
	vip     = site.VIP4
	gateway = netip.MustParseAddr("10.77.0.101") // by which real servers reach the client of the services that are translated
	near    = netip.MustParseAddr("10.77.0.50")  // that client
	far     = netip.MustParseAddr("10.77.0.51")  // that of the services that real servers answer directly
	farther = netip.MustParseAddr("10.77.0.52")  // that of those that are reached through a tunnel
)

var stages atomic.Int32

// stage is a cluster whose directors balance, and the test that plays on it.
type stage struct {
	*site.Site
	t       *testing.T
	ctx     context.Context
	kernels map[*site.Node]*ipvs.Conn
	servers []*backend.Server
	clients map[netip.Addr]*lab.Host
}

// newStage sets up a cluster with a number of real servers, of which nothing runs. Its intervals are short, as is all that
// follows from them.
func newStage(t *testing.T, servers int) *stage {
	t.Helper()
	dir := vm.Programs
	built, err := site.Build(t.Context(), site.Plan{
		Programs: site.Programs{Had: filepath.Join(dir, "had"), Hawitness: filepath.Join(dir, "hawitness"),
			Hactl: filepath.Join(dir, "hactl")},
		Dir: fmt.Sprintf("%s/s%d", lab.RunDir, stages.Add(1)), Members: site.Trio(), VIPs: []netip.Addr{vip, gateway},
		AdvertInterval: 200 * time.Millisecond, Version: 3, Period: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{Site: built, t: t, ctx: t.Context(), kernels: map[*site.Node]*ipvs.Conn{}, clients: map[netip.Addr]*lab.Host{}}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range s.Nodes {
				t.Logf("the end of %s's log:\n%s", n.Name, n.LogTail(12<<10))
			}
		}
		for _, b := range s.servers {
			b.Close()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, n := range s.Directors() {
		s.must(backend.Forwards(n.Host))
		s.kernels[n] = s.kernel(n)
	}
	for i := range servers {
		name := fmt.Sprintf("rs%d", i+1)
		b, err := backend.Add(s.Lab, backend.Plan{Name: name, Address: netip.MustParsePrefix(fmt.Sprintf("10.77.0.%d/24", 121+i)),
			VIP: vip, Client: near, Gateway: gateway})
		s.must(err)
		s.servers = append(s.servers, b)
	}
	for i, a := range []netip.Addr{near, far, farther} {
		h, err := s.Lab.AddHost(fmt.Sprintf("c%d", i), netip.PrefixFrom(a, 24))
		s.must(err)
		s.clients[a] = h
	}
	return s
}

// kernel opens the door to a director's IPVS, for one goroutine.
func (s *stage) kernel(n *site.Node) *ipvs.Conn {
	s.t.Helper()
	c, err := ipvs.Open(fmt.Sprintf("/proc/self/fd/%d", n.Host.Namespace()))
	s.must(err)
	s.t.Cleanup(c.Close)
	return c
}

// configure gives all directors the same text beside the usual one, which is read at the next start or reload.
func (s *stage) configure(text string) {
	s.t.Helper()
	for _, n := range s.Directors() {
		s.must(os.WriteFile(n.Config(), []byte(s.Configuration(n)+text), 0o600))
	}
}

// begin starts all programs and waits until the cluster is healthy.
func (s *stage) begin() (owner, other *site.Node) {
	s.t.Helper()
	s.must(s.StartAll())
	owner, other = s.owned(nil, startLimit)
	s.must(s.AwaitHealthy(s.ctx, startLimit))
	return owner, other
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// eventually polls until something is so, and fails the test with its last complaint.
func (s *stage) eventually(limit time.Duration, try func() error) {
	s.t.Helper()
	s.must(s.Poll(s.ctx, limit, try))
}

// holds tells whether a director has the virtual IP and its program runs: one that was killed leaves the address behind.
func (s *stage) holds(n *site.Node) bool {
	has, err := n.Host.HasAddr(vip)
	return err == nil && has && n.Running()
}

// owned waits until one director, another than that one, has the virtual IP alone. It looks often.
func (s *stage) owned(before *site.Node, limit time.Duration) (owner, other *site.Node) {
	s.t.Helper()
	both := s.Directors()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for i, n := range both {
			if n != before && s.holds(n) && !s.holds(both[1-i]) {
				return n, both[1-i]
			}
		}
	}
	s.t.Fatalf("nobody takes %s over within %s", vip, limit)
	return nil, nil
}

// hactl runs hactl against a node and returns what it prints.
func (s *stage) hactl(n *site.Node, args ...string) string {
	s.t.Helper()
	out, err := s.Hactl(s.ctx, n, args...)
	s.must(err)
	return out
}

// ipvsadm runs the program on a director.
func (s *stage) ipvsadm(n *site.Node, args ...string) string {
	s.t.Helper()
	var out bytes.Buffer
	p, err := n.Host.Start(lab.Command{Path: filepath.Join(vm.Programs, "ipvsadm"), Args: args, Output: &out})
	s.must(err)
	ctx, cancel := context.WithTimeout(s.ctx, settleLimit)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		s.t.Fatalf("ipvsadm %s on %s: %v: %s", strings.Join(args, " "), n.Name, err, out.String())
	}
	return out.String()
}

// table is what a director's kernel has.
func (s *stage) table(n *site.Node) lvs.Table {
	s.t.Helper()
	t, err := s.kernels[n].Read()
	s.must(err)
	return t
}

// shown is a table as text: a line for each service, with its servers and their weights.
func shown(t lvs.Table) string {
	var b strings.Builder
	for _, key := range slices.SortedFunc(maps.Keys(t), lvs.ServiceKey.Compare) {
		fmt.Fprintf(&b, "%s %s:", key, t[key].Scheduler)
		for _, server := range slices.SortedFunc(maps.Keys(t[key].Destinations), netip.AddrPort.Compare) {
			fmt.Fprintf(&b, " %s=%d", server.Addr(), t[key].Destinations[server].Weight)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// serve waits until the kernels of these directors have a table, and nothing else.
func (s *stage) serve(what, table string, directors ...*site.Node) {
	s.t.Helper()
	for _, n := range directors {
		s.eventually(settleLimit, func() error {
			if have := shown(s.table(n)); have != table {
				return fmt.Errorf("%s: %s has\n%swant\n%s", what, n.Name, have, table)
			}
			return nil
		})
	}
}

// says waits until a text that is asked for has all the parts.
func (s *stage) says(ask func() (string, error), parts ...string) {
	s.t.Helper()
	s.eventually(settleLimit, func() error {
		text, err := ask()
		for _, part := range parts {
			if err == nil && !strings.Contains(text, part) {
				err = fmt.Errorf("%q is not in:\n%s", part, text)
			}
		}
		return err
	})
}

// log is what a node's program has said.
func log(n *site.Node) func() (string, error) {
	return func() (string, error) {
		b, err := os.ReadFile(n.Log())
		return string(b), err
	}
}
