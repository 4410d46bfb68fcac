package agent

import (
	"context"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/hactl/had/internal/agent/balancer"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/lvs"
	"github.com/hactl/had/lvs/check"
	"github.com/hactl/had/lvs/ipvs"
)

// Patience with the load balancer's goroutine.
const (
	balancerFarewell = 10 * time.Second // for it to empty its table
	// lastAnswers is how long a table outlives addresses that a router has yet to take over, which takes up to a skew time: what real
	// servers answer meanwhile still comes here. The kernel stops translating it with the last virtual server, and
	// a client resets a connection whose answers come from an address that it does not know.
	lastAnswers      = time.Second
	balancerPatience = time.Second // for an answer; it may be at the kernel
)

// newBalancer makes the load balancer, which serves nothing yet.
func (a *Agent) newBalancer() {
	a.checks = newHealthChecks()
	a.balancer = balancer.New(balancer.Options{
		Open: func() (balancer.Kernel, error) {
			c, err := ipvs.Open("")
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		Checks: func(found func(string, balancer.Finding)) balancer.Checks {
			return a.checks.start(a.clock.Now, a.log, found)
		},
		Heard: func() {
			if a.services != nil {
				a.services.found()
			}
		},
		Log: a.log, Keep: a.opt.KeepIPVS,
	})
}

// balance begins to serve the virtual servers. The function that it returns ends that, once addresses are gone.
func (a *Agent) balance(work context.Context, presented *check.TLS) (end func()) {
	ctx, stop := context.WithCancel(work)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var both sync.WaitGroup
		both.Go(func() { a.sync.run(ctx) })
		a.balancer.Run(ctx)
		both.Wait()
	}()
	a.serve(presented)
	if a.services != nil {
		go a.services.run(ctx)
	}
	return func() {
		if a.leaves && !a.clustered() && len(a.cfg.VirtualServers) > 0 && !a.opt.KeepIPVS {
			time.Sleep(lastAnswers)
		}
		stop()
		select {
		case <-ended:
		case <-time.After(balancerFarewell):
			a.log.Error("the load balancer has not ended in time; its table may stay in the kernel")
		}
	}
}

// serve has the load balancer serve what the running configuration says; in a cluster, the cluster's virtual services, as
// the running configuration would have them.
func (a *Agent) serve(presented *check.TLS) {
	g := &a.cfg.Global
	c := balancer.Config{Virtual: a.cfg.VirtualServers, Groups: a.cfg.VirtualServerGroups, Global: g, Scripts: a.notifyScripts,
		TLS: presented,
		Notifier: &notify.Notifier{Runner: a.runner, FIFOs: fifosOf(a.pipes, g.NotifyFIFO, g.LVSNotifyFIFO),
			Receivers: a.alerts.receivers(), Logger: a.log}}
	if a.services != nil {
		a.services.configure(a.work, a.cfg, c)
	} else {
		a.balancer.Configure(c, nil)
	}
	a.absent = nil
	a.tellAbsent()
	for _, f := range a.trackers.files {
		if a.trackers.watcher != nil {
			a.checks.file(f.conf.Name, f.value)
		}
	}
}

// tellAbsent tells the load balancer which virtual servers with ha_suspend have an address that this machine does not have.
func (a *Agent) tellAbsent() {
	absent := map[string]bool{}
	all, groups := a.cfg.VirtualServers, a.cfg.VirtualServerGroups
	if a.services != nil {
		all, groups = a.services.serving()
	}
	for i := range all {
		if v := &all[i]; v.HASuspend && !a.present(v, groups) {
			absent[v.Key()] = true
		}
	}
	if a.absent == nil || !maps.Equal(absent, a.absent) {
		a.absent = absent
		a.balancer.Absent(absent)
	}
}

// present tells whether this machine has an address of a virtual server.
func (a *Agent) present(v *conf.VirtualServer, groups []conf.VirtualServerGroup) bool {
	if v.Group == "" {
		return a.hasAddress(func(addr netip.Addr) bool { return addr == v.Address.Addr() })
	}
	for _, g := range groups {
		for _, e := range g.Entries {
			if g.Name == v.Group && e.Mark == 0 &&
				a.hasAddress(func(addr netip.Addr) bool { return !addr.Less(e.First) && !e.Last.Less(addr) }) {
				return true
			}
		}
	}
	return false
}

// tellHolds tells which groups this director holds: its checks count for the services of these.
func (a *Agent) tellHolds() {
	if a.services == nil {
		return
	}
	epochs := map[string]uint64{}
	for _, g := range a.groups {
		if v, _ := a.machine.Group(g.Name); v.Held {
			epochs[g.Name] = uint64(v.Epoch)
		}
	}
	a.services.hold(epochs)
}

func (a *Agent) hasAddress(is func(netip.Addr) bool) bool {
	for _, l := range a.table.Links() {
		for _, addr := range a.table.Addresses(l.Index) {
			if is(addr.Prefix.Addr()) {
				return true
			}
		}
	}
	return false
}

// balancerFindings says what keeps virtual servers from being served. It waits for the load balancer, and is not for the
// loop.
func (a *Agent) balancerFindings(ctx context.Context) []api.Finding {
	ctx, cancel := context.WithTimeout(ctx, balancerPatience)
	defer cancel()
	s, err := a.balancer.Status(ctx)
	if err != nil {
		return nil // it is filling its table, or has ended
	}
	var all []api.Finding
	if s.Missing != "" {
		all = append(all, api.Finding{Code: "no-ipvs", Severity: api.Error, Node: a.node, Text: "virtual_server: " + s.Missing})
	}
	for _, r := range s.Refused {
		all = append(all, api.Finding{Code: "ipvs-refuses", Severity: api.Error, Node: a.node,
			Text: r.Where + ": the kernel refuses to " + r.Change + ": " + r.Why})
	}
	return all
}

// connections asks the kernel for its counters.
func connections() (map[lvs.ServiceKey]ipvs.ServiceStatistics, error) {
	c, err := ipvs.Open("")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Statistics()
}
