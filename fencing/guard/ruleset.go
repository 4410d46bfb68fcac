package guard

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/fencing"
)

// tableName is the name of the guard's tables in the families inet and arp.
const tableName = "had"

// Hook priorities: before defragmentation (-400), connection tracking (-200), NAT (-100) and IPVS; and after source NAT
// (100).
const (
	priorityFirst nftables.ChainPriority = -450
	priorityLast  nftables.ChainPriority = 300
)

// Hooks of the arp family (linux/netfilter_arp.h).
const (
	hookARPIn  nftables.ChainHook = 0
	hookARPOut nftables.ChainHook = 1
)

const (
	metaTimeNanoseconds expr.MetaKey = 30 // NFT_META_TIME_NS: CLOCK_REALTIME, host byte order; Linux 5.4

	register1 = unix.NFT_REG_1
	register2 = unix.NFT_REG_2
	register3 = unix.NFT_REG_3

	interfaceNameSize = unix.IFNAMSIZ
	maxRuleComment    = 127 // what nft prints

	vrrpProtocol = 112 // RFC 9568 section 5.1.1.4
)

// Offsets in packet headers.
const (
	ipv4Source, ipv4Destination      = 12, 16
	ipv6Source, ipv6Destination      = 8, 24
	arpSenderIP, arpTargetIP         = 14, 24 // Ethernet and IPv4: RFC 826
	icmpv6Type, ndTarget             = 0, 8   // RFC 4861 sections 4.3 and 4.4
	vrrpVRID, vrrpPriority           = 1, 2   // RFC 9568 section 5.1, and version 2 alike
	neighbourSolicitation       byte = 135
	neighbourAdvertisement      byte = 136
)

// guardTable is one of the two tables. In each, a group N has a chain gN, to which the maps from addresses, virtual
// routers and interfaces lead. It looks whether the group is held, and goes on to the absolute deadline under which it
// is:
//
//	chain gN       { N in @held: goto until; N in @held_own: goto gN_until; drop }
//	chain until    { meta time >= common deadline: drop }
//	chain gN_until { meta time >= deadline of N: drop }
//
// A packet that a deadline lets pass returns to the chain that it came from. The deadline that most groups have in
// common has a chain of its own because rules are ten times as expensive to replace as elements are.
type guardTable struct {
	table         *nftables.Table
	held, heldOwn *nftables.Set
	until         *nftables.Chain
	groups        []uint32 // numbers of the groups with chains here, ascending
	sets          []*content
	chains        []*ruleChain // called chains before their callers
}

// content is a set, or a map from packets to the chains of their groups.
type content struct {
	set      *nftables.Set
	elements []nftables.SetElement
}

type ruleChain struct {
	chain *nftables.Chain
	rules [][]expr.Any
}

// ruleset is a plan in the vocabulary of nf_tables, and what stands in the kernel under it.
type ruleset struct {
	plan   fencing.GuardPlan
	tables []*guardTable
	ledger ledger
}

func newRuleset(plan fencing.GuardPlan, tableFlags uint32) *ruleset {
	return &ruleset{
		plan:   plan,
		tables: []*guardTable{newINetTable(plan, tableFlags), newARPTable(plan, tableFlags)},
		ledger: make(ledger, len(plan.Groups)),
	}
}

func newGuardTable(family nftables.TableFamily, flags uint32) *guardTable {
	t := &guardTable{table: &nftables.Table{Name: tableName, Family: family, Flags: flags}}
	t.held, t.heldOwn = t.heldSet("held", 1), t.heldSet("held_own", 2)
	t.until = &nftables.Chain{Table: t.table, Name: "until"}
	return t
}

func (t *guardTable) heldSet(name string, id uint32) *nftables.Set {
	return &nftables.Set{
		Table: t.table, Name: name, ID: id, KeyType: nftables.TypeInteger, KeyByteOrder: binaryutil.BigEndian, HasTimeout: true,
	}
}

func newINetTable(plan fencing.GuardPlan, flags uint32) *guardTable {
	t := newGuardTable(nftables.TableFamilyINet, flags)
	for n := range plan.Groups {
		t.groups = append(t.groups, uint32(n)+1)
	}
	var (
		vip4   = t.newSet("vip4", nftables.TypeIPAddr)
		vip6   = t.newSet("vip6", nftables.TypeIP6Addr)
		group4 = t.newMap("vip4_group", nftables.TypeIPAddr)
		group6 = t.newMap("vip6_group", nftables.TypeIP6Addr)
		// Link-local addresses, with the interface on which they are meant.
		linkGroup6 = t.newMap("link6_group", nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIP6Addr))
		routerKey  = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeMark)
		advert4    = t.newMap("advert4_group", routerKey)
		advert6    = t.newMap("advert6_group", routerKey)
		vmac       = t.newMap("vmac_group", nftables.TypeIFName)
	)
	for _, a := range plan.Addresses {
		key := a.Address.AsSlice()
		switch {
		case a.Address.Is4():
			vip4.add(key)
			group4.lead(key, a.Group)
		case a.Interface == "":
			vip6.add(key)
			group6.lead(key, a.Group)
		default:
			linkGroup6.lead(append(interfaceKey(a.Interface), key...), a.Group)
		}
	}
	for _, r := range plan.Routers {
		key := append(interfaceKey(r.Interface), r.VRID, 0, 0, 0)
		if r.Family == fencing.IPv4 {
			advert4.lead(key, r.Group)
		} else {
			advert6.lead(key, r.Group)
		}
	}
	for _, i := range plan.VMACs {
		vmac.lead(interfaceKey(i.Name), i.Group)
	}

	// Whatever is delivered here or balanced by IPVS passes "input". DNAT would hide it there, so "prerouting" looks
	// first, but only at addresses that this machine has: packets that it routes to the owner, which containers on a
	// standby send, are none of the guard's business. For the same reason "postrouting", which sees what source NAT and
	// IPVS have made, only looks at addresses that this machine has; what it sends itself has passed "output".
	prerouting := t.baseChain("prerouting", *nftables.ChainHookPrerouting, priorityFirst)
	input := t.baseChain("input", *nftables.ChainHookInput, priorityFirst)
	output := t.baseChain("output", *nftables.ChainHookOutput, priorityFirst)
	postrouting := t.baseChain("postrouting", *nftables.ChainHookPostrouting, priorityLast)
	advertisements4 := t.advertisementChain("advertisements4", advert4)
	advertisements6 := t.advertisementChain("advertisements6", advert6)
	if len(group4.elements) > 0 {
		prerouting.add(isIPv4(), network(ipv4Destination, 4), vip4.has(), isLocal(destination), group4.lookup())
		input.add(isIPv4(), network(ipv4Destination, 4), group4.lookup())
		output.add(isIPv4(), network(ipv4Source, 4), group4.lookup())
		postrouting.add(isIPv4(), network(ipv4Source, 4), vip4.has(), isLocal(source), group4.lookup())
	}
	if len(group6.elements) > 0 {
		prerouting.add(isIPv6(), network(ipv6Destination, 16), vip6.has(), isLocal(destination), group6.lookup())
		input.add(isIPv6(), network(ipv6Destination, 16), group6.lookup())
		input.add(isIPv6(), isND(neighbourSolicitation), transport(register1, ndTarget, 16), group6.lookup())
		output.add(isIPv6(), network(ipv6Source, 16), group6.lookup())
		output.add(isIPv6(), isND(neighbourAdvertisement), transport(register1, ndTarget, 16), group6.lookup())
		postrouting.add(isIPv6(), network(ipv6Source, 16), vip6.has(), isLocal(source), group6.lookup())
	}
	if len(linkGroup6.elements) > 0 {
		in, out := interfaceName(expr.MetaKeyIIFNAME), interfaceName(expr.MetaKeyOIFNAME)
		input.add(isIPv6(), in, networkTo(register2, ipv6Destination, 16), linkGroup6.lookup())
		input.add(isIPv6(), isND(neighbourSolicitation), in, transport(register2, ndTarget, 16), linkGroup6.lookup())
		output.add(isIPv6(), out, networkTo(register2, ipv6Source, 16), linkGroup6.lookup())
		output.add(isIPv6(), isND(neighbourAdvertisement), out, transport(register2, ndTarget, 16), linkGroup6.lookup())
	}
	if len(advert4.elements) > 0 {
		output.add(isIPv4(), isProtocol(vrrpProtocol), jump(advertisements4.chain))
	}
	if len(advert6.elements) > 0 {
		output.add(isIPv6(), isProtocol(vrrpProtocol), jump(advertisements6.chain))
	}
	if len(vmac.elements) > 0 {
		output.add(isNotProtocol(vrrpProtocol), interfaceName(expr.MetaKeyOIFNAME), vmac.lookup())
		// What is forwarded does not pass "output".
		postrouting.add(isNotProtocol(vrrpProtocol), interfaceName(expr.MetaKeyOIFNAME), vmac.lookup())
	}
	t.keep(vip4, vip6, group4, group6, linkGroup6, advert4, advert6, vmac)
	t.keepChains(advertisements4, advertisements6, prerouting, input, output, postrouting)
	return t
}

func newARPTable(plan fencing.GuardPlan, flags uint32) *guardTable {
	t := newGuardTable(nftables.TableFamilyARP, flags)
	group4 := t.newMap("vip4_group", nftables.TypeIPAddr)
	vmac := t.newMap("vmac_group", nftables.TypeIFName)
	for _, a := range plan.Addresses {
		if a.Address.Is4() {
			group4.lead(a.Address.AsSlice(), a.Group)
			t.groups = append(t.groups, a.Group)
		}
	}
	for _, i := range plan.VMACs {
		vmac.lead(interfaceKey(i.Name), i.Group)
		t.groups = append(t.groups, i.Group)
	}
	slices.Sort(t.groups)
	t.groups = slices.Compact(t.groups)

	input, output := t.baseChain("input", hookARPIn, 0), t.baseChain("output", hookARPOut, 0)
	if len(group4.elements) > 0 {
		input.add(network(arpTargetIP, 4), group4.lookup())
		output.add(network(arpSenderIP, 4), group4.lookup())
	}
	if len(vmac.elements) > 0 {
		output.add(interfaceName(expr.MetaKeyOIFNAME), vmac.lookup())
	}
	t.keep(group4, vmac)
	t.keepChains(input, output)
	return t
}

func (t *guardTable) newSet(name string, key nftables.SetDatatype) *content {
	return &content{set: &nftables.Set{Table: t.table, Name: name, KeyType: key}}
}

func (t *guardTable) newMap(name string, key nftables.SetDatatype) *content {
	c := t.newSet(name, key)
	c.set.IsMap, c.set.DataType = true, nftables.TypeVerdict
	return c
}

// keep adds the sets that have elements to the table.
func (t *guardTable) keep(sets ...*content) {
	for _, c := range sets {
		if len(c.elements) > 0 {
			t.sets = append(t.sets, c)
			c.set.ID = t.heldOwn.ID + uint32(len(t.sets))
		}
	}
}

// keepChains adds the chains that have a use to the table.
func (t *guardTable) keepChains(chains ...*ruleChain) {
	for _, c := range chains {
		if len(c.rules) > 0 {
			t.chains = append(t.chains, c)
		}
	}
}

func (t *guardTable) baseChain(name string, hook nftables.ChainHook, priority nftables.ChainPriority) *ruleChain {
	return &ruleChain{chain: &nftables.Chain{
		Table: t.table, Name: name, Type: nftables.ChainTypeFilter, Hooknum: &hook, Priority: &priority,
	}}
}

// advertisementChain judges VRRP advertisements. Priority 0, which says goodbye, may always leave. (A chain of its own:
// nft 1.0 cannot list a rule that looks at the protocol number and into the payload of a protocol that it does not
// know.)
func (t *guardTable) advertisementChain(name string, advert *content) *ruleChain {
	c := &ruleChain{chain: &nftables.Chain{Table: t.table, Name: name}}
	if len(advert.elements) > 0 {
		c.add(transport(register1, vrrpPriority, 1), []expr.Any{
			&expr.Cmp{Op: expr.CmpOpEq, Register: register1, Data: []byte{0}},
			&expr.Verdict{Kind: expr.VerdictReturn},
		})
		c.add(interfaceName(expr.MetaKeyOIFNAME), transport(register2, vrrpVRID, 1), advert.lookup())
	}
	return c
}

func (t *guardTable) groupChain(group uint32) *nftables.Chain {
	return &nftables.Chain{Table: t.table, Name: groupChainName(group)}
}

func (t *guardTable) untilChain(group uint32) *nftables.Chain {
	return &nftables.Chain{Table: t.table, Name: groupChainName(group) + "_until"}
}

func (t *guardTable) has(group uint32) bool {
	_, found := slices.BinarySearch(t.groups, group)
	return found
}

func groupChainName(group uint32) string { return fmt.Sprintf("g%d", group) }

func (c *content) add(key []byte) { c.elements = append(c.elements, nftables.SetElement{Key: key}) }

func (c *content) lead(key []byte, group uint32) {
	c.elements = append(c.elements, nftables.SetElement{
		Key: key, VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: groupChainName(group)},
	})
}

// has ends the rule unless the key in register1 and following is an element.
func (c *content) has() []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register1, SetName: c.set.Name}}
}

// lookup takes the verdict that belongs to the key in register1 and following; without an entry the rule ends.
func (c *content) lookup() []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register1, SetName: c.set.Name, IsDestRegSet: true}}
}

func (c *ruleChain) add(parts ...[]expr.Any) { c.rules = append(c.rules, slices.Concat(parts...)) }

// install appends everything to a batch in which the tables do not exist (any more). The given groups start open, with
// places as arranged; all others shut.
func (r *ruleset) install(b *batch, armings []*arming) {
	open := make(map[uint32]*arming, len(armings))
	for _, a := range armings {
		open[a.group] = a
	}
	for _, t := range r.tables {
		b.table(t.table)
		b.set(t.held)
		b.set(t.heldOwn)
		for _, c := range t.sets {
			b.set(c.set)
		}
		b.chain(t.until)
		for _, group := range t.groups {
			chain, until := t.groupChain(group), t.untilChain(group)
			b.chain(until)
			b.chain(chain)
			b.rule(&nftables.Rule{
				Table: t.table, Chain: chain, Exprs: ifHeld(group, t.held, t.until), UserData: comment(r.plan.Groups[group-1]),
			}, group)
			b.rule(&nftables.Rule{Table: t.table, Chain: chain, Exprs: ifHeld(group, t.heldOwn, until)}, group)
			b.rule(&nftables.Rule{Table: t.table, Chain: chain, Exprs: drop()}, group)
			if a := open[group]; a != nil {
				t.hold(b, a)
			}
		}
		for _, c := range t.sets {
			b.elements(c.set, c.elements)
		}
		for _, c := range t.chains {
			b.chain(c.chain)
			for _, rule := range c.rules {
				b.rule(&nftables.Rule{Table: t.table, Chain: c.chain, Exprs: rule}, 0)
			}
		}
	}
	r.setCommonDeadline(b, armings)
}

// open appends what opens or extends groups in their arranged places, and shuts the groups in clear.
func (r *ruleset) open(b *batch, armings []*arming, clear []uint32) {
	r.shut(b, clear)
	r.setCommonDeadline(b, armings)
	for _, a := range armings {
		for _, t := range r.tables {
			if !t.has(a.group) {
				continue
			}
			// Adding an element that exists does not renew its timeout, so it is deleted first. To
			// delete one that has expired is an error, on which an extension relies.
			if a.extend {
				b.heldElement(unix.NFT_MSG_DELSETELEM, t.heldAt(r.ledger[a.group-1].place), a.group, 0)
			} else {
				t.clear(b, a.group)
			}
			t.hold(b, a)
		}
	}
}

// shut appends what shuts groups, held or not.
func (r *ruleset) shut(b *batch, groups []uint32) {
	for _, group := range groups {
		for _, t := range r.tables {
			if t.has(group) {
				t.clear(b, group)
			}
		}
	}
}

// setCommonDeadline appends the deadline of the armings in the common place, if there are any.
func (r *ruleset) setCommonDeadline(b *batch, armings []*arming) {
	for _, a := range armings {
		if a.place == placeCommon {
			for _, t := range r.tables {
				t.setDeadline(b, t.until, a.window.Deadline, 0)
			}
			return
		}
	}
}

// hold adds the element of a group that has none, and its deadline if that is its own.
func (t *guardTable) hold(b *batch, a *arming) {
	b.heldElement(unix.NFT_MSG_NEWSETELEM, t.heldAt(a.place), a.group, a.window.Timeout)
	if a.place == placeOwn {
		t.setDeadline(b, t.untilChain(a.group), a.window.Deadline, a.group)
	}
}

// clear removes a group's elements whether there are any or not.
func (t *guardTable) clear(b *batch, group uint32) {
	for _, set := range []*nftables.Set{t.held, t.heldOwn} {
		b.heldElement(unix.NFT_MSG_NEWSETELEM, set, group, fencing.MinTimeout)
		b.heldElement(unix.NFT_MSG_DELSETELEM, set, group, 0)
	}
}

func (t *guardTable) heldAt(p place) *nftables.Set {
	if p == placeOwn {
		return t.heldOwn
	}
	return t.held
}

func (t *guardTable) setDeadline(b *batch, chain *nftables.Chain, deadline int64, group uint32) {
	b.flushChain(chain, group)
	b.rule(&nftables.Rule{Table: t.table, Chain: chain, Exprs: append([]expr.Any{
		&expr.Meta{Key: metaTimeNanoseconds, Register: register1},
		&expr.Byteorder{SourceRegister: register1, DestRegister: register1, Op: expr.ByteorderHton, Len: 8, Size: 8},
		&expr.Cmp{Op: expr.CmpOpGte, Register: register1, Data: binary.BigEndian.AppendUint64(nil, uint64(deadline))},
	}, drop()...)}, group)
}

func ifHeld(group uint32, held *nftables.Set, then *nftables.Chain) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: register1, Data: groupKey(group)},
		&expr.Lookup{SourceRegister: register1, SetName: held.Name},
		&expr.Verdict{Kind: expr.VerdictGoto, Chain: then.Name},
	}
}

func jump(to *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: to.Name}}
}

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

func groupKey(group uint32) []byte { return binary.BigEndian.AppendUint32(nil, group) }

func interfaceKey(name string) []byte {
	key := make([]byte, interfaceNameSize, interfaceNameSize+16)
	copy(key, name)
	return key
}

func comment(s string) []byte {
	return userdata.AppendString(nil, userdata.TypeComment, s[:min(len(s), maxRuleComment)])
}

func isFamily(family byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register1, Data: []byte{family}},
	}
}

func isIPv4() []expr.Any { return isFamily(unix.NFPROTO_IPV4) }
func isIPv6() []expr.Any { return isFamily(unix.NFPROTO_IPV6) }

func isProtocol(protocol byte) []expr.Any    { return compareProtocol(expr.CmpOpEq, protocol) }
func isNotProtocol(protocol byte) []expr.Any { return compareProtocol(expr.CmpOpNeq, protocol) }

func compareProtocol(op expr.CmpOp, protocol byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register1},
		&expr.Cmp{Op: op, Register: register1, Data: []byte{protocol}},
	}
}

// end is one end of a packet's way.
type end uint8

const (
	source end = iota
	destination
)

// isLocal matches packets one end of which is an address of this machine.
func isLocal(e end) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: register3, ResultADDRTYPE: true, FlagSADDR: e == source, FlagDADDR: e == destination},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register3, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}
}

// isND matches ICMPv6 of one type.
func isND(icmpType byte) []expr.Any {
	return slices.Concat(isProtocol(unix.IPPROTO_ICMPV6), transport(register1, icmpv6Type, 1), []expr.Any{
		&expr.Cmp{Op: expr.CmpOpEq, Register: register1, Data: []byte{icmpType}},
	})
}

func interfaceName(key expr.MetaKey) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: register1}}
}

func network(offset, length uint32) []expr.Any { return networkTo(register1, offset, length) }

func networkTo(register, offset, length uint32) []expr.Any {
	return []expr.Any{&expr.Payload{
		DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length,
	}}
}

func transport(register, offset, length uint32) []expr.Any {
	return []expr.Any{&expr.Payload{
		DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length,
	}}
}
