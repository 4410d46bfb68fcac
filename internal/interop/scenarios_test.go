//go:build interop

package interop_test

import (
	"strings"
	"time"
)

// conf is a file of some blocks.
func conf(blocks ...string) string {
	return strings.Join(append([]string{section("global_defs", "router_id interop", "script_user root", "vrrp_version 3")}, blocks...), "")
}

// section is a block of some lines.
func section(name string, lines ...string) string {
	return name + " {\n    " + strings.ReplaceAll(strings.Join(lines, "\n"), "\n", "\n    ") + "\n}\n"
}

// vi is a virtual router with the usual data and some further lines.
func vi(lines ...string) string {
	return section("vrrp_instance VI", append([]string{"interface eth0", "virtual_router_id 51"}, lines...)...)
}

// one is a file with one virtual router of the usual address.
func one(lines ...string) string { return conf(vi(append(lines, vip)...)) }

var (
	vip    = vips("10.77.0.100/24")
	notify = "notify DIR/notify.sh"
)

func vips(lines ...string) string { return section("virtual_ipaddress", lines...) }

// Reasons that several scenarios have. Debian's keepalived is 2.2.7; had goes by what releases since 2.3 do.
const (
	earlyMaster  = "an initial master with a priority below 255 waits for one interval only since 2.3"
	laterRefresh = "the first refresh comes after the delay and the interval of refreshes since 2.3, before that after the interval"
	allQueued    = "of announcements that have to wait keepalived sends one for each address, had all"
	addressList  = "another list of addresses is no reason to drop an advert since 2.3"
	reloadAdvert = "keepalived's masters advertise before a reload, had's when it is their turn"
	lastBurst    = "had repeats the announcements after garp_lower_prio_delay once, after the last advert of lower priority; " +
		"keepalived after each"
)

// timerScenarios are about who is master from when to when.
var timerScenarios = []scenario{
	{
		name:  "alone",
		conf:  one(notify),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "a better master speaks, and falls silent",
		conf:  one(notify),
		steps: []step{{0.5, meet("priority 150", priority(150))}, {5.5, silence}, {5, pass}},
	},
	{
		name:   "advert_int",
		conf:   one("advert_int 2"),
		advert: 2 * time.Second,
		steps:  []step{{9, pass}},
	},
	{
		name:  "advert_int of version 2 with a fraction",
		conf:  one("version 2", "advert_int 1.4"),
		steps: []step{{4.5, pass}},
	},
	{
		name:   "advert_int of version 3 with more digits than fit",
		conf:   one("advert_int 0.254"),
		advert: 250 * time.Millisecond,
		steps:  []step{{2, pass}},
	},
	{
		name:  "the lowest priority",
		conf:  one("priority 1", notify),
		steps: []step{{5, pass}},
	},
	{
		name:  "the highest priority of a router that is not the owner",
		conf:  one("priority 254", notify),
		steps: []step{{4, pass}},
	},
	{
		name:  "state MASTER without a priority",
		conf:  one("state MASTER", notify),
		steps: []step{{2, pass}},
	},
	{
		name:  "priority 255 without a state",
		conf:  one("priority 255", notify),
		steps: []step{{2, pass}},
	},
	{
		name:    "state MASTER with a priority",
		conf:    one("state MASTER", "priority 150", notify),
		steps:   []step{{4, pass}},
		differs: []explained{{earlyMaster, []string{"advert", "claim", "kernel", "MASTER 150"}}},
	},
	{
		name:  "down_timer_adverts",
		conf:  one("down_timer_adverts 5"),
		steps: []step{{7, pass}},
	},
	{
		name:  "vrrp_down_timer_adverts",
		conf:  conf(section("global_defs", "vrrp_down_timer_adverts 1"), vi(vip)),
		steps: []step{{3, pass}},
	},
	{
		name:  "vrrp_startup_delay",
		conf:  conf(section("global_defs", "vrrp_startup_delay 2"), vi(notify, vip)),
		steps: []step{{7, pass}},
	},
	{
		name:  "preemption waits for the down timer, which a lower priority does not start again",
		conf:  one("preempt", "priority 110"),
		steps: []step{{0.5, meet("priority 100")}, {5, silence}},
	},
	{
		name:  "nopreempt",
		conf:  one("nopreempt", "priority 110"),
		steps: []step{{0.5, meet("priority 100")}, {5.5, silence}, {5, pass}},
	},
	{
		name:    "preempt_delay",
		conf:    one("preempt_delay 2.5", "priority 110"),
		steps:   []step{{0.5, meet("priority 100")}, {8.5, silence}},
		differs: []explained{{lastBurst, []string{"claim"}}},
	},
	{
		name:  "preempt_delay does not delay the end of a silence",
		conf:  one("preempt_delay 30", "priority 110"),
		steps: []step{{0.5, meet("priority 100")}, {3.5, silence}, {5, pass}},
	},
	{
		name:  "preempt_delay does not delay after priority 0",
		conf:  one("preempt_delay 30", "priority 110"),
		steps: []step{{0.5, meet("priority 100")}, {2.5, silence}, {0, hear("priority 0", priority(0))}, {2, pass}},
	},
	{
		name:  "a backup learns the interval of the master",
		conf:  one(notify),
		steps: []step{{0.5, hear("an interval of 0.3 s", priority(150), interval(30))}, {3, pass}},
	},
	{
		name:  "a backup of version 2 insists on its own interval",
		conf:  one("version 2"),
		steps: []step{{0.5, hear("an interval of 2 s", priority(150), version2(""), interval(2))}, {4, pass}},
	},
	{
		name:  "a backup hears priority 0",
		conf:  one(notify),
		steps: []step{{0.5, meet("priority 150", priority(150))}, {1.5, silence}, {0, hear("priority 0", priority(0))}, {3, pass}},
	},
	{
		name:  "a backup accepts its own priority",
		conf:  one(),
		steps: []step{{0.5, meet("priority 100")}, {5, silence}},
	},
	{
		name:    "nopreempt of an initial master is void",
		conf:    one("state MASTER", "priority 150", "nopreempt"),
		steps:   []step{{0.5, meet("priority 100")}, {5, silence}},
		differs: []explained{{earlyMaster, []string{"advert", "claim", "kernel"}}},
	},
}

// interval changes the interval of a forgery, in the unit of its version.
func interval(units uint16) func(*forgery) { return func(f *forgery) { f.interval = units } }

// rivalScenarios are about what a master makes of others.
var rivalScenarios = []scenario{
	{
		name: "a master hears higher and lower priorities",
		conf: one(notify, "garp_master_delay 0", "notify_master_rx_lower_pri \"DIR/notify.sh lower\""),
		steps: []step{{4.5, hear("priority 50", priority(50))}, {2, hear("priority 0", priority(0))},
			{2, hear("its own priority from a lower address", from("10.77.0.0"))},
			{2, hear("its own priority from its own address", from("10.77.0.1"))},
			{2, hear("its own priority from a higher address")}, {5, hear("priority 101", priority(101))}, {5, pass}},
		differs: []explained{{lastBurst, []string{"claim"}}},
	},
	{
		name: "a master takes no notice of what is not for it, or wrong",
		conf: one(notify),
		steps: []step{{4.5, hear("a wrong checksum", priority(150), wrongChecksum)}, {1.5, hear("TTL 254", priority(150), ttl(254))},
			{1.5, hear("another VRID", priority(150), func(f *forgery) { f.vrid++ })},
			{1.5, hear("another version", priority(150), version2(""))},
			{1.5, hear("another type", priority(150), func(f *forgery) { f.kind = 2 })},
			{1.5, hear("4 bytes too few", priority(150), func(f *forgery) { f.cut = 4 })},
			{1.5, hear("no pseudo-header in the checksum", priority(150), func(f *forgery) { f.plain = true })}},
	},
	{
		name: "adverts that a master drops do not delay its own",
		conf: one("garp_master_delay 0"),
		steps: []step{{4.5, act{name: "adverts with TTL 254, again and again", do: func(s *stage) error {
			for range 10 {
				if err := s.say(priority(150), ttl(254)); err != nil {
					return err
				}
				time.Sleep(400 * time.Millisecond)
			}
			return nil
		}}}},
		differs: []explained{{"a master of 2.2.7 waits anew for its next advert whenever it drops somebody else's", []string{"advert"}}},
	},
	{
		name: "another list of addresses is no reason to drop an advert",
		conf: one(notify),
		steps: []step{{0.5, meet("another address", priority(150), listing("10.77.0.200"))},
			{5, meet("one more address", priority(150), listing("10.77.0.100", "10.77.0.200"))}, {5, silence}},
		differs: []explained{{addressList, []string{"advert", "claim", "kernel", "MASTER"}}},
	},
	{
		name: "authentication by password",
		conf: one("version 2", "priority 150", section("authentication", "auth_type PASS", "auth_pass secret"), notify, "garp_master_delay 0"),
		steps: []step{{4.5, hear("no password", priority(200), version2(""))}, {1.5, hear("another password", priority(200), version2("Secret"))},
			{1.5, hear("another interval", priority(200), version2("secret"), interval(2))},
			{1.5, hear("the same password", priority(200), version2("secret"))}, {5, pass}},
	},
	{
		name: "a password of more than 8 characters",
		conf: one("version 2", section("authentication", "auth_type PASS", "auth_pass let-me-in"), notify),
		steps: []step{{4.5, hear("the first 8 characters", priority(200), version2("let-me-i"))},
			{5, pass}},
	},
	{
		name:  "a password in version 3",
		conf:  one("version 3", section("authentication", "auth_type PASS", "auth_pass secret")),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "higher_prio_send_advert",
		conf:  one("higher_prio_send_advert true"),
		steps: []step{{4.5, hear("priority 150", priority(150))}, {2, pass}},
	},
	{
		name:  "vrrp_higher_prio_send_advert, and an exception",
		conf:  conf(section("global_defs", "vrrp_higher_prio_send_advert"), vi("higher_prio_send_advert false", vip)),
		steps: []step{{4.5, hear("priority 150", priority(150))}, {2, pass}},
	},
	{
		name:  "lower_prio_no_advert",
		conf:  one("lower_prio_no_advert", "garp_master_delay 0"),
		steps: []step{{4.5, hear("priority 50", priority(50))}, {2, pass}},
	},
	{
		name:  "garp_lower_prio_delay and garp_lower_prio_repeat",
		conf:  one("garp_master_delay 0", "garp_lower_prio_delay 1", "garp_lower_prio_repeat 2"),
		steps: []step{{4.5, hear("priority 50", priority(50))}, {3, pass}},
	},
	{
		name:  "garp_lower_prio_repeat 0",
		conf:  one("garp_master_delay 0", "garp_lower_prio_repeat 0"),
		steps: []step{{4.5, hear("priority 50", priority(50))}, {2, pass}},
	},
	{
		name: "vrrp_lower_prio_no_advert, vrrp_garp_lower_prio_delay and vrrp_garp_lower_prio_repeat",
		conf: conf(section("global_defs", "vrrp_lower_prio_no_advert", "vrrp_garp_master_delay 0", "vrrp_garp_lower_prio_delay 1",
			"vrrp_garp_lower_prio_repeat 3"), vi(vip)),
		steps: []step{{4.5, hear("priority 50", priority(50))}, {3, pass}},
	},
	{
		name: "an owner hears others",
		conf: one("state MASTER", "priority 255", "garp_master_delay 0", notify),
		steps: []step{{2, hear("priority 254", priority(254))}, {2, hear("priority 255 from a lower address", priority(255), from("10.77.0.0"))},
			{4, hear("priority 255 from a higher address", priority(255))}, {3, pass}},
		differs: []explained{{"two owners came to terms in another way before 2.3", []string{"advert", "claim", "kernel", "notify"}}},
	},
	{
		name:    "owner_ignore_adverts",
		conf:    one("state MASTER", "priority 255", "owner_ignore_adverts", notify),
		steps:   []step{{2, hear("priority 255 from a higher address", priority(255))}, {2, pass}},
		differs: []explained{{"2.2.7 does not know the word", []string{"prio 254", "prio 255", "claim", "kernel", "notify"}}},
	},
	{
		name:  "strict_mode",
		conf:  one("strict_mode", "garp_master_delay 0", notify),
		steps: []step{{4.5, hear("priority 50", priority(50))}, {2, hear("priority 150", priority(150))}, {5, pass}},
	},
}

func ttl(n byte) func(*forgery)    { return func(f *forgery) { f.ttl = n } }
func wrongChecksum(f *forgery)     { f.badChecksum = true }
func plainChecksum(f *forgery)     { f.plain = true }
func unicast(f *forgery)           { f.dst = addresses([]string{"10.77.0.1"})[0] }
func peers(lines ...string) string { return section("unicast_peer", lines...) }

// wireScenarios are about what adverts look like, and which ones are taken.
var wireScenarios = []scenario{
	{
		name: "unicast to two peers",
		conf: one("unicast_src_ip 10.77.0.1", peers("10.77.0.2", "10.77.0.3"), notify),
		steps: []step{{4.5, hear("multicast", priority(150))}, {1.5, hear("unicast from a stranger", priority(150), unicast, from("10.77.0.77"))},
			{5, hear("unicast over a router", priority(150), unicast, ttl(17))}, {5, pass}},
	},
	{
		name: "unicast_ttl and check_unicast_src",
		conf: one("unicast_ttl 64", "check_unicast_src", peers("10.77.0.2"), notify),
		steps: []step{{4.5, hear("unicast from a stranger", priority(150), unicast, from("10.77.0.77"))},
			{1.5, hear("unicast from the peer", priority(150), unicast)}, {5, pass}},
	},
	{
		name: "vrrp_check_unicast_src",
		conf: conf(section("global_defs", "vrrp_check_unicast_src"), vi(peers("10.77.0.2"), vip)),
		steps: []step{{4.5, hear("unicast from a stranger", priority(150), unicast, from("10.77.0.77"))},
			{1.5, hear("unicast from the peer", priority(150), unicast)}, {1.5, pass}},
	},
	{
		name: "min_ttl and max_ttl of a peer",
		conf: one(peers("10.77.0.2 min_ttl 60 max_ttl 64"), notify),
		steps: []step{{4.5, hear("TTL 59", priority(150), unicast, ttl(59))}, {1.5, hear("TTL 65", priority(150), unicast, ttl(65))},
			{1.5, hear("TTL 62", priority(150), unicast, ttl(62))}, {1.5, pass}},
	},
	{
		name:  "mcast_src_ip that is not an address of the router",
		conf:  one("mcast_src_ip 10.77.0.66"),
		steps: []step{{4.5, pass}},
	},
	{
		name: "vrrp_mcast_group4",
		conf: conf(section("global_defs", "vrrp_mcast_group4 239.255.0.18"), vi(vip, notify)),
		steps: []step{{4.5, hear("the standard group", priority(150))}, {1.5, hear("the group configured", priority(150), to("239.255.0.18"))},
			{1.5, pass}},
	},
	{
		name: "IPv6",
		conf: conf(vi(vips("fe80::77:100/64", "fd77::100/64"), notify)),
		steps: []step{{4.5, hear("priority 50", priority(50), ipv6)}, {2, hear("hop limit 64", priority(150), ipv6, ttl(64))},
			{1.5, hear("priority 150", priority(150), ipv6)}, {5, pass}},
	},
	{
		name:  "vrrp_mcast_group6",
		conf:  conf(section("global_defs", "vrrp_mcast_group6 ff02::99"), vi(vips("fe80::77:100/64", "fd77::100/64"))),
		steps: []step{{4.5, hear("the group configured", priority(150), ipv6, to("ff02::99"))}, {1.5, pass}},
	},
	{
		name:  "native_ipv6 with addresses of IPv4",
		conf:  conf(vi("native_ipv6", vips("fe80::77:100/64"), section("virtual_ipaddress_excluded", "10.77.0.100/24"))),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "version 2 over IPv6",
		conf:  conf(vi("version 2", vips("fe80::77:100/64"))),
		steps: []step{{4.5, pass}},
	},
	{
		name: "v3_checksum_as_v2",
		conf: conf(section("global_defs", "v3_checksum_as_v2"), vi(vip, notify)),
		steps: []step{{4.5, hear("no pseudo-header in the checksum", priority(150), plainChecksum)},
			{5, hear("a wrong checksum", priority(150), wrongChecksum)}, {2, pass}},
		differs: []explained{{"2.2.7 does not know the word in global_defs", []string{"advert", "claim", "kernel", "notify"}}},
	},
	{
		name:    "no_virtual_ipaddress",
		conf:    conf(vi("no_virtual_ipaddress", notify)),
		steps:   []step{{4.5, pass}},
		differs: []explained{{"2.2.7 does not know the word", []string{"advert", "notify", "exit code"}}},
	},
	{
		name:  "unicast_fault_no_peer",
		conf:  one("unicast_peer {", "}", "unicast_fault_no_peer", notify),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "no addresses in version 2",
		conf:  conf(vi("version 2", notify)),
		steps: []step{{4.5, pass}},
	},
	{
		name:    "skip_check_adv_addr",
		conf:    one("skip_check_adv_addr", notify),
		steps:   []step{{0.5, meet("another address", priority(150), listing("10.77.0.200"))}, {5, silence}},
		differs: []explained{{addressList, []string{"advert", "claim", "kernel", "MASTER"}}},
	},
}

// removed is an address that somebody else removes.
func removed(prefix, dev string) act { return ip("address del " + prefix + " dev " + dev) }

// addressScenarios are about what is done to addresses in the kernel.
var addressScenarios = []scenario{
	{
		name: "options of IPv4 addresses",
		conf: conf(vi("garp_master_delay 0", vips("10.77.0.100", "10.77.0.101/24 label eth0:vip", "10.77.0.102/24 brd +",
			"10.77.0.103/24 brd 10.77.0.250", "10.77.0.104/24 brd -", "10.80.0.105/24 scope link", "10.78.0.100/24 dev eth1",
			"10.77.0.106 peer 10.79.0.1", "10.81.0.107/24 dev eth0 scope site label eth0:b brd 10.81.0.255",
			"10.77.0.108/24 noprefixroute"))),
		steps:   []step{{4.5, pass}},
		differs: []explained{{"2.2.7 leaves an address with a peer behind", []string{"del eth0 inet 10.77.0.106 peer"}}},
	},
	{
		name: "options of IPv6 addresses",
		conf: conf(vi("garp_master_delay 0", vips("fe80::77:100/64", "fd77::100", "fd77::101/64", "fd77::102/64 -nodad",
			"fd77::103/64 home", "fd77::104/64 preferred_lft 600", "fd77::105/128 preferred_lft forever", "fd78::100/64 dev eth1",
			"fd77::106/64 noprefixroute"))),
		steps: []step{{4.5, pass}},
	},
	{
		name: "words in a wrong place in lines of addresses",
		conf: conf(vi("garp_master_delay 0", vips("10.77.0.100/24 label", "10.77.0.101/24 sparkling", "10.77.0.300/24", "fd77::100/64",
			"10.77.0.102/24", "10.77.0.102/24"))),
		steps:   []step{{4.5, pass}},
		differs: []explained{{"since 2.3 keepalived ignores an address that is there twice", []string{"10.77.0.102"}}},
	},
	{
		name:  "virtual_ipaddress_excluded",
		conf:  one(section("virtual_ipaddress_excluded", "10.77.0.150/24", "fd77::150/64", "10.78.0.150/24 dev eth1"), "garp_master_delay 0"),
		steps: []step{{4.5, pass}},
	},
	{
		name: "options of addresses that are not announced",
		conf: one("state BACKUP", "garp_master_delay 0", section("virtual_ipaddress_excluded", "10.77.0.151/24 label eth0:vip", "10.77.0.152/24 brd +",
			"10.77.0.153/24 broadcast 10.77.0.250", "10.77.0.154/24 brd -", "10.80.0.155/24 scope link", "10.77.0.156 peer 10.79.0.1",
			"10.77.0.157/24 noprefixroute no_track", "fd77::152/64 -nodad", "fd77::154/64 preferred_lft forever")),
		steps:   []step{{4.5, pass}},
		differs: []explained{{"2.2.7 leaves an address with a peer behind", []string{"del eth0 inet 10.77.0.156 peer"}}},
	},
	{
		name: "options of static addresses",
		conf: conf(section("static_ipaddress", "10.79.0.1/24 dev eth0 label eth0:st", "10.79.1.1/24 brd + dev eth0", "10.79.2.1/24 broadcast 10.79.2.250 dev eth0",
			"10.79.3.1/24 brd - dev eth0", "10.79.4.1/24 scope link dev eth1", "10.79.5.1 peer 10.79.5.2 dev eth1", "10.79.6.1/24 noprefixroute no_track dev eth1",
			"fd79::2/64 -nodad dev eth0", "fd79::3/64 preferred_lft forever dev eth1"), vi(vip)),
		steps:   []step{{4.5, pass}},
		differs: []explained{{"2.2.7 leaves an address with a peer behind", []string{"del eth1 inet 10.79.5.1 peer"}}},
	},
	{
		name:  "broadcast",
		conf:  conf(vi("garp_master_delay 0", vips("10.77.0.103/24 broadcast 10.77.0.250"))),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "somebody removes an address",
		conf:  one(notify, "garp_master_delay 0"),
		steps: []step{{4.5, removed("10.77.0.100/24", "eth0")}, {4, pass}},
	},
	{
		name:  "somebody removes an address that is not announced",
		conf:  one(notify, "garp_master_delay 0", section("virtual_ipaddress_excluded", "10.77.0.150/24")),
		steps: []step{{4.5, removed("10.77.0.150/24", "eth0")}, {4, pass}},
	},
	{
		name:   "an address is there already",
		conf:   one(notify, "garp_master_delay 0"),
		before: "address add 10.77.0.100/24 dev eth0",
		steps:  []step{{4.5, pass}},
	},
	{
		name:    "somebody adds an address that is taken later",
		conf:    one(notify, "garp_master_delay 0"),
		steps:   []step{{0.5, ip("address add 10.77.0.100/24 dev eth0")}, {4.5, pass}},
		differs: []explained{{"had sets the options of an address that is there already", []string{"add eth0 inet 10.77.0.100/24"}}},
	},
	{
		name:  "no_track of an address",
		conf:  conf(vi(notify, "garp_master_delay 0", vips("10.77.0.100/24 no_track", "10.77.0.101/24"))),
		steps: []step{{4.5, removed("10.77.0.100/24", "eth0")}, {2, removed("10.77.0.101/24", "eth0")}, {4, pass}},
	},
}

// announcementScenarios are about gratuitous ARP and unsolicited neighbour advertisements.
var announcementScenarios = []scenario{
	{
		name:  "garp_master_delay and garp_master_repeat",
		conf:  one("garp_master_delay 1", "garp_master_repeat 2"),
		steps: []step{{6, pass}},
	},
	{
		name:    "garp_master_refresh and garp_master_refresh_repeat",
		conf:    one("garp_master_delay 1", "garp_master_repeat 1", "garp_master_refresh 1", "garp_master_refresh_repeat 3"),
		steps:   []step{{7.5, pass}},
		differs: []explained{{laterRefresh, []string{"claim"}}},
	},
	{
		name: "vrrp_garp_master_delay, vrrp_garp_master_repeat, vrrp_garp_master_refresh, vrrp_garp_master_refresh_repeat",
		conf: conf(section("global_defs", "vrrp_garp_master_delay 1", "vrrp_garp_master_repeat 2", "vrrp_garp_master_refresh 1",
			"vrrp_garp_master_refresh_repeat 2"), vi(vips("fe80::77:100/64", "fd77::100/64"))),
		steps:   []step{{7.5, pass}},
		differs: []explained{{laterRefresh, []string{"claim"}}},
	},
	{
		name:    "a number of announcements of 0",
		conf:    one("garp_master_delay 1", "garp_master_repeat 0", "garp_master_refresh 1", "garp_master_refresh_repeat 0"),
		steps:   []step{{6.5, pass}},
		differs: []explained{{laterRefresh, []string{"claim"}}},
	},
	{
		name: "vrrp_garp_interval",
		conf: conf(section("global_defs", "vrrp_garp_interval 0.5"),
			vi("garp_master_delay 0", "garp_master_repeat 2", vips("10.77.0.100/24", "10.77.0.101/24"))),
		steps:   []step{{7, pass}},
		differs: []explained{{allQueued, []string{"1 x 10.77.0.101"}}},
	},
	{
		name: "vrrp_gna_interval",
		conf: conf(section("global_defs", "vrrp_gna_interval 0.5"),
			vi("garp_master_delay 0", "garp_master_repeat 2", vips("fe80::77:100/64", "fd77::100/64"))),
		steps:   []step{{7, pass}},
		differs: []explained{{allQueued, []string{"1 x fd77::100"}}},
	},
	{
		name:  "vrrp_min_garp",
		conf:  conf(section("global_defs", "vrrp_min_garp"), vi(vip)),
		steps: []step{{4.5, hear("priority 50", priority(50))}, {5.5, pass}},
	},
	{
		name:  "vrrp_min_garp of all but what is given",
		conf:  conf(section("global_defs", "vrrp_min_garp true"), vi("garp_master_repeat 3", vip)),
		steps: []step{{4.5, hear("priority 50", priority(50))}, {5.5, pass}},
	},
}

// groupScenarios are about sync groups.
var groupScenarios = []scenario{
	{
		name:  "a sync group of two interfaces loses one of them",
		conf:  conf(section("vrrp_sync_group G", section("group", "A", "B"), notify, "notify_master \"DIR/notify.sh group master\""), pair(notify)),
		steps: []step{{9, unplug("eth1")}, {2, plug("eth1")}, {9, pass}},
	},
	{
		name:  "one member of a sync group hears a higher priority",
		conf:  conf(section("vrrp_sync_group G", section("group", "A B"), notify), pair(notify, "garp_master_delay 0")),
		steps: []step{{9, hear("priority 250", priority(250))}, {9, pass}},
	},
	{
		name:  "one member of a sync group hears a lower priority",
		conf:  conf(section("vrrp_sync_group G", section("group", "A B"), notify), pair("garp_master_delay 0")),
		steps: []step{{9, hear("priority 50", priority(50))}, {2, pass}},
	},
	{
		name:    "a better master keeps a whole sync group in backup",
		conf:    conf(section("vrrp_sync_group G", section("group", "A B"), notify), pair()),
		steps:   []step{{0.5, meet("priority 150", priority(150))}, {8.5, silence}, {8, pass}},
		differs: []explained{{lastBurst, []string{"claim"}}},
	},
	{
		name:    "somebody removes an address of one member of a sync group",
		conf:    conf(section("vrrp_sync_group G", section("group", "A B"), notify), pair(notify, "garp_master_delay 0")),
		steps:   []step{{9, removed("10.78.0.100/24", "eth1")}, {6, pass}},
		differs: []explained{{"2.2.7 does not report a group one of whose members has lost an address", []string{"GROUP G BACKUP"}}},
	},
	{
		name:  "a sync group of one",
		conf:  conf(section("vrrp_sync_group G", section("group", "VI"), notify), vi(vip, notify)),
		steps: []step{{4.5, unplug("eth0")}, {2, plug("eth0")}, {6, pass}},
	},
	{
		name:  "weights are no good in a sync group",
		conf:  conf(testScript("ok", "weight -50"), section("vrrp_sync_group G", section("group", "A B")), pair(section("track_script", "ok"))),
		steps: []step{{9, remove("ok")}, {3, pass}},
	},
	{
		name: "sync_group_tracking_weight",
		conf: conf(testScript("ok", "weight -50"), section("vrrp_sync_group G", section("group", "A B"), "sync_group_tracking_weight"),
			pair(section("track_script", "ok"))),
		steps: []step{{9, remove("ok")}, {3, pass}},
	},
	{
		name:  "a sync group tracks an interface",
		conf:  conf(section("vrrp_sync_group G", section("group", "VI"), section("track_interface", "eth1"), notify), vi(vip, notify)),
		steps: []step{{4.5, unplug("eth1")}, {2, plug("eth1")}, {6, pass}},
	},
	{
		name:  "a sync group tracks an interface with a weight, and the other way round",
		conf:  conf(section("vrrp_sync_group G", section("group", "VI"), "sync_group_tracking_weight", section("track_interface", "eth1 weight 30 reverse")), vi(vip)),
		steps: []step{{4.5, unplug("eth1")}, {3, plug("eth1")}, {3, pass}},
	},
	{
		name:  "a sync group tracks a script with a weight, and the other way round",
		conf:  conf(testScript("ok"), section("vrrp_sync_group G", section("group", "VI"), "sync_group_tracking_weight", section("track_script", "ok weight 20 reverse")), vi(vip)),
		steps: []step{{5.5, remove("ok")}, {3, create("ok")}, {3, pass}},
	},
	{
		name:    "a sync group tracks a script",
		conf:    conf(testScript("ok"), section("vrrp_sync_group G", section("group", "A B"), section("track_script", "ok"), notify), pair(notify)),
		steps:   []step{{9, remove("ok")}, {3, create("ok")}, {9, pass}},
		differs: []explained{{"had reports a group that begins before its members, keepalived does not if they had to wait for a script", []string{"GROUP G BACKUP"}}},
	},
}

// pair is two virtual routers, A and B, on eth0 and eth1, with the same further lines. A is always ready 0.4 s before B.
func pair(lines ...string) string {
	return section("vrrp_instance A", append([]string{"interface eth0", "virtual_router_id 51", "priority 200", vip}, lines...)...) +
		section("vrrp_instance B", append([]string{"interface eth1", "virtual_router_id 52", "priority 100", vips("10.78.0.100/24")},
			lines...)...)
}

// testScript is a script of the name of a file that succeeds if that is there.
func testScript(name string, lines ...string) string {
	return section("vrrp_script "+name, append([]string{"script \"DIR/exists.sh " + name + "\"", "interval 1"}, lines...)...)
}

// tracks is a file with one virtual router that tracks scripts.
func tracks(scripts []string, names ...string) string {
	return conf(append(scripts, vi(notify, "garp_master_delay 0", vip, section("track_script", names...)))...)
}

// trackScenarios are about interfaces and scripts.
var trackScenarios = []scenario{
	{
		name:  "the interface loses its carrier",
		conf:  one(notify, "garp_master_delay 0"),
		steps: []step{{4.5, unplug("eth0")}, {2, plug("eth0")}, {6, pass}},
	},
	{
		name:  "the interface is set down",
		conf:  one(notify, "garp_master_delay 0"),
		steps: []step{{4.5, ip("link set eth0 down")}, {2, ip("link set eth0 up")}, {6, pass}},
	},
	{
		name:    "dont_track_primary",
		conf:    one(notify, "garp_master_delay 0", "dont_track_primary"),
		steps:   []step{{4.5, unplug("eth0")}, {2, plug("eth0")}, {4, pass}},
		differs: []explained{{"had announces its addresses when the link comes up: a switch may have forgotten where they are", []string{"claim"}}},
	},
	{
		name:  "track_interface",
		conf:  one(notify, "garp_master_delay 0", section("track_interface", "eth1")),
		steps: []step{{4.5, unplug("eth1")}, {2, plug("eth1")}, {6, pass}},
	},
	{
		name:  "track_interface with a positive weight",
		conf:  one("garp_master_delay 0", section("track_interface", "eth1 weight 30")),
		steps: []step{{4.5, unplug("eth1")}, {3, plug("eth1")}, {3, pass}},
	},
	{
		name:  "track_interface with a negative weight",
		conf:  one("garp_master_delay 0", section("track_interface", "eth1 weight -30")),
		steps: []step{{4.5, unplug("eth1")}, {3, plug("eth1")}, {3, pass}},
	},
	{
		name:  "track_interface the other way round",
		conf:  one("garp_master_delay 0", section("track_interface", "eth1 weight 30 reverse")),
		steps: []step{{4.5, unplug("eth1")}, {3, plug("eth1")}, {3, pass}},
	},
	{
		name:  "a script that a line turns round",
		conf:  tracks([]string{testScript("ok", "weight 20")}, "ok weight 10 reverse"),
		steps: []step{{5.5, remove("ok")}, {3, create("ok")}, {3, pass}},
	},
	{
		name:   "an interface that is down from the start",
		conf:   one(notify, section("track_interface", "eth1")),
		before: "link set eth1 down",
		steps:  []step{{2.5, ip("link set eth1 up")}, {6, pass}},
	},
	{
		name:  "track_script without a weight",
		conf:  tracks([]string{testScript("ok")}, "ok"),
		steps: []step{{5.5, remove("ok")}, {3, create("ok")}, {6, pass}},
	},
	{
		name:    "track_script with a negative weight",
		conf:    tracks([]string{testScript("ok", "weight -60")}, "ok"),
		steps:   []step{{5.5, remove("ok")}, {3, meet("priority 70", priority(70))}, {3, create("ok")}, {6, silence}},
		differs: []explained{{lastBurst, []string{"claim"}}},
	},
	{
		name:  "track_script with a positive weight that the line changes",
		conf:  tracks([]string{testScript("ok", "weight 60")}, "ok weight 20"),
		steps: []step{{5.5, remove("ok")}, {3, create("ok")}, {3, pass}},
	},
	{
		name: "two scripts add up, and the sum has limits",
		// With a priority of 100 the advertisements begin half a second after the scripts' turns, and stay there.
		conf:  tracks([]string{testScript("late", "weight 100"), testScript("late2", "weight 100")}, "late", "late2"),
		steps: []step{{5.3, create("late")}, {3, create("late2")}, {3, remove("late")}, {3, pass}},
	},
	{
		name:  "rise and fall",
		conf:  tracks([]string{testScript("ok", "rise 3", "fall 3")}, "ok"),
		steps: []step{{5.5, remove("ok")}, {6.5, create("ok")}, {9, pass}},
	},
	{
		name:  "a script that fails from the start, whatever fall says",
		conf:  tracks([]string{section("vrrp_script no", "script /bin/false", "interval 1", "fall 5")}, "no"),
		steps: []step{{3, pass}},
	},
	{
		name:  "a script that succeeds late",
		conf:  tracks([]string{testScript("late", "fall 3", "rise 2")}, "late"),
		steps: []step{{2.5, create("late")}, {7, pass}},
	},
	{
		name:  "a script that takes too long",
		conf:  tracks([]string{section("vrrp_script slow", "script \"/bin/sleep 30\"", "interval 3", "timeout 1", "weight -10")}, "slow"),
		steps: []step{{6, pass}},
	},
	{
		name:  "a reverse script",
		conf:  tracks([]string{testScript("ok", "weight 20 reverse")}, "ok"),
		steps: []step{{5.5, remove("ok")}, {3, pass}},
	},
	{
		name:  "a script that is not there",
		conf:  tracks([]string{section("vrrp_script gone", "script DIR/gone.sh", "interval 1", "weight -20")}, "gone"),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "a script that is not defined",
		conf:  tracks(nil, "gone"),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "a script that opens a file",
		conf:  tracks([]string{section("vrrp_script opens", "script </etc/passwd", "interval 1", "weight 20")}, "opens"),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "an owner has no weights",
		conf:  conf(testScript("ok", "weight -60"), vi("state MASTER", "priority 255", notify, vip, section("track_script", "ok"))),
		steps: []step{{3, remove("ok")}, {3, pass}},
	},
	{
		name:    "the timer of a backup moves with its priority",
		conf:    tracks([]string{testScript("late", "weight 150")}, "late"),
		steps:   []step{{0.5, meet("priority 150", priority(150))}, {2.5, create("late")}, {6, silence}},
		differs: []explained{{lastBurst, []string{"claim"}}},
	},
	{
		name: "track_file",
		conf: conf(section("track_file number", "file DIR/number", "weight 2"), vi(notify, "garp_master_delay 0", vip,
			section("track_file", "number"))),
		steps: []step{{4.5, write("number", "20")}, {3, write("number", "-100")}, {3, write("number", "nonsense")}, {3, write("number", "-127")},
			{3, remove("number")}, {6, pass}},
	},
	{
		name: "track_file with a weight of 0",
		conf: conf(section("track_file number", "file DIR/number", "weight 0"), vi(notify, "garp_master_delay 0", vip,
			section("track_file", "number"))),
		steps: []step{{4.5, write("number", "1")}, {3, write("number", "0")}, {6, pass}},
	},
	{
		name: "track_file of a line with a weight of its own, reverse",
		conf: conf(section("track_file number", "file DIR/number", "init_file 5"), vi("garp_master_delay 0", vip,
			section("track_file", "number weight 3 reverse"))),
		steps: []step{{4.5, write("number", "7")}, {3, pass}},
	},
	{
		name:    "track_src_ip",
		conf:    one("mcast_src_ip 10.77.0.66", "track_src_ip", notify, "garp_master_delay 0"),
		steps:   []step{{2, ip("address add 10.77.0.66/24 dev eth0")}, {5, removed("10.77.0.66/24", "eth0")}, {2, pass}},
		differs: []explained{{"in 2.2.7 the word has no effect", []string{"advert", "claim", "kernel", "notify"}}},
	},
	{
		name:  "user of a script",
		conf:  tracks([]string{section("vrrp_script nobody", "script \"/usr/bin/test -w /etc/shadow\"", "user nobody", "interval 1", "weight -20")}, "nobody"),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "init_fail",
		conf:  tracks([]string{testScript("ok", "init_fail", "rise 3")}, "ok"),
		steps: []step{{7.5, pass}},
	},
	{
		name: "several kinds of trackers add up",
		conf: conf(testScript("ok", "weight 20"), section("track_file number", "file DIR/number"), vi("garp_master_delay 0", vip,
			section("track_script", "ok"), section("track_file", "number"), section("track_interface", "eth1 weight -30"))),
		steps: []step{{4.5, write("number", "15")}, {3, unplug("eth1")}, {3, remove("ok")}, {3, pass}},
	},
}

// notifyScenarios are about scripts and pipes that are told of changes.
var notifyScenarios = []scenario{
	{
		name: "order and arguments of notification scripts",
		conf: one(notify, "notify_master \"DIR/notify.sh master with 'two words'\"", "notify_backup \"DIR/notify.sh backup\"",
			"notify_fault \"DIR/notify.sh fault\"", "notify_stop \"DIR/notify.sh stop\"", "garp_master_delay 0"),
		steps: []step{{4.5, unplug("eth0")}, {2, plug("eth0")}, {6, pass}},
	},
	{
		name: "order and arguments of the notification scripts of a group",
		conf: conf(section("vrrp_sync_group G", section("group", "A B"), notify, "notify_master \"DIR/notify.sh group master\"",
			"notify_backup \"DIR/notify.sh group backup\"", "notify_fault \"DIR/notify.sh group fault\"",
			"notify_stop \"DIR/notify.sh group stop\""), pair(notify, "notify_master \"DIR/notify.sh master\"")),
		steps: []step{{9, unplug("eth1")}, {2, plug("eth1")}, {9, pass}},
	},
	{
		name:  "vrrp_notify_fifo",
		conf:  conf(section("global_defs", "vrrp_notify_fifo DIR/fifo"), vi(vip, "garp_master_delay 0")),
		steps: []step{{4.5, hear("priority 50", priority(50))}, {2, unplug("eth0")}, {2, plug("eth0")}, {6, pass}},
	},
	{
		name:  "notify_fifo of a group",
		conf:  conf(section("global_defs", "notify_fifo DIR/fifo"), section("vrrp_sync_group G", section("group", "A B")), pair()),
		steps: []step{{9, unplug("eth1")}, {2, plug("eth1")}, {9, pass}},
	},
	{
		name:  "a notification script that is not there",
		conf:  one("notify DIR/gone.sh", "notify_master \"DIR/notify.sh master\""),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "a notification script of another user",
		conf:  one("notify \"/bin/sh -c 'echo $$ $(/usr/bin/id -un):$(/usr/bin/id -gn) >DIR/notified'\" nobody"),
		steps: []step{{4.5, pass}},
	},
	{
		name: "startup_script and shutdown_script",
		conf: conf(section("global_defs", "startup_script \"DIR/notify.sh startup\"", "startup_script_timeout 5",
			"shutdown_script \"DIR/notify.sh shutdown\"", "shutdown_script_timeout 5"), vi(vip, notify)),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "vrrp_notify_fifo_script",
		conf:  conf(section("global_defs", "vrrp_notify_fifo DIR/own", "vrrp_notify_fifo_script \"DIR/notify.sh reader\""), vi(vip)),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "notify_fifo_script",
		conf:  conf(section("global_defs", "notify_fifo DIR/own", "notify_fifo_script \"DIR/notify.sh reader\""), vi(vip)),
		steps: []step{{4.5, pass}},
	},
	{
		name:    "what a notification script is started with",
		conf:    one("notify_master \"/bin/sh -c 'echo $$ $(id -un) $(pwd) $(umask) $(ls /proc/self/fd | wc -l) $(env | grep -v ^PWD | sort | tr \\n ,) >DIR/notified'\""),
		steps:   []step{{4.5, pass}},
		differs: []explained{{"the umask of keepalived's scripts is 0177, had's have the one that had was started with; and they get no descriptors of had's", []string{"/internal/interop 0"}}},
	},
	{
		name: "vrrp_notify_priority_changes",
		conf: conf(section("global_defs", "vrrp_notify_fifo DIR/fifo", "vrrp_notify_priority_changes true"), testScript("ok", "weight 20"),
			vi("garp_master_delay 0", vip, section("track_script", "ok"))),
		steps: []step{{5.5, remove("ok")}, {3, meet("priority 150", priority(150))}, {2.5, create("ok")}, {3, pass}},
	},
	{
		name: "notify_priority_changes of a group, and of an instance that differs",
		conf: conf(section("global_defs", "vrrp_notify_fifo DIR/fifo"), testScript("ok", "weight 20"),
			section("vrrp_sync_group G", section("group", "A B"), "sync_group_tracking_weight", "notify_priority_changes"),
			section("vrrp_instance A", "interface eth0", "virtual_router_id 51", "priority 200", vip, section("track_script", "ok")),
			section("vrrp_instance B", "interface eth1", "virtual_router_id 52", "notify_priority_changes false",
				vips("10.78.0.100/24"), section("track_script", "ok"))),
		steps: []step{{9, remove("ok")}, {3, pass}},
	},
}

// vmacScenarios are about interfaces with the address of the virtual router, and about who answers for its addresses.
var vmacScenarios = []scenario{
	{
		name:  "use_vmac",
		conf:  one("use_vmac", notify),
		steps: []step{{4.5, knock("10.77.0.100")}, {1.5, hear("priority 50", priority(50))}, {1.5, hear("priority 150", priority(150))}, {5, pass}},
	},
	{
		name:  "use_vmac with a name, and vmac_xmit_base",
		conf:  one("use_vmac vmac0", "vmac_xmit_base"),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "use_vmac over IPv6",
		conf:  conf(vi("use_vmac", vips("fe80::77:100/64", "fd77::100/64"))),
		steps: []step{{4.5, knock("fd77::100")}, {1.5, pass}},
	},
	{
		name:  "use_vmac with unicast",
		conf:  one("use_vmac", peers("10.77.0.2")),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "use_vmac of a router whose interface fails",
		conf:  one("use_vmac", notify),
		steps: []step{{4.5, unplug("eth0")}, {2, plug("eth0")}, {6, pass}},
	},
	{
		name:  "accept",
		conf:  one("accept"),
		steps: []step{{4.5, knock("10.77.0.100")}, {1.5, pass}},
	},
	{
		name:  "no_accept",
		conf:  one("no_accept"),
		steps: []step{{4.5, knock("10.77.0.100")}, {1.5, pass}},
	},
	{
		name:  "no_accept of an owner",
		conf:  one("state MASTER", "priority 255", "no_accept"),
		steps: []step{{2, knock("10.77.0.100")}, {1.5, pass}},
	},
	{
		name:  "vrrp_strict",
		conf:  conf(section("global_defs", "vrrp_strict"), vi("garp_master_delay 0", vip)),
		steps: []step{{4.5, knock("10.77.0.100")}, {1.5, hear("priority 50", priority(50))}, {1.5, pass}},
	},
}

// refusalScenarios are about files that cannot be used as they are.
var refusalScenarios = []scenario{
	{
		name:  "no virtual_router_id",
		conf:  conf(section("vrrp_instance VI", "interface eth0", vip)),
		steps: []step{{1, pass}},
	},
	{
		name:  "no interface",
		conf:  conf(section("vrrp_instance VI", "virtual_router_id 51", vip)),
		steps: []step{{1, pass}},
	},
	{
		name:  "two instances with one virtual_router_id",
		conf:  conf(vi(vip), section("vrrp_instance VJ", "interface eth0", "virtual_router_id 51", vips("10.77.0.101/24"))),
		steps: []step{{4.5, pass}},
	},
	{
		name:    "an interface that does not exist",
		conf:    conf(vi(vip), section("vrrp_instance VJ", "interface eth9", "virtual_router_id 52", vips("10.79.0.100/24"))),
		steps:   []step{{4.5, pass}},
		differs: []explained{{"had lets the other instances work, and the instance wait for its interface", []string{"advert", "claim", "kernel", "exit code"}}},
	},
	{
		name: "dynamic_interfaces",
		conf: conf(section("global_defs", "dynamic_interfaces"), section("vrrp_instance VI", "interface eth9", "virtual_router_id 51", vips("10.79.0.100/24"), notify)),
		steps: []step{{2, ip("link add eth9 address 02:00:00:00:09:01 type veth peer name eth9p address 02:00:00:00:09:02")}, {0.5, ip("address add 10.79.0.1/24 dev eth9")},
			{0.5, ip("link set eth9p up")}, {0.5, ip("link set eth9 up")}, {5, ip("link del eth9")}, {2, pass}},
	},
	{
		name:  "unknown words",
		conf:  one("sparkling water", "priority many", "advert_int 0", "virtual_router_id 51", notify),
		steps: []step{{4.5, pass}},
	},
	{
		name:  "priority out of range",
		conf:  one("priority 300", notify),
		steps: []step{{4.5, pass}},
	},
	{
		name:    "auth_type AH",
		conf:    one("version 2", section("authentication", "auth_type AH", "auth_pass secret"), notify),
		steps:   []step{{4.5, pass}},
		differs: []explained{{"AH is refused: it needs a digest that nobody should rely on any more", []string{"claim", "kernel", "notify", "exit code"}}},
	},
	{
		name: "comments, definitions, conditions, sequences, braces and quotes",
		conf: "$VIP=10.77.0.100/24\n" + conf("vrrp_instance VI { interface eth0 # a comment\n virtual_router_id 51 ! another\n"+
			" @other priority 10\n @^other priority 200\n virtual_ipaddress { $VIP\n ~SEQ(N,101,102) 10.77.0.$N/24\n }\n \"notify\" \"DIR/notify.sh\"\n}\n"),
		steps: []step{{4.5, pass}},
	},
}

func routes(lines ...string) string { return section("virtual_routes", lines...) }
func rules(lines ...string) string  { return section("virtual_rules", lines...) }

// routeScenarios are about routes and rules, and about what is static.
var routeScenarios = []scenario{
	{
		name: "virtual_routes",
		conf: one("garp_master_delay 0", routes("10.90.0.0/24 via 10.77.0.2", "10.91.0.0/24 dev eth1", "10.92.0.0/24 via 10.77.0.2 dev eth0 metric 50",
			"10.93.0.0/24 via 10.77.0.2 table 100", "blackhole 10.94.0.0/24", "unreachable 10.95.0.0/24", "prohibit 10.96.0.0/24",
			"default via 10.78.0.2 dev eth1 table 101", "10.97.0.0/24 via 10.99.0.2 dev eth1 onlink", "src 10.77.0.100 to 10.98.0.0/24 via 10.77.0.3",
			"10.100.0.0/24 via 10.77.0.2 mtu 1400 protocol static", "10.101.0.0/24 dev eth1 scope link", "10.102.0.0/24 gw 10.77.0.2 preference 70",
			"10.103.0.0/24 nexthop via 10.77.0.2 dev eth0 weight 2 nexthop via 10.78.0.2 dev eth1")),
		steps: []step{{4.5, hear("priority 150", priority(150))}, {5, pass}},
	},
	{
		name:    "virtual_routes of IPv6",
		conf:    conf(vi("garp_master_delay 0", vips("fe80::77:100/64", "fd77::100/64"), routes("fd90::/64 via fd77::2", "inet6 fd91::/64 dev eth1", "blackhole fd92::/64"))),
		steps:   []step{{4.5, pass}},
		differs: []explained{{"2.2.7 does not understand inet6 here", []string{"fd91::/64"}}},
	},
	{
		name:    "somebody removes a route",
		conf:    one(notify, "garp_master_delay 0", routes("10.90.0.0/24 via 10.77.0.2")),
		steps:   []step{{4.5, ip("route del 10.90.0.0/24")}, {4, pass}},
		differs: []explained{{"2.2.7 does not notice", []string{"advert", "claim", "add eth0 inet", "del eth0 inet", "10.90.0.0/24", "notify"}}},
	},
	{
		name:  "somebody removes a route that is not tracked",
		conf:  one(notify, "garp_master_delay 0", routes("10.90.0.0/24 via 10.77.0.2 no_track")),
		steps: []step{{4.5, ip("route del 10.90.0.0/24")}, {4, pass}},
	},
	{
		name: "virtual_rules",
		conf: one("garp_master_delay 0", rules("from 10.77.0.100 table 100 preference 200", "to 10.90.0.0/24 lookup 101 priority 201",
			"from 10.77.0.0/24 iif eth0 table 102 preference 202", "fwmark 7/15 table 103 preference 203", "oif eth1 table 104 preference 204",
			"from 10.95.0.0/24 blackhole preference 205", "from 10.96.0.0/24 unreachable preference 206", "from 10.97.0.0/24 prohibit preference 207",
			"inet from all table 105 preference 208", "inet6 from fd90::/64 table 106 preference 209")),
		steps:   []step{{4.5, hear("priority 150", priority(150))}, {5, pass}},
		differs: []explained{{"2.2.7 does not understand inet and inet6 here", []string{"208: from all", "209: from fd90::/64"}}},
	},
	{
		name:  "somebody removes a rule",
		conf:  one(notify, "garp_master_delay 0", rules("from 10.77.0.100 table 100 preference 200")),
		steps: []step{{4.5, ip("rule del preference 200")}, {4, pass}},
	},
	{
		name: "static_ipaddress, static_routes and static_rules",
		conf: conf(section("global_defs", "default_interface eth1"), section("static_ipaddress", "10.79.0.1/24 dev eth0", "10.79.1.1/24 brd +"),
			section("static_routes", "10.90.0.0/24 via 10.77.0.2"), section("static_rules", "from 10.79.0.1 table 100 preference 200"), vi(vip)),
		steps: []step{{4.5, removed("10.79.0.1/24", "eth0")}, {1.5, ip("route del 10.90.0.0/24")}, {1.5, ip("rule del preference 200")}, {1.5, pass}},
		differs: []explained{{"2.2.7 does not notice that somebody removes something static", []string{"add eth0 inet 10.79.0.1/24", "10.90.0.0/24 via 10.77.0.2", "200: from 10.79.0.1"}},
			{"had restores all static addresses together, which does nothing to those that are there", []string{"add eth1 inet 10.79.1.1/24"}}},
	},
	{
		name: "kinds of static routes",
		conf: conf(section("static_routes", "10.90.0.0/24 gw 10.77.0.2", "10.91.0.0/24 dev eth1", "10.92.0.0/24 via 10.77.0.2 oif eth0 metric 50",
			"10.93.0.0/24 via 10.77.0.2 table 100 no_track", "blackhole 10.94.0.0/24", "unreachable 10.95.0.0/24", "prohibit 10.96.0.0/24",
			"default via 10.78.0.2 dev eth1 table 101", "10.97.0.0/24 via 10.99.0.2 dev eth1 onlink", "src 10.77.0.1 to 10.98.0.0/24 via 10.77.0.3",
			"10.100.0.0/24 via 10.77.0.2 mtu 1400 protocol static", "10.101.0.0/24 dev eth1 scope link", "10.102.0.0/24 via 10.77.0.2 preference 70",
			"10.103.0.0/24 nexthop via 10.77.0.2 dev eth0 weight 2 nexthop via 10.78.0.2 dev eth1", "10.104.0.0/24 via 10.77.0.2 priority 80",
			"unicast 10.105.0.0/24 via 10.77.0.2", "local 10.106.0.1 dev eth0 scope host table 102", "inet 10.107.0.0/24 via 10.77.0.2", "inet6 fd91::/64 dev eth1"), vi(vip)),
		steps:   []step{{4.5, pass}},
		differs: []explained{{"2.2.7 does not understand inet and inet6 here", []string{"10.107.0.0/24", "fd91::/64"}}},
	},
	{
		name: "kinds of static rules",
		conf: conf(section("static_rules", "from 10.79.0.1 table 100 preference 200", "to 10.90.0.0/24 lookup 101 priority 201",
			"from 10.77.0.0/24 iif eth0 table 102 preference 202", "fwmark 7/15 table 103 preference 203", "oif eth1 table 104 preference 204",
			"from 10.95.0.0/24 blackhole preference 205", "from 10.96.0.0/24 unreachable preference 206", "from 10.97.0.0/24 prohibit preference 207",
			"inet from all table 105 preference 208 no_track", "inet6 from fd90::/64 table 106 preference 209", "dev eth1 table 107 preference 210"), vi(vip)),
		steps:   []step{{4.5, pass}},
		differs: []explained{{"2.2.7 does not understand inet and inet6 here", []string{"208: from all", "209: from fd90::/64"}}},
	},
	{
		name: "further words of virtual_routes and virtual_rules",
		conf: one("garp_master_delay 0", routes("unicast 10.105.0.0/24 via 10.77.0.2", "local 10.106.0.1 oif eth0 scope host table 102", "inet 10.107.0.0/24 via 10.77.0.2"),
			rules("dev eth1 table 107 preference 210", "from 10.77.0.100 table 108 preference 211 no_track")),
		steps:   []step{{4.5, hear("priority 150", priority(150))}, {5, pass}},
		differs: []explained{{"2.2.7 does not understand inet here", []string{"10.107.0.0/24"}}},
	},
	{
		name:  "promote_secondaries",
		conf:  one("garp_master_delay 0", "promote_secondaries", section("virtual_ipaddress_excluded", "10.80.0.1/24", "10.80.0.2/24")),
		steps: []step{{4.5, hear("priority 150", priority(150))}, {5, pass}},
	},
}

// reloadScenarios are about another file that takes effect while the router runs.
var reloadScenarios = []scenario{
	{
		name:    "a reload without a change",
		conf:    one(notify, "garp_master_delay 0"),
		steps:   []step{{4.5, reload("the same", one(notify, "garp_master_delay 0"))}, {3, pass}},
		differs: []explained{{reloadAdvert, []string{"advert"}}},
	},
	{
		name: "a reload that changes addresses",
		conf: conf(vi(notify, "garp_master_delay 0", vips("10.77.0.100/24", "10.77.0.101/24"))),
		steps: []step{{4.5, reload("10.77.0.101 out and 10.77.0.102 in", conf(vi(notify, "garp_master_delay 0", vips("10.77.0.100/24", "10.77.0.102/24"))))},
			{3, pass}},
		differs: []explained{{reloadAdvert, []string{"advert"}},
			{"keepalived announces all addresses after a reload, had the new ones", []string{"claim"}}},
	},
	{
		name:    "a reload that changes the priority",
		conf:    one(notify, "garp_master_delay 0"),
		steps:   []step{{4.5, reload("priority 120", one(notify, "garp_master_delay 0", "priority 120"))}, {3, pass}},
		differs: []explained{{reloadAdvert, []string{"advert"}}},
	},
	{
		name: "a reload that adds an instance",
		conf: one("garp_master_delay 0"),
		steps: []step{{4.5, reload("B", conf(vi("garp_master_delay 0", vip), section("vrrp_instance B", "interface eth1", "virtual_router_id 52", "garp_master_delay 0", notify, vips("10.78.0.100/24"))))},
			{6, pass}},
		differs: []explained{{reloadAdvert, []string{"advert"}}},
	},
	{
		name:    "a reload that removes an instance",
		conf:    conf(vi("garp_master_delay 0", vip), section("vrrp_instance B", "interface eth1", "virtual_router_id 52", "garp_master_delay 0", notify, vips("10.78.0.100/24"))),
		steps:   []step{{4.5, reload("without B", one("garp_master_delay 0"))}, {3, pass}},
		differs: []explained{{reloadAdvert, []string{"advert"}}},
	},
	{
		name:    "notify_deleted",
		conf:    conf(vi("garp_master_delay 0", vip), section("vrrp_instance B", "interface eth1", "virtual_router_id 52", "garp_master_delay 0", notify, "notify_deleted \"DIR/notify.sh deleted\"", vips("10.78.0.100/24"))),
		steps:   []step{{4.5, reload("without B", one("garp_master_delay 0"))}, {3, pass}},
		differs: []explained{{reloadAdvert, []string{"advert"}}},
	},
	{
		name: "fifo_write_vrrp_states_on_reload",
		conf: conf(section("global_defs", "vrrp_notify_fifo DIR/fifo", "fifo_write_vrrp_states_on_reload"), vi("garp_master_delay 0", vip)),
		steps: []step{{4.5, reload("the same", conf(section("global_defs", "vrrp_notify_fifo DIR/fifo", "fifo_write_vrrp_states_on_reload"), vi("garp_master_delay 0", vip)))},
			{3, pass}},
		differs: []explained{{reloadAdvert, []string{"advert"}},
			{"in 2.2.7 the word has no effect", []string{"INSTANCE"}}},
	},
}
