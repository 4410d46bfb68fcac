package conf

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// file returns a file system with one file, test.conf.
func file(content string) Files {
	return fstest.MapFS{"test.conf": {Data: []byte(content), Mode: 0o644}}
}

// directory returns the files below a directory, as seen from the package.
func directory(t testing.TB, root string) Files {
	t.Helper()
	files := make(fstest.MapFS)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		files[path] = &fstest.MapFile{Data: content, Mode: 0o644}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func options(path string, files Files) Options {
	return Options{
		Path: path, ConfigID: "lb1", Node: "lb1.example.com", Files: files,
		Env: func(name string) (string, bool) { return "value-of-" + name, name != "UNSET" },
	}
}

// golden compares got with a golden file, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v; write it with -update", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (rewrite it with -update and look at the difference):\n%s", name, diff(string(want), got))
	}
}

// diff prints the lines that are only in one of two texts.
func diff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	for _, line := range w {
		if !slices.Contains(g, line) {
			fmt.Fprintf(&b, "-%s\n", line)
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			fmt.Fprintf(&b, "+%s\n", line)
		}
	}
	return b.String()
}

func printFindings(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(f.String())
		if f.Fatal {
			b.WriteString(" fatal")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// dump prints all fields that are not zero, one on a line, without places.
func dump(b *strings.Builder, path string, v reflect.Value) {
	if v.IsZero() {
		return
	}
	switch x := v.Interface().(type) {
	case Pos:
		return
	case *Node:
		fmt.Fprintf(b, "%s = %s\n", path, x.Line)
		return
	case netip.Addr, netip.AddrPort, netip.Prefix, time.Duration:
		fmt.Fprintf(b, "%s = %v\n", path, x)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		dump(b, path, v.Elem())
		if v.Elem().IsZero() {
			fmt.Fprintf(b, "%s = zero\n", path)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.Type != sourceType {
				dump(b, path+"."+field.Name, v.Field(i))
			}
		}
	case reflect.Slice, reflect.Array:
		if kind := v.Type().Elem().Kind(); kind == reflect.String || kind == reflect.Uint8 {
			fmt.Fprintf(b, "%s = %q\n", path, v.Interface())
			return
		}
		for i := range v.Len() {
			dump(b, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.String:
		fmt.Fprintf(b, "%s = %q\n", path, v.String())
	default:
		fmt.Fprintf(b, "%s = %v\n", path, v.Interface())
	}
}

// TestGolden reads each file of testdata/golden and compares its findings and what was made of it with the file beside it.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/golden/*.conf")
	if err != nil || len(names) == 0 {
		t.Fatal("no files", err)
	}
	files := directory(t, "testdata/golden")
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			l := load(options(name, files))
			var b strings.Builder
			b.WriteString(printFindings(l.findings))
			b.WriteString("\n")
			l.cfg.Global = withoutDefaults(l.cfg.Global)
			dump(&b, "", reflect.ValueOf(*l.cfg))
			golden(t, strings.TrimSuffix(name, ".conf")+".golden", strings.ReplaceAll(b.String(), "testdata/golden/", ""))
		})
	}
}

// withoutDefaults returns g with zeros for all fields that have their default.
func withoutDefaults(g Global) Global {
	plain := load(options("test.conf", file(""))).cfg.Global
	var blank func(g, plain reflect.Value)
	blank = func(g, plain reflect.Value) {
		for i := range g.NumField() {
			field := g.Type().Field(i).Type
			switch {
			case field.Kind() == reflect.Struct && field != reflect.TypeFor[netip.Addr]():
				blank(g.Field(i), plain.Field(i))
			case reflect.DeepEqual(g.Field(i).Interface(), plain.Field(i).Interface()):
				g.Field(i).SetZero()
			}
		}
	}
	blank(reflect.ValueOf(&g).Elem(), reflect.ValueOf(&plain).Elem())
	return g
}

// TestExamples loads the files that people really have. keepalived runs with all of them: there is no error.
func TestExamples(t *testing.T) {
	names, err := filepath.Glob("testdata/examples/*.conf")
	if err != nil || len(names) != 11 {
		t.Fatalf("%d files: %v", len(names), err)
	}
	files := directory(t, "testdata/examples")
	var b strings.Builder
	for _, name := range names {
		c, findings := Load(options(name, files))
		if c == nil {
			t.Errorf("%s cannot be used", name)
		}
		for _, f := range findings {
			if f.Severity > Warning {
				t.Errorf("%v", f)
			}
		}
		b.WriteString(printFindings(findings))
	}
	golden(t, "testdata/examples/findings.golden", strings.ReplaceAll(b.String(), "testdata/examples/", ""))
}

func TestTutorialIsReadInFull(t *testing.T) {
	c, _ := Load(options("testdata/examples/tutorial-full.conf", directory(t, "testdata/examples")))
	if c == nil {
		t.Fatal("it cannot be used")
	}
	var b strings.Builder
	c.Global = withoutDefaults(c.Global)
	dump(&b, "", reflect.ValueOf(*c))
	golden(t, "testdata/examples/tutorial-full.golden", b.String())
}

// TestEveryWordHasAHandler: what the table knows in the blocks that become structs is read there, and nothing else is.
func TestEveryWordHasAHandler(t *testing.T) {
	l := &loader{cfg: &Config{}}
	l.global = newGlobalDraft(&l.cfg.Global)
	checker := func(kind CheckKind) handlers { return l.checkerWords(kind, new(checkDraft)) }
	for block, h := range map[string]handlers{
		words.Root:                           l.rootWords(),
		"global_defs":                        l.globalWords(),
		"track_group":                        l.trackGroupWords(&TrackGroup{}),
		"vrrp_sync_group":                    l.syncGroupWords(&groupDraft{}),
		"garp_group":                         l.garpGroupWords(&GARPGroup{}),
		"vrrp_script":                        l.scriptWords(&Script{}, new(*Command), new(string), new(string)),
		"track_file":                         l.trackFileWords(&TrackFile{}),
		"vrrp_track_file":                    l.trackFileWords(&TrackFile{}),
		"vrrp_track_process":                 l.trackProcessWords(&TrackProcess{}),
		"bfd_instance":                       l.bfdWords(&BFD{}),
		"vrrp_instance":                      l.instanceWords(&instanceDraft{}),
		"vrrp_instance/authentication":       l.authWords(&instanceDraft{}),
		"vrrp_instance/auth_hmac":            l.hmacWords(&HMAC{}),
		"global_defs/snmp_trap":              l.trapWords(&TrapReceiver{}),
		"cluster":                            l.clusterWords(&clusterDraft{}),
		"cluster/peer":                       l.peerWords(&Peer{}),
		"cluster/gateway":                    l.gatewayWords(&Gateway{}),
		"cluster/fence":                      l.fenceWords(&Fence{}),
		"SSL":                                l.sslWords(&SSL{}),
		"virtual_server":                     l.virtualServerWords(&virtualDraft{}),
		realServerBlock:                      l.realServerWords(&realDraft{}),
		realServerBlock + "/TCP_CHECK":       checker(TCPCheck),
		realServerBlock + "/HTTP_GET":        checker(HTTPGet),
		realServerBlock + "/SSL_GET":         checker(SSLGet),
		realServerBlock + "/SMTP_CHECK":      checker(SMTPCheck),
		realServerBlock + "/DNS_CHECK":       checker(DNSCheck),
		realServerBlock + "/UDP_CHECK":       checker(UDPCheck),
		realServerBlock + "/PING_CHECK":      checker(PingCheck),
		realServerBlock + "/MISC_CHECK":      checker(MiscCheck),
		realServerBlock + "/FILE_CHECK":      checker(FileCheck),
		realServerBlock + "/BFD_CHECK":       checker(BFDCheck),
		realServerBlock + "/HTTP_GET/url":    l.urlWords(HTTPGet, &urlDraft{}),
		realServerBlock + "/SSL_GET/url":     l.urlWords(SSLGet, &urlDraft{}),
		realServerBlock + "/SMTP_CHECK/host": l.hostWords(new(checkDraft)),
	} {
		want := slices.Sorted(slices.Values(words.Names(block)))
		if got := sortedKeys(h); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s", block, diff(strings.Join(want, "\n"), strings.Join(got, "\n")))
		}
	}
}

func TestWordsOfOurOwnInKeepalivedsBlocks(t *testing.T) {
	for _, test := range []struct {
		text string
		want Mail
		says string
	}{
		{text: "smtp_tls starttls", want: Mail{TLS: MailStartTLS}},
		{text: "smtp_tls implicit /etc/ca.pem\nsmtp_login had \"secret word\"",
			want: Mail{TLS: MailImplicitTLS, CAFile: "/etc/ca.pem", User: "had", Password: "secret word"}},
		{text: "smtp_login had secret", says: "smtp_login needs smtp_tls"},
		{text: "smtp_tls starttls ca.pem", want: Mail{TLS: MailStartTLS, CAFile: "ca.pem"}, says: "not an absolute path"},
		{text: "smtp_tls always", says: "always"},
	} {
		c, findings := Load(options("test.conf", file("global_defs {\n"+test.text+"\n}\n")))
		if c == nil {
			t.Fatalf("%s: cannot be used: %v", test.text, findings)
		}
		if got := withoutDefaults(c.Global).Mail; !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", test.text, got, test.want)
		}
		if said := printFindings(findings); (test.says == "") != (said == "") || !strings.Contains(said, test.says) {
			t.Errorf("%s: it says %q, want %q", test.text, said, test.says)
		}
	}
}

func TestReceiversOfTraps(t *testing.T) {
	at := func(r TrapReceiver) []TrapReceiver { return []TrapReceiver{r} }
	for _, test := range []struct {
		text string
		want []TrapReceiver
		says string
	}{
		{text: "snmp_trap 192.0.2.5 {\n}", want: at(TrapReceiver{Host: "192.0.2.5", Port: 162, Community: "public"})},
		{text: "snmp_trap nms 1162 {\ncommunity secret\n}", want: at(TrapReceiver{Host: "nms", Port: 1162, Community: "secret"})},
		{text: "snmp_trap nms {\nuser had\nauth SHA256 authenticate\npriv AES encryption\nengine_id 0x8000000105\n}",
			want: at(TrapReceiver{Host: "nms", Port: 162, Community: "public", User: "had", Auth: "SHA256",
				AuthPassword: "authenticate", Priv: "AES", PrivPassword: "encryption", EngineID: []byte{0x80, 0, 0, 1, 5}})},
		{text: "snmp_trap nms {\nuser had\npriv AES encryption\n}", says: "priv needs auth"},
		{text: "snmp_trap nms {\nauth SHA authenticate\n}", says: "needs user"},
		{text: "snmp_trap nms {\nuser had\nauth SHA short\n}", says: "at least 8"},
		{text: "snmp_trap nms {\nuser had\nauth ROT13 authenticate\n}", says: "ROT13"},
		{text: "snmp_trap nms {\nuser had\nengine_id 80zz\n}", says: "engine_id"},
		{text: "snmp_trap nms 0 {\n}", says: "the port"},
		{text: "enable_traps", says: "no snmp_trap says to whom"},
		{text: "enable_traps\nsnmp_trap nms {\n}", want: at(TrapReceiver{Host: "nms", Port: 162, Community: "public"}),
			says: "says which traps"},
	} {
		c, findings := Load(options("test.conf", file("global_defs {\n"+test.text+"\n}\n")))
		if c == nil {
			t.Fatalf("%s: cannot be used: %v", test.text, findings)
		}
		got := c.Global.SNMP.Receivers
		for i := range got {
			got[i].Pos = Pos{}
		}
		if test.want != nil && !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", test.text, got, test.want)
		}
		if said := printFindings(findings); (test.says == "") != (said == "") || !strings.Contains(said, test.says) {
			t.Errorf("%s: it says %q, want %q", test.text, said, test.says)
		}
	}
}

// TestThirtyErrors: nothing stops at the first error.
func TestThirtyErrors(t *testing.T) {
	var b strings.Builder
	b.WriteString("vrrp_instance A {\n interface eth0\n virtual_router_id 1\n virtual_ipaddress {\n  10.0.0.1\n }\n")
	for i := range 30 {
		fmt.Fprintf(&b, " prioritty %d\n", i)
	}
	b.WriteString("}\n")
	c, findings := Load(options("test.conf", file(b.String())))
	if c == nil || len(c.Instances) != 1 {
		t.Fatal("the instance was lost")
	}
	for i := range 30 {
		want := fmt.Sprintf("test.conf:%d:2: error: the block vrrp_instance does not know \"prioritty\"; this line is skipped; "+
			"did you mean priority? [unknown-word]", 7+i)
		if i >= len(findings) || findings[i].String() != want {
			t.Fatalf("finding %d is\n%v, want\n%s", i, findings[min(i, len(findings)-1)], want)
		}
	}
	if len(findings) != 30 {
		t.Errorf("%d findings: %v", len(findings), printFindings(findings[30:]))
	}
}

func TestNoFile(t *testing.T) {
	c, findings := Load(options("absent.conf", file("")))
	want := "absent.conf: error: no file matches absent.conf [file-not-found] fatal\n"
	if got := printFindings(findings); c != nil || got != want {
		t.Errorf("got %v and\n%swant\n%s", c, got, want)
	}
}

func TestFindingsAreBounded(t *testing.T) {
	_, findings := Load(options("test.conf", file(strings.Repeat("foo\n", 5000))))
	if len(findings) != syntax.MaxFindings {
		t.Errorf("%d findings, want %d", len(findings), syntax.MaxFindings)
	}
	for _, fatal := range []string{
		"vrrp_instance A {\n}\n", "includem absent\n", "cluster {\n foo\n}\n", "net_namespace\n",
	} {
		c, findings := Load(options("test.conf", file(strings.Repeat("foo\n", 5000)+fatal)))
		if c != nil || len(findings) > syntax.MaxFindings {
			t.Errorf("%s after 5000 errors: %v with %d findings", fatal, c != nil, len(findings))
		}
	}
}
