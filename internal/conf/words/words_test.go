package words

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hactl/had/internal/conf/syntax"
)

// TestTableIsKeepalivedsLanguage compares the table with the list of words collected from keepalived: none is missing,
// none is there that the list does not know, and all their facts are equal.
func TestTableIsKeepalivedsLanguage(t *testing.T) {
	content, err := os.ReadFile("testdata/keepalived-keywords.tsv")
	if err != nil {
		t.Fatal(err)
	}
	none := func(s string) string {
		if s == "-" {
			return ""
		}
		return s
	}
	listed := make(map[[2]string]bool)
	for number, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		f := strings.Split(line, "\t")
		if strings.HasPrefix(line, "# ") || f[0] == "block" {
			continue
		}
		if len(f) != 9 {
			t.Fatalf("line %d has %d columns", number+1, len(f))
		}
		listed[[2]string{f[0], f[1]}] = true
		tier, err := strconv.Atoi(f[7])
		if err != nil {
			t.Fatalf("line %d: %v", number+1, err)
		}
		want := Row{
			Block: f[0], Word: f[1], Args: strings.Replace(f[2], "(none)", "", 1), Unit: none(f[3]), Default: none(f[4]),
			Range: none(f[5]), Meaning: f[6], Tier: tier,
		}
		r := Lookup(f[0], f[1])
		if r == nil {
			t.Errorf("line %d: %s/%s is not in the table", number+1, f[0], f[1])
			continue
		}
		got := Row{
			Block: r.Block, Word: r.Word, Args: r.Args, Unit: r.Unit, Default: r.Default, Range: r.Range,
			Meaning: r.Meaning, Tier: r.Tier,
		}
		if got != want || r.Kind.String() != f[8] {
			t.Errorf("line %d:\n got %+v %v\nwant %+v %v", number+1, got, r.Kind, want, f[8])
		}
	}
	for _, block := range Blocks() {
		for _, r := range Rows(block) {
			if !r.Own && !listed[[2]string{block, r.Word}] {
				t.Errorf("%s/%s is in the table but not in the list", block, r.Word)
			}
		}
	}
}

func TestSpecsAreReadOffTheNotation(t *testing.T) {
	for _, c := range []struct {
		block, word string
		want        syntax.Spec
	}{
		{Root, "vrrp_instance", syntax.Spec{Shape: syntax.Statements, Min: 1, Max: 1}},
		{Root, "global_defs", syntax.Spec{Shape: syntax.Statements}},
		{Root, "virtual_server", syntax.Spec{Shape: syntax.Statements, Min: 1, Max: 2, Literal: true}},
		{Root, "virtual_server_group", syntax.Spec{Shape: syntax.Values, Min: 1, Max: 1}},
		{Root, "static_routes", syntax.Spec{Shape: syntax.Values}},
		{Root, "net_namespace_ipvs", syntax.Spec{Shape: syntax.Plain, Max: 1}},
		{Root, "cluster", syntax.Spec{Shape: syntax.Statements, Free: true}},
		{"global_defs", "notification_email", syntax.Spec{Shape: syntax.Names}},
		{"global_defs", "lvs_sync_daemon", syntax.Spec{Shape: syntax.Plain, Min: 1, Max: 13}},
		{"global_defs", "vrrp_cpu_affinity", syntax.Spec{Shape: syntax.Plain, Min: 1, Max: -1}},
		{"global_defs", "vrrp_garp_extra_if", syntax.Spec{Shape: syntax.Plain, Min: 1, Max: 2, Literal: true}},
		{"global_defs", "vrrp_ipsets", syntax.Spec{Shape: syntax.Plain, Max: 6}},
		{"vrrp_instance", "virtual_ipaddress", syntax.Spec{Shape: syntax.Values}},
		{"vrrp_instance", "track_script", syntax.Spec{Shape: syntax.Values}},
		{"vrrp_instance", "smtp_alert", syntax.Spec{Shape: syntax.Plain, Max: 1, Literal: true}},
		{"vrrp_instance", "debug", syntax.Spec{Shape: syntax.Plain, Max: 1, Literal: true}},
		{"vrrp_script", "weight", syntax.Spec{Shape: syntax.Plain, Min: 1, Max: 2, Literal: true}},
		{"vrrp_instance", "nopreempt", syntax.Spec{Shape: syntax.Plain}},
		{"vrrp_instance", "virtual_router_id", syntax.Spec{Shape: syntax.Plain, Min: 1, Max: 1}},
		{"vrrp_instance", "notify_master", syntax.Spec{Shape: syntax.Plain, Min: 1, Max: 3, Command: true}},
		{"vrrp_instance", "notify_deleted", syntax.Spec{Shape: syntax.Plain, Max: 3, Command: true}},
		{"vrrp_instance", "use_vmac", syntax.Spec{Shape: syntax.Plain, Max: 6}},
		{"vrrp_sync_group", "group", syntax.Spec{Shape: syntax.Names}},
		{"virtual_server", "lb_kind", syntax.Spec{Shape: syntax.Plain, Min: 1, Max: 6}},
		{"virtual_server", "protocol", syntax.Spec{Shape: syntax.Plain, Min: 1, Max: 1}},
		{"virtual_server/real_server/FILE_CHECK", "track_file", syntax.Spec{Shape: syntax.Plain, Min: 1, Max: 1}},
		{"virtual_server/real_server/HTTP_GET/url", "status_code", syntax.Spec{Shape: syntax.Plain, Min: 1, Max: -1}},
		{"virtual_server/real_server/HTTP_GET/url", "regex", syntax.Spec{Shape: syntax.Plain, Min: 1, Max: 1, Command: true}},
		{"cluster", "peer", syntax.Spec{Shape: syntax.Statements, Min: 1, Max: 1, Free: true}},
	} {
		r := Lookup(c.block, c.word)
		if r == nil {
			t.Errorf("%s/%s is not in the table", c.block, c.word)
			continue
		}
		if got := r.Spec(); got != c.want {
			t.Errorf("%s/%s: got %+v, want %+v", c.block, c.word, got, c.want)
		}
	}
}

func TestLimits(t *testing.T) {
	for s, want := range map[string]Limits{
		"":                   {},
		"BOOL":               {},
		"2,3":                {},
		"port 1..65535":      {},
		"1..255":             {Min: 1e6, Max: 255e6, HasMin: true, HasMax: true},
		"-253..253":          {Min: -253e6, Max: 253e6, HasMin: true, HasMax: true},
		"0.01..255 (v2: 1)":  {Min: 1e4, Max: 255e6, HasMin: true, HasMax: true},
		"0.000001..3600":     {Min: 1, Max: 3600e6, HasMin: true, HasMax: true},
		">=0.000001":         {Min: 1, HasMin: true},
		">=1 (0 becomes 1)":  {Min: 1e6, HasMin: true},
		"0.001.. (0 is 1)":   {Min: 1e3, HasMin: true},
		"0..4294.967295 etc": {Min: 0, Max: 4294967295, HasMin: true, HasMax: true},
	} {
		if got := parseLimits(s); got != want {
			t.Errorf("%q: got %+v, want %+v", s, got, want)
		}
	}
}

func TestEffectsAreOfKnownWords(t *testing.T) {
	for key, e := range effects {
		i := strings.LastIndexByte(key, '/')
		if r := Lookup(key[:i], key[i+1:]); r == nil {
			t.Errorf("%s is no word", key)
		}
		if e.effect == Same || e.effect > Refused || e.text == "" {
			t.Errorf("%s: %v %q: only what is not the same is said, with a text", key, e.effect.Status(), e.text)
		}
	}
	if e, text := EffectOf("vrrp_instance", "priority"); e != Same || text != "" {
		t.Errorf("vrrp_instance/priority: %v %q", e, text)
	}
}

func TestAWordSharesTheFateOfItsBlock(t *testing.T) {
	for _, c := range []struct{ block, word, like string }{
		{"vrrp_instance/auth_hmac/mode", "enforce", "vrrp_instance/auth_hmac"},
		{"virtual_server/real_server/HTTP_GET", "url", ""},
		{"global_defs", "enable_dbus", "global_defs/enable_dbus"},
		{"vrrp_instance", "priority", ""},
		{"(lexical)/BOOL", "on", ""},
	} {
		e, text := EffectWithin(c.block, c.word)
		if want := effects[c.like]; e != want.effect || text != want.text {
			t.Errorf("%s/%s: got %s %q, want %s %q", c.block, c.word, e.Status(), text, want.effect.Status(), want.text)
		}
	}
}

func TestDifferencesAreComplete(t *testing.T) {
	for _, a := range Areas() {
		if !slices.ContainsFunc(Differences, func(d Difference) bool { return d.Area == a }) {
			t.Errorf("there is no difference about %s", a)
		}
	}
	for _, d := range Differences {
		if !slices.Contains(Areas(), d.Area) || d.Keepalived == "" || d.Had == "" || d.Why == "" {
			t.Errorf("%+v", d)
		}
	}
}

func TestHomes(t *testing.T) {
	for word, want := range map[string]string{
		"priority": "vrrp_instance", "absent": "", "auth_pass": "vrrp_instance/authentication",
		"alpha": "virtual_server virtual_server/real_server virtual_server/real_server/MISC_CHECK " +
			"virtual_server/real_server/SMTP_CHECK virtual_server/real_server/SMTP_CHECK/host " +
			"virtual_server/real_server/TCP_CHECK virtual_server/real_server/PING_CHECK " +
			"virtual_server/real_server/UDP_CHECK virtual_server/real_server/HTTP_GET " +
			"virtual_server/real_server/SSL_GET virtual_server/real_server/DNS_CHECK virtual_server/real_server/BFD_CHECK",
	} {
		if got := strings.Join(Homes(word), " "); got != want {
			t.Errorf("%s: got %s, want %s", word, got, want)
		}
	}
}
