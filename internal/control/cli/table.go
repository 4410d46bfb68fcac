package cli

import (
	"slices"
	"strings"
	"unicode"
)

// style is how a cell stands out on a terminal. The word in the cell says the same.
type style int

const (
	plain style = iota
	good
	bad
	warn
	bold
	faint
)

var escapes = map[style]string{good: "\x1b[32m", bad: "\x1b[31m", warn: "\x1b[33m", bold: "\x1b[1m", faint: "\x1b[2m"}

func (a *app) coloured() bool {
	return a.env.StdoutTTY && !a.noColour && a.env.Getenv("NO_COLOR") == "" && a.env.Getenv("TERM") != "dumb"
}

func (a *app) paint(s string, how style) string {
	if how == plain || s == "" || !a.coloured() {
		return s
	}
	return escapes[how] + s + "\x1b[0m"
}

// symbol picks the ASCII form where the locale or the user wants it.
func (a *app) symbol(symbol, ascii string) string {
	if a.ascii {
		return ascii
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(a.env.Getenv(name)); v != "" {
			if strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8") {
				return symbol
			}
			return ascii
		}
	}
	return ascii
}

type cell struct {
	text string
	how  style
}

// table is kubectl's: an upper case header, two spaces between columns, no borders, "-" for an empty cell.
type table struct {
	rows [][]cell
}

func newTable(header ...string) *table {
	t := &table{}
	row := make([]cell, len(header))
	for i, h := range header {
		row[i] = cell{text: h}
	}
	t.rows = append(t.rows, row)
	return t
}

// add appends a row; each value is a string or a cell.
func (t *table) add(values ...any) {
	row := make([]cell, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case cell:
			row[i] = v
		case string:
			row[i] = cell{text: v}
		default:
			panic("table: a cell is a string or a cell")
		}
		if row[i].text == "" {
			row[i].text = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// print returns the lines, aligned by what a terminal shows, without spaces at their ends.
func (a *app) print(t *table) string {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], displayWidth(c.text))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		for i, c := range row {
			b.WriteString(a.paint(c.text, c.how))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-displayWidth(c.text)+2))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// displayWidth is how many columns a terminal uses for s: none for combining and invisible characters, two for East Asian
// wide ones, one for all others.
func displayWidth(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Cc):
		case wide(r):
			n += 2
		default:
			n++
		}
	}
	return n
}

// wideRanges are the blocks of Unicode Standard Annex 11 whose characters are wide or full width.
var wideRanges = [][2]rune{
	{0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0x33ff}, {0x3400, 0x4dbf}, {0x4e00, 0x9fff}, {0xa000, 0xa4cf},
	{0xa960, 0xa97f}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6},
	{0x1f300, 0x1f64f}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd},
}

func wide(r rune) bool {
	return slices.ContainsFunc(wideRanges, func(block [2]rune) bool { return block[0] <= r && r <= block[1] })
}

// clean takes control characters out of a text that came from elsewhere, so that it cannot steer the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
}
