package eventlog

import (
	"fmt"
	"testing"

	"github.com/hactl/had/internal/control/api"
)

func texts(p api.EventPage) string {
	s := ""
	for _, e := range p.Events {
		s += fmt.Sprintf("%d:%s ", e.Seq, e.Text)
	}
	return s
}

func TestTheNewestEventsAreKeptAndNumberedWithoutGaps(t *testing.T) {
	l := New("lb1", 3)
	for i := range 5 {
		l.Append(api.Event{Text: string(rune('a' + i))})
	}
	for _, test := range []struct {
		after uint64
		want  string
		lost  bool
	}{
		{0, "3:c 4:d 5:e ", false},
		{1, "3:c 4:d 5:e ", true},
		{2, "3:c 4:d 5:e ", false},
		{4, "5:e ", false},
		{5, "", false},
		{9, "3:c 4:d 5:e ", true},
	} {
		page, _ := l.Since(test.after)
		if got := texts(page); got != test.want || page.Lost != test.lost || page.Next != 5 {
			t.Errorf("after %d: got %q lost %v next %d, want %q lost %v next 5",
				test.after, got, page.Lost, page.Next, test.want, test.lost)
		}
	}
}

func TestAnEventThatReturnsThroughTheJournalIsNotRepeated(t *testing.T) {
	l := New("lb1", 8)
	l.Append(api.Event{ID: "lb1/7", Text: "lapsed"})
	_, changed := l.Since(0)
	l.Append(api.Event{ID: "lb1/7", Text: "lapsed", Index: 41})
	page, _ := l.Since(0)
	if len(page.Events) != 1 || page.Events[0].Index != 41 {
		t.Fatalf("got %+v, want one event with index 41", page.Events)
	}
	select {
	case <-changed:
		t.Error("a repeated event woke the waiters")
	default:
	}
}

func TestAnAppendWakesWhoeverWaits(t *testing.T) {
	l := New("lb1", 8)
	_, changed := l.Since(0)
	go l.Append(api.Event{Text: "x"})
	<-changed
	if page, _ := l.Since(0); len(page.Events) != 1 {
		t.Fatalf("got %d events", len(page.Events))
	}
}
