package conf

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// pair loads two texts. Neither may have errors.
func pair(t *testing.T, before, after string) (*Config, *Config) {
	t.Helper()
	var configs [2]*Config
	for i, text := range []string{before, after} {
		c, findings := Load(options("test.conf", file(text)))
		for _, f := range findings {
			if f.Severity == Error {
				t.Fatal(f)
			}
		}
		configs[i] = c
	}
	return configs[0], configs[1]
}

func instanceText(name string, vrid int, lines ...string) string {
	return fmt.Sprintf("vrrp_instance %s {\n interface eth0\n virtual_router_id %d\n%s\n virtual_ipaddress {\n 10.0.0.%d\n }\n}\n",
		name, vrid, strings.Join(lines, "\n"), vrid)
}

const clusterText = "cluster {\n name c\n node lb1\n key_file /k\n data_dir /d\n peer lb1 { address 10.1.0.1 }\n" +
	" peer b { address 10.1.0.2 }\n peer w {\n address 10.1.0.3\n witness\n }\n}\n"

func describe(items []Item) string {
	var words []string
	for _, i := range items {
		word := i.Change.String() + " " + i.Name
		if i.Was != "" && i.Was != i.Name {
			word += "=" + i.Was
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func TestCompareInstances(t *testing.T) {
	a, b := instanceText("a", 1), instanceText("b", 2)
	for _, c := range []struct{ name, before, after, want string }{
		{"a comment and the order change nothing", a + b, "# hello\n" + b + a, "unchanged b, unchanged a"},
		{"a word", a + b, instanceText("a", 1, "priority 7") + b, "changed a, unchanged b"},
		{"an address", a, strings.Replace(a, "10.0.0.1\n", "10.0.0.1\n10.0.0.9\n", 1), "changed a"},
		{"one comes, one goes", a, b, "added b, removed a"},
		{"another name", a + b, instanceText("z", 1) + b, "changed z=a, unchanged b"},
		{"another VRID under the same name", a, instanceText("a", 9), "added a, removed a"},
		{"names are exchanged", a + b, instanceText("b", 1) + instanceText("a", 2), "changed b=a, changed a=b"},
		{"a lease names the instance", clusterText + a, clusterText + instanceText("z", 1), "added z, removed a"},
		{"a default of global_defs", a, "global_defs {\n vrrp_garp_master_delay 9\n}\n" + a, "changed a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := pair(t, c.before, c.after)
			d := Compare(before, after)
			if got := describe(d.Instances); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if same := strings.HasPrefix(c.name, "a comment"); d.Nothing() != same {
				t.Errorf("nothing: %v; %s", d.Nothing(), d.Summary())
			}
		})
	}
}

func TestCompareFindsWhatCannotBeChanged(t *testing.T) {
	a := instanceText("a", 1)
	for _, c := range []struct {
		name, before, after string
		want                []string
	}{
		{"the same", clusterText + a, clusterText + a, nil},
		{"the cluster's name", clusterText + a, strings.Replace(clusterText, "name c", "name d", 1) + a, []string{"cluster name"}},
		{"a peer", clusterText + a, strings.Replace(clusterText, "10.1.0.3", "10.1.0.4", 1) + a, []string{"cluster peer"}},
		{"a block comes", a, clusterText + a, []string{"cluster (the block as a whole)"}},
		{"the lease follows advert_int", clusterText + a, clusterText + instanceText("a", 1, "advert_int 2"),
			[]string{"cluster lease (2.5s would become 5s, because of the smallest advert_int)"}},
		{"the name of the process", a, "instance other\n" + a, []string{"instance"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := pair(t, c.before, c.after)
			if d := Compare(before, after); !slices.Equal(d.Refused, c.want) {
				t.Errorf("got %q, want %q", d.Refused, c.want)
			}
		})
	}
}

func TestCompareScriptsGroupsAndTheRest(t *testing.T) {
	a, b := instanceText("a", 1), instanceText("b", 2)
	script := func(rise int) string { return fmt.Sprintf("vrrp_script s {\n script /bin/true\n rise %d\n}\n", rise) }
	group := "vrrp_sync_group g {\n group {\n a\n b\n }\n}\n"
	before, after := pair(t, script(1)+a+b, "global_defs {\n router_id x\n}\nstatic_ipaddress {\n 10.9.9.9 dev eth0\n}\n"+script(2)+group+a+b)
	d := Compare(before, after)
	if got := describe(d.Scripts); got != "changed s" {
		t.Error(got)
	}
	if got := describe(d.Groups); got != "added g" {
		t.Error(got)
	}
	if !d.Global || !d.Other {
		t.Errorf("%+v", d)
	}
	if got, want := d.Summary(), "2 instances changed, 1 sync group added, 1 script changed, global_defs changed, other blocks changed"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
