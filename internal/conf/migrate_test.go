package conf

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/conf/words"
)

func exampleMembership() Membership {
	return Membership{Name: "edge", KeyFile: "/etc/had/cluster.key", Peers: []Peer{
		{Name: "lb1", Address: netip.MustParseAddr("10.77.0.1")},
		{Name: "lb2", Address: netip.MustParseAddr("10.77.0.2")},
		{Name: "w1", Address: netip.MustParseAddr("10.77.0.3"), Witness: true},
	}}
}

const exampleBlock = `# Every member has the same block. Each finds itself by its host name, or by the word node.
cluster {
    name      edge
    key_file  /etc/had/cluster.key    # made by hactl keygen, the same on every member
    lease     2.5
    peer lb1 { address 10.77.0.1 }
    peer lb2 { address 10.77.0.2 }
    peer w1  { address 10.77.0.3  witness }
}

`

func TestAddClusterKeepsEveryOtherByte(t *testing.T) {
	const instance = "vrrp_instance A {\n  interface eth0\n\tvirtual_router_id 1 # odd\n  virtual_ipaddress { 10.0.0.1 }\n}"
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	for name, c := range map[string]struct{ head, rest string }{
		"at the top":                {"", instance + "\n"},
		"after the leading comment": {"! Configuration File for keepalived\n\n  # mine\n", instance + "\n"},
		"no end of line":            {"# x\n", instance},
		"a brace is missing":        {"", strings.TrimSuffix(instance, "}")},
		"nothing in it":             {"", ""},
		"CRLF":                      {crlf("! x\n"), crlf(instance + "\n")},
		"a byte order mark":         {"\xef\xbb\xbf# x\n", instance + "\n"},
	} {
		block := exampleBlock
		if name == "CRLF" {
			block = crlf(block)
		}
		got, lease, findings, err := AddCluster(options("test.conf", file(c.head+c.rest)), exampleMembership())
		if want := c.head + block + c.rest; err != nil || string(got) != want || lease != 2500*time.Millisecond {
			t.Errorf("%s: %v, lease %v\n%s got\n%s\nwant\n%s", name, err, lease, printFindings(findings), got, want)
		}
	}
	got, _, _, err := AddCluster(options("test.conf", file("# no end")), exampleMembership())
	if want := "# no end\n" + exampleBlock; err != nil || string(got) != want {
		t.Errorf("only a comment: %v\n%s", err, got)
	}
}

func TestAddClusterChoosesALeaseThatFits(t *testing.T) {
	for rest, want := range map[string]time.Duration{
		"advert_int 2":               5 * time.Second,
		"version 3\nadvert_int 0.05": LeaseMin,
		"version 3\nadvert_int 0.5":  1250 * time.Millisecond,
		"@lb2 advert_int 3":          2500 * time.Millisecond, // that of lb1
		"down_timer_adverts 1":       1570 * time.Millisecond,
	} {
		text := "vrrp_instance A {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress { 10.0.0.1 }\n" + rest + "\n}\n"
		_, lease, findings, err := AddCluster(options("test.conf", file(text)), exampleMembership())
		if err != nil || lease != want {
			t.Errorf("%s: %v, lease %v, want %v\n%s", rest, err, lease, want, printFindings(findings))
		}
		if lease > LeaseMin && len(findings) > 0 {
			t.Errorf("%s: %s", rest, printFindings(findings))
		}
	}
	m := exampleMembership()
	m.Lease = 4 * time.Second
	if text, lease, _, err := AddCluster(options("test.conf", file("")), m); err != nil || lease != m.Lease ||
		!strings.Contains(string(text), "lease     4\n") {
		t.Errorf("%v %v\n%s", err, lease, text)
	}
}

func TestAddClusterRefuses(t *testing.T) {
	const instance = "vrrp_instance A {\n interface eth0\n virtual_router_id 1\n virtual_ipaddress { 10.0.0.1 }\n}\n"
	other := strings.NewReplacer("A", "B", "id 1", "id 2").Replace(instance)
	for _, c := range []struct {
		what, text string
		change     func(m *Membership)
		want       error
		finding    string
	}{
		{"a cluster block", "cluster {\n}\n", nil, ErrHasCluster, ""},
		{"a cluster block for another node", "@x cluster {\n@x }\n", nil, ErrHasCluster, ""},
		{"a file that does not load", "vrrp_instance A {\n}\n", nil, ErrUnusable, "[vrid] fatal"},
		{"a file that loads on one node only", "@lb2 vrrp_instance A {\n@lb2 }\n", nil, ErrUnusable, "[vrid] fatal"},
		{"an address in two groups", instance + other, nil, ErrUnusable, "it could have two owners [same-address] fatal"},
		{"a peer at a virtual address", strings.ReplaceAll(instance, "10.0.0.1", "10.77.0.1"), nil, ErrUnusable, "[cluster-peer] fatal"},
		{"a bad name", instance, func(m *Membership) { m.Name = "-" }, ErrUnusable, "[range] fatal"},
		{"a name that is more", instance, func(m *Membership) { m.Name = "edge port 7770" }, ErrMember, ""},
		{"a name that ends the block", instance, func(m *Membership) { m.Name = "a }\ncluster {\n name b" }, ErrUnusable, "fatal"},
		{"a lease that is too short", instance, func(m *Membership) { m.Lease = time.Millisecond }, ErrUnusable, "[range] fatal"},
	} {
		m := exampleMembership()
		if c.change != nil {
			c.change(&m)
		}
		_, _, findings, err := AddCluster(options("test.conf", file(c.text)), m)
		if !errors.Is(err, c.want) || !strings.Contains(printFindings(findings), c.finding) {
			t.Errorf("%s: %v\n%s", c.what, err, printFindings(findings))
		}
	}
	if _, _, _, err := AddCluster(options("absent.conf", file("")), exampleMembership()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestExamplesJoinAClusterUnchanged: each example gets a block and says to each node what it said before.
func TestExamplesJoinAClusterUnchanged(t *testing.T) {
	files, err := filepath.Glob("testdata/examples/*.conf")
	if err != nil || len(files) < 11 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		opts := options(name, directory(t, "testdata/examples"))
		if _, _, findings, err := AddCluster(opts, exampleMembership()); err != nil {
			t.Errorf("%s: %v\n%s", name, err, printFindings(findings))
			continue
		}
		checkAddCluster(t, opts)
	}
}

func TestWordsUsed(t *testing.T) {
	text := "global_defs {\n vrrp_version 3\n foo\n}\nvrrp_instance A {\n state BACKUP\n priority 9\n virtual_ipaddress {\n" +
		"  10.0.0.1 dev eth0\n 10.0.0.2 dev eth1 label x\n }\n}\nvrrp_instance B {\n priority 8\n}\n"
	var got []string
	for _, r := range WordsUsed(options("test.conf", file(text))) {
		got = append(got, r.Block+"/"+r.Word)
	}
	want := []string{
		words.Root + "/global_defs", "global_defs/vrrp_version", words.Root + "/vrrp_instance", "vrrp_instance/state",
		"vrrp_instance/state/BACKUP", "vrrp_instance/priority", "vrrp_instance/virtual_ipaddress",
		"vrrp_instance/virtual_ipaddress/dev", "vrrp_instance/virtual_ipaddress/label",
	}
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
}
