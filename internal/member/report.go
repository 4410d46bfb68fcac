package member

import (
	"fmt"
	"time"

	"github.com/hactl/had/cluster"
	"github.com/hactl/had/cluster/lease"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/clock/leaseclock"
	"github.com/hactl/had/internal/control/api"
)

// BaseReport is the part of a report that needs no lease.Node: any goroutine may call it.
func (s *Service) BaseReport(role api.Role, started time.Time) api.NodeReport {
	status := s.cluster.Status()
	r := api.NodeReport{
		Schema: api.Schema, Node: s.node, Role: role, State: api.NodeReady, MemberID: string(status.Self),
		Address: s.config.Self.Address.String(), Version: s.config.Version, Life: fmt.Sprintf("%016x", s.config.Life),
		At: api.At(time.Now()), StartedAt: api.At(started), UptimeSeconds: api.SecondsOf(time.Since(started)),
		Cluster: s.membership(status), Findings: s.findings(status),
	}
	r.ClockSource, r.ClockSourceWarning = ClockSource()
	switch {
	case status.State != cluster.StateMember:
		r.State, r.StateText = api.NodeStarting, status.StateText
	case !status.Disk.Healthy:
		r.State, r.StateText = api.NodeUnfit, status.Disk.Text
	}
	return r
}

// ClockSource names the kernel's clocksource, and says what is wrong with it.
func ClockSource() (source, warning string) {
	source, err := leaseclock.Source()
	switch {
	case err != nil:
		return "", fmt.Sprintf("the kernel does not say which clocksource it uses: %v", err)
	case leaseclock.StopsWithGuest(source):
		return source, "this clocksource stands still while the hypervisor has stopped the machine: after a stop, a lease " +
			"that has ended meanwhile may be used for the rest of its time"
	}
	return source, ""
}

// AddVoter adds what this member's voter and its peers' clocks say. The goroutine that owns the node calls it.
func (s *Service) AddVoter(r *api.NodeReport, n *lease.Node, now clock.Time) {
	for _, p := range n.Promises(now) {
		r.Promises = append(r.Promises, api.Promise{Group: p.Group, Epoch: uint64(p.Epoch), Holder: p.Holder.Node(),
			LeftSeconds: api.SecondsOf(p.Left)})
	}
	if left := n.AbstainLeft(now); left > 0 && r.State == api.NodeReady {
		r.State = api.NodeAbstaining
		r.StateText = fmt.Sprintf("helps nobody for %.1f s, until what it promised before its start is over", left.Seconds())
	}
	for _, p := range n.Peers() {
		if drift := p.Drift; drift > lease.DriftAlarm || drift < -lease.DriftAlarm {
			r.Findings = append(r.Findings, api.Finding{Code: "clock-rate", Severity: api.Error, Node: s.node,
				Text: fmt.Sprintf("the lease clock of %s runs %+.2f%% off this node's; leases allow 1%%", p.Member.Node(), drift*100),
				Next: "find out which machine's clock is wrong, and repair it"})
		}
	}
}
