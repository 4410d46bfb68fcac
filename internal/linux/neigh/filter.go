package neigh

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"

	"github.com/hactl/had/internal/linux/ether"
)

const (
	// filterAddresses is the largest number of addresses that fits one filter: two instructions each of the kernel's
	// limit of 4096. Beyond it the kernel passes every message, and the exact comparison in user space decides alone.
	filterAddresses = 2000

	// snapLength is how much of a frame that passes is kept: Ethernet, IPv6 and a neighbour message with options.
	snapLength = 192
)

// Offsets in an Ethernet frame, in bytes.
const (
	arpSender      = ether.HeaderLen + 14
	ipv6NextHeader = ether.HeaderLen + 6
	ipv6SourceTail = ether.HeaderLen + 8 + 12
	icmpv6Type     = ether.HeaderLen + 40
	ndTargetTail   = icmpv6Type + 8 + 12
)

// arpFilter returns a filter that passes ARP messages whose sender has one of the addresses.
func arpFilter(addrs []netip.Addr) []bpf.Instruction {
	return append([]bpf.Instruction{bpf.LoadAbsolute{Off: arpSender, Size: 4}}, passIfOneOf(addrs)...)
}

// ndFilter returns a filter that passes neighbour advertisements for one of the addresses and neighbour solicitations
// from one of them, as far as their last four bytes tell.
func ndFilter(addrs []netip.Addr) []bpf.Instruction {
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: ipv6NextHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 58, SkipFalse: 3}, // ICMPv6
		bpf.LoadAbsolute{Off: icmpv6Type, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 136, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 135, SkipTrue: 3},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: ndTargetTail, Size: 4},
		bpf.Jump{Skip: 1},
		bpf.LoadAbsolute{Off: ipv6SourceTail, Size: 4},
	}
	return append(program, passIfOneOf(addrs)...)
}

// passIfOneOf compares the loaded value with the last four bytes of each address.
func passIfOneOf(addrs []netip.Addr) []bpf.Instruction {
	if len(addrs) > filterAddresses {
		return []bpf.Instruction{bpf.RetConstant{Val: snapLength}}
	}
	program := make([]bpf.Instruction, 0, 2*len(addrs)+1)
	for _, addr := range addrs {
		b := addr.AsSlice()
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(b[len(b)-4:]), SkipFalse: 1},
			bpf.RetConstant{Val: snapLength})
	}
	return append(program, bpf.RetConstant{Val: 0})
}
