package cli

import (
	"strings"
	"testing"
)

func TestColumnsAreAlignedByWhatATerminalShows(t *testing.T) {
	a := newApp(Environment{Getenv: func(string) string { return "" }, StdoutTTY: true})
	table := newTable("NODE", "REASON", "END")
	table.add("lb1", "日本語", "x")
	table.add(cell{"lb2", good}, "e\u0301te\u0301", "x")
	table.add("", "", "")
	want := "NODE  REASON  END\n" +
		"lb1   日本語  x\n" +
		"\x1b[32mlb2\x1b[0m   e\u0301te\u0301     x\n" +
		"-     -       -\n"
	if got := a.print(table); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestTextFromElsewhereCannotSteerTheTerminal(t *testing.T) {
	if got := clean("a\x1b[2Jb\nc\u202ed\x07"); strings.ContainsAny(got, "\x1b\n\u202e\x07") {
		t.Errorf("%q", got)
	}
}
