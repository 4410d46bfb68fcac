package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/member"
	"github.com/hactl/had/vrrp"
)

// report says what this director knows for itself. Any goroutine may call it; the loop answers.
func (a *Agent) report(ctx context.Context) (api.NodeReport, error) {
	var r api.NodeReport
	if a.service != nil {
		r = a.service.BaseReport(api.Director, a.started)
	} else {
		r = api.NodeReport{Schema: api.Schema, Node: a.node, Role: api.Standalone, State: api.NodeReady,
			Version: a.opt.Version, At: api.At(time.Now()), StartedAt: api.At(a.started),
			UptimeSeconds: api.SecondsOf(time.Since(a.started))}
		r.ClockSource, r.ClockSourceWarning = member.ClockSource()
	}
	r.Findings = append(r.Findings, a.balancerFindings(ctx)...)
	if a.services != nil {
		r.Findings = append(r.Findings, a.services.findings()...)
	}
	err := a.inLoop(ctx, func(now clock.Time) { a.fillReport(&r, now) })
	return r, err
}

func (a *Agent) fillReport(r *api.NodeReport, now clock.Time) {
	if node := a.machine.Node(); node != nil {
		a.service.AddVoter(r, node, now)
		r.Guard = a.guardReport()
		if a.cfg.Cluster.QuorumLoss == conf.QuorumLossHold {
			r.Cluster.QuorumLoss = "hold"
		}
		if a.cfg.Cluster.Arbitration == conf.ArbitrationGateway {
			r.Cluster.Arbitration = "gateway"
		}
	}
	r.Gateways = a.gatewayReports()
	r.Findings = append(r.Findings, a.findings()...)
	for _, name := range a.order {
		r.Instances = append(r.Instances, a.instanceReport(a.instances[name]))
	}
	faulty := len(a.groups) > 0
	heirs := a.machine.Heirs()
	for _, g := range a.groups {
		gr := a.groupReport(g.Name, heirs[g.Name], now)
		faulty = faulty && gr.State == api.GroupFault
		r.Groups = append(r.Groups, gr)
	}
	if faulty && r.State == api.NodeReady {
		r.State, r.StateText = api.NodeFault, "every group is in fault"
	}
}

func (a *Agent) guardReport() *api.GuardReport {
	switch a.cfg.Cluster.Guard {
	case conf.GuardNftables:
		return &api.GuardReport{Kind: "nftables", OK: a.guardFault == "", Text: a.guardFault}
	case conf.GuardLifetime:
		return &api.GuardReport{Kind: "lifetime", OK: true}
	default:
		return &api.GuardReport{Kind: "none", OK: true, Text: "a daemon that is killed leaves its addresses behind"}
	}
}

func (a *Agent) findings() []api.Finding {
	var all []api.Finding
	node := a.node
	for _, f := range a.opt.Findings {
		if f.Code == conf.CodeNotDone {
			all = append(all, api.Finding{Code: string(f.Code), Severity: api.Info, Node: node, Text: f.String()})
		}
	}
	if a.dogFault != "" {
		all = append(all, api.Finding{Code: "no-watchdog", Severity: api.Error, Node: node, Text: a.dogFault + "; nothing resets this machine if had hangs",
			Next: "had-cluster.conf(5), watchdog"})
	}
	for _, why := range []string{a.trackers.noFiles, a.trackers.noProcesses} {
		if why != "" {
			all = append(all, api.Finding{Code: "tracker-unusable", Severity: api.Error, Node: node,
				Text: "what is tracked is ignored: " + why})
		}
	}
	for _, s := range a.scripts {
		if s.unusable != "" {
			all = append(all, api.Finding{Code: "script-unusable", Severity: api.Error, Node: node,
				Text: fmt.Sprintf("vrrp_script %s is ignored: %s", s.conf.Name, s.unusable)})
		}
	}
	for _, text := range a.unusable {
		all = append(all, api.Finding{Code: "route-unusable", Severity: api.Error, Node: node, Text: text})
	}
	a.dropped.mu.Lock()
	defer a.dropped.mu.Unlock()
	for _, kind := range []string{"advert", "stranger"} {
		if n := a.dropped.counts[kind]; n > 0 {
			all = append(all, api.Finding{Code: "overload", Severity: api.Warn, Node: node,
				Text: fmt.Sprintf("%d events of kind %s were dropped because they came too fast", n, kind)})
		}
	}
	return all
}

func (a *Agent) instanceReport(i *instance) api.InstanceReport {
	c, state, counters := i.conf, a.machine.State(i.conf.Name), i.speaker.Counters()
	r := api.InstanceReport{
		Name: c.Name, Group: i.group, State: state.Status.KeepalivedName(), Since: api.At(i.since), Interface: c.Interface,
		VRID: int(c.VRID), Version: int(c.Version), Family: "ipv4", Unicast: c.Unicast, Priority: int(c.Priority),
		EffectivePriority: int(i.priority), AdvertIntervalSeconds: api.SecondsOf(c.AdvertInterval),
		DownIntervalSeconds: api.SecondsOf(downInterval(c, i.priority)), Preempt: c.Preempt,
		PreemptDelaySeconds: api.SecondsOf(c.PreemptDelay), VIPs: []string{}, AdvertsSent: counters.Sent,
		AdvertsReceived: counters.Received, Dropped: i.verdicts(),
	}
	if c.Family == conf.IPv6 {
		r.Family = "ipv6"
	}
	if i.source.IsValid() {
		r.Source = i.source.String()
	}
	if !i.sentAt.IsZero() {
		r.LastSentSeconds = api.SecondsOf(time.Since(i.sentAt))
	}
	for _, addr := range c.Addresses {
		r.VIPs = append(r.VIPs, addr.Prefix.String())
	}
	for _, route := range i.forwarding.routes {
		r.Routes = append(r.Routes, route.String())
	}
	for _, rule := range i.forwarding.rules {
		r.Rules = append(r.Rules, rule.Kernel.String())
	}
	for from, h := range i.heard {
		r.Heard = append(r.Heard, api.AdvertSource{Address: from.String(), Priority: int(h.priority),
			AgoSeconds: api.SecondsOf(time.Since(h.at))})
	}
	slices.SortFunc(r.Heard, func(x, y api.AdvertSource) int { return cmp.Compare(x.Address, y.Address) })
	for _, o := range a.objects(i) {
		r.Tracks = append(r.Tracks, api.Track{Kind: kindOf(o.Name), Name: nameOf(o.Name),
			Up: o.Condition.String() == "good", Weight: o.Weight, Text: o.Condition.String()})
	}
	r.Tracks = append(r.Tracks, a.filesReport(i)...)
	r.FaultReasons = append(r.FaultReasons, sortedKeys(i.causes)...)
	return r
}

// downInterval is Active_Down_Interval at an effective priority (RFC 9568 section 6.1).
func downInterval(c *conf.Instance, priority uint8) time.Duration {
	skew := time.Second
	if c.Version == vrrp.Version3 {
		skew = c.AdvertInterval
	}
	return time.Duration(c.DownTimerAdverts)*c.AdvertInterval + skew*time.Duration(256-int(priority))/256
}

func (a *Agent) groupReport(name string, heirs director.Heirs, now clock.Time) api.GroupReport {
	v, _ := a.machine.Group(name)
	r := api.GroupReport{Name: name, State: api.GroupBackup, Epoch: uint64(v.Epoch), EffectivePriority: 255,
		Eligible: v.WhyNot == "", Guard: "none", Addresses: []api.AddressReport{}}
	fault := false
	for _, member := range a.members[name] {
		i := a.instances[member]
		r.EffectivePriority = min(r.EffectivePriority, int(i.priority))
		fault = fault || a.status(member) == vrrp.Fault
		r.Strangers = append(r.Strangers, i.strangersReport()...)
		if r.Since.Before(i.since) {
			r.Since = api.At(i.since)
		}
		for _, addr := range i.conf.Addresses {
			r.Addresses = append(r.Addresses, a.addressReport(i, addr, false))
		}
		for _, addr := range i.conf.Excluded {
			r.Addresses = append(r.Addresses, a.addressReport(i, addr, true))
		}
	}
	if at := a.lapsed[name]; !at.IsZero() && !v.Held {
		r.LapsedAt = api.At(at)
	}
	if v.WhyNot != "" {
		r.WhyNot = []api.Reason{{Code: "unfit", Text: v.WhyNot}}
		switch {
		case v.Marked:
			r.WhyNot[0].Code = api.ReasonMaintenance
		case v.CutOff:
			r.WhyNot[0].Code = "gateway"
		case v.Stranger:
			r.WhyNot[0].Code = "stranger"
		}
	}
	if v.Rules != "" {
		r.Placement = &api.Placement{Node: v.Spot, Text: v.SpotText, Rules: v.Rules, Heir: heirs.All, HeirAlone: heirs.Alone}
	}
	switch {
	case v.Held:
		r.State = api.GroupOwner
	case fault:
		r.State = api.GroupFault
	case v.WhyNot != "":
		r.State = api.GroupIneligible
	case v.Claiming != "":
		r.State = api.GroupClaiming
		r.Claim = &api.Claim{LastRefusal: v.Refusal.Reason}
		if !v.Refusal.Since.IsZero() {
			r.Claim.ForSeconds = api.SecondsOf(now.Sub(v.Refusal.Since))
		}
	}
	a.protection(&r, v, now)
	return r
}

// protection says how far a lease stands behind a group.
func (a *Agent) protection(r *api.GroupReport, v director.GroupView, now clock.Time) {
	if !a.clustered() {
		r.Unprotected, r.UnprotectedText = true, "there is no cluster block: nothing protects it from two owners"
		return
	}
	r.LeaseSeconds = api.SecondsOf(a.opt.Member.Lease)
	if r.State == api.GroupOwner && !v.Kept && !v.Until.IsZero() {
		r.LeaseLeftSeconds = api.SecondsOf(max(v.Until.Sub(now), 0))
	}
	switch {
	case v.Kept:
		r.Unprotected, r.UnprotectedText = true, "quorum_loss hold: no majority answers, its gateway does, and nobody else acts for the addresses"
		switch {
		case v.Given:
			r.UnprotectedText = "arbitration gateway: taken over without a majority, since the other director's daemon has died and has given it up"
		case v.Taken:
			r.UnprotectedText = "arbitration gateway: taken over without a majority, since the other director was silent and the gateway answers"
		case a.cfg.Cluster.Arbitration == conf.ArbitrationGateway:
			r.UnprotectedText = "arbitration gateway: kept without a majority, since the gateway answers and nobody else acts for the addresses"
		}
		if a.guard != nil {
			r.Guard = "open"
		}
	case a.cfg.Cluster.Guard == conf.GuardNone:
		r.Unprotected, r.UnprotectedText = true, "guard none: a daemon that is killed or stopped keeps its addresses"
	case a.guard != nil && r.State == api.GroupOwner:
		r.Guard = "open"
	case a.guard != nil:
		r.Guard = "shut"
	}
}

// strangersReport lists who else has claimed addresses of ours, the newest first, and forgets whom it was long ago.
func (i *instance) strangersReport() []api.Stranger {
	var all []api.Stranger
	for mac, s := range i.strangers {
		if time.Since(s.at) > strangerKept {
			delete(i.strangers, mac)
			continue
		}
		all = append(all, api.Stranger{Kind: s.claim.Kind.String(), Address: s.claim.Addr.String(), MAC: mac.String(),
			Interface: s.claim.Interface, AgoSeconds: api.SecondsOf(time.Since(s.at))})
	}
	slices.SortFunc(all, func(x, y api.Stranger) int {
		return cmp.Or(cmp.Compare(x.AgoSeconds, y.AgoSeconds), cmp.Compare(x.MAC, y.MAC))
	})
	return all
}

func (a *Agent) addressReport(i *instance, addr conf.Address, excluded bool) api.AddressReport {
	r := api.AddressReport{Address: addr.Prefix.String(), Device: addr.Interface, InKernel: i.holding.present(addr),
		ExcludedFromAdverts: excluded, RemovedByOthersCount: i.restored}
	if r.Device == "" {
		r.Device = i.conf.Interface
	}
	if !i.announcedAt.IsZero() && i.holding.taken {
		r.Announced = api.At(i.announcedAt)
	}
	return r
}
