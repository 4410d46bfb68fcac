package pcre

import (
	"errors"
	"strings"
	"testing"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, options string
		min, max         int
		body             string
		want             bool
	}{
		{"b", "", 0, -1, "abc", true},
		{"B", "", 0, -1, "abc", false},
		{"B", "caseless", 0, -1, "abc", true},
		{"^b", "", 0, -1, "a\nb", false},
		{"^b", "multiline", 0, -1, "a\nb", true},
		{"a$", "multiline", 0, -1, "a\nb", true},
		{"a.b", "", 0, -1, "a\nb", false},
		{"a.b", "dotall", 0, -1, "a\nb", true},
		{"a b # c", "extended", 0, -1, "ab", true},
		{"a$", "", 0, -1, "a\n", true},
		{"a$", "", 0, -1, "a\nb", false},
		{"a$", "dollar_endonly", 0, -1, "a\n", false},
		{"a$", "dollar_endonly", 0, -1, "ba", true},
		{`a\$[$]`, "", 0, -1, "a$$b", true},
		{`[]$]x`, "", 0, -1, "$x", true},
		{`[^]$]x`, "", 0, -1, "$x", false},
		{"(?<=a)b", "", 1, -1, "ab", true},
		{"^a", "", 1, -1, "aa", false},
		{"a", "", 1, -1, "ab", false},
		{"a", "", 1, 1, "aa", true},
		{"b", "", 0, 1, "aab", false},
		{"b", "", 0, 2, "aab", true},
		{"x", "", 9, -1, "x", false},
		{"b", "firstline", 0, -1, "a\nb", false},
		{`(a)\1`, "", 0, -1, "aa", true},
		{"a(?!b)", "ungreedy", 0, -1, "ab", false},
		{"^.$", "utf", 0, -1, "\u00e9", true},
		{"^.$", "", 0, -1, "\u00e9", false},
		{"\u00e9", "", 0, -1, "caf\u00e9", true},
		{"b", "utf", 2, 2, "\u00e9b", true},
		{`\w`, "", 0, -1, "\u00e9", false},
		{`[[:digit:]]+\d`, "", 0, -1, "x42", true},
		{"\\xff", "", 0, -1, "\xff", true},
	} {
		p, err := Compile(tt.pattern, strings.Fields(tt.options))
		if err != nil {
			t.Errorf("%q %s: %v", tt.pattern, tt.options, err)
			continue
		}
		if got, err := p.Search([]byte(tt.body), tt.min, tt.max); err != nil || got != tt.want {
			t.Errorf("%q %s %d..%d in %q: %t, %v", tt.pattern, tt.options, tt.min, tt.max, tt.body, got, err)
		}
	}
}

func TestCompile(t *testing.T) {
	t.Parallel()
	for pattern, option := range map[string]string{"(": "caseless", "a": "match_unset_backref", "b++": "utf"} {
		if _, err := Compile(pattern, []string{option}); err == nil {
			t.Errorf("%q with %s is accepted", pattern, option)
		}
	}
}

// TestSlow searches with a pattern that backtracks for ever.
func TestSlow(t *testing.T) {
	t.Parallel()
	p, err := Compile(`^(a+)+b$`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Search([]byte(strings.Repeat("a", 40)), 0, -1); !errors.Is(err, ErrSlow) {
		t.Errorf("got %v", err)
	}
}
