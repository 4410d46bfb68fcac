package lint

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hactl/had/internal/conf"
)

func options(files map[string]string, paths ...string) Options {
	fs := make(fstest.MapFS)
	for name, text := range files {
		fs[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return Options{Paths: paths, Load: conf.Options{ConfigID: "here", Node: "here.example.com", Files: fs}}
}

func text(r Result) string {
	var b strings.Builder
	for _, f := range r.Findings {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

const cluster = "cluster {\n name a\n lease 2.5\n peer lb1 { address 10.1.0.1 }\n peer lb2 { address 10.1.0.2 }\n" +
	" peer w1 { address 10.1.0.3 witness }\n}\n"

func instance(rest string) string {
	return "vrrp_instance A {\n interface eth0\n virtual_router_id 7\n virtual_ipaddress { 10.0.0.1 }\n" + rest + "}\n"
}

func TestWhoseFileIsLookedAt(t *testing.T) {
	conditional := instance(" @lb1 priority 150\n @lb2 prioritty 100\n @here wrong\n")
	for _, c := range []struct {
		what  string
		files map[string]string
		node  string // with -i
		want  string // contained; "-": nothing is found
	}{
		{"plain", map[string]string{"x.conf": instance("")}, "", "-"},
		{"each node of the conditions", map[string]string{"x.conf": conditional}, "",
			`x.conf:6:7: error: the block vrrp_instance does not know "prioritty"`},
		{"and they are compared", map[string]string{"x.conf": instance(" @lb1 advert_int 2\n @lb2 advert_int 1\n")}, "",
			"advert_int is 2s on node lb1 and 1s on node lb2"},
		{"only the node that was chosen", map[string]string{"x.conf": conditional}, "lb1", "-"},
		{"a cluster that says the same to all", map[string]string{"x.conf": cluster + instance("")}, "", "-"},
		{"a weight with nobody to compare with", map[string]string{"x.conf": instance(" track_interface { eth1 weight -1 }\n")}, "",
			"falls from priority 100 to 99"},
		{"a file per node, called after it",
			map[string]string{"lb1.conf": cluster + instance(" priority 9\n"), "lb2.conf": cluster + instance(" priority 9\n")}, "",
			"priority 9 on node lb1 and on node lb2"},
		{"in the order of the peers", map[string]string{"a": cluster + instance(" priority 9\n"), "b": cluster + instance(" priority 9\n")}, "",
			"priority 9 on node lb1 and on node lb2"},
		{"or as the word node says", map[string]string{
			"a": strings.Replace(cluster, "name a", "name a\n node lb2", 1) + instance(" priority 9\n"),
			"b": strings.Replace(cluster, "name a", "name a\n node lb1", 1) + instance(" priority 9\n")}, "",
			"priority 9 on node lb2 and on node lb1"},
		{"without a cluster the file is the name", map[string]string{"a": instance(""), "b": instance("")}, "",
			"priority 100 on node a and on node b"},
		{"one of them cannot be used", map[string]string{"a": instance(""), "b": "vrrp_instance A {\n}\n"}, "", "[vrid]"},
	} {
		var paths []string
		for name := range c.files {
			paths = append(paths, name)
		}
		if len(paths) == 2 && paths[0] > paths[1] {
			paths[0], paths[1] = paths[1], paths[0]
		}
		o := options(c.files, paths...)
		if c.node != "" {
			o.Load, o.AsNode = o.Load.For(c.node), true
		}
		r := Check(o)
		got := text(r)
		if c.want == "-" && got != "" || c.want != "-" && !strings.Contains(got, c.want) {
			t.Errorf("%s: got\n%swant\n%s", c.what, got, c.want)
		}
		if r.Loadable == strings.Contains(got, "[vrid]") {
			t.Errorf("%s: loadable %v\n%s", c.what, r.Loadable, got)
		}
	}
}

func TestAFindingIsThereOnce(t *testing.T) {
	got := text(Check(options(map[string]string{"x.conf": instance(" foo\n @lb1 priority 150\n @lb2 priority 100\n")}, "x.conf")))
	if strings.Count(got, "foo") != 1 {
		t.Error(got)
	}
}

// machine has eth0 with an address.
func machine() *Machine {
	return &Machine{
		FenceOptions: func(agent string) ([]string, error) {
			if agent != "/usr/sbin/fence_fake" {
				return nil, os.ErrNotExist
			}
			return []string{"ip", "password"}, nil
		},
		Interfaces: func() ([]net.Interface, error) { return []net.Interface{{Name: "lo"}, {Name: "eth0"}}, nil },
		Addresses: func() ([]net.Addr, error) {
			return []net.Addr{&net.IPNet{IP: net.IPv4(10, 1, 0, 1), Mask: net.CIDRMask(24, 32)},
				&net.IPNet{IP: net.ParseIP("fd00::1"), Mask: net.CIDRMask(64, 128)}}, nil
		},
		Key: func(path string) error {
			if path == "/etc/had/cluster.key" {
				return nil
			}
			return &os.PathError{Op: "read", Path: path, Err: map[bool]error{true: os.ErrPermission, false: os.ErrNotExist}[path == "/root/key"]}
		},
	}
}

func TestTheMachineIsAsked(t *testing.T) {
	for _, c := range []struct{ what, text, want string }{
		{"all there", cluster + instance(""), ""},
		{"an interface is missing", instance(" track_interface { eth7 }\n"), "x.conf:5:20: error: this machine has no interface eth7 [interface-name]\n"},
		{"an interface may come", "global_defs { dynamic_interfaces }\n" + instance(" track_interface { eth7 }\n"),
			"x.conf:6:20: note: this machine has no interface eth7; it may come, because of dynamic_interfaces [interface-name]\n"},
		{"the interface of an address is missing", strings.Replace(instance(""), "10.0.0.1", "10.0.0.1 dev eth8", 1),
			"x.conf:4:22: error: this machine has no interface eth8 [interface-name]\n"},
		{"the source is another machine's", instance(" unicast_src_ip 10.1.0.2\n unicast_peer { 10.1.0.3 }\n"),
			"x.conf:1:1: warning: vrrp_instance A sends from 10.1.0.2, which is no address of this machine [own-address]\n"},
		{"the peer is this machine", instance(" unicast_peer { 10.1.0.1 }\n"),
			"x.conf:5:17: warning: the unicast peer 10.1.0.1 is this machine: is this the file of another node? [own-address]\n"},
		{"the node has another address", strings.Replace(cluster, "10.1.0.1 }", "10.1.0.9 }", 1) + instance(""),
			"x.conf:4:2: warning: 10.1.0.9, at which the others look for lb1, is no address of this machine [own-address]\n"},
		{"another node has this address", strings.NewReplacer("10.1.0.1 }", "10.1.0.2 }", "10.1.0.2 }", "10.1.0.1 }").Replace(cluster) + instance(""),
			"x.conf:4:2: warning: 10.1.0.2, at which the others look for lb1, is no address of this machine [own-address]\n" +
				"x.conf:5:2: warning: 10.1.0.1 is an address of this machine, which is lb1, not lb2 [own-address]\n"},
		{"an account is missing", "vrrp_script s {\n script /bin/true\n user no-such-user-here\n}\n" + instance(" track_script { s }\n"),
			"x.conf:2:9: error: look up script user \"no-such-user-here\": user: unknown user no-such-user-here [script]\n"},
		{"a program is missing", "vrrp_script s {\n script /nonexistent/x\n user root\n}\n" + instance(" track_script { s }\n"),
			"x.conf:2:9: error: script /nonexistent/x: not found: stat /nonexistent/x: no such file or directory; it is not run [script]\n"},
		{"a program is not in PATH", "vrrp_script s {\n script no-such-program\n user root\n}\n" + instance(" track_script { s }\n"),
			"x.conf:2:9: error: script no-such-program: not found: not in PATH; it is not run [script]\n"},
		{"a fence agent is asked for its options", strings.Replace(cluster, "name a", "name a\n fence lb1 {\n agent fence_fake\n option ip 1\n option pasword x\n}", 1) +
			instance(""), "x.conf:3:8: note: without the word fencing nobody is fenced unless an operator asks for it [cluster-fencing]\n" +
			"x.conf:4:8: warning: there is no fence agent /usr/sbin/fence_fake on this machine: lb1 cannot be fenced with it [cluster-fencing]\n" +
			"x.conf:6:9: error: fence_fake does not know the option pasword; did you mean password? [cluster-fencing]\n"},
		{"a fence agent is missing", strings.Replace(cluster, "name a", "name a\n fence lb1 {\n agent fence_none\n}", 1) +
			instance(""), "x.conf:3:8: note: without the word fencing nobody is fenced unless an operator asks for it [cluster-fencing]\n" +
			"x.conf:4:8: warning: there is no fence agent /usr/sbin/fence_none on this machine: lb1 cannot be fenced with it [cluster-fencing]\n" +
			"x.conf:4:8: error: lb1 cannot be fenced with this agent: file does not exist [cluster-fencing]\n"},
		{"there is no key", strings.Replace(cluster, "name a", "name a\n key_file /x", 1) + instance(""),
			"x.conf:1:1: error: read /x: file does not exist; hactl keygen makes one, and every member needs the same [cluster]\n"},
		{"the key is root's", strings.Replace(cluster, "name a", "name a\n key_file /root/key", 1) + instance(""),
			"x.conf:1:1: note: read /root/key: permission denied: root can look at it [cluster]\n"},
		{"only a file to be opened", "vrrp_script s {\n script </nonexistent/x\n user root\n}\n" + instance(" track_script { s }\n"), ""},
	} {
		o := options(map[string]string{"x.conf": c.text}, "x.conf")
		o.Machine = machine()
		o.Load = o.Load.For("lb1")
		if got := text(Check(o)); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", c.what, got, c.want)
		}
	}
}

func TestAMachineThatDoesNotAnswer(t *testing.T) {
	o := options(map[string]string{"x.conf": instance("")}, "x.conf")
	o.Machine = &Machine{
		Interfaces: func() ([]net.Interface, error) { return nil, errors.New("no luck") },
		Addresses:  func() ([]net.Addr, error) { return nil, errors.New("no luck") },
	}
	if got := text(Check(o)); !strings.Contains(got, "the interfaces cannot be listed: no luck") ||
		!strings.Contains(got, "the addresses cannot be listed: no luck") {
		t.Error(got)
	}
}

// TestUnsafeScripts: a script that runs as root and that others may write.
func TestUnsafeScripts(t *testing.T) {
	script := filepath.Join(t.TempDir(), "check.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(script, 0o777); err != nil {
		t.Fatal(err)
	}
	body := "vrrp_script s {\n script " + script + "\n user root\n}\n" + instance(" track_script { s }\n notify "+script+" root\n")
	for text2, want := range map[string]string{
		body: "x.conf:2:9: warning: script " + script + " runs as root, but ",
		"global_defs { enable_script_security script_user root }\n" + body: "with enable_script_security it is not run [script-unsafe]\n",
	} {
		o := options(map[string]string{"x.conf": text2}, "x.conf")
		o.Machine = machine()
		got := text(Check(o))
		if !strings.Contains(got, want) || strings.Count(got, "\n") < 1 {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
}

// TestExamplesCanBeChecked: every example loads, and no finding is an error.
func TestExamplesCanBeChecked(t *testing.T) {
	paths, err := filepath.Glob("../testdata/examples/*.conf")
	if err != nil || len(paths) < 11 {
		t.Fatal(paths, err)
	}
	for _, p := range paths {
		content, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		r := Check(options(map[string]string{filepath.Base(p): string(content)}, filepath.Base(p)))
		for _, f := range r.Findings {
			if f.Severity == conf.Error {
				t.Errorf("%v", f)
			}
		}
		if !r.Loadable {
			t.Errorf("%s is not loadable:\n%s", p, text(r))
		}
	}
}

// TestThePairsOfTheExamples: two files that belong together have the mistakes that they are known for, and no other.
func TestThePairsOfTheExamples(t *testing.T) {
	const asRoot = ": note: scripts run as keepalived_script if there is such a user, else as root; script_user in global_defs says who " +
		"else [script-root]\n"
	for _, c := range []struct{ one, other, want string }{
		{"simple-master.conf", "simple-backup.conf", ""},
		{"tomcat-master.conf", "tomcat-backup.conf", ""},
		{"nginx-master.conf", "nginx-backup.conf", "nginx-master.conf:6:12" + asRoot + "nginx-backup.conf:6:12" + asRoot},
		{"multi-master-1.conf", "multi-master-2.conf",
			"multi-master-1.conf:20:1: note: vrrp_instance VI_1 has state MASTER on all nodes: after a start of all each tries to take " +
				"over at once [all-master]\n" +
				"multi-master-2.conf:1:1: warning: vrrp_instance VI_2 has priority 80 on node multi-master-1.conf and on node " +
				"multi-master-2.conf: the higher address wins [equal-priority]\n"},
	} {
		files := make(map[string]string)
		for _, name := range []string{c.one, c.other} {
			content, err := os.ReadFile(filepath.Join("../testdata/examples", name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(content)
		}
		if got := text(Check(options(files, c.one, c.other))); got != c.want {
			t.Errorf("%s and %s: got\n%swant\n%s", c.one, c.other, got, c.want)
		}
	}
}
