// Command gendoc writes the manual pages of hactl, hactl(1) and one hactl-COMMAND(1) per command, from the command tree
// into a directory:
//
//	go run ./internal/control/cli/gendoc docs/man
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hactl/had/internal/control/cli"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gendoc DIRECTORY")
		os.Exit(2)
	}
	for name, text := range pages(cli.Command()) {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// pages returns the text of every page by file name.
func pages(root *cobra.Command) map[string]string {
	all := map[string]string{"hactl.1": rootPage(root)}
	for _, c := range documented(root) {
		all[pageName(c)+".1"] = commandPage(root, c)
	}
	return all
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// documented lists the commands of parent that have a page or a section: all but help itself.
func documented(parent *cobra.Command) []*cobra.Command {
	var list []*cobra.Command
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			list = append(list, c)
		}
	}
	return list
}

// page collects roff.
type page struct{ strings.Builder }

func newPage(name, short string) *page {
	p := &page{}
	p.line(".\\\" Written by internal/control/cli/gendoc from the command tree: do not edit.")
	p.line(".TH %q 1 \"\" \"had\" \"had manual\"", strings.ToUpper(name))
	p.section("NAME")
	p.line("%s \\- %s", escape(name), escape(short))
	return p
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) section(title string) { p.line(".SH %s", title) }

// text prints paragraphs, separated by empty lines; indented ones stay as they are.
func (p *page) text(s string) {
	for i, paragraph := range strings.Split(strings.TrimRight(s, "\n"), "\n\n") {
		if i > 0 {
			p.line(".PP")
		}
		if strings.HasPrefix(paragraph, " ") {
			p.literal(paragraph)
			continue
		}
		for l := range strings.Lines(paragraph) {
			p.line("%s", escape(strings.TrimRight(l, "\n")))
		}
	}
}

func (p *page) literal(s string) {
	p.line(".RS 2\n.nf")
	for l := range strings.Lines(s) {
		p.line("%s", escape(strings.TrimPrefix(strings.TrimRight(l, "\n"), "  ")))
	}
	p.line(".fi\n.RE")
}

func (p *page) item(term, text string) {
	p.line(".TP\n%s", term)
	p.text(text)
}

// flags prints each flag of a set with its default.
func (p *page) flags(set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		term := "\\fB" + escape("--"+f.Name) + "\\fR"
		if f.Shorthand != "" {
			term = "\\fB" + escape("-"+f.Shorthand) + "\\fR, " + term
		}
		kind, usage := pflag.UnquoteUsage(f)
		switch {
		case kind != "" && f.NoOptDefVal != "":
			term += "[=\\fI" + escape(strings.ToUpper(kind)) + "\\fR]"
		case kind != "":
			term += " \\fI" + escape(strings.ToUpper(kind)) + "\\fR"
		}
		if d := f.DefValue; d != "" && d != "false" && d != "0s" && d != "[]" && f.NoOptDefVal == "" {
			usage += " (default " + d + ")"
		}
		p.item(term, usage)
	})
}

func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

func rootPage(root *cobra.Command) string {
	p := newPage("hactl", strings.ToLower(root.Short[:1])+root.Short[1:])
	p.section("SYNOPSIS")
	p.line("\\fBhactl\\fR [\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]")
	p.section("DESCRIPTION")
	p.text(root.Long)
	p.section("COMMANDS")
	for _, c := range documented(root) {
		p.item("\\fBhactl "+escape(c.Name())+"\\fR", c.Short+". See "+pageName(c)+"(1).")
	}
	p.section("OPTIONS")
	p.text("These options go with every command.")
	root.InitDefaultHelpFlag()
	p.flags(root.PersistentFlags())
	p.flags(root.LocalNonPersistentFlags())
	p.section("OUTPUT")
	p.text(outputText)
	p.section("EXIT STATUS")
	for _, e := range exitCodes {
		p.item("\\fB"+e[0]+"\\fR", e[1])
	}
	p.section("ENVIRONMENT")
	for _, e := range environment {
		p.item("\\fB"+e[0]+"\\fR", e[1])
	}
	p.section("FILES")
	p.item("\\fI/run/had/had.sock\\fR", "The control socket: mode 0660, group had if there is one. Whoever may open it may also act.")
	p.section("SEE ALSO")
	p.text("had(8), hawitness(8), had-cluster.conf(5)")
	return p.String()
}

const outputText = `The answer goes to standard output, everything else to standard error. Tables have a header in capitals, two or more
spaces between columns, and "-" for an empty cell.

With --output=json the answer is one JSON value whose field "schema" is "hactl/v1". Fields are added in later versions,
never renamed. Times are RFC 3339 in UTC with milliseconds, spans are floating point seconds in fields that end in
_seconds, and false in "consistent" marks the view of a node that could not confirm it with the cluster. With
--output=jsonl lists print one JSON value per line; with --output=name they print names only.

Errors have three parts: what failed, why, and the next command. With --output=json they are a JSON value on standard
error.`

var exitCodes = [][2]string{
	{"0", "Done, healthy, or the predicate is true."},
	{"1", "Failed, or the predicate is false. hactl status: a group has no owner, or two. hactl config check: an error was found."},
	{"2", "Wrong usage, or a question without a terminal to ask it on."},
	{"3", "The daemon does not answer."},
	{"4", "Refused, or bad news: no quorum."},
	{"5", "Refused by a safety check, which is named."},
	{"6", "No such node, group, address or word."},
	{"124", "Timed out while waiting; the outcome is unknown."},
}

var environment = [][2]string{
	{"HACTL_SOCKET", "The control socket, unless --socket is given."},
	{"HACTL_OUTPUT", "The output format, unless --output is given."},
	{"NO_COLOR", "If set, print without colours. So does TERM=dumb, and output that is no terminal."},
	{"LC_ALL, LC_CTYPE, LANG", "Symbols beyond ASCII are printed only if the first of these that is set names UTF\\-8."},
}

// leaves lists the commands below one that have none below themselves, or that one.
func leaves(c *cobra.Command) []*cobra.Command {
	below := documented(c)
	if len(below) == 0 {
		return []*cobra.Command{c}
	}
	var all []*cobra.Command
	for _, b := range below {
		all = append(all, leaves(b)...)
	}
	return all
}

func commandPage(root, top *cobra.Command) string {
	p := newPage(pageName(top), strings.ToLower(top.Short[:1])+top.Short[1:])
	commands := leaves(top)
	p.section("SYNOPSIS")
	for i, c := range commands {
		if i > 0 {
			p.line(".br")
		}
		for k, form := range strings.Split(strings.TrimSuffix(c.UseLine(), " [flags]"), " | "+c.Name()+" ") {
			if k > 0 {
				p.line(".br")
				form = c.CommandPath() + " " + form
			}
			p.line("%s", escape(form+" [options]"))
		}
	}
	if commands[0] == top {
		p.section("DESCRIPTION")
		p.text(description(top))
		p.section("OPTIONS")
		p.options(top)
	} else {
		if top.Long != "" {
			p.section("DESCRIPTION")
			p.text(top.Long)
		}
		for _, c := range commands {
			p.section(strings.ToUpper(c.CommandPath()))
			p.text(description(c))
			p.options(c)
			if c.Example != "" {
				p.line(".PP\nExamples:")
				p.literal(c.Example)
			}
		}
	}
	if top.Example != "" {
		p.section("EXAMPLES")
		p.literal(top.Example)
	}
	p.section("SEE ALSO")
	p.text("hactl(1) for the options of all commands, output formats and exit codes")
	return p.String()
}

func description(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

func (p *page) options(c *cobra.Command) {
	c.InitDefaultHelpFlag()
	p.flags(c.LocalFlags())
}
