package conf

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
)

// instanceDraft is a vrrp_instance as it was given, before defaults are in place.
type instanceDraft struct {
	Instance
	name  syntax.Word
	words map[string]*Node // the last statement of each keyword

	state         *bool // true: MASTER
	priority      *uint8
	version       *Version
	advert        *time.Duration
	downAdverts   *int
	preempt       *bool
	garp          garpDraft
	garpExtra     *ExtraInterfaces
	tracking      trackingDraft
	nativeIPv6    bool
	accept        *bool
	strict        *bool
	skipCheck     bool
	lowerNoAdvert *bool
	higherSend    *bool
	ownerIgnore   *bool
	checksumAsV2  *bool
	smtpAlert     *bool
	notifyPrio    *bool
	authType      AuthType
	authPass      *syntax.Word
	peerBlock     *Node
	vmacBase      bool
	vmacAddr      bool
}

// at returns the keyword of the last statement of the word, for a finding, or the name of the instance.
func (d *instanceDraft) at(keyword string) syntax.Word {
	if n := d.words[keyword]; n != nil {
		return n.Words[0]
	}
	return d.name
}

func (d *instanceDraft) has(keyword string) bool { return d.words[keyword] != nil }

func (l *loader) instance(s statement) {
	d := &instanceDraft{name: s.Words[1], Instance: Instance{
		Pos: s.Pos(), Name: s.Words[1].Text, TrackPrimary: true, UnicastTTL: -1,
	}}
	d.words = l.statements(s.Children, "vrrp_instance", l.instanceWords(d))
	l.drafts = append(l.drafts, d)
}

func (l *loader) instanceWords(d *instanceDraft) handlers {
	const block = "vrrp_instance"
	h := handlers{
		"use_vmac":       func(s statement) { l.vmac(s, d) },
		"use_vmac_addr":  setTrue(&d.vmacAddr),
		"vmac_xmit_base": setTrue(&d.vmacBase),
		"use_ipvlan":     func(s statement) { l.ipvlan(s, d) },

		"unicast_peer":          func(s statement) { l.unicastPeers(s, d) },
		"unicast_fault_no_peer": setTrue(&d.UnicastFaultNoPeer),
		"check_unicast_src":     setTrue(&d.CheckUnicastSource),
		"old_unicast_checksum": func(s statement) {
			d.OldUnicastChecksum = OldChecksumAlways
			if len(s.Args()) > 0 && l.choice(s, "never") == 0 {
				d.OldUnicastChecksum = OldChecksumNever
			}
		},
		"unicast_ttl": func(s statement) { l.setInt(s, &d.UnicastTTL) },

		"native_ipv6":        setTrue(&d.nativeIPv6),
		"state":              func(s statement) { l.state(s, d) },
		"interface":          func(s statement) { l.setInterface(s, &d.Interface) },
		"vrf":                func(s statement) { l.setInterface(s, &d.VRF) },
		"dont_track_primary": func(statement) { d.TrackPrimary = false },
		"mcast_src_ip":       func(s statement) { l.setAddress(s, &d.Source) },
		"unicast_src_ip":     func(s statement) { l.setAddress(s, &d.Source) },
		"track_src_ip":       setTrue(&d.TrackSource),
		"mcast_dst_ip": func(s statement) {
			if a, ok := l.address(s.Words[1], s.Keyword()); ok {
				if !a.IsMulticast() {
					l.errorf(CodeAddress, s.Words[1], "mcast_dst_ip: %v is not a multicast address", a)
					return
				}
				d.MulticastGroup = a
			}
		},
		"virtual_router_id": func(s statement) {
			if n, ok := l.integer(s); ok {
				d.VRID = uint8(n)
			}
		},
		"version": func(s statement) {
			var v Version
			if l.version(s, &v); v != 0 {
				d.version = &v
			}
		},
		"priority": func(s statement) {
			if n, ok := l.integer(s); ok {
				d.priority = ptr(uint8(n))
			}
		},
		"advert_int": func(s statement) {
			if n, ok := l.span(s); ok {
				d.advert = &n
			}
		},
		"down_timer_adverts": func(s statement) {
			if n, ok := l.integer(s); ok {
				d.downAdverts = &n
			}
		},

		"virtual_ipaddress": func(s statement) {
			d.Addresses = append(d.Addresses, l.addresses(s.Node, block+"/virtual_ipaddress")...)
		},
		"virtual_ipaddress_excluded": func(s statement) {
			d.Excluded = append(d.Excluded, l.addresses(s.Node, block+"/virtual_ipaddress_excluded")...)
		},
		"virtual_routes": func(s statement) {
			d.Routes = append(d.Routes, l.routes(s.Node, block+"/virtual_routes")...)
		},
		"virtual_rules": func(s statement) {
			d.Rules = append(d.Rules, l.rules(s.Node, block+"/virtual_rules")...)
		},
		"no_virtual_ipaddress": setTrue(&d.NoVirtualAddress),
		"promote_secondaries":  setTrue(&d.PromoteSecondaries),
		"linkbeat_use_polling": setTrue(&d.LinkbeatPolling),

		"v3_checksum_as_v2":   func(s statement) { l.setOptional(s, &d.checksumAsV2) },
		"accept":              func(statement) { d.accept = ptr(true) },
		"no_accept":           func(statement) { d.accept = ptr(false) },
		"skip_check_adv_addr": l.bools(&d.skipCheck),
		"strict_mode":         func(s statement) { l.setOptional(s, &d.strict) },
		"preempt":             func(statement) { d.preempt = ptr(true) },
		"nopreempt":           func(statement) { d.preempt = ptr(false) },
		"preempt_delay":       func(s statement) { l.setSeconds(s, &d.PreemptDelay) },
		"debug": func(s statement) {
			if len(s.Args()) > 0 {
				l.integer(s)
			}
		},

		"smtp_alert":                func(s statement) { l.setOptional(s, &d.smtpAlert) },
		"notify_priority_changes":   func(s statement) { l.setOptional(s, &d.notifyPrio) },
		"lvs_sync_daemon_interface": func(s statement) { l.setInterface(s, &d.LVSSyncInterface) },
		"timer_expired_backup": func(s statement) {
			d.TimerExpiredBackup = 254
			if len(s.Args()) > 0 {
				d.TimerExpiredBackup = 0
				if n, ok := l.integer(s); ok {
					d.TimerExpiredBackup = uint8(n)
				}
			}
		},
		"garp_extra_if": func(s statement) {
			var e ExtraInterfaces
			l.extraInterfaces(s, &e)
			d.garpExtra = &e
		},
		"lower_prio_no_advert":    func(s statement) { l.setOptional(s, &d.lowerNoAdvert) },
		"higher_prio_send_advert": func(s statement) { l.setOptional(s, &d.higherSend) },
		"owner_ignore_adverts":    func(s statement) { l.setOptional(s, &d.ownerIgnore) },
		"kernel_rx_buf_size":      func(s statement) { l.setUint32(s, &d.KernelRxBufSize) },
		"authentication":          func(s statement) { l.authentication(s, d) },
		"auth_hmac":               func(s statement) { l.hmac(s, d) },
	}
	h["thread_timer_expired"], h["vmac_garp_intvl"] = h["timer_expired_backup"], h["garp_extra_if"]
	l.garpWords(h, "", &d.garp)
	l.trackWords(h, block, &d.tracking)
	l.notifyWords(h, &d.Notify)
	h["notify_deleted"] = func(s statement) {
		d.Notify.DeletedState = true
		l.setCommand(s, &d.Notify.Deleted)
	}
	h["notify_master_rx_lower_pri"] = func(s statement) { l.setCommand(s, &d.Notify.MasterRxLowerPri) }
	return h
}

// notifyWords are the words of notification scripts that instances and sync groups share.
func (l *loader) notifyWords(h handlers, n *Notify) {
	for keyword, p := range map[string]**Command{
		"notify_backup": &n.Backup, "notify_master": &n.Master, "notify_fault": &n.Fault, "notify_stop": &n.Stop,
		"notify": &n.Any,
	} {
		h[keyword] = func(s statement) { l.setCommand(s, p) }
	}
}

func (l *loader) state(s statement, d *instanceDraft) {
	w := s.Words[1]
	master := false
	switch w.Text {
	case "MASTER":
		master = true
	case "BACKUP":
	default:
		hint := ""
		if near, ok := syntax.Nearest(w.Text, []string{"MASTER", "BACKUP"}); ok && near == "MASTER" {
			hint = "; did you mean MASTER?"
		}
		l.errorf(CodeChoice, w,
			"state %s is neither MASTER nor BACKUP and counts as BACKUP%s%s", quote(w.Text), hint, strange(w.Text))
	}
	if d.state != nil && *d.state && !master {
		l.warnf(CodeRepeated, w, "state MASTER was given before; as in keepalived this line is ignored")
		return
	}
	d.state = &master
}

func (l *loader) authentication(s statement, d *instanceDraft) {
	d.Auth.Pos = s.Pos()
	l.statements(s.Children, "vrrp_instance/authentication", l.authWords(d))
}

func (l *loader) authWords(d *instanceDraft) handlers {
	return handlers{
		"auth_type": func(s statement) {
			switch l.choice(s, "PASS", "AH") {
			case 0:
				d.authType = AuthPass
			case 1:
				d.authType = AuthAH
			}
		},
		"auth_pass": func(s statement) { d.authPass = &s.Words[1] },
	}
}

func (l *loader) hmac(s statement, d *instanceDraft) {
	d.HMAC = &HMAC{Pos: s.Pos()}
	l.statements(s.Children, "vrrp_instance/auth_hmac", l.hmacWords(d.HMAC))
}

func (l *loader) hmacWords(v *HMAC) handlers {
	return handlers{
		"key": func(s statement) { l.hmacKey(s, v) },
		"active_key": func(s statement) {
			if n, ok := l.wholeNumber(s.Words[1], "active_key", limits(1, 255)); ok {
				v.ActiveKey = uint8(n)
			}
		},
		"time_window": func(s statement) { l.setSeconds(s, &v.TimeWindow) },
		"anti_replay": func(s statement) {
			if i := l.choice(s, "time", "monotonic"); i >= 0 {
				v.AntiReplay = HMACReplay(i)
			}
		},
		"mode": func(s statement) {
			if i := l.choice(s, "enforce", "permissive", "receive-only"); i >= 0 {
				v.Mode = HMACMode(i)
			}
		},
	}
}

// hmacKey reads "key ID VALUE": plain text, hex: and digits, or file: and the path of a file that holds one of these.
func (l *loader) hmacKey(s statement, v *HMAC) {
	id, ok := l.wholeNumber(s.Words[1], "the identifier of the key", limits(1, 255))
	if !ok {
		return
	}
	w := s.Words[2]
	text := w.Text
	if path, found := strings.CutPrefix(text, "file:"); found {
		content, err := l.opts.Files.ReadFile(path)
		if err != nil {
			l.errorf(CodeMissing, w, "the key cannot be read: %v", err)
			return
		}
		if info, err := l.opts.Files.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			l.warnf(CodeAuth, w, "others may read the key in %s: its mode is %04o", path, info.Mode().Perm())
		}
		text = strings.TrimRight(string(content), "\r\n")
	}
	k := HMACKey{Pos: s.Pos(), ID: uint8(id), Secret: []byte(text)}
	if digits, found := strings.CutPrefix(text, "hex:"); found {
		var err error
		if k.Secret, err = hex.DecodeString(digits); err != nil {
			l.errorf(CodeNumber, w, "the key is not an even number of hexadecimal digits") // the digits are a secret
			return
		}
	}
	if len(k.Secret) < 32 || len(k.Secret) > 64 {
		l.errorf(CodeRange, w, "the key has %d bytes, not 32..64", len(k.Secret))
		return
	}
	if slices.ContainsFunc(v.Keys, func(other HMACKey) bool { return other.ID == k.ID }) {
		l.errorf(CodeDuplicate, w, "key %d is there already", id)
		return
	}
	v.Keys = append(v.Keys, k)
}

// unicastPeers reads a block of lines ADDR [min_ttl N] [max_ttl N].
func (l *loader) unicastPeers(s statement, d *instanceDraft) {
	const block = "vrrp_instance/unicast_peer"
	d.peerBlock = s.Node
	for _, n := range s.Children {
		l.noBlock(n)
		in := &line{l: l, block: block, words: n.Words}
		for in.next < len(in.words) {
			w, _ := in.take()
			a, ok := l.address(w, "peer")
			if !ok {
				break
			}
			p := UnicastPeer{Pos: w.Pos, Address: a, MinTTL: -1, MaxTTL: -1}
			confused := false
			for in.next < len(in.words) && (confused || !looksLikeAddress(in.peek())) {
				option, _ := in.take()
				switch option.Text {
				case "min_ttl", "max_ttl":
					v, ok := in.value(option)
					if !ok {
						break
					}
					ttl, ok := l.wholeNumber(v, option.Text, limits(0, 255))
					switch {
					case !ok:
					case option.Text == "min_ttl":
						p.MinTTL = ttl
					default:
						p.MaxTTL = ttl
					}
				default:
					in.unknown(option)
					confused = true
				}
			}
			if in.next < len(in.words) {
				in.second(in.words[in.next])
			}
			if p.MinTTL >= 0 && p.MaxTTL >= 0 && p.MinTTL > p.MaxTTL {
				l.errorf(CodeRange, w, "min_ttl %d is above max_ttl %d; neither is checked", p.MinTTL, p.MaxTTL)
				p.MinTTL, p.MaxTTL = -1, -1
			}
			duplicate := false
			for _, o := range d.Peers {
				duplicate = duplicate || o.Address == a
			}
			if duplicate {
				l.warnf(CodeDuplicate, w, "%v is a peer already; this one is ignored", a)
				continue
			}
			d.Peers = append(d.Peers, p)
		}
	}
}

// interfaceGroups are the groups of interfaces that have a name everywhere.
var interfaceGroups = map[string]uint32{"default": 0}

// vmac reads [[name] IFNAME] [MAC] [netlink_notify_msg] [group GID].
func (l *loader) vmac(s statement, d *instanceDraft) {
	v := &VMAC{Pos: s.Pos()}
	args := s.Args()
	for i := 0; i < len(args); i++ {
		w := args[i]
		switch {
		case w.Text == "netlink_notify_msg":
			v.NetlinkNotifyMsg = true
		case (w.Text == "name" || w.Text == "group") && i+1 == len(args):
			l.errorf(CodeMissingArgument, w, "%s needs a value", w.Text)
		case w.Text == "group":
			i++
			v.Group, _ = l.named(args[i], interfaceGroups, 32, false)
		case w.Text == "name":
			i++
			v.Name, _ = l.interfaceName(args[i])
		case strings.Count(w.Text, ":") >= 4:
			mac, ok := parseMAC(w.Text)
			if !ok {
				l.errorf(CodeAddress, w, "%s is not a MAC address of 5 or 6 octets", quote(w.Text))
				continue
			}
			v.MAC = mac
		case v.Name == "":
			v.Name, _ = l.interfaceName(w)
		default:
			l.errorf(CodeOption, w, "use_vmac does not know %s", quote(w.Text))
		}
	}
	d.VMAC = v
}

// parseMAC reads 5 or 6 octets in hexadecimal with colons between them.
func parseMAC(s string) (mac []byte, ok bool) {
	for octet := range strings.SplitSeq(s, ":") {
		if len(octet) == 1 {
			octet = "0" + octet
		}
		b, err := hex.DecodeString(octet)
		if err != nil || len(b) != 1 {
			return nil, false
		}
		mac = append(mac, b[0])
	}
	return mac, len(mac) == 5 || len(mac) == 6
}

// ipvlan reads [[name] IFNAME] [ADDR] [bridge|private|vepa] [group GID].
func (l *loader) ipvlan(s statement, d *instanceDraft) {
	v := &IPVLAN{Pos: s.Pos(), Mode: "bridge"}
	args := s.Args()
	for i := 0; i < len(args); i++ {
		w := args[i]
		switch {
		case w.Text == "bridge" || w.Text == "private" || w.Text == "vepa":
			v.Mode = w.Text
		case (w.Text == "name" || w.Text == "group") && i+1 == len(args):
			l.errorf(CodeMissingArgument, w, "%s needs a value", w.Text)
		case w.Text == "group":
			i++
			v.Group, _ = l.named(args[i], interfaceGroups, 32, false)
		case w.Text == "name":
			i++
			v.Name, _ = l.interfaceName(args[i])
		case looksLikeAddress(w.Text):
			if p, ok := l.prefix(w, "use_ipvlan"); ok {
				v.Address = p
			}
		case v.Name == "":
			v.Name, _ = l.interfaceName(w)
		default:
			l.errorf(CodeOption, w, "use_ipvlan does not know %s", quote(w.Text))
		}
	}
	d.IPVLAN = v
}

// source returns the word that gave the source address.
func (d *instanceDraft) sourceWord() syntax.Word {
	if d.has("unicast_src_ip") {
		return d.at("unicast_src_ip")
	}
	return d.at("mcast_src_ip")
}

// firstFamily decides the family of an instance: the first of native_ipv6, a source or peer address, the first virtual
// address. Without any of them it is IPv4.
func (d *instanceDraft) firstFamily() Family {
	var hints []netip.Addr
	if d.nativeIPv6 {
		return IPv6
	}
	if d.Source.IsValid() {
		hints = append(hints, d.Source)
	}
	for _, p := range d.Peers {
		hints = append(hints, p.Address)
	}
	for _, a := range d.Addresses {
		hints = append(hints, a.Prefix.Addr())
	}
	if len(hints) == 0 {
		return IPv4
	}
	return familyOf(hints[0])
}
