package conf

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const nodesFile = `
global_defs { script_user nobody }
cluster {
  name edge
  lease 2
  peer lb1 { address 10.0.0.1 }
  peer lb2 { address 10.0.0.2 }
  peer w1 { address 10.0.0.3 witness }
}
vrrp_script weak { script /bin/weak
 weight -5
}
vrrp_script strong {
 script /bin/strong
 weight -60
}
vrrp_instance SAME {
  interface eth0
  virtual_router_id 1
  @lb1 priority 150
  @lb2 priority 100
  virtual_ipaddress {
    10.0.0.100
    10.0.0.101
  }
  track_script {
    weak
    strong
  }
}
vrrp_instance DIFFERENT {
  interface eth0
  @lb1 virtual_router_id 2
  @lb2 virtual_router_id 3
  @lb2 advert_int 2
  state MASTER
  priority 90
  virtual_ipaddress {
    10.0.0.102
    @lb1 10.0.0.103
  }
  @lb2 virtual_ipaddress_excluded {
  @lb2   10.0.0.104
  @lb2 }
  @lb1 authentication {
  @lb1   auth_type PASS
  @lb1   auth_pass x
  @lb1 }
}
@lb1 vrrp_instance ONLY {
@lb1   interface eth0
@lb1   virtual_router_id 4
@lb1   virtual_ipaddress { 10.0.0.105 }
@lb1 }
`

func TestCompareNodes(t *testing.T) {
	got := printFindings(CompareNodes(LoadNodes(options("test.conf", file(nodesFile)))))
	golden(t, "testdata/nodes.golden", got)
}

func TestLoadNodesTakesConditionsWithoutACluster(t *testing.T) {
	nodes := LoadNodes(options("test.conf", file("@a instance x\n@^b instance y\n@a use_pid_dir\n")))
	var names []string
	for _, n := range nodes {
		names = append(names, n.Node+"="+n.Config.Process.Instance)
	}
	if got := strings.Join(names, " "); got != "a=y b=" {
		t.Error(got)
	}
	if findings := CompareNodes(nodes[:1]); findings != nil {
		t.Error(findings)
	}
}

func TestLeaseDuration(t *testing.T) {
	instance := func(name, vrid, rest string) string {
		return "vrrp_instance " + name + " {\n interface eth0\n virtual_router_id " + vrid +
			"\n virtual_ipaddress {\n 10.0.0." + vrid + "\n }\n" + rest + "\n}\n"
	}
	const cluster = "cluster {\n name a\n peer lb1 { address 10.1.0.1 }\n%\n}\n"
	for _, c := range []struct {
		name, lease, instances string
		want                   time.Duration
	}{
		{"derived", "", instance("A", "1", ""), 2500 * time.Millisecond},
		{"the smallest interval counts", "", instance("A", "1", "advert_int 3") + instance("B", "2", "advert_int 2"), 5 * time.Second},
		{"not below the least", "", instance("A", "1", "version 3\nadvert_int 0.05"), LeaseMin},
		{"given", "lease 1.25", instance("A", "1", ""), 1250 * time.Millisecond},
	} {
		l, findings := Load(options("test.conf", file(strings.Replace(cluster, "%", c.lease, 1)+c.instances)))
		if l == nil {
			t.Errorf("%s:\n%s", c.name, printFindings(findings))
		} else if got := l.LeaseDuration(); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestWitness: a witness needs the cluster block, whatever is wrong with the rest.
func TestWitness(t *testing.T) {
	opts := options("test.conf", file(`
cluster {
  name edge
  peer lb1 { address 10.0.0.1 }
  peer lb2 { address 10.0.0.2 }
  peer w1 { address 10.0.0.3 witness }
}
vrrp_instance A {
  advert_int 2
  foo bar
}
`))
	opts.ConfigID, opts.Node = "host", "w1.example.com"
	if c, _ := Load(opts); c != nil {
		t.Error("a director can use an instance without virtual_router_id")
	}
	opts.Witness = true
	c, findings := Load(opts)
	if c == nil || len(findings) != 0 {
		t.Fatalf("%v\n%s", c, printFindings(findings))
	}
	if c.Cluster.Node != "w1" || !c.Cluster.Self().Witness || c.LeaseDuration() != 5*time.Second {
		t.Errorf("node %s, lease %v", c.Cluster.Node, c.LeaseDuration())
	}
	opts.Files = file("cluster {\n name edge\n peer w1 { address 10.0.0.3 }\n}\n")
	if c, findings := Load(opts); c != nil || !strings.Contains(printFindings(findings), "[cluster-lease] fatal") {
		t.Errorf("%v\n%s", c, printFindings(findings))
	}
}

// TestIncludedClusterErrorsAreFatal: the cluster block may stand in a file of its own, or be made of several.
func TestIncludedClusterErrorsAreFatal(t *testing.T) {
	files := fstest.MapFS{
		"test.conf": {Data: []byte("cluster {\n name edge\n lease 3\n include peers.inc\n}\n"), Mode: 0o644},
		"peers.inc": {Data: []byte("peer lb1 { address 10.0.0.1 }\npeer \"lb2 { address 10.0.0.2 }\n"), Mode: 0o644},
	}
	c, findings := Load(options("test.conf", files))
	if got := printFindings(findings); c != nil || !strings.Contains(got, "peers.inc:2:6: error: the quote is not closed on this line [unclosed-quote] fatal") {
		t.Errorf("%v\n%s", c, got)
	}
}

func TestNodeIsFoundByConfigIDOrHostName(t *testing.T) {
	const cluster = "cluster {\n name a\n lease 3\n peer lb1 { address 10.1.0.1 }\n peer lb2.example.com { address 10.1.0.2 }\n}\n"
	for _, c := range []struct{ id, host, want string }{
		{"lb1", "lb2.example.com", "lb1"},
		{"x", "lb2.example.com", "lb2.example.com"},
		{"x", "lb1.example.com", "lb1"},
		{"x", "y", ""},
	} {
		opts := options("test.conf", file(cluster))
		opts.ConfigID, opts.Node = c.id, c.host
		got := ""
		if l, _ := Load(opts); l != nil {
			got = l.Cluster.Node
		}
		if got != c.want {
			t.Errorf("-i %s on %s: got %q, want %q", c.id, c.host, got, c.want)
		}
	}
}

// BenchmarkLoad500Instances reads a file as large as they come.
func BenchmarkLoad500Instances(b *testing.B) {
	var text strings.Builder
	for i := range 500 {
		fmt.Fprintf(&text, "vrrp_instance I%d {\n  state BACKUP\n  interface eth%d\n  virtual_router_id %d\n  priority 100\n"+
			"  advert_int 1\n  virtual_ipaddress {\n    10.%d.%d.1/24\n    10.%d.%d.2/24\n  }\n  track_interface {\n    eth9\n  }\n}\n",
			i, i/250, i%250+1, i/250, i%250, i/250, i%250)
	}
	opts := options("test.conf", file(text.String()))
	for b.Loop() {
		if c, findings := Load(opts); c == nil || len(c.Instances) != 500 || len(findings) != 0 {
			b.Fatal(printFindings(findings))
		}
	}
}
