// Package view merges what each node reports for itself with the replicated state into the answers of the control
// socket: the cluster's status, why a group is where it is, and what a move or a maintenance would do.
//
// Everything here is a pure function of an api.Gathered. Reports of different nodes are taken at slightly different
// moments, and some may be missing; the composition therefore says what is known, by whom, and never guesses an owner.
package view

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/control/api"
)

// composer is the gathered input, indexed.
type composer struct {
	in      api.Gathered
	reports map[string]*api.NodeReport // who answered, by node name
	errors  map[string]string          // why a peer did not answer
	names   []string                   // all members: directors first, then witnesses, each by name
	roles   map[string]api.Role
	marks   map[string]api.Maintenance // maintenance marks in force, by node name
	records map[string]api.GroupRecord
	senders map[string]string // node by address that it sends from
}

func newComposer(in api.Gathered) *composer {
	c := &composer{
		in:      in,
		reports: map[string]*api.NodeReport{in.Self.Node: &in.Self},
		errors:  map[string]string{},
		roles:   map[string]api.Role{in.Self.Node: in.Self.Role},
		marks:   map[string]api.Maintenance{},
		records: map[string]api.GroupRecord{},
		names:   []string{in.Self.Node},
		senders: map[string]string{in.Self.Address: in.Self.Node},
	}
	for _, p := range in.Peers {
		if _, known := c.roles[p.Name]; known {
			continue
		}
		c.names = append(c.names, p.Name)
		c.roles[p.Name] = p.Role
		c.senders[p.Address] = p.Name
		if p.Report != nil {
			c.reports[p.Name] = p.Report
		} else {
			c.errors[p.Name] = p.Error
		}
	}
	slices.SortFunc(c.names, func(a, b string) int {
		return cmp.Or(cmp.Compare(roleOrder(c.roles[a]), roleOrder(c.roles[b])), strings.Compare(a, b))
	})
	for _, name := range c.names {
		if r := c.reports[name]; r != nil {
			for _, i := range r.Instances {
				c.senders[i.Source] = name
			}
		}
	}
	if in.View != nil {
		for _, m := range in.View.Maintenance {
			c.marks[m.Node] = m
		}
		for _, r := range in.View.Groups {
			c.records[r.Name] = r
		}
	}
	return c
}

func roleOrder(r api.Role) int {
	if r == api.Witness {
		return 1
	}
	return 0
}

// Compose makes the status of the cluster as the node in.Self.Node can tell it.
func Compose(in api.Gathered) api.ClusterStatus {
	c := newComposer(in)
	s := api.ClusterStatus{
		Schema:      api.Schema,
		Node:        in.Self.Node,
		At:          in.At,
		Quorum:      c.quorum(),
		View:        c.origin(),
		Nodes:       []api.NodeStatus{},
		Groups:      []api.GroupStatus{},
		Maintenance: []api.Maintenance{},
		Findings:    []api.Finding{},
	}
	s.Consistent = s.View.Kind == linearizable
	if m := in.Self.Cluster; m != nil {
		s.Cluster, s.Leader, s.Term = m.Name, m.Leader, m.Term
	}
	if in.View != nil {
		s.Fences = in.View.Fences
	}
	if v := in.View; v != nil && v.Consistent {
		s.Leader, s.Term, s.LeaderSince = v.Leader, v.Term, v.LeaderSince
	}
	for _, name := range c.groupNames() {
		s.Groups = append(s.Groups, c.group(name, s.Quorum))
	}
	for _, name := range c.names {
		s.Nodes = append(s.Nodes, c.node(name, s))
		if m, ok := c.marks[name]; ok {
			s.Maintenance = append(s.Maintenance, m)
		}
	}
	s.Protected = in.Self.Cluster != nil
	for _, g := range s.Groups {
		s.Protected = s.Protected && g.Protected
	}
	s.Survives = c.survives(s)
	s.Findings = c.findings(s)
	s.Verdict = verdict(in, s)
	return s
}

// The kinds of api.ViewOrigin.
const (
	linearizable = "linearizable"
	local        = "local"
	standalone   = "standalone"
)

func (c *composer) origin() api.ViewOrigin {
	switch {
	case c.in.View == nil:
		return api.ViewOrigin{Kind: standalone, Via: c.in.Self.Node}
	case c.in.View.Consistent:
		return api.ViewOrigin{Kind: linearizable, Via: c.in.View.Via}
	default:
		return api.ViewOrigin{Kind: local, Via: c.in.Self.Node}
	}
}

func (c *composer) quorum() api.Quorum {
	m := c.in.Self.Cluster
	if m == nil {
		return api.Quorum{}
	}
	voters := m.Voters
	if voters == 0 { // not founded: all who are configured will vote
		voters = len(m.Peers) + 1
	}
	q := api.Quorum{OK: m.Quorum, Voters: voters, Needed: voters/2 + 1, Reachable: m.Reachable}
	for _, p := range m.Peers {
		if !p.Reachable {
			q.Unreachable = append(q.Unreachable, p.Name)
		}
	}
	slices.Sort(q.Unreachable)
	if !q.OK {
		q.MajorityLastContact = m.MajorityLastContact
	}
	return q
}

// groupNames lists the groups that any director has configured, in the order of the first director that answered, then
// those that only the log knows and somebody owns.
func (c *composer) groupNames() []string {
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, g := range c.in.Self.Groups {
		add(g.Name)
	}
	allAnswered := true
	for _, n := range c.names {
		r := c.reports[n]
		if r == nil {
			allAnswered = allAnswered && c.roles[n] == api.Witness
			continue
		}
		for _, g := range r.Groups {
			add(g.Name)
		}
	}
	if c.in.View != nil {
		records := slices.Clone(c.in.View.Groups)
		slices.SortFunc(records, func(a, b api.GroupRecord) int { return strings.Compare(a.Name, b.Name) })
		for _, r := range records {
			if !allAnswered || r.Owner != "" {
				add(r.Name)
			}
		}
	}
	return names
}

// sender is the node that sends adverts from an address, or "".
func (c *composer) sender(h api.AdvertSource) string { return cmp.Or(h.Node, c.senders[h.Address]) }

func groupOf(r *api.NodeReport, name string) *api.GroupReport {
	if r == nil {
		return nil
	}
	for i := range r.Groups {
		if r.Groups[i].Name == name {
			return &r.Groups[i]
		}
	}
	return nil
}

func instancesOf(r *api.NodeReport, group string) []api.InstanceReport {
	var list []api.InstanceReport
	if r != nil {
		for _, i := range r.Instances {
			if i.Group == group {
				list = append(list, i)
			}
		}
	}
	return list
}

// group composes one group.
func (c *composer) group(name string, q api.Quorum) api.GroupStatus {
	record := c.records[name]
	g := api.GroupStatus{
		Name: name, Epoch: record.Epoch, Protected: c.in.Self.Cluster != nil,
		VIPs: []string{}, Candidates: []api.Candidate{}, Addresses: []api.VIPStatus{}, Instances: []api.InstanceLine{},
	}
	owners := c.owners(name)
	switch {
	case len(owners) > 1:
		g.State, g.Owners, g.Protected = api.Conflict, owners, false
		g.StateText = strings.Join(owners, " and ") + " both say that they own it"
		for _, owner := range owners {
			g.Since = later(g.Since, groupOf(c.reports[owner], name).Since)
		}
	case len(owners) == 1:
		c.owned(&g, owners[0], record)
	default:
		c.ownerless(&g, record, q)
	}
	g.LastOwner = record.LastOwner
	if g.Owner != "" {
		g.LastOwner = ""
	}
	if !g.Since.IsZero() {
		g.SinceSeconds = c.ago(g.Since)
	}
	g.Candidates = c.candidates(name, g.Owner)
	for _, k := range g.Candidates {
		if k.Eligible && k.Node != g.Owner && k.Node != record.Owner {
			g.Successor = k.Node
			break
		}
	}
	if record.Successor != "" && g.State == api.HandingOver {
		g.Successor = record.Successor
	}
	g.Placement = c.placement(name)
	if own := groupOf(c.reports[g.Owner], name); own != nil && own.Placement != nil {
		g.Heir, g.HeirAlone = heir(g, own.Placement.Heir), heir(g, own.Placement.HeirAlone)
	}
	c.addresses(&g)
	c.instances(&g)
	return g
}

// placement is where a group is to be. The director that is to own it knows best what it waits for.
func (c *composer) placement(name string) (p *api.Placement) {
	for _, n := range c.names {
		if g := groupOf(c.reports[n], name); g != nil && g.Placement != nil && g.Placement.Node != "" {
			if p == nil || g.Placement.Node == n {
				p = g.Placement
			}
		}
	}
	return p
}

// heir is whom the owner of a group names as its heir, if that one could own it; else empty.
func heir(g api.GroupStatus, named string) string {
	for _, k := range g.Candidates {
		if k.Node == named && k.Eligible {
			return named
		}
	}
	return ""
}

// owners lists who says of itself that it owns the group. Among protected owners only those of the highest epoch
// count: an older one was reported before the handover that the newer one has seen.
func (c *composer) owners(name string) []string {
	var owners []string
	var highest uint64
	unprotected := false
	for _, n := range c.names {
		if g := groupOf(c.reports[n], name); g != nil && g.State == api.GroupOwner {
			owners = append(owners, n)
			highest = max(highest, g.Epoch)
			unprotected = unprotected || g.Unprotected
		}
	}
	if len(owners) > 1 && !unprotected {
		owners = slices.DeleteFunc(owners, func(n string) bool { return groupOf(c.reports[n], name).Epoch < highest })
	}
	return owners
}

func (c *composer) owned(g *api.GroupStatus, owner string, record api.GroupRecord) {
	r := c.reports[owner]
	own := groupOf(r, g.Name)
	g.Owner, g.State, g.Placed = owner, api.Owned, record.Placed && record.Owner == owner
	g.LeaseSeconds, g.LeaseLeftSeconds = own.LeaseSeconds, own.LeaseLeftSeconds
	g.Epoch = max(g.Epoch, own.Epoch)
	g.Protected = !own.Unprotected
	g.StateText = own.UnprotectedText
	g.Since = own.Since
	if record.Owner == owner && record.Epoch == own.Epoch && !record.Since.IsZero() {
		g.Since = record.Since
	}
	switch {
	case r.Cluster == nil:
		g.State = api.Unprotected
	case own.Unprotected && own.LeaseLeftSeconds <= 0:
		g.State = api.Held
	case record.Successor != "" && record.Successor != owner:
		g.State = api.HandingOver
		g.StateText = "hands over to " + record.Successor
	}
}

// ownerless decides what is known of a group that nobody reports to own.
func (c *composer) ownerless(g *api.GroupStatus, record api.GroupRecord, q api.Quorum) {
	self := c.in.Self
	holder, left, promised := c.promise(g.Name)
	switch {
	case self.Cluster == nil: // standalone: another router may be Active, or nobody
		g.State, g.Protected = api.Unprotected, false
		g.StateText = c.heardText(g.Name)
		if own := groupOf(&self, g.Name); own != nil {
			g.Since = own.Since
		}
	case holder != "" && left > 0 && c.reports[holder] == nil:
		g.State, g.Owner, g.LeaseSeconds = api.Unconfirmed, holder, self.Cluster.LeaseSeconds
		g.Since = record.Since
		g.StateText = fmt.Sprintf("%s does not answer %s, but renews its lease with %s", holder, self.Node, promised)
	case !q.OK:
		g.State = api.Unknown
		g.StateText = "no quorum here, the cluster may have moved on"
		if self.Cluster.Founding != "" {
			g.StateText = self.Node + " is no voting member yet: " + self.Cluster.Founding
		}
		if own := groupOf(&self, g.Name); own != nil && record.LastOwner == self.Node {
			g.Since = own.LapsedAt
		}
	case !c.majorityReported(q):
		g.State = api.Unknown
		g.StateText = "too few nodes have reported to tell"
	case c.beginning(record):
		g.State, g.Since = api.HandingOver, record.Since
		g.StateText = "granted to " + record.Owner + ", which is about to take over"
	default:
		g.State = api.Unowned
		g.Since = c.unownedSince(g.Name, record, left, holder != "")
		g.StateText = "nobody owns it"
		for _, n := range c.names {
			if own := groupOf(c.reports[n], g.Name); own != nil && own.State == api.GroupClaiming {
				g.State = api.Claiming
				g.StateText = n + " is asking for it"
				if own.Claim != nil && own.Claim.LastRefusal != "" {
					g.StateText += ", last answer: " + own.Claim.LastRefusal
				}
			}
		}
	}
}

// beginning tells whether a group has just been granted to a node whose report is older than the grant.
func (c *composer) beginning(record api.GroupRecord) bool {
	own := groupOf(c.reports[record.Owner], record.Name)
	return own != nil && own.Epoch < record.Epoch && c.ago(record.Since) < beginsWithin
}

// beginsWithin is how long a new owner may take before a group counts as ownerless again.
const beginsWithin = api.Seconds(1)

// promise returns the holder of the highest epoch that any voter who answered has promised to, the time left of the
// promise that lasts longest, and that voter's name.
func (c *composer) promise(group string) (holder string, left api.Seconds, voter string) {
	var epoch uint64
	for _, n := range c.names {
		r := c.reports[n]
		if r == nil {
			continue
		}
		for _, p := range r.Promises {
			if p.Group != group || p.Epoch < epoch {
				continue
			}
			if p.Epoch > epoch || holder == "" || p.LeftSeconds > left {
				holder, left, voter, epoch = p.Holder, p.LeftSeconds, n, p.Epoch
			}
		}
	}
	return holder, left, voter
}

// majorityReported tells whether reports of a majority of voters are in hand: then a running lease would have shown
// itself in one of their promises.
func (c *composer) majorityReported(q api.Quorum) bool { return len(c.reports) >= q.Needed }

func (c *composer) unownedSince(group string, record api.GroupRecord, left api.Seconds, promised bool) api.Time {
	var since api.Time
	if record.Owner == "" {
		since = record.Since
	}
	for _, n := range c.names {
		if own := groupOf(c.reports[n], group); own != nil {
			since = later(since, own.LapsedAt)
		}
	}
	if since.IsZero() && promised && left <= 0 { // the owner is gone: its last promise tells when
		since = api.At(c.in.At.Add(left.Duration()))
	}
	return since
}

func (c *composer) heardText(group string) string {
	for _, i := range instancesOf(&c.in.Self, group) {
		if i.State == "FAULT" {
			return "FAULT: " + strings.Join(i.FaultReasons, ", ")
		}
		for _, h := range i.Heard {
			if h.AgoSeconds <= i.DownIntervalSeconds {
				return fmt.Sprintf("%s advertises it with priority %d", h.Address, h.Priority)
			}
		}
	}
	return "nobody is heard to advertise it"
}

// candidates lists every director: the owner, then those who could take over in the order in which their
// Active_Down_Interval would expire (RFC 9568 section 6.1; ties go to the greater address), then the others.
func (c *composer) candidates(group, owner string) []api.Candidate {
	type standing struct {
		api.Candidate
		source netip.Addr
	}
	var list []standing
	for _, n := range c.names {
		if c.roles[n] == api.Witness {
			continue
		}
		k := standing{Candidate: api.Candidate{Node: n}}
		r := c.reports[n]
		own := groupOf(r, group)
		switch {
		case r == nil:
			k.WhyNot = []api.Reason{{Code: "unreachable", Text: orText("does not answer "+c.in.Self.Node, c.errors[n])}}
		case own == nil:
			k.WhyNot = []api.Reason{{Code: "not-configured", Text: "has no group " + group + " in its configuration"}}
		default:
			k.State, k.Eligible, k.EffectivePriority = own.State, own.Eligible, own.EffectivePriority
			k.WhyNot = slices.Clone(own.WhyNot)
			for _, i := range instancesOf(r, group) {
				if k.DownIntervalSeconds == 0 || i.DownIntervalSeconds < k.DownIntervalSeconds {
					k.DownIntervalSeconds = i.DownIntervalSeconds
					k.source, _ = netip.ParseAddr(i.Source)
				}
			}
		}
		if m, marked := c.marks[n]; marked { // its words say who and why, the node's own do not
			k.Eligible = false
			k.WhyNot = append(slices.DeleteFunc(k.WhyNot, isMaintenance),
				api.Reason{Code: api.ReasonMaintenance, Text: maintenanceText(m), Since: m.Since})
		} else if i := slices.IndexFunc(k.WhyNot, isMaintenance); i >= 0 {
			k.WhyNot[i].Text = "in maintenance, as its own log still has it"
		}
		list = append(list, k)
	}
	rank := func(k standing) int {
		switch {
		case k.Node == owner:
			return 0
		case k.Eligible:
			return 1
		default:
			return 2
		}
	}
	slices.SortStableFunc(list, func(a, b standing) int {
		if d := cmp.Compare(rank(a), rank(b)); d != 0 || rank(a) != 1 {
			return d
		}
		return cmp.Or(cmp.Compare(a.DownIntervalSeconds, b.DownIntervalSeconds),
			cmp.Compare(b.EffectivePriority, a.EffectivePriority), b.source.Compare(a.source))
	})
	out := make([]api.Candidate, len(list))
	for i, k := range list {
		out[i] = k.Candidate
	}
	return out
}

func isMaintenance(r api.Reason) bool { return r.Code == api.ReasonMaintenance }

func maintenanceText(m api.Maintenance) string {
	s := "in maintenance"
	if m.By != "" {
		s += " by " + m.By
	}
	if m.Reason != "" {
		s += fmt.Sprintf(" (%q)", m.Reason)
	}
	if m.Until.IsZero() {
		return s + " until it is taken off"
	}
	return s + " until " + m.Until.UTC().Format(time.DateTime) + "Z"
}

// addresses fills the group's VIPs, from the owner's report if there is one, else from any.
func (c *composer) addresses(g *api.GroupStatus) {
	order := slices.Clone(c.names)
	if g.Owner != "" {
		order = slices.Insert(slices.DeleteFunc(order, func(n string) bool { return n == g.Owner }), 0, g.Owner)
	}
	at := map[string]int{}
	for _, n := range order {
		own := groupOf(c.reports[n], g.Name)
		if own == nil {
			continue
		}
		for _, a := range own.Addresses {
			plain := withoutPrefix(a.Address)
			i, known := at[plain]
			if !known {
				i = len(g.Addresses)
				at[plain] = i
				g.VIPs = append(g.VIPs, plain)
				g.Addresses = append(g.Addresses, api.VIPStatus{Address: plain, Group: g.Name, Owner: g.Owner,
					State: string(g.State), InKernel: []string{}, Device: a.Device, LeaseLeftSeconds: g.LeaseLeftSeconds})
			}
			v := &g.Addresses[i]
			if a.InKernel {
				v.InKernel = append(v.InKernel, n)
			}
			if n == g.Owner {
				v.Announced, v.DuplicateProbe, v.DuplicateProbeAt = a.Announced, a.DuplicateProbe, a.DuplicateProbeAt
			}
		}
	}
	for i := range g.Addresses {
		slices.Sort(g.Addresses[i].InKernel)
	}
}

func (c *composer) instances(g *api.GroupStatus) {
	at := map[string]int{}
	for _, n := range c.names {
		for _, i := range instancesOf(c.reports[n], g.Name) {
			k, known := at[i.Name]
			if !known {
				k = len(g.Instances)
				at[i.Name] = k
				g.Instances = append(g.Instances, api.InstanceLine{Name: i.Name, VRID: i.VRID, Interface: i.Interface,
					States: map[string]string{}})
			}
			line := &g.Instances[k]
			line.States[n] = i.State
			if len(line.Routes)+len(line.Rules) == 0 {
				line.Routes, line.Rules = i.Routes, i.Rules
			}
		}
	}
}

// node composes one line of the node table.
func (c *composer) node(name string, s api.ClusterStatus) api.NodeStatus {
	n := api.NodeStatus{Name: name, Role: c.roles[name], Self: name == c.in.Self.Node,
		Leader: name == s.Leader && s.Leader != ""}
	for _, g := range s.Groups {
		if g.Owner == name || slices.Contains(g.Owners, name) {
			n.Groups++
		}
	}
	if c.in.View != nil {
		for _, m := range c.in.View.Members {
			if m.Name == name {
				n.MemberID, n.Voter, n.Address = m.ID, m.Voter, m.Address
			}
		}
	}
	for _, p := range c.in.Peers {
		if p.Name == name {
			n.Address = cmp.Or(p.Address, n.Address)
		}
	}
	reachable := false
	if m := c.in.Self.Cluster; m != nil {
		for _, p := range m.Peers {
			if p.Name == name {
				reachable = p.Reachable
				n.HeardSeconds, n.RTTSeconds = p.LastHeardSeconds, p.RTTSeconds
				n.StateText, n.Version = p.Error, p.Version
			}
		}
	}
	r := c.reports[name]
	if r == nil {
		n.State = api.NodeUnreachable
		if reachable {
			n.State = api.NodeSilent
		}
		n.StateText = cmp.Or(n.StateText, c.errors[name])
		return n
	}
	n.Address = cmp.Or(r.Address, n.Address)
	n.MemberID = cmp.Or(n.MemberID, r.MemberID)
	n.State, n.StateText = r.State, r.StateText
	n.ClockSource, n.Version, n.UptimeSeconds = r.ClockSource, r.Version, r.UptimeSeconds
	if r.Guard != nil {
		n.Guard = r.Guard.Kind
		if r.Guard.Kind != "none" {
			n.Guard += map[bool]string{true: " ok", false: " FAILED"}[r.Guard.OK]
		}
	}
	if n.State == api.NodeReady && len(r.Groups) > 0 &&
		!slices.ContainsFunc(r.Groups, func(g api.GroupReport) bool { return g.State != api.GroupFault }) {
		n.State, n.StateText = api.NodeFault, "every group is in fault"
	}
	if m, ok := c.marks[name]; ok && n.State == api.NodeReady {
		n.State, n.StateText = api.NodeMaintenance, maintenanceText(m)
	}
	return n
}

// survives counts the further failures, of any nodes, after which every group would still have an owner: as many as
// voters can go while a majority stays, and as eligible directors can go while each group keeps one.
func (c *composer) survives(s api.ClusterStatus) *int {
	if c.in.Self.Cluster == nil || len(s.Groups) == 0 && s.Quorum.OK {
		return nil // nobody can tell: peers are not known, or nothing is served
	}
	n := 0
	if !s.Quorum.OK {
		return &n
	}
	n = max(0, s.Quorum.Reachable-s.Quorum.Needed)
	for _, g := range s.Groups {
		able := 0
		for _, k := range g.Candidates {
			if k.Eligible || k.Node == g.Owner {
				able++
			}
		}
		if g.State == api.Unknown {
			return nil
		}
		if g.Owner == "" {
			able = 0
		}
		n = min(n, max(0, able-1))
	}
	return &n
}

func verdict(in api.Gathered, s api.ClusterStatus) api.Verdict {
	if in.Self.Cluster == nil {
		return api.NotProtected
	}
	if !s.Quorum.OK {
		return api.NoQuorum
	}
	worst := api.Healthy
	for _, g := range s.Groups {
		switch g.State {
		case api.Conflict, api.Unowned, api.Claiming:
			return api.Critical
		case api.Owned, api.HandingOver:
		default:
			worst = api.Degraded
		}
	}
	for _, f := range s.Findings {
		if f.Severity != api.Info {
			worst = api.Degraded
		}
	}
	return worst
}

// ago is the span from t to the moment of gathering, never negative: clocks of two nodes may differ.
func (c *composer) ago(t api.Time) api.Seconds {
	return api.SecondsOf(max(0, c.in.At.Sub(t.Time)))
}

func later(a, b api.Time) api.Time {
	if b.After(a.Time) {
		return b
	}
	return a
}

func withoutPrefix(address string) string {
	plain, _, _ := strings.Cut(address, "/")
	return plain
}

func orText(text, detail string) string {
	if detail == "" {
		return text
	}
	return text + ": " + detail
}
