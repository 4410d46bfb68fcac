package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/fencing"
	"github.com/hactl/had/internal/clock"
)

// fakeKernel takes batches as nf_tables does, as far as the guard relies on it: transactions are atomic, to delete an
// element that has expired is an error, to add one that exists changes nothing.
type fakeKernel struct {
	t      *testing.T
	now    clock.Time // the lease clock
	offset int64      // of the wall clock against the lease clock
	tables map[nftables.TableFamily]*fakeTable
	stop   func() // called before a batch is taken, as if the process had been stopped there
	taken  func() // called after a batch was taken
	flags  uint32 // that tables may have
	fail   error  // instead of taking the next batch
	sent   int    // batches taken
	bytes  int    // of the newest batch
}

type fakeTable struct {
	flags    uint32
	elements map[string]map[uint32]clock.Time // by set and group: when it expires
	deadline map[string]int64                 // by chain; wall clock
}

const startOfTime = clock.Time(time.Hour)

func newFakeKernel(t *testing.T) (*fakeKernel, *NFTables) {
	k := &fakeKernel{
		t: t, now: startOfTime, offset: 1_800_000_000_000_000_000, flags: tableFlagOwner | tableFlagPersist,
		tables: make(map[nftables.TableFamily]*fakeTable), stop: func() {}, taken: func() {},
	}
	g := &NFTables{
		clock: func() clock.Time { return k.now }, wall: func() int64 { return int64(k.now) + k.offset }, logger: discard,
		portID: 7, flags: tableFlagOwner | tableFlagPersist, commit: k.commit, list: k.list,
	}
	return k, g
}

func (k *fakeKernel) list() ([]presentTable, error) {
	var present []presentTable
	for _, family := range slices.Sorted(maps.Keys(k.tables)) {
		present = append(present, presentTable{table: &nftables.Table{Name: tableName, Family: family}})
	}
	return present, nil
}

func (t *fakeTable) clone() *fakeTable {
	c := &fakeTable{flags: t.flags, elements: make(map[string]map[uint32]clock.Time), deadline: maps.Clone(t.deadline)}
	for name, set := range t.elements {
		c.elements[name] = maps.Clone(set)
	}
	return c
}

func (k *fakeKernel) commit(b *batch) ([]refusal, error) {
	if k.fail != nil {
		err := k.fail
		k.fail = nil
		return nil, err
	}
	if b.err != nil {
		return nil, b.err
	}
	k.stop()
	b.finish()
	k.sent++
	k.bytes = len(b.buf)
	tables := make(map[nftables.TableFamily]*fakeTable)
	for family, t := range k.tables {
		tables[family] = t.clone()
	}
	var refused []refusal
	for i, m := range decode(k.t, b) {
		if errno := k.take(tables, m); errno != 0 {
			refused = append(refused, refusal{b.subject[i], errno})
		}
	}
	if len(refused) == 0 {
		k.tables = tables
		k.taken()
	}
	return refused, nil
}

// nested decodes the attributes inside one.
func (k *fakeKernel) nested(data []byte) []netlink.Attribute {
	attributes, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		k.t.Fatal(err)
	}
	for i := range attributes {
		attributes[i].Type &^= unix.NLA_F_NESTED
	}
	return attributes
}

func (k *fakeKernel) take(tables map[nftables.TableFamily]*fakeTable, m message) unix.Errno {
	if m.kind>>8 != unix.NFNL_SUBSYS_NFTABLES {
		return 0
	}
	t := tables[m.family]
	if kind := m.kind & 0xff; kind == unix.NFT_MSG_NEWTABLE {
		flags := binary.BigEndian.Uint32(m.attributes[unix.NFTA_TABLE_FLAGS])
		switch {
		case t != nil:
			return unix.EEXIST
		case flags&^k.flags != 0:
			return unix.EOPNOTSUPP
		}
		tables[m.family] = &fakeTable{
			flags: flags, elements: make(map[string]map[uint32]clock.Time), deadline: make(map[string]int64),
		}
		return 0
	}
	if t == nil {
		return unix.ENOENT
	}
	switch m.kind & 0xff {
	case unix.NFT_MSG_DELTABLE:
		delete(tables, m.family)
	case unix.NFT_MSG_NEWSET:
		t.elements[m.text(unix.NFTA_SET_NAME)] = make(map[uint32]clock.Time)
	case unix.NFT_MSG_NEWCHAIN:
		t.deadline[m.text(unix.NFTA_CHAIN_NAME)] = 0
	case unix.NFT_MSG_DELRULE:
		if _, exists := t.deadline[m.text(unix.NFTA_RULE_CHAIN)]; !exists {
			return unix.ENOENT
		}
		t.deadline[m.text(unix.NFTA_RULE_CHAIN)] = 0
	case unix.NFT_MSG_NEWRULE:
		chain := m.text(unix.NFTA_RULE_CHAIN)
		if _, exists := t.deadline[chain]; !exists {
			return unix.ENOENT
		}
		for _, e := range k.nested(m.attributes[unix.NFTA_RULE_EXPRESSIONS]) {
			if parts := k.nested(e.Data); bytes.HasPrefix(parts[0].Data, []byte("cmp\x00")) {
				for _, a := range k.nested(parts[1].Data) {
					if value := a.Data; a.Type == unix.NFTA_CMP_DATA && len(value) == 4+8 {
						t.deadline[chain] = int64(binary.BigEndian.Uint64(value[4:]))
					}
				}
			}
		}
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		name := m.text(unix.NFTA_SET_ELEM_LIST_SET)
		set, exists := t.elements[name]
		if !exists {
			return unix.ENOENT
		}
		if name != "held" && name != "held_own" {
			return 0
		}
		for _, e := range k.nested(m.attributes[unix.NFTA_SET_ELEM_LIST_ELEMENTS]) {
			var group uint32
			var timeout time.Duration
			for _, a := range k.nested(e.Data) {
				switch a.Type {
				case unix.NFTA_SET_ELEM_KEY:
					group = binary.BigEndian.Uint32(k.nested(a.Data)[0].Data)
				case unix.NFTA_SET_ELEM_TIMEOUT:
					timeout = time.Duration(binary.BigEndian.Uint64(a.Data)) * time.Millisecond
				}
			}
			expiry, there := set[group]
			there = there && k.now.Before(expiry)
			switch {
			case m.kind&0xff == unix.NFT_MSG_DELSETELEM && !there:
				return unix.ENOENT
			case m.kind&0xff == unix.NFT_MSG_DELSETELEM:
				delete(set, group)
			case timeout == 0:
				k.t.Error("an element without timeout")
			case !there:
				set[group] = k.now.Add(timeout)
			}
		}
	}
	return 0
}

// shutAt tells when a group's windows end on the lease clock: by timeout and by deadline, the latest of both tables.
// Both are zero if the group is shut already.
func (k *fakeKernel) shutAt(group uint32) (byTimeout, byDeadline clock.Time) {
	for _, t := range k.tables {
		for set, chain := range map[string]string{"held": "until", "held_own": groupChainName(group) + "_until"} {
			expiry, there := t.elements[set][group]
			deadline := clock.Time(t.deadline[chain] - k.offset)
			if there && k.now.Before(expiry) && k.now.Before(deadline) {
				byTimeout, byDeadline = max(byTimeout, expiry), max(byDeadline, deadline)
			}
		}
	}
	return byTimeout, byDeadline
}

func (k *fakeKernel) open(group uint32) bool {
	byTimeout, _ := k.shutAt(group)
	return !byTimeout.IsZero()
}

func fakeSpec(n int) (spec Spec, names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("g%03d", i))
		spec.Groups = append(spec.Groups, fencing.GuardedGroup{
			Name: names[i], Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})},
		})
	}
	return spec, names
}

// Random leases, some renewed and some not, each with some ending at the same time and some not, groups shut in
// between, the process stopped before the kernel hears of it: no group is ever open beyond the lease that was asked for
// last, and arming one group never shuts another.
func TestArmingKeepsEachGroupToItsOwnLease(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			k, g := newFakeKernel(t)
			k.stop = func() {
				k.now = k.now.Add(time.Duration(random.Int64N(int64(200 * time.Microsecond))))
				if random.IntN(20) == 0 {
					k.now = k.now.Add(time.Duration(random.Int64N(int64(2 * time.Second))))
				}
			}
			spec, names := fakeSpec(1 + random.IntN(7))
			if err := g.Install(spec); err != nil {
				t.Fatal(err)
			}
			until := make(map[string]clock.Time) // of the newest lease asked for
			k.taken = func() {
				for i, name := range names {
					if _, byDeadline := k.shutAt(uint32(i) + 1); until[name].Before(byDeadline) {
						t.Fatalf("the deadline keeps %s open %v longer than its lease", name, byDeadline.Sub(until[name]))
					}
				}
			}
			for range 60 {
				k.now = k.now.Add(time.Duration(random.Int64N(int64(400 * time.Millisecond))))
				type window struct{ byTimeout, byDeadline clock.Time }
				before := make(map[int]window)
				for i := range names {
					byTimeout, byDeadline := k.shutAt(uint32(i) + 1)
					before[i] = window{byTimeout, byDeadline}
				}
				touched := make(map[int]bool)
				switch random.IntN(10) {
				case 0:
					i := random.IntN(len(names))
					touched[i] = true
					if err := g.Shut([]string{names[i]}); err != nil {
						t.Fatal(err)
					}
					if k.open(uint32(i) + 1) {
						t.Fatalf("%s is open after Shut", names[i])
					}
				default:
					ends := []clock.Time{
						k.now.Add(time.Duration(random.Int64N(int64(3 * time.Second)))),
						k.now.Add(time.Duration(random.Int64N(int64(3 * time.Second)))),
					}
					var leases []Lease
					for i, name := range names {
						if random.IntN(4) == 0 {
							continue
						}
						touched[i] = true
						end := max(ends[random.IntN(20)/19], until[name]) // a lease never gets shorter
						first := random.IntN(3) == 0
						if !first && !k.open(uint32(i)+1) && random.IntN(2) == 0 {
							first = true
						}
						leases = append(leases, Lease{Group: name, Until: end, First: first})
						until[name] = end
					}
					var errs []error
					start := k.now
					if random.IntN(8) == 0 {
						var err error
						if errs, err = g.Replace(spec, leases); err != nil {
							t.Fatal(err)
						}
						for i := range names {
							touched[i] = true
						}
					} else {
						errs = g.Arm(leases)
					}
					for i, l := range leases {
						number := g.rules.plan.Number(l.Group)
						byTimeout, byDeadline := k.shutAt(number)
						switch {
						case errs[i] == nil && k.now.Sub(start) < time.Millisecond:
							if left := l.Until.Sub(start); min(byTimeout, byDeadline) < start.Add(left*8/10) {
								t.Fatalf("%s is open until %v only, of %v", l.Group, min(byTimeout, byDeadline).Sub(start), left)
							}
						case errs[i] != nil && !byTimeout.IsZero():
							t.Fatalf("%s is open, but Arm has answered %v", l.Group, errs[i])
						case errs[i] != nil && !errors.Is(errs[i], ErrLapsed):
							t.Fatalf("%s: %v", l.Group, errs[i])
						}
						if errs[i] == nil && l.Until.Before(byTimeout) {
							t.Fatalf("%s: the timeout ends %v after the lease", l.Group, byTimeout.Sub(l.Until))
						}
					}
				}
				for i := range names {
					byTimeout, byDeadline := k.shutAt(uint32(i) + 1)
					was := before[i]
					if !touched[i] && k.now.Add(50*time.Millisecond).Before(min(was.byTimeout, was.byDeadline)) &&
						min(byTimeout, byDeadline).Before(min(was.byTimeout, was.byDeadline)-clock.Time(2*time.Millisecond)) {
						t.Fatalf("%s has lost %v by what happened to others", names[i],
							min(was.byTimeout, was.byDeadline).Sub(min(byTimeout, byDeadline)))
					}
				}
			}
		})
	}
}

func armed(t *testing.T, g *NFTables, until clock.Time, first bool, names ...string) {
	t.Helper()
	var leases []Lease
	for _, name := range names {
		leases = append(leases, Lease{Group: name, Until: until, First: first})
	}
	for _, err := range g.Arm(leases) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func places(g *NFTables) (places []place) {
	for _, s := range g.rules.ledger {
		places = append(places, s.place)
	}
	return places
}

func TestGroupsThatAreRenewedTogetherShareTheirDeadline(t *testing.T) {
	k, g := newFakeKernel(t)
	spec, names := fakeSpec(4)
	if err := g.Install(spec); err != nil {
		t.Fatal(err)
	}
	check := func(what string, want ...place) {
		t.Helper()
		if got := places(g); !slices.Equal(got, want) {
			t.Fatalf("%s: places %v, want %v", what, got, want)
		}
		for i, p := range want {
			if k.open(uint32(i)+1) != (p != placeNone) {
				t.Fatalf("%s: %s is in place %d, but open: %v", what, names[i], p, k.open(uint32(i)+1))
			}
		}
	}
	const c, o, none = placeCommon, placeOwn, placeNone
	check("nothing armed", none, none, none, none)
	armed(t, g, k.now.Add(time.Second), true, names...)
	check("all armed", c, c, c, c)
	armed(t, g, k.now.Add(2*time.Second), false, names...)
	check("all renewed", c, c, c, c)
	armed(t, g, k.now.Add(3*time.Second), false, names[0])
	check("one renewed alone", o, c, c, c)
	armed(t, g, k.now.Add(4*time.Second), false, names[1], names[2])
	check("the two others of three renewed: the third is moved", o, c, c, o)
	if _, byDeadline := k.shutAt(4); byDeadline != startOfTime.Add(1800*time.Millisecond) {
		t.Errorf("the one that was moved has another deadline: %v", byDeadline.Sub(startOfTime))
	}
	armed(t, g, k.now.Add(5*time.Second), false, names[3], names[0])
	check("as many are coming in as would have to go", o, c, c, o)
	armed(t, g, k.now.Add(5*time.Second), false, names...)
	check("all renewed again", c, c, c, c)
	if err := g.Shut(names[1:3]); err != nil {
		t.Fatal(err)
	}
	check("two shut", c, none, none, c)
	k.now = k.now.Add(10 * time.Second) // the other two expire
	sent := k.sent
	armed(t, g, k.now.Add(time.Second), true, names[1])
	if got := k.sent - sent; got != 1 {
		t.Errorf("%d batches to arm one group after others have expired", got)
	}
	armed(t, g, k.now.Add(time.Second), true, names[1:]...)
	check("those that were armed are open", none, c, c, c)
}

// A group in the way whose element has expired, though its lease has not, is found out by the kernel's refusal.
func TestExpiredGroupIsNotInTheWay(t *testing.T) {
	k, g := newFakeKernel(t)
	spec, names := fakeSpec(3)
	if err := g.Install(spec); err != nil {
		t.Fatal(err)
	}
	armed(t, g, k.now.Add(10*time.Second), true, names...)
	k.now = k.now.Add(9500 * time.Millisecond)
	sent := k.sent
	armed(t, g, k.now.Add(10*time.Second), true, names[:2]...)
	if got := k.sent - sent; got != 2 { // one is refused, one clears the culprit
		t.Errorf("%d batches", got)
	}
	if got := places(g); !slices.Equal(got, []place{placeCommon, placeCommon, placeNone}) || k.open(3) {
		t.Errorf("places %v", got)
	}
}

func TestKernelWithoutOwnedTables(t *testing.T) {
	k, g := newFakeKernel(t)
	k.flags = 0
	spec, names := fakeSpec(1)
	if err := g.Install(spec); err != nil {
		t.Fatal(err)
	}
	if g.flags != 0 || len(k.tables) != 2 || k.sent != 2 {
		t.Errorf("flags %#x, %d tables, %d batches", g.flags, len(k.tables), k.sent)
	}
	if err := g.Install(spec); err != nil || k.sent != 3 {
		t.Errorf("%v, %d batches", err, k.sent)
	}
	armed(t, g, k.now.Add(time.Second), true, names...)
}

func TestLostAnswerMakesTheGuardUnknown(t *testing.T) {
	k, g := newFakeKernel(t)
	spec, names := fakeSpec(2)
	if err := g.Install(spec); err != nil {
		t.Fatal(err)
	}
	armed(t, g, k.now.Add(time.Second), true, names...)
	lease := []Lease{{Group: names[0], Until: k.now.Add(2 * time.Second)}, {Group: names[1], Until: k.now.Add(2 * time.Second)}}
	k.fail = fmt.Errorf("%w: %w", errNoAnswer, unix.ENOBUFS)
	for range 2 {
		for _, err := range g.Arm(lease) {
			if !errors.Is(err, ErrNotInstalled) {
				t.Errorf("arm: %v", err)
			}
		}
	}
	if err := g.Shut(names); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("shut: %v", err)
	}
	errs, err := g.Replace(spec, lease)
	if err != nil || errs[0] != nil || errs[1] != nil || !k.open(1) || !k.open(2) {
		t.Errorf("replace: %v %v", errs, err)
	}
}

func TestBatchThatCannotBeSentShutsWhatItConcerns(t *testing.T) {
	k, g := newFakeKernel(t)
	spec, names := fakeSpec(2)
	if err := g.Install(spec); err != nil {
		t.Fatal(err)
	}
	armed(t, g, k.now.Add(time.Second), true, names...)
	k.fail = unix.ENOMEM
	errs := g.Arm([]Lease{{Group: names[0], Until: k.now.Add(2 * time.Second)}})
	if !errors.Is(errs[0], unix.ENOMEM) || k.open(1) || !k.open(2) {
		t.Errorf("got %v; open: %v %v", errs, k.open(1), k.open(2))
	}
}

func TestSecondLeaseOfAGroupIsRefused(t *testing.T) {
	k, g := newFakeKernel(t)
	spec, names := fakeSpec(1)
	if err := g.Install(spec); err != nil {
		t.Fatal(err)
	}
	lease := Lease{Group: names[0], Until: k.now.Add(time.Second), First: true}
	if errs := g.Arm([]Lease{lease, lease}); errs[0] != nil || errs[1] == nil || !k.open(1) {
		t.Errorf("got %v, open %v", errs, k.open(1))
	}
}

// A machine so busy that each telling comes too late does not get a window at all.
func TestTellingTooLateEachTimeShuts(t *testing.T) {
	k, g := newFakeKernel(t)
	spec, names := fakeSpec(3)
	if err := g.Install(spec); err != nil {
		t.Fatal(err)
	}
	armed(t, g, k.now.Add(10*time.Second), true, names[1:]...)
	k.stop = func() { k.now = k.now.Add(500 * time.Millisecond) }
	errs := g.Arm([]Lease{{Group: names[0], Until: k.now.Add(3 * time.Second), First: true}})
	if !errors.Is(errs[0], ErrLapsed) || k.open(1) || !k.open(2) || !k.open(3) {
		t.Errorf("got %v; open: %v %v %v", errs, k.open(1), k.open(2), k.open(3))
	}
}

func TestPlanThatIsWrongChangesNothing(t *testing.T) {
	k, g := newFakeKernel(t)
	spec, names := fakeSpec(1)
	if err := g.Install(spec); err != nil {
		t.Fatal(err)
	}
	lease := []Lease{{Group: names[0], Until: k.now.Add(time.Second), First: true}}
	armed(t, g, lease[0].Until, true, names...)
	spec.Groups = append(spec.Groups, fencing.GuardedGroup{})
	errs, err := g.Replace(spec, lease)
	if err == nil || !errors.Is(errs[0], err) || !k.open(1) {
		t.Errorf("%v %v, open %v", errs, err, k.open(1))
	}
	if err := g.Install(spec); err == nil || !k.open(1) {
		t.Errorf("%v, open %v", err, k.open(1))
	}
}
