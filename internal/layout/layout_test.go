package layout

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hactl/had/"

// pkg is one package of the module, with everything that it links and what it imports itself.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T) map[string]pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	return all
}

// within tells whether a package is root or below it.
func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func anyWithin(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return within(path, r) })
}

// TestPureCoresUseTheStandardLibraryOnly keeps the parts that decide free of the world: the same inputs always give the
// same outputs, so that a failure can be replayed and simulated.
func TestPureCoresUseTheStandardLibraryOnly(t *testing.T) {
	allowed := map[string][]string{ // what a pure package may import of ours
		"internal/clock":          nil,
		"bfd":                     {"internal/clock"},
		"lvs":                     nil,
		"vrrp/packet":             nil,
		"vrrp/track":              {"internal/clock"},
		"vrrp":                    {"internal/clock"},
		"fsm":                     nil,
		"cluster/lease":           {"internal/clock", "fsm"},
		"fencing":                 {"internal/clock"},
		"lvs/check/verdict":       {"internal/clock"},
		"internal/agent/director": {"internal/clock", "fsm", "cluster/lease", "fencing", "vrrp"},
		"internal/agent/shared":   {"internal/clock", "fsm"},
		"internal/control/view":   {"internal/control/api"},
	}
	impure := []string{"os", "os/exec", "syscall", "net", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand",
		"io/ioutil", "sync", "runtime", "context", "unsafe"}
	all := packages(t)
	for name, ours := range allowed {
		p, ok := all[name]
		if !ok {
			t.Errorf("%s does not exist", name)
			continue
		}
		for _, imported := range p.Imports {
			switch short, own := strings.CutPrefix(imported, module); {
			case own:
				if !slices.Contains(ours, short) {
					t.Errorf("%s is pure and may not import %s", name, short)
				}
			case strings.Contains(imported, "."):
				t.Errorf("%s is pure and may not import %s", name, imported)
			case slices.Contains(impure, imported):
				t.Errorf("%s is pure and may not import %s", name, imported)
			}
		}
	}
}

// TestLinks states what a package must not link, directly or through others.
func TestLinks(t *testing.T) {
	rules := []struct {
		who    string
		never  []string
		reason string
	}{
		{"cmd/hawitness", []string{"vrrp", "lvs", "fencing", "internal/linux", "internal/agent", "internal/lab",
			"github.com/vishvananda/netlink", "github.com/mdlayher/netlink", "github.com/google/nftables"},
			"a witness is unprivileged and touches no network configuration"},
		{"witness", []string{"vrrp", "lvs", "fencing", "internal/linux", "internal/agent"}, "as cmd/hawitness"},
		{"cluster", []string{"vrrp", "lvs", "fencing", "internal/linux", "internal/conf", "internal/agent", "internal/control"},
			"siblings meet only in internal/agent"},
		{"vrrp", []string{"cluster", "fsm", "lvs", "fencing", "internal/conf"}, "VRRP works without a cluster"},
		{"vrrp/speaker", []string{"cluster", "fsm", "lvs", "fencing", "internal/conf"}, "VRRP works without a cluster"},
		{"bfd/speaker", []string{"cluster", "fsm", "vrrp", "lvs", "fencing", "internal/conf"}, "siblings meet only in internal/agent"},
		{"fencing/guard", []string{"cluster", "fsm", "vrrp", "lvs", "internal/conf"}, "siblings meet only in internal/agent"},
		{"lvs/check", []string{"cluster", "fsm", "vrrp", "fencing", "internal/conf", "internal/agent", "internal/linux", "internal/notify"},
			"siblings meet only in internal/agent"},
		{"internal/conf", []string{"cluster", "fsm", "vrrp", "lvs", "fencing", "internal/linux", "internal/agent"},
			"the configuration is data; a witness reads it too"},
		{"internal/linux", []string{"cluster", "fsm", "vrrp", "lvs", "fencing", "internal/conf", "internal/agent"},
			"it knows the kernel and nothing of ours"},
		{"internal/member", []string{"vrrp", "lvs", "fencing", "internal/linux", "internal/agent"}, "a witness links it"},
	}
	all := packages(t)
	for _, r := range rules {
		if _, ok := all[r.who]; !ok {
			t.Errorf("%s does not exist", r.who)
			continue
		}
		for _, dep := range all[r.who].Deps {
			if anyWithin(strings.TrimPrefix(dep, module), r.never) {
				t.Errorf("%s links %s: %s", r.who, dep, r.reason)
			}
		}
	}
}

// TestDoors states which packages alone may import a library: the doors to the world.
func TestDoors(t *testing.T) {
	rules := []struct {
		library string
		doors   []string
	}{
		{"github.com/hashicorp/raft", []string{"cluster"}},
		{"github.com/hashicorp/memberlist", []string{"cluster"}},
		{"go.etcd.io/bbolt", []string{"cluster"}},
		{"github.com/vishvananda/netlink", []string{"internal/linux", "lvs/ipvs", "internal/lab", "internal/integ"}},
		{"github.com/google/nftables", []string{"fencing/guard", "internal/linux/filter", "internal/lab"}},
		{"github.com/spf13/cobra", []string{"internal/control/cli"}},
		{"github.com/gosnmp/gosnmp", []string{"internal/notify/trap"}},
		{"github.com/dlclark/regexp2", []string{"internal/pcre"}},
		{"net/smtp", []string{"internal/notify/mail"}},
	}
	for name, p := range packages(t) {
		for _, imported := range p.Imports {
			for _, r := range rules {
				if within(imported, r.library) && !anyWithin(name, r.doors) {
					t.Errorf("%s imports %s, which only %s may", name, imported, strings.Join(r.doors, ", "))
				}
			}
		}
	}
}
