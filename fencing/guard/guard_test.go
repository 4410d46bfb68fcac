package guard

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/clock"
)

func plan(t *testing.T, groups ...fencing.GuardedGroup) fencing.GuardPlan {
	t.Helper()
	p, err := Spec{Groups: groups}.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func dualStack(name string, n byte) fencing.GuardedGroup {
	return fencing.GuardedGroup{
		Name:      name,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, n}), netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 15: n})},
		Routers:   []fencing.VirtualRouter{{Interface: "eth0", VRID: n, Family: fencing.IPv4}},
	}
}

// message is a decoded message of a batch.
type message struct {
	kind, flags uint16
	seq         uint32
	family      nftables.TableFamily
	attributes  map[uint16][]byte
}

func decode(t *testing.T, b *batch) []message {
	t.Helper()
	var messages []message
	for rest := b.buf; len(rest) > 0; {
		length := binary.NativeEndian.Uint32(rest)
		if length < unix.NLMSG_HDRLEN+nfgenmsgLength || int(length) > len(rest) || length%unix.NLMSG_ALIGNTO != 0 {
			t.Fatalf("message %d has length %d of %d", len(messages), length, len(rest))
		}
		m := message{
			kind: binary.NativeEndian.Uint16(rest[4:]), flags: binary.NativeEndian.Uint16(rest[6:]),
			seq: binary.NativeEndian.Uint32(rest[8:]), family: nftables.TableFamily(rest[unix.NLMSG_HDRLEN]),
			attributes: make(map[uint16][]byte),
		}
		attributes, err := netlink.UnmarshalAttributes(rest[unix.NLMSG_HDRLEN+nfgenmsgLength : length])
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range attributes {
			m.attributes[a.Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = a.Data
		}
		messages = append(messages, m)
		rest = rest[length:]
	}
	return messages
}

func (m message) text(attribute uint16) string {
	return string(bytes.TrimSuffix(m.attributes[attribute], []byte{0}))
}

func TestBatchIsNumberedAndAcknowledgedOnce(t *testing.T) {
	b := newBatch()
	if !b.empty() {
		t.Error("a new batch is not empty")
	}
	newRuleset(plan(t, dualStack("a", 1), dualStack("b", 2)), 0).install(b, nil)
	if b.empty() || b.err != nil {
		t.Fatal(b.err)
	}
	b.finish()
	messages := decode(t, b)
	if len(messages) != len(b.subject) {
		t.Fatalf("%d messages, %d subjects", len(messages), len(b.subject))
	}
	for i, m := range messages {
		if m.seq != uint32(i)+1 {
			t.Errorf("message %d has number %d", i, m.seq)
		}
		if acknowledged := m.flags&unix.NLM_F_ACK != 0; acknowledged != (i == len(messages)-2) {
			t.Errorf("message %d of %d asks for an acknowledgement: %v", i, len(messages), acknowledged)
		}
	}
	if first, last := messages[0].kind, messages[len(messages)-1].kind; first != unix.NFNL_MSG_BATCH_BEGIN ||
		last != unix.NFNL_MSG_BATCH_END {
		t.Errorf("the batch runs from %#x to %#x", first, last)
	}
}

func TestInstallIsTheSameForEachOrderOfTheSpec(t *testing.T) {
	a, b, c := dualStack("a", 1), dualStack("b", 2), dualStack("c", 3)
	var want []byte
	for _, groups := range [][]fencing.GuardedGroup{{a, b, c}, {c, b, a}, {b, c, a}} {
		batch := newBatch()
		newRuleset(plan(t, groups...), 0).install(batch, nil)
		if want == nil {
			want = batch.buf
		}
		if !bytes.Equal(batch.buf, want) {
			t.Error("the transaction depends on the order of the groups")
		}
	}
}

// Elements come after the chains that they lead to, rules after the sets that they look into and the chains they jump
// to.
func TestInstallMakesThingsBeforeItUsesThem(t *testing.T) {
	g := dualStack("a", 1)
	g.Addresses = append(g.Addresses, netip.MustParseAddr("fe80::1%eth0"))
	g.Routers = append(g.Routers, fencing.VirtualRouter{Interface: "eth0", VRID: 1, Family: fencing.IPv6})
	g.VMACInterfaces = []string{"vrrp.1"}
	b := newBatch()
	newRuleset(plan(t, g), tableFlagOwner|tableFlagPersist).install(b, nil)
	b.finish()
	type thing struct {
		family nftables.TableFamily
		name   string
	}
	made := make(map[thing]bool)
	tables := 0
	for _, m := range decode(t, b) {
		if m.kind>>8 != unix.NFNL_SUBSYS_NFTABLES {
			continue
		}
		need := func(name string) {
			if !made[thing{m.family, name}] {
				t.Errorf("message %d of kind %d uses %q before it exists", m.seq, m.kind&0xff, name)
			}
		}
		switch m.kind & 0xff {
		case unix.NFT_MSG_NEWTABLE:
			tables++
			if got := binary.BigEndian.Uint32(m.attributes[unix.NFTA_TABLE_FLAGS]); got != 6 {
				t.Errorf("table flags %#x", got)
			}
		case unix.NFT_MSG_NEWCHAIN:
			made[thing{m.family, m.text(unix.NFTA_CHAIN_NAME)}] = true
		case unix.NFT_MSG_NEWSET:
			made[thing{m.family, m.text(unix.NFTA_SET_NAME)}] = true
		case unix.NFT_MSG_NEWSETELEM:
			need(m.text(unix.NFTA_SET_ELEM_LIST_SET))
			if bytes.Contains(m.attributes[unix.NFTA_SET_ELEM_LIST_ELEMENTS], []byte("g1\x00")) {
				need("g1")
			}
		case unix.NFT_MSG_NEWRULE:
			need(m.text(unix.NFTA_RULE_CHAIN))
			for _, word := range strings.FieldsFunc(string(m.attributes[unix.NFTA_RULE_EXPRESSIONS]), notWord) {
				if slices.Contains([]string{"held", "held_own", "until", "g1_until"}, word) ||
					strings.HasSuffix(word, "_group") || strings.HasPrefix(word, "advertisements") {
					need(word)
				}
			}
		}
	}
	if tables != 2 {
		t.Errorf("%d tables", tables)
	}
}

func notWord(r rune) bool {
	return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
}

func TestInstallKeepsElementListsBelowTheirLimit(t *testing.T) {
	var groups []fencing.GuardedGroup
	for i := range 1000 {
		g := fencing.GuardedGroup{Name: fmt.Sprintf("group%04d", i)}
		for j := range 4 {
			g.Addresses = append(g.Addresses, netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j)}))
		}
		groups = append(groups, g)
	}
	b := newBatch()
	newRuleset(plan(t, groups...), 0).install(b, nil)
	if b.err != nil {
		t.Error(b.err)
	}
	b.elementMessage(unix.NFT_MSG_NEWSETELEM, &nftables.Set{Table: &nftables.Table{}},
		make([]nftables.SetElement, 16384), subject{})
	if b.err == nil {
		t.Error("an attribute that is too long is not noticed")
	}
	if _, err := b.send(nil); err == nil {
		t.Error("a batch that could not be encoded is sent")
	}
}

// An extension must fail if the element is gone, so it may not add one before it deletes it.
func TestOrderOfOperations(t *testing.T) {
	w := fencing.Window{Timeout: 1500 * time.Millisecond, Deadline: 1_800_000_000_000_000_000}
	const (
		add, del, flush, rule = unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM, unix.NFT_MSG_DELRULE, unix.NFT_MSG_NEWRULE
	)
	type step struct {
		kind uint16
		in   string
	}
	clear := []step{{add, "held"}, {del, "held"}, {add, "held_own"}, {del, "held_own"}}
	deadline := []step{{flush, "until"}, {rule, "until"}, {flush, "until"}, {rule, "until"}}
	for _, test := range []struct {
		name  string
		build func(b *batch, rules *ruleset)
		want  []step
	}{
		{"first, common", func(b *batch, rules *ruleset) {
			rules.open(b, []*arming{{group: 1, window: w, place: placeCommon}}, nil)
		}, slices.Concat(deadline, clear, []step{{add, "held"}}, clear, []step{{add, "held"}})},
		{"extension, common", func(b *batch, rules *ruleset) {
			rules.ledger[0].place = placeCommon
			rules.open(b, []*arming{{group: 1, window: w, place: placeCommon, extend: true}}, nil)
		}, slices.Concat(deadline, slices.Repeat([]step{{del, "held"}, {add, "held"}}, 2))},
		{"extension, from common to own, no IPv4 address", func(b *batch, rules *ruleset) {
			rules.ledger[1].place = placeCommon
			rules.open(b, []*arming{{group: 2, window: w, place: placeOwn, extend: true}}, nil)
		}, []step{{del, "held"}, {add, "held_own"}, {flush, "g2_until"}, {rule, "g2_until"}}},
		{"first, own, no IPv4 address", func(b *batch, rules *ruleset) {
			rules.open(b, []*arming{{group: 2, window: w, place: placeOwn}}, nil)
		}, slices.Concat(clear, []step{{add, "held_own"}, {flush, "g2_until"}, {rule, "g2_until"}})},
		{"shut", func(b *batch, rules *ruleset) { rules.shut(b, []uint32{1}) }, slices.Concat(clear, clear)},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules := newRuleset(plan(t, dualStack("a", 1), fencing.GuardedGroup{
				Name: "six", Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::1")},
			}), 0)
			b := newBatch()
			test.build(b, rules)
			b.finish()
			var got []step
			for _, m := range decode(t, b)[1 : len(b.subject)-1] {
				s := step{m.kind & 0xff, m.text(unix.NFTA_SET_ELEM_LIST_SET)} // the same number as NFTA_RULE_CHAIN
				got = append(got, s)
				if s.kind == rule &&
					!bytes.Contains(m.attributes[unix.NFTA_RULE_EXPRESSIONS], binary.BigEndian.AppendUint64(nil, uint64(w.Deadline))) {
					t.Error("a rule without its deadline")
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got  %v\nwant %v", got, test.want)
			}
		})
	}
}

func TestEachMessageHasItsSubject(t *testing.T) {
	rules := newRuleset(plan(t, dualStack("a", 1), dualStack("b", 2)), 0)
	b := newBatch()
	w := fencing.Window{Timeout: time.Second}
	rules.ledger[0].place, rules.ledger[1].place = placeOwn, placeOwn
	rules.open(b, []*arming{
		{group: 1, window: w, place: placeCommon, extend: true}, {group: 2, window: w, place: placeOwn, extend: true},
	}, nil)
	want := []subject{{op: opTransaction}}
	for range 2 {
		want = append(want, subject{opFlushChain, 0}, subject{opRule, 0})
	}
	for range 2 {
		want = append(want, subject{opDeleteElement, 1}, subject{opElement, 1})
	}
	for range 2 {
		want = append(want, subject{opDeleteElement, 2}, subject{opElement, 2}, subject{opFlushChain, 2}, subject{opRule, 2})
	}
	if !slices.Equal(b.subject, want) {
		t.Errorf("got %v\nwant %v", b.subject, want)
	}
}

func TestWhatARefusalMeans(t *testing.T) {
	gone := func(op operation, group uint32) refusal { return refusal{subject{op, group}, unix.ENOENT} }
	for _, test := range []struct {
		name    string
		refused []refusal
		lapsed  []uint32
		err     error
	}{
		{"elements have expired", []refusal{gone(opDeleteElement, 2), gone(opDeleteElement, 5), gone(opDeleteElement, 2)},
			[]uint32{2, 5}, nil},
		{"the table is gone", []refusal{gone(opDeleteElement, 2), gone(opElement, 2), gone(opFlushChain, 2)}, nil, ErrNotInstalled},
		{"a chain is gone", []refusal{gone(opFlushChain, 2), gone(opRule, 2)}, nil, ErrNotInstalled},
		{"no memory", []refusal{{subject{opTransaction, 0}, unix.ENOMEM}}, nil, unix.ENOMEM},
		{"no rights", []refusal{gone(opDeleteElement, 1), {subject{opElement, 1}, unix.EPERM}}, nil, unix.EPERM},
	} {
		t.Run(test.name, func(t *testing.T) {
			lapsed, err := lapsedGroups(test.refused)
			if !errors.Is(err, test.err) || len(lapsed) != len(test.lapsed) {
				t.Errorf("got %v %v", lapsed, err)
			}
			for _, group := range test.lapsed {
				if !lapsed[group] {
					t.Errorf("group %d is missing in %v", group, lapsed)
				}
			}
		})
	}
}

func TestWhatMakesInstallTryAgain(t *testing.T) {
	for _, test := range []struct {
		name      string
		refused   refusal
		flags     uint32
		want      bool
		wantFlags uint32
	}{
		{"a table has gone", refusal{subject{op: opDeleteTable}, unix.ENOENT}, 6, true, 6},
		{"a table has come", refusal{subject{op: opTable}, unix.EEXIST}, 6, true, 6},
		{"a table has got an owner", refusal{subject{op: opDeleteTable}, unix.EPERM}, 6, true, 6},
		{"no owned tables on this kernel", refusal{subject{op: opTable}, unix.EOPNOTSUPP}, 6, true, 0},
		{"no tables of this family", refusal{subject{op: opTable}, unix.EOPNOTSUPP}, 0, false, 0},
		{"no rights", refusal{subject{op: opTransaction}, unix.EPERM}, 6, false, 6},
		{"no such expression", refusal{subject{op: opRule}, unix.ENOENT}, 6, false, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &NFTables{flags: test.flags, logger: discard}
			if got := g.worthRepeating([]refusal{test.refused}); got != test.want || g.flags != test.wantFlags {
				t.Errorf("got %v, flags %#x", got, g.flags)
			}
		})
	}
}

func TestUnsupportedErrorNamesTheAlternatives(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EPERM, unix.ENOENT} {
		err := supported(fmt.Errorf("install: %w", refusal{subject{op: opRule}, errno}))
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
		for _, word := range []string{"`guard lifetime`", "`guard none`", "nf_tables", "CAP_NET_ADMIN", "add rule"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q is missing in %q", word, err)
			}
		}
	}
	if err := supported(unix.ENOMEM); errors.As(err, new(*UnsupportedError)) {
		t.Errorf("out of memory became %v", err)
	}
}

func TestNothingIsArmedBeforeInstall(t *testing.T) {
	g := &NFTables{}
	errs := g.Arm([]Lease{{Group: "a"}, {Group: "b", First: true}})
	if len(errs) != 2 || !errors.Is(errs[0], ErrNotInstalled) || !errors.Is(errs[1], ErrNotInstalled) {
		t.Errorf("got %v", errs)
	}
	if err := g.Shut([]string{"a"}); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("got %v", err)
	}
}

func TestReadingIsRepeatedWhenSomethingCameBetween(t *testing.T) {
	lease := []clock.Time{1000, 900_000, 2_000_000, 2_000_100}
	looks := 0
	g := &NFTables{
		clock: func() clock.Time { looks++; return lease[looks-1] },
		wall:  func() int64 { return int64(looks) },
	}
	if got, want := g.read(), (fencing.Reading{Before: 2_000_000, Wall: 3, After: 2_000_100}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// event builds a message as the kernel sends it to a monitor.
func event(kind uint16, family nftables.TableFamily, attributes ...netlink.Attribute) netlink.Message {
	data, err := netlink.MarshalAttributes(attributes)
	if err != nil {
		panic(err)
	}
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)},
		Data:   append([]byte{byte(family), 0, 0, 0}, data...),
	}
}

func TestChangesAreReadFromEvents(t *testing.T) {
	table := func(name string) netlink.Attribute {
		return netlink.Attribute{Type: unix.NFTA_TABLE_NAME, Data: []byte(name + "\x00")}
	}
	generation := event(unix.NFT_MSG_NEWGEN, 0,
		netlink.Attribute{Type: unix.NFTA_GEN_ID, Data: []byte{0, 0, 0, 9}},
		netlink.Attribute{Type: unix.NFTA_GEN_PROC_PID, Data: []byte{0, 0, 0x12, 0x34}},
		netlink.Attribute{Type: unix.NFTA_GEN_PROC_NAME, Data: []byte("nft\x00")})
	const inet, arp, ip = nftables.TableFamilyINet, nftables.TableFamilyARP, nftables.TableFamilyIPv4
	for _, test := range []struct {
		name   string
		events []netlink.Message
		want   []string
	}{
		{"flush", []netlink.Message{event(unix.NFT_MSG_DELRULE, inet, table("had")), event(unix.NFT_MSG_DELSET, inet, table("had")),
			event(unix.NFT_MSG_DELTABLE, inet, table("had")), event(unix.NFT_MSG_DELRULE, arp, table("other")), generation},
			[]string{"inet had: table deleted by nft (pid 4660)"}},
		{"element", []netlink.Message{event(unix.NFT_MSG_DELSETELEM, arp, table("had")), generation},
			[]string{"arp had: set element deleted by nft (pid 4660)"}},
		{"others", []netlink.Message{event(unix.NFT_MSG_DELTABLE, inet, table("filter")), event(unix.NFT_MSG_NEWRULE, ip, table("had")),
			event(unix.NFT_MSG_NEWRULE, inet, table("hadrian")), generation}, nil},
		{"two transactions", []netlink.Message{event(unix.NFT_MSG_NEWRULE, inet, table("had")), generation, generation,
			event(unix.NFT_MSG_NEWCHAIN, inet, table("had")), generation},
			[]string{"inet had: rule added by nft (pid 4660)", "inet had: chain added by nft (pid 4660)"}},
		{"no author", []netlink.Message{event(22, inet, table("had")), event(unix.NFT_MSG_NEWGEN, 0)},
			[]string{"inet had: changed (message 22)"}},
		{"unfinished", []netlink.Message{event(unix.NFT_MSG_NEWRULE, inet, table("had"))}, nil},
		{"garbage", []netlink.Message{{}, {Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES << 8}, Data: []byte{1, 0, 0, 0, 1}},
			{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN}, Data: []byte{1, 0, 0}}, generation}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var (
				r   changeReader
				got []string
			)
			for _, m := range test.events {
				if c, ok := r.next(m); ok {
					got = append(got, c.String())
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if got := (Change{What: "unknown: events were lost"}).String(); got != "unknown: events were lost" {
		t.Errorf("got %q", got)
	}
}

func TestTablesAreDecoded(t *testing.T) {
	m := event(unix.NFT_MSG_NEWTABLE, nftables.TableFamilyARP,
		netlink.Attribute{Type: unix.NFTA_TABLE_NAME, Data: []byte("had\x00")},
		netlink.Attribute{Type: unix.NFTA_TABLE_FLAGS, Data: []byte{0, 0, 0, 6}},
		netlink.Attribute{Type: tableAttrOwner, Data: []byte{0, 0, 1, 2}})
	got, err := decodeTable(m)
	if err != nil || *got.table != (nftables.Table{Name: "had", Family: nftables.TableFamilyARP, Flags: 6}) || got.owner != 258 {
		t.Errorf("got %+v %+v %v", got.table, got, err)
	}
	for _, data := range [][]byte{nil, {1, 0, 0}, {1, 0, 0, 0, 9, 0, 1, 0, 'h'}, {1, 0, 0, 0, 6, 0, 2, 0, 1, 2, 0, 0}} {
		if _, err := decodeTable(netlink.Message{Data: data}); err == nil {
			t.Errorf("%v is decoded", data)
		}
	}
}

func TestLongCommentsAreCut(t *testing.T) {
	if got := comment(strings.Repeat("x", 300)); len(got) != 2+maxRuleComment+1 || int(got[1]) != maxRuleComment+1 {
		t.Errorf("%d bytes, length field %d", len(got), got[1])
	}
}

func TestClockWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- WatchClock(ctx, func() { t.Error("nobody has set the clock") }) }()
	time.Sleep(10 * time.Millisecond)
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("still watching")
	}
}

func TestRuleThatCannotBeEncodedIsAnError(t *testing.T) {
	b := newBatch()
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	b.rule(&nftables.Rule{
		Table: table, Chain: &nftables.Chain{Table: table, Name: "x"},
		Exprs: []expr.Any{&expr.Immediate{Register: 1, Data: make([]byte, 1<<16)}},
	}, 0)
	if b.err == nil {
		t.Error("no error")
	}
}
