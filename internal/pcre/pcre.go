// Package pcre searches with patterns in the syntax of PCRE2, as far as github.com/dlclark/regexp2 knows it: with lookaround
// and back references, and without possessive quantifiers, recursion and verbs.
package pcre

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// matchTimeout bounds the search of one body: patterns that backtrack can take for ever.
const matchTimeout = time.Second

// Pattern is a pattern that is ready. Many goroutines may search with it.
type Pattern struct {
	re        *regexp2.Regexp
	utf       bool // a character is a code point, else a byte
	firstLine bool // a match begins before the first newline
}

// Compile prepares a pattern. options are the names of PCRE2's compile options, in lower case. An error says in one line
// what is wrong, or what of PCRE2 cannot be had.
func Compile(pattern string, options []string) (*Pattern, error) {
	p := &Pattern{}
	// The classes \d, \s and \w are those of ASCII, and [:names:] are known.
	flags := regexp2.RegexOptions(regexp2.RE2)
	dollarEndOnly := false
	for _, name := range options {
		switch name {
		case "caseless":
			flags |= regexp2.IgnoreCase
		case "multiline":
			flags |= regexp2.Multiline
		case "dotall":
			flags |= regexp2.Singleline
		case "extended":
			flags |= regexp2.IgnorePatternWhitespace
		case "no_auto_capture":
			flags |= regexp2.ExplicitCapture
		case "utf":
			p.utf = true
		case "firstline":
			p.firstLine = true
		case "dollar_endonly":
			dollarEndOnly = true
		case "ucp":
			flags &^= regexp2.RE2
		case "ungreedy", "auto_callout", "dupnames", "never_ucp", "never_utf", "no_auto_possess", "no_dotstar_anchor",
			"no_start_optimize", "never_backslash_c", "alt_circumflex", "alt_verbnames", "use_offset_limit":
			// They do not change whether there is a match, and where it begins.
		default:
			return nil, fmt.Errorf("the option %s is not supported", name)
		}
	}
	if !slices.Contains(options, "multiline") {
		end := `(?=\n?\z)`
		if dollarEndOnly {
			end = `\z`
		}
		pattern = replaceDollar(pattern, end)
	}
	re, err := regexp2.Compile(string(p.runes([]byte(pattern))), flags)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	re.MatchTimeout = matchTimeout
	p.re = re
	return p, nil
}

// replaceDollar replaces each $ that stands for the end of the subject.
func replaceDollar(pattern, end string) string {
	var b strings.Builder
	class := false
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\' && i+1 < len(pattern):
			b.WriteString(pattern[i : i+2])
			i++
			continue
		case c == '[':
			if rest := pattern[i+1:]; !class { // a bracket that comes first is a literal
				head := len(rest) - len(strings.TrimPrefix(strings.TrimPrefix(rest, "^"), "]"))
				b.WriteString(pattern[i : i+head])
				i += head
			}
			class = true
		case c == ']':
			class = false
		case c == '$' && !class:
			b.WriteString(end)
			continue
		}
		b.WriteByte(pattern[i])
	}
	return b.String()
}

// runes returns the characters of a text.
func (p *Pattern) runes(text []byte) []rune {
	if p.utf {
		return []rune(string(text))
	}
	runes := make([]rune, len(text))
	for i, b := range text {
		runes[i] = rune(b)
	}
	return runes
}

// ErrSlow says that a search was given up.
var ErrSlow = errors.New("the search takes too long")

// Search tells whether there is a match in text whose first byte is neither before minOffset nor behind maxOffset; a
// negative maxOffset allows any. It takes as long as matchTimeout, and then returns ErrSlow.
func (p *Pattern) Search(text []byte, minOffset, maxOffset int) (bool, error) {
	if minOffset > len(text) {
		return false, nil
	}
	runes := p.runes(text)
	last := len(runes)
	if maxOffset >= 0 {
		last = p.character(text, maxOffset)
	}
	if p.firstLine {
		if i := slices.Index(runes, '\n'); i >= 0 {
			last = min(last, i)
		}
	}
	match, err := p.re.FindRunesMatchStartingAt(runes, p.character(text, minOffset))
	switch {
	case err != nil:
		return false, ErrSlow
	case match == nil:
		return false, nil
	}
	return match.Index <= last, nil
}

// character returns the number of the character at a byte.
func (p *Pattern) character(text []byte, at int) int {
	at = min(at, len(text))
	if p.utf {
		return utf8.RuneCount(text[:at])
	}
	return at
}
