package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/ether"
)

// Filter describes frames that cross the switch. Conditions left at zero are always true; all others must hold.
type Filter struct {
	From, To *Host // the ports that the frame comes in and would go out by
	Protocol uint8 // IP protocol number, for IPv4 and IPv6: 112 is VRRP
	// Port is a TCP or UDP port, on either side; Protocol must be 6 or 17.
	Port uint16
	// EtherType is the frame's protocol: 0x0806 is ARP.
	EtherType uint16
	// Destination is the hardware address that the frame is sent to: a station's, a group's or that of all.
	Destination ether.MAC
	// LongerThan is a length in bytes, without the Ethernet header.
	LongerThan int
	// Percent is the share that is dropped, 1 to 100; zero drops everything.
	Percent int
}

// Both returns the filter and its mirror image.
func Both(f Filter) []Filter {
	back := f
	back.From, back.To = f.To, f.From
	return []Filter{f, back}
}

func (f Filter) check() error {
	switch {
	case f.Port != 0 && f.Protocol != unix.IPPROTO_TCP && f.Protocol != unix.IPPROTO_UDP:
		return fmt.Errorf("a filter on port %d needs the protocol 6 (TCP) or 17 (UDP), not %d", f.Port, f.Protocol)
	case f.Percent < 0 || f.Percent > 100:
		return fmt.Errorf("a filter cannot drop %d%% of the frames", f.Percent)
	case f.LongerThan < 0 || f.LongerThan > math.MaxUint16:
		return fmt.Errorf("a filter cannot match frames longer than %d bytes", f.LongerThan)
	}
	return nil
}

// rules returns the filter as nftables rules of the bridge family: one, or two if a port is to match on either side.
func (f Filter) rules() [][]expr.Any {
	var match []expr.Any
	if f.From != nil {
		match = append(match, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(ifname(f.From.Port())))
	}
	if f.To != nil {
		match = append(match, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal(ifname(f.To.Port())))
	}
	if f.EtherType != 0 {
		match = append(match, &expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, equal(bigEndian16(f.EtherType)))
	}
	if to := f.Destination; !to.IsZero() {
		match = append(match, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 0, Len: uint32(len(to))}, equal(to[:]))
	}
	if f.Protocol != 0 {
		match = append(match, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{f.Protocol}))
	}
	if f.LongerThan != 0 {
		match = append(match, &expr.Meta{Key: expr.MetaKeyLEN, Register: 1}, toNetwork(), compare(expr.CmpOpGt, uint32(f.LongerThan)))
	}
	// The random number is drawn last: it must not be spent on frames that do not match.
	var verdict []expr.Any
	if f.Percent != 0 && f.Percent != 100 {
		verdict = append(verdict, &expr.Numgen{Register: 1, Modulus: 100, Type: unix.NFT_NG_RANDOM},
			toNetwork(), compare(expr.CmpOpLt, uint32(f.Percent)))
	}
	verdict = append(verdict, &expr.Verdict{Kind: expr.VerdictDrop})

	if f.Port == 0 {
		return [][]expr.Any{append(match, verdict...)}
	}
	var rules [][]expr.Any
	for _, offset := range []uint32{0, 2} { // source and destination port
		rule := append([]expr.Any(nil), match...)
		rule = append(rule,
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
			equal(bigEndian16(f.Port)))
		rules = append(rules, append(rule, verdict...))
	}
	return rules
}

func equal(data []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

// compare orders register 1 and a number; the kernel compares bytes, so both must be in network order.
func compare(op expr.CmpOp, number uint32) *expr.Cmp {
	return &expr.Cmp{Op: op, Register: 1, Data: binary.BigEndian.AppendUint32(nil, number)}
}

// toNetwork turns the number in register 1 from host into network order.
func toNetwork() *expr.Byteorder {
	return &expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4}
}

func bigEndian16(number uint16) []byte { return binary.BigEndian.AppendUint16(nil, number) }

// ifname pads an interface's name to the length that the kernel compares.
func ifname(name string) []byte {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return padded
}

// applyFilters replaces the switch's rules by those of the faults in force, in one transaction. Called with l.mu held.
func (l *Lab) applyFilters() error {
	conn, err := nftables.New(nftables.WithNetNSFd(l.ns.fd()))
	if err != nil {
		return fmt.Errorf("open nftables of the switch: %w", err)
	}
	policy := nftables.ChainPolicyAccept
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyBridge, Name: "lab"})
	chain := conn.AddChain(&nftables.Chain{Name: "faults", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &policy})
	conn.FlushChain(chain)
	for _, fault := range l.faults {
		for _, filter := range fault.filters {
			if err := filter.check(); err != nil {
				return err
			}
			for _, exprs := range filter.rules() {
				conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
			}
		}
	}
	if err := conn.Flush(); err != nil {
		err = fmt.Errorf("write %d faults to the bridge filter of the switch: %w", len(l.faults), err)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) {
			err = fmt.Errorf("%w (the kernel needs nf_tables with the bridge family)", err)
		}
		return err
	}
	return nil
}

// FlushRuleset removes all nftables rules of a host, as `nft flush ruleset` and the restart of a firewall service do. Tables that
// belong to a process are left by the kernel.
func (h *Host) FlushRuleset() error {
	conn, err := nftables.New(nftables.WithNetNSFd(h.ns.fd()))
	if err != nil {
		return fmt.Errorf("open nftables of %s: %w", h.name, err)
	}
	conn.FlushRuleset()
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("flush the rule set of %s: %w", h.name, err)
	}
	return nil
}
