package conf

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// forwarding loads an instance VI on eth0 with lines of its own, after other blocks.
func forwarding(t *testing.T, blocks, lines string) (*Config, []Finding) {
	t.Helper()
	c, findings := Load(options("test.conf", file(blocks+"\nvrrp_instance VI {\n interface eth0\n virtual_router_id 1\n "+lines+
		"\n virtual_ipaddress {\n 192.0.2.100\n }\n}\n")))
	if c == nil || len(c.Instances) != 1 {
		t.Fatalf("not loaded: %v", findings)
	}
	return c, findings
}

// tracked lists the interfaces that an instance tracks.
func tracked(in Instance) string {
	var names []string
	for _, t := range in.Tracking.Interfaces {
		if t.Weight == 0 {
			names = append(names, t.Name)
		} else {
			names = append(names, t.Name+"*")
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestInterfacesOfRoutesAndRulesAreTracked(t *testing.T) {
	const group = "track_group G {\n group { VI }\n}\n"
	for _, test := range []struct{ name, blocks, lines, want string }{
		{"nothing", "", "", ""},
		{"a route", "", "virtual_routes {\n 10.0.0.0/8 dev eth1\n}", "eth1"},
		{"a route through the instance's own interface", "", "virtual_routes {\n 10.0.0.0/8 dev eth0\n}", ""},
		{"which is not tracked otherwise", "", "dont_track_primary\n virtual_routes {\n 10.0.0.0/8 dev eth0\n}", "eth0"},
		{"a route without an interface", "", "virtual_routes {\n 10.0.0.0/8 via 192.0.2.9\n}", ""},
		{"a route with no_track", "", "virtual_routes {\n 10.0.0.0/8 dev eth1 no_track\n}", ""},
		{"a rule", "", "virtual_rules {\n iif eth1 oif eth2 table 5 preference 6\n}", "eth1 eth2"},
		{"an interface that has a weight", "", "track_interface {\n eth1 weight 5\n}\n virtual_routes {\n 10.0.0.0/8 dev eth1\n}", "eth1*"},
		{"static entries without a group", "static_routes {\n 10.0.0.0/8 dev eth1\n}", "", ""},
		{"a static route", group + "static_routes {\n 10.0.0.0/8 dev eth1 track_group G\n}", "", "eth1"},
		{"a static address", group + "static_ipaddress {\n 10.0.0.1/8 dev eth1 track_group G\n}", "", "eth1"},
		{"a static rule", group + "static_rules {\n iif eth1 oif eth2 table 5 preference 6 track_group G\n}", "", "eth1"},
		{"a static route with no_track", group + "static_routes {\n 10.0.0.0/8 dev eth1 track_group G no_track\n}", "", ""},
		{"a static route without an interface", group + "static_routes {\n 10.0.0.0/8 via 192.0.2.9 track_group G\n}", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, _ := forwarding(t, test.blocks, test.lines)
			if got := tracked(c.Instances[0]); got != test.want {
				t.Errorf("tracks %q, want %q", got, test.want)
			}
		})
	}
}

func TestRulesWithoutAPreferenceAreNumberedDownwardsForEachFamily(t *testing.T) {
	c, _ := forwarding(t, "static_rules {\n from 10.0.0.0/8 table 5\n from 10.1.0.0/16 table 5 preference 7\n}",
		"virtual_rules {\n from fd77::/64 table 5\n from 10.2.0.0/16 table 5\n}")
	var got []uint32
	for _, r := range append(c.Static.Rules, c.Instances[0].Rules...) {
		got = append(got, r.Priority.Value)
	}
	if want := []uint32{16384, 7, 16384, 16383}; !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", got, want)
	}
}

func TestTimesOfRoutes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"rtt 300ms": 300 * time.Millisecond, "rtt 2s": 2 * time.Second, "rtt 2.5s": 2500 * time.Millisecond,
		"rtt 2400": 300 * time.Millisecond, // the kernel's own unit: an eighth of a millisecond
		"rtt 100":  200 * time.Millisecond, "rtt 1000s": 120 * time.Second,
	} {
		c, findings := forwarding(t, "", "virtual_routes {\n 10.0.0.0/8 via 192.0.2.9 "+text+"\n}")
		if got := c.Instances[0].Routes[0].RTT; !got.Set || got.Value != want {
			t.Errorf("%s gave %+v, want %v", text, got, want)
		}
		outside := slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == CodeRange && f.Severity == Warning })
		if clamped := want == leastRTT || want == mostRTT; outside != clamped {
			t.Errorf("%s: %v", text, findings)
		}
	}
}

func TestWhatIsTrackedHasKeepalivedsProtocol(t *testing.T) {
	for text, want := range map[string]uint32{"": 0, "protocol 4": 18, "protocol 18": 18, "protocol 4 no_track": 4} {
		c, findings := forwarding(t, "", "virtual_routes {\n 10.0.0.0/8 dev eth0 "+text+"\n}\n virtual_rules {\n from 10.0.0.0/8 "+
			"table 5 preference 6 "+text+"\n}")
		in := c.Instances[0]
		if route, rule := in.Routes[0].Protocol.Value, in.Rules[0].Protocol.Value; route != want || rule != want {
			t.Errorf("%q: route %d, rule %d, want %d", text, route, rule, want)
		}
		said := slices.ContainsFunc(findings, func(f Finding) bool { return strings.Contains(f.Message, "protocol number") })
		if said != (text == "protocol 4") {
			t.Errorf("%q: %v", text, findings)
		}
	}
}
