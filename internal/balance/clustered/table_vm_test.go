//go:build integ

package clustered

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hactl/had/internal/control"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/lab/site"
)

// block is a virtual_server of the VIP whose servers are checked by a connection, with more lines in it.
func block(port int, kind string, servers []string, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "virtual_server %s %d {\n  delay_loop 1\n  lb_algo rr\n  lb_kind %s\n  protocol TCP\n", vip, port, kind)
	for _, line := range lines {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	for _, server := range servers {
		fmt.Fprintf(&b, "  real_server %s %d {\n    weight 2\n", server, port)
		b.WriteString("    TCP_CHECK {\n      connect_timeout 1\n      retry 0\n    }\n  }\n")
	}
	b.WriteString("}\n")
	return b.String()
}

const (
	first, second = "10.77.0.121", "10.77.0.122"
	translated    = 81
	routed        = 82
)

var both = []string{first, second}

// Whatever changes the cluster's virtual services, the kernels of both directors have the same table right afterwards.
func TestSameTable(t *testing.T) {
	s := newStage(t, 2)
	for _, b := range s.servers {
		s.must(b.Open(translated, routed))
	}
	text := block(translated, "NAT", both) + block(routed, "DR", both)
	s.configure(text)
	owner, other := s.begin()
	const (
		nat = "TCP 10.77.0.100:81 rr: 10.77.0.121=2 10.77.0.122=2\n"
		dr  = "TCP 10.77.0.100:82 rr: 10.77.0.121=2 10.77.0.122=2\n"
	)
	nodes := []*site.Node{owner, other, s.Witness()}
	for i, step := range []struct {
		what  string
		do    func(asked *site.Node)
		table string
	}{
		{"start", func(*site.Node) {}, nat + dr},
		{"weight", func(n *site.Node) { s.hactl(n, "lvs", "weight", "10.77.0.100:81", first+":81", "7") },
			"TCP 10.77.0.100:81 rr: 10.77.0.121=7 10.77.0.122=2\n" + dr},
		{"drain", func(n *site.Node) { s.hactl(n, "lvs", "drain", second) },
			"TCP 10.77.0.100:81 rr: 10.77.0.121=7 10.77.0.122=0\nTCP 10.77.0.100:82 rr: 10.77.0.121=2 10.77.0.122=0\n"},
		{"undrain", func(n *site.Node) { s.hactl(n, "lvs", "undrain", second) },
			"TCP 10.77.0.100:81 rr: 10.77.0.121=7 10.77.0.122=2\n" + dr},
		{"default weight", func(n *site.Node) { s.hactl(n, "lvs", "weight", "10.77.0.100:81", first+":81", "default") }, nat + dr},
		{"add service", func(*site.Node) {
			s.hactl(other, "lvs", "add", "service", "10.77.0.100:90", "--server", first+":81=5", "--scheduler", "wlc")
		}, nat + dr + "TCP 10.77.0.100:90 wlc: 10.77.0.121=5\n"},
		{"add server", func(*site.Node) {
			s.hactl(owner, "lvs", "add", "server", "10.77.0.100:90", second+":81", "--check", "tcp")
		},
			nat + dr + "TCP 10.77.0.100:90 wlc: 10.77.0.121=5 10.77.0.122=1\n"},
		{"remove server", func(n *site.Node) { s.hactl(n, "lvs", "remove", "server", "10.77.0.100:90", first+":81") },
			nat + dr + "TCP 10.77.0.100:90 wlc: 10.77.0.122=1\n"},
		{"remove service", func(n *site.Node) { s.hactl(n, "lvs", "remove", "service", "10.77.0.100:90", "--yes") }, nat + dr},
		{"edited file and reload", func(*site.Node) {
			s.configure(block(translated, "NAT", both) + strings.Replace(block(routed, "DR", both), "lb_algo rr", "lb_algo wrr", 1))
			s.hactl(other, "config", "reload")
		}, nat + strings.Replace(dr, " rr:", " wrr:", 1)},
		{"a server fails", func(*site.Node) { s.servers[0].Close(routed) }, nat + "TCP 10.77.0.100:82 wrr: 10.77.0.122=2\n"},
		{"it is back", func(*site.Node) { s.must(s.servers[0].Open(routed)) }, nat + strings.Replace(dr, " rr:", " wrr:", 1)},
	} {
		step.do(nodes[i%len(nodes)])
		s.serve(step.what, step.table, owner, other)
		if a, b := s.ipvsadm(owner, "-Sn"), s.ipvsadm(other, "-Sn"); sortedLines(a) != sortedLines(b) {
			t.Errorf("%s: ipvsadm -Sn of %s:\n%sof %s:\n%s", step.what, owner.Name, a, other.Name, b)
		}
	}
	s.measure(owner, other)
	rest := nat + strings.Replace(dr, " rr:", " wrr:", 1)
	s.hactl(owner, "lvs", "weight", "10.77.0.100:81", first+":81", "default")
	s.serve("default weight", rest, owner, other)
	owner, other = s.returns(owner, other, rest)
	s.disagree(owner, other, rest)
	s.refused(owner, other, rest)
	s.withoutMajority(owner, other, rest)
}

// returns: a director that was killed, and finds its table of before in its kernel, owns nothing until it has that of the cluster,
// however soon it is asked to.
func (s *stage) returns(owner, other *site.Node, table string) (now, before *site.Node) {
	s.t.Helper()
	for _, weight := range []string{"8", "9", "default"} {
		s.must(s.Kill(other))
		s.hactl(owner, "lvs", "weight", "10.77.0.100:81", first+":81", weight)
		want := table
		if weight != "default" {
			want = strings.Replace(table, first+"=2", first+"="+weight, 1)
		}
		s.serve("weight while "+other.Name+" is gone", want, owner)
		s.must(s.Start(other))
		s.must(s.asked(owner, other, time.Millisecond))
		owner, other = s.owned(owner, startLimit)
		if have := shown(s.table(owner)); have != want {
			s.t.Errorf("%s takes over with\n%swant\n%s", owner.Name, have, want)
		}
	}
	s.serve("all are back", table, owner, other)
	return owner, other
}

// disagree: the owner's checks decide about both tables, and it is shown where those of the other director find something else.
func (s *stage) disagree(owner, other *site.Node, table string) {
	s.t.Helper()
	fault, err := s.Lab.DropPort(6, translated, other.Host, s.servers[0].Host)
	s.must(err)
	for _, n := range s.Nodes {
		s.says(func() (string, error) { return s.Hactl(s.ctx, n, "lvs", "list") }, other.Name+" says down")
	}
	time.Sleep(3 * interval)
	s.serve("the views differ", table, owner, other)
	s.must(fault.Heal())
	s.eventually(settleLimit, func() error {
		out, err := s.Hactl(s.ctx, owner, "lvs", "list")
		if err == nil && strings.Contains(out, other.Name+" says") {
			err = fmt.Errorf("%s still says something else:\n%s", other.Name, out)
		}
		return err
	})
}

// refused: what the kernel of one director does not take is named there, and all else is served; once it takes it, that is
// served too.
func (s *stage) refused(owner, other *site.Node, table string) {
	s.t.Helper()
	const odd = "10.9.9.3" // the broadcast address of a network that one director is in
	network := netip.MustParsePrefix("10.9.9.1/30")
	s.must(other.Host.AddAddr(network))
	s.hactl(owner, "lvs", "add", "service", "10.77.0.100:91", "--server", odd+":91=1", "--server", second+":91=2")
	all := table + "TCP 10.77.0.100:91 wlc: 10.9.9.3=1 10.77.0.122=2\n"
	s.serve("refused by one", all, owner)
	s.serve("refused by one", strings.Replace(all, " 10.9.9.3=1", "", 1), other)
	s.says(log(other), "the kernel refuses", odd+":91", "must be a unicast one")
	s.says(func() (string, error) {
		out, _ := s.Hactl(s.ctx, owner, "config", "diff") // which fails where there is a difference
		return out, nil
	}, other.Name, odd+":91", "must be a unicast one")
	s.must(other.Host.RemoveAddr(network))
	s.serve("refused no more", all, owner, other)
	s.hactl(owner, "lvs", "remove", "service", "10.77.0.100:91", "--yes")
	// A scheduler that this kernel has no module for.
	s.hactl(other, "lvs", "add", "service", "10.77.0.100:92", "--server", second+":92", "--scheduler", "twos")
	for _, n := range []*site.Node{owner, other} {
		s.says(log(n), "the kernel refuses", "10.77.0.100:92", "no scheduler twos")
	}
	s.serve("scheduler missing", table, owner, other)
	s.hactl(owner, "lvs", "remove", "service", "10.77.0.100:92", "--yes")
}

// withoutMajority: a director that is cut off keeps the table that it has, whatever its checks find, and says that it is alone.
// Once it is back it has that of the others.
func (s *stage) withoutMajority(owner, other *site.Node, table string) {
	s.t.Helper()
	for range 2 { // the standby, and then the owner
		cut, rest := other, owner
		fault, err := s.Lab.CutPort(cut.Host)
		s.must(err)
		s.eventually(settleLimit, func() error { // with a leader, which may have been cut off
			_, err := s.Hactl(s.ctx, rest, "lvs", "weight", "10.77.0.100:81", second+":81", "5")
			return err
		})
		changed := strings.Replace(table, "10.77.0.122=2", "10.77.0.122=5", 1)
		s.serve("without "+cut.Name, changed, rest)
		s.says(func() (string, error) { return s.Hactl(s.ctx, cut, "lvs", "list") }, "LOCAL VIEW of "+cut.Name)
		s.says(log(cut), "no leader of the log")
		time.Sleep(3 * interval) // its checks fail
		s.serve("cut off", table, cut)
		s.must(fault.Heal())
		s.serve("joined again", changed, owner, other)
		s.hactl(rest, "lvs", "weight", "10.77.0.100:81", second+":81", "default")
		s.serve("default weight", table, owner, other)
		owner, other = other, owner
	}
}

func sortedLines(text string) string {
	lines := slices.Sorted(strings.Lines(text))
	return strings.Join(lines, "")
}

// On this emulated processor, which executes an instruction in a nanosecond; on a real one the design allows 100 ms.
const tableBound = 300 * time.Millisecond

// measure tells how soon the kernels of both directors have a change. The commit comes between the request and its
// acknowledgement.
func (s *stage) measure(owner, other *site.Node) {
	const changes = 15
	status, err := s.Status(s.ctx, owner)
	s.must(err)
	leader := s.Node(status.Leader)
	client := control.NewClient(leader.Socket())
	defer client.Close()
	key := serviceKey(translated)
	server := serverKey(first, translated)
	var acknowledged []time.Duration
	reached := map[*site.Node][]time.Duration{}
	for i := range changes {
		weight := uint32(100 + i)
		start := time.Now()
		var wait sync.WaitGroup
		var failed error
		wait.Go(func() {
			_, failed = client.ChangeLVS(s.ctx,
				api.LVSRequest{Do: api.LVSWeight, Service: key.String(), Server: server.String(), Weight: &weight})
			acknowledged = append(acknowledged, time.Since(start))
		})
		for _, n := range []*site.Node{owner, other} {
			wait.Go(func() {
				for end := start.Add(settleLimit); time.Now().Before(end); time.Sleep(time.Millisecond) {
					if t, err := s.kernels[n].Read(); err == nil && t[key].Destinations[server].Weight == weight {
						break
					}
				}
				reached[n] = append(reached[n], time.Since(start))
			})
		}
		wait.Wait()
		s.must(failed)
	}
	var bare []time.Duration
	for i := range changes {
		start := time.Now()
		s.ipvsadm(owner, "-e", "-t", key.Address.String(), "-r", server.String(), "-m", "-w", fmt.Sprint(100+i))
		bare = append(bare, time.Since(start))
	}
	one := median(bare)
	s.t.Logf("a change, from the request on, in the machine's time: acknowledged after %s (median; at most %s); in the kernel of "+
		"the owner after %s (%s), of the other director after %s (%s); one run of ipvsadm -e takes %s (%s), the slower kernel "+
		"%.1f times that",
		median(acknowledged), slices.Max(acknowledged), median(reached[owner]), slices.Max(reached[owner]), median(reached[other]),
		slices.Max(reached[other]), one, slices.Max(bare), float64(max(median(reached[owner]), median(reached[other])))/float64(one))
	for _, n := range []*site.Node{owner, other} {
		if m := median(reached[n]); m > tableBound {
			s.t.Errorf("%s has a change in its kernel after %s, want %s at most", n.Name, m, tableBound)
		}
	}
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2].Round(10 * time.Microsecond)
}
