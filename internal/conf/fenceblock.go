package conf

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
)

func (l *loader) fence(s statement, d *clusterDraft) {
	f := Fence{Pos: s.Words[1].Pos, Node: l.name(s.Words[1], "the name of the director"), Level: 1, Timeout: defaultFenceTimeout,
		Retries: defaultFenceRetries}
	last := l.statements(s.Children, "cluster/fence", l.fenceWords(&f))
	agent, command := last["agent"], last["command"]
	switch {
	case agent == nil && command == nil:
		l.errorf(CodeFencing, s.Words[1], "fence %s has neither an agent nor a command", f.Node)
	case agent != nil && command != nil:
		l.errorf(CodeFencing, command.Words[0], "fence %s has an agent already; a second device is a second block", f.Node)
	case command != nil && len(f.Options) > 0:
		l.errorf(CodeFencing, last["option"].Words[0], "options are for agents; a command has arguments")
	}
	d.Fences = append(d.Fences, f)
}

func (l *loader) fenceWords(f *Fence) handlers {
	return handlers{
		"agent": func(s statement) {
			w := s.Words[1]
			if f.Agent, f.AgentPos = w.Text, w.Pos; !strings.Contains(w.Text, "/") {
				f.Agent = path.Join(agentDir, w.Text)
			}
			if !path.IsAbs(f.Agent) {
				l.errorf(CodeRange, w, "agent: %s is neither a name nor an absolute path", quote(w.Text))
			}
		},
		"option": func(s statement) {
			name, value := s.Words[1], s.Words[2].Text
			switch {
			case slices.Contains([]string{"action", "nodename"}, name.Text):
				l.errorf(CodeFencing, name, "option %s is given to the agent by had", name.Text)
			case strings.ContainsAny(name.Text, "=# \t\n") || name.Text == "":
				l.errorf(CodeFencing, name, "option: %s is not a name", quote(name.Text))
			case strings.ContainsAny(value, "\n\x00"):
				l.errorf(CodeFencing, name, "the value of option %s has a line break in it", name.Text) // which may be a password
			case slices.ContainsFunc(f.Options, func(o FenceOption) bool { return o.Name == name.Text }):
				l.errorf(CodeDuplicate, name, "there is an option %s already", name.Text)
			default:
				f.Options = append(f.Options, FenceOption{Pos: name.Pos, Name: name.Text, Value: value})
			}
		},
		"command": func(s statement) {
			l.setCommand(s, &f.Command)
			if c := f.Command; c != nil && (len(c.Argv) == 0 || !path.IsAbs(c.Argv[0])) {
				l.errorf(CodeScript, s.Words[1], "command: %s is not the absolute path of a program", quote(s.Words[1].Text))
			}
		},
		"level":   func(s statement) { l.setInt(s, &f.Level) },
		"timeout": func(s statement) { l.setSeconds(s, &f.Timeout) },
		"retry":   func(s statement) { l.setInt(s, &f.Retries) },
		"delay": func(s statement) {
			l.setSeconds(s, &f.Delay)
			if len(s.Args()) > 1 {
				if micro, ok := l.number(s.Words[2], "the random part of delay", false, limits(0, 600)); ok {
					f.DelayRandom = time.Duration(micro) * time.Microsecond
				}
			}
		},
	}
}

func (l *loader) watchdog(s statement, d *clusterDraft) {
	w := Watchdog{Timeout: defaultWatchdogTimeout}
	l.absolutePath(s, &w.Device)
	if len(s.Args()) > 1 {
		if n, ok := l.wholeNumber(s.Words[2], "the timeout of the watchdog, in seconds", limits(1, 300)); ok {
			w.Timeout = time.Duration(n) * second
		}
	}
	d.Watchdog = &w
}

// checkFencing applies the rules that need the peers and the lease.
func (l *loader) checkFencing(d *clusterDraft) {
	directors := directorsOf(d.Peers)
	for _, f := range d.Fences {
		at := syntax.Word{Text: f.Node, Pos: f.Pos}
		if !slices.Contains(directors, f.Node) {
			hint := ""
			if near, ok := syntax.Nearest(f.Node, directors); ok {
				hint = "; did you mean " + near + "?"
			}
			l.errorf(CodeFencing, at, "fence: %s is none of the directors %s%s", f.Node, strings.Join(directors, ", "), hint)
		}
		if _, err := l.opts.Files.Stat(f.Agent); err != nil && f.Agent != "" && slices.Contains(directors, d.Node) {
			l.warnf(CodeFencing, syntax.Word{Text: f.Agent, Pos: f.AgentPos},
				"there is no fence agent %s on this machine: %s cannot be fenced with it", f.Agent, f.Node)
		}
	}
	for _, node := range directors {
		if d.Fencing != FencingOff && len(d.FencesOf(node)) == 0 {
			l.warnf(CodeFencing, d.at("fencing"), "fencing %s, and there is no fence block for %s: only hactl fence confirm can say that it is "+
				"off", d.Fencing, node)
		}
	}
	if d.Fencing == FencingOff && len(d.Fences) > 0 {
		l.notef(CodeFencing, syntax.Word{Text: d.Fences[0].Node, Pos: d.Fences[0].Pos},
			"without the word fencing nobody is fenced unless an operator asks for it")
	}
	if w := d.Watchdog; w != nil && d.Guard == GuardNone && w.Timeout+WatchdogFeed >= l.cfg.LeaseDuration() {
		l.errorf(CodeFencing, d.at("watchdog"), "with guard none the watchdog has to end a frozen owner before its lease does: its timeout of "+
			"%v + %v between two feedings is not below the lease of %v", w.Timeout, WatchdogFeed, l.cfg.LeaseDuration())
	}
}
