package site

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hactl/had/internal/lab"
)

// The addresses of a site.
var (
	Subnet4 = netip.MustParsePrefix("10.77.0.0/24")
	Subnet6 = netip.MustParsePrefix("fd00:77::/64")
	VIP4    = netip.MustParseAddr("10.77.0.100")
	VIP6    = netip.MustParseAddr("fd00:77::100")
	Client4 = netip.MustParseAddr("10.77.0.200")
	Client6 = netip.MustParseAddr("fd00:77::200")
)

const (
	// askers is the number of addresses that the client asks under, so that answers can be told apart.
	askers = 32
	// Port is the cluster's TCP port; gossip uses the next one.
	Port = 7770
	// VRRP is the protocol's number.
	VRRP = 112
	// vrid4 is the VRID of the instance with the IPv4 addresses; that with the IPv6 addresses has the next one.
	vrid4 = 51
)

// Programs are the paths of what runs.
type Programs struct {
	Had, Hawitness, Hactl string
	// Keepalived, if set, runs on the directors instead of had, and there is no witness.
	Keepalived string
}

// Member is a node to be.
type Member struct {
	Name     string
	Address  netip.Addr
	Priority int // of a director's vrrp_instance
	Witness  bool
}

// prefixes returns the addresses of the member's host: its own, and an IPv6 address with the same last byte.
func (m Member) prefixes() []netip.Prefix {
	six := Subnet6.Addr().As16()
	four := m.Address.As4()
	six[15] = four[3]
	return []netip.Prefix{netip.PrefixFrom(m.Address, Subnet4.Bits()), netip.PrefixFrom(netip.AddrFrom16(six), Subnet6.Bits())}
}

// Trio is the typical cluster: two directors and a witness.
func Trio() []Member {
	return []Member{
		{Name: "lb1", Address: netip.MustParseAddr("10.77.0.1"), Priority: 150},
		{Name: "lb2", Address: netip.MustParseAddr("10.77.0.2"), Priority: 100},
		{Name: "w1", Address: netip.MustParseAddr("10.77.0.3"), Witness: true},
	}
}

// Plan says what to set up.
type Plan struct {
	Programs
	Dir     string // for the nodes' directories
	Members []Member
	// VIPs are the virtual addresses. Those of one family are in one vrrp_instance, named VI_4 or VI_6; if there are both
	// families a vrrp_sync_group VG joins the instances.
	VIPs []netip.Addr
	// Apart puts each virtual address into a vrrp_instance of its own, VI_1, VI_2 and so on, which are groups of their own.
	Apart bool
	// AdvertInterval is advert_int. Less than a second needs version 3.
	AdvertInterval time.Duration
	Version        int      // vrrp_version of the IPv4 instance; 0: the default
	Preempt        bool     // else nopreempt
	Cluster        []string // more statements for the cluster block
	Instance       []string // more statements for each vrrp_instance
	// Period is the time between two requests of the observer; 0: its usual one.
	Period time.Duration
}

// Group returns the name of the ownership group.
func (p *Plan) Group() string {
	switch four, six := p.families(); {
	case len(four) > 0 && len(six) > 0:
		return "VG"
	case len(six) > 0:
		return "VI_6"
	default:
		return "VI_4"
	}
}

func (p *Plan) families() (four, six []netip.Addr) {
	for _, vip := range p.VIPs {
		if vip.Is4() {
			four = append(four, vip)
		} else {
			six = append(six, vip)
		}
	}
	return four, six
}

// DownInterval is Active_Down_Interval of a director (RFC 9568 section 6.1): 3 * Active_Adver_Interval + Skew_Time, where
// Skew_Time is ((256 - Priority) * Active_Adver_Interval) / 256. In version 2 (RFC 3768) Skew_Time is the same fraction of a
// second, whatever the interval.
func (p *Plan) DownInterval(m Member) time.Duration {
	return 3*p.AdvertInterval + p.Skew(m)
}

// Skew is Skew_Time of a director.
func (p *Plan) Skew(m Member) time.Duration {
	skewed := p.AdvertInterval
	if p.Version != 3 {
		skewed = max(skewed, time.Second)
	}
	return time.Duration(256-m.Priority) * skewed / 256
}

// Configuration returns a node's keepalived.conf.
func (s *Site) Configuration(n *Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global_defs {\n    router_id %s\n", n.Name)
	if s.Version != 0 {
		fmt.Fprintf(&b, "    vrrp_version %d\n", s.Version)
	}
	b.WriteString("}\n")
	if s.Keepalived == "" {
		s.writeCluster(&b, n)
	}
	// A witness reads the same file; it takes no part in VRRP, but derives the lease from the intervals as the others do.
	if s.Apart {
		for i, vip := range s.VIPs {
			s.writeInstance(&b, n, fmt.Sprintf("VI_%d", i+1), vrid4+i, []netip.Addr{vip}, Subnet4.Bits())
		}
		return b.String()
	}
	four, six := s.families()
	if len(four) > 0 && len(six) > 0 {
		b.WriteString("\nvrrp_sync_group VG {\n    group {\n        VI_4\n        VI_6\n    }\n}\n")
	}
	if len(four) > 0 {
		s.writeInstance(&b, n, "VI_4", vrid4, four, Subnet4.Bits())
	}
	if len(six) > 0 {
		s.writeInstance(&b, n, "VI_6", vrid4+1, six, Subnet6.Bits())
	}
	return b.String()
}

func (s *Site) writeCluster(b *strings.Builder, n *Node) {
	fmt.Fprintf(b, "\ncluster {\n    name demo\n    node %s\n    key_file %s/cluster.key\n    data_dir %s\n    port %d\n",
		n.Name, n.dir, n.Data(), Port)
	for _, peer := range s.Members {
		witness := ""
		if peer.Witness {
			witness = "  witness"
		}
		fmt.Fprintf(b, "    peer %s { address %s%s }\n", peer.Name, peer.Address, witness)
	}
	for _, statement := range s.Cluster {
		fmt.Fprintf(b, "    %s\n", statement)
	}
	fmt.Fprintf(b, "    control_socket %s\n}\n", n.Socket())
}

func (s *Site) writeInstance(b *strings.Builder, n *Node, name string, vrid int, vips []netip.Addr, bits int) {
	fmt.Fprintf(b, "\nvrrp_instance %s {\n    state BACKUP\n", name)
	if !s.Preempt {
		b.WriteString("    nopreempt\n")
	}
	fmt.Fprintf(b, "    interface %s\n    virtual_router_id %d\n", lab.Interface, vrid)
	if !n.Witness {
		fmt.Fprintf(b, "    priority %d\n", n.Priority)
	}
	fmt.Fprintf(b, "    advert_int %g\n", s.AdvertInterval.Seconds())
	for _, statement := range s.Instance {
		fmt.Fprintf(b, "    %s\n", statement)
	}
	b.WriteString("    virtual_ipaddress {\n")
	for _, vip := range vips {
		fmt.Fprintf(b, "        %s/%d\n", vip, bits)
	}
	b.WriteString("    }\n}\n")
}
