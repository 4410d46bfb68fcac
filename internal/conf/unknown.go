package conf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

// obsolete holds words that releases long ago knew, and that stand in files to this day.
var obsolete = map[[2]string]string{
	{"global_defs", "lvs_id"}:                     "router_id took its place",
	{"virtual_server", "nat_mask"}:                "the mask of the network has long had no meaning for NAT",
	{"vrrp_instance", "lvs_sync_daemon_inteface"}: "lvs_sync_daemon in global_defs took its place",
}

// unknown reports a statement whose word its block does not know. With a block it is skipped as a whole.
func (l *loader) unknown(n *Node, block string) {
	if len(l.findings) >= syntax.MaxFindings && !l.inCluster {
		return // looking for what was meant is slow
	}
	keyword := n.Words[0]
	if why, found := obsolete[[2]string{block, keyword.Text}]; found && !n.IsBlock {
		l.warnf(CodeObsolete, keyword, "%s is a word of old releases and is ignored: %s", keyword.Text, why)
		return
	}
	skipped := "this line is skipped"
	code := CodeUnknownWord
	if n.IsBlock {
		skipped, code = "the whole block is skipped", CodeUnknownBlock
	}
	homes := words.Homes(keyword.Text)
	where := blockTitle(block)
	for _, home := range homes {
		row := words.Lookup(home, keyword.Text)
		newer, deprecated := strings.CutPrefix(row.Meaning, "Deprecated spelling of ")
		if deprecated && sameParent(home, block) && words.Lookup(block, newer) != nil {
			l.warnf(CodeObsolete, keyword,
				"%s is an old spelling of %s that %s does not know; %s", keyword.Text, newer, where, skipped)
			return
		}
	}
	if len(homes) > 0 {
		l.errorf(CodeMisplaced, keyword,
			"%s belongs %s, not %s; %s", keyword.Text, homeTitles(homes), inBlock(block), skipped)
		return
	}
	hint := strange(keyword.Text)
	if near := l.nearestWord(keyword.Text, block); near != "" {
		hint += "; did you mean " + near + "?"
	}
	l.errorf(code, keyword, "%s does not know %s; %s%s", where, quote(keyword.Text), skipped, hint)
}

func sameParent(a, b string) bool {
	return a[:strings.LastIndexByte(a, '/')+1] == b[:strings.LastIndexByte(b, '/')+1]
}

// nearestWord returns the keyword that was probably meant: one of this block, or else one of another, with its home.
func (l *loader) nearestWord(word, block string) string {
	key := block + " " + word
	if near, known := l.near[key]; known {
		return near
	}
	near, ok := syntax.Nearest(word, words.Names(block))
	if !ok {
		if near, ok = syntax.Nearest(word, words.Keywords()); ok {
			near = fmt.Sprintf("%s, which belongs %s", near, homeTitles(words.Homes(near)))
		}
	}
	l.near[key] = near
	return near
}

// blockTitle is how a block is called in a message.
func blockTitle(block string) string {
	if block == words.Root {
		return "the top level"
	}
	return "the block " + lastName(block)
}

// inBlock says where something stands.
func inBlock(block string) string {
	if block == words.Root {
		return "outside any block"
	}
	return "in " + lastName(block)
}

func lastName(block string) string { return block[strings.LastIndexByte(block, '/')+1:] }

// homeTitles names at most three places where a word may stand.
func homeTitles(blocks []string) string {
	var titles []string
	for _, b := range blocks {
		if title := inBlock(b); !slices.Contains(titles, title) {
			titles = append(titles, title)
		}
	}
	if len(titles) > 3 {
		titles = append(titles[:3], "others")
	}
	for i, title := range titles {
		if i > 0 {
			titles[i] = strings.TrimPrefix(title, "in ")
		}
	}
	last := len(titles) - 1
	if last == 0 {
		return titles[0]
	}
	return strings.Join(titles[:last], ", ") + " or " + titles[last]
}

// tellEffect says once for each word that had does nothing about it.
func (l *loader) tellEffect(s statement) {
	if l.effects[s.row] {
		return
	}
	l.effects[s.row] = true
	if newer, deprecated := strings.CutPrefix(s.row.Meaning, "Deprecated spelling of "); deprecated {
		newer, _, _ = strings.Cut(newer, " ")
		l.warnf(CodeDeprecated, s.Words[0], "%s is an old spelling of %s", s.Keyword(), newer)
	}
	effect, text := words.EffectOf(s.row.Block, s.row.Word)
	switch effect {
	case words.NoEffect, words.Inert:
		l.notef(CodeNoEffect, s.Words[0], "%s has no effect: %s", s.Keyword(), text)
	case words.Warned:
		l.warnf(CodeNotDone, s.Words[0], "%s is not done by this version: %s", s.Keyword(), text)
	case words.Refused:
		delete(l.effects, s.row) // it is an error wherever it stands
		l.fatalf(CodeUnsupported, s.Words[0], "%s is not done by this version: %s", s.Keyword(), text)
	}
}
