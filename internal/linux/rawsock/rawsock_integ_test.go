//go:build integ

package rawsock_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/nettest"
	"github.com/hactl/had/internal/linux/rawsock"
)

func TestMain(m *testing.M) { nettest.Main(m) }

var (
	group4 = netip.MustParseAddr("224.0.0.18")
	group6 = netip.MustParseAddr("ff02::12")
	ours4  = netip.MustParseAddr("192.0.2.1")
	peer4  = netip.MustParseAddr("192.0.2.2")
	ours6  = netip.MustParseAddr("2001:db8::1")
	peer6  = netip.MustParseAddr("2001:db8::2")

	// message is a version 3 advertisement whose checksum the kernel fills in over IPv6.
	message = []byte{0x31, 51, 100, 1, 0, 100, 0, 0, 192, 0, 2, 10}
)

type lan struct {
	t    *testing.T
	name string
	host *nettest.Host
}

func setup(t *testing.T) *lan {
	t.Helper()
	l := &lan{t: t, name: nettest.Name("r"), host: nettest.NewHost(t)}
	l.host.Connect(l.name, "eth0")
	for prefix, add := range map[string]func(string){
		"192.0.2.1/24":   func(p string) { nettest.AddAddress(t, l.name, p) },
		"2001:db8::1/64": func(p string) { nettest.AddAddress(t, l.name, p) },
		"192.0.2.2/24":   func(p string) { l.host.AddAddress("eth0", p) },
		"2001:db8::2/64": func(p string) { l.host.AddAddress("eth0", p) },
	} {
		add(prefix)
	}
	return l
}

func (l *lan) config(ipv6 bool, group netip.Addr, ttl int) rawsock.Config {
	return rawsock.Config{
		IPv6: ipv6, Interface: l.name, Index: nettest.Link(l.t, l.name).Index, Group: group, TTL: ttl,
	}
}

func (l *lan) open(config rawsock.Config) *rawsock.Socket {
	l.t.Helper()
	s, err := rawsock.Open(config)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = s.Close() })
	return s
}

// openThere opens a socket on the host.
func (l *lan) openThere(config rawsock.Config) (s *rawsock.Socket) {
	l.t.Helper()
	config.Interface, config.Index = "eth0", l.host.Link("eth0").Index
	var err error
	l.host.Do(func() { s, err = rawsock.Open(config) })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = s.Close() })
	return s
}

// datagrams returns what a socket receives, until it is closed.
func datagrams(t *testing.T, s *rawsock.Socket) <-chan rawsock.Datagram {
	received := make(chan rawsock.Datagram, 100)
	go func() {
		for {
			d, err := s.Receive()
			if errors.Is(err, os.ErrClosed) {
				return
			}
			if nettest.Check(t, err) {
				d.Payload = bytes.Clone(d.Payload)
				received <- d
			}
		}
	}()
	return received
}

func next(t *testing.T, received <-chan rawsock.Datagram) rawsock.Datagram {
	t.Helper()
	select {
	case d := <-received:
		return d
	case <-time.After(2 * time.Second):
		t.Fatal("nothing received")
	}
	return rawsock.Datagram{}
}

func nothing(t *testing.T, received <-chan rawsock.Datagram) {
	t.Helper()
	select {
	case d := <-received:
		t.Errorf("received %+v", d)
	case <-time.After(100 * time.Millisecond):
	}
}

func TestIPv4OnTheWire(t *testing.T) {
	l := setup(t)
	frames := l.host.Sniff("eth0", ether.TypeIPv4)
	isVRRP := func(f []byte) bool { return len(f) > 34 && f[23] == rawsock.Protocol }
	mac := nettest.Link(t, l.name).MAC
	s := l.open(l.config(false, group4, 255))
	for i := 1; i <= 2; i++ {
		// The source need not be ours.
		nettest.Check(t, s.Send(netip.MustParseAddr("198.51.100.7"), group4, message))
		got := nettest.Next(t, frames, time.Second, isVRRP).Data
		want := "01005e000012" + hex.EncodeToString(mac[:]) + "0800" +
			"45c0" + "0020" + "000" + string(rune('0'+i)) + "0000" + "ff70" + hex.EncodeToString(got[24:26]) +
			"c6336407" + "e0000012" + hex.EncodeToString(message)
		if hex.EncodeToString(got) != want {
			t.Errorf("frame\n got %x\nwant %s", got, want)
		}
		if sum := headerSum(got[14:34]); sum != 0xffff {
			t.Errorf("header checksum is wrong: sum %#x", sum)
		}
	}
	unicast := l.open(l.config(false, netip.Addr{}, 7))
	nettest.Check(t, unicast.Send(ours4, peer4, message))
	got := nettest.Next(t, frames, time.Second, isVRRP).Data
	peerMAC := l.host.Link("eth0").MAC
	if !bytes.Equal(got[:6], peerMAC[:]) || got[15] != 0xc0 || got[20]|got[21] != 0 || got[22] != 7 {
		t.Errorf("unicast frame %x", got)
	}
}

func headerSum(header []byte) uint32 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(header[i])<<8 + uint32(header[i+1])
	}
	return sum&0xffff + sum>>16
}

func TestIPv6OnTheWire(t *testing.T) {
	l := setup(t)
	src := nettest.LinkLocal(t, l.name)
	frames := l.host.Sniff("eth0", ether.TypeIPv6)
	isVRRP := func(f []byte) bool { return len(f) > 54 && f[20] == rawsock.Protocol }
	for _, test := range []struct {
		name     string
		group    netip.Addr
		ttl      int
		src, dst netip.Addr
		hopLimit byte
	}{
		{"multicast", group6, 255, src, group6, 255},
		{"unicast with a hop limit", netip.Addr{}, 33, ours6, peer6, 33},
		{"unicast with the kernel's hop limit", netip.Addr{}, 0, ours6, peer6, 64},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := l.open(l.config(true, test.group, test.ttl))
			nettest.Check(t, s.Send(test.src, test.dst, message))
			got := nettest.Next(t, frames, 2*time.Second, isVRRP).Data[14:]
			if got[0] != 0x6c || got[1]&0xf0 != 0 {
				t.Errorf("traffic class of %x, want 0xc0", got[:4])
			}
			if got[7] != test.hopLimit {
				t.Errorf("hop limit %d, want %d", got[7], test.hopLimit)
			}
			if a, _ := netip.AddrFromSlice(got[8:24]); a != test.src {
				t.Errorf("source %v, want %v", a, test.src)
			}
			if a, _ := netip.AddrFromSlice(got[24:40]); a != test.dst {
				t.Errorf("destination %v, want %v", a, test.dst)
			}
			if got[46] == 0 && got[47] == 0 {
				t.Error("the kernel computed no checksum")
			}
		})
	}
}

func TestReceive(t *testing.T) {
	l := setup(t)
	src6 := nettest.LinkLocal(t, l.name)
	var there6 netip.Addr
	l.host.Do(func() { there6 = nettest.LinkLocal(t, "eth0") })
	for _, test := range []struct {
		name           string
		ipv6           bool
		group          netip.Addr
		from, to, here netip.Addr
		ttl            int
	}{
		{"IPv4 multicast", false, group4, peer4, group4, ours4, 255},
		{"IPv4 unicast", false, netip.Addr{}, peer4, ours4, ours4, 77},
		{"IPv6 multicast", true, group6, there6, group6, src6, 255},
		{"IPv6 unicast", true, netip.Addr{}, peer6, ours6, ours6, 77},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := l.config(test.ipv6, test.group, test.ttl)
			here, there := l.open(config), l.openThere(config)
			received, own := datagrams(t, here), datagrams(t, there)
			nettest.Check(t, there.Send(test.from, test.to, message))
			got := next(t, received)
			if test.ipv6 {
				got.Payload[6], got.Payload[7] = 0, 0
			}
			if got.Src != test.from || got.Dst != test.to || got.TTL != test.ttl || got.Index != config.Index ||
				!bytes.Equal(got.Payload, message) {
				t.Errorf("received %+v", got)
			}
			nothing(t, own) // the sender does not hear itself
			nettest.Check(t, here.Close())
			if err := here.Send(test.here, test.to, message); !errors.Is(err, os.ErrClosed) {
				t.Errorf("Send on a closed socket: %v", err)
			}
		})
	}
}

// Messages that wait when they are asked for come one by one and in order, each with what is its own, however many they are.
func TestReceiveWhatHasCollected(t *testing.T) {
	l := setup(t)
	here, there := l.open(l.config(false, group4, 255)), l.openThere(l.config(false, group4, 255))
	const many = 50
	payload := func(i int) []byte { return append([]byte{byte(i)}, message[:i%len(message)]...) }
	for i := range many {
		nettest.Check(t, there.Send(peer4, group4, payload(i)))
	}
	time.Sleep(100 * time.Millisecond)
	received := datagrams(t, here)
	for i := range many {
		if d := next(t, received); d.Src != peer4 || d.Dst != group4 || d.TTL != 255 || !bytes.Equal(d.Payload, payload(i)) {
			t.Fatalf("message %d: %+v", i, d)
		}
	}
	nothing(t, received)
}

func TestSocketsHearTheirOwnGroupOnly(t *testing.T) {
	l := setup(t)
	otherGroup4, otherGroup6 := netip.MustParseAddr("224.0.0.77"), netip.MustParseAddr("ff02::77")
	var there6 netip.Addr
	l.host.Do(func() { there6 = nettest.LinkLocal(t, "eth0") })
	for _, test := range []struct {
		ipv6               bool
		group, other, from netip.Addr
	}{{false, group4, otherGroup4, peer4}, {true, group6, otherGroup6, there6}} {
		first := datagrams(t, l.open(l.config(test.ipv6, test.group, 255)))
		second := datagrams(t, l.open(l.config(test.ipv6, test.other, 255)))
		unicast := datagrams(t, l.open(l.config(test.ipv6, netip.Addr{}, 255)))
		there := l.openThere(l.config(test.ipv6, test.group, 255))
		nettest.Check(t, there.Send(test.from, test.group, message))
		if d := next(t, first); d.Dst != test.group {
			t.Errorf("received %+v", d)
		}
		nothing(t, second)
		nothing(t, unicast)
	}
}

func TestSocketsHearTheirOwnInterfaceOnly(t *testing.T) {
	l := setup(t)
	second := nettest.NewHost(t)
	name := nettest.Name("r")
	second.Connect(name, "eth0")
	second.AddAddress("eth0", "192.0.2.3/24")
	other := datagrams(t, l.open(rawsock.Config{
		Interface: name, Index: nettest.Link(t, name).Index, Group: group4, TTL: 255,
	}))
	first := datagrams(t, l.open(l.config(false, group4, 255)))
	nettest.Check(t, l.openThere(l.config(false, group4, 255)).Send(peer4, group4, message))
	next(t, first)
	nothing(t, other)
}

func TestWrongIPv6ChecksumIsNotDelivered(t *testing.T) {
	l := setup(t)
	received := datagrams(t, l.open(l.config(true, group6, 255)))
	there := l.openThere(l.config(true, group6, 255))
	var there6 netip.Addr
	l.host.Do(func() { there6 = nettest.LinkLocal(t, "eth0") })

	nettest.Check(t, there.Send(there6, group6, message))
	good := next(t, received)
	frame := ether.Header{
		Dst: ether.MAC{0x33, 0x33, 0, 0, 0, 0x12}, Src: l.host.Link("eth0").MAC, Type: ether.TypeIPv6,
	}.Append(nil)
	frame = append(frame, 0x6c, 0, 0, 0, 0, byte(len(good.Payload)), rawsock.Protocol, 255)
	frame = append(frame, there6.AsSlice()...)
	frame = append(frame, group6.AsSlice()...)
	frame = append(frame, good.Payload...)
	l.host.Inject("eth0", frame)
	next(t, received)
	frame[len(frame)-1]++
	l.host.Inject("eth0", frame)
	nothing(t, received)
}

func TestOpenOnAnInterfaceThatIsGone(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		if s, err := rawsock.Open(rawsock.Config{IPv6: ipv6, Interface: "gone", Index: 12345, TTL: 255}); err == nil {
			t.Errorf("opened (IPv6: %v)", ipv6)
			nettest.Check(t, s.Close())
		} else {
			t.Log(err)
		}
	}
}

func TestCloseEndsReceive(t *testing.T) {
	l := setup(t)
	s := l.open(l.config(false, group4, 255))
	ended := make(chan error, 1)
	go func() {
		_, err := s.Receive()
		ended <- err
	}()
	time.Sleep(20 * time.Millisecond)
	nettest.Check(t, s.Close())
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("Receive: %v", err)
		}
	case <-time.After(time.Second):
		t.Error("Receive goes on")
	}
}
