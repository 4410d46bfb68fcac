package speaker

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hactl/had/internal/linux/rawsock"
	"github.com/hactl/had/vrrp/packet"
)

// advert is a message of another router.
func advert(t *testing.T, c Config, priority uint8, src, dst string, options packet.Options) rawsock.Datagram {
	t.Helper()
	d := rawsock.Datagram{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), TTL: 255, Index: eth0.Index}
	var err error
	if d.Payload, err = packet.Append(nil, c.advertisement(priority), d.Src, d.Dst, options); err != nil {
		t.Fatal(err)
	}
	return d
}

// deliver hands a message to the socket and waits until it has been handled.
func deliver(s *fakeSocket, d rawsock.Datagram) {
	s.receive <- d
	synctest.Wait()
}

func TestMessagesFindTheirRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, Options{})
		n.addLink(eth0, "192.0.2.1/24")
		one, two := n.mustOpen(n.config(51)), n.mustOpen(n.config(52))
		shared := n.last()
		group := packet.GroupIPv4.String()
		deliver(shared, advert(t, one.config, 100, "192.0.2.2", group, packet.Options{}))
		deliver(shared, advert(t, two.config, 0, "192.0.2.2", group, packet.Options{}))
		other := two.config
		other.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.99")}
		deliver(shared, advert(t, other, 7, "192.0.2.2", group, packet.Options{}))
		expectLog(t, n.takeLog(),
			"V51: priority 100 from 192.0.2.2, differs false",
			"V52: priority 0 from 192.0.2.2, differs false",
			"V52: priority 7 from 192.0.2.2, differs true")

		other.VRID = 77
		deliver(shared, advert(t, other, 7, "192.0.2.2", group, packet.Options{}))
		deliver(shared, rawsock.Datagram{Src: netip.MustParseAddr("192.0.2.2"), Dst: packet.GroupIPv4, Payload: []byte{0x31}})
		if got := n.hub.Unknown(); got != 2 {
			t.Errorf("%d messages for nobody, want 2", got)
		}
		deliver(shared, advert(t, one.config, 200, "192.0.2.1", group, packet.Options{})) // our own came back
		routed := advert(t, one.config, 100, "192.0.2.2", group, packet.Options{})
		routed.TTL = 254
		deliver(shared, routed)
		corrupt := advert(t, one.config, 100, "192.0.2.2", group, packet.Options{})
		corrupt.Payload[8]++
		deliver(shared, corrupt)
		expectLog(t, n.takeLog(), "V51: rejected from 192.0.2.2: ttl", "V51: rejected from 192.0.2.2: checksum")

		got := one.Counters()
		want := Counters{Received: 1, Own: 1}
		want.Verdicts[packet.OK], want.Verdicts[packet.TTL], want.Verdicts[packet.Checksum] = 1, 1, 1
		if got != want {
			t.Errorf("counters\n got %+v\nwant %+v", got, want)
		}
		if got := two.Counters(); got.Received != 2 || got.ReceivedZero != 1 || got.AddressList != 1 {
			t.Errorf("counters %+v", got)
		}
	})
}

func TestUnknownVirtualRoutersAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []Unknown
		n := newFakeNet(t, Options{OnUnknown: func(u Unknown) { told = append(told, u) }})
		n.addLink(eth0, "192.0.2.1/24")
		other := n.mustOpen(n.config(51)).config
		for _, vrid := range []uint8{77, 77, 78} {
			other.VRID = vrid
			deliver(n.last(), advert(t, other, 100, "192.0.2.2", packet.GroupIPv4.String(), packet.Options{}))
		}
		from := netip.MustParseAddr("192.0.2.2")
		want := []Unknown{{Interface: eth0.Name, VRID: 77, From: from}, {Interface: eth0.Name, VRID: 78, From: from}}
		if !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
		for i := range 2 * unknownKept { // forged
			src := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()
			deliver(n.last(), advert(t, other, 100, src, packet.GroupIPv4.String(), packet.Options{}))
		}
		if len(told) != unknownKept {
			t.Errorf("%d are remembered", len(told))
		}
	})
}

// A socket has taken more from the kernel than it has given when its last virtual router goes.
func TestWhatASocketGivesBehindItsLastUserIsNotUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []Unknown
		n := newFakeNet(t, Options{OnUnknown: func(u Unknown) { told = append(told, u) }})
		n.addLink(eth0, "192.0.2.1/24")
		s := n.mustOpen(n.config(51))
		shared := s.shared
		s.Close()
		if n.hub.check(shared, advert(t, s.config, 100, "192.0.2.2", packet.GroupIPv4.String(), packet.Options{})) != nil {
			t.Error("somebody is told")
		}
		if got := n.hub.Unknown(); got != 0 || len(told) != 0 {
			t.Errorf("%d messages for nobody, told %v", got, told)
		}
	})
}

func TestAdvertisementsAreSealedAndNoneCountsTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, Options{})
		n.addLink(eth0, "192.0.2.1/24")
		config := n.config(51)
		config.Seal = &packet.Seal{Keys: []packet.Key{{ID: 7, Secret: make([]byte, 32)}}, Active: 7, Window: 5 * time.Second,
			Sign: true, Require: true}
		s := n.mustOpen(config)
		for range 2 { // in one instant: the stamps differ all the same
			if err := s.Send(100); err != nil {
				t.Fatal(err)
			}
		}
		var stamps []packet.Stamp
		for _, sent := range n.last().sent {
			meta := packet.Meta{Src: sent.Src, Dst: sent.Dst, TTL: 255, Multicast: true, Wall: time.Now()}
			a, verdict := packet.Parse(sent.Payload, meta, config.expect(packet.Options{}))
			if verdict != packet.OK {
				t.Fatalf("what we send is not accepted: %v", verdict)
			}
			stamps = append(stamps, a.Stamp)
		}
		if len(stamps) != 2 || stamps[0] >= stamps[1] {
			t.Errorf("stamps %x", stamps)
		}
		d := advert(t, config, 100, "192.0.2.2", packet.GroupIPv4.String(), packet.Options{})
		deliver(n.last(), d)
		d.Payload = config.Seal.Append(d.Payload, d.Src, packet.StampAt(time.Now()))
		deliver(n.last(), d)
		deliver(n.last(), d)
		expectLog(t, n.takeLog(), "V51: rejected from 192.0.2.2: auth_hmac_missing", "V51: priority 100 from 192.0.2.2, differs false",
			"V51: rejected from 192.0.2.2: auth_hmac_replay")
	})
}

func TestUnicastRoutersAreToldApartByTheirPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, Options{})
		n.addLink(eth0, "192.0.2.1/24")
		one, two := n.config(51), n.config(51)
		two.Name = "other"
		one.Peers = []packet.Peer{{Addr: netip.MustParseAddr("192.0.2.2")}}
		two.Peers = []packet.Peer{{Addr: netip.MustParseAddr("192.0.2.3")}}
		n.mustOpen(one)
		n.mustOpen(two)
		for _, src := range []string{"192.0.2.3", "192.0.2.2", "192.0.2.4"} {
			deliver(n.last(), advert(t, one, 100, src, "192.0.2.1", packet.Options{}))
		}
		expectLog(t, n.takeLog(),
			"other: priority 100 from 192.0.2.3, differs false",
			"V51: priority 100 from 192.0.2.2, differs false",
			"V51: priority 100 from 192.0.2.4, differs false") // a stranger is taken unless CheckSource
	})
}

func TestOldUnicastChecksumIsAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, Options{})
		n.addLink(eth0, "192.0.2.1/24")
		config := n.config(51)
		config.Peers = []packet.Peer{{Addr: netip.MustParseAddr("192.0.2.2")}}
		s := n.mustOpen(config)
		old := packet.Options{OldUnicast: true}
		deliver(n.last(), advert(t, config, 100, "192.0.2.2", "192.0.2.1", old))
		expectLog(t, n.takeLog(), "V51: priority 100 from 192.0.2.2, differs false")
		if err := s.Send(1); err != nil {
			t.Fatal(err)
		}
		sent := n.last().sent[0]
		meta := packet.Meta{Src: sent.Src, Dst: sent.Dst, TTL: 255}
		if _, verdict := packet.Parse(sent.Payload, meta, config.expect(old)); verdict != packet.OK {
			t.Errorf("the answer is not of the old form: %v", verdict)
		}
	})
}

func TestReceivingGoesOnAfterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, Options{})
		n.addLink(eth0, "192.0.2.1/24")
		s := n.mustOpen(n.config(51))
		deliver(n.last(), rawsock.Datagram{}) // as empty as it can be
		deliver(n.last(), advert(t, s.config, 1, "192.0.2.2", "224.0.0.18", packet.Options{}))
		time.Sleep(time.Second)
		expectLog(t, n.takeLog(), "V51: priority 1 from 192.0.2.2, differs false")
	})
}
