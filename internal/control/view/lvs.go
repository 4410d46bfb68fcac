package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hactl/had/internal/control/api"
)

// LVS makes the list of virtual services out of what could be found out: those of the cluster, or without one, or as long
// as it has none, those of the node that was asked.
func LVS(in api.GatheredLVS) api.LVSReport {
	r := api.LVSReport{Schema: api.Schema, Cluster: in.Cluster, Node: in.Node, At: in.At, Consistent: in.Consistent,
		View: api.ViewOrigin{Kind: "standalone", Via: in.Node}, Version: in.Table.Version, Services: []api.LVSService{},
		Findings: []api.Finding{}}
	switch {
	case in.Consistent:
		r.View.Kind = "linearizable"
	case in.Cluster != "":
		r.View.Kind = "local"
	}
	views := viewsOf(in)
	records := in.Table.Services
	if in.Table.Version == 0 && in.Self != nil {
		records = nil
		for _, t := range in.Self.File {
			records = append(records, api.LVSRecord{LVSText: t, Marks: make([]api.LVSMark, len(t.Servers))})
		}
	}
	for _, record := range records {
		r.Services = append(r.Services, lvsService(record, in.Node, views))
	}
	r.Findings = lvsFindings(in, views)
	return r
}

// directors' views by node and service.
type nodeView struct {
	*api.NodeLVS
	services map[string]*api.NodeService
}

func viewsOf(in api.GatheredLVS) []nodeView {
	var all []nodeView
	add := func(v *api.NodeLVS) {
		if v == nil {
			return
		}
		n := nodeView{v, map[string]*api.NodeService{}}
		for i := range v.Services {
			n.services[v.Services[i].Key] = &v.Services[i]
		}
		all = append(all, n)
	}
	add(in.Self)
	for _, p := range in.Peers {
		add(p.View)
	}
	slices.SortStableFunc(all, func(a, b nodeView) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

func server(s *api.NodeService, key string) *api.NodeServer {
	if s == nil {
		return nil
	}
	for i := range s.Servers {
		if s.Servers[i].Key == key {
			return &s.Servers[i]
		}
	}
	return nil
}

// lvsService is one service in the eyes of the director whose checks count; if there is none, in those of the node that
// was asked, or of any.
func lvsService(record api.LVSRecord, asked string, views []nodeView) api.LVSService {
	s := api.LVSService{Key: record.Key, Version: record.Version, File: record.File, Since: record.Since, By: record.By,
		Reason: record.Reason, Text: record.Text, Servers: []api.LVSServer{}}
	var says *nodeView
	for i := range views {
		v := &views[i]
		mine := v.services[record.Key]
		if mine == nil {
			continue
		}
		s.Group = cmp.Or(s.Group, mine.Group)
		if mine.Owner {
			s.Owner, says = v.Node, v
			break
		}
		if says == nil || v.Node == asked {
			says = v
		}
	}
	if says != nil {
		quorum := says.services[record.Key].Quorum
		s.Quorum = &quorum
	}
	for i, text := range record.Servers {
		s.Servers = append(s.Servers, lvsServer(record.Key, text, record.Marks[i], s.Group, says, views))
	}
	return s
}

func lvsServer(service string, text api.LVSServerText, mark api.LVSMark, group string, says *nodeView, views []nodeView) api.LVSServer {
	v := api.LVSServer{Key: text.Key, Text: text.Text, SetWeight: text.Weight, Drained: mark.Drained, State: api.ServerUnknown}
	var mine *api.NodeServer
	if says != nil {
		mine = server(says.services[service], text.Key)
	}
	found := mark.Found
	if mine != nil {
		v.Says, v.Weight, v.Active, v.Inactive = says.Node, mine.Weight, mine.Active, mine.Inactive
		if found == nil {
			found = mine.Found
		}
		v.State = api.ServerDown
		if mine.Serves {
			v.State = api.ServerUp
		}
	}
	if found != nil {
		if mine == nil {
			v.Says = found.Node
			v.State = map[bool]api.LVSState{true: api.ServerUp, false: api.ServerDown}[found.Up]
		}
		v.Why, v.Since = found.Reason, found.At
	}
	if mark.Drained != nil {
		v.State, v.Why, v.Since = api.ServerDrained, mark.Drained.Reason, mark.Drained.Since
		if v.Why == "" && mark.Drained.By != "" {
			v.Why = "by " + mark.Drained.By
		}
	}
	if group == "" || found == nil {
		return v // each director has its own view, and there is nothing to differ from
	}
	for _, other := range views {
		theirs := server(other.services[service], text.Key)
		if theirs == nil || theirs.Found == nil || theirs.Found.Up == found.Up {
			continue
		}
		word := "down"
		if theirs.Found.Up {
			word = "up"
		}
		line := other.Node + " says " + word
		if theirs.Found.Reason != "" {
			line += ": " + theirs.Found.Reason
		}
		v.Differs = append(v.Differs, line)
	}
	return v
}

// lvsFindings are what is wrong with the virtual services as a whole.
func lvsFindings(in api.GatheredLVS, views []nodeView) []api.Finding {
	all := []api.Finding{}
	add := func(code string, severity api.Severity, node, text, next string) {
		all = append(all, api.Finding{Code: code, Severity: severity, Node: node, Text: text, Next: next})
	}
	if in.Problem != "" {
		add("lvs-local", api.Warn, in.Node, in.Problem, "hactl status")
	}
	for _, v := range views {
		if v.Problem != "" {
			add("lvs-kernel", api.Error, v.Node, v.Node+": "+v.Problem, "hactl config diff")
		}
		if v.Version < in.Table.Version {
			add("lvs-behind", api.Warn, v.Node, fmt.Sprintf("%s serves version %d of the virtual services, and %d is the newest", v.Node,
				v.Version, in.Table.Version), "hactl status")
		}
	}
	for _, p := range in.Peers {
		if p.Error != "" {
			add("lvs-silent", api.Warn, p.Name, p.Name+" does not say what it serves: "+p.Error, "hactl status")
		}
	}
	if in.Self != nil && in.Table.Version > 0 {
		if drift := Drift(in.Table, in.Self.File); len(drift) > 0 {
			add("lvs-drift", api.Warn, in.Node, fmt.Sprintf("the file of %s differs from the cluster in %d virtual services", in.Node, len(drift)),
				"hactl config diff, then hactl lvs apply")
		}
	}
	return all
}

// Drift tells how a file differs from the cluster's virtual services, which may be none.
func Drift(table api.LVSTable, file []api.LVSText) []api.LVSDrift {
	drift := []api.LVSDrift{}
	inFile := map[string]*api.LVSText{}
	for i := range file {
		inFile[file[i].Key] = &file[i]
	}
	inCluster := map[string]bool{}
	for _, record := range table.Services {
		inCluster[record.Key] = true
		theirs := inFile[record.Key]
		if theirs == nil {
			drift = append(drift, api.LVSDrift{Key: record.Key, Change: "removed", Lines: marked("-", Lines(record.LVSText))})
			continue
		}
		if lines := differing(Lines(record.LVSText), Lines(*theirs)); len(lines) > 0 {
			drift = append(drift, api.LVSDrift{Key: record.Key, Change: "changed", Lines: lines})
		}
	}
	for _, t := range file {
		if !inCluster[t.Key] {
			drift = append(drift, api.LVSDrift{Key: t.Key, Change: "added", Lines: marked("+", Lines(t))})
		}
	}
	slices.SortStableFunc(drift, func(a, b api.LVSDrift) int { return cmp.Compare(a.Key, b.Key) })
	return drift
}

// Lines are the lines of a service and its servers. A weight that was set by hand is a line of its own.
func Lines(t api.LVSText) []string {
	lines := strings.Split(strings.TrimRight(t.Text, "\n"), "\n")
	for _, s := range t.Servers {
		lines = append(lines, strings.Split(strings.TrimRight(s.Text, "\n"), "\n")...)
		if s.Weight != nil {
			lines = append(lines, fmt.Sprintf("# real server %s has weight %d, set by hand", s.Key, *s.Weight))
		}
	}
	return lines
}

func marked(mark string, lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = mark + l
	}
	return out
}

// context is how many lines that are the same are shown before and after those that differ.
const context = 1

// differing is the difference of two texts by their longest common subsequence; empty if they are the same.
func differing(before, after []string) []string {
	if slices.Equal(before, after) {
		return nil
	}
	head := 0
	for head < len(before) && head < len(after) && before[head] == after[head] {
		head++
	}
	tail := 0
	for tail < len(before)-head && tail < len(after)-head && before[len(before)-1-tail] == after[len(after)-1-tail] {
		tail++
	}
	a, b := before[head:len(before)-tail], after[head:len(after)-tail]
	if len(a)*len(b) > 1<<20 { // too long to look for what is common in the middle
		return slices.Concat(marked("-", a), marked("+", b))
	}
	common := make([][]int32, len(a)+1)
	for i := range common {
		common[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	lines := marked(" ", before[max(0, head-context):head])
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			lines = append(lines, " "+a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			lines = append(lines, "-"+a[i])
			i++
		default:
			lines = append(lines, "+"+b[j])
			j++
		}
	}
	return append(lines, marked(" ", before[len(before)-tail:min(len(before), len(before)-tail+context)])...)
}

// LVSDifference makes the answer of `hactl config diff`.
func LVSDifference(in api.GatheredLVS) api.LVSDifference {
	d := api.LVSDifference{Schema: api.Schema, Node: in.Node, Consistent: in.Consistent, File: []api.LVSDrift{}, Kernel: []api.LVSKernel{}}
	if in.Self != nil && in.Table.Version > 0 {
		d.File = Drift(in.Table, in.Self.File)
	}
	for _, v := range viewsOf(in) {
		if len(v.Kernel) > 0 {
			d.Kernel = append(d.Kernel, api.LVSKernel{Node: v.Node, Lines: v.Kernel})
		}
	}
	d.Nothing = len(d.File) == 0 && len(d.Kernel) == 0
	return d
}

// LVSKey finds the service that a person means: by its key, whatever the case, or by a part of one that begins and ends
// with a word, if only one has it.
func LVSKey(keys []string, name string) (string, *api.Problem) {
	want := strings.ToLower(strings.TrimSpace(name))
	var found []string
	for _, key := range keys {
		have := strings.ToLower(key)
		if have == want {
			return key, nil
		}
		if want != "" && strings.Contains(" "+have+" ", " "+want+" ") {
			found = append(found, key)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", &api.Problem{Kind: api.NotFound, What: fmt.Sprintf("%q may be any of several virtual services", name),
			Why: strings.Join(found, ", "), Next: "name one of them in full"}
	}
	slices.Sort(keys)
	why := "there is none"
	if len(keys) > 0 {
		why = "there are " + strings.Join(keys[:min(len(keys), 8)], ", ")
		if len(keys) > 8 {
			why += fmt.Sprintf(" and %d more", len(keys)-8)
		}
	}
	return "", &api.Problem{Kind: api.NotFound, What: fmt.Sprintf("no virtual service %q", name), Why: why, Next: "hactl lvs list"}
}
