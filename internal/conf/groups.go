package conf

import (
	"slices"
	"strings"

	"github.com/hactl/had/internal/conf/syntax"
)

// groupDraft is a vrrp_sync_group as it was given.
type groupDraft struct {
	SyncGroup
	name       syntax.Word
	members    []syntax.Word
	tracking   trackingDraft
	smtpAlert  *bool
	notifyPrio *bool
}

func (l *loader) syncGroup(s statement) {
	d := &groupDraft{name: s.Words[1], SyncGroup: SyncGroup{Pos: s.Pos(), Name: s.Words[1].Text}}
	l.statements(s.Children, "vrrp_sync_group", l.syncGroupWords(d))
	l.groups = append(l.groups, d)
}

func (l *loader) syncGroupWords(d *groupDraft) handlers {
	h := handlers{
		"group":                      func(s statement) { d.members = append(d.members, l.nameWords(s)...) },
		"smtp_alert":                 func(s statement) { l.setOptional(s, &d.smtpAlert) },
		"global_tracking":            func(statement) {},
		"sync_group_tracking_weight": setTrue(&d.TrackingWeight),
		"notify_priority_changes":    func(s statement) { l.setOptional(s, &d.notifyPrio) },
	}
	l.trackWords(h, "vrrp_sync_group", &d.tracking)
	l.notifyWords(h, &d.Notify)
	return h
}

// resolveGroups finds the members of the sync groups, hands down to them what their group says, and completes the list of
// instances.
func (l *loader) resolveGroups() {
	byName := make(map[string]*instanceDraft)
	for _, d := range l.drafts {
		byName[d.Name] = d
	}
	g := l.global.Global
	for _, d := range l.groups {
		var members []*instanceDraft
		for _, w := range d.members {
			m := byName[w.Text]
			switch {
			case m == nil:
				l.missingInstance(w)
			case m.SyncGroup == d.Name:
				l.warnf(CodeDuplicate, w, "vrrp_instance %s is named twice in vrrp_sync_group %s", m.Name, d.Name)
			case m.SyncGroup != "":
				l.errorf(CodeSyncGroup, w,
					"vrrp_instance %s belongs to vrrp_sync_group %s already and cannot be in a second one",
					m.Name, m.SyncGroup)
			default:
				m.SyncGroup = d.Name
				members = append(members, m)
			}
		}
		for _, alert := range []*bool{g.Mail.Alert, g.Mail.AlertVRRP, d.smtpAlert} {
			setIf(&d.SMTPAlert, alert)
		}
		d.NotifyPriorityChanges = g.NotifyPriorityChanges
		setIf(&d.NotifyPriorityChanges, d.notifyPrio)
		switch len(members) {
		case 0:
			l.warnf(CodeSyncGroup, d.name, "vrrp_sync_group %s has no member and is dropped", d.Name)
			continue
		case 1:
			l.warnf(CodeSyncGroup, d.name, "vrrp_sync_group %s has one member only", d.Name)
		}
		l.groupTracking(d, members)
		for _, m := range members {
			d.Members = append(d.Members, m.Name)
		}
		l.cfg.SyncGroups = append(l.cfg.SyncGroups, d.SyncGroup)
	}
	for _, d := range l.drafts {
		d.NotifyPriorityChanges = g.NotifyPriorityChanges
		for _, group := range l.groups {
			if group.Name == d.SyncGroup {
				setIf(&d.NotifyPriorityChanges, group.notifyPrio)
			}
		}
		setIf(&d.NotifyPriorityChanges, d.notifyPrio)
		l.cfg.Instances = append(l.cfg.Instances, d.Instance)
	}
}

// groupTracking takes the weights from what members of a sync group track, unless the group permits them, and gives each
// member what the group tracks.
func (l *loader) groupTracking(d *groupDraft, members []*instanceDraft) {
	d.Tracking = d.tracking.resolve(l.cfg)
	owners := 0
	for _, m := range members {
		if m.Priority == 255 {
			owners++
		}
		if !d.TrackingWeight {
			l.dropWeights(d, m)
		}
	}
	if owners > 0 {
		for _, list := range d.Tracking.lists() {
			for i := range *list {
				(*list)[i].Weight = 0
			}
		}
	}
	if owners > 0 && owners < len(members) {
		l.warnf(CodeSyncGroup, d.name,
			"vrrp_sync_group %s has members that are address owners and others that are not: all begin "+
				"as BACKUP", d.Name)
	}
	for _, m := range members {
		own, group := m.Tracking.lists(), d.Tracking.lists()
		for i := range own {
			*own[i] = merge(*own[i], *group[i])
		}
	}
}

// dropWeights removes the weights of what a member of a sync group tracks: its priority must not differ from the others'.
func (l *loader) dropWeights(d *groupDraft, m *instanceDraft) {
	var lost []string
	var at Pos
	drop := func(t Track) bool {
		if t.Weight == 0 {
			return false
		}
		lost = append(lost, t.Name)
		if !at.IsValid() {
			at = t.Pos
		}
		return true
	}
	for i := range m.Tracking.Interfaces {
		if t := &m.Tracking.Interfaces[i]; t.Weight != 0 {
			l.warnf(CodeSyncGroup, wordAt(t.Pos),
				"the weight of %s counts as 0, because vrrp_instance %s is in vrrp_sync_group %s "+
					"without sync_group_tracking_weight", t.Name, m.Name, d.Name)
			t.Weight = 0
		}
	}
	m.Tracking.Scripts = slices.DeleteFunc(m.Tracking.Scripts, drop)
	m.Tracking.BFD = slices.DeleteFunc(m.Tracking.BFD, drop)
	for i := range m.Tracking.Files {
		if t := &m.Tracking.Files[i]; t.Weight == 1 {
			t.Weight = 0
		}
	}
	m.Tracking.Files = slices.DeleteFunc(m.Tracking.Files, drop)
	if len(lost) > 0 {
		l.warnf(CodeSyncGroup, wordAt(at),
			"%s with a weight: not tracked, because vrrp_instance %s is in vrrp_sync_group %s without "+
				"sync_group_tracking_weight", strings.Join(lost, ", "), m.Name, d.Name)
	}
}

// lists returns the lists in a fixed order.
func (t *Tracking) lists() [5]*[]Track {
	return [...]*[]Track{&t.Interfaces, &t.Scripts, &t.Files, &t.Processes, &t.BFD}
}

// merge adds what a group tracks to what a member tracks. Of an object in both lists one entry results, with the group's
// weight unless the member's is 0.
func merge(own, group []Track) []Track {
	for _, t := range group {
		i := slices.IndexFunc(own, func(o Track) bool { return o.Name == t.Name })
		switch {
		case i < 0:
			own = append(own, t)
		case own[i].Weight != 0:
			own[i].Weight, own[i].Reverse = t.Weight, t.Reverse
		}
	}
	return own
}
