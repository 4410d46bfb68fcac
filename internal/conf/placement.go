package conf

import (
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
)

// placedNames are the words of a group block that name something else in the file.
type placedNames struct {
	group         syntax.Word
	prefer, apart []syntax.Word
}

// placement reads a group block.
func (l *loader) placement(s statement, d *clusterDraft) {
	p, at := Placement{Pos: s.Pos(), Group: s.Words[1].Text}, placedNames{group: s.Words[1]}
	if slices.ContainsFunc(d.Placement, func(o Placement) bool { return o.Group == p.Group }) {
		l.errorf(CodeDuplicate, s.Words[1], "there is a group %s in the cluster block already", p.Group)
	}
	l.statements(s.Children, "cluster/group", handlers{
		"prefer": func(s statement) {
			p.Prefer, at.prefer = texts(s.Args()), s.Args()
		},
		"apart_from": func(s statement) {
			p.ApartFrom, at.apart = texts(s.Args()), s.Args()
		},
		"failback": func(s statement) { l.failback(s, &p.Failback) },
	})
	d.Placement = append(d.Placement, p)
	d.placed = append(d.placed, at)
}

func texts(words []syntax.Word) []string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = w.Text
	}
	return all
}

// failback reads immediately, never, a number of seconds or a window HH:MM-HH:MM.
func (l *loader) failback(s statement, f *Failback) {
	w := s.Words[1]
	from, until, window := strings.Cut(w.Text, ":")
	switch {
	case w.Text == "immediately":
		*f = Failback{}
	case w.Text == "never":
		*f = Failback{Never: true}
	case window:
		from, until, _ = strings.Cut(w.Text, "-")
		a, okA := minuteOfDay(from)
		b, okB := minuteOfDay(until)
		if !okA || !okB || a == b {
			l.errorf(CodeRange, w, "failback: %s is not a window HH:MM-HH:MM of the day", quote(w.Text))
			return
		}
		*f = Failback{Window: true, From: a, Until: b}
	default:
		after, err := time.ParseDuration(w.Text + "s")
		if err != nil || after < 0 || after > 24*time.Hour {
			l.errorf(CodeRange, w, "failback: %s is none of immediately, never, 0 to 86400 seconds and HH:MM-HH:MM", quote(w.Text))
			return
		}
		*f = Failback{After: after}
	}
}

func minuteOfDay(text string) (int, bool) {
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err == nil
}

// checkPlacement refuses group blocks that name what is not there.
func (l *loader) checkPlacement(d *clusterDraft) {
	var directors, groups []string
	for _, p := range d.Peers {
		if !p.Witness {
			directors = append(directors, p.Name)
		}
	}
	for _, g := range l.cfg.SyncGroups {
		groups = append(groups, g.Name)
	}
	for _, in := range l.cfg.Instances {
		if in.SyncGroup == "" {
			groups = append(groups, in.Name)
		}
	}
	known := func(w syntax.Word, what string, names []string) {
		if slices.Contains(names, w.Text) {
			return
		}
		hint := ""
		if near, ok := syntax.Nearest(w.Text, names); ok {
			hint = "; did you mean " + near + "?"
		}
		l.errorf(CodeMissing, w, "%s is no %s%s", quote(w.Text), what, hint)
	}
	for i, at := range d.placed {
		for j, w := range at.prefer {
			known(w, "director among the peers", directors)
			if slices.Contains(d.Placement[i].Prefer[:j], w.Text) {
				l.errorf(CodeDuplicate, w, "%s is preferred twice", w.Text)
			}
		}
		if len(groups) == 0 { // a witness need not know them
			continue
		}
		known(at.group, "vrrp_sync_group and no vrrp_instance outside any", groups)
		for _, w := range at.apart {
			known(w, "vrrp_sync_group and no vrrp_instance outside any", groups)
			if w.Text == at.group.Text {
				l.errorf(CodeRange, w, "group %s cannot be apart from itself", w.Text)
			}
		}
	}
}
