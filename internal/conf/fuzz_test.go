package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

// FuzzLoad: nothing panics, the same file gives the same result, findings are in order, and what can be used keeps the
// promises of the structs.
func FuzzLoad(f *testing.F) {
	addSeeds(f)
	f.Fuzz(checkLoad)
}

// checkLoad checks what is promised of every file.
func checkLoad(t *testing.T, content []byte) {
	files := fstest.MapFS{"test.conf": {Data: content, Mode: 0o644}}
	opts := options("test.conf", files)
	opts.MaxLines = 2000
	c, findings := Load(opts)
	if _, again := Load(opts); !slices.Equal(findings, again) {
		t.Fatalf("not the same twice:\n%s\n%s", printFindings(findings), printFindings(again))
	}
	if !slices.IsSortedFunc(findings, func(a, b Finding) int { return a.Pos.Compare(b.Pos) }) {
		t.Fatalf("not in order:\n%s", printFindings(findings))
	}
	fatal := slices.ContainsFunc(findings, func(f Finding) bool { return f.Fatal })
	if fatal != (c == nil) {
		t.Fatalf("fatal %v, Config %v:\n%s", fatal, c, printFindings(findings))
	}
	for _, finding := range findings {
		if finding.Fatal && finding.Severity != Error || finding.Code == "" || bytes.ContainsAny([]byte(finding.Message), "\n") {
			t.Fatalf("%+v", finding)
		}
	}
	if c == nil {
		return
	}
	checkPromises(t, c)
	Suspect(c)
	opts.Witness = true
	if w, findings := Load(opts); w == nil {
		t.Fatalf("a witness cannot use what a director can:\n%s", printFindings(findings))
	}
	CompareNodes(LoadNodes(opts))
}

// FuzzWords is FuzzLoad with configurations that are made of the words of the table, so that it gets to what the words mean
// together and not only to how they are spelt.
func FuzzWords(f *testing.F) {
	f.Add([]byte{})
	for seed := range byte(8) {
		choices := make([]byte, 600)
		for i := range choices {
			choices[i] = byte(i*i)*7 + byte(i)*(2*seed+1) + seed
		}
		f.Add(choices)
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 4000 {
			return
		}
		text := []byte(compose(choices))
		checkLoad(t, text)
		checkAddCluster(t, options("test.conf", fstest.MapFS{"test.conf": {Data: text, Mode: 0o644}}))
	})
}

// needed is without which a block would be dropped, most of the time.
var needed = map[string]string{
	"vrrp_script":  "script /bin/true\n",
	"bfd_instance": "neighbor_ip 10.0.0.9\n",
	"cluster":      "name a\nlease 2.5\npeer lb1 { address 10.1.0.1 }\npeer lb2 { address 10.1.0.2 }\n",
	"track_file":   "file /x\n",
}

// compose writes a configuration out of known words: each choice picks a word, an argument or the end of a block.
func compose(choices []byte) string {
	pick := func(n int) int {
		if len(choices) == 0 {
			return 0
		}
		c := int(choices[0])
		choices = choices[1:]
		if n > 256 && len(choices) > 0 {
			c = c<<8 | int(choices[0])
			choices = choices[1:]
		}
		return c % n
	}
	typed := map[words.Type][]string{
		words.Int:  {"1", "2", "100", "255", "0", "-20", "3", "300", "999999999999"},
		words.Dec:  {"1", "2", "0.5", "0.01", "0", "50", "255", "1000", "1e3"},
		words.Bool: {"yes", "no", "on", "maybe"},
		words.Port: {"80", "0", "65536"},
		words.Addr: {"10.0.0.1", "10.0.0.2", "fd00::1", "fe80::1", "224.0.0.19", "ff02::13", "10.0.0"},
	}
	names := []string{"A", "B", "s", "eth0", "eth1", "lb1"}
	common := []string{"A", "10.0.0.1", "eth0", "1", "B", "10.0.0.2/24", "eth1", "255", "s", "MASTER", "BACKUP", "-20", "fe80::1/64", "fd00::1",
		"weight", "reverse", "dev", `"/bin/true x"`, "PASS", "10.0.0.7"}
	var b strings.Builder
	argument := func(block string, lists ...[]string) {
		if values := words.Names(block); len(values) > 0 && pick(2) == 0 {
			lists = [][]string{values}
		}
		list := slices.Concat(lists...)
		b.WriteString(" " + list[pick(len(list))])
	}
	var open []string
	instances := 0
	for len(choices) > 0 {
		block := words.BlockName(open)
		if len(open) > 0 && pick(8) == 0 {
			b.WriteString("}\n")
			open = open[:len(open)-1]
			continue
		}
		known := slices.DeleteFunc(words.Rows(block), func(r *words.Row) bool { return r.Kind != words.Keyword })
		if len(known) == 0 {
			b.WriteString("}\n")
			open = open[:len(open)-1]
			continue
		}
		r := known[pick(len(known))]
		if len(open) == 0 && pick(2) == 0 && instances < 26 { // most rules are about these
			fmt.Fprintf(&b, "vrrp_instance %c {\ninterface eth0\nvirtual_router_id %d\nvirtual_ipaddress { 10.0.0.%[2]d }\n",
				'A'+instances, 10+instances)
			instances++
			open = []string{"vrrp_instance"}
			continue
		}
		inner := words.BlockName(append(slices.Clone(open), r.Word))
		b.WriteString([]string{"", "", "", "", "", "", "@lb1 ", "@^lb1 "}[pick(8)] + r.Word)
		spec := r.Spec()
		for n := spec.Min + pick(5)/4; n > 0; n-- {
			switch of := typed[r.Type()]; {
			case of != nil:
				argument(inner, of)
			case spec.Shape != syntax.Plain:
				argument("", names)
			default:
				argument(inner, common)
			}
		}
		switch spec.Shape {
		case syntax.Statements:
			b.WriteString(" {\n" + needed[r.Word])
			if len(open) < 4 {
				open = append(open, r.Word)
				continue
			}
			b.WriteString("}")
		case syntax.Values, syntax.Names:
			b.WriteString(" {\n")
			for range 1 + pick(3) {
				for range 1 + pick(4) {
					argument(inner, common)
				}
				b.WriteString("\n")
			}
			b.WriteString("}")
		}
		b.WriteString("\n")
	}
	return b.String() + strings.Repeat("}\n", len(open))
}

// FuzzAddCluster: what loads gets a cluster block and loads, with the same meaning, or a rule of clusters is against it.
func FuzzAddCluster(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		opts := options("test.conf", fstest.MapFS{"test.conf": {Data: content, Mode: 0o644}})
		opts.MaxLines = 500
		WordsUsed(opts)
		checkAddCluster(t, opts)
	})
}

// addSeeds adds all configurations of testdata.
func addSeeds(f *testing.F) {
	for _, root := range []string{"testdata/examples", "testdata/golden"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".conf" {
				return err
			}
			content, err := os.ReadFile(path)
			f.Add(content)
			return err
		})
		if err != nil {
			f.Fatal(err)
		}
	}
}

// checkAddCluster checks that a configuration that loads still loads with a cluster block, and says the same to each
// director but for that block, unless a rule of clusters is against it.
func checkAddCluster(t *testing.T, opts Options) {
	t.Helper()
	before, err := opts.Files.ReadFile(opts.Path)
	if err != nil {
		t.Fatal(err)
	}
	m := exampleMembership()
	after, lease, findings, err := AddCluster(opts, m)
	switch {
	case errors.Is(err, ErrHasCluster), errors.Is(err, ErrUnusable) && after == nil: // not all directors can use it as it is
		return
	case err != nil:
		for _, f := range findings {
			if f.Fatal && f.Code != CodeSameAddress && f.Code != CodePeer && f.Code != CodeDuplicate && f.Code != syntax.CodeLimit {
				t.Fatalf("%v: %v", err, f)
			}
		}
		if after == nil || len(findings) == 0 {
			t.Fatal(err)
		}
		return
	case lease < LeaseMin:
		t.Fatalf("lease %v", lease)
	}
	added := len(after) - len(before)
	at := 0
	for at < len(before) && before[at] == after[at] {
		at++
	}
	for at >= 0 && !bytes.Equal(after[at+added:], before[at:]) {
		at-- // the block may begin with what follows it
	}
	if at < 0 || added <= 0 {
		t.Fatalf("not a block added but the file changed:\n%q\n%q", before, after)
	}
	for _, name := range directorsOf(m.Peers) {
		old, _ := Load(opts.For(name))
		with := opts.For(name)
		with.Files = fstest.MapFS{opts.Path: {Data: after, Mode: 0o644}}
		if with.MaxLines > 0 {
			with.MaxLines += 20
		}
		c, findings := Load(with)
		if c == nil {
			t.Fatalf("does not load for %s:\n%s", name, printFindings(findings))
		}
		c.Cluster = nil
		var a, b strings.Builder
		dump(&a, "config", reflect.ValueOf(*old))
		dump(&b, "config", reflect.ValueOf(*c))
		if a.String() != b.String() {
			t.Fatalf("says something else to %s:\n%s", name, diff(a.String(), b.String()))
		}
	}
}

// checkPromises checks what the comments of the structs promise.
func checkPromises(t *testing.T, c *Config) {
	t.Helper()
	names := make(map[string]bool)
	for i := range c.Instances {
		in := &c.Instances[i]
		most, unit := intervalMax2, intervalUnit2
		if in.Version == 3 {
			most, unit = intervalMax3, intervalUnit3
		}
		switch {
		case names[in.Name]:
			t.Fatalf("two instances %s", in.Name)
		case in.VRID == 0 || in.Priority == 0 || in.Version != 2 && in.Version != 3 || in.Family != IPv4 && in.Family != IPv6:
			t.Fatalf("%+v", in)
		case in.AdvertInterval < unit || in.AdvertInterval > most || in.AdvertInterval%unit != 0:
			t.Fatalf("version %d, interval %v", in.Version, in.AdvertInterval)
		case in.Interface == "" && !(in.Unicast && in.Source.IsValid()):
			t.Fatalf("%s has neither interface nor source", in.Name)
		case in.DownTimerAdverts < 1 || in.DownTimerAdverts > 100 || in.PreemptDelay < 0:
			t.Fatalf("%+v", in)
		case in.Priority == 255 && !in.Preempt || in.TimerExpiredBackup == 255:
			t.Fatalf("%+v", in)
		case !in.MulticastGroup.IsMulticast() || familyOf(in.MulticastGroup) != in.Family:
			t.Fatalf("multicast group %v", in.MulticastGroup)
		case len(in.Addresses) > maxAddresses:
			t.Fatalf("%d addresses", len(in.Addresses))
		}
		if g := in.GARP; g.MasterRepeat < 1 || g.MasterRefreshRepeat < 0 || g.LowerPrioRepeat < 0 || g.MasterDelay < 0 ||
			g.MasterRefresh < 0 || g.LowerPrioDelay < 0 {
			t.Fatalf("%+v", g)
		}
		names[in.Name] = true
		for _, a := range in.Addresses {
			if !a.Prefix.IsValid() || familyOf(a.Prefix.Addr()) != in.Family {
				t.Fatalf("%v in an IPv%d instance", a.Prefix, in.Family)
			}
		}
		for _, p := range in.Peers {
			if familyOf(p.Address) != in.Family {
				t.Fatalf("peer %v in an IPv%d instance", p.Address, in.Family)
			}
		}
		for _, list := range in.Tracking.lists() {
			for _, tr := range *list {
				if tr.Name == "" || tr.Weight < -254 || tr.Weight > 254 {
					t.Fatalf("%+v", tr)
				}
			}
		}
	}
	for _, g := range c.SyncGroups {
		if len(g.Members) == 0 || slices.ContainsFunc(g.Members, func(m string) bool { return !names[m] }) {
			t.Fatalf("members %q", g.Members)
		}
	}
	for _, s := range c.Scripts {
		if s.Interval <= 0 || s.Timeout <= 0 || s.Rise < 1 || s.Fall < 1 || (len(s.Command.Argv) == 0) == (s.Command.Opens == "") {
			t.Fatalf("%+v", s)
		}
	}
	if c.LeaseDuration() < LeaseMin {
		t.Fatalf("lease %v", c.LeaseDuration())
	}
	if c.Cluster != nil {
		if c.Cluster.Self().Name != c.Cluster.Node {
			t.Fatal("not itself")
		}
		for _, p := range c.Cluster.Peers {
			if !p.Address.IsValid() {
				t.Fatalf("%+v", p)
			}
		}
	}
}
