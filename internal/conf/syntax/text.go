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

// text is a piece of a line whose bytes know where they come from. A text is not changed once made; slices share.
type text struct {
	b []byte

	// from says it of each byte: len(b) == len(from). Without from, the bytes stand side by side in a file, the first at at.
	from []origin
	at   place
}

func (t text) len() int                { return len(t.b) }
func (t text) String() string          { return string(t.b) }
func (t text) hasPrefix(s string) bool { return bytes.HasPrefix(t.b, []byte(s)) }

func (t text) slice(i, j int) text {
	s := text{b: t.b[i:j:j]}
	if t.from != nil {
		s.from = t.from[i:j:j]
	} else if s.at = t.at; s.at.valid() {
		s.at.column += int32(i)
	}
	return s
}

// origin returns where byte i comes from; for the end of a text that is not empty, where its last byte comes from.
func (t text) origin(i int) origin {
	i = min(i, len(t.b)-1)
	switch {
	case i < 0:
		return origin{}
	case t.from != nil:
		return t.from[i]
	}
	return origin{at: place{t.at.file, t.at.line, t.at.column + int32(i)}}
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
	out := text{b: make([]byte, 0, n), from: make([]origin, 0, n)}
	for _, t := range texts {
		out.b = append(out.b, t.b...)
		for i := range t.b {
			out.from = append(out.from, t.origin(i))
		}
	}
	return out
}

// replacement returns t as it stands in place of a reference at ref.
func (t text) replacement(ref origin) text {
	out := text{b: t.b, from: make([]origin, len(t.b))}
	for i := range out.from {
		out.from[i] = t.origin(i).inserted(ref)
	}
	return out
}

// made returns s as text that stands where o says, because it is written nowhere.
func made(s string, o origin) text {
	out := text{b: []byte(s), from: make([]origin, len(s))}
	for i := range out.from {
		out.from[i] = o
	}
	return out
}

// uncomment removes the comment of a line, the backslash of \# and \!, and blanks at both ends. unclosed is the index in
// the result of a double quote without a partner, or -1.
func (t text) uncomment() (out text, unclosed int) {
	if t.from == nil && bytes.IndexByte(t.b, '\\') < 0 {
		return t.cut()
	}
	keep := text{b: make([]byte, 0, t.len()), from: make([]origin, 0, t.len())}
	unclosed = -1
scan:
	for i := 0; i < t.len(); i++ {
		c, from := t.b[i], t.origin(i)
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
				from = t.origin(i)
				from.kept = true
				c = next
				break
			}
			keep.b = append(keep.b, c)
			keep.from = append(keep.from, from)
			c, from = next, t.origin(i)
		}
		keep.b = append(keep.b, c)
		keep.from = append(keep.from, from)
	}
	return keep.trimmed(unclosed)
}

// cut is uncomment for a text without backslashes, of which nothing but the ends is removed.
func (t text) cut() (out text, unclosed int) {
	unclosed = -1
	end := t.len()
scan:
	for i, c := range t.b {
		switch {
		case c == '"' && unclosed < 0:
			unclosed = i
		case c == '"':
			unclosed = -1
		case (c == '#' || c == '!') && unclosed < 0:
			end = i
			break scan
		}
	}
	return t.slice(0, end).trimmed(unclosed)
}

// trimmed is trim with the index of a byte, or -1, which it returns as that in the result.
func (t text) trimmed(index int) (text, int) {
	for lead := 0; index >= 0 && lead < len(t.b) && isBlank(t.b[lead]); lead++ {
		index--
	}
	return t.trim(), index
}

// fields splits t at blanks and double quotes. A quote begins a word that ends with the next one; there are no escapes
// in it. unclosed is the index of a quote without a partner, or -1; the word that it begins runs to the end.
func (t text) fields() (fields []field, unclosed int) {
	fields = make([]field, 0, 4)
	all, i := t.String(), 0 // one text, of which the words are parts
	for i < t.len() {
		switch {
		case isBlank(t.b[i]):
			i++
		case t.b[i] == '"':
			end := bytes.IndexByte(t.b[i+1:], '"')
			if end < 0 {
				return append(fields, field{i, t.len(), true, all[i+1:]}), i
			}
			end += i + 2
			fields = append(fields, field{i, end, true, all[i+1 : end-1]})
			i = end
		default:
			end := i
			for end < t.len() && !isBlank(t.b[end]) && t.b[end] != '"' {
				end++
			}
			fields = append(fields, field{i, end, false, all[i:end]})
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
