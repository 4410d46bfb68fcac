package route

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Action is what a rule does with the packets that it matches (FR_ACT_*).
type Action uint8

// The actions.
const (
	ToTable     Action = unix.FR_ACT_TO_TBL
	Goto        Action = unix.FR_ACT_GOTO
	Nop         Action = unix.FR_ACT_NOP
	Blackhole   Action = unix.FR_ACT_BLACKHOLE
	Unreachable Action = unix.FR_ACT_UNREACHABLE
	Prohibit    Action = unix.FR_ACT_PROHIBIT
)

// Rule is a policy rule. It is comparable, and what Parse gives for a rule that was put equals it.
type Rule struct {
	Family   Family
	Priority uint32
	Protocol uint8 // who made it; 0 is nobody known

	Not              bool         // the selectors are inverted
	From, To         netip.Prefix // masked; unset: any
	TOS              uint8
	Mark, Mask       uint32 // a Mask of 0 is no selector
	InputInterface   string
	OutputInterface  string
	TunnelID         uint64
	UIDs             Range
	IPProtocol       uint8
	SourcePorts      Range
	DestinationPorts Range

	Action         Action
	Table          uint32 // of ToTable; 0 with L3MDev
	L3MDev         bool   // the table is that of the packet's VRF
	Target         uint32 // the priority that Goto leads to
	Realms         uint32 // source and destination realm, 16 bits each
	SuppressPrefix Limit  // routes with a prefix this long or shorter do not count
	SuppressGroup  Limit  // routes through interfaces of this group do not count
}

// Range is an inclusive range of numbers that may be absent.
type Range struct {
	Set         bool
	First, Last uint32
}

// Limit is a number that may be absent.
type Limit struct {
	Set   bool
	Value uint32
}

var actionNames = map[Action]string{Nop: "nop", Blackhole: "blackhole", Unreachable: "unreachable", Prohibit: "prohibit"}

// String names what tells a rule from others, as ip-rule(8) writes it.
func (r Rule) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "rule %d", r.Priority)
	if r.Not {
		s.WriteString(" not")
	}
	if r.From.IsValid() {
		fmt.Fprintf(&s, " from %v", r.From)
	}
	if r.To.IsValid() {
		fmt.Fprintf(&s, " to %v", r.To)
	}
	switch {
	case r.Action == Goto:
		fmt.Fprintf(&s, " goto %d", r.Target)
	case r.L3MDev:
		s.WriteString(" l3mdev")
	case r.Action == ToTable:
		fmt.Fprintf(&s, " table %d", r.Table)
	default:
		s.WriteString(" " + actionNames[r.Action])
	}
	return s.String()
}
