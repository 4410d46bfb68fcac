package syntax

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Options says what Read reads.
type Options struct {
	Path     string                                     // a file, or a pattern that matches several
	ConfigID string                                     // decides conditions (@ID); the value of ${_INSTANCE}
	Env      func(name string) (value string, set bool) // for ${_ENV NAME}; nil: nothing is set
	Files    Files                                      // must not be nil
	Checks   Checks                                     // in force for include lines from the start
	Seed     uint64                                     // begins the sequence of ${_RANDOM}
	MaxLines int                                        // lines after expansion; 0: 1048576
}

// Tree is what Read has made of a configuration.
type Tree struct {
	Top        []*Node   // statements and blocks outside any block
	Files      []string  // names of all files, in the order in which they were first read
	Conditions []Word    // the identifiers of all conditions (without @ and ^), in the order of reading
	Findings   []Finding // in no useful order
}

// Read reads a configuration. It never fails: what cannot be read is a finding.
func Read(opts Options, grammar Grammar) *Tree {
	r := &reader{
		opts:        opts,
		checks:      opts.Checks,
		definitions: make(map[string]*definition), undefinedSeen: make(map[origin]bool),
		linesLeft: opts.MaxLines,
		random:    opts.Seed,
		tree:      &Tree{},
	}
	if r.linesLeft <= 0 {
		r.linesLeft = maxLines
	}
	r.builder = newBuilder(r, grammar)
	r.top()
	r.builder.end()
	r.tree.Top = r.builder.root.Children
	r.tree.Files = r.fileNames
	return r.tree
}

// reader is the state of one Read.
type reader struct {
	opts    Options
	tree    *Tree
	builder *builder

	fileNames []string // index is place.file
	open      []string // files being read, outermost first
	checks    Checks   // in force for include lines

	definitions map[string]*definition
	collecting  *definition // of several lines, not yet complete

	linesLeft int
	stopped   bool // a bound was reached: nothing more is read
	random    uint64

	conditions    map[Word]bool   // already in Tree.Conditions
	undefinedSeen map[origin]bool // references that were reported, or need not be
	lastQuote     place           // the line that unclosedQuote last reported, without its column
}

// report adds a finding.
func (r *reader) report(severity Severity, code Code, o origin, format string, args ...any) {
	r.add(Finding{
		Severity: severity, Code: code, Pos: r.pos(o.at), Used: r.pos(o.used), Message: fmt.Sprintf(format, args...),
	})
}

// fatal adds a finding with which nothing can be started.
func (r *reader) fatal(code Code, o origin, format string, args ...any) {
	r.add(Finding{
		Severity: Error, Fatal: true, Code: code, Pos: r.pos(o.at), Used: r.pos(o.used),
		Message: fmt.Sprintf(format, args...),
	})
}

func (r *reader) add(f Finding) {
	if len(r.tree.Findings) >= MaxFindings {
		if !f.Fatal {
			return
		}
		r.tree.Findings = r.tree.Findings[:MaxFindings-1] // what keeps the configuration from being used is never left out
	}
	if path := r.builder.top().path; f.Block == "" && len(path) > 0 {
		f.Block = path[0]
	}
	r.tree.Findings = append(r.tree.Findings, f)
}

// stop reports a bound that was reached and ends the reading.
func (r *reader) stop(o origin, format string, args ...any) {
	if !r.stopped {
		r.fatal(CodeLimit, o, format, args...)
	}
	r.stopped = true
}

func (r *reader) pos(p place) Pos {
	if !p.valid() {
		return Pos{}
	}
	return Pos{File: r.fileNames[p.file], Line: int(p.line), Column: int(p.column)}
}

// word makes a Word of a field. A word whose bytes stand in different places is placed where they came together.
func (r *reader) word(t text, f field) Word {
	o := t.origin(f.start)
	for i := f.start + 1; i < f.end && t.from != nil; i++ {
		if next := t.from[i]; next.used != o.used || next.at.file != o.at.file || next.at.line != o.at.line {
			if o.used.valid() {
				o = origin{at: o.used}
			}
			break
		}
	}
	return Word{Text: f.text, Quoted: f.quoted, Pos: r.pos(o.at), Used: r.pos(o.used)}
}

// top reads the files that Options.Path names. At least one must be there and readable.
func (r *reader) top() {
	names, problems := r.match(r.opts.Path, "", CheckRead|CheckMatch|CheckWildcard)
	for _, p := range problems {
		r.add(Finding{Severity: Error, Fatal: true, Code: CodeNoFile, Pos: Pos{File: r.opts.Path}, Message: p.text})
	}
	for _, name := range names {
		r.file(name, origin{})
	}
}

// file reads one file; from is the include line that names it.
func (r *reader) file(name string, from origin) {
	failed := func(code Code, format string, args ...any) {
		f := Finding{Severity: Error, Fatal: true, Code: code, Pos: Pos{File: name}, Message: fmt.Sprintf(format, args...)}
		if from.at.valid() {
			f.Pos, f.Used = r.pos(from.at), r.pos(from.used)
		}
		r.add(f)
	}
	switch {
	case slices.Contains(r.open, name):
		failed(CodeIncludeLoop, "%s includes itself", name)
		return
	case len(r.open) >= MaxDepth:
		failed(CodeLimit, "more than %d files include one another", MaxDepth)
		return
	}
	content, err := r.opts.Files.ReadFile(name)
	switch {
	case err != nil:
		failed(CodeNoFile, "read %s: %v", name, err)
		return
	case len(content) > MaxFile:
		failed(CodeLimit, "%s has %d bytes, more than %d", name, len(content), MaxFile)
		return
	}
	index := slices.Index(r.fileNames, name)
	if index < 0 {
		index = len(r.fileNames)
		r.fileNames = append(r.fileNames, name)
	}
	r.open = append(r.open, name)
	checks := r.checks

	first := place{int32(index), 1, 1}
	if bytes.HasPrefix(content, []byte("\xef\xbb\xbf")) {
		r.report(Note, CodeByteOrderMark, origin{at: first}, "the byte order mark at the start is ignored")
		content = content[3:]
		first.column += 3
	}
	for number, line := int32(1), []byte(nil); len(content) > 0 && !r.stopped; number++ {
		line, content, _ = bytes.Cut(content, []byte("\n"))
		at := place{int32(index), number, 1}
		if number == 1 {
			at = first
		}
		r.physical(bytes.TrimRight(line, "\r"), at)
	}
	if r.collecting != nil {
		r.report(Error, CodeDefinition, r.collecting.name.origin(0),
			"the definition of $%s does not end before the end of the file: its last line must not end in a backslash",
			r.collecting.name)
		r.define(r.collecting)
		r.collecting = nil
	}
	r.checks = checks
	r.open = r.open[:len(r.open)-1]
}

// physical takes one line of a file, without its end.
func (r *reader) physical(line []byte, at place) {
	t := text{b: line, at: at}
	start := origin{at: at}
	if i := bytes.IndexByte(line, 0); i >= 0 {
		r.report(Error, CodeBadLine, t.origin(i), "the line holds a NUL byte and is ignored")
		return
	}
	tooLong := len(line) > MaxLine
	t, unclosed := t.uncomment()
	if tooLong {
		if t.len() == 0 && unclosed < 0 {
			r.report(Note, CodeLongLine, start,
				"the comment is longer than %d bytes; keepalived complains about that", MaxLine)
			return
		}
		r.report(Error, CodeLongLine, start, "the line has %d bytes, more than %d, and is ignored", len(line), MaxLine)
		return
	}
	if r.collecting != nil {
		r.continueDefinition(t)
		return
	}
	if unclosed >= 0 {
		r.unclosedQuote(t.origin(unclosed))
	}
	if t.len() > 0 {
		r.line(t)
	}
}

// unclosedQuote reports a quote without a partner, once for each line.
func (r *reader) unclosedQuote(o origin) {
	at := place{file: o.at.file, line: o.at.line}
	if r.lastQuote == at {
		return
	}
	r.lastQuote = at
	r.report(Error, CodeQuote, o, "the quote is not closed on this line")
}

// line takes a line without blanks at its ends and without a comment, from a file or from an expansion.
func (r *reader) line(t text) {
	if r.stopped {
		return
	}
	if r.linesLeft--; r.linesLeft < 0 {
		r.stop(t.origin(0), "the configuration has too many lines after expansion")
		return
	}
	var follow []text
	for range maxReplaced {
		var kept bool
		if t, kept = r.condition(t); !kept {
			break
		}
		if r.definition(t) || r.generator(t) {
			t = text{}
			break
		}
		replaced, rest, changed := r.replaceReferences(t)
		follow = append(rest, follow...)
		if !changed {
			break
		}
		var unclosed int
		if t, unclosed = replaced.uncomment(); unclosed >= 0 {
			r.unclosedQuote(t.origin(unclosed))
		}
		if t.len() == 0 || t.b[0] != '@' && !bytes.ContainsRune(t.b, '$') {
			break
		}
	}
	if t.len() > 0 {
		r.finished(t)
	}
	for _, next := range follow {
		if next = next.trim(); next.len() > 0 {
			r.line(next)
		}
	}
}

// condition decides the conditions (@ID, @^ID) at the start of a line and removes them. kept is false if the line is not
// for this configuration.
func (r *reader) condition(t text) (rest text, kept bool) {
	for t.len() > 0 && t.b[0] == '@' {
		end := bytes.IndexAny(t.b, " \t")
		if end < 0 {
			r.report(Warning, CodeCondition, t.origin(0), "nothing follows %s on its line, which is ignored", t)
			return text{}, false
		}
		id := t.slice(1, end)
		differs := id.hasPrefix("^")
		if differs {
			id = id.slice(1, id.len())
		}
		r.noteCondition(id)
		if (id.String() == r.opts.ConfigID) == differs {
			return text{}, false
		}
		t = t.slice(end, t.len()).trim()
	}
	return t, t.len() > 0
}

// noteCondition keeps the identifier of a condition, once for each place.
func (r *reader) noteCondition(id text) {
	o := id.origin(0)
	w := Word{Text: id.String(), Pos: r.pos(o.at), Used: r.pos(o.used)}
	if r.conditions == nil {
		r.conditions = make(map[Word]bool)
	}
	if !r.conditions[w] && len(r.tree.Conditions) < MaxFindings {
		r.conditions[w] = true
		r.tree.Conditions = append(r.tree.Conditions, w)
	}
}

// finished takes a line with nothing left to expand: an include line, or statements and braces.
func (r *reader) finished(t text) {
	if r.include(t) {
		return
	}
	if !bytes.ContainsAny(t.b, "{}") {
		r.builder.statement(t)
		return
	}
	start, quoted := 0, false
	for i := 0; i < t.len(); i++ {
		switch c := t.b[i]; {
		case c == '\\':
			i++ // as for comments, the next character is no quote
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '$':
			// The braces of a reference that nobody defined are not those of a block.
			if ref, found := findReference(t, i); found && ref.start == i {
				i = ref.end - 1
			}
		case c == '{' || c == '}':
			r.builder.statement(t.slice(start, i).trim())
			if c == '{' {
				r.builder.openBrace(t.origin(i))
			} else {
				r.builder.closeBrace(t.origin(i))
			}
			start = i + 1
		}
	}
	r.builder.statement(t.slice(start, t.len()).trim())
}

// directory is where relative names of the current file start.
func (r *reader) directory() string {
	if len(r.open) == 0 {
		return ""
	}
	dir := path.Dir(r.open[len(r.open)-1])
	if dir == "." && !strings.HasPrefix(r.open[len(r.open)-1], "./") {
		return ""
	}
	return dir
}
