package conf

import (
	"net/netip"
	"time"
)

// DriftBound is e, the bound on the difference between the rates of two machines' clocks, as a fraction.
const DriftBound = 0.01

// GuardLifetimeLateness is how late an address may vanish under GuardLifetime.
const GuardLifetimeLateness = 1100 * time.Millisecond

// WatchdogFeed is the longest time between two feedings of a watchdog by a had that turns.
const WatchdogFeed = 250 * time.Millisecond

// LeaseMin is the shortest lease that is accepted.
const LeaseMin = 300 * time.Millisecond

// guardLifetimeLeaseMin is the shortest lease with which addresses that expire can be the guard: their lifetimes are whole
// seconds, and shorter than what is left of the lease.
const guardLifetimeLeaseMin = 2 * time.Second

// Role is what a peer does in the cluster.
type Role uint8

// The roles. The zero Role is not valid.
const (
	Director    Role = iota + 1 // can own virtual addresses
	WitnessRole                 // only votes
)

// QuorumLoss says what an owner does that has lost the majority.
type QuorumLoss uint8

// The ways to behave without a majority.
const (
	QuorumLossDemote QuorumLoss = iota // give up: no majority, no virtual address
	QuorumLossHold                     // keep the addresses as long as a gateway answers and nobody else does
)

// Arbitration says who decides between two nodes that do not see each other.
type Arbitration uint8

// The kinds of arbitration.
const (
	ArbitrationMajority Arbitration = iota // the majority of the peers
	ArbitrationGateway                     // two nodes without witness: who sees the gateway
)

// Guard says what keeps an address from being used once its lease has ended.
type Guard uint8

// The guards.
const (
	GuardNftables Guard = iota
	GuardLifetime       // address lifetimes: whole seconds, up to 1.1 s late
	GuardNone
)

// Fencing says what a takeover from a director that is lost has to wait for.
type Fencing uint8

// The kinds of fencing.
const (
	FencingOff       Fencing = iota // the end of its lease
	FencingPreferred                // the end of its lease, or the proof that it is off, if that comes first
	FencingRequired                 // the proof that it is off
)

// String returns the word of the configuration.
func (f Fencing) String() string { return [...]string{"off", "preferred", "required"}[f] }

// Fence is a device that switches a director off.
type Fence struct {
	Pos         Pos
	Node        string
	Agent       string   // absolute path of a fence agent; empty: Command
	AgentPos    Pos      // of its name
	Command     *Command // nil: Agent
	Options     []FenceOption
	Level       int // devices of the lowest level are tried first, those of one level together
	Timeout     time.Duration
	Retries     int           // after the first try
	Delay       time.Duration // before the node is fenced
	DelayRandom time.Duration // on top of it, at most
}

// FenceOption is one option of a fence agent. Its value may be a password: it is never shown.
type FenceOption struct {
	Pos   Pos // of the name
	Name  string
	Value string
}

// String shows everything but the value.
func (o FenceOption) String() string { return o.Name + "=..." }

// Watchdog is a device that resets this machine unless it is fed.
type Watchdog struct {
	Device  string
	Timeout time.Duration // whole seconds
}

// FencesOf returns the devices that switch a node off, in the order of the file.
func (c *Cluster) FencesOf(node string) (devices []Fence) {
	for _, f := range c.Fences {
		if f.Node == node {
			devices = append(devices, f)
		}
	}
	return devices
}

// Cluster is the cluster block. Load returns one only if it has no error.
type Cluster struct {
	Pos            Pos
	Name           string
	Node           string // name of this machine among Peers
	KeyFile        string
	DataDir        string
	Port           int           // TCP; gossip uses Port+1, TCP and UDP
	Lease          time.Duration // 0: derived from the instances, see Config.LeaseDuration
	Peers          []Peer        // all members, this one included, in the order of the file
	Gateways       []Gateway
	GatewaysNeeded int         // how many of Gateways a director must reach: 1 to all; 0 without gateways
	Placement      []Placement // of groups, in the order of the file
	MaxGroups      int         // that one director owns while another one has room; 0: no limit
	QuorumLoss     QuorumLoss
	Arbitration    Arbitration
	Guard          Guard
	Fencing        Fencing
	Fences         []Fence
	Watchdog       *Watchdog // nil: none
	ControlSocket  string
}

// Peer is a member of the cluster.
type Peer struct {
	Pos     Pos
	Name    string
	Address netip.Addr
	Witness bool
}

// directorsOf returns the names of the members that are no witnesses, in the order of the file.
func directorsOf(peers []Peer) (names []string) {
	for _, p := range peers {
		if !p.Witness {
			names = append(names, p.Name)
		}
	}
	return names
}

// Gateway is an address that every director probes.
type Gateway struct {
	Pos       Pos
	Address   netip.Addr
	Interface string     // empty: by the routing table
	Source    netip.Addr // that probes come from; invalid: what the kernel chooses, and for ARP none
	Method    ProbeMethod
	Interval  time.Duration
	Timeout   time.Duration
	Fall      int // failures in a row that make it unreachable
	Rise      int // successes in a row that make it reachable again
}

// Placement says which director is to own a group, instead of the priorities of its instances.
type Placement struct {
	Pos       Pos
	Group     string
	Prefer    []string // directors, the best first
	ApartFrom []string // groups that are not to be on the same director
	Failback  Failback
}

// Failback says when a group goes back to the director that is to own it.
type Failback struct {
	Never  bool
	After  time.Duration // for which that director has been fit
	Window bool          // only from From to Until each day
	From   int           // minutes after midnight, local time
	Until  int           // From or less: on the next day
}

// ProbeMethod is how a gateway is probed.
type ProbeMethod uint8

// The probe methods.
const (
	ProbeICMP ProbeMethod = iota
	ProbeARP              // ARP, or neighbour solicitation for IPv6
)

// Self returns the peer that is this machine.
func (c *Cluster) Self() Peer {
	for _, p := range c.Peers {
		if p.Name == c.Node {
			return p
		}
	}
	panic("conf: cluster without its own node: " + c.Node) // Load has checked it
}

// Witnesses returns the number of peers that only vote.
func (c *Cluster) Witnesses() int {
	n := 0
	for _, p := range c.Peers {
		if p.Witness {
			n++
		}
	}
	return n
}

// LeaseDuration is D: the lease that is configured, else 2.5 times the smallest advertisement interval of the instances,
// at least LeaseMin.
func (c *Config) LeaseDuration() time.Duration {
	if c.Cluster != nil && c.Cluster.Lease > 0 {
		return c.Cluster.Lease
	}
	return max(c.smallestInterval()*5/2, LeaseMin)
}

// smallestInterval is the smallest advertisement interval of the instances; 0 without any.
func (c *Config) smallestInterval() time.Duration {
	var smallest time.Duration
	for i := range c.Instances {
		if d := c.Instances[i].AdvertInterval; smallest == 0 || d < smallest {
			smallest = d
		}
	}
	return smallest
}

// ActiveDownInterval is the time without an advertisement after which the instance takes over: DownTimerAdverts times the
// advertisement interval, plus the skew time of its base priority (RFC 3768 section 6.1, RFC 9568 section 6.1).
func (in *Instance) ActiveDownInterval() time.Duration {
	unit := time.Second
	if in.Version == 3 {
		unit = in.AdvertInterval
	}
	skew := time.Duration(256-int(in.Priority)) * unit / 256
	return time.Duration(in.DownTimerAdverts)*in.AdvertInterval + skew
}
