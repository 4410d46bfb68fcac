package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/conf/host"
	"github.com/hactl/had/internal/conf/lint"
	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
	"github.com/hactl/had/internal/control/api"
)

func (a *app) configCommand() *cobra.Command {
	return a.noun("config", "Check, explain, compare, migrate and reload the configuration", a.configCheckCommand(), a.configExplainCommand(),
		a.configDiffCommand(), a.configMigrateCommand(), a.configReloadCommand())
}

const defaultConfig = "/etc/keepalived/keepalived.conf"

func (a *app) configCheckCommand() *cobra.Command {
	var strict, noHost bool
	var id string
	c := &cobra.Command{
		Use:   "check [FILE...]",
		Short: "Say everything that is wrong with a configuration",
		Long: `Read a keepalived.conf and say all that is wrong with it at once, with file, line and column: errors (what is written cannot
be done), warnings (it loads, but something is ignored, corrected or will surprise) and notes. No daemon is asked. The
file is /etc/keepalived/keepalived.conf unless it is given.

A file that serves several nodes by conditions (@lb1) is read for each of them, and the nodes are compared: identifiers and
addresses that differ, equal priorities, weights too small to change the owner. Several files are those of several nodes,
one each, and are compared in the same way; a file called NAME.conf is that of node NAME.

It also looks for the interfaces, accounts, scripts, addresses and the key on this machine. With --no-host, or with several files, it
does not, and needs no more than the files: use that in CI.

Exit code 1 if there is an error, or with --strict a warning; 0 otherwise.`,
		Example: `  hactl config check
  hactl config check --no-host --strict -o json lb1.conf lb2.conf`,
		RunE: run(func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{defaultConfig}
			}
			opts, err := host.Options("", id)
			if err != nil {
				return err
			}
			o := lint.Options{Paths: args, Load: opts, AsNode: id != ""}
			if len(args) == 1 && !noHost {
				o.Machine = &lint.Machine{Interfaces: net.Interfaces, Addresses: net.InterfaceAddrs, Key: a.env.CheckKey,
					FenceOptions: a.env.FenceOptions}
			}
			if len(args) > 1 && id != "" {
				return &api.Problem{Kind: api.Usage, What: "--config-id goes with one file", Why: "several files are those of several nodes"}
			}
			return a.printCheck(lint.Check(o), strict)
		}),
	}
	c.Flags().BoolVar(&strict, "strict", false, "exit 1 for a warning too")
	c.Flags().BoolVar(&noHost, "no-host", false, "do not look at this machine: the file is for another one")
	c.Flags().StringVarP(&id, "config-id", "i", "", "read the file as the node of this `NAME` only (@NAME), as had -i does")
	return c
}

func (a *app) printCheck(r lint.Result, strict bool) error {
	v := api.ConfigReport{Schema: api.Schema, Files: []string{}, Loadable: r.Loadable, Findings: []api.ConfigFinding{}}
	for _, f := range r.Files {
		if !slices.Contains(v.Files, f) {
			v.Files = append(v.Files, f)
		}
	}
	for _, f := range r.Findings {
		switch f.Severity {
		case conf.Error:
			v.Errors++
		case conf.Warning:
			v.Warnings++
		default:
			v.Notes++
		}
		used := ""
		if f.Used.IsValid() && f.Used != f.Pos {
			used = f.Used.String()
		}
		v.Findings = append(v.Findings, api.ConfigFinding{Severity: f.Severity.String(), Code: string(f.Code), File: f.Pos.File,
			Line: f.Pos.Line, Column: f.Pos.Column, UsedAt: used, Message: f.Message, Fatal: f.Fatal})
	}
	if v.Errors > 0 || strict && v.Warnings > 0 {
		a.exit = api.ExitFailed
	}
	text, err := a.render(v, func() string {
		var b strings.Builder
		for _, f := range r.Findings {
			b.WriteString(a.findingLine(f) + "\n")
		}
		verdict := "had starts with this."
		if !v.Loadable {
			verdict = "Not loadable: had would not start with this."
		}
		fmt.Fprintf(&b, "%s, %s, %s. %s\n", count(v.Errors, "error"), count(v.Warnings, "warning"), count(v.Notes, "note"), verdict)
		return b.String()
	}, func() []string { return v.Files }, func() []any { return anys(v.Findings) })
	fmt.Fprint(a.env.Stdout, text)
	return err
}

// findingLine is a finding as compilers print them, which editors and CI systems understand.
func (a *app) findingLine(f conf.Finding) string {
	how := map[conf.Severity]style{conf.Error: bad, conf.Warning: warn, conf.Note: faint}[f.Severity]
	head := f.Severity.String()
	return strings.Replace(clean(f.String()), ": "+head+": ", ": "+a.paint(head, how)+": ", 1)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (a *app) configExplainCommand() *cobra.Command {
	var block string
	c := &cobra.Command{
		Use:   "explain WORD",
		Short: "What a word of the configuration means, and what had makes of it",
		Long: `Print what a word of keepalived.conf or of the cluster block means, in each of the blocks that know it: what follows it, its
unit, default and range, and how had and keepalived compare. In what follows it capitals stand for a value, [x] may be
left out, a|b is a choice, BOOL is one of on, true, yes, off, false and no, DEC a decimal number, INT a whole one, SCRIPT
one quoted command.`,
		Example: `  hactl config explain garp_master_delay
  hactl config explain weight --block vrrp_script`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: first(func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return words.Keywords(), cobra.ShellCompDirectiveNoFileComp
		}),
		RunE: run(func(c *cobra.Command, args []string) error { return a.explain(args[0], block) }),
	}
	c.Flags().StringVar(&block, "block", "", "only in this `BLOCK`, for example vrrp_instance, or virtual_server/real_server")
	_ = c.RegisterFlagCompletionFunc("block", cobra.FixedCompletions(words.Blocks(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) explain(word, block string) error {
	v := api.WordReport{Schema: api.Schema, Word: word, Entries: []api.WordEntry{}}
	var candidates []string
	blockKnown := block == ""
	for _, name := range words.Blocks() {
		if block != "" && name != block && !strings.HasSuffix(name, "/"+block) {
			continue
		}
		blockKnown = true
		for _, r := range words.Rows(name) {
			candidates = append(candidates, r.Word)
			if r.Word != word {
				continue
			}
			effect, text := words.EffectWithin(r.Block, r.Word)
			e := api.WordEntry{Kind: r.Kind.String(), Arguments: r.Args, Unit: r.Unit, Default: r.Default, Range: r.Range,
				Tier: r.Tier, Meaning: r.Meaning, Own: r.Own, Status: effect.Status(), Text: text}
			same := slices.IndexFunc(v.Entries, func(o api.WordEntry) bool { // blocks that say the same of a word share an entry
				e.Blocks = o.Blocks
				return fmt.Sprint(o) == fmt.Sprint(e)
			})
			if same >= 0 {
				v.Entries[same].Blocks = append(v.Entries[same].Blocks, name)
				continue
			}
			e.Blocks = []string{name}
			v.Entries = append(v.Entries, e)
		}
	}
	if !blockKnown {
		return &api.Problem{Kind: api.NotFound, What: fmt.Sprintf("there is no block %q", block), Why: meant(block, words.Blocks())}
	}
	if len(v.Entries) == 0 {
		p := &api.Problem{Kind: api.NotFound, What: fmt.Sprintf("no word %q is known", word), Why: meant(word, candidates)}
		if block != "" {
			p.What += " in " + block
			if homes := words.Homes(word); len(homes) > 0 {
				p.Why = "it belongs in " + strings.Join(homes, ", ")
			}
		}
		return p
	}
	text, err := a.render(v, func() string { return a.explainText(v) }, func() []string {
		var names []string
		for _, e := range v.Entries {
			names = append(names, e.Blocks...)
		}
		return names
	}, func() []any { return anys(v.Entries) })
	fmt.Fprint(a.env.Stdout, text)
	return err
}

// meant suggests what a misspelt word may have been.
func meant(word string, candidates []string) string {
	slices.Sort(candidates)
	candidates = slices.Compact(candidates)
	var near []string
	for len(near) < 3 {
		n, ok := syntax.Nearest(word, candidates)
		if !ok {
			break
		}
		near = append(near, n)
		candidates = slices.DeleteFunc(candidates, func(c string) bool { return c == n })
	}
	if len(word) >= 4 {
		for _, c := range candidates { // part of a longer word
			if len(near) < 5 && strings.Contains(c, word) {
				near = append(near, c)
			}
		}
	}
	if len(near) == 0 {
		return ""
	}
	return "did you mean " + strings.Join(near, ", ") + "?"
}

var tiers = map[int]string{1: "everyday", 2: "serious production", 3: "rare"}

func (a *app) explainText(v api.WordReport) string {
	var b strings.Builder
	for i, e := range v.Entries {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s\n", strings.TrimSpace(a.paint(v.Word, bold)+" "+e.Arguments))
		line := func(name, text string) {
			if text != "" {
				fmt.Fprintf(&b, "  %-8s %s\n", name, text)
			}
		}
		where := strings.Join(e.Blocks, ", ")
		if e.Kind == "value" {
			where = "an option of " + where
		}
		line("in", where)
		line("meaning", e.Meaning)
		line("unit", e.Unit)
		line("default", e.Default)
		line("range", e.Range)
		line("use", tiers[e.Tier])
		how := map[string]style{"same": good, "differs": warn, "warned": bad, "refused": bad}[e.Status]
		had := a.paint(e.Status, how)
		switch {
		case e.Own:
			had = "a word of had's own; keepalived does not know it"
			if e.Text != "" {
				had += "; " + e.Text
			}
		case e.Status == "same" && e.Text != "":
			had += " as keepalived: " + e.Text
		case e.Status == "same":
			had += " as keepalived"
		default:
			had += ": " + e.Text
		}
		line("had", had)
	}
	return b.String()
}

func (a *app) configMigrateCommand() *cobra.Command {
	var name, keyFile string
	var peers, witnesses []string
	var lease time.Duration
	var inPlace bool
	c := &cobra.Command{
		Use:   "migrate FILE --name NAME --peer NODE=ADDRESS...",
		Short: "Add a cluster block to a keepalived.conf",
		Long: `Print a keepalived.conf with a cluster block added, so that had gives its virtual IPs to whoever holds a lease that a
majority of the peers has granted. Everything else in the file stays as it is, byte for byte. What had makes of the words
in it goes to standard error: how many there are, which act differently and what is lost.

The block is the same on every member, and the lease fits the smallest advert_int of the file. The result is read as each
member would read it; what could not be loaded is not printed. A file that has a cluster block is refused.`,
		Example: `  hactl config migrate /etc/keepalived/keepalived.conf --name edge \
    --peer lb1=10.77.0.1 --peer lb2=10.77.0.2 --witness w1=10.77.0.3 > new.conf`,
		Args: cobra.ExactArgs(1),
		RunE: run(func(c *cobra.Command, args []string) error {
			m := conf.Membership{Name: name, KeyFile: filepath.Clean(keyFile), Lease: lease}
			if name == "" || len(peers) == 0 {
				return &api.Problem{Kind: api.Usage, What: "--name and at least one --peer are needed", Next: c.CommandPath() + " --help"}
			}
			for i, p := range slices.Concat(peers, witnesses) {
				node, address, _ := strings.Cut(p, "=")
				ip, err := netip.ParseAddr(address)
				if err != nil {
					return &api.Problem{Kind: api.Usage, What: fmt.Sprintf("%q is not NODE=ADDRESS", p), Why: err.Error()}
				}
				m.Peers = append(m.Peers, conf.Peer{Name: node, Address: ip, Witness: i >= len(peers)})
			}
			return a.migrate(args[0], m, inPlace)
		}),
	}
	c.Flags().StringVar(&name, "name", "", "`NAME` of the cluster")
	c.Flags().StringArrayVar(&peers, "peer", nil, "a director, `NODE=ADDRESS`; once for each")
	c.Flags().StringArrayVar(&witnesses, "witness", nil, "a member that only votes, `NODE=ADDRESS`")
	c.Flags().StringVar(&keyFile, "key-file", "/etc/had/cluster.key", "`PATH` of the cluster key, the same on every member")
	c.Flags().DurationVar(&lease, "lease", 0, "`DURATION` of the lease; 0: 2.5 times the smallest advert_int, shorter than any takeover")
	c.Flags().BoolVar(&inPlace, "in-place", false, "write the result to FILE, and what it was to FILE.before-had")
	return c
}

func (a *app) migrate(path string, m conf.Membership, inPlace bool) error {
	opts, err := host.Options(path, m.Peers[0].Name)
	if err != nil {
		return err
	}
	text, used, findings, err := conf.AddCluster(opts, m)
	for _, f := range findings {
		if f.Severity > conf.Note && f.Code != conf.CodeNotDone { // the summary says what is lost
			fmt.Fprintln(a.env.Stderr, a.findingLine(f))
		}
	}
	switch {
	case errors.Is(err, conf.ErrHasCluster):
		return &api.Problem{Kind: api.Refused, Check: "has-cluster", What: path + " is left alone", Why: err.Error(),
			Next: "edit that block: had-cluster.conf(5)"}
	case errors.Is(err, conf.ErrUnusable) && text == nil:
		return &api.Problem{Kind: api.Failed, What: path + " cannot be used as it is", Why: "see the errors above",
			Next: "hactl config check " + path}
	case errors.Is(err, conf.ErrUnusable):
		return &api.Problem{Kind: api.Failed, What: path + " cannot be used with this cluster block", Why: "see the errors above"}
	case errors.Is(err, conf.ErrMember):
		return &api.Problem{Kind: api.Usage, What: err.Error()}
	case err != nil:
		return err
	}
	if inPlace {
		backup, err := replaceFile(path, text)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.env.Stderr, "wrote %s; what it was is in %s\n", path, backup)
	} else if _, err := a.env.Stdout.Write(text); err != nil {
		return err
	}
	a.summary(opts, m, used)
	return nil
}

// summary says what had makes of the words of the file.
func (a *app) summary(opts conf.Options, m conf.Membership, lease time.Duration) {
	var all []*words.Row
	for _, p := range m.Peers {
		if p.Witness {
			continue
		}
		for _, r := range conf.WordsUsed(opts.For(p.Name)) {
			if !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	counts := make(map[string]int)
	var lines []string
	for _, r := range all {
		effect, text := words.EffectWithin(r.Block, r.Word)
		counts[effect.Status()]++
		if own, _ := words.EffectOf(r.Block, r.Word); effect.Status() == "same" || own == words.Same {
			continue // or nothing is said of the word that is not said of the block around it
		}
		lines = append(lines, fmt.Sprintf("  %-8s %s in %s: %s", effect.Status(), r.Word, r.Block, text))
	}
	slices.Sort(lines)
	fmt.Fprintf(a.env.Stderr, "cluster %s, lease %v: every member gets the same block and the same %s\n", m.Name, lease, m.KeyFile)
	fmt.Fprintf(a.env.Stderr, "words used: %d; same as keepalived: %d, differs: %d, lost: %d\n", len(all), counts["same"], counts["differs"],
		counts["warned"]+counts["refused"])
	for _, l := range lines {
		fmt.Fprintln(a.env.Stderr, l)
	}
}

// replaceFile writes a file anew, with its mode and owner, so that it is always the old one or the new one, and keeps the old
// one beside it. A symbolic link is followed.
func replaceFile(path string, content []byte) (backup string, err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	backup = path + ".before-had"
	if err := os.Link(path, backup); errors.Is(err, fs.ErrExist) {
		return "", &api.Problem{Kind: api.Refused, Check: "backup-exists", What: path + " is left alone",
			Why: backup + " exists and would be overwritten", Next: "move it away first"}
	} else if err != nil {
		return "", fmt.Errorf("keep %s: %w", path, err)
	}
	fresh, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return "", errors.Join(err, os.Remove(backup))
	}
	_, err = fresh.Write(content)
	err = errors.Join(err, fresh.Chmod(info.Mode().Perm()), sameOwner(fresh, info), fresh.Sync(), fresh.Close())
	if err == nil {
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(fresh.Name()), os.Remove(backup))
	}
	return backup, nil
}

func sameOwner(f *os.File, info fs.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid()) {
		return f.Chown(int(st.Uid), int(st.Gid))
	}
	return nil
}
