package ipvs

import (
	"math"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"

	"github.com/hactl/had/lvs"
)

// A destination that is described to the kernel is the one that is read, whatever it is.
func TestDestinationAttributes(t *testing.T) {
	key := netip.MustParseAddrPort("[fd01::2]:443")
	for _, d := range []lvs.Destination{
		{},
		{Weight: lvs.MaxWeight, Upper: 9, Lower: 8},
		{Forwarding: lvs.Forwarding{Method: lvs.DirectRoute}},
		{Forwarding: lvs.Forwarding{Method: lvs.Tunnel}},
		{Forwarding: lvs.Forwarding{Method: lvs.Tunnel, Type: lvs.GUE, Port: 6080, Checksum: lvs.RemoteChecksum}},
		{Forwarding: lvs.Forwarding{Method: lvs.Tunnel, Type: lvs.GRE, Checksum: lvs.Checksum}},
	} {
		b := destinationAttributes(key, &d).Serialize()[4:]
		if got := decodeDestination(b); got != d {
			t.Errorf("%+v is read as %+v", d, got)
		}
		if got := decodeDestinationKey(lvs.IPv4, b); got != key {
			t.Errorf("%v is read as %v", key, got)
		}
	}
}

func TestServiceAttributes(t *testing.T) {
	for _, key := range []lvs.ServiceKey{
		{Family: lvs.IPv4, Protocol: lvs.UDP, Address: netip.MustParseAddrPort("192.0.2.1:53")},
		{Family: lvs.IPv6, Protocol: lvs.SCTP, Address: netip.MustParseAddrPort("[2001:db8::]:0")},
		{Family: lvs.IPv6, Mark: math.MaxUint32},
	} {
		if got := decodeServiceKey(serviceAttributes(key).Serialize()[4:]); got != key {
			t.Errorf("%+v is read as %+v", key, got)
		}
	}
}

func TestNetmask(t *testing.T) {
	for length := range uint8(129) {
		p := lvs.Persistence{TimeoutSeconds: 1, PrefixLen: length}
		if got := prefixLen(lvs.IPv6, nl.Uint32Attr(netmask(lvs.IPv6, p))); got != length {
			t.Errorf("IPv6 /%d is read as /%d", length, got)
		}
		if got := prefixLen(lvs.IPv4, nl.Uint32Attr(netmask(lvs.IPv4, p))); length <= 32 && got != length {
			t.Errorf("IPv4 /%d is read as /%d", length, got)
		}
	}
	if got := prefixLen(lvs.IPv4, []byte{255, 0, 255, 0}); got != foreignPrefix {
		t.Errorf("a mask that is no prefix is read as /%d", got)
	}
}

// Whatever the kernel says, it is read without a panic.
func FuzzDecode(f *testing.F) {
	f.Add(destinationAttributes(netip.MustParseAddrPort("10.0.0.1:80"), &lvs.Destination{Weight: 1}).Serialize())
	f.Add(serviceAttributes(lvs.ServiceKey{Family: lvs.IPv6, Address: netip.MustParseAddrPort("[2001:db8::1]:80")}).Serialize())
	f.Fuzz(func(_ *testing.T, b []byte) {
		decodeServiceKey(b)
		decodeService(b)
		decodeDestinationKey(lvs.IPv6, b)
		decodeDestination(b)
		decodeTraffic(b)
		decodeDaemon(b)
	})
}
