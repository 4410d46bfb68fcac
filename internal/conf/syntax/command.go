package syntax

import "strings"

// commandFields splits the line of a word that takes a script into the keyword, the script with its arguments as one
// string, a user and a group. Both kinds of quotes count, may begin inside a word, and are removed; a backslash keeps the
// character after it from ending a quote, and both stay. unclosed is the index of a quote without a partner, or -1.
func (t text) commandFields() (fields []field, unclosed int) {
	var word strings.Builder
	start, quotedAt := -1, -1
	quoted := false
	finish := func(end int) {
		if start >= 0 {
			fields = append(fields, field{start, end, quoted, word.String()})
		}
		word.Reset()
		start, quoted = -1, false
	}
	for i := 0; i < t.len(); i++ {
		c := t.b[i]
		if isBlank(c) && quotedAt < 0 {
			finish(i)
			continue
		}
		if start < 0 {
			start = i
		}
		switch {
		case c == '\\' && i+1 < t.len():
			word.WriteByte(c)
			i++
			word.WriteByte(t.b[i])
		case quotedAt >= 0 && c == t.b[quotedAt]:
			quotedAt = -1
		case quotedAt < 0 && (c == '"' || c == '\''):
			quotedAt, quoted = i, true
		default:
			word.WriteByte(c)
		}
	}
	finish(t.len())
	return fields, quotedAt
}

// SplitArguments splits a script string into program and arguments. Both kinds of quotes count, may begin inside a word,
// and are removed. Escapes count inside and outside of quotes: \a \b \E \f \n \r \t \v, octal \n to \nnn, hexadecimal \xX
// and \xXX, control \cC; a backslash before anything else gives that character. ok is false if a quote is not closed or
// the string ends in a backslash.
func SplitArguments(s string) (args []string, ok bool) {
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\':
			inWord = true
			if i+1 == len(s) {
				return append(args, word.String()), false
			}
			n, value := unescape(s[i+1:])
			word.WriteByte(value)
			i += n
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case isBlank(c):
			if inWord {
				args = append(args, word.String())
				word.Reset()
				inWord = false
			}
		default:
			inWord = true
			word.WriteByte(c)
		}
	}
	if inWord {
		args = append(args, word.String())
	}
	return args, quote == 0
}

// unescape decodes what follows a backslash: n bytes that stand for one.
func unescape(s string) (n int, value byte) {
	switch c := s[0]; c {
	case 'a':
		return 1, 7
	case 'b':
		return 1, 8
	case 'E':
		return 1, 27
	case 'f':
		return 1, 12
	case 'n':
		return 1, 10
	case 'r':
		return 1, 13
	case 't':
		return 1, 9
	case 'v':
		return 1, 11
	case 'c':
		if len(s) > 1 {
			return 2, s[1] & 0x1f
		}
	case 'x':
		digits := 0
		for digits < 2 && 1+digits < len(s) && hexDigit(s[1+digits]) >= 0 {
			value = value<<4 | byte(hexDigit(s[1+digits]))
			digits++
		}
		if digits > 0 {
			return 1 + digits, value
		}
	case '0', '1', '2', '3', '4', '5', '6', '7':
		digits := 0
		for digits < 3 && digits < len(s) && s[digits] >= '0' && s[digits] <= '7' {
			value = value<<3 | s[digits] - '0'
			digits++
		}
		return digits, value
	}
	return 1, s[0]
}

// hexDigit returns the value of a hexadecimal digit, or -1.
func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
