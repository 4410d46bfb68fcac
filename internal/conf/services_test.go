package conf

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// together is the text of services as one file.
func together(services []Service) string {
	var b strings.Builder
	for _, s := range services {
		b.WriteString(strings.TrimSuffix(s.Text, "}\n"))
		for _, r := range s.Servers {
			b.WriteString(r.Text)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// roundTrip reads the services of a configuration as text, and compares what they mean.
func roundTrip(t *testing.T, c *Config) {
	t.Helper()
	services := c.Services()
	for i, s := range services {
		one := together(services[i : i+1])
		again, findings := c.ReadServices(one)
		if again == nil || len(again.VirtualServers) != 1 {
			t.Fatalf("%s cannot be read: %v\n%s", s.Key, findings, one)
		}
		if !Same(again.VirtualServers[0], c.VirtualServers[i]) {
			t.Errorf("%s reads as %+v, want %+v\n%s", s.Key, again.VirtualServers[0], c.VirtualServers[i], one)
		}
		if got := again.Services(); got[0].Key != s.Key || together(got) != one {
			t.Errorf("%s is written as\n%s\nand then as %s:\n%s", s.Key, one, got[0].Key, together(got))
		}
	}
}

// inCluster has the services of a file kept as text.
const inCluster = "cluster {\n name c\n node lb1\n key_file /k\n data_dir /d\n lease 2.5\n peer lb1 { address 10.1.0.1 }\n}\n"

const servicesFile = `
$PORT=80
global_defs {
    smtp_alert_checker true
}
bfd_instance peer {
    neighbor_ip 10.0.0.1
}
virtual_server_group web {
    192.0.2.10-12   80    # a range
    fwmark 7
}
~SEQ(n,1,2) virtual_server 192.0.2.$n $PORT { protocol TCP; }
virtual_server group web {
    delay_loop   5
    real_server 10.0.0.1 $PORT {
        weight 3
        MISC_CHECK { misc_path "/bin/check  \#1 'a  b'" }
    }
    lb_algo rr ! not wlc
    @one protocol TCP
    @two protocol UDP
    sorry_server 10.0.0.9 80
    real_server 10.0.0.2 80 {
        BFD_CHECK { name peer }
        notify_down "/bin/false \\# x"
    }
}
virtual_server fwmark 5 {
    ip_family inet6
    real_server fd00::1 80 {
        HTTP_GET {
            url {
                path /#top
                digest 0123456789abcdef0123456789abcdef
            }
        }
    }
}
`

func TestServicesAreTextThatStandsAlone(t *testing.T) {
	c := loadServices(t, servicesFile)
	roundTrip(t, c)
	var keys []string
	for _, s := range c.Services() {
		keys = append(keys, s.Key)
		for _, r := range s.Servers {
			keys = append(keys, r.Key)
		}
	}
	want := []string{"group web TCP inet", "10.0.0.1:80", "10.0.0.2:80", "fwmark 5 inet6", "[fd00::1]:80"}
	if !slices.Equal(keys, want) {
		t.Errorf("keys %q, want %q", keys, want)
	}
	text := together(c.Services())
	for _, gone := range []string{"$PORT", "# a range", "@one", "not wlc", "UDP"} {
		if strings.Contains(text, gone) {
			t.Errorf("%q is still in\n%s", gone, text)
		}
	}
	if !strings.HasPrefix(text, "virtual_server_group web {\n    192.0.2.10-12 80\n    fwmark 7\n}\nvirtual_server group web {\n    delay_loop 5\n") {
		t.Errorf("the text begins otherwise:\n%s", text)
	}
}

func loadServices(t *testing.T, text string) *Config {
	t.Helper()
	opts := options("test.conf", file(text+inCluster))
	opts.ConfigID = "one"
	c, findings := Load(opts)
	if c == nil {
		t.Fatal(findings)
	}
	return c
}

func TestServicesOfFiles(t *testing.T) {
	for _, name := range []string{"golden/lvs.conf", "golden/lvs-errors.conf", "examples/tutorial-full.conf", "examples/lvs-dr.conf"} {
		files := directory(t, "testdata").(fstest.MapFS)
		files["testdata/"+name].Data = append(files["testdata/"+name].Data, inCluster...)
		c, findings := Load(options("testdata/"+name, files))
		if c == nil || len(c.Services()) == 0 || len(c.Services()) != len(c.VirtualServers) {
			t.Fatalf("%s: %v", name, findings)
		}
		roundTrip(t, c)
	}
}

func TestServicesDoNotDependOnSpacing(t *testing.T) {
	one := loadServices(t, "virtual_server 192.0.2.1 80 {\n protocol TCP\n real_server 10.0.0.1 80 { weight 1\n }\n}\n")
	two := loadServices(t, "# first\nvirtual_server\t192.0.2.1  80 {\nprotocol  TCP # x\n\n\treal_server 10.0.0.1 80 {\n\t\tweight 1\n\t}\n}\n")
	if a, b := together(one.Services()), together(two.Services()); a != b {
		t.Errorf("%s\nand\n%s", a, b)
	}
	if !Same(*one, *one) || Compare(one, two).Other {
		t.Error("the same services are a difference")
	}
}

func TestReadServicesTakesNothingElse(t *testing.T) {
	c := loadServices(t, servicesFile)
	for name, text := range map[string]string{
		"another block": "vrrp_instance x {\n}\n",
		"an include":    "include /etc/passwd\n",
		"word outside":  "instance x\n",
	} {
		if got, findings := c.ReadServices(text); got != nil && (len(got.VirtualServers) > 0 || len(findings) == 0) {
			t.Errorf("%s: %+v, %v", name, got, findings)
		}
	}
	got, findings := c.ReadServices("virtual_server 192.0.2.1 80 {\n    protocol TCP\n    lb_algo xx\n    real_server 10.0.0.1 80 {\n    }\n}\n")
	wrong := func(f Finding) bool { return f.Severity == Error }
	if i := slices.IndexFunc(findings, wrong); got == nil || i < 0 || findings[i].Pos.Line != 3 {
		t.Errorf("%v, findings %v", got, findings)
	}
	got, findings = c.ReadServices("virtual_server 192.0.2.1 80 {\n    protocol TCP\n    lb_algo rr\n    lb_kind NAT\n    real_server 10.0.0.1 80 {\n" +
		"        BFD_CHECK {\n            name peer\n        }\n    }\n}\n")
	if got == nil || slices.ContainsFunc(findings, wrong) || got.VirtualServers[0].Servers[0].Checkers[0].Session != "peer" {
		t.Errorf("what the file has around the services is not known: %v", findings)
	}
}

func TestSyncDaemonOfAnInstance(t *testing.T) {
	instance := "vrrp_instance VI {\n    interface eth0\n    virtual_router_id 51\n    lvs_sync_daemon_interface eth1\n    virtual_ipaddress {\n" +
		"        192.0.2.1\n    }\n}\n"
	d := loadServices(t, instance).Global.LVS.SyncDaemon
	if d == nil || d.Interface != "eth1" || d.Instance != "VI" || d.ID != -1 {
		t.Errorf("%+v", d)
	}
	d = loadServices(t, "global_defs {\n    lvs_sync_daemon eth2\n}\n"+instance).Global.LVS.SyncDaemon
	if d == nil || d.Interface != "eth2" || d.Instance != "" {
		t.Errorf("%+v", d)
	}
}
