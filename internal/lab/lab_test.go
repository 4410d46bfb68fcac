package lab

import (
	"strings"
	"testing"

	"github.com/google/nftables/expr"

	"github.com/hactl/had/internal/linux/ether"
)

func TestProgramNamesWithBlanksAndParenthesesDoNotConfuseStat(t *testing.T) {
	for _, test := range []struct {
		line    string
		state   byte
		session int
		ok      bool
	}{
		{"12 (had) S 1 12 12 0 -1 4194560 0", 'S', 12, true},
		{"13 (a (very) odd) Z 1) T 12 13 99 0 -1", 'T', 99, true},
		{"14 (had) S 1", 0, 0, false},
		{"nothing", 0, 0, false},
		{"", 0, 0, false},
	} {
		state, session, ok := parseStat(test.line)
		if ok != test.ok || ok && (state != test.state || session != test.session) {
			t.Errorf("parseStat(%q) = %c, %d, %t, want %c, %d, %t", test.line, state, session, ok, test.state, test.session, test.ok)
		}
	}
}

func TestTheInnermostProcessNumberIsTheLastOne(t *testing.T) {
	for status, want := range map[string]int{
		"Name:\thad\nNSpid:\t4711\t12\t1\nVmRSS: 5 kB\n": 1,
		"Name:\thad\nNSpid:\t4711\n":                     4711,
		"Name:\thad\nNSpid:\n":                           0,
		"Name:\thad\n":                                   0,
	} {
		if got := innermostPID(status); got != want {
			t.Errorf("innermostPID(%q) = %d, want %d", status, got, want)
		}
	}
}

func TestFiltersBecomeRules(t *testing.T) {
	a, b := &Host{name: "a"}, &Host{name: "b"}
	for _, test := range []struct {
		name   string
		filter Filter
		want   []string // one line per rule
	}{
		{"everything", Filter{}, []string{"drop"}},
		{"one way", Filter{From: a, To: b}, []string{"iif p-a oif p-b drop"}},
		{"VRRP", Filter{Protocol: 112}, []string{"l4proto 70 drop"}},
		{"a port matches on either side", Filter{To: b, Protocol: 6, Port: 7770}, []string{
			"oif p-b l4proto 06 th@0 1e5a drop", "oif p-b l4proto 06 th@2 1e5a drop"}},
		{"a share is drawn after everything else", Filter{From: a, Protocol: 17, Percent: 20}, []string{
			"iif p-a l4proto 11 random hton < 00000014 drop"}},
		{"all of a share is no lottery", Filter{Percent: 100}, []string{"drop"}},
		{"large ARP frames", Filter{EtherType: 0x0806, LongerThan: 1400}, []string{
			"protocol 0806 length hton > 00000578 drop"}},
		{"ARP to all", Filter{From: a, EtherType: 0x0806, Destination: ether.Broadcast}, []string{
			"iif p-a protocol 0806 ll@0 ffffffffffff drop"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := test.filter.check(); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, rule := range test.filter.rules() {
				got = append(got, describe(t, rule))
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("rules:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// describe prints a rule in a notation like nft's.
func describe(t *testing.T, rule []expr.Any) string {
	t.Helper()
	var words []string
	for _, e := range rule {
		switch e := e.(type) {
		case *expr.Meta:
			words = append(words, map[expr.MetaKey]string{expr.MetaKeyIIFNAME: "iif", expr.MetaKeyOIFNAME: "oif",
				expr.MetaKeyPROTOCOL: "protocol", expr.MetaKeyL4PROTO: "l4proto", expr.MetaKeyLEN: "length"}[e.Key])
		case *expr.Cmp:
			switch e.Op {
			case expr.CmpOpLt:
				words = append(words, "<")
			case expr.CmpOpGt:
				words = append(words, ">")
			}
			if text := strings.TrimRight(string(e.Data), "\x00"); strings.HasPrefix(text, portPrefix) {
				words = append(words, text)
			} else {
				words = append(words, hex(e.Data))
			}
		case *expr.Payload:
			base := map[expr.PayloadBase]string{expr.PayloadBaseLLHeader: "ll@", expr.PayloadBaseTransportHeader: "th@"}[e.Base]
			words = append(words, base+string('0'+rune(e.Offset)))
		case *expr.Numgen:
			words = append(words, "random")
		case *expr.Byteorder:
			words = append(words, "hton")
		case *expr.Verdict:
			if e.Kind != expr.VerdictDrop {
				t.Errorf("verdict %d", e.Kind)
			}
			words = append(words, "drop")
		default:
			t.Errorf("unexpected expression %T", e)
		}
	}
	return strings.Join(words, " ")
}

func hex(data []byte) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, c := range data {
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

func TestImpossibleFiltersAreRefused(t *testing.T) {
	for name, filter := range map[string]Filter{
		"port without protocol": {Port: 7770},
		"port of VRRP":          {Port: 7770, Protocol: 112},
		"more than everything":  {Percent: 101},
		"less than nothing":     {Percent: -1},
		"negative length":       {LongerThan: -1},
	} {
		if filter.check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestBothIsTheFilterAndItsMirrorImage(t *testing.T) {
	a, b := &Host{name: "a"}, &Host{name: "b"}
	got := Both(Filter{From: a, To: b, Protocol: 112, Percent: 5})
	want := []Filter{{From: a, To: b, Protocol: 112, Percent: 5}, {From: b, To: a, Protocol: 112, Percent: 5}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("Both = %+v, want %+v", got, want)
	}
}
