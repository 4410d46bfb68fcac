package syntax

import "bytes"

// place is a Pos with the file as an index into reader.files. The zero place is none: lines count from 1.
type place struct{ file, line, column int32 }

func (p place) valid() bool { return p.line > 0 }

// origin is where a byte comes from.
type origin struct {
	at   place // where it stands
	used place // where it came into effect, if elsewhere
	kept bool  // it was protected by a backslash and is never the start of a comment
}

// inserted returns the origin of a byte that stands where o says and replaces a reference that stands at ref.
func (o origin) inserted(ref origin) origin {
	o.used = ref.at
	if ref.used.valid() {
		o.used = ref.used
	}
	if o.used == o.at {
		o.used = place{}
	}
	return o
}

// text is a piece of a line whose bytes know where they come from. len(b) == len(from). A text is not changed once made;
// slices share.
type text struct {
	b    []byte
	from []origin
}

func (t text) len() int                { return len(t.b) }
func (t text) slice(i, j int) text     { return text{t.b[i:j:j], t.from[i:j:j]} }
func (t text) String() string          { return string(t.b) }
func (t text) hasPrefix(s string) bool { return bytes.HasPrefix(t.b, []byte(s)) }

// origin returns where byte i comes from; for the end of a text that is not empty, where its last byte comes from.
func (t text) origin(i int) origin {
	if i >= len(t.from) {
		i = len(t.from) - 1
	}
	if i < 0 {
		return origin{}
	}
	return t.from[i]
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// trim removes blanks from both ends.
func (t text) trim() text {
	i, j := 0, t.len()
	for i < j && isBlank(t.b[i]) {
		i++
	}
	for j > i && isBlank(t.b[j-1]) {
		j--
	}
	return t.slice(i, j)
}

// join returns the concatenation of texts.
func join(texts ...text) text {
	n := 0
	for _, t := range texts {
		n += t.len()
	}
	out := text{make([]byte, 0, n), make([]origin, 0, n)}
	for _, t := range texts {
		out.b = append(out.b, t.b...)
		out.from = append(out.from, t.from...)
	}
	return out
}

// replacement returns t as it stands in place of a reference at ref.
func (t text) replacement(ref origin) text {
	out := text{t.b, make([]origin, len(t.from))}
	for i, o := range t.from {
		out.from[i] = o.inserted(ref)
	}
	return out
}

// made returns s as text that stands where o says, because it is written nowhere.
func made(s string, o origin) text {
	out := text{[]byte(s), make([]origin, len(s))}
	for i := range out.from {
		out.from[i] = o
	}
	return out
}

// uncomment removes the comment of a line, the backslash of \# and \!, and blanks at both ends. unclosed is the index in
// the result of a double quote without a partner, or -1.
func (t text) uncomment() (out text, unclosed int) {
	keep := text{make([]byte, 0, t.len()), make([]origin, 0, t.len())}
	unclosed = -1
scan:
	for i := 0; i < t.len(); i++ {
		c, from := t.b[i], t.from[i]
		switch {
		case c == '"':
			if unclosed < 0 {
				unclosed = len(keep.b)
			} else {
				unclosed = -1
			}
		case (c == '#' || c == '!') && unclosed < 0 && !from.kept:
			break scan
		case c == '\\' && i+1 < t.len():
			next := t.b[i+1]
			i++
			if unclosed < 0 && (next == '#' || next == '!') {
				from = t.from[i]
				from.kept = true
				c = next
				break
			}
			keep.b = append(keep.b, c)
			keep.from = append(keep.from, from)
			c, from = next, t.from[i]
		}
		keep.b = append(keep.b, c)
		keep.from = append(keep.from, from)
	}
	out = keep.trim()
	if unclosed >= 0 {
		for lead := 0; lead < len(keep.b) && isBlank(keep.b[lead]); lead++ {
			unclosed--
		}
	}
	return out, unclosed
}

// fields splits t at blanks and double quotes. A quote begins a word that ends with the next one; there are no escapes
// in it. unclosed is the index of a quote without a partner, or -1; the word that it begins runs to the end.
func (t text) fields() (fields []field, unclosed int) {
	i := 0
	for i < t.len() {
		switch {
		case isBlank(t.b[i]):
			i++
		case t.b[i] == '"':
			end := bytes.IndexByte(t.b[i+1:], '"')
			if end < 0 {
				return append(fields, field{i, t.len(), true, string(t.b[i+1:])}), i
			}
			end += i + 2
			fields = append(fields, field{i, end, true, string(t.b[i+1 : end-1])})
			i = end
		default:
			end := i
			for end < t.len() && !isBlank(t.b[end]) && t.b[end] != '"' {
				end++
			}
			fields = append(fields, field{i, end, false, string(t.b[i:end])})
			i = end
		}
	}
	return fields, -1
}

// field is a word of a text: the bytes from start to end, quotes included.
type field struct {
	start, end int
	quoted     bool
	text       string
}
