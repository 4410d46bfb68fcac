package conf

import (
	"encoding/hex"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
)

// Defaults of global_defs.
var (
	defaultMulticastGroup4 = netip.AddrFrom4([4]byte{224, 0, 0, 18})
	defaultMulticastGroup6 = netip.MustParseAddr("ff02::12")
	defaultSyncGroup       = netip.AddrFrom4([4]byte{224, 0, 0, 81})
)

const (
	defaultInterface        = "eth0"
	defaultDownTimerAdverts = 3
)

// garpDraft holds the words about gratuitous ARP as they were given; nil is not given.
type garpDraft struct {
	masterRepeat, masterRefreshRepeat, lowerPrioRepeat *int
	masterDelay, masterRefresh, lowerPrioDelay         *time.Duration
}

// globalDraft is what global_defs gives before defaults are in place.
type globalDraft struct {
	*Global
	garp  garpDraft
	login syntax.Word // where smtp_login stands, for findings
	traps syntax.Word // and enable_traps
}

func newGlobalDraft(g *Global) globalDraft {
	*g = Global{
		Mail:                  Mail{Port: 25, ConnectTimeout: 30 * second},
		StartupScriptTimeout:  10 * second,
		ShutdownScriptTimeout: 10 * second,
		DefaultInterface:      defaultInterface,
		MulticastGroup4:       defaultMulticastGroup4,
		MulticastGroup6:       defaultMulticastGroup6,
		VRRPVersion:           2,
		DownTimerAdverts:      defaultDownTimerAdverts,
		VMACPrefix:            "vrrp",
		Firewall:              Firewall{NftablesPriority: -1, IPVSPriority: -1, IPVSStartMark: 1000},
		SNMP:                  SNMP{Socket: "unix:/var/agentx/master", VSUpdateInterval: 5 * second},
		DBusServiceName:       "org.keepalived.Vrrp1",
		VRRP:                  Scheduling{RlimitRTTime: 10000 * time.Microsecond},
		Checker:               Scheduling{RlimitRTTime: 10000 * time.Microsecond},
		BFD:                   Scheduling{RlimitRTTime: 10000 * time.Microsecond},
		MinAutoPriorityDelay:  second,
		Buffers:               Buffers{ReceiveMultiplier: 3},
		Umask:                 -1,
		JSONVersion:           1,
		IPRouteEtcDir:         "/etc/iproute2",
	}
	return globalDraft{Global: g}
}

func (l *loader) setText(p *string) func(statement) {
	return func(s statement) { *p = argument(s) }
}

func setTrue(p *bool) func(statement) {
	return func(statement) { *p = true }
}

func (l *loader) bools(p *bool) func(statement) {
	return func(s statement) { l.setBool(s, p) }
}

func (l *loader) globalWords() handlers {
	g := l.global.Global
	h := handlers{
		"process_names":            setTrue(&g.ProcessNames.Distinct),
		"process_name":             l.setText(&g.ProcessNames.Parent),
		"vrrp_process_name":        l.setText(&g.ProcessNames.VRRP),
		"checker_process_name":     l.setText(&g.ProcessNames.Checker),
		"lvs_process_name":         l.setText(&g.ProcessNames.Checker),
		"bfd_process_name":         l.setText(&g.ProcessNames.BFD),
		"use_symlink_paths":        l.bools(&g.UseSymlinkPaths),
		"set_supplementary_groups": l.bools(&g.SetSupplementaryGroups),
		"router_id":                l.setText(&g.RouterID),

		"notification_email_from": l.setText(&g.Mail.From),
		"smtp_server":             l.smtpServer,
		"smtp_helo_name":          l.setText(&g.Mail.HeloName),
		"smtp_connect_timeout":    func(s statement) { l.setSecondsCount(s, &g.Mail.ConnectTimeout) },
		"notification_email":      func(s statement) { g.Mail.Recipients = append(g.Mail.Recipients, l.names(s)...) },
		"smtp_alert":              func(s statement) { l.setOptional(s, &g.Mail.Alert) },
		"smtp_alert_vrrp":         func(s statement) { l.setOptional(s, &g.Mail.AlertVRRP) },
		"smtp_alert_checker":      func(s statement) { l.setOptional(s, &g.Mail.AlertChecker) },
		"no_email_faults":         setTrue(&g.Mail.NoFaults),
		"smtp_tls":                l.smtpTLS,
		"smtp_login":              l.smtpLogin,

		"startup_script":          func(s statement) { l.setCommand(s, &g.StartupScript) },
		"startup_script_timeout":  func(s statement) { l.setSeconds(s, &g.StartupScriptTimeout) },
		"shutdown_script":         func(s statement) { l.setCommand(s, &g.ShutdownScript) },
		"shutdown_script_timeout": func(s statement) { l.setSeconds(s, &g.ShutdownScriptTimeout) },
		"script_user":             func(s statement) { g.ScriptUser, g.ScriptGroup = identity(s.Args()) },
		"enable_script_security":  setTrue(&g.ScriptSecurity),

		"max_auto_priority": func(s statement) {
			g.MaxAutoPriority = 99
			if len(s.Args()) > 0 {
				g.MaxAutoPriority = 0
				l.setInt(s, &g.MaxAutoPriority)
			}
		},
		"min_auto_priority_delay":  func(s statement) { l.setSeconds(s, &g.MinAutoPriorityDelay) },
		"checker_log_all_failures": l.bools(&g.CheckerLogAll),
		"dynamic_interfaces": func(s statement) {
			g.DynamicInterfaces = true
			if len(s.Args()) > 0 {
				g.DynamicInterfacesChanges = l.choice(s, "allow_if_changes") == 0
			}
		},
		"default_interface":  func(s statement) { l.setInterface(s, &g.DefaultInterface) },
		"disable_local_igmp": setTrue(&g.DisableLocalIGMP),

		"lvs_timeouts":      l.lvsTimeouts,
		"lvs_flush":         setTrue(&g.LVS.Flush),
		"lvs_flush_on_stop": l.lvsFlushOnStop,
		"lvs_flush_onstop":  l.lvsFlushOnStop,
		"lvs_sync_daemon":   l.lvsSyncDaemon,

		"vrrp_mcast_group4": func(s statement) { l.multicastGroup(s, IPv4, &g.MulticastGroup4) },
		"vrrp_mcast_group6": func(s statement) { l.multicastGroup(s, IPv6, &g.MulticastGroup6) },

		"vrrp_down_timer_adverts":          func(s statement) { l.setInt(s, &g.DownTimerAdverts) },
		"vrrp_garp_interval":               func(s statement) { l.spacing(s, &g.GARPInterval) },
		"vrrp_gna_interval":                func(s statement) { l.spacing(s, &g.GNAInterval) },
		"vrrp_min_garp":                    l.bools(&g.MinGARP),
		"vrrp_garp_extra_if":               func(s statement) { l.extraInterfaces(s, &g.GARPExtraInterfaces) },
		"vrrp_vmac_garp_intvl":             func(s statement) { l.extraInterfaces(s, &g.GARPExtraInterfaces) },
		"vrrp_lower_prio_no_advert":        l.bools(&g.LowerPrioNoAdvert),
		"vrrp_higher_prio_send_advert":     l.bools(&g.HigherPrioSendAdvert),
		"vrrp_owner_ignore_adverts":        l.bools(&g.OwnerIgnoreAdverts),
		"vrrp_version":                     func(s statement) { l.version(s, &g.VRRPVersion) },
		"v3_checksum_as_v2":                setTrue(&g.V3ChecksumAsV2),
		"vrrp_check_unicast_src":           setTrue(&g.CheckUnicastSource),
		"vrrp_skip_check_adv_addr":         l.bools(&g.SkipCheckAdvAddr),
		"vrrp_notify_priority_changes":     l.bools(&g.NotifyPriorityChanges),
		"fifo_write_vrrp_states_on_reload": setTrue(&g.FIFOWriteOnReload),
		"log_unknown_vrids":                setTrue(&g.LogUnknownVRIDs),
		"vrrp_startup_delay":               func(s statement) { l.setSeconds(s, &g.StartupDelay) },
		"vrrp_delay_after_boot":            func(s statement) { l.setSeconds(s, &g.DelayAfterBoot) },
		"vmac_prefix":                      func(s statement) { l.vmacPrefix(s, &g.VMACPrefix) },
		"vmac_addr_prefix":                 func(s statement) { l.vmacPrefix(s, &g.VMACAddrPrefix) },
		"vrrp_strict":                      func(s statement) { l.setBool(s, &g.Strict) },

		"vrrp_iptables": func(s statement) {
			f := &g.Firewall
			f.Iptables, f.IptablesIn, f.IptablesOut = true, "INPUT", "OUTPUT"
			if args := s.Args(); len(args) > 0 {
				f.IptablesIn, f.IptablesOut = args[0].Text, ""
				if len(args) > 1 {
					f.IptablesOut = args[1].Text
				}
			}
		},
		"vrrp_ipsets": func(s statement) {
			g.Firewall.IPSets, g.Firewall.IPSetsOff = nil, len(s.Args()) == 0
			for _, w := range s.Args() {
				g.Firewall.IPSets = append(g.Firewall.IPSets, w.Text)
			}
		},
		"nftables":                   func(s statement) { g.Firewall.Nftables = textOr(s, "keepalived") },
		"nftables_priority":          func(s statement) { l.setInt32(s, &g.Firewall.NftablesPriority) },
		"nftables_ifindex":           setTrue(&g.Firewall.NftablesIfindex),
		"nftables_counters":          setTrue(&g.Firewall.NftablesCounters),
		"nftables_ipvs":              func(s statement) { g.Firewall.IPVSTable = textOr(s, "keepalived_ipvs") },
		"nftables_ipvs_priority":     func(s statement) { l.setInt32(s, &g.Firewall.IPVSPriority) },
		"nftables_ipvs_start_fwmark": func(s statement) { l.setUint32(s, &g.Firewall.IPVSStartMark) },

		"snmp_trap":                     l.snmpTrap,
		"snmp_socket":                   l.setText(&g.SNMP.Socket),
		"enable_traps":                  func(s statement) { g.SNMP.Traps, l.global.traps = true, s.Words[0] },
		"enable_snmp_vrrp":              setTrue(&g.SNMP.VRRP),
		"enable_snmp_keepalived":        setTrue(&g.SNMP.VRRP),
		"enable_snmp_rfc":               func(statement) { g.SNMP.RFCv2, g.SNMP.RFCv3 = true, true },
		"enable_snmp_rfcv2":             setTrue(&g.SNMP.RFCv2),
		"enable_snmp_rfcv3":             setTrue(&g.SNMP.RFCv3),
		"enable_snmp_checker":           setTrue(&g.SNMP.Checker),
		"snmp_vs_stats_update_interval": func(s statement) { l.setSeconds(s, &g.SNMP.VSUpdateInterval) },
		"snmp_rs_stats_update_interval": func(s statement) { l.setSeconds(s, &g.SNMP.RSUpdateInterval) },
		"enable_dbus":                   setTrue(&g.DBus),
		"dbus_service_name":             l.setText(&g.DBusServiceName),
		"dbus_no_interface_name":        l.setText(&g.DBusNoInterfaceName),

		"process_monitor_rcv_bufs":       func(s statement) { l.setUint32(s, &g.Buffers.ProcessMonitor.Bytes) },
		"process_monitor_rcv_bufs_force": l.bools(&g.Buffers.ProcessMonitor.Force),
		"vrrp_rx_bufs_policy":            l.receivePolicy,
		"vrrp_rx_bufs_multiplier":        func(s statement) { l.setUint32(s, &g.Buffers.ReceiveMultiplier) },

		"rs_init_notifies":  l.bools(&g.RSInitNotifies),
		"no_checker_emails": l.bools(&g.NoCheckerEmails),
		"umask":             l.umask,
		"random_seed": func(s statement) {
			if n, ok := l.integer(s); ok {
				g.RandomSeed, g.RandomSeedSet = uint64(n), true
			}
		},
		"reload_check_config": func(s statement) { g.ReloadCheckConfig, g.ReloadCheckLog = true, argument(s) },
		"reload_time_file":    l.setText(&g.ReloadTimeFile),
		"reload_repeat":       setTrue(&g.ReloadRepeat),
		"reload_file":         func(s statement) { g.ReloadFile, g.ReloadFileSet = argument(s), true },
		// The reader of lines acts on include_check: it decides what later lines mean.
		"include_check":        func(statement) {},
		"config_save_dir":      l.setText(&g.ConfigSaveDir),
		"tmp_config_directory": l.setText(&g.TmpConfigDir),
		"data_use_instance":    l.bools(&g.DataUseInstance),
		"json_version":         func(s statement) { l.setInt12(s, &g.JSONVersion) },
		"iproute_usr_dir":      l.setText(&g.IPRouteUsrDir),
		"iproute_etc_dir":      l.setText(&g.IPRouteEtcDir),
		"state_dump_file":      l.setText(&g.StateDumpFile),
		"stats_dump_file":      l.setText(&g.StatsDumpFile),
		"json_dump_file":       l.setText(&g.JSONDumpFile),
	}
	l.fifoWords(h, "notify_fifo", &g.NotifyFIFO)
	l.fifoWords(h, "vrrp_notify_fifo", &g.VRRPNotifyFIFO)
	l.fifoWords(h, "lvs_notify_fifo", &g.LVSNotifyFIFO)
	l.schedulingWords(h, "vrrp", &g.VRRP)
	l.schedulingWords(h, "checker", &g.Checker)
	l.schedulingWords(h, "bfd", &g.BFD)
	l.netlinkWords(h, "vrrp", &g.VRRP.NetlinkCommand, &g.VRRP.NetlinkMonitor)
	l.netlinkWords(h, "lvs", &g.Checker.NetlinkCommand, &g.Checker.NetlinkMonitor)
	l.garpWords(h, "vrrp_", &l.global.garp)
	return h
}

func textOr(s statement, otherwise string) string {
	if text := argument(s); text != "" {
		return text
	}
	return otherwise
}

// names returns the words of a block of names.
func (l *loader) names(s statement) []string {
	var names []string
	for _, w := range l.nameWords(s) {
		names = append(names, w.Text)
	}
	return names
}

func (l *loader) nameWords(s statement) []syntax.Word {
	var found []syntax.Word
	for _, n := range s.Children {
		l.noBlock(n)
		found = append(found, n.Words...)
	}
	return found
}

// noBlock reports a block where a value was expected.
func (l *loader) noBlock(n *Node) {
	if n.IsBlock {
		l.errorf(CodeUnknownBlock, n.Words[0], "no block can stand here; that of %s is skipped", quote(n.Keyword()))
	}
}

func (l *loader) smtpServer(s statement) {
	m := &l.global.Mail
	m.Server, m.Port = s.Words[1].Text, 25
	if len(s.Words) > 2 {
		if port, ok := l.wholeNumber(s.Words[2], "the port", limits(1, 65535)); ok {
			m.Port = uint16(port)
		}
	}
}

func (l *loader) smtpTLS(s statement) {
	m := &l.global.Mail
	i := l.choice(s, "starttls", "implicit")
	if i < 0 {
		return
	}
	m.TLS, m.CAFile = MailTLS(i+1), ""
	if len(s.Args()) > 1 {
		if m.CAFile = s.Words[2].Text; !path.IsAbs(m.CAFile) {
			l.errorf(CodeRange, s.Words[2], "smtp_tls: %s is not an absolute path", quote(m.CAFile))
		}
	}
}

func (l *loader) smtpLogin(s statement) {
	l.global.login = s.Words[0]
	l.global.Mail.User, l.global.Mail.Password = s.Words[1].Text, s.Words[2].Text
}

// The shortest password and the bounds of an engine ID: RFC 3414 section 11.2, RFC 3411 section 5.
const (
	minSNMPPassword          = 8
	minEngineID, maxEngineID = 5, 32
	maxSNMPUser              = 32
	trapPort                 = 162
)

func (l *loader) snmpTrap(s statement) {
	r := TrapReceiver{Pos: s.Pos(), Host: s.Words[1].Text, Port: trapPort, Community: "public"}
	if len(s.Words) > 2 {
		if port, ok := l.wholeNumber(s.Words[2], "the port", limits(1, 65535)); ok {
			r.Port = uint16(port)
		}
	}
	last := l.statements(s.Children, "global_defs/snmp_trap", l.trapWords(&r))
	for _, word := range []string{"auth", "priv", "engine_id"} {
		if n := last[word]; n != nil && r.User == "" {
			l.errorf(CodeOption, n.Words[0], "%s is of SNMP version 3 and needs user; it is ignored", word)
			r.Auth, r.Priv = "", ""
		}
	}
	if r.Priv != "" && r.Auth == "" {
		l.errorf(CodeOption, last["priv"].Words[0], "priv needs auth, as SNMP has no encryption without authentication; "+
			"traps go out unencrypted")
		r.Priv = ""
	}
	l.global.SNMP.Receivers = append(l.global.SNMP.Receivers, r)
}

func (l *loader) trapWords(r *TrapReceiver) handlers {
	return handlers{
		"community": l.setText(&r.Community),
		"user": func(s statement) {
			if r.User = s.Words[1].Text; len(r.User) > maxSNMPUser {
				l.errorf(CodeRange, s.Words[1], "the name of the user has %d bytes, more than %d", len(r.User), maxSNMPUser)
			}
		},
		"auth": func(s statement) {
			l.snmpKey(s, &r.Auth, &r.AuthPassword, "MD5", "SHA", "SHA224", "SHA256", "SHA384", "SHA512")
		},
		"priv": func(s statement) { l.snmpKey(s, &r.Priv, &r.PrivPassword, "DES", "AES") },
		"engine_id": func(s statement) {
			id, err := hex.DecodeString(strings.TrimPrefix(s.Words[1].Text, "0x"))
			if err != nil || len(id) < minEngineID || len(id) > maxEngineID {
				l.errorf(CodeRange, s.Words[1], "engine_id %s is not 5 to 32 bytes in hexadecimal digits", quote(s.Words[1].Text))
				return
			}
			r.EngineID = id
		},
	}
}

// snmpKey reads a protocol and a password.
func (l *loader) snmpKey(s statement, protocol, password *string, protocols ...string) {
	i := l.choice(s, protocols...)
	if i < 0 {
		return
	}
	if n := len(s.Words[2].Text); n < minSNMPPassword {
		l.errorf(CodeRange, s.Words[2], "%s: the password has %d characters; SNMP asks for at least %d", s.Keyword(), n, minSNMPPassword)
		return
	}
	*protocol, *password = protocols[i], s.Words[2].Text
}

// resolveTraps says when traps are wanted that nobody would get.
func (l *loader) resolveTraps() {
	switch s := &l.global.SNMP; {
	case s.Traps && len(s.Receivers) == 0:
		l.warnf(CodeMissing, l.global.traps, "enable_traps: had sends traps itself, and no snmp_trap says to whom; none is sent")
	case s.Traps && !s.VRRP && !s.RFCv2 && !s.RFCv3 && !s.Checker:
		l.warnf(CodeMissing, l.global.traps, "enable_traps: none of enable_snmp_vrrp, enable_snmp_checker, enable_snmp_rfcv2 and enable_snmp_rfcv3 "+
			"says which traps; as in keepalived none is sent")
	}
}

// resolveMail checks what needs more than one word.
func (l *loader) resolveMail() {
	m := &l.global.Mail
	if m.User != "" && m.TLS == MailPlain {
		l.errorf(CodeOption, l.global.login, "smtp_login needs smtp_tls: a password does not go over the network in the clear; "+
			"there is no login")
		m.User, m.Password = "", ""
	}
}

func (l *loader) lvsTimeouts(s statement) {
	v := &l.global.LVS
	v.Timeouts = true
	for args := s.Args(); len(args) > 0; {
		var p *time.Duration
		switch i := l.choiceWord(args[0], s.Keyword(), "tcp", "tcpfin", "udp"); i {
		case 0:
			p = &v.TCPTimeout
		case 1:
			p = &v.TCPFinTimeout
		case 2:
			p = &v.UDPTimeout
		default:
			return
		}
		if len(args) < 2 {
			l.errorf(CodeMissingArgument, args[0], "%s needs a number of seconds", args[0].Text)
			return
		}
		if n, ok := l.wholeNumber(args[1], args[0].Text, limits(0, 2678400)); ok {
			*p = time.Duration(n) * second
		}
		args = args[2:]
	}
}

func (l *loader) lvsFlushOnStop(s statement) {
	v := &l.global.LVS
	v.FlushOnStop, v.FlushOnStopVS = true, false
	if len(s.Args()) > 0 {
		v.FlushOnStopVS = l.choice(s, "VS") == 0
	}
}

func (l *loader) lvsSyncDaemon(s statement) {
	d := &SyncDaemon{Pos: s.Pos(), ID: -1, Port: 8848, TTL: 1, Group: defaultSyncGroup}
	name, ok := l.interfaceName(s.Words[1])
	if !ok {
		return
	}
	d.Interface = name
	args := s.Args()[1:]
	if len(args) > 0 && args[0].Text == "inst" {
		args = args[1:]
		if len(args) == 0 {
			l.errorf(CodeMissingArgument, s.Words[2], "inst needs the name of an instance")
			return
		}
		d.Instance, args = args[0].Text, args[1:]
	} else if len(args)%2 == 1 {
		d.Instance, args = args[0].Text, args[1:]
	}
	number := func(i int, low, high int64) (int, bool) {
		return l.wholeNumber(args[i+1], args[i].Text, limits(low, high))
	}
	for i := 0; i < len(args); i += 2 {
		which := l.choiceWord(args[i], s.Keyword(), "id", "maxlen", "port", "ttl", "group")
		if which < 0 {
			return
		}
		if i+1 == len(args) {
			l.errorf(CodeMissingArgument, args[i], "%s needs a value", args[i].Text)
			return
		}
		switch which {
		case 0:
			if n, ok := number(i, 0, 255); ok {
				d.ID = n
			}
		case 1:
			if n, ok := number(i, 1, 65507); ok {
				d.MaxLen = n
			}
		case 2:
			if n, ok := number(i, 1, 65535); ok {
				d.Port = uint16(n)
			}
		case 3:
			if n, ok := number(i, 1, 255); ok {
				d.TTL = uint8(n)
			}
		case 4:
			if a, ok := l.address(args[i+1], "group"); ok {
				if !a.IsMulticast() {
					l.errorf(CodeAddress, args[i+1], "group %v is not a multicast address", a)
					break
				}
				d.Group = a
			}
		}
	}
	l.global.LVS.SyncDaemon = d
}

func (l *loader) multicastGroup(s statement, family Family, p *netip.Addr) {
	a, ok := l.address(s.Words[1], s.Keyword())
	if !ok {
		return
	}
	if !a.IsMulticast() || familyOf(a) != family {
		l.errorf(CodeAddress, s.Words[1], "%s: %v is not an IPv%d multicast address", s.Keyword(), a, family)
		return
	}
	*p = a
}

// familyOf returns the family of an address.
func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// spacing reads a least time between two messages, of which the default 0 is not in keepalived's range.
func (l *loader) spacing(s statement, p *time.Duration) {
	if micro, rest, _, ok := scan(s.Words[1].Text, false); ok && micro == 0 && rest == "" {
		l.notef(CodeZero, s.Words[1], "%s 0 is the default, no limit; keepalived complains about it", s.Keyword())
		*p = 0
		return
	}
	l.setSeconds(s, p)
}

// extraInterfaces reads [all] SECONDS, in any order.
func (l *loader) extraInterfaces(s statement, p *ExtraInterfaces) {
	var e ExtraInterfaces
	var number *syntax.Word
	for i := range s.Args() {
		w := &s.Args()[i]
		switch {
		case w.Text == "all":
			e.All = true
		case number == nil:
			number = w
		default:
			l.errorf(CodeOption, *w, "%s takes a number of seconds and the word all, not %s", s.Keyword(), quote(w.Text))
			return
		}
	}
	if number == nil {
		l.errorf(CodeMissingArgument, s.Words[0], "%s needs a number of seconds", s.Keyword())
		return
	}
	least := int64(1)
	if strings.HasPrefix(s.row.Range, "0") {
		least = 0
	}
	n, ok := l.wholeNumber(*number, s.Keyword(), limits(least, 86400))
	if !ok {
		return
	}
	e.Period = time.Duration(n) * second
	*p = e
}

func (l *loader) version(s statement, p *Version) {
	if i := l.choice(s, "2", "3"); i >= 0 {
		*p = Version(i + 2)
	}
}

func (l *loader) setInt12(s statement, p *int) {
	if i := l.choice(s, "1", "2"); i >= 0 {
		*p = i + 1
	}
}

func (l *loader) setInt32(s statement, p *int) {
	if n, ok := l.wholeNumber(s.Words[1], s.Keyword(), limits(-1<<31, 1<<31-1)); ok {
		*p = n
	}
}

func (l *loader) receivePolicy(s statement) {
	b := &l.global.Buffers
	switch s.Words[1].Text {
	case "MTU":
		b.ReceivePolicy = ReceiveMTU
	case "ADVERT":
		b.ReceivePolicy = ReceiveAdvert
	default:
		const what = "vrrp_rx_bufs_policy (MTU, ADVERT or a number of bytes)"
		if n, ok := l.wholeNumber(s.Words[1], what, limits(1, 1<<32-1)); ok {
			b.ReceivePolicy, b.ReceiveBytes = ReceiveBytes, uint32(n)
		}
	}
}

var umaskBits = map[string]int{
	"IRUSR": 0o400, "IWUSR": 0o200, "IXUSR": 0o100, "IRWXU": 0o700,
	"IRGRP": 0o040, "IWGRP": 0o020, "IXGRP": 0o010, "IRWXG": 0o070,
	"IROTH": 0o004, "IWOTH": 0o002, "IXOTH": 0o001, "IRWXO": 0o007,
}

// umask reads a number (octal with a leading 0, hexadecimal with 0x) or names of bits with | between them.
func (l *loader) umask(s statement) {
	first := s.Words[1]
	if first.Text != "" && first.Text[0] >= '0' && first.Text[0] <= '9' {
		n, err := strconv.ParseUint(first.Text, 0, 32)
		if err != nil || n > 0o777 {
			l.errorf(CodeRange, first, "umask %s is not a number up to 0777", quote(first.Text))
			return
		}
		l.global.Umask = int(n)
		return
	}
	mask := 0
	for _, w := range s.Args() {
		for name := range strings.SplitSeq(w.Text, "|") {
			bit, known := umaskBits[name]
			if !known && name != "" {
				l.errorf(CodeChoice, w, "umask: %s is not the name of a bit such as IRGRP", quote(name))
				return
			}
			mask |= bit
		}
	}
	l.global.Umask = mask
}

func (l *loader) fifoWords(h handlers, name string, f *FIFO) {
	h[name] = func(s statement) {
		f.Pos, f.Path = s.Pos(), s.Words[1].Text
		f.User, f.Group = "", ""
		if len(s.Words) > 2 {
			f.User, f.Group = identity(s.Words[2:])
		}
	}
	h[name+"_script"] = func(s statement) { l.setCommand(s, &f.Script) }
}

func (l *loader) schedulingWords(h handlers, prefix string, p *Scheduling) {
	h[prefix+"_priority"] = func(s statement) { l.setInt(s, &p.Nice) }
	h[prefix+"_no_swap"] = setTrue(&p.NoSwap)
	h[prefix+"_rt_priority"] = func(s statement) {
		if n, ok := l.integer(s); ok {
			p.RealtimeSet, p.Realtime = true, n
		}
	}
	h[prefix+"_cpu_affinity"] = func(s statement) {
		p.CPUs = nil
		for _, w := range s.Args() {
			if n, ok := l.wholeNumber(w, s.Keyword(), limits(0, 1<<16)); ok {
				p.CPUs = append(p.CPUs, n)
			}
		}
	}
	h[prefix+"_rlimit_rttime"] = func(s statement) { l.setSeconds(s, &p.RlimitRTTime) }
	h[prefix+"_rlimit_rtime"] = h[prefix+"_rlimit_rttime"]
}

func (l *loader) netlinkWords(h handlers, prefix string, command, monitor *NetlinkBuffers) {
	for name, b := range map[string]*NetlinkBuffers{"cmd": command, "monitor": monitor} {
		word := prefix + "_netlink_" + name + "_rcv_bufs"
		h[word] = func(s statement) { l.setUint32(s, &b.Bytes) }
		h[word+"_force"] = l.bools(&b.Force)
	}
}

// garpWords are the words about gratuitous ARP, which global_defs knows with a prefix.
func (l *loader) garpWords(h handlers, prefix string, g *garpDraft) {
	count := func(p **int) func(statement) {
		return func(s statement) {
			n := -1
			if s.row.Limits().Min > 0 {
				l.setCount(s, &n)
			} else {
				l.setInt(s, &n)
			}
			if n >= 0 {
				*p = &n
			}
		}
	}
	span := func(p **time.Duration) func(statement) {
		return func(s statement) {
			if d, ok := l.span(s); ok {
				*p = &d
			}
		}
	}
	h[prefix+"garp_master_repeat"] = count(&g.masterRepeat)
	h[prefix+"garp_master_refresh_repeat"] = count(&g.masterRefreshRepeat)
	h[prefix+"garp_lower_prio_repeat"] = count(&g.lowerPrioRepeat)
	h[prefix+"garp_master_delay"] = span(&g.masterDelay)
	h[prefix+"garp_master_refresh"] = span(&g.masterRefresh)
	h[prefix+"garp_lower_prio_delay"] = span(&g.lowerPrioDelay)
}

// resolve puts defaults in place of what was not given: base, or with least the fewest messages that keepalived's
// vrrp_min_garp asks for.
func (g *garpDraft) resolve(base GARP, least bool) GARP {
	if least {
		base = GARP{MasterRepeat: 1, LowerPrioRepeat: 1}
	}
	setIf(&base.MasterRepeat, g.masterRepeat)
	setIf(&base.MasterDelay, g.masterDelay)
	setIf(&base.MasterRefresh, g.masterRefresh)
	setIf(&base.MasterRefreshRepeat, g.masterRefreshRepeat)
	setIf(&base.LowerPrioRepeat, g.lowerPrioRepeat)
	setIf(&base.LowerPrioDelay, g.lowerPrioDelay)
	return base
}

func setIf[T any](p *T, given *T) {
	if given != nil {
		*p = *given
	}
}

// resolveGlobal puts the defaults of global_defs in place that depend on other words.
func (l *loader) resolveGlobal() {
	g, given := l.global.Global, &l.global.garp
	g.GARP = given.resolve(GARP{MasterRepeat: 5, MasterDelay: 5 * second, MasterRefreshRepeat: 1}, g.MinGARP)
	if given.lowerPrioRepeat == nil {
		g.GARP.LowerPrioRepeat = g.GARP.MasterRepeat
	}
	if given.lowerPrioDelay == nil {
		g.GARP.LowerPrioDelay = g.GARP.MasterDelay
	}
	l.resolveMail()
	l.resolveTraps()
	if g.VMACAddrPrefix == "" {
		g.VMACAddrPrefix = g.VMACPrefix
	}
	if g.SNMP.RSUpdateInterval == 0 {
		g.SNMP.RSUpdateInterval = g.SNMP.VSUpdateInterval
	}
}

// vmacPrefix reads what names of interfaces begin with: up to three digits, a dot and a number of three digits follow.
func (l *loader) vmacPrefix(s statement, prefix *string) {
	if name, ok := l.interfaceName(s.Words[1]); ok && len(name) <= maxInterfaceName-7 {
		*prefix = name
	} else if ok {
		l.errorf(CodeRange, s.Words[1], "%s is longer than %d characters and is ignored", quote(name), maxInterfaceName-7)
	}
}

// resolveSyncDaemon takes an instance's lvs_sync_daemon_interface for an lvs_sync_daemon of that instance, if there is none.
func (l *loader) resolveSyncDaemon() {
	for i := range l.cfg.Instances {
		in := &l.cfg.Instances[i]
		switch d := l.cfg.Global.LVS.SyncDaemon; {
		case in.LVSSyncInterface == "":
		case d == nil:
			l.cfg.Global.LVS.SyncDaemon = &SyncDaemon{Pos: in.Pos, Interface: in.LVSSyncInterface, Instance: in.Name, ID: -1, Port: 8848,
				TTL: 1, Group: defaultSyncGroup}
		default:
			l.warnf(CodeRepeated, wordAt(in.Pos), "connections are synchronized as %v says; lvs_sync_daemon_interface of %s is ignored", d.Pos,
				in.Name)
		}
	}
}
