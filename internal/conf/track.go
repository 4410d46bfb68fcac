package conf

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Limits of weights.
const (
	maxWeight     = 253 // of scripts, interfaces and BFD sessions
	maxFileWeight = 254 // of files and processes
)

// weight reads a weight. One beyond the limit by one is reduced, as keepalived does.
func (l *loader) weight(w syntax.Word, most int) (n int, ok bool) {
	n, ok = l.wholeNumber(w, "weight", limits(-254, 254))
	if ok && (n > most || n < -most) {
		reduced := max(-most, min(most, n))
		l.warnf(CodeRange, w, "weight %d is outside %d..%d and counts as %d", n, -most, most, reduced)
		n = reduced
	}
	return n, ok
}

// weightWord reads "weight INT [reverse]".
func (l *loader) weightWord(s statement, most int, weight *int, reverse *bool) {
	n, ok := l.weight(s.Words[1], most)
	if !ok {
		return
	}
	*weight, *reverse = n, false
	if len(s.Args()) > 1 {
		*reverse = l.choiceWord(s.Words[2], "after the weight", "reverse") == 0
	}
}

// trackDraft is a line of a track block as it was given.
type trackDraft struct {
	word      syntax.Word // the name
	weight    int
	hasWeight bool
	reverse   *bool
}

// track reads a block of lines NAME [weight W [reverse|noreverse]]. earlier is what an earlier block of the same kind
// holds.
func (l *loader) track(block *Node, name string, most int, earlier []trackDraft) []trackDraft {
	noReverse := words.Lookup(name, "noreverse") == nil // the block does not know the word
	var found []trackDraft
	for _, n := range block.Children {
		l.noBlock(n)
		in := &line{l: l, block: name, words: n.Words}
		for in.next < len(in.words) {
			w, _ := in.take()
			if len(found) > 0 && in.next > 1 {
				in.second(w)
			}
			t := trackDraft{word: w}
			if in.peek() == "weight" {
				option, _ := in.take()
				v, ok := in.value(option)
				if !ok {
					break
				}
				if t.weight, ok = l.weight(v, most); ok {
					t.hasWeight = true
				}
				switch in.peek() {
				case "reverse":
					in.take()
					t.reverse = ptr(true)
				case "noreverse":
					option, _ := in.take()
					if noReverse {
						in.unknown(option)
						break
					}
					t.reverse = ptr(false)
				}
			}
			if in.peek() == "reverse" || in.peek() == "noreverse" {
				option, _ := in.take()
				l.errorf(CodeOption, option, "%s has to follow a weight and is skipped", option.Text)
			}
			same := func(o trackDraft) bool { return o.word.Text == w.Text }
			if slices.ContainsFunc(found, same) || slices.ContainsFunc(earlier, same) {
				l.warnf(CodeDuplicate, w, "%s is tracked already; this line is ignored", quote(w.Text))
				continue
			}
			found = append(found, t)
		}
	}
	return found
}

func ptr[T any](v T) *T { return &v }

// trackWords are the words of the track blocks, which instances and sync groups share.
func (l *loader) trackWords(h handlers, block string, t *trackingDraft) {
	add := func(kind string, most int, p *[]trackDraft) {
		name := block + "/" + kind
		declared := map[string]string{
			"track_script": "vrrp_script", "track_file": "track_file", "track_process": "vrrp_track_process",
			"track_bfd": "bfd_instance",
		}[kind]
		h[kind] = func(s statement) {
			for _, found := range l.track(s.Node, name, most, *p) {
				if declared != "" {
					target := found.word.Text
					if !l.reference(declared, found.word, &target) {
						continue
					}
				} else if _, ok := l.interfaceName(found.word); !ok {
					continue
				}
				*p = append(*p, found)
			}
		}
	}
	add("track_interface", maxWeight, &t.interfaces)
	add("track_script", maxWeight, &t.scripts)
	add("track_file", maxFileWeight, &t.files)
	add("track_process", maxFileWeight, &t.processes)
	add("track_bfd", maxWeight, &t.bfd)
}

// trackingDraft is what an instance or a group tracks, as it was given.
type trackingDraft struct {
	interfaces, scripts, files, processes, bfd []trackDraft
}

// resolve gives each line its weight: its own, or that of the tracked object.
func (t *trackingDraft) resolve(c *Config) Tracking {
	lines := func(drafts []trackDraft, object func(name string) (weight int, reverse, found bool)) []Track {
		var out []Track
		for _, d := range drafts {
			weight, reverse, found := object(d.word.Text)
			if !found {
				continue
			}
			if d.hasWeight {
				weight = d.weight
			}
			if d.reverse != nil {
				reverse = *d.reverse
			}
			out = append(out, Track{Pos: d.word.Pos, Name: d.word.Text, Weight: weight, Reverse: reverse})
		}
		return out
	}
	return Tracking{
		Interfaces: lines(t.interfaces, func(string) (int, bool, bool) { return 0, false, true }),
		Scripts: lines(t.scripts, func(name string) (int, bool, bool) {
			for _, o := range c.Scripts {
				if o.Name == name {
					return o.Weight, o.Reverse, true
				}
			}
			return 0, false, false
		}),
		Files: lines(t.files, func(name string) (int, bool, bool) {
			for _, o := range c.TrackFiles {
				if o.Name == name {
					return o.Weight, o.Reverse, true
				}
			}
			return 0, false, false
		}),
		Processes: lines(t.processes, func(name string) (int, bool, bool) {
			for _, o := range c.TrackProcesses {
				if o.Name == name {
					return o.Weight, o.Reverse, true
				}
			}
			return 0, false, false
		}),
		BFD: lines(t.bfd, func(name string) (int, bool, bool) {
			for _, o := range c.BFD {
				if o.Name == name {
					return o.Weight, o.Reverse, true
				}
			}
			return 0, false, false
		}),
	}
}

func (l *loader) script(s statement) {
	v := Script{Pos: s.Pos(), Name: s.Words[1].Text, Interval: second, Rise: 1, Fall: 1}
	var command *Command
	var user, group string
	last := l.statements(s.Children, "vrrp_script", l.scriptWords(&v, &command, &user, &group))
	if command == nil {
		l.errorf(CodeMissing, s.Words[1], "vrrp_script %s has no script and is dropped", v.Name)
		return
	}
	v.Command = *command
	v.Command.User, v.Command.Group = user, group
	if last["timeout"] == nil || v.Timeout == 0 {
		v.Timeout = v.Interval
	}
	l.cfg.Scripts = append(l.cfg.Scripts, v)
}

func (l *loader) scriptWords(v *Script, command **Command, user, group *string) handlers {
	return handlers{
		"script":    func(s statement) { l.setCommand(s, command) },
		"interval":  func(s statement) { l.setSecondsCount(s, &v.Interval) },
		"timeout":   func(s statement) { l.setSecondsCount(s, &v.Timeout) },
		"weight":    func(s statement) { l.weightWord(s, maxWeight, &v.Weight, &v.Reverse) },
		"rise":      func(s statement) { l.setInt(s, &v.Rise) },
		"fall":      func(s statement) { l.setInt(s, &v.Fall) },
		"user":      func(s statement) { *user, *group = identity(s.Args()) },
		"init_fail": setTrue(&v.InitFail),
	}
}

func (l *loader) trackFile(s statement) {
	v := TrackFile{Pos: s.Pos(), Name: s.Words[1].Text, Weight: 1}
	l.statements(s.Children, s.Keyword(), l.trackFileWords(&v))
	if v.Path == "" {
		l.errorf(CodeMissing, s.Words[1], "%s %s has no file and is dropped", s.Keyword(), v.Name)
		return
	}
	l.cfg.TrackFiles = append(l.cfg.TrackFiles, v)
}

func (l *loader) trackFileWords(v *TrackFile) handlers {
	return handlers{
		"file":   l.setText(&v.Path),
		"weight": func(s statement) { l.weightWord(s, maxFileWeight, &v.Weight, &v.Reverse) },
		"init_file": func(s statement) {
			v.Init = true
			for _, w := range s.Args() {
				if w.Text == "overwrite" {
					v.Overwrite = true
				} else if n, ok := l.wholeNumber(w, "the value of init_file", limits(-1<<31, 1<<31-1)); ok {
					v.InitValue = n
				}
			}
		},
	}
}

func (l *loader) trackProcess(s statement) {
	v := TrackProcess{Pos: s.Pos(), Name: s.Words[1].Text, Quorum: 1, QuorumMax: -1}
	l.statements(s.Children, "vrrp_track_process", l.trackProcessWords(&v))
	switch {
	case len(v.Process) == 0:
		l.errorf(CodeMissing, s.Words[1], "vrrp_track_process %s has no process and is dropped", v.Name)
		return
	case len(v.Process) > 1 && v.Params == ParamsIgnored:
		v.FullCommand, v.Params = true, ParamsEqual
	case !v.FullCommand && strings.Contains(v.Process[0], "/"):
		l.warnf(CodeTracking, s.Words[1], "vrrp_track_process %s: the name of a process has no path, so none is found; "+
			"full_command compares the command", v.Name)
	}
	if v.QuorumMax >= 0 && v.QuorumMax < v.Quorum {
		l.warnf(CodeRange, s.Words[1], "vrrp_track_process %s: quorum_max %d is below quorum %d: it is never fit",
			v.Name, v.QuorumMax, v.Quorum)
	}
	l.cfg.TrackProcesses = append(l.cfg.TrackProcesses, v)
}

func (l *loader) trackProcessWords(v *TrackProcess) handlers {
	return handlers{
		"process": func(s statement) {
			v.Process = nil
			for _, w := range s.Args() {
				v.Process = append(v.Process, w.Text)
			}
		},
		"param_match": func(s statement) {
			v.FullCommand, v.Params = true, ParamsEqual
			if len(s.Args()) > 0 {
				switch l.choice(s, "initial", "partial") {
				case 0:
					v.Params = ParamsInitial
				case 1:
					v.Params = ParamsPartial
				}
			}
		},
		"weight":          func(s statement) { l.weightWord(s, maxFileWeight, &v.Weight, &v.Reverse) },
		"quorum":          func(s statement) { l.setInt(s, &v.Quorum) },
		"quorum_max":      func(s statement) { l.setInt(s, &v.QuorumMax) },
		"terminate_delay": func(s statement) { l.setSeconds(s, &v.TerminateDelay) },
		"fork_delay":      func(s statement) { l.setSeconds(s, &v.ForkDelay) },
		"delay": func(s statement) {
			l.setSeconds(s, &v.TerminateDelay)
			v.ForkDelay = v.TerminateDelay
		},
		"full_command": setTrue(&v.FullCommand),
	}
}

func (l *loader) bfd(s statement) {
	v := BFD{
		Pos: s.Pos(), Name: s.Words[1].Text, MinRX: 10 * time.Millisecond, MinTX: 10 * time.Millisecond, IdleTX: second,
		Multiplier: 5,
	}
	if len(v.Name) > 31 {
		l.errorf(CodeRange, s.Words[1], "the name of a bfd_instance has at most 31 characters; the block is dropped")
		return
	}
	l.statements(s.Children, "bfd_instance", l.bfdWords(&v))
	switch {
	case !v.Neighbor.IsValid():
		l.errorf(CodeMissing, s.Words[1], "bfd_instance %s has no neighbor_ip and is dropped", v.Name)
		return
	case v.Source.IsValid() && familyOf(v.Source) != familyOf(v.Neighbor):
		l.errorf(CodeFamily, s.Words[1],
			"bfd_instance %s: source_ip and neighbor_ip are of different families; it is dropped", v.Name)
		return
	case slices.ContainsFunc(l.cfg.BFD, func(o BFD) bool { return o.Neighbor == v.Neighbor }):
		l.errorf(CodeDuplicate, s.Words[1],
			"bfd_instance %s: there is one with neighbor_ip %v already; it is dropped", v.Name, v.Neighbor)
		return
	}
	if !v.VRRP && !v.Checker {
		v.VRRP, v.Checker = true, true
	}
	l.cfg.BFD = append(l.cfg.BFD, v)
}

func (l *loader) bfdWords(v *BFD) handlers {
	h := handlers{
		"source_ip":   func(s statement) { l.setAddress(s, &v.Source) },
		"neighbor_ip": func(s statement) { l.setAddress(s, &v.Neighbor) },
		"min_rx":      func(s statement) { l.setSeconds(s, &v.MinRX) },
		"min_tx":      func(s statement) { l.setSeconds(s, &v.MinTX) },
		"idle_tx":     func(s statement) { l.setSeconds(s, &v.IdleTX) },
		"multiplier":  func(s statement) { l.setInt(s, &v.Multiplier) },
		"passive":     setTrue(&v.Passive),
		"ttl":         func(s statement) { l.setInt(s, &v.TTL) },
		"max_hops":    func(s statement) { l.setInt(s, &v.MaxHops) },
		"multihop":    l.bools(&v.Multihop),
		"weight":      func(s statement) { l.weightWord(s, maxWeight, &v.Weight, &v.Reverse) },
		"vrrp":        setTrue(&v.VRRP),
		"checker":     setTrue(&v.Checker),
	}
	h["neighbour_ip"], h["hoplimit"] = h["neighbor_ip"], h["ttl"]
	return h
}

func (l *loader) trackGroup(s statement) {
	v := TrackGroup{Pos: s.Pos(), Name: s.Words[1].Text}
	l.statements(s.Children, "track_group", l.trackGroupWords(&v))
	l.cfg.TrackGroups = append(l.cfg.TrackGroups, v)
}

func (l *loader) trackGroupWords(v *TrackGroup) handlers {
	return handlers{
		"group": func(s statement) {
			for _, w := range l.nameWords(s) {
				if l.declared["vrrp_instance"][w.Text] == nil {
					l.missingInstance(w)
					continue
				}
				v.Members = append(v.Members, w.Text)
			}
		},
	}
}

// missingInstance reports the name of an instance that does not exist.
func (l *loader) missingInstance(w syntax.Word) {
	hint := ""
	if near, ok := syntax.Nearest(w.Text, sortedKeys(l.declared["vrrp_instance"])); ok {
		hint = "; did you mean " + near + "?"
	}
	l.errorf(CodeReference, w, "there is no vrrp_instance %s%s", quote(w.Text), hint)
}

func (l *loader) garpGroup(s statement) {
	v := GARPGroup{Pos: s.Pos()}
	l.statements(s.Children, "garp_group", l.garpGroupWords(&v))
	if len(v.Interfaces) == 0 {
		l.warnf(CodeMissing, s.Words[0], "the garp_group has no interface and is dropped")
		return
	}
	l.cfg.GARPGroups = append(l.cfg.GARPGroups, v)
}

func (l *loader) garpGroupWords(v *GARPGroup) handlers {
	add := func(w syntax.Word) {
		name, ok := l.interfaceName(w)
		if !ok {
			return
		}
		for _, g := range append(l.cfg.GARPGroups, *v) {
			if slices.Contains(g.Interfaces, name) {
				l.errorf(CodeDuplicate, w, "the interface %s belongs to a garp_group already", name)
				return
			}
		}
		v.Interfaces = append(v.Interfaces, name)
	}
	return handlers{
		"garp_interval": func(s statement) { l.setSeconds(s, &v.GARPInterval) },
		"gna_interval":  func(s statement) { l.setSeconds(s, &v.GNAInterval) },
		"interface":     func(s statement) { add(s.Words[1]) },
		"interfaces": func(s statement) {
			for _, w := range l.nameWords(s) {
				add(w)
			}
		},
	}
}

func (l *loader) linkbeatInterfaces(s statement) {
	for _, n := range s.Children {
		l.noBlock(n)
		for _, w := range n.Words {
			methods := []string{"MII", "ETHTOOL", "IOCTL"}
			if last := len(l.cfg.Linkbeat) - 1; slices.Contains(methods, w.Text) && w != n.Words[0] && last >= 0 {
				l.cfg.Linkbeat[last].Method = w.Text
				continue
			}
			if name, ok := l.interfaceName(w); ok {
				l.cfg.Linkbeat = append(l.cfg.Linkbeat, LinkbeatInterface{Pos: w.Pos, Name: name})
			}
		}
	}
}

func (l *loader) interfaceDelays(s statement) {
	read := func(w syntax.Word) (time.Duration, bool) {
		micro, ok := l.number(w, "delay", false, limits(0, 255))
		return time.Duration(micro) * time.Microsecond, ok
	}
	for _, n := range s.Children {
		l.noBlock(n)
		if len(n.Words) < 2 || len(n.Words) > 3 {
			l.errorf(CodeOption, n.Words[0],
				"a line of %s is an interface, the delay of down, and possibly that of up", s.Keyword())
			continue
		}
		name, ok := l.interfaceName(n.Words[0])
		down, ok2 := read(n.Words[1])
		var up time.Duration
		ok3 := true
		if len(n.Words) > 2 {
			up, ok3 = read(n.Words[2])
		}
		if ok && ok2 && ok3 {
			delay := InterfaceDelay{Pos: n.Pos(), Name: name, Down: down, Up: up}
			l.cfg.InterfaceDelays = append(l.cfg.InterfaceDelays, delay)
		}
	}
}
