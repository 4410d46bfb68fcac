// Package filter puts the packet filter of virtual routers into the kernel, as nftables rules beside everybody else's: what is
// addressed to, or comes from, virtual addresses that are not accepted (no_accept) is dropped, save neighbour discovery; and
// interfaces with a virtual MAC address send no reports of multicast membership and no router solicitations, which would
// move the virtual MAC address in the switches to a router that is a backup.
//
// The rules do not depend on who is the master: a machine that does not have an address neither receives nor sends
// anything for it.
package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rules says what is filtered.
type Rules struct {
	Table    string // name of the tables in the families ip and ip6
	Priority int    // of the chains in the hooks input and output
	Counters bool   // count what is dropped

	VMACs []VMAC

	// Refused are virtual addresses that are not accepted. A link-local one has the name of its interface as its zone.
	Refused []netip.Addr
}

// VMAC is an interface with a virtual MAC address, and the family that it is for.
type VMAC struct {
	Name string
	IPv6 bool
}

// Empty tells whether there is nothing to filter.
func (r Rules) Empty() bool { return len(r.VMACs)+len(r.Refused) == 0 }

// Install replaces tables of this name, whoever made them, in one transaction in the network namespace of the calling
// thread.
func Install(r Rules) error { return r.commit(true) }

// Remove removes the tables.
func Remove(r Rules) error { return r.commit(false) }

func (r Rules) commit(install bool) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	for _, family := range r.families() {
		// To delete what does not exist is an error, to add what exists is none.
		table := conn.AddTable(&nftables.Table{Name: r.Table, Family: family})
		conn.DelTable(table)
		if install {
			b := &builder{conn: conn, table: conn.AddTable(table), counters: r.Counters}
			b.build(r)
			if b.err != nil {
				return fmt.Errorf("filter: %w", b.err)
			}
		}
	}
	if err := conn.Flush(); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) {
			err = fmt.Errorf("%w (the kernel needs nf_tables with the families ip and ip6)", err)
		}
		return fmt.Errorf("filter: write table %s: %w", r.Table, err)
	}
	return nil
}

// families are those that have something to filter: a kernel without IPv6 does not have the other.
func (r Rules) families() (list []nftables.TableFamily) {
	for _, f := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		ipv6 := f == nftables.TableFamilyIPv6
		if slices.ContainsFunc(r.VMACs, func(v VMAC) bool { return v.IPv6 == ipv6 }) ||
			slices.ContainsFunc(r.Refused, func(a netip.Addr) bool { return a.Is6() == ipv6 }) {
			list = append(list, f)
		}
	}
	return list
}

// Offsets in packet headers.
const (
	ipv4Source, ipv4Destination = 12, 16
	ipv6Source, ipv6Destination = 8, 24
)

// Types of ICMPv6 messages (RFC 2710, RFC 4861, RFC 3810).
var (
	membership         = []byte{131, 132, 143} // reports and done
	routerSolicitation = byte(133)
	neighbourDiscovery = []byte{135, 136} // solicitation and advertisement
)

// builder builds one table.
type builder struct {
	conn     *nftables.Conn
	table    *nftables.Table
	counters bool
	err      error // the first
}

func (b *builder) build(r Rules) {
	ipv6 := b.table.Family == nftables.TableFamilyIPv6
	addresses, linkLocal := b.keys(r.Refused, ipv6)
	in := b.chain("in", nftables.ChainHookInput, r.Priority)
	out := b.chain("out", nftables.ChainHookOutput, r.Priority)
	var names []nftables.SetElement
	for _, v := range r.VMACs {
		if v.IPv6 == ipv6 {
			names = append(names, nftables.SetElement{Key: interfaceKey(v.Name)})
		}
	}
	if len(names) > 0 {
		vmacs := b.set("vmacs", nftables.TypeIFName, names)
		leaves := []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, has(vmacs)}
		if ipv6 {
			for _, kind := range append(membership, routerSolicitation) {
				b.drop(out, leaves, icmpv6(kind))
			}
		} else {
			b.drop(out, leaves, protocol(unix.IPPROTO_IGMP))
		}
	}
	if ipv6 && len(addresses)+len(linkLocal) > 0 {
		for _, kind := range neighbourDiscovery {
			for _, chain := range []*nftables.Chain{in, out} {
				b.rule(chain, icmpv6(kind), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})
			}
		}
	}
	if len(addresses) > 0 {
		kind, length, source, destination := nftables.TypeIPAddr, uint32(4), uint32(ipv4Source), uint32(ipv4Destination)
		if ipv6 {
			kind, length, source, destination = nftables.TypeIP6Addr, 16, ipv6Source, ipv6Destination
		}
		vips := b.set("vips", kind, addresses)
		b.drop(in, []expr.Any{network(1, destination, length), has(vips)})
		b.drop(out, []expr.Any{network(1, source, length), has(vips)})
	}
	if len(linkLocal) > 0 {
		vips := b.set("vips_link_local", nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIP6Addr), linkLocal)
		b.drop(in, []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, network(2, ipv6Destination, 16), has(vips)})
		b.drop(out, []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, network(2, ipv6Source, 16), has(vips)})
	}
}

// keys are the elements for the addresses of one family, those of one link apart.
func (b *builder) keys(refused []netip.Addr, ipv6 bool) (addresses, linkLocal []nftables.SetElement) {
	seen := map[netip.Addr]bool{}
	for _, a := range refused {
		if a.Is6() != ipv6 || seen[a] {
			continue
		}
		seen[a] = true
		key := a.WithZone("").AsSlice()
		if a.Zone() != "" {
			linkLocal = append(linkLocal, nftables.SetElement{Key: append(interfaceKey(a.Zone()), key...)})
		} else {
			addresses = append(addresses, nftables.SetElement{Key: key})
		}
	}
	return addresses, linkLocal
}

func (b *builder) chain(name string, hook *nftables.ChainHook, priority int) *nftables.Chain {
	policy := nftables.ChainPolicyAccept
	return b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: nftables.ChainTypeFilter, Hooknum: hook,
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority)), Policy: &policy})
}

func (b *builder) set(name string, key nftables.SetDatatype, elements []nftables.SetElement) *nftables.Set {
	set := &nftables.Set{Table: b.table, Name: name, KeyType: key, Concatenation: name == "vips_link_local"}
	if key == nftables.TypeIFName {
		set.KeyByteOrder = binaryutil.NativeEndian // only nft, which prints the elements, wants to know
	}
	if err := b.conn.AddSet(set, elements); err != nil && b.err == nil {
		b.err = fmt.Errorf("set %s: %w", name, err)
	}
	return set
}

func (b *builder) drop(chain *nftables.Chain, conditions ...[]expr.Any) {
	end := []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	if b.counters {
		end = append([]expr.Any{&expr.Counter{}}, end...)
	}
	b.rule(chain, append(conditions, end)...)
}

func (b *builder) rule(chain *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: chain, Exprs: all})
}

func has(set *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}
}

func network(register, offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}}}
}

func icmpv6(kind byte) []expr.Any {
	return append(protocol(unix.IPPROTO_ICMPV6),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{kind}})
}

// interfaceKey is the name of an interface as the kernel compares it.
func interfaceKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}
