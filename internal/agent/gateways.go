package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/fencing"
	"github.com/hactl/had/fsm"
	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/linux/echo"
)

// gateways is what this director knows of the gateways of the cluster block.
type gateways struct {
	sight *fencing.Gateways // nil without gateways
	told  director.Sight
	each  []gateway
}

// gateway is one of them, as it is shown.
type gateway struct {
	sight fencing.Sight
	since time.Time
	why   string // the last probe was lost; empty if it was answered
}

// gatewayProbed is the outcome of a probe of the gateway of an index.
type gatewayProbed struct {
	index int
	sent  clock.Time
	err   error // nil: it has answered
}

// probeGateways begins to probe, on a goroutine for each gateway.
func (a *Agent) probeGateways() {
	if !a.clustered() || len(a.cfg.Cluster.Gateways) == 0 {
		return
	}
	c := a.cfg.Cluster
	var rules []fencing.GatewayRules
	for _, g := range c.Gateways {
		rules = append(rules, fencing.GatewayRules{Interval: g.Interval, Fall: g.Fall, Rise: g.Rise})
	}
	a.gateways.sight = fencing.NewGateways(rules, c.GatewaysNeeded)
	for i, g := range c.Gateways {
		a.gateways.each = append(a.gateways.each, gateway{sight: a.gateways.sight.Each(i), since: time.Now(), why: "not probed yet"})
		go a.probeGateway(i, g)
	}
	a.tellSight()
}

// probeGateway probes one gateway until the agent ends.
func (a *Agent) probeGateway(index int, g conf.Gateway) {
	tick := time.NewTicker(g.Interval)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(a.work, g.Timeout)
		sent := a.clock.Now()
		err := a.askGateway(ctx, g)
		cancel()
		a.post(a.work, gatewayProbed{index, sent, err})
		select {
		case <-tick.C:
		case <-a.work.Done():
			return
		}
	}
}

var errNoAnswer = errors.New("no answer")

// askGateway sends one probe and waits for the answer.
func (a *Agent) askGateway(ctx context.Context, g conf.Gateway) error {
	if g.Method == conf.ProbeICMP {
		err := echo.Ask(ctx, echo.Question{Host: g.Address, Source: g.Source, Interface: g.Interface})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errNoAnswer
		}
		return err
	}
	claims, err := a.watcher.Ask(ctx, g.Interface, []netip.Addr{g.Address}, g.Source, 1, g.Timeout)
	if err == nil && len(claims) == 0 || errors.Is(err, context.DeadlineExceeded) {
		return errNoAnswer
	}
	return err
}

// gatewayProbed counts a probe and tells the machine what follows from it.
func (a *Agent) gatewayProbed(p gatewayProbed) {
	g, c := &a.gateways.each[p.index], &a.cfg.Cluster.Gateways[p.index]
	a.gateways.sight.Result(a.clock.Now(), p.index, p.sent, p.err == nil)
	g.why = ""
	if p.err != nil {
		g.why = p.err.Error()
	}
	if s := a.gateways.sight.Each(p.index); s != g.sight {
		if was := g.sight; s == fencing.Blind || was >= fencing.Recovers && s == fencing.Sees {
			a.log.Info("gateway changed", "gateway", c.Address, "reachable", s == fencing.Sees, "reason", g.why)
		}
		g.sight, g.since = s, time.Now()
	}
	a.tellSight()
}

// sightSpan is for how long an answer of a gateway counts: until as many probes as make it unreachable have been lost.
func sightSpan(gateways []conf.Gateway) (span time.Duration) {
	for _, g := range gateways {
		span = max(span, time.Duration(g.Fall)*g.Interval+g.Timeout)
	}
	return span
}

// tellSight tells the machine how this director sees its gateways, if that is news, and people, if it has lost them or sees
// them again.
func (a *Agent) tellSight() {
	s := director.SightOf(a.gateways.sight, a.unseen())
	before := a.gateways.told
	if s == before {
		return
	}
	a.gateways.told = s
	switch {
	case s.Sight == lease.Blind && before.Sight != lease.Blind:
		a.log.Warn("the gateway is lost", "reason", s.Text)
		a.note(fsm.Note{Kind: "gateway", Severity: fsm.Warn, Text: s.Text})
	case s.Sight == lease.Sees && before.Sight >= lease.Recovers:
		a.log.Info("the gateway is reached")
		a.note(fsm.Note{Kind: "gateway", Severity: fsm.Info, Text: a.node + " reaches its gateway"})
	}
	a.step(s)
}

// unseen says which gateways do not count as reachable; empty if this director sees as many as it needs.
func (a *Agent) unseen() string {
	if a.gateways.sight.Sight() < fencing.Recovers {
		return ""
	}
	var names []string
	for i, g := range a.cfg.Cluster.Gateways {
		if a.gateways.sight.Each(i) >= fencing.Recovers {
			names = append(names, g.Address.String())
		}
	}
	switch len(names) {
	case 0:
		return "its gateway was lost, and has not answered for long enough since"
	case 1:
		return "gateway " + names[0] + " does not answer " + a.node
	}
	return "gateways " + strings.Join(names, ", ") + " do not answer " + a.node
}

// gatewayReports says how each gateway is seen.
func (a *Agent) gatewayReports() []api.GatewayReport {
	var all []api.GatewayReport
	for i, g := range a.gateways.each {
		c := &a.cfg.Cluster.Gateways[i]
		r := api.GatewayReport{Address: c.Address.String(), Method: "icmp", Up: g.sight < fencing.Recovers, Since: api.At(g.since),
			Text: g.why}
		if c.Method == conf.ProbeARP {
			r.Method = "arp"
		}
		if r.Up && g.sight == fencing.Doubts {
			r.Text = fmt.Sprintf("a probe was lost: %s", g.why)
		}
		all = append(all, r)
	}
	return all
}
