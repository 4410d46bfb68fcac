package ipvs

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"

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
		b := attributes{}.destination(key, &d)
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
		if got := decodeServiceKey(inner(serviceAttributes(key, nil), attributeService)); got != key {
			t.Errorf("%+v is read as %+v", key, got)
		}
	}
}

// A service that is described to the kernel is the one that is read.
func TestServices(t *testing.T) {
	key := lvs.ServiceKey{Family: lvs.IPv4, Protocol: lvs.TCP, Address: netip.MustParseAddrPort("192.0.2.1:80")}
	for _, s := range []lvs.Service{
		{Scheduler: "rr"},
		{Scheduler: "sh", Flags: lvs.SchedulerFlags{First: true, Third: true}, OnePacket: true},
		{Scheduler: "wlc", Persistence: lvs.Persistence{TimeoutSeconds: 50, PrefixLen: 24, Engine: "sip"}},
	} {
		if got := decodeService(inner(serviceAttributes(key, &s), attributeService)); got != s {
			t.Errorf("%+v is read as %+v", s, got)
		}
	}
}

func TestNetmask(t *testing.T) {
	mask := func(f lvs.Family, p lvs.Persistence) []byte {
		return binary.NativeEndian.AppendUint32(nil, netmask(f, p))
	}
	for length := range uint8(129) {
		p := lvs.Persistence{TimeoutSeconds: 1, PrefixLen: length}
		if got := prefixLen(lvs.IPv6, mask(lvs.IPv6, p)); got != length {
			t.Errorf("IPv6 /%d is read as /%d", length, got)
		}
		if got := prefixLen(lvs.IPv4, mask(lvs.IPv4, p)); length <= 32 && got != length {
			t.Errorf("IPv4 /%d is read as /%d", length, got)
		}
	}
	if got := prefixLen(lvs.IPv4, []byte{255, 0, 255, 0}); got != foreignPrefix {
		t.Errorf("a mask that is no prefix is read as /%d", got)
	}
}

// Whatever the kernel says, it is read without a panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(attributes{}.destination(netip.MustParseAddrPort("10.0.0.1:80"), &lvs.Destination{Weight: 1})))
	f.Add([]byte(serviceAttributes(lvs.ServiceKey{Family: lvs.IPv6, Address: netip.MustParseAddrPort("[2001:db8::1]:80")}, &lvs.Service{Scheduler: "rr"})))
	f.Fuzz(func(_ *testing.T, b []byte) {
		decodeServiceKey(b)
		decodeService(b)
		decodeDestinationKey(lvs.IPv6, b)
		decodeDestination(b)
		decodeTraffic(b)
		decodeDaemon(b)
	})
}
