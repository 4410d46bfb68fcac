package syntax

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// generator takes a line "~SEQ(...) text", "~SEQx(...) text" or "~LST(...) text" and tells whether t is one. The text is
// read once for each set of values.
func (r *reader) generator(t text) bool {
	var parse func(params text) (names []text, rows [][]text, err error)
	rest := t
	switch {
	case t.hasPrefix("~SEQx("):
		rest = t.slice(len("~SEQx("), t.len())
		parse = func(p text) ([]text, [][]text, error) { return sequence(p, true) }
	case t.hasPrefix("~SEQ("):
		rest = t.slice(len("~SEQ("), t.len())
		parse = func(p text) ([]text, [][]text, error) { return sequence(p, false) }
	case t.hasPrefix("~LST("):
		rest = t.slice(len("~LST("), t.len())
		parse = list
	default:
		return false
	}
	o := t.origin(0)
	end := bytes.IndexByte(rest.b, ')')
	if end < 0 {
		r.report(Error, CodeGenerator, o, "the parameters have no closing parenthesis; the line is ignored")
		return true
	}
	params, body := rest.slice(0, end), rest.slice(end+1, rest.len()).trim()
	if body.len() == 0 {
		r.report(Warning, CodeGenerator, o, "nothing follows the parameters; the line is ignored")
		return true
	}
	params, _, _ = r.replaceReferences(params)
	names, rows, err := parse(params)
	if err != nil {
		r.report(Error, CodeGenerator, o, "%v; the line is ignored", err)
		return true
	}
	hidden := make([]*definition, len(names))
	for i, name := range names {
		hidden[i] = r.definitions[name.String()]
	}
	for _, row := range rows {
		if r.stopped {
			break
		}
		for i, name := range names {
			r.define(&definition{name: name, lines: []text{row[i]}})
		}
		r.line(body)
	}
	for i, name := range names {
		if hidden[i] == nil {
			delete(r.definitions, name.String())
		} else {
			r.definitions[name.String()] = hidden[i]
		}
	}
	return true
}

// splitComma splits t at commas outside braces and removes blanks around the parts.
func splitComma(t text) []text {
	var parts []text
	start, braced := 0, false
	for i, c := range t.b {
		switch {
		case c == '{':
			braced = true
		case c == '}':
			braced = false
		case c == ',' && !braced:
			parts = append(parts, t.slice(start, i).trim())
			start = i + 1
		}
	}
	return append(parts, t.slice(start, t.len()).trim())
}

// checkName tells what is wrong with the name of a generator's variable.
func checkName(t text) error {
	if t.len() == 0 || nameLen(t.b) != t.len() {
		return fmt.Errorf("%q is not a name", t)
	}
	return nil
}

// maxSequence bounds the values of one ~SEQ. What they generate is bounded by Options.MaxLines too.
const maxSequence = 1 << 16

// sequence reads the parameters VAR,[START,[STEP,]]END.
func sequence(params text, hex bool) (names []text, rows [][]text, err error) {
	parts := splitComma(params)
	if len(parts) < 2 || len(parts) > 4 {
		return nil, nil, errors.New("~SEQ takes (NAME,[START,[STEP,]]END)")
	}
	if err := checkName(parts[0]); err != nil {
		return nil, nil, err
	}
	var n [3]int64
	for i, part := range parts[1:] {
		// ParseInt would take digits with underscores and the prefixes 0b and 0o as well.
		s := strings.ToLower(part.String())
		n[i], err = strconv.ParseInt(s, 0, 32)
		if err != nil || strings.ContainsAny(s, "_o") || strings.Contains(s, "0b") && !strings.Contains(s, "0x") {
			return nil, nil, fmt.Errorf("%q is not a whole number in %d..%d", part, -1<<31, 1<<31-1)
		}
	}
	var start, step, end int64
	switch len(parts) {
	case 2:
		start, end = 1, n[0]
		if end < 0 {
			start = -1
		}
	case 3:
		start, end = n[0], n[1]
	default:
		start, step, end = n[0], n[1], n[2]
		if step == 0 {
			return nil, nil, errors.New("the step is zero")
		}
	}
	if len(parts) < 4 {
		step = 1
		if end < start {
			step = -1
		}
	}
	if (end-start)*step < 0 {
		return nil, nil, fmt.Errorf("the step %d leads away from %d", step, end)
	}
	if hex && (start < 0 || end < 0) {
		return nil, nil, errors.New("~SEQx takes no negative numbers")
	}
	if (end-start)/step >= maxSequence {
		return nil, nil, fmt.Errorf("the sequence has more than %d values", maxSequence)
	}
	base := 10
	if hex {
		base = 16
	}
	o := params.origin(0)
	for v := start; step > 0 && v <= end || step < 0 && v >= end; v += step {
		rows = append(rows, []text{made(strconv.FormatInt(v, base), o)})
	}
	return parts[:1], rows, nil
}

// list reads the parameters VAR,V1,V2,... or {A,B},{a1,b1},{a2,b2},...
func list(params text) (names []text, rows [][]text, err error) {
	parts := splitComma(params)
	tuple := parts[0].hasPrefix("{")
	for i, part := range parts {
		row := []text{part}
		if tuple {
			if part.len() < 2 || part.b[0] != '{' || part.b[part.len()-1] != '}' {
				return nil, nil, fmt.Errorf("%q is not a tuple {...}", part)
			}
			row = splitComma(part.slice(1, part.len()-1))
		}
		for _, value := range row {
			if bytes.ContainsAny(value.b, " \t{}") {
				return nil, nil, fmt.Errorf("the value %q holds a blank or a brace", value)
			}
		}
		if i == 0 {
			for _, name := range row {
				if err := checkName(name); err != nil {
					return nil, nil, err
				}
			}
			names = row
			continue
		}
		if len(row) > len(names) {
			return nil, nil, fmt.Errorf("the tuple %s has more members than the first one", part)
		}
		for len(row) < len(names) {
			row = append(row, text{})
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, nil, errors.New("~LST takes (NAME,VALUE,...) or ({NAME,...},{VALUE,...},...)")
	}
	return names, rows, nil
}
