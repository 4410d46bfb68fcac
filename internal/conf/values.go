package conf

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

const (
	second = time.Second

	maxInterfaceName = 15 // IFNAMSIZ without the terminating zero
)

// argument returns the first argument, or an empty string.
func argument(s statement) string {
	if len(s.Words) < 2 {
		return ""
	}
	return s.Words[1].Text
}

// scan reads a decimal number, or a whole one, from the start of s, in millionths. rest is what follows it; rounded says
// that there were more digits than that. ok is false if s does not begin with a number or the number is too large.
func scan(s string, whole bool) (micro int64, rest string, rounded, ok bool) {
	i, negative := 0, false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		negative = s[i] == '-'
		i++
	}
	const limit = math.MaxInt64 / 100
	digits, fraction := 0, -1
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' && fraction < 0 && !whole {
			fraction = 0
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		digits++
		if fraction >= 6 {
			if fraction == 6 && c >= '5' {
				micro++
			}
			rounded = rounded || c != '0'
			fraction++
			continue
		}
		if micro > limit {
			return 0, "", false, false
		}
		micro = micro*10 + int64(c-'0')
		if fraction >= 0 {
			fraction++
		}
	}
	if digits == 0 {
		return 0, s, false, false
	}
	for fraction = max(fraction, 0); fraction < 6; fraction++ {
		if micro > limit {
			return 0, "", false, false
		}
		micro *= 10
	}
	if negative {
		micro = -micro
	}
	return micro, s[i:], rounded, true
}

// number reads a number, in millionths. what names it in findings. As in keepalived text after the number is ignored, and
// reported.
func (l *loader) number(w syntax.Word, what string, whole bool, limits words.Limits) (micro int64, ok bool) {
	micro, rest, rounded, ok := scan(w.Text, whole)
	switch {
	case !ok:
		l.errorf(CodeNumber, w, "%s: %s is not a number%s", what, quote(w.Text), strange(w.Text))
		return 0, false
	case !limits.Contains(micro):
		l.errorf(CodeRange, w, "%s %s is outside %s", what, clip(w.Text), rangeText(limits))
		return 0, false
	case rest != "":
		l.warnf(CodeTrailing, w, "%s: what follows the number is ignored: %s%s", what, quote(rest), strange(rest))
	case rounded:
		l.warnf(CodeRounded, w, "%s is rounded to whole microseconds", what)
	}
	return micro, true
}

// rangeText prints limits.
func rangeText(l words.Limits) string {
	low, high := "", ""
	if l.HasMin {
		low = microText(l.Min)
	}
	if l.HasMax {
		high = microText(l.Max)
	}
	return low + ".." + high
}

// microText prints a number of millionths.
func microText(micro int64) string {
	sign := ""
	if micro < 0 {
		sign, micro = "-", -micro
	}
	s := fmt.Sprintf("%s%d.%06d", sign, micro/1e6, micro%1e6)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// quote prints a text of the user's in quotes.
func quote(s string) string { return strconv.Quote(clip(s)) }

// strange explains what looks like something else: a reference that was not replaced, blanks and quotes from word
// processors, full-width signs.
func strange(s string) string {
	if i := strings.IndexByte(s, '$'); i >= 0 && len(s) > 1 {
		if i == 0 && !strings.ContainsAny(s[1:], ".:/-$@") {
			return " (" + clip(s) + " is not defined)"
		}
		return " (inside a word a definition is only replaced as ${NAME})"
	}
	for _, r := range s {
		name := ""
		switch {
		case r == '\u00a0' || r == '\u202f' || r == '\u3000' || r >= '\u2000' && r <= '\u200b':
			name = "a blank that is not the plain one"
		case r >= '\u2018' && r <= '\u201f':
			name = "a typographic quote"
		case r >= '\uff01' && r <= '\uff5e':
			name = "a full-width character"
		default:
			continue
		}
		return fmt.Sprintf(" (it holds %s, U+%04X)", name, r)
	}
	return ""
}

// integer returns the first argument as a whole number in the range of its row.
func (l *loader) integer(s statement) (n int, ok bool) {
	return l.wholeNumber(s.Words[1], s.Keyword(), s.row.Limits())
}

func (l *loader) wholeNumber(w syntax.Word, what string, limits words.Limits) (n int, ok bool) {
	micro, ok := l.number(w, what, true, limits)
	return int(micro / 1e6), ok
}

// limits returns the range from low to high.
func limits(low, high int64) words.Limits {
	return words.Limits{Min: low * 1e6, Max: high * 1e6, HasMin: true, HasMax: true}
}

func (l *loader) setInt(s statement, p *int) {
	if n, ok := l.integer(s); ok {
		*p = n
	}
}

// setCount is setInt for a count of which 0 means 1.
func (l *loader) setCount(s statement, p *int) {
	if s.Words[1].Text == "0" {
		l.warnf(CodeZero, s.Words[1], "%s 0 counts as 1", s.Keyword())
		*p = 1
		return
	}
	l.setInt(s, p)
}

func (l *loader) setUint32(s statement, p *uint32) {
	if n, ok := l.integer(s); ok {
		*p = uint32(min(n, math.MaxUint32))
	}
}

// span returns the first argument as a time, in the unit and range of its row.
func (l *loader) span(s statement) (d time.Duration, ok bool) {
	micro, ok := l.number(s.Words[1], s.Keyword(), s.row.Type() == words.Int, s.row.Limits())
	switch s.row.Unit {
	case "us":
		return time.Duration(micro / 1000), ok
	case "ms":
		return time.Duration(micro), ok
	}
	return time.Duration(min(micro, math.MaxInt64/1000) * 1000), ok
}

func (l *loader) setSeconds(s statement, p *time.Duration) {
	if d, ok := l.span(s); ok {
		*p = d
	}
}

// setSecondsCount is setSeconds for a time of which 0 means 1 second.
func (l *loader) setSecondsCount(s statement, p *time.Duration) {
	if micro, rest, _, ok := scan(s.Words[1].Text, false); ok && micro == 0 && rest == "" {
		l.warnf(CodeZero, s.Words[1], "%s 0 counts as 1", s.Keyword())
		*p = second
		return
	}
	l.setSeconds(s, p)
}

// boolean returns the argument of a word that takes [BOOL]; without one it is true.
func (l *loader) boolean(s statement) (value, ok bool) {
	if len(s.Args()) == 0 {
		return true, true
	}
	switch w := s.Words[1]; w.Text {
	case "on", "true", "yes":
		return true, true
	case "off", "false", "no":
		return false, true
	default:
		hint := ""
		if near, ok := syntax.Nearest(w.Text, []string{"on", "true", "yes", "off", "false", "no"}); ok {
			hint = fmt.Sprintf("; did you mean %s?", near)
		}
		l.errorf(CodeBool, w, "%s: %s is none of on, true, yes, off, false, no%s%s", s.Keyword(), quote(w.Text), hint,
			strange(w.Text))
		return false, false
	}
}

func (l *loader) setBool(s statement, p *bool) {
	if value, ok := l.boolean(s); ok {
		*p = value
	}
}

func (l *loader) setOptional(s statement, p **bool) {
	if value, ok := l.boolean(s); ok {
		*p = &value
	}
}

// choice returns the index of the first argument among the words that it may be, or -1.
func (l *loader) choice(s statement, allowed ...string) int {
	return l.choiceWord(s.Words[1], s.Keyword(), allowed...)
}

func (l *loader) choiceWord(w syntax.Word, what string, allowed ...string) int {
	for i, a := range allowed {
		if w.Text == a {
			return i
		}
	}
	hint := ""
	if near, ok := syntax.Nearest(w.Text, allowed); ok {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	l.errorf(CodeChoice, w,
		"%s: %s is none of %s%s%s", what, quote(w.Text), strings.Join(allowed, ", "), hint, strange(w.Text))
	return -1
}

// address reads an address without prefix length.
func (l *loader) address(w syntax.Word, what string) (a netip.Addr, ok bool) {
	a, err := netip.ParseAddr(w.Text)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		l.errorf(CodeAddress, w, "%s: %s is not an IP address%s", what, quote(w.Text), strange(w.Text))
		return netip.Addr{}, false
	}
	return a, true
}

func (l *loader) setAddress(s statement, p *netip.Addr) {
	if a, ok := l.address(s.Words[1], s.Keyword()); ok {
		*p = a
	}
}

// looksLikeAddress tells whether a word is an address, with or without a prefix length.
func looksLikeAddress(s string) bool {
	s, _, _ = strings.Cut(s, "/")
	_, err := netip.ParseAddr(s)
	return err == nil
}

// prefix reads an address with an optional prefix length; without one it is a single address.
func (l *loader) prefix(w syntax.Word, what string) (p netip.Prefix, ok bool) {
	if !strings.Contains(w.Text, "/") {
		a, ok := l.address(w, what)
		if !ok {
			return netip.Prefix{}, false
		}
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	text := w.Text
	if end := strings.LastIndexAny(text, "0123456789") + 1; end < len(text) && end > strings.IndexByte(text, '/') {
		text = text[:end]
	}
	p, err := netip.ParsePrefix(text)
	if err == nil && text != w.Text {
		l.warnf(CodeTrailing, w, "%s: what follows the number is ignored: %s%s", what, quote(w.Text[len(text):]),
			strange(w.Text[len(text):]))
	}
	if err != nil || p.Addr().Is4In6() {
		hint := ""
		if _, mask, _ := strings.Cut(w.Text, "/"); looksLikeAddress(mask) {
			hint = "; write the length of the prefix, not a netmask"
		}
		l.errorf(CodeAddress, w, "%s: %s is not an IP address with a prefix length%s%s", what, quote(w.Text), hint,
			strange(w.Text))
		return netip.Prefix{}, false
	}
	return p, true
}

// interfaceName checks the name of an interface.
func (l *loader) interfaceName(w syntax.Word) (string, bool) {
	name := w.Text
	if name == "" || len(name) > maxInterfaceName || name == "." || name == ".." || strings.ContainsAny(name, "/ \t") {
		l.errorf(CodeInterface, w, "%s cannot be the name of an interface: 1 to %d characters, no slash and no blank%s",
			quote(name), maxInterfaceName, strange(name))
		return "", false
	}
	return name, true
}

func (l *loader) setInterface(s statement, p *string) {
	if name, ok := l.interfaceName(s.Words[1]); ok {
		*p = name
	}
}

// command reads SCRIPT [USER [[:]GROUP]].
func (l *loader) command(s statement) *Command {
	if len(s.Args()) == 0 {
		return nil
	}
	c := l.commandLine(s.Words[1], s.Keyword())
	if c != nil && len(s.Args()) > 1 {
		c.User, c.Group = identity(s.Words[2:])
	}
	return c
}

// identity reads USER [[:]GROUP].
func identity(ws []syntax.Word) (user, group string) {
	user = ws[0].Text
	if len(ws) > 1 {
		group = strings.TrimPrefix(ws[1].Text, ":")
	}
	return user, group
}

func (l *loader) commandLine(w syntax.Word, what string) *Command {
	args, ok := syntax.SplitArguments(w.Text)
	if !ok {
		l.errorf(CodeScript, w, "%s: a quote is not closed, or the command ends in a backslash", what)
		return nil
	}
	if len(args) == 0 || args[0] == "" {
		l.errorf(CodeScript, w, "%s: the command is empty", what)
		return nil
	}
	c := &Command{Pos: w.Pos, Line: w.Text}
	if name, found := strings.CutPrefix(args[0], "<"); found && strings.HasPrefix(name, "/") {
		c.Opens = name
		if strings.HasPrefix(name, "/dev/tcp/") || strings.HasPrefix(name, "/dev/udp/") {
			l.warnf(CodeDevTCP, w, "%s is no file but a notation of some shells: opening it always fails", name)
		}
		if len(args) > 1 {
			l.warnf(CodeSurplus, w, "%s: only whether %s can be opened counts; the rest is ignored", what, name)
		}
		return c
	}
	c.Argv = args
	return c
}

func (l *loader) setCommand(s statement, p **Command) {
	if c := l.command(s); c != nil {
		*p = c
	}
}
