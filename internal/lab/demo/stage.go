package demo

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/observer"
	"github.com/hactl/had/internal/lab/site"
)

const (
	startLimit   = 30 * time.Second // for the first owner
	recoverLimit = 15 * time.Second // for an owner after a fault, and for a healthy cluster after its end
	logTail      = 4 << 10          // bytes of each log that are printed after a failure
)

var vip = site.VIP4

// stage is the cluster that the demonstration plays on, and what it has seen so far.
type stage struct {
	*site.Site
	results  []result
	patience time.Duration // left for phases that have to be played again
}

func newStage(ctx context.Context, opts Options) (*stage, error) {
	s, err := site.Build(ctx, site.Plan{
		Programs:       site.Programs{Had: opts.HadPath, Hawitness: opts.HawitnessPath, Hactl: opts.HactlPath},
		Dir:            lab.RunDir + "/had-demo",
		Members:        site.Trio(),
		VIPs:           []netip.Addr{vip},
		AdvertInterval: time.Second,
	})
	if err != nil {
		return nil, err
	}
	return &stage{Site: s, patience: patience}, nil
}

// describe says what there is.
func (st *stage) describe(p *printer) {
	for _, n := range st.Nodes {
		role := fmt.Sprintf("director  had, priority %d", n.Priority)
		if n.Witness {
			role = "witness   hawitness, a vote and nothing else"
			if n.Unprivileged() {
				role += ", runs as nobody"
			}
		}
		p.line("  %-7s %-12s %s", n.Name, n.Address, role)
	}
	p.line("  %-7s %-12s asks by ARP and ping, every millisecond, who has %s", st.Client.Name(), site.Client4, vip)
	p.line("")
	p.line("Plain VRRP settings: advert_int %g, nopreempt. A director may hold the address only with a lease from two of the", st.AdvertInterval.Seconds())
	p.line("three, which its kernel enforces. \"Two owners\" is the time in which both answered.")
	if !st.Observer.Realtime() {
		p.line("The client has no real-time priority here: if the machine is busy, phases will be void and played again.")
	}
}

// open starts the programs, waits for the first owner and a healthy cluster, and shows the status that the cluster gives.
func (st *stage) open(ctx context.Context, p *printer) error {
	p.title("Start")
	began := time.Now()
	if err := st.StartAll(); err != nil {
		return err
	}
	owner, _, err := st.AwaitOwner(ctx, startLimit)
	if err != nil {
		return fmt.Errorf("the cluster has no owner %w", err)
	}
	p.line("  %s answers for %s, %s after the start of the first program", owner.Name, vip, seconds(time.Since(began)))
	if err := st.AwaitHealthy(ctx, startLimit); err != nil {
		return err
	}
	status, err := st.Hactl(ctx, owner, "cluster", "status")
	if err != nil {
		return err
	}
	p.line("\n  $ hactl cluster status")
	p.indented(status)
	return nil
}

// printLogs prints the ends of the nodes' logs.
func (st *stage) printLogs(p *printer) {
	for _, n := range st.Nodes {
		if tail := n.LogTail(logTail); tail != "" {
			p.title("The end of %s's log", n.Name)
			p.indented(tail)
		}
	}
}

// now is the observer's clock.
func now() observer.Instant { return observer.Now() }

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
