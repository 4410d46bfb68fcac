package conf

import (
	"net/netip"
	"time"
)

// Number is a value that iproute2 knows by name or by number: a routing table, a protocol, a scope, a realm. Name is set
// only if the number is not known here and the name has to be looked up on the machine.
type Number struct {
	Set   bool
	Value uint32
	Name  string
}

// Metric is an attribute of a route; Lock keeps the kernel from changing it.
type Metric struct {
	Set   bool
	Lock  bool
	Value uint32
}

// TimeMetric is a Metric that is a time.
type TimeMetric struct {
	Set   bool
	Lock  bool
	Value time.Duration
}

// Route is one line of virtual_routes or static_routes.
type Route struct {
	Pos         Pos
	Family      Family
	Type        string // unicast, blackhole, ...; empty: unicast
	Destination netip.Prefix
	Source      netip.Addr   // preferred source
	From        netip.Prefix // source prefix, IPv6
	Via         netip.Addr
	Interface   string
	Table       Number
	Protocol    Number
	Scope       Number
	TOS         Number
	Realms      string
	Metric      Metric // the priority of the route
	OnLink      bool
	Encap       []string // the type of the encapsulation, then pairs of option and value
	Expires     time.Duration
	MTU         Metric
	HopLimit    Metric
	AdvMSS      Metric
	RTT         TimeMetric
	RTTVar      TimeMetric
	RTOMin      TimeMetric
	Reordering  Metric
	Window      Metric
	Cwnd        Metric
	SSThresh    Metric
	InitCwnd    Metric
	InitRwnd    Metric
	QuickAck    Metric
	FastOpen    Metric // fastopen_no_cookie
	ECN         bool
	CongCtl     string
	CongCtlLock bool
	Preference  Number // IPv6 router preference
	TTLPropag   Metric
	Mode        RouteMode
	VRF         string
	Nexthops    []Nexthop
	Track       bool
	TrackGroup  string
}

// RouteMode says how a route is put beside existing ones.
type RouteMode uint8

// The modes.
const (
	RoutePrepend RouteMode = iota
	RouteAppend
	RouteAdd
)

// Nexthop is one hop of a multipath route.
type Nexthop struct {
	Pos       Pos
	Via       netip.Addr
	Interface string
	Weight    int // 1..256
	OnLink    bool
	Encap     []string
	Realms    string
}

// Rule is one line of virtual_rules or static_rules.
type Rule struct {
	Pos                  Pos
	Family               Family
	Not                  bool
	From                 netip.Prefix
	To                   netip.Prefix
	Table                Number
	Priority             Number
	TOS                  Number
	FwMark               Number
	FwMask               Number
	Realms               string
	SuppressPrefixLength Number
	SuppressIfGroup      Number
	InputInterface       string
	OutputInterface      string
	TunnelID             uint64
	TunnelIDSet          bool
	UIDRange             Range
	L3MDev               bool
	Protocol             Number
	IPProto              Number
	SourcePorts          Range
	DestinationPorts     Range
	Action               string // empty: table; goto, nop, blackhole, unreachable, prohibit
	Goto                 uint32
	Track                bool
	TrackGroup           string
}

// Range is an inclusive range of numbers.
type Range struct {
	Set         bool
	First, Last uint32
}
