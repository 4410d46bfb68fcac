package check

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

// Regex is a pattern that a body has to match, in the syntax of Perl.
type Regex struct {
	Pattern   string
	Options   []string // names of PCRE2's compile options, in lower case
	NoMatch   bool     // the body must not match
	MinOffset int      // of the first byte of a match
	MaxOffset int      // of the first byte of a match; -1: any
}

// matcher is a Regex that is ready.
type matcher struct {
	Regex
	re        *regexp2.Regexp
	utf       bool // a character is a code point, else a byte
	firstLine bool // a match begins before the first newline
}

// Check returns an error if the pattern or one of its options cannot be used.
func (x *Regex) Check() error {
	_, err := x.compile()
	return err
}

func (x *Regex) compile() (*matcher, error) {
	m := &matcher{Regex: *x}
	// The classes \d, \s and \w are those of ASCII, and [:names:] are known.
	flags := regexp2.RegexOptions(regexp2.RE2)
	dollarEndOnly := false
	for _, name := range x.Options {
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
			m.utf = true
		case "firstline":
			m.firstLine = true
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
	pattern := x.Pattern
	if !slices.Contains(x.Options, "multiline") {
		end := `(?=\n?\z)`
		if dollarEndOnly {
			end = `\z`
		}
		pattern = replaceDollar(pattern, end)
	}
	re, err := regexp2.Compile(string(m.runes([]byte(pattern))), flags)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	re.MatchTimeout = matchTimeout
	m.re = re
	return m, nil
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
func (m *matcher) runes(text []byte) []rune {
	if m.utf {
		return []rune(string(text))
	}
	runes := make([]rune, len(text))
	for i, b := range text {
		runes[i] = rune(b)
	}
	return runes
}

// matches tells whether a body is as the Regex wants it, or why it cannot be told.
func (m *matcher) matches(body []byte) (bool, error) {
	found, err := m.find(body)
	if err != nil {
		return false, errors.New("the search takes too long")
	}
	return found != m.NoMatch, nil
}

func (m *matcher) find(body []byte) (bool, error) {
	runes := m.runes(body)
	from, last := m.offset(body, m.MinOffset), len(runes)
	if m.MinOffset > len(body) {
		return false, nil
	}
	if m.MaxOffset >= 0 {
		last = m.offset(body, m.MaxOffset)
	}
	if m.firstLine {
		if i := slices.Index(runes, '\n'); i >= 0 {
			last = min(last, i)
		}
	}
	match, err := m.re.FindRunesMatchStartingAt(runes, from)
	if err != nil || match == nil {
		return false, err
	}
	return match.Index <= last, nil
}

// offset returns the number of the character at a byte.
func (m *matcher) offset(body []byte, at int) int {
	at = min(at, len(body))
	if m.utf {
		return utf8.RuneCount(body[:at])
	}
	return at
}
