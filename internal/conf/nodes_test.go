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

// nodeFiles loads a file of its own for each node.
func nodeFiles(t *testing.T, texts ...string) []NodeConfig {
	t.Helper()
	var nodes []NodeConfig
	for i, text := range texts {
		name := fmt.Sprintf("lb%d", i+1)
		c, findings := Load(options(name+".conf", fstest.MapFS{name + ".conf": {Data: []byte(text), Mode: 0o644}}).For(name))
		if c == nil {
			t.Fatal(printFindings(findings))
		}
		nodes = append(nodes, NodeConfig{name, c})
	}
	return nodes
}

func TestComparedFilesFindTheClassicMistakes(t *testing.T) {
	instance := func(name, vrid, priority, address, rest string) string {
		return "vrrp_instance " + name + " {\ninterface eth0\nvirtual_router_id " + vrid + "\npriority " + priority +
			"\nvirtual_ipaddress { " + address + " }\n" + rest + "\n}\n"
	}
	const cluster = "cluster {\n name a\n lease 2.5\n peer lb1 { address 10.1.0.1 }\n peer lb2 { address 10.1.0.2 }\n" +
		" peer w1 { address 10.1.0.3 witness }\n}\n"
	group := "vrrp_sync_group G { group { A B } }\n"
	script := func(weight string) string { return "vrrp_script s { script /bin/true\nweight " + weight + "\n}\n" }
	for _, c := range []struct {
		what, lb1, lb2 string
		want           string // contained; "-": nothing is found
	}{
		{"nothing", instance("A", "1", "150", "10.0.0.1", ""), instance("A", "1", "100", "10.0.0.1", ""), "-"},
		{"VRIDs differ for one address, whatever the names",
			instance("A", "1", "150", "10.0.0.1", ""), instance("B", "2", "100", "10.0.0.1", ""),
			"lb2.conf:1:1: error: vrrp_instance A: virtual_router_id is 1 on node lb1 and 2 on node lb2 [nodes-differ]"},
		{"names differ", instance("A", "1", "150", "10.0.0.1", ""), instance("B", "1", "100", "10.0.0.1", ""),
			"lb2.conf:1:1: note: the vrrp_instance A of node lb1 is called B on node lb2 [nodes-differ]"},
		{"names differ, and leases go by them",
			cluster + instance("A", "1", "150", "10.0.0.1", ""), cluster + instance("B", "1", "100", "10.0.0.1", ""),
			"lb2.conf:8:1: error: the vrrp_instance A of node lb1 is called B on node lb2: leases go by these names"},
		{"one VRID for different addresses",
			instance("A", "1", "150", "10.0.0.1", "") + instance("C", "9", "150", "10.0.0.9", ""),
			instance("A", "2", "100", "10.0.0.1", "") + instance("D", "1", "100", "10.0.0.8", ""),
			"vrrp_instance D of node lb2 has virtual_router_id 1 on eth0, as vrrp_instance A of node lb1, but other addresses: they " +
				"take each other for one router [vrid-duplicate]"},
		{"one address in different routers",
			instance("A", "1", "150", "10.0.0.1", "") + instance("B", "2", "150", "10.0.0.2", ""),
			instance("A", "1", "100", "10.0.0.3", "") + instance("B", "2", "100", "10.0.0.1", ""),
			"have an address in common, and are different virtual routers (virtual_router_id 1 and 2) [same-address]"},
		{"equal priorities", instance("A", "1", "100", "10.0.0.1", ""), instance("A", "1", "100", "10.0.0.1", ""),
			"vrrp_instance A has priority 100 on node lb1 and on node lb2: the higher address wins [equal-priority]"},
		{"all MASTER", instance("A", "1", "101", "10.0.0.1", "state MASTER"), instance("A", "1", "100", "10.0.0.1", "state MASTER"),
			"vrrp_instance A has state MASTER on all nodes: after a start of all each tries to take over at once [all-master]"},
		{"nopreempt stands on the wrong node",
			instance("A", "1", "150", "10.0.0.1", ""), instance("A", "1", "100", "10.0.0.1", "nopreempt"),
			"nopreempt on node lb2 does not keep node lb1, which has the highest priority, from taking back"},
		{"a weight is too small",
			script("-20") + instance("A", "1", "150", "10.0.0.1", "track_script { s }"), script("-20") + instance("A", "1", "100",
				"10.0.0.1", "track_script { s }"),
			"the weight -20 of script s is too small to change the owner: with it failed node lb1 still has priority 130, and node lb2 100"},
		{"a positive weight is too small",
			script("20") + instance("A", "1", "150", "10.0.0.1", "track_script { s }"), script("20") + instance("A", "1", "100",
				"10.0.0.1", "track_script { s }"),
			"the weight 20 of script s is too small to change the owner: with it failed node lb1 still has priority 150, and node lb2 120"},
		{"a weight of an interface is large enough",
			instance("A", "1", "150", "10.0.0.1", "track_interface { eth1 weight -60 }"), instance("A", "1", "100", "10.0.0.1", ""), "-"},
		{"nobody listens to a weight",
			instance("A", "1", "150", "10.0.0.1", "nopreempt\ntrack_interface { eth1 weight -60 }"),
			instance("A", "1", "100", "10.0.0.1", "nopreempt"), "the weight of interface eth1 changes no owner: node lb2 has nopreempt"},
		{"a unicast peer is not known",
			instance("A", "1", "150", "10.0.0.1", "unicast_src_ip 10.0.0.11\nunicast_peer { 10.0.0.13 }"),
			instance("A", "1", "100", "10.0.0.1", "unicast_src_ip 10.0.0.12\nunicast_peer { 10.0.0.11 }"),
			"lb1.conf:1:1: error: vrrp_instance A: node lb2 sends from 10.0.0.12, which is no unicast_peer on node lb1"},
		{"unicast peers know each other",
			instance("A", "1", "150", "10.0.0.1", "unicast_src_ip 10.0.0.11\nunicast_peer { 10.0.0.12 }"),
			instance("A", "1", "100", "10.0.0.1", "unicast_src_ip 10.0.0.12\nunicast_peer { 10.0.0.11 }"), "-"},
		{"the members of a sync group pull apart",
			group + instance("A", "1", "150", "10.0.0.1", "") + instance("B", "2", "90", "10.0.0.2", ""),
			group + instance("A", "1", "100", "10.0.0.1", "") + instance("B", "2", "100", "10.0.0.2", ""),
			"vrrp_sync_group G: A has its highest priority on node lb1, B on node lb2"},
		{"a node has no such instance",
			instance("A", "1", "150", "10.0.0.1", "") + instance("B", "2", "150", "10.0.0.2", ""), instance("A", "1", "100", "10.0.0.1", ""),
			"node lb2 has no vrrp_instance B [nodes-differ]"},
		{"the leases differ", cluster, strings.Replace(cluster, "2.5", "3", 1),
			"the lease of node lb1 is 2.5s, that of node lb2 3s: give the word lease [cluster-lease]"},
	} {
		got := printFindings(CompareNodes(nodeFiles(t, c.lb1, c.lb2)))
		if c.want == "-" && got != "" || c.want != "-" && !strings.Contains(got, c.want) {
			t.Errorf("%s: got\n%swant\n%s", c.what, got, c.want)
		}
	}
}

func TestSuspectWeights(t *testing.T) {
	for _, c := range []struct{ weight, rest, want string }{
		{"-60", "", ""},
		{"0", "nopreempt", ""},
		{"-2", "", "test.conf:9:16: note: with script s failed vrrp_instance A falls from priority 100 to 98: the owner changes only if " +
			"the other node has a priority between [weight-too-small]\n"},
		{"20", "nopreempt", "test.conf:9:16: warning: the weight of script s changes no owner where the other nodes have nopreempt too: they " +
			"take over only from a router that is silent; without weight a failure is a fault, which is [weight-too-small]\n"},
		{"10", "priority 254", "test.conf:9:16: warning: the weight 10 of script s changes nothing: with it failed vrrp_instance A still has " +
			"priority 254 [weight-too-small]\n"},
	} {
		cfg, findings := Load(options("test.conf", file("vrrp_script s {\nscript /bin/true\nweight "+c.weight+
			"\n}\nvrrp_instance A {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress { 10.0.0.1 }\ntrack_script { s }\n"+c.rest+"\n}\n")))
		if cfg == nil {
			t.Fatal(printFindings(findings))
		}
		if got := printFindings(Suspect(cfg)); got != c.want {
			t.Errorf("weight %s %s: got\n%swant\n%s", c.weight, c.rest, got, c.want)
		}
	}
}

func TestMistakesOfOneFile(t *testing.T) {
	const instance = "vrrp_instance A {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress { 10.0.0.1 }\ntrack_script { s }\n}\n"
	const user = "global_defs { script_user nobody }\n"
	for _, c := range []struct{ what, text, want string }{
		{"a pipe without a shell", user + "vrrp_script s { script \"/sbin/ip a | grep 10.0.0.1\" }\n" + instance,
			"test.conf:2:24: warning: \"|\" is an argument of the command here, because no shell reads it; write a script, or \"sh -c '...'\" " +
				"[script-shell]\n"},
		{"a pipe for a shell", user + "vrrp_script s { script \"sh -c 'ip a | grep 10.0.0.1'\" }\n" + instance,
			""},
		{"a script that notices late", user + "vrrp_script s {\nscript /bin/true\ninterval 30\nfall 3\n}\n" + instance,
			"test.conf:2:1: note: vrrp_script s may notice a failure only after 2m0s, while the loss of the whole node is noticed after " +
				"3.609s [interval]\n"},
		{"a lease below the interval", user + "cluster {\n name a\n lease 0.4\n peer lb1 { address 10.1.0.1 }\n peer lb2 { address 10.1.0.2 }\n" +
			" peer w1 { address 10.1.0.3 witness }\n}\nvrrp_script s { script /bin/true }\n" + instance,
			"test.conf:4:2: note: the lease of 400ms is shorter than the smallest advert_int, 1s: an owner that reaches no majority for that " +
				"long gives up, while VRRP alone would wait 3.609s [cluster-lease]\n"},
	} {
		cfg, findings := Load(options("test.conf", file(c.text)))
		if got := printFindings(findings); cfg == nil || got != c.want {
			t.Errorf("%s: got\n%swant\n%s", c.what, got, c.want)
		}
	}
}

func TestNodeNames(t *testing.T) {
	for text, want := range map[string]string{
		"": "[] false",
		"cluster {\n name a\n peer x { address 10.1.0.1 }\n peer w { address 10.1.0.2 witness }\n}\n": "[x] false",
		"@b use_pid_dir\n@^a use_pid_dir\n": "[b a] true",
	} {
		names, conditional := NodeNames(options("test.conf", file(text)))
		if got := fmt.Sprint(names, conditional); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
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
