package route

import (
	"encoding/binary"
	"math"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/linux/rtnl"
)

// ruleRequest returns the request that adds a rule (RTM_NEWRULE) or removes it (RTM_DELRULE). A rule's header is a
// route's with other names: the action stands where the type does (struct fib_rule_hdr).
func ruleRequest(r Rule, kind int) *nl.NetlinkRequest {
	flags := unix.NLM_F_ACK
	if kind == unix.RTM_NEWRULE {
		flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	req := nl.NewNetlinkRequest(kind, flags)
	msg := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(r.Family), Tos: r.TOS, Type: uint8(r.Action)}}
	if r.Not {
		msg.Flags |= unix.FIB_RULE_INVERT
	}
	req.AddData(msg)
	add := func(kind int, value []byte) { req.AddData(nl.NewRtAttr(kind, value)) }
	number := func(kind int, value uint32) {
		if value != 0 {
			add(kind, nl.Uint32Attr(value))
		}
	}
	octet := func(kind int, value uint8) {
		if value != 0 {
			add(kind, nl.Uint8Attr(value))
		}
	}
	name := func(kind int, value string) {
		if value != "" {
			add(kind, nl.ZeroTerminated(value))
		}
	}
	selector := func(kind int, p netip.Prefix) uint8 {
		if !p.IsValid() {
			return 0
		}
		add(kind, p.Addr().AsSlice())
		return uint8(p.Bits())
	}
	ports := func(kind int, r Range) {
		if r.Set {
			b := binary.NativeEndian.AppendUint16(nil, uint16(r.First))
			add(kind, binary.NativeEndian.AppendUint16(b, uint16(r.Last)))
		}
	}
	limit := func(kind int, l Limit) {
		if l.Set {
			add(kind, nl.Uint32Attr(l.Value))
		}
	}

	add(unix.FRA_PRIORITY, nl.Uint32Attr(r.Priority))
	msg.Src_len = selector(unix.FRA_SRC, r.From)
	msg.Dst_len = selector(unix.FRA_DST, r.To)
	if r.Table <= math.MaxUint8 {
		msg.Table = uint8(r.Table)
	}
	number(unix.FRA_TABLE, r.Table)
	octet(unix.FRA_PROTOCOL, r.Protocol)
	if r.Mask != 0 {
		add(unix.FRA_FWMARK, nl.Uint32Attr(r.Mark))
		add(unix.FRA_FWMASK, nl.Uint32Attr(r.Mask))
	}
	name(unix.FRA_IIFNAME, r.InputInterface)
	name(unix.FRA_OIFNAME, r.OutputInterface)
	if r.TunnelID != 0 {
		add(unix.FRA_TUN_ID, binary.BigEndian.AppendUint64(nil, r.TunnelID))
	}
	if r.UIDs.Set {
		add(unix.FRA_UID_RANGE, append(nl.Uint32Attr(r.UIDs.First), nl.Uint32Attr(r.UIDs.Last)...))
	}
	octet(unix.FRA_IP_PROTO, r.IPProtocol)
	ports(unix.FRA_SPORT_RANGE, r.SourcePorts)
	ports(unix.FRA_DPORT_RANGE, r.DestinationPorts)
	if r.L3MDev {
		add(unix.FRA_L3MDEV, nl.Uint8Attr(1))
	}
	if r.Action == Goto {
		add(unix.FRA_GOTO, nl.Uint32Attr(r.Target))
	}
	number(unix.FRA_FLOW, r.Realms)
	limit(unix.FRA_SUPPRESS_PREFIXLEN, r.SuppressPrefix)
	limit(unix.FRA_SUPPRESS_IFGROUP, r.SuppressGroup)
	return req
}

// ParseRule decodes an RTM_NEWRULE or RTM_DELRULE message.
func ParseRule(payload []byte) (Rule, error) {
	if len(payload) < unix.SizeofRtMsg {
		return Rule{}, ErrMalformed
	}
	msg := nl.DeserializeRtMsg(payload)
	r := Rule{Family: Family(msg.Family), TOS: msg.Tos, Table: uint32(msg.Table), Action: Action(msg.Type),
		Not: msg.Flags&unix.FIB_RULE_INVERT != 0}
	_, ok := unspecified(r.Family)
	if !ok {
		return Rule{}, ErrMalformed
	}
	for kind, value := range rtnl.Attributes(payload[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.FRA_SRC:
			r.From, ok = prefix(value, r.Family, msg.Src_len)
		case unix.FRA_DST:
			r.To, ok = prefix(value, r.Family, msg.Dst_len)
		case unix.FRA_PRIORITY:
			r.Priority = rtnl.Uint32(value)
		case unix.FRA_TABLE:
			r.Table = rtnl.Uint32(value)
		case unix.FRA_PROTOCOL:
			r.Protocol = octet(value)
		case unix.FRA_FWMARK:
			r.Mark = rtnl.Uint32(value)
		case unix.FRA_FWMASK:
			r.Mask = rtnl.Uint32(value)
		case unix.FRA_IIFNAME:
			r.InputInterface = unix.ByteSliceToString(value)
		case unix.FRA_OIFNAME:
			r.OutputInterface = unix.ByteSliceToString(value)
		case unix.FRA_TUN_ID:
			if len(value) == 8 {
				r.TunnelID = binary.BigEndian.Uint64(value)
			}
		case unix.FRA_UID_RANGE:
			if len(value) == 8 {
				r.UIDs = Range{true, rtnl.Uint32(value), rtnl.Uint32(value[4:])}
			}
		case unix.FRA_IP_PROTO:
			r.IPProtocol = octet(value)
		case unix.FRA_SPORT_RANGE:
			r.SourcePorts = portRange(value)
		case unix.FRA_DPORT_RANGE:
			r.DestinationPorts = portRange(value)
		case unix.FRA_L3MDEV:
			r.L3MDev = octet(value) != 0
		case unix.FRA_GOTO:
			r.Target = rtnl.Uint32(value)
		case unix.FRA_FLOW:
			r.Realms = rtnl.Uint32(value)
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.SuppressPrefix = present(rtnl.Uint32(value))
		case unix.FRA_SUPPRESS_IFGROUP:
			r.SuppressGroup = present(rtnl.Uint32(value))
		}
		if !ok {
			return Rule{}, ErrMalformed
		}
	}
	return r, nil
}

// present is a limit as the kernel reports it: -1 is none.
func present(value uint32) Limit {
	if value == math.MaxUint32 {
		return Limit{}
	}
	return Limit{Set: true, Value: value}
}

func octet(value []byte) uint8 {
	if len(value) < 1 {
		return 0
	}
	return value[0]
}

func portRange(value []byte) Range {
	if len(value) != 4 {
		return Range{}
	}
	return Range{true, uint32(binary.NativeEndian.Uint16(value)), uint32(binary.NativeEndian.Uint16(value[2:]))}
}
