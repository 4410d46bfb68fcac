//go:build interop

package interop_test

import (
	"fmt"
	"strings"
	"time"
)

const vrid = 51

// combination is a way of speaking VRRP.
type combination struct {
	version  int
	ipv6     bool
	unicast  bool
	password string
}

func (c combination) String() string {
	family, delivery := "IPv4", "multicast"
	if c.ipv6 {
		family = "IPv6"
	}
	if c.unicast {
		delivery = "unicast"
	}
	s := fmt.Sprintf("version %d over %s by %s", c.version, family, delivery)
	if c.password != "" {
		s += " with a password"
	}
	return s
}

// combinations are all in which two routers understand each other. A password over IPv6 is not one of them: keepalived
// announces it, does not send it, and rejects what it receives.
func combinations() []combination {
	var all []combination
	for _, version := range []int{2, 3} {
		for _, ipv6 := range []bool{false, true} {
			for _, unicast := range []bool{false, true} {
				all = append(all, combination{version: version, ipv6: ipv6, unicast: unicast})
				if version == 2 && !ipv6 {
					all = append(all, combination{version: version, ipv6: ipv6, unicast: unicast, password: "let-me-in"})
				}
			}
		}
	}
	return all
}

// advertInterval is the shortest that version 2 can express, and a fraction of a second for version 3.
func (c combination) advertInterval() time.Duration {
	if c.version == 2 {
		return time.Second
	}
	return 500 * time.Millisecond
}

// vips are the lines of virtual_ipaddress.
func (c combination) vips() []string {
	if c.ipv6 {
		return []string{"fe80::77:100/64", "fd77::100"}
	}
	return []string{"10.77.0.100/24", "10.77.0.101"}
}

// down is Active_Down_Interval at a priority (RFC 9568 section 6.1, RFC 3768 section 6.1).
func (c combination) down(priority int) time.Duration { return 3*c.advertInterval() + c.skew(priority) }

func (c combination) skew(priority int) time.Duration {
	unit := time.Second
	if c.version == 3 {
		unit = c.advertInterval()
	}
	return time.Duration(256-priority) * unit / 256
}

// instance is a vrrp_instance block.
type instance struct {
	combination
	global   string // lines of a global_defs block before it
	name     string
	state    string
	iface    string
	vrid     int
	priority int
	interval time.Duration
	vips     []string
	source   string   // unicast
	peer     string   // unicast
	lines    []string // further ones
}

// instance is the virtual router of a combination on r, which talks to peer.
func (c combination) instance(r, peer *router, priority int, lines ...string) instance {
	i := instance{combination: c, name: "VI", state: "BACKUP", iface: "eth0", vrid: vrid, priority: priority,
		interval: c.advertInterval(), vips: c.vips(),
		source: r.source4(), peer: peer.source4(), lines: lines}
	if c.ipv6 {
		i.source, i.peer = r.source6(), peer.source6()
	}
	return i
}

func (i instance) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "    "+format+"\n", args...) }
	if i.global != "" {
		fmt.Fprintf(&b, "global_defs {\n    %s\n}\n\n", i.global)
	}
	fmt.Fprintf(&b, "vrrp_instance %s {\n", i.name)
	line("state %s", i.state)
	line("interface %s", i.iface)
	line("version %d", i.version)
	line("virtual_router_id %d", i.vrid)
	line("priority %d", i.priority)
	line("advert_int %g", i.interval.Seconds())
	if i.unicast {
		line("unicast_src_ip %s", i.source)
		line("unicast_peer {\n        %s\n    }", i.peer)
	}
	if i.password != "" {
		line("authentication {\n        auth_type PASS\n        auth_pass %s\n    }", i.password)
	}
	for _, l := range i.lines {
		line("%s", l)
	}
	line("virtual_ipaddress {\n        %s\n    }", strings.Join(i.vips, "\n        "))
	b.WriteString("}\n")
	return b.String()
}

// configuration is a keepalived.conf of some blocks.
func configuration(blocks ...fmt.Stringer) string {
	var b strings.Builder
	b.WriteString("global_defs {\n    router_id interop\n    script_user root\n    enable_script_security\n}\n")
	for _, block := range blocks {
		b.WriteString("\n" + block.String())
	}
	return b.String()
}
