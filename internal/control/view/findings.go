package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hactl/had/internal/control/api"
)

// findings collects what an operator should know, most severe first.
func (c *composer) findings(s api.ClusterStatus) []api.Finding {
	list := []api.Finding{}
	list = append(list, c.protectionFindings(s)...)
	list = append(list, c.quorumFindings(s)...)
	list = append(list, c.groupFindings(s)...)
	list = append(list, displaced(s)...)
	list = append(list, c.nodeFindings(s)...)
	list = append(list, c.fenceFindings()...)
	list = append(list, c.drift()...)
	list = append(list, c.strangers()...)
	var own []api.Finding
	for _, n := range c.names {
		if r := c.reports[n]; r != nil {
			for _, f := range r.Findings {
				f.Node = cmp.Or(f.Node, n)
				own = append(own, f)
			}
		}
	}
	list = slices.DeleteFunc(list, func(made api.Finding) bool { // a node's own words replace what was made of its report
		return slices.ContainsFunc(own, func(f api.Finding) bool {
			return f.Code == made.Code && f.Node == made.Node && f.Group == made.Group
		})
	})
	list = append(list, own...)
	slices.SortStableFunc(list, func(a, b api.Finding) int {
		return cmp.Compare(severityOrder(a.Severity), severityOrder(b.Severity))
	})
	return list
}

// fenceFindings tells of fences that are under way, that have failed, and of nodes that are off because of one.
func (c *composer) fenceFindings() (list []api.Finding) {
	if c.in.View == nil {
		return nil
	}
	for _, f := range c.in.View.Fences {
		switch f.Stage {
		case "requested":
			list = append(list, api.Finding{Code: "fence-pending", Severity: api.Warn, Node: f.Node,
				Text: fmt.Sprintf("%s is being fenced by %s: %s", f.Node, f.By, f.Reason)})
		case "failed":
			list = append(list, api.Finding{Code: "fence-failed", Severity: api.Error, Node: f.Node,
				Text: fmt.Sprintf("%s could not be fenced by %s: %s", f.Node, f.By, f.Reason),
				Next: "hactl fence test " + f.Node + "; if you know that it is off: hactl fence confirm " + f.Node})
		case "confirmed":
			list = append(list, api.Finding{Code: "fenced", Severity: api.Info, Node: f.Node,
				Text: fmt.Sprintf("%s has been fenced (%s) and is not back", f.Node, f.Method)})
		}
	}
	return list
}

// displaced tells which groups are not where they are to be yet.
func displaced(s api.ClusterStatus) (list []api.Finding) {
	for _, g := range s.Groups {
		if p := g.Placement; p != nil && g.Owner != "" && g.Owner != p.Node && !g.Placed {
			list = append(list, api.Finding{Code: "displaced", Severity: api.Info, Node: g.Owner, Group: g.Name,
				Text: fmt.Sprintf("%s is on %s, and %s", g.Name, g.Owner, p.Text), Next: "hactl why " + g.Name})
		}
	}
	return list
}

func severityOrder(s api.Severity) int {
	switch s {
	case api.Error:
		return 0
	case api.Warn:
		return 1
	default:
		return 2
	}
}

func (c *composer) protectionFindings(s api.ClusterStatus) []api.Finding {
	if c.in.Self.Cluster == nil {
		return []api.Finding{{Code: "unprotected", Severity: api.Warn, Node: c.in.Self.Node,
			Text: "UNPROTECTED: there is no cluster block, so nothing keeps two routers from owning one address",
			Next: "had-cluster.conf(5)"}}
	}
	var list []api.Finding
	for _, n := range c.names {
		r := c.reports[n]
		if r == nil || r.Cluster == nil {
			continue
		}
		if r.Cluster.Arbitration == "gateway" {
			list = append(list, api.Finding{Code: "arbitration-gateway", Severity: api.Info, Node: n,
				Text: n + " goes by the gateway when it is alone (arbitration gateway), which is no split-brain protection",
				Next: "add a witness: had-cluster.conf(5)"})
		}
		if r.Guard != nil && r.Guard.Kind == "none" {
			list = append(list, api.Finding{Code: "guard-none", Severity: api.Warn, Node: n,
				Text: "UNPROTECTED: the kernel of " + n + " does not enforce leases (guard none); if had is killed or stopped " +
					"there, its addresses stay",
				Next: "set `guard nftables`: had-cluster.conf(5)"})
		}
		if r.Guard != nil && r.Guard.Kind != "none" && !r.Guard.OK {
			list = append(list, api.Finding{Code: "guard", Severity: api.Error, Node: n,
				Text: orText("the guard of "+n+" is not in place", r.Guard.Text)})
		}
	}
	list = append(list, c.forced()...)
	for _, g := range s.Groups {
		if g.State == api.Held {
			list = append(list, api.Finding{Code: "held", Severity: api.Error, Node: g.Owner, Group: g.Name,
				Text: fmt.Sprintf("UNPROTECTED: %s has %s without a majority (%s): another owner is possible",
					g.Owner, g.Name, c.keptFor(g.Owner))})
		}
	}
	return list
}

// keptFor is what lets a node own a group without a majority, in the words of its configuration.
func (c *composer) keptFor(node string) string {
	if r := c.reports[node]; r != nil && r.Cluster != nil && r.Cluster.Arbitration == "gateway" {
		return "arbitration gateway"
	}
	return "quorum_loss hold"
}

// forced tells of nodes that were declared dead when a node was made the only voter, until they have come back as new members.
func (c *composer) forced() []api.Finding {
	if c.in.View == nil || c.in.View.Forced == nil {
		return nil
	}
	f := *c.in.View.Forced
	missing := slices.DeleteFunc(slices.Clone(f.Dead), func(node string) bool {
		return slices.ContainsFunc(c.in.View.Members, func(m api.Member) bool { return m.Name == node && m.Voter })
	})
	if len(missing) == 0 {
		return nil
	}
	return []api.Finding{{Code: "forced", Severity: api.Warn, Node: f.Node,
		Text: fmt.Sprintf("the majority was done without: %s declared %s dead on %s; if they are alive elsewhere, there may be two owners",
			cmp.Or(f.Person, "somebody"), strings.Join(missing, ", "), f.Node),
		Next: "start them where they reach " + f.Node + ", or take them out of the configuration"}}
}

func (c *composer) quorumFindings(s api.ClusterStatus) []api.Finding {
	m := c.in.Self.Cluster
	if m == nil {
		return nil
	}
	var list []api.Finding
	for _, n := range c.names {
		r := c.reports[n]
		if r == nil || r.Cluster == nil {
			continue
		}
		for _, p := range r.Cluster.Peers {
			if p.ConfigDiffers && n < p.Name {
				list = append(list, api.Finding{Code: "drift-members", Severity: api.Warn, Node: n,
					Text: fmt.Sprintf("the cluster blocks of %s and %s name different members", n, p.Name)})
			}
		}
	}
	q := s.Quorum
	switch {
	case m.Founding != "":
		list = append(list, api.Finding{Code: "founding", Severity: api.Error, Node: c.in.Self.Node,
			Text: c.in.Self.Node + " is no voting member yet: " + m.Founding})
	case !q.OK:
		text := fmt.Sprintf("%s sees %d of %d votes and needs %d", c.in.Self.Node, q.Reachable, q.Voters, q.Needed)
		if !q.MajorityLastContact.IsZero() {
			text += fmt.Sprintf("; last contact with a majority %s ago", c.ago(q.MajorityLastContact).Short())
		}
		list = append(list, api.Finding{Code: "no-quorum", Severity: api.Error, Node: c.in.Self.Node, Text: text,
			Next: "restore the link to " + strings.Join(q.Unreachable, " or ")})
	case q.Reachable == q.Needed && q.Voters > 1 && m.Arbitration != "gateway":
		f := api.Finding{Code: "no-tolerance", Severity: api.Warn, Next: "add a witness: had-cluster.conf(5)",
			Text: fmt.Sprintf("one more lost vote stops every group: %d of %d votes are left and %d are needed", q.Reachable, q.Voters, q.Needed)}
		if len(q.Unreachable) > 0 {
			f.Next = "bring back " + strings.Join(q.Unreachable, " or ")
		}
		list = append(list, f)
	}
	if q.OK && m.Founding == "" && s.Leader == "" {
		list = append(list, api.Finding{Code: "no-leader", Severity: api.Warn,
			Text: "the log has no leader at the moment: leases go on, but nothing can be granted or moved"})
	}
	return list
}

func (c *composer) groupFindings(s api.ClusterStatus) []api.Finding {
	var list []api.Finding
	var alone []string
	for _, g := range s.Groups {
		switch g.State {
		case api.Conflict:
			list = append(list, api.Finding{Code: "conflict", Severity: api.Error, Group: g.Name,
				Text: fmt.Sprintf("TWO OWNERS of %s (%s): %s", g.Name, strings.Join(g.VIPs, " "), strings.Join(g.Owners, " and "))})
		case api.Unowned, api.Claiming:
			list = append(list, api.Finding{Code: "unowned", Severity: api.Error, Group: g.Name,
				Text: c.unownedText(g), Next: "hactl why " + g.Name})
		case api.Unconfirmed:
			list = append(list, api.Finding{Code: "unconfirmed", Severity: api.Warn, Group: g.Name, Node: g.Owner,
				Text: g.Name + ": " + g.StateText})
		}
		if s.Quorum.OK && g.Owner != "" && g.Successor == "" && (g.State == api.Owned || g.State == api.Unconfirmed) {
			alone = append(alone, g.Name)
		}
		list = append(list, c.adverts(g)...)
		list = append(list, c.kernel(g)...)
	}
	if len(alone) > 0 {
		list = append(list, api.Finding{Code: "no-backup", Severity: api.Warn,
			Text: "no backup node for " + strings.Join(alone, " "), Next: "hactl why " + alone[0]})
	}
	return list
}

func (c *composer) unownedText(g api.GroupStatus) string {
	text := fmt.Sprintf("nobody owns %s (%s)", g.Name, strings.Join(g.VIPs, " "))
	if g.SinceSeconds > 0 {
		text += " for " + g.SinceSeconds.Short()
	}
	for _, k := range g.Candidates {
		text += "; " + k.Node + ": " + candidateText(k)
	}
	return text
}

// candidateText says in a few words where a director stands that does not own the group.
func candidateText(k api.Candidate) string {
	if len(k.WhyNot) > 0 {
		texts := make([]string, len(k.WhyNot))
		for i, r := range k.WhyNot {
			texts[i] = r.Text
		}
		return strings.Join(texts, ", ")
	}
	switch {
	case k.State == api.GroupClaiming:
		return "asks for it"
	case k.Eligible:
		return fmt.Sprintf("eligible with priority %d", k.EffectivePriority)
	case k.State == "":
		return "has not reported"
	default:
		return "in state " + string(k.State)
	}
}

// adverts says where an owner's advertisements do not arrive although the node is otherwise well.
func (c *composer) adverts(g api.GroupStatus) []api.Finding {
	if g.State != api.Owned || c.ago(g.Since) < 2*c.downInterval(g) {
		return nil
	}
	var list []api.Finding
	for _, k := range g.Candidates {
		if k.Node == g.Owner || !k.Eligible {
			continue
		}
		for _, i := range instancesOf(c.reports[k.Node], g.Name) {
			heard := slices.ContainsFunc(i.Heard, func(h api.AdvertSource) bool {
				return c.sender(h) == g.Owner && h.AgoSeconds <= i.DownIntervalSeconds
			})
			if !heard {
				list = append(list, api.Finding{Code: "adverts-missing", Severity: api.Warn, Node: k.Node, Group: g.Name,
					Text: fmt.Sprintf("%s does not hear the adverts of %s for %s (VRID %d on %s): the lease keeps it with %s",
						k.Node, g.Owner, i.Name, i.VRID, i.Interface, g.Owner),
					Next: "check that IP protocol 112 passes between " + g.Owner + " and " + k.Node})
			}
		}
	}
	return list
}

func (c *composer) downInterval(g api.GroupStatus) api.Seconds {
	var longest api.Seconds
	for _, k := range g.Candidates {
		longest = max(longest, k.DownIntervalSeconds)
	}
	return longest
}

// kernel compares the owner with the kernels of all nodes.
func (c *composer) kernel(g api.GroupStatus) []api.Finding {
	if g.State != api.Owned && g.State != api.Held {
		return nil
	}
	var missing []string
	var list []api.Finding
	for _, a := range g.Addresses {
		if c.reports[g.Owner] != nil && !slices.Contains(a.InKernel, g.Owner) {
			missing = append(missing, a.Address)
		}
		for _, n := range a.InKernel {
			if n != g.Owner && groupOf(c.reports[n], g.Name).State != api.GroupOwner {
				list = append(list, api.Finding{Code: "leftover-address", Severity: api.Warn, Node: n, Group: g.Name,
					Text: fmt.Sprintf("%s is in the kernel of %s, which does not own %s; its guard is %s",
						a.Address, n, g.Name, cmp.Or(groupOf(c.reports[n], g.Name).Guard, "not there"))})
			}
		}
	}
	if len(missing) > 0 {
		list = append(list, api.Finding{Code: "address-missing", Severity: api.Error, Node: g.Owner, Group: g.Name,
			Text: fmt.Sprintf("%s owns %s but %s is not in its kernel", g.Owner, g.Name, strings.Join(missing, " "))})
	}
	return list
}

func (c *composer) nodeFindings(s api.ClusterStatus) []api.Finding {
	var list []api.Finding
	for _, p := range c.in.Peers {
		if p.Report != nil && p.Report.Role != p.Role {
			list = append(list, api.Finding{Code: "drift-role", Severity: api.Warn, Node: p.Name,
				Text: fmt.Sprintf("%s runs as a %s, but %s has it as a %s in its file", p.Name, p.Report.Role, c.in.Self.Node, p.Role)})
		}
	}
	versions := map[string][]string{}
	for _, n := range s.Nodes {
		switch n.State {
		case api.NodeUnreachable:
			text := n.Name + " is unreachable"
			if n.HeardSeconds > 0 {
				text += " for " + n.HeardSeconds.Short()
			}
			list = append(list, api.Finding{Code: "unreachable", Severity: api.Warn, Node: n.Name, Text: orText(text, n.StateText)})
		case api.NodeSilent:
			list = append(list, api.Finding{Code: "silent", Severity: api.Info, Node: n.Name,
				Text: orText(n.Name+" has not reported", n.StateText)})
		case api.NodeMaintenance:
			list = append(list, api.Finding{Code: "maintenance", Severity: api.Info, Node: n.Name,
				Text: n.Name + " is " + n.StateText, Next: "hactl maintenance off " + n.Name})
		case api.NodeReady:
		case api.NodeStarting, api.NodeAbstaining, api.NodeUnfit, api.NodeLeaving, api.NodeFault:
			if n.Self && c.in.Self.Cluster != nil && c.in.Self.Cluster.Founding != "" {
				continue // said already
			}
			list = append(list, api.Finding{Code: "node-" + string(n.State), Severity: api.Warn, Node: n.Name,
				Text: orText(n.Name+" is "+string(n.State), n.StateText)})
		}
		if n.Version != "" {
			versions[n.Version] = append(versions[n.Version], n.Name)
		}
		r := c.reports[n.Name]
		if r == nil {
			continue
		}
		if r.ClockSourceWarning != "" {
			list = append(list, api.Finding{Code: "clock-source", Severity: api.Info, Node: n.Name,
				Text: n.Name + ": " + r.ClockSourceWarning})
		}
		if r.Cluster != nil && r.Cluster.DiskText != "" {
			list = append(list, api.Finding{Code: "disk", Severity: api.Warn, Node: n.Name, Text: n.Name + ": " + r.Cluster.DiskText})
		}
		for _, g := range r.Gateways {
			if !g.Up {
				text := n.Name + " does not reach the gateway " + g.Address
				if g.Text != "" {
					text += ": " + g.Text
				}
				list = append(list, api.Finding{Code: "gateway", Severity: api.Warn, Node: n.Name, Text: text})
			}
		}
	}
	if len(versions) > 1 {
		var parts []string
		for v, nodes := range versions {
			parts = append(parts, v+" on "+strings.Join(nodes, ", "))
		}
		slices.Sort(parts)
		list = append(list, api.Finding{Code: "version-skew", Severity: api.Info, Text: "different versions: " + strings.Join(parts, "; ")})
	}
	return list
}

// drift names differences between the configurations of directors that would change who owns what, or what moves.
func (c *composer) drift() []api.Finding {
	var list []api.Finding
	add := func(code, group, format string, args ...any) {
		severity := api.Warn
		if code == "equal-priority" { // usual with nopreempt, and harmless
			severity = api.Info
		}
		list = append(list, api.Finding{Code: code, Severity: severity, Group: group, Text: fmt.Sprintf(format, args...)})
	}
	var directors []*api.NodeReport
	for _, n := range c.names {
		if r := c.reports[n]; r != nil && r.Role == api.Director {
			directors = append(directors, r)
		}
	}
	var members []*api.NodeReport
	for _, n := range c.names {
		if r := c.reports[n]; r != nil && r.Cluster != nil {
			members = append(members, r)
		}
	}
	for i, a := range members {
		for _, b := range members[i+1:] {
			if a.Cluster.LeaseSeconds != b.Cluster.LeaseSeconds && a.Role == b.Role {
				add("drift-lease", "", "the lease is %gs on %s but %gs on %s",
					float64(a.Cluster.LeaseSeconds), a.Node, float64(b.Cluster.LeaseSeconds), b.Node)
			}
			if a.Cluster.QuorumLoss != b.Cluster.QuorumLoss && a.Role == b.Role {
				add("drift-quorum-loss", "", "quorum_loss is %s on %s but %s on %s",
					a.Cluster.QuorumLoss, a.Node, b.Cluster.QuorumLoss, b.Node)
			}
		}
	}
	for i, a := range directors {
		for _, b := range directors[i+1:] {
			for _, pair := range [][2]*api.NodeReport{{a, b}, {b, a}} {
				for _, g := range pair[0].Groups {
					if groupOf(pair[1], g.Name) == nil {
						add("drift-group", g.Name, "%s has a group %s, %s has none of that name", pair[0].Node, g.Name, pair[1].Node)
					}
				}
			}
			for _, g := range a.Groups {
				if o := groupOf(b, g.Name); o != nil && rulesOf(&g) != rulesOf(o) {
					add("drift-placement", g.Name, "where %s is to be: on %s the file says %s, on %s %s", g.Name, a.Node, rulesOf(&g), b.Node, rulesOf(o))
				}
			}
			c.driftInstances(a, b, add)
		}
	}
	return list
}

// rulesOf is what a node's file says of where a group is to be.
func rulesOf(g *api.GroupReport) string {
	if g.Placement == nil {
		return "nothing"
	}
	return g.Placement.Rules
}

func (c *composer) driftInstances(a, b *api.NodeReport, add func(code, group, format string, args ...any)) {
	for _, x := range a.Instances {
		k := slices.IndexFunc(b.Instances, func(y api.InstanceReport) bool { return y.Name == x.Name })
		if k < 0 {
			if groupOf(b, x.Group) != nil {
				add("drift-instance", x.Group, "%s has an instance %s, %s has none of that name", a.Node, x.Name, b.Node)
			}
			continue
		}
		y := b.Instances[k]
		if x.Group != y.Group {
			add("drift-group", x.Group, "%s belongs to group %s on %s but to %s on %s", x.Name, x.Group, a.Node, y.Group, b.Node)
		}
		if x.VRID != y.VRID {
			add("drift-vrid", x.Group, "virtual_router_id of %s is %d on %s but %d on %s", x.Name, x.VRID, a.Node, y.VRID, b.Node)
		}
		if x.Version != y.Version {
			add("drift-version", x.Group, "%s speaks VRRP version %d on %s but %d on %s", x.Name, x.Version, a.Node, y.Version, b.Node)
		}
		if x.AdvertIntervalSeconds != y.AdvertIntervalSeconds {
			add("drift-advert-interval", x.Group, "advert_int of %s is %g on %s but %g on %s", x.Name,
				float64(x.AdvertIntervalSeconds), a.Node, float64(y.AdvertIntervalSeconds), b.Node)
		}
		if x.Unicast != y.Unicast {
			kind := map[bool]string{true: "unicast", false: "multicast"}
			add("drift-unicast", x.Group, "%s is %s on %s but %s on %s", x.Name, kind[x.Unicast], a.Node, kind[y.Unicast], b.Node)
		}
		if onlyA, onlyB := difference(x.VIPs, y.VIPs); len(onlyA)+len(onlyB) > 0 {
			text := fmt.Sprintf("the addresses of %s differ:", x.Name)
			if len(onlyA) > 0 {
				text += " " + strings.Join(onlyA, " ") + " only on " + a.Node
			}
			if len(onlyB) > 0 {
				if len(onlyA) > 0 {
					text += ","
				}
				text += " " + strings.Join(onlyB, " ") + " only on " + b.Node
			}
			add("drift-addresses", x.Group, "%s", text)
		}
		if x.Priority == y.Priority && x.Priority != 255 && x.VRID == y.VRID {
			add("equal-priority", x.Group, "%s has priority %d on both %s and %s: the greater address decides",
				x.Name, x.Priority, a.Node, b.Node)
		}
		if x.Priority == 255 && y.Priority == 255 {
			add("two-address-owners", x.Group, "both %s and %s say that they own the addresses of %s (priority 255)", a.Node, b.Node, x.Name)
		}
	}
}

func difference(a, b []string) (onlyA, onlyB []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			onlyA = append(onlyA, s)
		}
	}
	for _, s := range b {
		if !slices.Contains(a, s) {
			onlyB = append(onlyB, s)
		}
	}
	slices.Sort(onlyA)
	slices.Sort(onlyB)
	return onlyA, onlyB
}

// strangers names each machine outside the cluster once, however many nodes hear it. A sender of adverts is a stranger if
// its address belongs to no member; as long as a director has not reported its addresses, it may be that one.
func (c *composer) strangers() []api.Finding {
	var list []api.Finding
	seen := map[string]bool{}
	add := func(group, node string, s api.Stranger) {
		key := strings.Join([]string{s.Kind, s.Address, group}, " ")
		if s.Kind != "vrrp" {
			key += " " + s.MAC
		}
		if !seen[key] {
			seen[key] = true
			list = append(list, api.Finding{Code: "stranger", Severity: api.Warn, Group: group, Node: node, Text: strangerText(group, node, s)})
		}
	}
	allReported := c.in.Self.Cluster != nil
	for _, n := range c.names {
		r := c.reports[n]
		if r == nil {
			allReported = allReported && c.roles[n] == api.Witness
			continue
		}
		for _, g := range r.Groups {
			for _, s := range g.Strangers {
				add(g.Name, n, s)
			}
		}
	}
	for _, n := range c.names {
		if r := c.reports[n]; r != nil && allReported {
			for _, i := range r.Instances {
				for _, h := range i.Heard {
					if h.AgoSeconds <= i.DownIntervalSeconds && c.sender(h) == "" {
						add(i.Group, n, api.Stranger{Kind: "vrrp", Address: h.Address, Interface: i.Interface, Priority: h.Priority})
					}
				}
			}
		}
	}
	return list
}

func strangerText(group, node string, s api.Stranger) string {
	who := s.Address
	if s.MAC != "" {
		who = s.MAC
		if s.Kind == "vrrp" {
			who = s.Address + " (" + s.MAC + ")"
		}
	}
	if s.Kind == "vrrp" {
		return fmt.Sprintf("%s advertises the VRID of %s with priority %d on %s (heard by %s): it is no member and not bound by leases",
			who, group, s.Priority, s.Interface, node)
	}
	return fmt.Sprintf("%s answers for %s of %s on %s (heard by %s): it is no member and not bound by leases",
		who, s.Address, group, s.Interface, node)
}
