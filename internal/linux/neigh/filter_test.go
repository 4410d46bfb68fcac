package neigh

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/hactl/had/internal/linux/arp"
	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/ndp"
)

var (
	ours      = ether.MAC{2, 0, 0, 0, 0, 1}
	stranger  = ether.MAC{2, 0, 0, 0, 0, 0x99}
	vip4      = netip.MustParseAddr("192.0.2.10")
	vip6      = netip.MustParseAddr("2001:db8::10")
	other4    = netip.MustParseAddr("192.0.2.77")
	other6    = netip.MustParseAddr("2001:db8::77")
	linkLocal = netip.MustParseAddr("fe80::99")
)

func arpFrame(t testing.TB, m arp.Message) []byte {
	t.Helper()
	frame, err := m.AppendFrame(nil, ether.Broadcast)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func ndFrame(t testing.TB, m ndp.Message) []byte {
	t.Helper()
	frame, err := m.AppendPacket(ether.Header{Dst: ours, Src: stranger, Type: ether.TypeIPv6}.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// frames are messages of a stranger with what they claim; no address: nothing.
func frames(t testing.TB) []struct {
	name  string
	frame []byte
	want  Claim
} {
	return []struct {
		name  string
		frame []byte
		want  Claim
	}{
		{"gratuitous request", arpFrame(t, arp.NewGratuitous(stranger, vip4)),
			Claim{Addr: vip4, MAC: stranger, Sender: stranger, Kind: GratuitousARP}},
		{"gratuitous reply",
			arpFrame(t, arp.Message{Operation: arp.Reply, SenderMAC: stranger, SenderIP: vip4, TargetIP: vip4}),
			Claim{Addr: vip4, MAC: stranger, Sender: stranger, Kind: GratuitousARP}},
		{"reply",
			arpFrame(t, arp.Message{Operation: arp.Reply, SenderMAC: stranger, SenderIP: vip4, TargetIP: other4}),
			Claim{Addr: vip4, MAC: stranger, Sender: stranger, Kind: ARPReply}},
		{"request for another address",
			arpFrame(t, arp.Message{Operation: arp.Request, SenderMAC: stranger, SenderIP: vip4, TargetIP: other4}),
			Claim{Addr: vip4, MAC: stranger, Sender: stranger, Kind: ARPRequest}},
		{"somebody asks for our address",
			arpFrame(t, arp.Message{Operation: arp.Request, SenderMAC: stranger, SenderIP: other4, TargetIP: vip4}), Claim{}},
		{"probe for our address", arpFrame(t, arp.NewProbe(stranger, vip4)), Claim{}},
		{"gratuitous request for another address", arpFrame(t, arp.NewGratuitous(stranger, other4)), Claim{}},
		{"unsolicited advertisement", ndFrame(t, ndp.NewUnsolicited(stranger, vip6, false)),
			Claim{Addr: vip6, MAC: stranger, Sender: stranger, Kind: NeighborAdvertisement}},
		{"answer without link-layer address", ndFrame(t,
			ndp.Message{Type: ndp.Advertisement, Src: linkLocal, Dst: other6, Target: vip6, Solicited: true}),
			Claim{Addr: vip6, MAC: stranger, Sender: stranger, Kind: NeighborAdvertisement}},
		{"solicitation from our address", ndFrame(t, ndp.NewProbe(stranger, vip6, other6)),
			Claim{Addr: vip6, MAC: stranger, Sender: stranger, Kind: NeighborSolicitation}},
		{"somebody asks for our IPv6 address", ndFrame(t, ndp.NewProbe(stranger, other6, vip6)), Claim{}},
		{"duplicate address detection for our address",
			ndFrame(t, ndp.NewProbe(stranger, netip.IPv6Unspecified(), vip6)), Claim{}},
		{"advertisement of another address", ndFrame(t, ndp.NewUnsolicited(stranger, other6, false)), Claim{}},
	}
}

func TestFilterPassesClaimsOnly(t *testing.T) {
	many := make([]netip.Addr, 600)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
	}
	filters := map[string]struct{ arp, nd []bpf.Instruction }{
		"one address":   {arpFilter([]netip.Addr{vip4}), ndFilter([]netip.Addr{vip6})},
		"600 addresses": {arpFilter(append(many, vip4)), ndFilter([]netip.Addr{linkLocal.Next(), vip6})},
	}
	for name, filter := range filters {
		for _, test := range frames(t) {
			t.Run(name+"/"+test.name, func(t *testing.T) {
				program := filter.arp
				if test.frame[12] == 0x86 {
					program = filter.nd
				}
				vm, err := bpf.NewVM(program)
				if err != nil {
					t.Fatal(err)
				}
				length, err := vm.Run(test.frame)
				if err != nil {
					t.Fatal(err)
				}
				if passed := length > 0; passed != test.want.Addr.IsValid() {
					t.Errorf("passed: %v", passed)
				}
			})
		}
	}
}

func TestFilterFitsTheKernelsLimit(t *testing.T) {
	const kernelMost = 4096
	for _, n := range []int{0, 1, filterAddresses, filterAddresses + 1, 10 * filterAddresses} {
		addrs := make([]netip.Addr, n)
		for i := range addrs {
			addrs[i] = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		}
		for kind, program := range map[string][]bpf.Instruction{"arp": arpFilter(addrs), "nd": ndFilter(addrs)} {
			if len(program) > kernelMost {
				t.Errorf("%s filter of %d addresses has %d instructions", kind, n, len(program))
			}
			if _, err := bpf.NewVM(program); err != nil {
				t.Errorf("%s filter of %d addresses: %v", kind, n, err)
			}
		}
	}
}

func TestClaimsOfFrames(t *testing.T) {
	for _, test := range frames(t) {
		t.Run(test.name, func(t *testing.T) {
			got, ok := parseClaim(test.frame)
			watched := got.Addr == vip4 || got.Addr == vip6
			switch {
			case !test.want.Addr.IsValid() && ok && watched:
				t.Errorf("claim %+v", got)
			case test.want.Addr.IsValid() && (!ok || got != test.want):
				t.Errorf("claim %+v, %v\nwant  %+v", got, ok, test.want)
			}
		})
	}
}

func TestKindsHaveNames(t *testing.T) {
	for kind := GratuitousARP; kind <= NeighborSolicitation; kind++ {
		if got := kind.String(); got == fmt.Sprintf("kind(%d)", kind) {
			t.Errorf("kind %d has no name", kind)
		}
	}
}

// Whatever arrives, parseClaim does not panic, and a claim names an address and a station.
func FuzzParseClaim(f *testing.F) {
	for _, test := range frames(f) {
		f.Add(test.frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if c, ok := parseClaim(frame); ok && (!c.Addr.IsValid() || c.Kind == 0) {
			t.Errorf("%x gave %+v", frame, c)
		}
	})
}
