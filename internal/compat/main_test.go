package main

import (
	"os"
	"strings"
	"testing"

	"github.com/hactl/had/internal/conf/words"
)

func TestThePageInTheRepositoryIsThatOfTheTables(t *testing.T) {
	got, err := os.ReadFile("../../docs/keepalived-compat.md")
	if err != nil || string(got) != page() {
		t.Errorf("docs/keepalived-compat.md is not up to date (%v): make compat", err)
	}
}

// section returns what stands between two headings of the page.
func section(t *testing.T, from, to string) string {
	t.Helper()
	_, rest, found := strings.Cut(page(), from+"\n")
	if !found {
		t.Fatalf("there is no %q", from)
	}
	s, _, found := strings.Cut(rest, to+"\n")
	if !found {
		t.Fatalf("there is no %q", to)
	}
	return s
}

// TestEveryWordOfTheListIsOnThePage reads the list that was collected from keepalived: each of its words is on the page once,
// under its block and with a status, and no other word is.
func TestEveryWordOfTheListIsOnThePage(t *testing.T) {
	list, err := os.ReadFile("../conf/words/testdata/keepalived-keywords.tsv")
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[[2]string]bool)
	for line := range strings.Lines(string(list)) {
		f := strings.Split(line, "\t")
		if !strings.HasPrefix(line, "# ") && f[0] != "block" {
			want[[2]string{f[0], f[1]}] = true
		}
	}
	if len(want) < 1000 {
		t.Fatalf("the list has only %d words", len(want))
	}
	_, table, _ := strings.Cut(page(), "\n## Every word\n")
	block := ""
	for line := range strings.Lines(table) {
		if title, found := strings.CutPrefix(line, "### "); found {
			block = strings.Trim(strings.TrimSpace(title), "`")
			if block == "outside any block" {
				block = words.Root
			}
			continue
		}
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), " | ")
		name := strings.ReplaceAll(strings.Trim(strings.TrimPrefix(cells[0], "| "), "`"), "\x00", "|")
		key := [2]string{block, name}
		if !want[key] {
			t.Errorf("%s of %s is on the page twice, or not in the list", name, block)
		}
		delete(want, key)
		switch status := strings.Trim(cells[2], "*"); status {
		case "same", "differs", "warned", "refused":
		default:
			t.Errorf("%s of %s has the status %q", name, block, status)
		}
		if text := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(cells[3]), "|")); text == "" {
			t.Errorf("%s of %s has no text", name, block)
		}
	}
	for key := range want {
		t.Errorf("%s of %s is not on the page", key[1], key[0])
	}
}

// TestWordsThatDoNotActStandOut: whoever relies on a word that does nothing finds it, or a block around it, at the top, and
// its status in bold in the table.
func TestWordsThatDoNotActStandOut(t *testing.T) {
	top := section(t, "## Everyday and serious words that do not act", "## How had behaves differently")
	_, table, _ := strings.Cut(page(), "\n## Every word\n")
	at := func(block, word string) bool { return strings.Contains(top, "| "+code(word)+" | "+inside(block)+" | ") }
	for _, w := range all() {
		lost := w.effect == words.Warned || w.effect == words.Refused
		found := at(w.Block, w.Word)
		if !lost && found {
			t.Errorf("%s of %s is at the top and %s", w.Word, w.Block, w.effect.Status())
		}
		if lost && w.Tier <= 2 {
			path := strings.Split(w.Block, "/")
			for i, name := range path {
				outer := words.Root
				if i > 0 {
					outer = strings.Join(path[:i], "/")
				}
				found = found || at(outer, name)
			}
			if !found {
				t.Errorf("%s of %s is not at the top", w.Word, w.Block)
			}
		}
		if bold := "| " + code(w.Word) + " | " + tiers[w.Tier] + " | **" + w.effect.Status() + "** |"; lost && !strings.Contains(table, bold) {
			t.Errorf("%s of %s is not in bold", w.Word, w.Block)
		}
	}
}

func TestEveryDifferenceIsOnThePage(t *testing.T) {
	all := section(t, "## How had behaves differently", "## Every word")
	for _, d := range words.Differences {
		if !strings.Contains(all, "| "+cell(d.Keepalived)+" | "+cell(d.Had)+" | "+cell(d.Why)+" |") {
			t.Errorf("%+v", d)
		}
	}
}
