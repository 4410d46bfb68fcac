//go:build integ

package speaker_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/need"
	"github.com/hactl/had/internal/linux/ether"
	"github.com/hactl/had/internal/linux/nettest"
	"github.com/hactl/had/vrrp/packet"
	"github.com/hactl/had/vrrp/speaker"
)

// router is a virtual router for keepalived and for us.
type router struct {
	vrid    uint8
	version uint8
	ipv6    bool
	unicast bool
}

func (r router) vips() []netip.Addr {
	if r.ipv6 {
		return []netip.Addr{
			netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: r.vrid}),
			netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 4: 0x77, 15: r.vrid}),
		}
	}
	return []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, r.vrid}), netip.AddrFrom4([4]byte{203, 0, 113, r.vrid})}
}

// ends are keepalived's address and ours, of unicast routers.
func (r router) ends() (keepalived, ours netip.Addr) {
	if r.ipv6 {
		return netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::1")
	}
	return netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1")
}

func (r router) keepalivedBlock() string {
	var s strings.Builder
	fmt.Fprintf(&s, "vrrp_instance V%d {\n interface eth0\n virtual_router_id %d\n version %d\n", r.vrid, r.vrid, r.version)
	s.WriteString(" state MASTER\n priority 255\n advert_int 1\n")
	if r.version == 2 && !r.ipv6 {
		s.WriteString(" authentication {\n auth_type PASS\n auth_pass secret\n }\n")
	}
	if r.unicast {
		keepalived, ours := r.ends()
		fmt.Fprintf(&s, " unicast_src_ip %v\n unicast_peer {\n %v\n }\n", keepalived, ours)
	}
	s.WriteString(" virtual_ipaddress {\n")
	for _, vip := range r.vips() {
		fmt.Fprintf(&s, " %v\n", vip)
	}
	s.WriteString(" }\n}\n")
	return s.String()
}

func (r router) config(iface string) speaker.Config {
	c := speaker.Config{
		Name: fmt.Sprint("V", r.vrid), Interface: iface, IPv6: r.ipv6, Version: r.version, VRID: r.vrid,
		Interval: time.Second, Addresses: r.vips(),
	}
	if r.version == 2 && !r.ipv6 {
		c.Auth = packet.Password("secret")
	}
	if r.unicast {
		keepalived, ours := r.ends()
		c.Peers, c.Source = []packet.Peer{{Addr: keepalived}}, ours
	}
	return c
}

// startKeepalived runs keepalived on the host until the test ends.
func startKeepalived(t *testing.T, host *nettest.Host, program, config string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "keepalived.conf")
	nettest.Check(t, os.WriteFile(file, []byte(config), 0o600))
	var log bytes.Buffer
	command := exec.Command(program, "-n", "-l", "-P", "-f", file,
		"-p", filepath.Join(dir, "pid"), "-r", filepath.Join(dir, "vrrp.pid"))
	command.Stdout, command.Stderr = &log, &log
	host.Do(func() { nettest.Check(t, command.Start()) })
	t.Cleanup(func() {
		nettest.Check(t, command.Process.Signal(syscall.SIGTERM))
		_ = command.Wait()
		if t.Failed() {
			t.Logf("keepalived:\n%s", log.String())
		}
	})
}

// Every frame of ours is keepalived's but for the addresses of the machine and what counts up: advertisements, gratuitous
// ARP and neighbour advertisements, in every combination of version, family and delivery.
func TestFramesAreKeepaliveds(t *testing.T) {
	program, err := exec.LookPath("keepalived")
	if err != nil {
		need.Skip(t, "keepalived is not installed")
	}
	var routers []router
	for _, version := range []uint8{2, 3} {
		for _, ipv6 := range []bool{false, true} {
			for _, unicast := range []bool{false, true} {
				routers = append(routers, router{uint8(len(routers) + 1), version, ipv6, unicast})
			}
		}
	}
	name, host := lan(t)
	nettest.LinkLocal(t, name)
	host.Do(func() { nettest.LinkLocal(t, "eth0") })

	theirs := collect(t, routers, func(etherType uint16) <-chan nettest.Frame { return nettest.Sniff(t, name, etherType) },
		func() {
			config := "global_defs {\n vrrp_garp_master_delay 0\n}\n"
			for _, r := range routers {
				config += r.keepalivedBlock()
			}
			startKeepalived(t, host, program, config)
		})

	station := start(t, here)
	ours := collect(t, routers, func(etherType uint16) <-chan nettest.Frame { return host.Sniff("eth0", etherType) },
		func() {
			for _, r := range routers {
				s := station.speak(r.config(name))
				nettest.Check(t, s.Send(255))
				var targets []speaker.Target
				for _, vip := range r.vips() {
					targets = append(targets, speaker.Target{Interface: name, Address: vip})
				}
				s.Announce(targets, 1, func() bool { return true })
			}
		})
	for key, want := range theirs {
		if got := ours[key]; got != want {
			t.Errorf("%s\n      ours %s\nkeepalived %s", key, got, want)
		}
	}
}

// collect lets somebody speak and returns the first frame of each kind and router, with what may differ blanked out.
func collect(t *testing.T, routers []router, sniff func(uint16) <-chan nettest.Frame, speak func()) map[string]string {
	t.Helper()
	v4, v6, arps := sniff(ether.TypeIPv4), sniff(ether.TypeIPv6), sniff(ether.TypeARP)
	speak()
	frames := make(map[string]string)
	complete := len(routers) * 3 // an advertisement and the announcements of two addresses each
	for timeout := time.After(10 * time.Second); len(frames) < complete; {
		var f nettest.Frame
		select {
		case f = <-v4:
		case f = <-v6:
		case f = <-arps:
		case <-timeout:
			t.Fatalf("%d kinds of frames after 10 s, want %d: %v", len(frames), complete, frames)
		}
		for _, r := range routers {
			if key, ok := r.kind(f.Data); ok && frames[key] == "" {
				frames[key] = r.blank(f.Data)
			}
		}
	}
	return frames
}

// Lengths of Ethernet and IP headers together, and of a frame with a neighbour advertisement.
const (
	ipv4Headers = 34
	ipv6Headers = 54
	ndFrame     = 86
)

// kind names what a frame is to the router. ok is false if it is nothing.
func (r router) kind(f []byte) (key string, ok bool) {
	switch etherType := uint16(f[12])<<8 | uint16(f[13]); {
	case etherType == ether.TypeARP:
		for _, vip := range r.vips() {
			if bytes.Equal(f[28:32], vip.AsSlice()) {
				return fmt.Sprintf("gratuitous ARP for %v", vip), true
			}
		}
	case etherType == ether.TypeIPv6 && len(f) == ndFrame && f[20] == 58 && f[ipv6Headers] == 136:
		for _, vip := range r.vips() {
			if bytes.Equal(f[62:78], vip.AsSlice()) {
				return fmt.Sprintf("neighbour advertisement for %v", vip), true
			}
		}
	case etherType == ether.TypeIPv4 && !r.ipv6 && f[23] == packet.Protocol && f[ipv4Headers+1] == r.vrid,
		etherType == ether.TypeIPv6 && r.ipv6 && f[20] == packet.Protocol && f[ipv6Headers+1] == r.vrid:
		return fmt.Sprintf("advertisement of %+v", r), true
	}
	return "", false
}

// blank returns a frame in hexadecimal digits, without the addresses of its sender and peer, and what follows from them.
func (r router) blank(f []byte) string {
	f = bytes.Clone(f)
	clear(f[6:12])
	etherType := uint16(f[12])<<8 | uint16(f[13])
	switch {
	case etherType == ether.TypeARP:
		clear(f[22:28])
	case len(f) == ndFrame && f[ipv6Headers] == 136:
		clear(f[56:58]) // checksum
		clear(f[80:86])
	case etherType == ether.TypeIPv4:
		clear(f[18:20]) // identification
		clear(f[24:30]) // checksum, source
		if r.unicast {
			clear(f[0:6])
			clear(f[30:34])
		}
		if r.version == 3 {
			clear(f[ipv4Headers+6 : ipv4Headers+8])
		}
	default:
		f[15] &= 0xf0 // flow label
		clear(f[16:18])
		clear(f[22:38])
		if r.unicast {
			clear(f[0:6])
			clear(f[38:54])
		}
		clear(f[ipv6Headers+6 : ipv6Headers+8])
	}
	return hex.EncodeToString(f)
}
