package conf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

// Load reads a configuration, checks it and puts all defaults in place. All findings come back at once, in the order of
// the files; the Config is nil if one of them is fatal.
func Load(opts Options) (*Config, []Finding) {
	l := load(opts)
	if slices.ContainsFunc(l.findings, func(f Finding) bool { return f.Fatal }) {
		return nil, l.findings
	}
	return l.cfg, l.findings
}

// loader is the state of one Load.
type loader struct {
	opts     Options
	cfg      *Config
	tree     *syntax.Tree
	findings []Finding

	// Of real servers and their checkers there are many: the handlers of their words are made once, for one draft that each in turn is
	// read into.
	real      realDraft
	realWords handlers

	texts     bool                // virtual servers are kept as text, too
	inCluster bool                // findings belong to the cluster block
	told      map[string]bool     // what is said once
	effects   map[*words.Row]bool // words about whose effect everything was said
	near      map[string]string   // suggestions for words that are not known, by block and word

	global   globalDraft
	drafts   []*instanceDraft
	groups   []*groupDraft
	virtuals []*virtualDraft
	declared map[string]map[string]*Node // by block keyword and name: where it stands in the file
	order    map[*Node]int               // of the blocks outside any block, in the order of reading
	current  int                         // order of the one that is being read
	cluster  *Node

	unnumbered map[Family]int // rules without a preference

	clusterDraft *clusterDraft
}

func load(opts Options) *loader {
	l := newLoader(opts)
	l.read()
	return l
}

// newLoader reads the files of a configuration without looking at what they mean.
func newLoader(opts Options) *loader {
	l := &loader{
		opts: opts, told: make(map[string]bool), effects: make(map[*words.Row]bool), near: make(map[string]string),
		declared: make(map[string]map[string]*Node), order: make(map[*Node]int), unnumbered: make(map[Family]int),
	}
	l.tree = syntax.Read(syntax.Options{
		Path: opts.Path, ConfigID: opts.ConfigID, Env: opts.Env, Files: opts.Files, Checks: opts.Checks, Seed: opts.Seed,
		MaxLines: opts.MaxLines,
	}, words.Grammar{})
	l.findings = l.tree.Findings
	l.cfg = &Config{Path: opts.Path, ConfigID: opts.ConfigID, Files: l.tree.Files}
	l.global = newGlobalDraft(&l.cfg.Global)
	return l
}

// read makes a configuration of the blocks that were read.
func (l *loader) read() {
	l.declare()
	l.cfg.source = newSource(l.opts, l.tree.Top)
	l.statements(l.tree.Top, words.Root, l.rootWords())
	l.resolveGlobal()
	l.resolveInstances()
	l.resolveGroups()
	l.resolveSyncDaemon()
	l.resolveRouting()
	l.resolveStatic()
	l.resolveVirtualServers()
	l.checkCluster()
	l.mistakes()
	l.findings = l.relevant(l.findings)
	syntax.Sort(l.findings, l.tree.Files)
	l.findings = slices.Compact(l.findings) // a line that is read several times complains several times
}

// relevant makes every error in the cluster block fatal, and leaves out what does not concern a witness.
func (l *loader) relevant(findings []Finding) []Finding {
	inBlock := func(p Pos) bool {
		if l.cluster == nil || p.File != l.cluster.Pos().File || p.Compare(l.cluster.Pos()) < 0 {
			return false
		}
		end := l.cluster.Close
		return !end.IsValid() || end.File != p.File || p.Compare(end) <= 0
	}
	kept := findings[:0]
	for _, f := range findings {
		concerns := f.Block == "cluster" || inBlock(f.Pos) || inBlock(f.Used)
		if concerns && f.Severity == Error {
			f.Fatal = true
		}
		if l.opts.Witness && !concerns {
			switch f.Code {
			case syntax.CodeNoFile, syntax.CodeInclude, syntax.CodeIncludeLoop, syntax.CodeLimit:
			default:
				continue
			}
		}
		kept = append(kept, f)
	}
	return kept
}

// add adds a finding about a word.
func (l *loader) add(severity Severity, fatal bool, code Code, w syntax.Word, format string, args ...any) {
	full := len(l.findings) >= syntax.MaxFindings
	if full && !(severity == Error && (fatal || l.inCluster)) {
		return
	}
	if full { // what keeps the configuration from being used is never left out
		l.findings = l.findings[:len(l.findings)-1]
	}
	f := Finding{
		Severity: severity, Fatal: severity == Error && fatal, Code: code, Pos: w.Pos, Used: w.Used,
		Message: fmt.Sprintf(format, args...),
	}
	if l.inCluster {
		f.Block = "cluster"
	}
	l.findings = append(l.findings, f)
}

func (l *loader) errorf(code Code, w syntax.Word, format string, args ...any) {
	l.add(Error, false, code, w, format, args...)
}

func (l *loader) fatalf(code Code, w syntax.Word, format string, args ...any) {
	l.add(Error, true, code, w, format, args...)
}

func (l *loader) warnf(code Code, w syntax.Word, format string, args ...any) {
	l.add(Warning, false, code, w, format, args...)
}

func (l *loader) notef(code Code, w syntax.Word, format string, args ...any) {
	l.add(Note, false, code, w, format, args...)
}

// statement is a statement whose word is known.
type statement struct {
	*Node
	row *words.Row
}

// handlers take the statements of a block, by their keyword. A handler gets as many arguments as its word wants at least,
// and no more than it wants at most.
type handlers map[string]func(s statement)

// statements takes the statements of a block. It returns the last statement of each keyword.
func (l *loader) statements(nodes []*Node, block string, h handlers) map[string]*Node {
	last := make(map[string]*Node)
	for _, n := range nodes {
		if block == words.Root {
			l.current = l.order[n]
		}
		row := words.Lookup(block, n.Keyword())
		if row == nil || row.Kind != words.Keyword {
			l.unknown(n, block)
			continue
		}
		s := statement{n, row}
		if !l.arity(&s) {
			continue
		}
		if earlier := last[n.Keyword()]; earlier != nil && !n.IsBlock && !repeats(block, n.Keyword()) {
			severity := Warning
			if l.inCluster {
				severity = Error
			}
			l.add(severity, false, CodeRepeated, n.Words[0], "%s stands on line %d already; the last one counts",
				n.Keyword(), earlier.Pos().Line)
		}
		last[n.Keyword()] = n
		l.tellEffect(s)
		if handle := h[n.Keyword()]; handle != nil {
			handle(s)
		}
	}
	return last
}

// repeats tells whether a plain word may stand more than once in its block.
func repeats(block, keyword string) bool {
	switch keyword {
	case "key", "status_code", "interface", "regex_options":
		return block != "vrrp_instance"
	case "option":
		return block == "cluster/fence"
	case "include_check", "state", "linkbeat_use_polling":
		return true
	}
	return false
}

// arity checks the number of arguments. It removes surplus ones and returns false if there are too few.
func (l *loader) arity(s *statement) bool {
	spec, args := s.row.Spec(), s.Args()
	if len(args) < spec.Min {
		what := strings.TrimSpace(strings.SplitN(s.row.Args, "{", 2)[0])
		l.fatalf(CodeMissingArgument, s.Words[0], "%s needs an argument: %s", s.Keyword(), what)
		return false
	}
	if spec.Max < 0 || len(args) <= spec.Max {
		return true
	}
	surplus := args[spec.Max:]
	trimmed := *s.Node
	trimmed.Words = s.Words[:1+spec.Max]
	s.Node = &trimmed
	if s.row.Args == "SCRIPT" {
		script := &trimmed.Words[1]
		text := make([]string, 0, 1+len(surplus))
		for _, w := range s.Node.Words[1:] {
			text = append(text, w.Text)
		}
		for _, w := range surplus {
			text = append(text, w.Text)
		}
		trimmed.Words = []syntax.Word{trimmed.Words[0], {
			Text: strings.Join(text, " "), Pos: script.Pos, Used: script.Used, Quoted: script.Quoted,
		}}
		l.warnf(CodeSurplus, surplus[0],
			"a command with arguments has to be quoted; read as \"%s\"", trimmed.Words[1].Text)
		return true
	}
	severity := Warning
	if l.inCluster {
		severity = Error
	}
	hint := ""
	if near, ok := syntax.Nearest(surplus[0].Text, words.Names(s.row.Block)); ok {
		hint = "; did you mean " + near + "?"
	}
	l.add(severity, false, CodeSurplus, surplus[0], "%s takes %s; what follows is ignored: %s%s",
		s.Keyword(), countArgs(spec.Max), joinWords(surplus), hint)
	return true
}

func countArgs(n int) string {
	switch n {
	case 0:
		return "no argument"
	case 1:
		return "one argument"
	}
	return fmt.Sprintf("at most %d arguments", n)
}

func joinWords(ws []syntax.Word) string {
	var b strings.Builder
	for i, w := range ws {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(w.Text)
	}
	return clip(b.String())
}

// clip shortens a text of the user's for a message.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// declare notes where the named blocks stand, so that a reference to one that comes too late can say so, and refuses the
// second block of a name.
func (l *loader) declare() {
	kept := l.tree.Top[:0]
	for i, n := range l.tree.Top {
		l.order[n] = i
		kind := n.Keyword()
		if kind == "vrrp_track_file" {
			kind = "track_file"
		}
		switch kind {
		case "vrrp_instance", "vrrp_sync_group", "vrrp_script", "vrrp_track_process", "track_file", "bfd_instance",
			"track_group", "virtual_server_group":
			if len(n.Words) < 2 {
				break
			}
			name := n.Words[1].Text
			if l.declared[kind] == nil {
				l.declared[kind] = make(map[string]*Node)
			}
			if first := l.declared[kind][name]; first != nil {
				l.errorf(CodeDuplicate, n.Words[1],
					"%s %s stands at %v already; this block is skipped", kind, name, first.Pos())
				continue
			}
			l.declared[kind][name] = n
		case "cluster":
			if l.cluster != nil {
				l.fatalf(CodeDuplicate, n.Words[0], "a cluster block stands at %v already", l.cluster.Pos())
				continue
			}
			l.cluster, l.texts = n, true // the members have their services in common
		}
		kept = append(kept, n)
	}
	l.tree.Top = kept
}

func (l *loader) rootWords() handlers {
	p := &l.cfg.Process
	p.ChildWaitTime = 5 * second
	return handlers{
		"linkbeat_use_polling": func(statement) { p.LinkbeatUsePolling = true },
		"net_namespace":        func(s statement) { p.NetNamespace = s.Words[1].Text },
		"net_namespace_ipvs": func(s statement) {
			p.NetNamespaceIPVS = argument(s)
			p.IPVSInHostNamespace = len(s.Args()) == 0
		},
		"namespace_with_ipsets": func(statement) { p.NamespaceWithIPSets = true },
		"use_pid_dir":           func(statement) { p.UsePIDDir = true },
		"instance":              func(s statement) { p.Instance = s.Words[1].Text },
		"child_wait_time":       func(s statement) { l.setSeconds(s, &p.ChildWaitTime) },
		"global_defs":           func(s statement) { l.statements(s.Children, "global_defs", l.globalWords()) },
		"SSL":                   l.ssl,
		"virtual_server_group":  l.virtualServerGroup,
		"virtual_server":        l.virtualServer,
		"track_group":           l.trackGroup,
		"static_ipaddress": func(s statement) {
			l.cfg.Static.Addresses = append(l.cfg.Static.Addresses, l.addresses(s.Node, "static_ipaddress")...)
		},
		"static_routes": func(s statement) {
			l.cfg.Static.Routes = append(l.cfg.Static.Routes, l.routes(s.Node, "static_routes")...)
		},
		"static_rules": func(s statement) {
			l.cfg.Static.Rules = append(l.cfg.Static.Rules, l.rules(s.Node, "static_rules")...)
		},
		"vrrp_sync_group":          l.syncGroup,
		"garp_group":               l.garpGroup,
		"linkbeat_interfaces":      l.linkbeatInterfaces,
		"vrrp_instance":            l.instance,
		"vrrp_script":              l.script,
		"vrrp_track_process":       l.trackProcess,
		"interface_up_down_delays": l.interfaceDelays,
		"bfd_instance":             l.bfd,
		"track_file":               l.trackFile,
		"vrrp_track_file":          l.trackFile,
		"cluster":                  l.clusterBlock,
	}
}
