// Package words is the table of all words of keepalived.conf, and of the cluster block that had adds: which block knows
// which word, what follows it, its unit, default and range, and how common it is. The parser takes its grammar from here,
// `hactl config explain` its texts, and a test compares it with a list that was collected from keepalived itself.
package words

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hactl/had/internal/conf/syntax"
)

// Kind says where a word is recognised. The zero Kind is not valid.
type Kind uint8

// The kinds.
const (
	Keyword Kind = iota + 1 // begins a statement of its block
	Value                   // inside a value or an argument of the word or block that its block names
	Lexical                 // syntax of the file
)

// String returns the name of the kind.
func (k Kind) String() string {
	switch k {
	case Keyword:
		return "keyword"
	case Value:
		return "value"
	case Lexical:
		return "lexical"
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Root is the name of the block of what stands outside any block.
const Root = "(root)"

// Row is one word of one block.
//
// Args is in the notation of the list: UPPER is a placeholder, [x] optional, a|b a choice, ... a repetition, BOOL one of
// on, true, yes, off, false, no, DEC a decimal number, INT a whole one, SCRIPT one quoted command, { } a block.
type Row struct {
	Block   string // names of the blocks down to this one, separated by slashes; Root at the top
	Kind    Kind
	Word    string
	Args    string
	Unit    string
	Default string
	Range   string
	Tier    int // 1 everyday, 2 serious production, 3 rare, deprecated or without effect
	Meaning string
	Own     bool // had's, not keepalived's

	spec   syntax.Spec
	typ    Type
	limits Limits
}

// Type is what the first argument of a word is.
type Type uint8

// The types of arguments that can be checked without knowing the word.
const (
	Other Type = iota
	Int
	Dec
	Bool
	Port
	Addr
)

// Limits is the range of a number. It is in the unit in which the number is written, in millionths.
type Limits struct {
	Min, Max       int64
	HasMin, HasMax bool
}

// Contains tells whether a value in millionths is in range.
func (l Limits) Contains(micro int64) bool {
	return (!l.HasMin || micro >= l.Min) && (!l.HasMax || micro <= l.Max)
}

// Spec says how the parser reads the statement.
func (r *Row) Spec() syntax.Spec { return r.spec }

// Type returns the type of the first argument.
func (r *Row) Type() Type { return r.typ }

// Limits returns the range of the first argument if it is a number.
func (r *Row) Limits() Limits { return r.limits }

// table is a block of the source tables. With like it has the rows of that block too, but for those in without and those
// that it gives itself.
type table struct {
	block   string
	kind    Kind
	own     bool
	like    string
	without []string
	rows    []entry
}

type entry struct {
	word, args, unit, def, rng string
	tier                       int
	meaning                    string
}

// arities are the bounds of the number of arguments that cannot be read off Args.
var arities = map[[2]string][2]int{
	{Root, "virtual_server"}:                                  {1, 2},
	{"global_defs", "umask"}:                                  {1, -1},
	{"vrrp_instance", "debug"}:                                {0, 1}, // tutorials have it without a level
	{"virtual_server", "lvs_sched"}:                           {1, 1},
	{"virtual_server", "lvs_method"}:                          {1, 6},
	{"virtual_server", "persistence_granularity"}:             {1, 1},
	{"virtual_server", "sorry_server_lvs_method"}:             {1, 6},
	{"virtual_server/real_server", "lvs_method"}:              {1, 6},
	{"virtual_server/real_server/UDP_CHECK", "payload"}:       {1, -1},
	{"virtual_server/real_server/UDP_CHECK", "require_reply"}: {0, -1},
}

// index holds the rows by block and word.
type index struct {
	blocks []string // in the order of the tables
	rows   map[string][]*Row
	words  map[string]map[string]*Row
	homes  map[string][]string // blocks of each keyword

	keywords []string // of all blocks
}

var all = build(slices.Concat(globalTables, lvsTables[:1], staticTables, vrrpTables, lvsTables[1:], clusterTables, ownTables))

func build(tables []table) *index {
	x := &index{
		rows:  make(map[string][]*Row),
		words: make(map[string]map[string]*Row),
		homes: make(map[string][]string),
	}
	for _, t := range tables {
		if x.words[t.block] == nil {
			x.blocks = append(x.blocks, t.block)
			x.words[t.block] = make(map[string]*Row)
		}
		add := func(r Row) {
			r.Block, r.Kind, r.Own = t.block, t.kind, t.own
			r.compile()
			x.rows[t.block] = append(x.rows[t.block], &r)
			x.words[t.block][r.Word] = &r
			if r.Kind == Keyword {
				if x.homes[r.Word] == nil {
					x.keywords = append(x.keywords, r.Word)
				}
				x.homes[r.Word] = append(x.homes[r.Word], t.block)
			}
		}
		for _, r := range x.rows[t.like] {
			given := slices.ContainsFunc(t.rows, func(e entry) bool { return e.word == r.Word })
			if given || slices.Contains(t.without, r.Word) {
				continue
			}
			add(*r)
		}
		for _, e := range t.rows {
			add(Row{
				Word: e.word, Args: e.args, Unit: e.unit, Default: e.def, Range: e.rng, Tier: e.tier, Meaning: e.meaning,
			})
		}
	}
	return x
}

// Lookup returns the row of a word in a block, or nil.
func Lookup(block, word string) *Row { return all.words[block][word] }

// Blocks returns the names of all blocks in the order of the table.
func Blocks() []string { return slices.Clone(all.blocks) }

// Rows returns the rows of a block in the order of the table. They must not be changed.
func Rows(block string) []*Row { return slices.Clone(all.rows[block]) }

// Homes returns the blocks that know a keyword, in the order of the table.
func Homes(keyword string) []string { return slices.Clone(all.homes[keyword]) }

// Keywords returns all keywords of all blocks, each once, in the order of the table. The result must not be changed.
func Keywords() []string { return all.keywords }

// Names returns the words of a block.
func Names(block string) []string {
	var names []string
	for _, r := range all.rows[block] {
		names = append(names, r.Word)
	}
	return names
}

// BlockName returns the name under which the table knows the block that a path leads to.
func BlockName(path []string) string {
	if len(path) == 0 {
		return Root
	}
	return strings.Join(path, "/")
}

// Grammar gives the table to the parser.
type Grammar struct{}

// Spec implements syntax.Grammar.
func (Grammar) Spec(path []string, keyword string) syntax.Spec {
	r := Lookup(BlockName(path), keyword)
	if r == nil || r.Kind != Keyword {
		return syntax.Spec{}
	}
	return r.spec
}

// Value implements syntax.Grammar: in blocks whose lines begin with a name anything may be one.
func (Grammar) Value(path []string, word string) bool {
	block := BlockName(path)
	switch path[len(path)-1] {
	case "track_interface", "track_script", "track_file", "track_process", "track_bfd",
		"linkbeat_interfaces", "interface_up_down_delays":
		return true
	}
	return Lookup(block, word) != nil
}

// compile reads off Args and Range what the parser needs.
func (r *Row) compile() {
	head, block, isBlock := strings.Cut(r.Args, "{")
	tokens := strings.Fields(head)
	first := ""
	if len(tokens) > 0 {
		first = strings.Trim(tokens[0], "[]")
	}
	switch first {
	case "INT":
		r.typ = Int
	case "DEC":
		r.typ = Dec
	case "BOOL":
		r.typ = Bool
	case "PORT":
		r.typ = Port
	case "ADDR":
		r.typ = Addr
	}
	r.limits = parseLimits(r.Range)
	if r.typ == Port {
		r.limits = Limits{Min: 1e6, Max: 65535e6, HasMin: true, HasMax: true}
	}
	if r.Kind != Keyword {
		return
	}
	r.spec = syntax.Spec{Shape: syntax.Plain, Literal: literal(tokens), Free: r.Own}
	r.spec.Min, r.spec.Max = arity(tokens)
	if bounds, given := arities[[2]string{r.Block, r.Word}]; given {
		r.spec.Min, r.spec.Max = bounds[0], bounds[1]
		r.spec.Literal = r.spec.Literal || r.typ == Int
	}
	r.spec.Command = first == "SCRIPT" || first == "PATTERN"
	if isBlock {
		content := strings.Fields(strings.TrimSuffix(strings.TrimSpace(block), "}"))
		switch {
		case len(content) == 1 && content[0] == "block":
			r.spec.Shape = syntax.Statements
		case len(content) == 2 && content[1] == "...":
			r.spec.Shape = syntax.Names
		default:
			r.spec.Shape = syntax.Values
		}
	}
}

// arity counts the words that a notation asks for: those outside brackets, and all of them; a repetition has no bound.
func arity(tokens []string) (least, most int) {
	depth := 0
	for _, t := range tokens {
		optional := depth > 0 || strings.HasPrefix(t, "[")
		depth += strings.Count(t, "[") - strings.Count(t, "]")
		if strings.HasPrefix(t, "...") {
			most = -1
			break
		}
		if !optional {
			least++
		}
		most++
	}
	return least, most
}

// literal tells whether all optional words are numbers or words that the notation names, so that a keyword cannot be one.
func literal(tokens []string) bool {
	found := false
	for _, t := range tokens {
		if !strings.HasPrefix(t, "[") {
			continue
		}
		found = true
		switch name := strings.Trim(t, "[]"); name {
		case "BOOL", "INT", "PORT", "VS":
		default:
			if name != strings.ToLower(name) || !strings.HasSuffix(t, "]") {
				return false
			}
		}
	}
	return found
}

// parseLimits reads "A..B", "A.." or ">=A" at the start of a range. Anything else is no limit.
func parseLimits(s string) Limits {
	var l Limits
	if rest, found := strings.CutPrefix(s, ">="); found {
		l.Min, _, l.HasMin = leadingMicro(rest)
		return l
	}
	low, rest, ok := leadingMicro(s)
	if !ok {
		return Limits{}
	}
	if rest, ok = strings.CutPrefix(rest, ".."); !ok {
		return Limits{}
	}
	l.Min, l.HasMin = low, true
	l.Max, _, l.HasMax = leadingMicro(rest)
	return l
}

// leadingMicro reads the decimal number at the start of s, in millionths.
func leadingMicro(s string) (micro int64, rest string, ok bool) {
	i := 0
	if i < len(s) && s[i] == '-' {
		i++
	}
	digits := i
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	if i == digits {
		return 0, s, false
	}
	if i+1 < len(s) && s[i] == '.' && s[i+1] != '.' {
		i++
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
	}
	whole, fraction, _ := strings.Cut(s[:i], ".")
	fraction = (fraction + "000000")[:6]
	n, err := strconv.ParseInt(whole+fraction, 10, 64)
	return n, s[i:], err == nil
}
