package syntax

import (
	"fmt"
	"slices"
)

// builder makes a tree of statements and braces.
type builder struct {
	reader  *reader
	grammar Grammar
	root    *Node
	stack   []*frame // open blocks, outermost first; the first is the top level
}

// frame is an open block.
type frame struct {
	node  *Node    // whose block it is
	path  []string // keywords of the blocks down to this one
	shape Shape    // Statements, Values or Names; Unknown in a block that is not known
	from  origin   // of the opening brace, or of the keyword

	// bare is a pair of braces that belongs to no statement: what is in it belongs to the block around.
	bare bool

	// implied says that the block has no opening brace. It ends where a keyword of the block around begins.
	implied bool

	// pending is the last statement, as long as a brace may follow that belongs to it.
	pending     *Node
	pendingSpec Spec
	pendingFrom origin
}

func newBuilder(r *reader, grammar Grammar) *builder {
	root := &Node{}
	return &builder{reader: r, grammar: grammar, root: root, stack: []*frame{{node: root, shape: Statements}}}
}

func (b *builder) top() *frame { return b.stack[len(b.stack)-1] }

// statement takes the text between two braces of a line; it may be empty.
func (b *builder) statement(t text) {
	for t.len() > 0 {
		b.settle()
		t = b.one(t)
	}
}

// settle opens the block of a statement that should have one although its brace is missing.
func (b *builder) settle() {
	f := b.top()
	n := f.pending
	if n == nil {
		return
	}
	f.pending = nil
	switch f.pendingSpec.Shape {
	case Statements, Values, Names:
		b.push(n, f.pendingSpec.Shape, f.pendingFrom)
		b.top().implied = true
		b.reader.report(Error, CodeBrace, f.pendingFrom, "%s begins a block: a { is missing after it", n.Keyword())
	}
}

// one takes the first statement of a text and returns what is left.
func (b *builder) one(t text) text {
	f := b.top()
	fields, unclosed := t.fields()
	if f.shape == Values {
		// A line that begins with a keyword of a block around, where no value can: the closing brace is missing.
		if w := fields[0]; !w.quoted && !b.grammar.Value(f.path, w.text) {
			if depth := b.knownAround(w.text, false, 0); depth >= 0 {
				b.missingClose(depth, t.origin(0), w.text)
				return t
			}
		}
	}
	if f.shape != Statements {
		b.add(f, t, fields, Spec{})
		return text{}
	}
	keyword := fields[0]
	spec := b.grammar.Spec(f.path, keyword.text)
	if spec.Shape == Unknown && f.implied {
		if depth := b.knownAround(keyword.text, false, 0); depth >= 0 {
			b.stack = b.stack[:depth+1]
			b.top().pending = nil
			return t
		}
	}
	if spec.Command {
		fields, unclosed = t.commandFields()
	}
	if unclosed >= 0 {
		b.reader.unclosedQuote(t.origin(unclosed))
	}
	args := fields[1:]
	if spec.Command && (spec.Max != 1 || len(args) == 0 || !args[0].quoted) {
		// Whether a further word is an argument, a user or the next statement cannot be told.
		b.add(f, t, fields, spec)
		return text{}
	}
	if spec.Shape == Unknown {
		b.add(f, t, fields, spec)
		return text{}
	}
	next := len(args)
	if spec.Max >= 0 && spec.Max < next {
		next = spec.Max
	}
	if spec.Literal && spec.Min < next {
		next = spec.Min
	}
	for ; next < len(args); next++ {
		if w := args[next]; !w.quoted && b.grammar.Spec(f.path, w.text).Shape != Unknown {
			break
		}
	}
	if next == len(args) {
		b.add(f, t, fields, spec)
		return text{}
	}
	cut := args[next].start
	if !spec.Free {
		b.reader.report(Warning, CodeSecondStatement, t.origin(cut),
			"%s begins a second statement on this line; keepalived ignores it, had reads it", args[next].text)
	}
	b.add(f, t.slice(0, cut).trim(), fields[:next+1], spec)
	return t.slice(cut, t.len())
}

// add puts a statement into a block and remembers it for a brace that may follow.
func (b *builder) add(f *frame, t text, fields []field, spec Spec) {
	n := &Node{Words: make([]Word, 0, len(fields)), Line: t.String(), Known: spec.Shape != Unknown}
	for _, w := range fields {
		n.Words = append(n.Words, b.reader.word(t, w))
	}
	f.node.Children = append(f.node.Children, n)
	f.pending, f.pendingSpec, f.pendingFrom = n, spec, t.origin(0)
	if len(f.path) == 1 && f.path[0] == "global_defs" && n.Known && n.Keyword() == "include_check" {
		b.reader.includeCheck(n)
	}
}

// openBrace takes an opening brace.
func (b *builder) openBrace(o origin) {
	f := b.top()
	n := f.pending
	if n == nil {
		b.reader.report(Error, CodeBrace, o,
			"this { belongs to nothing; what it holds is read as if the brace were not there")
		b.pushBare(o)
		return
	}
	spec, keyword := f.pendingSpec, n.Keyword()
	switch spec.Shape {
	case Statements, Values, Names:
		f.pending = nil
		n.Open = b.reader.pos(o.at)
		b.push(n, spec.Shape, o)
		return
	case Plain:
		f.pending = nil
		b.reader.report(Error, CodeBrace, o,
			"%s has no block; what the braces hold is read as if they were not there", keyword)
		b.pushBare(o)
		return
	}
	if depth := b.knownAround(keyword, true, len(n.Words)-1); depth >= 0 {
		b.hoist(depth, o)
		return
	}
	f.pending = nil
	n.Open = b.reader.pos(o.at)
	b.push(n, Unknown, o)
}

// knownAround returns the index in the stack of the innermost block around the current one in which word is a keyword, or
// -1; with block set, the keyword of a block that takes this number of arguments.
func (b *builder) knownAround(word string, block bool, args int) int {
	for i := len(b.stack) - 2; i >= 0; i-- {
		f := b.stack[i]
		if f.shape != Statements || f.bare {
			continue
		}
		spec := b.grammar.Spec(f.path, word)
		if spec.Shape == Unknown || block && (spec.Shape == Plain || args < spec.Min || spec.Max >= 0 && args > spec.Max) {
			continue
		}
		return i
	}
	return -1
}

// missingClose ends all blocks deeper than depth, because a closing brace seems to be missing before o.
func (b *builder) missingClose(depth int, o origin, word string) {
	f := b.top()
	b.reader.report(Error, CodeBrace, o, "%s is no value for %s: the } of line %d is missing before it",
		word, f.node.Keyword(), f.from.at.line)
	b.stack = b.stack[:depth+1]
	b.top().pending = nil
}

// hoist takes the pending statement of the current block, whose opening brace was just seen, to the block in which its
// keyword is known. A block of values ends there; another one goes on after the block that was moved.
func (b *builder) hoist(depth int, o origin) {
	f, home := b.top(), b.stack[depth]
	n := f.pending
	f.pending = nil
	f.node.Children = slices.DeleteFunc(f.node.Children, func(c *Node) bool { return c == n })
	where := "outside any block"
	if len(home.path) > 0 {
		where = "in " + home.path[len(home.path)-1]
	}
	b.reader.report(Error, CodeBrace, f.pendingFrom, "%s belongs %s, not in %s: a } may be missing (its { is on line %d)",
		n.Keyword(), where, describe(f), f.from.at.line)
	spec := b.grammar.Spec(home.path, n.Keyword())
	n.Known = true
	n.Open = b.reader.pos(o.at)
	home.node.Children = append(home.node.Children, n)
	if f.shape == Values || f.shape == Names {
		b.stack = b.stack[:depth+1]
	}
	b.pushAt(home, n, spec.Shape, o)
}

func describe(f *frame) string {
	if f.bare {
		return "these braces"
	}
	return f.node.Keyword()
}

func (b *builder) push(n *Node, shape Shape, o origin) { b.pushAt(b.top(), n, shape, o) }

// pushAt opens the block of n, a statement of the block home.
func (b *builder) pushAt(home *frame, n *Node, shape Shape, o origin) {
	n.IsBlock = true
	path := append(slices.Clone(home.path), n.Keyword())
	if home.shape == Unknown {
		shape = Unknown
	}
	b.limit(o)
	b.stack = append(b.stack, &frame{node: n, path: path, shape: shape, from: o})
}

// pushBare opens braces that belong to nothing.
func (b *builder) pushBare(o origin) {
	f := b.top()
	b.limit(o)
	b.stack = append(b.stack, &frame{node: f.node, path: f.path, shape: f.shape, from: o, bare: true})
}

func (b *builder) limit(o origin) {
	if len(b.stack) > MaxNesting {
		b.reader.stop(o, "more than %d blocks in one another", MaxNesting)
	}
}

// closeBrace takes a closing brace.
func (b *builder) closeBrace(o origin) {
	b.settle()
	f := b.top()
	if len(b.stack) == 1 {
		f.pending = nil
		b.reader.report(Error, CodeBrace, o, "this } closes nothing and is ignored")
		return
	}
	if !f.bare {
		f.node.Close = b.reader.pos(o.at)
	}
	b.stack = b.stack[:len(b.stack)-1]
	b.top().pending = nil
}

// end takes the end of the input.
func (b *builder) end() {
	b.settle()
	for len(b.stack) > 1 {
		f := b.top()
		what := "this {"
		if !f.bare {
			what = fmt.Sprintf("the block %s", f.node.Keyword())
		}
		b.reader.report(Error, CodeBrace, f.from, "%s is not closed before the end of the file", what)
		b.stack = b.stack[:len(b.stack)-1]
	}
}
