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
	switch {
	case w.Text == "immediately":
		*f = Failback{}
	case w.Text == "never":
		*f = Failback{Never: true}
	case strings.Contains(w.Text, ":"):
		from, until, _ := strings.Cut(w.Text, "-")
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

// checkPlacement refuses group blocks that name what is not there, and warns of those that contradict each other.
func (l *loader) checkPlacement(d *clusterDraft) {
	directors := directorsOf(d.Peers)
	for i, at := range d.placed {
		for j, w := range at.prefer {
			if l.known(w, "director among the peers", directors) && slices.Contains(d.Placement[i].Prefer[:j], w.Text) {
				l.errorf(CodeDuplicate, w, "%s is preferred twice", w.Text)
			}
		}
	}
	groups := l.ownershipGroups()
	if len(groups) == 0 { // a witness need not know them
		return
	}
	for i, at := range d.placed {
		if l.known(at.group, "vrrp_sync_group and no vrrp_instance outside any", groups) {
			l.failbackOrPreempt(at.group, d.Placement[i])
		}
		for _, w := range at.apart {
			l.known(w, "vrrp_sync_group and no vrrp_instance outside any", groups)
			if w.Text == at.group.Text {
				l.errorf(CodePlacement, w, "group %s cannot be apart from itself", w.Text)
			}
			l.sameWish(w, d.Placement, d.Placement[i])
		}
	}
	switch n, room := len(groups), d.MaxGroups*len(directors); {
	case d.MaxGroups == 0 || len(directors) < 2:
	case n > room:
		l.warnf(CodePlacement, d.at("max_groups"), "max_groups %d: %d directors have room for %d of the %d groups; some own more in any case",
			d.MaxGroups, len(directors), room, n)
	case n > room-d.MaxGroups:
		l.notef(CodePlacement, d.at("max_groups"), "max_groups %d: with one of %d directors gone the others own more, since no group stays "+
			"without an owner: %d groups, room for %d", d.MaxGroups, len(directors), n, room-d.MaxGroups)
	}
}

// ownershipGroups lists what moves as one.
func (l *loader) ownershipGroups() []string {
	var groups []string
	for _, g := range l.cfg.SyncGroups {
		groups = append(groups, g.Name)
	}
	for _, in := range l.cfg.Instances {
		if in.SyncGroup == "" {
			groups = append(groups, in.Name)
		}
	}
	return groups
}

// known refuses a word that is none of names.
func (l *loader) known(w syntax.Word, what string, names []string) bool {
	if slices.Contains(names, w.Text) {
		return true
	}
	hint := ""
	if near, ok := syntax.Nearest(w.Text, names); ok {
		hint = "; did you mean " + near + "?"
	}
	for _, in := range l.cfg.Instances {
		if in.Name == w.Text && in.SyncGroup != "" {
			hint = "; it belongs to vrrp_sync_group " + in.SyncGroup + ", which moves as one"
		}
	}
	l.errorf(CodeMissing, w, "%s is no %s%s", quote(w.Text), what, hint)
	return false
}

// failbackOrPreempt warns of words of instances that a group block takes the place of.
func (l *loader) failbackOrPreempt(at syntax.Word, p Placement) {
	for _, in := range l.cfg.Instances {
		if in.Name != p.Group && in.SyncGroup != p.Group {
			continue
		}
		word := ""
		switch {
		case !in.Preempt && !p.Failback.Never:
			word = "nopreempt"
		case in.PreemptDelay > 0 && in.PreemptDelay != p.Failback.After:
			word = "preempt_delay"
		default:
			continue
		}
		l.warnf(CodePlacement, at, "%s of vrrp_instance %s has no effect beside this block: failback says when the group goes back", word, in.Name)
	}
}

// sameWish warns of groups that are to be apart from each other and together at once.
func (l *loader) sameWish(w syntax.Word, all []Placement, p Placement) {
	for _, o := range all {
		if o.Group == w.Text && o.Group != p.Group && len(p.Prefer) > 0 && len(o.Prefer) > 0 && p.Prefer[0] == o.Prefer[0] {
			l.warnf(CodePlacement, w, "%s and %s are to be apart, and both prefer %s: the one that comes first by name is there", p.Group, o.Group,
				p.Prefer[0])
		}
	}
}
