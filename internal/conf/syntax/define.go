package syntax

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// definition is $NAME=value. A value of several lines becomes several lines where it is used.
type definition struct {
	name  text
	lines []text // at least one, once complete
}

func isNameStart(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isName(c byte) bool      { return isNameStart(c) || c >= '0' && c <= '9' }

// nameLen returns the length of the name at the start of b.
func nameLen(b []byte) int {
	if len(b) == 0 || !isNameStart(b[0]) {
		return 0
	}
	n := 1
	for n < len(b) && isName(b[n]) {
		n++
	}
	return n
}

// definition takes a line "$NAME=value" and tells whether t is one.
func (r *reader) definition(t text) bool {
	if t.len() == 0 || t.b[0] != '$' {
		return false
	}
	n := 1 + nameLen(t.b[1:])
	if n == 1 || n >= t.len() || t.b[n] != '=' {
		return false
	}
	d := &definition{name: t.slice(1, n)}
	value := t.slice(n+1, t.len()).trim()
	if value.len() == 0 || value.b[value.len()-1] != '\\' {
		d.lines = []text{value}
		r.define(d)
		return true
	}
	r.collecting = d
	r.continueDefinition(value)
	return true
}

// continueDefinition takes a further line of the definition that is being collected. The first line that does not end in
// a backslash is the last one; a line that holds nothing else than the backslash is dropped.
func (r *reader) continueDefinition(t text) {
	d, more := r.collecting, t.len() > 0 && t.b[t.len()-1] == '\\'
	if more {
		t = t.slice(0, t.len()-1).trim()
	}
	if t.len() > 0 {
		d.lines = append(d.lines, t)
	}
	if !more {
		r.collecting = nil
		r.define(d)
	}
}

func (r *reader) define(d *definition) {
	if len(d.lines) == 0 {
		d.lines = []text{{}}
	}
	r.definitions[d.name.String()] = d
}

// reference is a $NAME or ${NAME} in a text.
type reference struct {
	start, end int
	name       string
	args       []string // of a built-in name
	braced     bool
}

// findReference returns the first reference in t from index i on.
func findReference(t text, i int) (reference, bool) {
	for ; i < t.len(); i++ {
		if t.b[i] != '$' {
			continue
		}
		rest := t.b[i+1:]
		if n := nameLen(rest); n > 0 {
			if n == len(rest) || isBlank(rest[n]) || rest[n] == ',' || rest[n] == ')' {
				return reference{start: i, end: i + 1 + n, name: string(rest[:n])}, true
			}
			continue
		}
		if len(rest) == 0 || rest[0] != '{' {
			continue
		}
		end := bytes.IndexByte(rest, '}')
		if end < 0 {
			continue
		}
		words := strings.Fields(string(rest[1:end]))
		if len(words) == 0 || nameLen(rest[1:end]) != len(words[0]) {
			continue
		}
		return reference{start: i, end: i + 1 + end + 1, name: words[0], args: words[1:], braced: true}, true
	}
	return reference{}, false
}

// replaceReferences replaces the references in t, from left to right; what was inserted is looked at again. A reference to
// a definition of several lines ends the line: its further lines, and what follows it, come back in rest. Names that are
// not defined stay.
func (r *reader) replaceReferences(t text) (out text, rest []text, changed bool) {
	skip := 0
	for replaced := 0; ; {
		ref, found := findReference(t, skip)
		if !found {
			r.almost(t)
			return t, rest, changed
		}
		o := t.origin(ref.start)
		lines, defined := r.value(ref, o)
		if !defined {
			r.undefined(ref, o, bytes.Count(t.b[:ref.start], []byte{'"'})%2 == 1)
			skip = ref.end
			continue
		}
		if replaced++; replaced > maxReplaced {
			r.report(Error, CodeDefinition, o,
				"the line has more than %d references, or $%s refers to itself; they stay as they are",
				maxReplaced, ref.name)
			return t, rest, false
		}
		before, after := t.slice(0, ref.start), t.slice(ref.end, t.len())
		first := lines[0].replacement(o)
		var next text
		if len(lines) == 1 {
			next = join(before, first, after)
		} else {
			next = join(before, first)
		}
		if next.len() > MaxLine {
			r.report(Error, CodeLongLine, o,
				"with $%s replaced the line has more than %d bytes; the reference stays as it is",
				ref.name, MaxLine)
			skip = ref.end
			continue
		}
		if len(lines) > 1 {
			var injected []text
			for _, line := range lines[1:] {
				injected = append(injected, line.replacement(o))
			}
			if after = after.trim(); after.len() > 0 {
				r.report(Warning, CodeDefinition, o,
					"$%s has several lines and does not end this one: the rest is read as a line of its own after them", ref.name)
				injected = append(injected, after)
			}
			rest = append(injected, rest...)
		}
		t, changed, skip = next, true, ref.start
	}
}

// undefined reports a reference to a name that nobody defined: one that looks like a slip, and one in braces, which nothing
// else could have been. Those in quotes are left to scripts.
func (r *reader) undefined(ref reference, o origin, quoted bool) {
	if r.undefinedSeen[o] {
		return
	}
	r.undefinedSeen[o] = true
	names := make([]string, 0, len(r.definitions)+len(builtIns))
	for name := range r.definitions {
		names = append(names, name)
	}
	names = append(names, builtIns...)
	if near, ok := Nearest(ref.name, names); ok {
		r.report(Warning, CodeUndefined, o, "$%s is not defined and stays as it is; did you mean $%s?", ref.name, near)
	} else if ref.braced && !quoted {
		r.report(Warning, CodeUndefined, o, "$%s is not defined and stays as it is", ref.name)
	}
}

// almost reports a defined name that stays because of what follows it.
func (r *reader) almost(t text) {
	if bytes.IndexByte(t.b, '$') < 0 {
		return
	}
	for i := 0; i < t.len(); i++ {
		if t.b[i] != '$' {
			continue
		}
		n := nameLen(t.b[i+1:])
		name, o := string(t.b[i+1:i+1+n]), t.origin(i)
		if ref, found := findReference(t, i); found && ref.start == i || r.definitions[name] == nil || r.undefinedSeen[o] {
			continue
		}
		r.undefinedSeen[o] = true
		r.report(Warning, CodeUndefined, o, "$%s stays as it is because of what follows it: write ${%s}", name, name)
	}
}

var builtIns = []string{"_PWD", "_INSTANCE", "_RANDOM", "_ENV", "_HASH", "_BANG"}

// value returns the lines that replace a reference at o.
func (r *reader) value(ref reference, o origin) (lines []text, defined bool) {
	if d, ok := r.definitions[ref.name]; ok && len(ref.args) == 0 {
		return d.lines, true
	}
	if !ref.braced {
		return nil, false
	}
	one := func(s string, o origin) ([]text, bool) { return []text{made(s, o)}, true }
	switch {
	case ref.name == "_PWD" && len(ref.args) == 0:
		dir := r.directory()
		if dir == "" {
			dir = "."
		}
		return one(dir, o)
	case ref.name == "_INSTANCE" && len(ref.args) == 0:
		return one(r.opts.ConfigID, o)
	case ref.name == "_HASH" && len(ref.args) == 0:
		o.kept = true
		return one("#", o)
	case ref.name == "_BANG" && len(ref.args) == 0:
		o.kept = true
		return one("!", o)
	case ref.name == "_ENV" && len(ref.args) == 1:
		value := ""
		if r.opts.Env != nil {
			var set bool
			if value, set = r.opts.Env(ref.args[0]); !set {
				r.report(Note, CodeUndefined, o,
					"the environment variable %s is not set and counts as empty", ref.args[0])
			}
		}
		return one(oneLine(value), o)
	case ref.name == "_RANDOM" && len(ref.args) <= 2:
		n, err := r.randomNumber(ref.args)
		if err != nil {
			r.report(Error, CodeDefinition, o, "${_RANDOM}: %v", err)
			return nil, false
		}
		return one(strconv.FormatUint(n, 10), o)
	}
	return nil, false
}

// oneLine returns s with everything that would end or cut a line replaced by a blank.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if c == '\n' || c == '\r' || c == 0 {
			return ' '
		}
		return c
	}, s)
}

// randomNumber returns the next number of ${_RANDOM [MIN [MAX]]}.
func (r *reader) randomNumber(args []string) (uint64, error) {
	bounds := [2]uint64{0, 32767}
	for i, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("%s is not a number in 0..%d", arg, 1<<31-1)
		}
		bounds[i] = n
	}
	if bounds[0] > bounds[1] {
		return 0, fmt.Errorf("the least number %d is above the greatest, %d", bounds[0], bounds[1])
	}
	// SplitMix64: a full-period generator whose state is one word.
	r.random += 0x9e3779b97f4a7c15
	z := r.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return bounds[0] + z%(bounds[1]-bounds[0]+1), nil
}
