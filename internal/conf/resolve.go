package conf

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
)

const maxAddresses = 255 // in one advertisement

// resolveInstances puts defaults in place and applies the rules that need more than one word, for one instance after the
// other, then those between instances.
func (l *loader) resolveInstances() {
	for _, d := range l.drafts {
		l.resolveInstance(d)
	}
	l.sameRouter()
	l.sameCarrier()
	for _, d := range l.drafts {
		d.Tracking = d.tracking.resolve(l.cfg)
		l.ownTracking(d)
		l.limitDelay(d)
	}
}

// limitDelay keeps the time for which an interface may be down unnoticed below that after which others take over.
func (l *loader) limitDelay(d *instanceDraft) {
	limit := time.Duration(d.DownTimerAdverts-1) * d.AdvertInterval
	for i := range l.cfg.InterfaceDelays {
		delay := &l.cfg.InterfaceDelays[i]
		if delay.Name != d.Interface || delay.Down < limit {
			continue
		}
		reduced := max(0, limit-time.Millisecond)
		l.warnf(CodeRange, wordAt(delay.Pos), "interface_up_down_delays: %s may be down for less than %v unnoticed, because "+
			"others take over from vrrp_instance %s then; %v counts as %v", delay.Name, limit, d.Name, delay.Down, reduced)
		delay.Down = reduced
	}
}

func (l *loader) resolveInstance(d *instanceDraft) {
	g := l.global.Global
	d.Strict = g.Strict
	setIf(&d.Strict, d.strict)

	l.resolveFamily(d)
	l.resolvePriority(d)
	l.resolveInterval(d)
	l.resolveTransport(d)
	l.resolvePreemption(d)
	l.resolveAddresses(d)
	l.resolveAuth(d)
	l.resolveHMAC(d)

	owner := d.Priority == 255
	d.DownTimerAdverts = g.DownTimerAdverts
	setIf(&d.DownTimerAdverts, d.downAdverts)
	if d.Strict && d.DownTimerAdverts != defaultDownTimerAdverts {
		l.strictIgnores(d, "down_timer_adverts")
		d.DownTimerAdverts = defaultDownTimerAdverts
	}
	if d.VRID == 0 {
		l.fatalf(CodeVRID, d.at("virtual_router_id"), "vrrp_instance %s has no virtual_router_id in 1..255", d.Name)
	}
	if d.Interface == "" && (!d.Unicast || !d.Source.IsValid()) {
		l.fatalf(CodeMissing, d.at("interface"),
			"vrrp_instance %s has no interface, and is not a unicast one with a source address", d.Name)
	}

	d.GARP = d.garp.resolve(g.GARP, false)
	if d.Strict && (d.GARP.LowerPrioRepeat != 0 || d.GARP.LowerPrioDelay != 0) {
		if d.garp.lowerPrioRepeat != nil || d.garp.lowerPrioDelay != nil {
			l.strictIgnores(d, "garp_lower_prio_repeat")
		}
		d.GARP.LowerPrioRepeat, d.GARP.LowerPrioDelay = 0, 0
	}
	d.GARPExtraInterfaces = g.GARPExtraInterfaces
	setIf(&d.GARPExtraInterfaces, d.garpExtra)

	d.LowerPrioNoAdvert, d.HigherPrioSendAdvert = g.LowerPrioNoAdvert, g.HigherPrioSendAdvert
	setIf(&d.LowerPrioNoAdvert, d.lowerNoAdvert)
	setIf(&d.HigherPrioSendAdvert, d.higherSend)
	if d.Strict {
		d.LowerPrioNoAdvert, d.HigherPrioSendAdvert = true, false
	}
	d.OwnerIgnoreAdverts = owner && (g.OwnerIgnoreAdverts || d.Strict)
	if d.ownerIgnore != nil {
		d.OwnerIgnoreAdverts = owner
		switch {
		case owner && !*d.ownerIgnore:
			l.warnf(CodeOwner, d.at("owner_ignore_adverts"),
				"an owner cannot turn owner_ignore_adverts off; as in keepalived it is on")
		case !owner && *d.ownerIgnore:
			l.warnf(CodeOwner, d.at("owner_ignore_adverts"),
				"owner_ignore_adverts has no effect: priority %d is not an owner's", d.Priority)
		}
	}
	if d.TimerExpiredBackup != 0 && d.Preempt {
		l.warnf(CodeOption, d.at("timer_expired_backup"), "timer_expired_backup needs nopreempt and is ignored")
		d.TimerExpiredBackup = 0
	}
	l.resolveAccept(d, owner)

	d.SkipCheckAdvAddr = d.skipCheck || g.SkipCheckAdvAddr
	d.ChecksumAsV2 = g.V3ChecksumAsV2
	setIf(&d.ChecksumAsV2, d.checksumAsV2)
	d.CheckUnicastSource = d.CheckUnicastSource || g.CheckUnicastSource
	for _, p := range d.Peers {
		d.CheckUnicastSource = d.CheckUnicastSource || p.MinTTL >= 0 || p.MaxTTL >= 0
	}
	for _, alert := range []*bool{g.Mail.Alert, g.Mail.AlertVRRP, d.smtpAlert} {
		setIf(&d.SMTPAlert, alert)
	}
	if d.TrackSource && !d.Source.IsValid() {
		l.warnf(CodeMissing, d.at("track_src_ip"), "track_src_ip needs mcast_src_ip or unicast_src_ip and is ignored")
		d.TrackSource = false
	}
	l.resolveVMAC(d)
}

// resolveVMAC applies the rules of interfaces that an instance has for itself.
func (l *loader) resolveVMAC(d *instanceDraft) {
	if d.VMAC == nil && d.vmacBase {
		l.warnf(CodeOption, d.at("vmac_xmit_base"), "vmac_xmit_base needs use_vmac and is ignored")
	}
	if d.VMAC != nil && d.IPVLAN != nil {
		l.errorf(CodeOption, d.at("use_ipvlan"), "use_ipvlan cannot stand beside use_vmac and is ignored")
		d.IPVLAN = nil
	}
	if d.Interface == "" && (d.VMAC != nil || d.IPVLAN != nil) {
		keyword := "use_vmac"
		if d.VMAC == nil {
			keyword = "use_ipvlan"
		}
		l.errorf(CodeOption, d.at(keyword), "%s needs an interface to be on and is ignored", keyword)
		d.VMAC, d.IPVLAN = nil, nil
	}
	if d.IPVLAN != nil && d.IPVLAN.Address.IsValid() && familyOf(d.IPVLAN.Address.Addr()) != d.Family {
		l.errorf(CodeFamily, d.at("use_ipvlan"), "the address %v is not an IPv%d address and is ignored", d.IPVLAN.Address, d.Family)
		d.IPVLAN.Address = netip.Prefix{}
	}
	if v := d.VMAC; v != nil {
		if d.Strict && (d.vmacBase || v.MAC != nil) {
			l.strictIgnores(d, "vmac_xmit_base")
			d.vmacBase, v.MAC = false, nil
		}
		if d.Unicast && !d.vmacBase {
			l.warnf(CodeUnicast, d.at("use_vmac"), "unicast advertisements leave by %s itself, as with vmac_xmit_base", d.Interface)
		}
		v.TransmitFromBase = d.vmacBase || d.Unicast
	}
	for _, addresses := range [][]Address{d.Addresses, d.Excluded} {
		for i := range addresses {
			a := &addresses[i]
			if d.vmacAddr && a.Interface != d.Interface {
				a.UseVMAC = true
			}
			if a.UseVMAC && a.Interface == "" {
				l.errorf(CodeOption, wordAt(a.Pos), "use_vmac needs an interface to be on; %v is held without it", a.Prefix.Addr())
				a.UseVMAC = false
			}
		}
	}
}

// strictIgnores reports a word that strict mode does not allow.
func (l *loader) strictIgnores(d *instanceDraft, keyword string) {
	l.warnf(CodeStrict, d.at(keyword), "strict mode does not allow %s; it is ignored", keyword)
}

func (l *loader) resolveFamily(d *instanceDraft) {
	d.Family = d.firstFamily()
	if d.Source.IsValid() && familyOf(d.Source) != d.Family {
		l.errorf(CodeFamily, d.sourceWord(),
			"the source address %v is not an IPv%d address and is ignored", d.Source, d.Family)
		d.Source = netip.Addr{}
	}
	d.Peers = slices.DeleteFunc(d.Peers, func(p UnicastPeer) bool {
		if familyOf(p.Address) == d.Family {
			return false
		}
		l.errorf(CodeFamily, wordAt(p.Pos),
			"the peer %v is not an IPv%d address, as the others are, and is ignored", p.Address, d.Family)
		return true
	})
	g := l.global.Global
	d.Version = g.VRRPVersion
	if d.Family == IPv6 {
		d.Version = 3
	}
	setIf(&d.Version, d.version)
	if d.Strict && d.Family == IPv6 && d.Version == 2 {
		l.warnf(CodeVersion, d.at("version"), "strict mode speaks version 3 for IPv6, not 2")
		d.Version = 3
	}
	group := g.MulticastGroup4
	if d.Family == IPv6 {
		group = g.MulticastGroup6
	}
	switch {
	case !d.MulticastGroup.IsValid():
		d.MulticastGroup = group
	case familyOf(d.MulticastGroup) != d.Family:
		l.errorf(CodeFamily, d.at("mcast_dst_ip"),
			"mcast_dst_ip %v is not an IPv%d address and is ignored", d.MulticastGroup, d.Family)
		d.MulticastGroup = group
	}
}

func (l *loader) resolvePriority(d *instanceDraft) {
	d.Priority = 100
	master := d.state != nil && *d.state
	switch {
	case d.priority != nil:
		d.Priority = *d.priority
	case master && !d.has("priority"):
		d.Priority = 255
		l.warnf(CodeOwner, d.at("state"),
			"vrrp_instance %s has state MASTER and no priority: as in keepalived it is the address "+
				"owner, priority 255, which always takes the addresses back", d.Name)
	}
	owner := d.Priority == 255
	if d.state == nil {
		master = owner
	}
	if d.Strict && master != owner {
		if owner {
			l.warnf(CodeStrict, d.at("state"), "in strict mode priority 255 means state MASTER")
		} else {
			l.warnf(CodeStrict, d.at("state"), "in strict mode state MASTER needs priority 255; it counts as BACKUP")
		}
		master = owner
	}
	d.InitialMaster = master
}

// Bounds of the advertisement interval by version: whole seconds in one byte, centiseconds in 12 bits.
const (
	intervalUnit2, intervalMax2 = time.Second, 255 * time.Second
	intervalUnit3, intervalMax3 = 10 * time.Millisecond, 4095 * 10 * time.Millisecond
)

func (l *loader) resolveInterval(d *instanceDraft) {
	d.AdvertInterval = second
	if d.advert == nil {
		return
	}
	unit, most := intervalUnit2, intervalMax2
	if d.Version == 3 {
		unit, most = intervalUnit3, intervalMax3
	}
	given := *d.advert
	d.AdvertInterval = min(max(given.Round(unit), unit), most)
	if d.AdvertInterval == given {
		return
	}
	hint := ""
	if d.Version == 2 && given < second {
		hint = "; version 3 knows centiseconds"
	}
	l.warnf(CodeAdvertInterval, d.at("advert_int"), "version %d cannot express an interval of %v; it counts as %v%s",
		d.Version, given, d.AdvertInterval, hint)
}

// resolveTransport decides between multicast and unicast.
func (l *loader) resolveTransport(d *instanceDraft) {
	if d.peerBlock == nil {
		if d.UnicastTTL >= 0 {
			l.warnf(CodeUnicast, d.at("unicast_ttl"), "unicast_ttl needs unicast_peer and is ignored")
			d.UnicastTTL = -1
		}
		return
	}
	d.Unicast = len(d.Peers) > 0 || d.UnicastFaultNoPeer
	if len(d.Peers) == 0 {
		if d.UnicastFaultNoPeer {
			l.warnf(CodeUnicast, d.at("unicast_peer"), "vrrp_instance %s has no unicast peer and stays in FAULT", d.Name)
		} else {
			l.warnf(CodeUnicast, d.at("unicast_peer"),
				"vrrp_instance %s has no unicast peer: as in keepalived it uses multicast", d.Name)
		}
	}
	if d.Unicast && d.Strict {
		l.fatalf(CodeStrict, d.at("unicast_peer"),
			"strict mode does not allow unicast_peer; remove vrrp_strict or strict_mode")
	}
	for _, p := range d.Peers {
		if p.Address == d.Source {
			l.warnf(CodeUnicast, wordAt(p.Pos), "%v is our own source address, not a peer's", p.Address)
		}
		if p.Address.IsLinkLocalUnicast() && d.Interface == "" {
			l.errorf(CodeUnicast, wordAt(p.Pos), "the link-local peer %v needs an interface", p.Address)
		}
	}
}

func (l *loader) resolvePreemption(d *instanceDraft) {
	d.Preempt = d.preempt == nil || *d.preempt
	owner := d.Priority == 255
	if !d.Preempt && (d.InitialMaster || owner) {
		why := "state MASTER"
		if owner {
			why = "priority 255"
		}
		l.warnf(CodeNoPreemptMaster, d.at("nopreempt"),
			"nopreempt has no effect with %s: as in keepalived the instance preempts; "+
				"use state BACKUP on all nodes", why)
		d.Preempt = true
	}
	if d.PreemptDelay == 0 {
		return
	}
	why := ""
	switch {
	case d.Strict:
		why = "in strict mode"
	case d.InitialMaster:
		why = "with state MASTER"
	case !d.Preempt:
		why = "with nopreempt"
	default:
		return
	}
	l.warnf(CodePreemptDelay, d.at("preempt_delay"), "preempt_delay has no effect %s and is ignored", why)
	d.PreemptDelay = 0
}

func (l *loader) resolveAddresses(d *instanceDraft) {
	d.Addresses = slices.DeleteFunc(d.Addresses, func(a Address) bool {
		if familyOf(a.Prefix.Addr()) == d.Family {
			return false
		}
		l.errorf(CodeFamily, wordAt(a.Pos), "%v is not an IPv%d address, as virtual router %s needs; put it into "+
			"virtual_ipaddress_excluded or into an instance of its own", a.Prefix.Addr(), d.Family, d.Name)
		return true
	})
	for _, addresses := range []*[]Address{&d.Addresses, &d.Excluded} {
		for i := range *addresses {
			if a := &(*addresses)[i]; a.Interface == "" {
				a.Interface = d.Interface
			}
		}
	}
	type placed struct {
		prefix netip.Prefix
		dev    string
	}
	seen := make(map[placed]bool)
	duplicate := func(a Address) bool {
		key := placed{a.Prefix, a.Interface}
		if seen[key] {
			l.warnf(CodeDuplicate, wordAt(a.Pos), "%v is there already; this line is ignored", a.Prefix)
			return true
		}
		seen[key] = true
		return false
	}
	d.Addresses = slices.DeleteFunc(d.Addresses, duplicate)
	d.Excluded = slices.DeleteFunc(d.Excluded, duplicate)
	if n := len(d.Addresses); n > maxAddresses {
		l.warnf(CodeTooMany, wordAt(d.Addresses[maxAddresses].Pos),
			"an advertisement holds %d addresses; from this one on %d count "+
				"as excluded", maxAddresses, n-maxAddresses)
		d.Excluded = append(slices.Clone(d.Addresses[maxAddresses:]), d.Excluded...)
		d.Addresses = d.Addresses[:maxAddresses]
	}
	if d.Strict && d.NoVirtualAddress {
		l.strictIgnores(d, "no_virtual_ipaddress")
		d.NoVirtualAddress = false
	}
	switch {
	case len(d.Addresses) > 0:
		if first := d.Addresses[0].Prefix.Addr(); d.Family == IPv6 && !d.Unicast && !first.IsLinkLocalUnicast() {
			l.notef(CodeFamily, wordAt(d.Addresses[0].Pos),
				"the first address of an IPv6 virtual router should be link-local "+
					"(RFC 9568 section 5.2.9)")
		}
	case d.NoVirtualAddress:
	case d.Version == 3 || d.Strict:
		l.fatalf(CodeNoAddress, d.at("virtual_ipaddress"),
			"vrrp_instance %s has no virtual address; no_virtual_ipaddress allows that", d.Name)
	default:
		l.warnf(CodeNoAddress, d.at("virtual_ipaddress"), "vrrp_instance %s has no virtual address", d.Name)
	}
}

func (l *loader) resolveAuth(d *instanceDraft) {
	if d.authType == AuthNone && d.authPass == nil {
		return
	}
	at := d.at("authentication")
	ignored := func(why string) {
		l.warnf(CodeAuth, at, "authentication is ignored: %s", why)
	}
	switch {
	case d.Version == 3:
		ignored("version 3 has none")
		return
	case d.Strict:
		ignored("strict mode does not allow it")
		return
	case d.HMAC != nil:
		ignored("auth_hmac takes its place")
		return
	case d.authPass == nil:
		l.errorf(CodeAuth, at, "auth_type needs auth_pass; there is no authentication")
		return
	case d.authType == AuthNone:
		l.errorf(CodeAuth, at, "auth_pass needs auth_type; there is no authentication")
		return
	case d.authType == AuthAH && d.Family == IPv6:
		ignored("auth_type AH is for IPv4 only")
		return
	case d.authType == AuthAH:
		l.fatalf(CodeUnsupported, at,
			"auth_type AH is not done by this version, and without it no other router would be understood; "+
				"use PASS on all nodes (neither keeps out anybody on the link)")
		return
	}
	d.Auth.Type = d.authType
	copy(d.Auth.Data[:], d.authPass.Text)
	if n := len(d.authPass.Text); n > len(d.Auth.Data) {
		l.warnf(CodeAuthPass, *d.authPass, "auth_pass has %d characters; the first %d count", n, len(d.Auth.Data))
	}
}

func (l *loader) resolveHMAC(d *instanceDraft) {
	h := d.HMAC
	if h == nil {
		return
	}
	if h.TimeWindow == 0 {
		h.TimeWindow = max(3*d.AdvertInterval, 5*second)
	}
	if !slices.ContainsFunc(h.Keys, func(k HMACKey) bool { return k.ID == h.ActiveKey }) {
		l.errorf(CodeAuth, d.at("auth_hmac"), "auth_hmac is ignored: active_key %d is none of its keys", h.ActiveKey)
		d.HMAC = nil
		return
	}
	if d.Strict && h.Mode != HMACEnforce {
		l.warnf(CodeStrict, d.at("auth_hmac"), "in strict mode auth_hmac has mode enforce")
		h.Mode = HMACEnforce
	}
}

func (l *loader) resolveAccept(d *instanceDraft, owner bool) {
	d.Accept = !d.Strict
	setIf(&d.Accept, d.accept)
	if d.Strict && d.Version == 2 && d.accept != nil && *d.accept {
		l.strictIgnores(d, "accept")
		d.Accept = false
	}
	if owner {
		d.Accept = true
	}
}

// warnOnce adds a warning the first time that it is called with a key.
func (l *loader) warnOnce(key string, code Code, w syntax.Word, format string, args ...any) {
	if !l.told[key] {
		l.told[key] = true
		l.warnf(code, w, format, args...)
	}
}

// sameRouter refuses two instances that would be one virtual router on the wire.
func (l *loader) sameRouter() {
	for i, d := range l.drafts {
		for _, o := range l.drafts[:i] {
			if d.VRID != o.VRID || d.VRID == 0 || d.Family != o.Family || d.Unicast != o.Unicast {
				continue
			}
			same := d.Interface == o.Interface
			if d.Unicast {
				same = same && slices.ContainsFunc(d.Peers, func(p UnicastPeer) bool {
					return slices.ContainsFunc(o.Peers, func(q UnicastPeer) bool { return p.Address == q.Address })
				})
			} else {
				same = same && d.MulticastGroup == o.MulticastGroup
			}
			if same {
				l.fatalf(CodeVRIDDuplicate, d.at("virtual_router_id"),
					"vrrp_instance %s has virtual_router_id %d on the same link as "+
						"vrrp_instance %s", d.Name, d.VRID, o.Name)
			}
		}
	}
}

// sameCarrier takes the name of an interface to be made from an instance if an earlier one has given it to its own.
func (l *loader) sameCarrier() {
	owners := map[string]string{}
	for _, d := range l.drafts {
		var name *string
		var pos Pos
		switch {
		case d.VMAC != nil:
			name, pos = &d.VMAC.Name, d.VMAC.Pos
		case d.IPVLAN != nil:
			name, pos = &d.IPVLAN.Name, d.IPVLAN.Pos
		default:
			continue
		}
		if owner, taken := owners[*name]; taken && *name != "" {
			l.errorf(CodeDuplicate, wordAt(pos), "vrrp_instance %s has given the name %s to its own interface already; vrrp_instance %s "+
				"gets another one", owner, *name, d.Name)
			*name = ""
			continue
		}
		owners[*name] = d.Name
	}
}

// ownTracking applies the rules for what an instance itself tracks.
func (l *loader) ownTracking(d *instanceDraft) {
	d.Tracking.Interfaces = slices.DeleteFunc(d.Tracking.Interfaces, func(t Track) bool {
		if t.Name != d.Interface {
			return false
		}
		l.warnf(CodeTracking, wordAt(t.Pos),
			"%s is the instance's own interface; as in keepalived this line is ignored", t.Name)
		return true
	})
	if d.Priority != 255 {
		return
	}
	unweighted := func(tracks *[]Track, files bool) {
		*tracks = slices.DeleteFunc(*tracks, func(t Track) bool {
			if t.Weight == 0 || files && t.Weight == 1 {
				return false
			}
			l.warnf(CodeTracking, wordAt(t.Pos),
				"the priority of an owner never changes; %s with its weight is not tracked", t.Name)
			return true
		})
		for i := range *tracks {
			(*tracks)[i].Weight = 0
		}
	}
	unweighted(&d.Tracking.Interfaces, false)
	unweighted(&d.Tracking.Scripts, false)
	unweighted(&d.Tracking.Files, true)
	unweighted(&d.Tracking.BFD, false)
}

// wordAt is a word at a place, for a finding.
func wordAt(p Pos) syntax.Word { return syntax.Word{Pos: p} }
