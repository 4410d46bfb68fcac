package syntax

import (
	"path"
	"slices"
	"strings"
)

// includeWords are the words that include files, with the checks that each of them adds.
var includeWords = map[string]Checks{
	"include":  0,
	"includer": CheckRead,
	"includem": CheckRead | CheckMatch,
	"includew": CheckRead | CheckMatch | CheckWildcard,
	"includeb": CheckRead | CheckBrace,
	"includea": CheckRead | CheckMatch | CheckWildcard | CheckBrace,
}

// include takes a line "include PATTERN" and tells whether t is one.
func (r *reader) include(t text) bool {
	end := 0
	for end < t.len() && !isBlank(t.b[end]) {
		end++
	}
	checks, found := includeWords[string(t.b[:end])]
	if !found {
		return false
	}
	keyword := string(t.b[:end])
	o := t.origin(0)
	pattern := t.slice(end, t.len()).trim()
	if pattern.len() == 0 {
		r.report(Error, CodeInclude, o, "%s needs the name of a file", keyword)
		return true
	}
	p := pattern.origin(0)
	name := pattern.String()
	if len(name) > 2 && name[0] == '"' && name[len(name)-1] == '"' {
		r.report(Warning, CodeInclude, p,
			"keepalived takes the quotes as part of the name and would find nothing; read without them")
		name = name[1 : len(name)-1]
	}
	names, problems := r.match(name, r.directory(), r.checks|checks)
	for _, problem := range problems {
		r.add(Finding{
			Severity: problem.severity, Fatal: problem.severity == Error, Code: CodeInclude,
			Pos: r.pos(p.at), Used: r.pos(p.used), Message: problem.text,
		})
	}
	for _, name := range names {
		if r.stopped {
			break
		}
		r.file(name, p)
	}
	return true
}

// problem is something about a pattern: an Error fails a check that is in force.
type problem struct {
	severity Severity
	text     string
}

// match returns the files that a pattern names, alternative by alternative, each sorted by name. A relative one starts at
// dir. Directories, other things that are no regular files, and files that anybody may execute are left out.
func (r *reader) match(pattern, dir string, checks Checks) (names []string, problems []problem) {
	alternatives, ok := expandBraces(pattern, nil)
	if !ok {
		return nil, []problem{{Error, pattern + " has too many alternatives"}}
	}
	for i, alternative := range alternatives {
		if !path.IsAbs(alternative) {
			alternatives[i] = path.Join(dir, alternative)
		}
	}
	matched := false
	var empty []string
	for _, alternative := range alternatives {
		found := r.glob(alternative)
		if len(found) == 0 {
			empty = append(empty, alternative)
		}
		matched = matched || len(found) > 0
		for _, name := range found {
			if reason := r.unreadable(name); reason != "" {
				severity := Warning
				if checks&CheckRead != 0 {
					severity = Error
				}
				problems = append(problems, problem{severity, name + " is left out: " + reason})
				continue
			}
			names = append(names, name)
		}
	}
	if len(alternatives) > 1 && len(empty) > 0 && checks&CheckBrace != 0 {
		problems = append(problems, problem{Error, "no file matches " + strings.Join(empty, ", ")})
	} else if !matched {
		needed, severity := CheckMatch, Note
		if slices.ContainsFunc(alternatives, hasWildcard) {
			needed = CheckWildcard
		}
		if checks&needed != 0 {
			severity = Error
		}
		problems = append(problems, problem{severity, "no file matches " + pattern})
	}
	return names, problems
}

// unreadable tells why a file that a pattern matches is left out; empty if it is not.
func (r *reader) unreadable(name string) string {
	info, err := r.opts.Files.Stat(name)
	switch {
	case err != nil:
		return err.Error()
	case info.IsDir():
		return "it is a directory"
	case !info.Mode().IsRegular():
		return "it is not a regular file"
	case info.Mode()&0o111 != 0:
		return "it is executable"
	}
	return ""
}

// expandBraces appends the alternatives of a pattern with braces to out. ok is false if there are too many.
func expandBraces(pattern string, out []string) (_ []string, ok bool) {
	open := -1
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' {
			i++
		} else if pattern[i] == '{' && !strings.HasPrefix(pattern[i:], "{}") {
			open = i
			break
		}
	}
	if open < 0 {
		return append(out, pattern), len(out) < maxAlternates
	}
	var cuts []int // the commas of this brace, and its end
	depth, end := 0, -1
	for i := open; i < len(pattern) && end < 0; i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '{':
			depth++
		case ',':
			if depth == 1 {
				cuts = append(cuts, i)
			}
		case '}':
			if depth--; depth == 0 {
				end = i
			}
		}
	}
	if end < 0 {
		return append(out, pattern), len(out) < maxAlternates
	}
	start := open + 1
	for _, cut := range append(cuts, end) {
		if out, ok = expandBraces(pattern[:open]+pattern[start:cut]+pattern[end+1:], out); !ok {
			return out, false
		}
		start = cut + 1
	}
	return out, true
}

func hasWildcard(pattern string) bool { return strings.ContainsAny(pattern, "*?[") }

// glob returns the names that match a pattern without braces, sorted.
func (r *reader) glob(pattern string) []string {
	if !hasWildcard(pattern) {
		if _, err := r.opts.Files.Stat(pattern); err != nil {
			return nil
		}
		return []string{pattern}
	}
	// path.Match negates a class with ^ only, a shell with ! as well.
	pattern = strings.ReplaceAll(pattern, "[!", "[^")
	dirs := []string{""}
	if strings.HasPrefix(pattern, "/") {
		dirs = []string{"/"}
		pattern = strings.TrimLeft(pattern, "/")
	}
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		var next []string
		for _, dir := range dirs {
			next = append(next, r.globIn(dir, part, i == len(parts)-1)...)
		}
		dirs = next
	}
	slices.Sort(dirs)
	return dirs
}

// globIn returns the entries of a directory that match one part of a pattern. Those of a part that is not the last one
// may turn out not to be directories.
func (r *reader) globIn(dir, part string, last bool) []string {
	if !hasWildcard(part) {
		name := path.Join(dir, part)
		if last {
			if _, err := r.opts.Files.Stat(name); err != nil {
				return nil
			}
		}
		return []string{name}
	}
	from := dir
	if from == "" {
		from = "."
	}
	entries, err := r.opts.Files.ReadDir(from)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(part, ".") {
			continue
		}
		if ok, err := path.Match(part, e.Name()); ok && err == nil {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	return names
}

// includeCheckWords are the words of include_check.
var includeCheckWords = map[string]Checks{
	"read":           CheckRead,
	"match":          CheckMatch,
	"wildcard_match": CheckWildcard,
	"brace_match":    CheckBrace,
}

// includeCheck takes "include_check [TYPE] [+TYPE|-TYPE ...]", which holds for the include lines that follow in this file.
func (r *reader) includeCheck(n *Node) {
	if len(n.Words) == 1 {
		r.checks = CheckRead | CheckMatch | CheckWildcard | CheckBrace
		return
	}
	for i, w := range n.Words[1:] {
		name, sign := w.Text, byte(0)
		if name != "" && (name[0] == '+' || name[0] == '-') {
			name, sign = name[1:], name[0]
		}
		check, known := includeCheckWords[name]
		message := ""
		switch {
		case !known:
			message = name + " is none of read, match, wildcard_match, brace_match"
		case sign == '+':
			r.checks |= check
		case sign == '-':
			r.checks &^= check
		case i > 0:
			message = "only the first word may stand without + or -"
		default:
			r.checks = CheckRead | check
		}
		if message != "" {
			r.add(Finding{Severity: Error, Code: CodeInclude, Pos: w.Pos, Used: w.Used, Message: "include_check: " + message})
		}
	}
}
