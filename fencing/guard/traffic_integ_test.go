//go:build integ

package guard

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/fencing"
)

// asOwner runs check with the group shut, open, and shut again.
func asOwner(t *testing.T, g *NFTables, check func(open bool)) {
	t.Helper()
	check(false)
	mustArm(t, g, Lease{Group: group, Until: g.clock().Add(time.Minute), First: true})
	check(true)
	if err := g.Shut([]string{group}); err != nil {
		t.Fatal(err)
	}
	check(false)
}

func TestAdvertisementsLeaveOnlyUnderTheLease(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	for _, family := range []struct {
		name     string
		domain   int
		from, to unix.Sockaddr
	}{
		{"IPv4", unix.AF_INET, &unix.SockaddrInet4{Addr: machine4.As4()}, &unix.SockaddrInet4{Addr: prober4.As4()}},
		{"IPv6", unix.AF_INET6, &unix.SockaddrInet6{Addr: machine6.As16()}, &unix.SockaddrInet6{Addr: prober6.As16()}},
	} {
		var sender, receiver int
		open := func(ns netns.NsHandle, address unix.Sockaddr) (fd int) {
			in(t, ns, func() (err error) {
				if fd, err = unix.Socket(family.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, vrrpProtocol); err != nil {
					return err
				}
				return unix.Bind(fd, address)
			})
			t.Cleanup(func() { unix.Close(fd) })
			return fd
		}
		sender, receiver = open(l.machine, family.from), open(l.prober, family.to)
		arrives := func(vrid, priority byte, expected bool) bool {
			timeout := unix.NsecToTimeval(int64(patience(expected)))
			if err := unix.SetsockoptTimeval(receiver, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
				t.Fatal(err)
			}
			advert := []byte{0x31, vrid, priority, 1, 0, 100, 0, 0}
			if err := unix.Sendto(sender, advert, 0, family.to); err != nil {
				if !errors.Is(err, unix.EPERM) {
					t.Fatal(err)
				}
				return false
			}
			var buf [128]byte
			n, _, err := unix.Recvfrom(receiver, buf[:], 0)
			return err == nil && n > 0
		}
		asOwner(t, g, func(open bool) {
			for _, test := range []struct {
				vrid, priority byte
				want           bool
			}{{vrid, 100, open}, {vrid, 255, open}, {vrid, 1, open}, {vrid, 0, true}, {vrid + 1, 100, true}} {
				if got := arrives(test.vrid, test.priority, test.want); got != test.want {
					t.Errorf("%s: VRID %d priority %d, group open %v: arrives %v", family.name, test.vrid, test.priority, open, got)
				}
			}
		})
	}
}

// udp opens a socket in a namespace. The address may be one that the namespace does not have.
func udp(t *testing.T, ns netns.NsHandle, from netip.AddrPort) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	in(t, ns, func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(from))
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

// patience is how long a packet that should arrive may take, and how long one that should not is waited for.
func patience(expected bool) time.Duration {
	if expected {
		return 2 * time.Second
	}
	return 30 * time.Millisecond
}

// delivers tells whether a datagram gets from one socket to an address where another listens.
func delivers(t *testing.T, from *net.UDPConn, address netip.AddrPort, to *net.UDPConn, expected bool) bool {
	t.Helper()
	if _, err := from.WriteToUDPAddrPort([]byte("x"), address); err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
	if err := to.SetReadDeadline(time.Now().Add(patience(expected))); err != nil {
		t.Fatal(err)
	}
	var buf [16]byte
	_, _, err := to.ReadFromUDPAddrPort(buf[:])
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

func TestPacketsToAndFromTheAddress(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	in(t, l.prober, func() error {
		return errors.Join(addNeighbour("eth0", vip4, machineMAC), addNeighbour("eth0", vip6, machineMAC))
	})
	for _, test := range []struct{ vip, machine, prober netip.Addr }{{vip4, machine4, prober4}, {vip6, machine6, prober6}} {
		onVIP := udp(t, l.machine, netip.AddrPortFrom(test.vip, 7000))
		onMachine := udp(t, l.machine, netip.AddrPortFrom(test.machine, 7001))
		client := udp(t, l.prober, netip.AddrPortFrom(test.prober, 7002))
		local := udp(t, l.machine, netip.AddrPortFrom(test.machine, 7003))
		asOwner(t, g, func(open bool) {
			if got := delivers(t, client, netip.AddrPortFrom(test.vip, 7000), onVIP, open); got != open {
				t.Errorf("%v, group open %v: packet to it is delivered: %v", test.vip, open, got)
			}
			if got := delivers(t, local, netip.AddrPortFrom(test.vip, 7000), onVIP, open); got != open {
				t.Errorf("%v, group open %v: packet to it from its own machine is delivered: %v", test.vip, open, got)
			}
			if got := delivers(t, onVIP, netip.AddrPortFrom(test.prober, 7002), client, open); got != open {
				t.Errorf("%v, group open %v: packet from it arrives: %v", test.vip, open, got)
			}
			if !delivers(t, client, netip.AddrPortFrom(test.machine, 7001), onMachine, true) ||
				!delivers(t, onMachine, netip.AddrPortFrom(test.prober, 7002), client, true) {
				t.Errorf("%v, group open %v: other traffic suffers", test.machine, open)
			}
		})
	}
}

// DNAT and SNAT hide the address from the hooks "input" and "output".
func TestTranslatedPackets(t *testing.T) {
	l := newLAN(t)
	g := installed(t, l, nil)
	nat := stranger(t, l)
	table := nat.AddTable(&nftables.Table{Name: "nat", Family: nftables.TableFamilyIPv4})
	translate := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority, offset uint32,
		match, to netip.Addr, kind expr.NATType) {
		chain := nat.AddChain(&nftables.Chain{
			Table: table, Name: name, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: priority,
		})
		nat.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: match.AsSlice()},
			&expr.Immediate{Register: 1, Data: to.AsSlice()},
			&expr.NAT{Type: kind, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
		}})
	}
	translate("pre", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, ipv4Destination, vip4, machine4,
		expr.NATTypeDestNAT)
	inside := netip.MustParseAddr("10.9.0.7")
	translate("post", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, ipv4Source, inside, vip4,
		expr.NATTypeSourceNAT)
	if err := nat.Flush(); err != nil {
		t.Fatal(err)
	}
	in(t, l.machine, func() error { return addAddress("eth0", inside, 32) })
	in(t, l.prober, func() error { return addNeighbour("eth0", vip4, machineMAC) })
	client := udp(t, l.prober, netip.AddrPortFrom(prober4, 7002))
	port := uint16(7100)
	asOwner(t, g, func(open bool) {
		port++ // a new connection each time, since an established one remembers its translation
		server := udp(t, l.machine, netip.AddrPortFrom(machine4, port))
		if got := delivers(t, client, netip.AddrPortFrom(vip4, port), server, open); got != open {
			t.Errorf("group open %v: translated packet is delivered: %v", open, got)
		}
		from := udp(t, l.machine, netip.AddrPortFrom(inside, port))
		if got := delivers(t, from, netip.AddrPortFrom(prober4, 7002), client, open); got != open {
			t.Errorf("group open %v: packet translated to the address arrives: %v", open, got)
		}
	})
}

// A standby that routes, for example for its containers, must not keep them from the owner.
func TestStandbyRoutesToTheOwner(t *testing.T) {
	l := newLAN(t) // the prober plays the owner
	installed(t, l, nil)
	container := newNamespace(t)
	container4, container6 := netip.MustParseAddr("10.8.0.2"), netip.MustParseAddr("fd00:8::2")
	in(t, l.machine, func() error {
		err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "inside"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(container),
		})
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(
			netlink.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{IP: vip4.AsSlice(), Mask: net.CIDRMask(32, 32)}}),
			netlink.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{IP: vip6.AsSlice(), Mask: net.CIDRMask(128, 128)}}),
			setUp("inside", netip.MustParseAddr("10.8.0.1"), netip.MustParseAddr("fd00:8::1")),
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0),
			addNeighbour("eth0", vip4, proberMAC), addNeighbour("eth0", vip6, proberMAC))
	})
	route := func(name string, to, via string) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		_, network, err := net.ParseCIDR(to)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: network, Gw: net.ParseIP(via)})
	}
	in(t, container, func() error {
		return errors.Join(setUp("eth0", container4, container6),
			route("eth0", "10.9.0.0/24", "10.8.0.1"), route("eth0", "fd00:9::/64", "fd00:8::1"))
	})
	in(t, l.prober, func() error {
		return errors.Join(addAddress("eth0", vip4, 32), addAddress("eth0", vip6, 128),
			route("eth0", "10.8.0.0/24", "10.9.0.1"), route("eth0", "fd00:8::/64", "fd00:9::1"))
	})
	for _, a := range []struct{ vip, container netip.Addr }{{vip4, container4}, {vip6, container6}} {
		onVIP := udp(t, l.prober, netip.AddrPortFrom(a.vip, 7000))
		client := udp(t, container, netip.AddrPortFrom(a.container, 7001))
		if !delivers(t, client, netip.AddrPortFrom(a.vip, 7000), onVIP, true) {
			t.Errorf("%v: packet to the owner is not routed", a.vip)
		}
		if !delivers(t, onVIP, netip.AddrPortFrom(a.container, 7001), client, true) {
			t.Errorf("%v: packet from the owner is not routed", a.vip)
		}
	}
}

// With a virtual MAC address the addresses sit on a macvlan.
func TestMacvlan(t *testing.T) {
	l := newLAN(t)
	vmac := net.HardwareAddr{0, 0, 0x5e, 0, 1, vrid}
	v4, v6 := netip.MustParseAddr("10.9.0.101"), netip.MustParseAddr("fd00:9::101")
	in(t, l.machine, func() error {
		parent, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		err = netlink.LinkAdd(&netlink.Macvlan{
			LinkAttrs: netlink.LinkAttrs{Name: "vrrp.51", ParentIndex: parent.Attrs().Index, HardwareAddr: vmac},
			Mode:      netlink.MACVLAN_MODE_PRIVATE,
		})
		if err != nil {
			return err
		}
		return errors.Join(setUp("vrrp.51"), addAddress("vrrp.51", v4, 32), addAddress("vrrp.51", v6, 128),
			os.WriteFile("/proc/sys/net/ipv4/conf/vrrp.51/accept_local", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("0"), 0),
			os.WriteFile("/proc/sys/net/ipv4/conf/vrrp.51/rp_filter", []byte("0"), 0))
	})
	g := openGuard(t, l, nil)
	spec := Spec{Groups: []fencing.GuardedGroup{{
		Name: group, Addresses: []netip.Addr{v4, v6}, VMACInterfaces: []string{"vrrp.51"},
	}}}
	if err := g.Install(spec); err != nil {
		t.Fatal(err)
	}
	in(t, l.machine, func() error { return forwardBy("vrrp.51", beyond) })
	in(t, l.prober, func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: netlink.NewIPNet(beyond.AsSlice()), Gw: machine4.AsSlice()})
	})
	fromVMAC := sniff(t, l, vmac)
	asOwner(t, g, func(open bool) {
		p := startProberFor(t, l, v4, v6, vmac)
		from := g.clock()
		p.observe()
		to := g.clock()
		results := p.results()
		if open {
			mustAnswer(t, results, from, to)
		} else {
			mustBeSilent(t, results, from, to)
		}
		fromVMAC()
		in(t, l.machine, func() error { return joinGroup("vrrp.51") }) // the kernel reports membership by itself
		time.Sleep(20 * time.Millisecond)
		if frames := fromVMAC(); (frames > 0) != open {
			t.Errorf("group open %v: %d frames with the virtual MAC address", open, frames)
		}
		in(t, l.prober, func() error { return sendTo(beyond) }) // the kernel forwards it
		time.Sleep(20 * time.Millisecond)
		if frames := fromVMAC(); (frames > 0) != open {
			t.Errorf("group open %v: %d forwarded frames with the virtual MAC address", open, frames)
		}
	})
}

// beyond is an address that is reached through an interface with a virtual MAC address.
var beyond = netip.MustParseAddr("198.51.100.1")

// forwardBy makes the kernel forward what is for an address by an interface, to the prober.
func forwardBy(name string, to netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
		netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: netlink.NewIPNet(to.AsSlice()), Scope: netlink.SCOPE_LINK}),
		netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: to.AsSlice(), HardwareAddr: proberMAC,
			State: netlink.NUD_PERMANENT}))
}

// sendTo sends a datagram to an address.
func sendTo(to netip.Addr) error {
	conn, err := net.Dial("udp", netip.AddrPortFrom(to, 9).String())
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte("x"))
	return errors.Join(err, conn.Close())
}

// joinGroup makes the kernel send an IGMP report on an interface.
func joinGroup(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{
		Multiaddr: [4]byte{224, 0, 9, 9}, Ifindex: int32(link.Attrs().Index),
	})
}

// sniff returns a function that counts the frames of a source address that have reached the prober since the last call.
func sniff(t *testing.T, l lan, mac net.HardwareAddr) func() int {
	t.Helper()
	var fd int
	in(t, l.prober, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
		return err
	})
	t.Cleanup(func() { unix.Close(fd) })
	return func() int {
		frames := 0
		var f [2048]byte
		for {
			n, err := unix.Read(fd, f[:])
			if err != nil {
				return frames
			}
			if n > 12 && net.HardwareAddr(f[6:12]).String() == mac.String() {
				frames++
			}
		}
	}
}

// The same link-local address can be a virtual IP of different groups on different links.
func TestLinkLocalAddresses(t *testing.T) {
	first := newLAN(t)
	second := lan{machine: first.machine, prober: newNamespace(t)}
	in(t, first.machine, func() error {
		err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth1", HardwareAddr: machineMAC}, PeerName: "eth0",
			PeerHardwareAddr: proberMAC, PeerNamespace: netlink.NsFd(second.prober),
		})
		if err != nil {
			return err
		}
		return setUp("eth1")
	})
	asker := netip.MustParseAddr("fe80::2")
	linkLocal := netip.MustParseAddr("fe80::1")
	in(t, second.prober, func() error { return errors.Join(setUp("eth0"), addAddress("eth0", asker, 64)) })
	in(t, first.prober, func() error { return addAddress("eth0", asker, 64) })
	in(t, first.machine, func() error {
		return errors.Join(addAddress("eth0", linkLocal, 64), addAddress("eth1", linkLocal, 64))
	})
	g := openGuard(t, first, nil)
	spec := Spec{Groups: []fencing.GuardedGroup{
		{Name: "A", Addresses: []netip.Addr{linkLocal.WithZone("eth0")}},
		{Name: "B", Addresses: []netip.Addr{linkLocal.WithZone("eth1")}},
	}}
	if err := g.Install(spec); err != nil {
		t.Fatal(err)
	}
	check := func(wantFirst, wantSecond bool) {
		t.Helper()
		for _, link := range []struct {
			name string
			l    lan
			want bool
		}{{"eth0", first, wantFirst}, {"eth1", second, wantSecond}} {
			p := startProberFor(t, link.l, vip4, linkLocal, machineMAC)
			from := g.clock()
			p.observe()
			to := g.clock()
			results := p.results()
			asked, answered := answeredBetween(results[probeND], from, to)
			if asked < enough || answered != 0 && !link.want || answered != asked && link.want {
				t.Errorf("%s: %d of %d neighbour solicitations answered, want answers: %v", link.name, answered, asked, link.want)
			}
		}
	}
	check(false, false)
	mustArm(t, g, Lease{Group: "A", Until: g.clock().Add(time.Minute), First: true})
	check(true, false)
	mustArm(t, g, Lease{Group: "B", Until: g.clock().Add(time.Minute), First: true})
	check(true, true)
	if err := g.Shut([]string{"A"}); err != nil {
		t.Fatal(err)
	}
	check(false, true)
}
