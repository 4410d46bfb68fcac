package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hactl/had/internal/conf/words"
	"github.com/hactl/had/internal/control/cli"
	"github.com/hactl/had/internal/daemon"
)

const manDirectory = "../../../../docs/man"

func TestThePagesInTheRepositoryAreThoseOfTheCommandTree(t *testing.T) {
	want := pages(cli.Command())
	for name, text := range want {
		got, err := os.ReadFile(filepath.Join(manDirectory, name))
		if err != nil || string(got) != text {
			t.Errorf("%s is not up to date (%v): go run ./internal/control/cli/gendoc docs/man", name, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(manDirectory, "hactl*.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if want[filepath.Base(f)] == "" {
			t.Errorf("%s documents a command that is gone", f)
		}
	}
}

func TestEveryFlagIsOnItsPage(t *testing.T) {
	root := cli.Command()
	all := pages(root)
	var visit func(c *cobra.Command, page string)
	visit = func(c *cobra.Command, page string) {
		check := func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(all[page], "\\fB"+escape("--"+f.Name)+"\\fR") {
				t.Errorf("%s: --%s of %q is missing", page, f.Name, c.CommandPath())
			}
		}
		c.InitDefaultHelpFlag()
		c.LocalFlags().VisitAll(check)
		for _, sub := range documented(c) {
			at := page
			if c == root {
				at = pageName(sub) + ".1"
			}
			visit(sub, at)
		}
	}
	visit(root, "hactl.1")
}

func TestEveryCommandSaysWhatItDoes(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%q has no description", c.CommandPath())
		}
		for _, sub := range documented(c) {
			visit(sub)
		}
	}
	visit(cli.Command())
}

// read returns a hand-written page.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(manDirectory, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryFlagOfTheDaemonsIsOnTheirPages(t *testing.T) {
	for _, name := range []string{"had", "hawitness"} {
		text := read(t, name+".8")
		var help strings.Builder
		daemon.Run(name, "", []string{"--help"}, &help, &help, nil)
		flags := regexp.MustCompile(`--[a-z_-]+`).FindAllString(help.String(), -1)
		if len(flags) < 5 {
			t.Fatalf("%s --help names only %q", name, flags)
		}
		for _, flag := range flags {
			if !strings.Contains(text, "\\fB"+escape(flag)+"\\fR") {
				t.Errorf("%s(8): %s is missing", name, flag)
			}
		}
	}
}

func TestEveryWordOfTheClusterBlockIsOnItsPage(t *testing.T) {
	text := read(t, "had-cluster.conf.5")
	for _, block := range []string{"cluster", "cluster/peer", "cluster/fence", "cluster/gateway"} {
		rows := words.Rows(block)
		if len(rows) == 0 {
			t.Errorf("there is no block %s", block)
		}
		for _, row := range rows {
			if !strings.Contains(text, "\n\\fB"+row.Word+"\\fR") {
				t.Errorf("had-cluster.conf(5): %s of %s is missing", row.Word, block)
			}
		}
	}
}
