package site

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/control/api"
)

// plan returns a site of which nothing is set up but the plan.
func plan(change func(*Plan)) *Site {
	s := &Site{Plan: Plan{Dir: "/run/x", Members: Trio(), VIPs: []netip.Addr{VIP4}, AdvertInterval: time.Second}}
	if change != nil {
		change(&s.Plan)
	}
	for _, m := range s.Members {
		s.Nodes = append(s.Nodes, &Node{Member: m, dir: s.Dir + "/" + m.Name})
	}
	return s
}

func TestConfigurationOfADirector(t *testing.T) {
	want := `global_defs {
    router_id lb1
}

cluster {
    name demo
    node lb1
    key_file /run/x/lb1/cluster.key
    data_dir /run/x/lb1/data
    port 7770
    peer lb1 { address 10.77.0.1 }
    peer lb2 { address 10.77.0.2 }
    peer w1 { address 10.77.0.3  witness }
    control_socket /run/x/lb1/had.sock
}

vrrp_instance VI_4 {
    state BACKUP
    nopreempt
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int 1
    virtual_ipaddress {
        10.77.0.100/24
    }
}
`
	s := plan(nil)
	if got := s.Configuration(s.Node("lb1")); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestConfigurationOfBothFamiliesInVersion3(t *testing.T) {
	s := plan(func(p *Plan) {
		p.VIPs = []netip.Addr{VIP4, VIP6}
		p.AdvertInterval, p.Version, p.Preempt = 300*time.Millisecond, 3, true
		p.Cluster, p.Instance = []string{"guard lifetime"}, []string{"garp_master_delay 1"}
	})
	got := s.Configuration(s.Node("lb2"))
	for _, want := range []string{
		"    vrrp_version 3\n", "    guard lifetime\n", "    garp_master_delay 1\n", "    advert_int 0.3\n",
		"vrrp_sync_group VG {\n    group {\n        VI_4\n        VI_6\n    }\n}\n",
		"    virtual_router_id 52\n", "        fd00:77::100/64\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "nopreempt") || s.Group() != "VG" {
		t.Errorf("group %s in\n%s", s.Group(), got)
	}
}

func TestConfigurationOfAWitnessHasNoPriority(t *testing.T) {
	s := plan(nil)
	if got := s.Configuration(s.Witness()); !strings.Contains(got, "    advert_int 1\n") || strings.Contains(got, "priority") ||
		!strings.Contains(got, "node w1\n") {
		t.Errorf("got:\n%s", got)
	}
}

func TestConfigurationOfStockKeepalivedHasNoCluster(t *testing.T) {
	s := plan(func(p *Plan) { p.Keepalived = "/usr/sbin/keepalived" })
	if got := s.Configuration(s.Node("lb1")); strings.Contains(got, "cluster") || !strings.Contains(got, "vrrp_instance VI_4") {
		t.Errorf("got:\n%s", got)
	}
}

func TestDownIntervalIsThatOfTheStandards(t *testing.T) {
	for _, test := range []struct {
		version  int
		interval time.Duration
		want     time.Duration
	}{
		{2, time.Second, 3609375 * time.Microsecond},
		{0, 2 * time.Second, 7218750 * time.Microsecond},
		{3, 100 * time.Millisecond, 360937500 * time.Nanosecond},
	} {
		p := Plan{Version: test.version, AdvertInterval: test.interval}
		if got := p.DownInterval(Member{Priority: 100}); got != test.want {
			t.Errorf("version %d, advert_int %s: %s, want %s", test.version, test.interval, got, test.want)
		}
	}
}

func TestStatusInOneLine(t *testing.T) {
	status := api.ClusterStatus{Verdict: api.Degraded, Findings: []api.Finding{
		{Severity: api.Info, Text: "all is well"}, {Severity: api.Warn, Text: "w1 is unreachable"}, {Severity: api.Error, Text: "no backup"}}}
	if got, want := Describe(status), "degraded: w1 is unreachable; no backup"; got != want {
		t.Errorf("Describe = %q, want %q", got, want)
	}
	if got := Describe(api.ClusterStatus{Verdict: api.Healthy}); got != "healthy" {
		t.Errorf("Describe = %q", got)
	}
}

func TestMembersHaveAnAddressOfEachFamily(t *testing.T) {
	got := Trio()[1].prefixes()
	if len(got) != 2 || got[0].String() != "10.77.0.2/24" || got[1].String() != "fd00:77::2/64" {
		t.Errorf("prefixes = %v", got)
	}
}
