// Command compat writes docs/keepalived-compat.md, the page that says of every word of keepalived.conf what had makes of it,
// and how had differs otherwise, from the tables of package words:
//
//	go run ./internal/compat docs/keepalived-compat.md
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hactl/had/internal/conf/words"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: compat FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(page()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// word is a row of the table of words with what had makes of it.
type word struct {
	*words.Row
	effect words.Effect
	text   string
}

// all returns the words of keepalived, in the order of the table.
func all() []word {
	var list []word
	for _, block := range words.Blocks() {
		for _, r := range words.Rows(block) {
			if !r.Own {
				effect, text := words.EffectWithin(r.Block, r.Word)
				list = append(list, word{r, effect, text})
			}
		}
	}
	return list
}

const head = `<!-- Written by internal/compat from the tables of internal/conf/words: do not edit. -->
# had and keepalived

had reads keepalived.conf and means the same by it. This page says where it does not. It is made from the tables that the
program itself uses; a test compares them with the list of all words of keepalived. ` + "`hactl config explain WORD`" + ` says the same
of one word, and ` + "`hactl config check FILE`" + ` of the words of a file.

| status | it means |
|---|---|
| same | the word does what it does in keepalived |
| differs | it does so, but for what stands there; or there is nothing to do, because had is built in another way, and nothing is lost |
| **warned** | it is read and nothing is done; a warning says what is lost |
| **refused** | nothing can be done, and starting without it would do harm: had does not start, and says why |

Everyday words are those of most configurations, serious ones those of large or careful ones; the others are rare, for one
platform, or deprecated.
`

// page returns the text of the page.
func page() string {
	var b strings.Builder
	list := all()
	b.WriteString(head)
	b.WriteString("\n" + counts(list))

	b.WriteString("\n## Everyday and serious words that do not act\n\n")
	if missing := missed(list); len(missing) > 0 {
		b.WriteString("The words inside a block share its fate.\n\n| word | in | use | status | what is lost |\n|---|---|---|---|---|\n")
		for _, w := range missing {
			fmt.Fprintf(&b, "| %s | %s | %s | **%s** | %s |\n", code(w.Word), inside(w.Block), tiers[w.Tier], w.effect.Status(), cell(w.text))
		}
	} else {
		b.WriteString("None.\n")
	}

	b.WriteString("\n## How had behaves differently\n")
	for _, area := range words.Areas() {
		fmt.Fprintf(&b, "\n### %s\n\n| keepalived | had | because |\n|---|---|---|\n", area)
		for _, d := range words.Differences {
			if d.Area == area {
				fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(d.Keepalived), cell(d.Had), cell(d.Why))
			}
		}
	}

	b.WriteString("\n## Every word\n\nA word that is an option stands under the word that it belongs to.\n")
	block := ""
	for _, w := range list {
		if w.Block != block {
			block = w.Block
			fmt.Fprintf(&b, "\n### %s\n\n| word | use | status | |\n|---|---|---|---|\n", inside(block))
		}
		status, text := w.effect.Status(), w.text
		if w.effect.Lost() {
			status = "**" + status + "**"
		}
		if w.effect == words.NoEffect {
			text = "no effect: " + text
		}
		if text == "" {
			text = w.Meaning
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(w.Word), tiers[w.Tier], status, cell(text))
	}
	return b.String()
}

// missed returns the words that people rely on, of which something is lost; not those inside a block that is itself among
// them.
func missed(list []word) []word {
	names := make(map[string]bool)
	list = slices.DeleteFunc(slices.Clone(list), func(w word) bool { return w.Tier > 2 || !w.effect.Lost() })
	for _, w := range list {
		names[strings.TrimPrefix(w.Block+"/"+w.Word, words.Root+"/")] = true
	}
	return slices.DeleteFunc(list, func(w word) bool {
		for i := range w.Block {
			if w.Block[i] == '/' && names[w.Block[:i]] {
				return true
			}
		}
		return names[w.Block]
	})
}

// counts returns the table of how many words there are of each status.
func counts(list []word) string {
	n := make(map[string]int)
	for _, w := range list {
		n[w.effect.Status()+tiers[w.Tier]]++
	}
	var b strings.Builder
	b.WriteString("| | everyday | serious | rare |\n|---|---|---|---|\n")
	for _, e := range []words.Effect{words.Same, words.Differs, words.Warned, words.Refused} {
		s := e.Status()
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", s, n[s+tiers[1]], n[s+tiers[2]], n[s+tiers[3]])
	}
	return b.String()
}

var tiers = map[int]string{1: "everyday", 2: "serious", 3: "rare"}

func inside(block string) string {
	if block == words.Root {
		return "outside any block"
	}
	return code(block)
}

// code is a text as it is typed, in a cell of a table.
func code(s string) string {
	return "`" + strings.ReplaceAll(s, "|", `\|`) + "`"
}

// cell is a sentence in a cell of a table. What is in backticks stays as it is.
func cell(s string) string {
	parts := strings.Split(s, "`")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], "|", `\|`)
		if i%2 == 0 {
			parts[i] = strings.NewReplacer("<", "&lt;", "*", `\*`, "_", `\_`).Replace(parts[i])
		}
	}
	return strings.Join(parts, "`")
}
