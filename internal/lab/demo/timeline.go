package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/hactl/had/internal/lab/observer"
)

// timelineWidth is the number of cells of a timeline.
const timelineWidth = 72

// mark is a moment to point at in a timeline.
type mark struct {
	at   observer.Instant
	text string
}

// timeline draws who answered for an address: one row per station named, a row that shows where two did if there is such a
// place, a scale in seconds, and the marks below their moments. A cell is filled if its station was seen in it.
func timeline(v *observer.Verdict, w *observer.VIPVerdict, rows []string, marks []mark, ascii bool) []string {
	full, tick := "█", "╷"
	if ascii {
		full, tick = "#", "|"
	}
	whole := v.To.Sub(v.From)
	if whole <= 0 {
		return nil
	}
	cell := func(at observer.Instant) int {
		return min(max(int(int64(at.Sub(v.From))*timelineWidth/int64(whole)), 0), timelineWidth-1)
	}
	label := 0
	for _, name := range rows {
		label = max(label, len(name))
	}
	var lines []string
	row := func(name string, filled func(i int) bool, with string) {
		var b strings.Builder
		fmt.Fprintf(&b, "%-*s ", label, name)
		for i := range timelineWidth {
			if filled(i) {
				b.WriteString(with)
			} else {
				b.WriteByte(' ')
			}
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	for _, name := range rows {
		var cells [timelineWidth]bool
		for _, span := range w.Spans {
			if v.Name(span.Station) == name {
				fill(cells[:], cell(span.FirstHeard), cell(span.LastHeard))
			}
		}
		row(name, func(i int) bool { return cells[i] }, full)
	}
	if len(w.Duals) > 0 {
		var cells [timelineWidth]bool
		for _, dual := range w.Duals {
			fill(cells[:], cell(dual.From), cell(dual.To))
		}
		row("!!", func(i int) bool { return cells[i] }, "!")
	}
	lines = append(lines, strings.Repeat(" ", label+1)+scale(whole, tick))
	for i := range marks {
		lines = append(lines, pointer(label+1, cell(marks[i].at), marks[i].text))
	}
	return join(lines, label+1)
}

func fill(cells []bool, from, to int) {
	for i := from; i <= to; i++ {
		cells[i] = true
	}
}

// scale writes the seconds since the beginning below a timeline.
func scale(whole time.Duration, tick string) string {
	step := time.Second
	for _, wider := range []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute} {
		if whole/step*8 <= timelineWidth {
			break
		}
		step = wider
	}
	var b strings.Builder
	column := 0
	for at := time.Duration(0); at <= whole; at += step {
		position := int(int64(at) * timelineWidth / int64(whole))
		text := fmt.Sprintf("%d s", at/time.Second)
		if position < column || position+1+len(text) > timelineWidth {
			continue
		}
		b.WriteString(strings.Repeat(" ", position-column) + tick + text)
		column = position + 1 + len(text)
	}
	return b.String()
}

// pointer is a line that points at a cell: the text stands to the right of the arrow, or to its left if there is no room.
func pointer(indent, cell int, text string) string {
	if cell+2+len(text) > timelineWidth && cell > len(text) {
		return strings.Repeat(" ", indent+cell-len(text)-1) + text + " ^"
	}
	return strings.Repeat(" ", indent+cell) + "^ " + text
}

// join puts pointers into one line where they do not touch.
func join(lines []string, indent int) []string {
	var joined []string
	for _, line := range lines {
		last := len(joined) - 1
		blank := len(line) - len(strings.TrimLeft(line, " "))
		if last >= 0 && strings.Contains(joined[last], "^") && strings.Contains(line, "^") && blank > len(joined[last])+1 && blank >= indent {
			joined[last] += line[len(joined[last]):]
			continue
		}
		joined = append(joined, line)
	}
	return joined
}
