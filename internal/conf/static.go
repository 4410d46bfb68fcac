package conf

import "slices"

// resolveStatic gives static addresses without an interface the default one, and makes instances track the interfaces of
// the static entries whose track_group they are in.
func (l *loader) resolveStatic() {
	for i := range l.cfg.Static.Addresses {
		a := &l.cfg.Static.Addresses[i]
		if a.Interface == "" {
			a.Interface = l.global.DefaultInterface
		}
		if a.TrackGroup != "" && !a.Track {
			l.warnf(CodeTracking, wordAt(a.Pos), "an address with no_track cannot have a track_group, which is ignored")
			a.TrackGroup = ""
		}
		l.trackFor(a.TrackGroup, a.Pos, a.Interface)
	}
	for _, r := range l.cfg.Static.Routes {
		l.trackFor(r.TrackGroup, r.Pos, r.Interface)
	}
	for _, r := range l.cfg.Static.Rules {
		l.trackFor(r.TrackGroup, r.Pos, r.InputInterface)
	}
}

// trackFor makes the instances of a track_group track an interface.
func (l *loader) trackFor(group string, at Pos, iface string) {
	for _, g := range l.cfg.TrackGroups {
		for i := range l.cfg.Instances {
			if in := &l.cfg.Instances[i]; g.Name == group && slices.Contains(g.Members, in.Name) {
				in.trackInterface(at, iface)
			}
		}
	}
}

// resolveRouting makes each instance track the interfaces that its tracked routes and rules name.
func (l *loader) resolveRouting() {
	for i := range l.cfg.Instances {
		in := &l.cfg.Instances[i]
		for _, r := range in.Routes {
			if r.Track {
				in.trackInterface(r.Pos, r.Interface)
			}
		}
		for _, r := range in.Rules {
			if r.Track {
				in.trackInterface(r.Pos, r.InputInterface)
				in.trackInterface(r.Pos, r.OutputInterface)
			}
		}
	}
}

// trackInterface makes an interface one that the instance cannot do without, unless its tracking is settled.
func (in *Instance) trackInterface(at Pos, iface string) {
	settled := iface == "" || iface == in.Interface && in.TrackPrimary ||
		slices.ContainsFunc(in.Tracking.Interfaces, func(t Track) bool { return t.Name == iface })
	if !settled {
		in.Tracking.Interfaces = append(in.Tracking.Interfaces, Track{Pos: at, Name: iface})
	}
}
