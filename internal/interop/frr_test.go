//go:build interop

package interop_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/lab"
)

// FRR's vrrpd wants a macvlan device with the virtual router's hardware address, on which the virtual addresses stay
// configured; it switches the device on and off by protodown.
const frrDevice = "vrrp0"

// configureFRR makes r a virtual router of FRR.
func (r *router) configureFRR(c combination, priority int) {
	r.lan.t.Helper()
	mac := net.HardwareAddr{0, 0, 0x5e, 0, 1, vrid}
	word := "ip"
	if c.ipv6 {
		mac[4], word = 2, "ipv6"
	}
	r.lan.know(mac, r.name)
	if err := r.addFRRDevice(mac, c); err != nil {
		r.lan.t.Fatalf("add %s to %s: %v", frrDevice, r.name, err)
	}
	conf := fmt.Sprintf("interface eth0\n vrrp %d version %d\n vrrp %d priority %d\n vrrp %d advertisement-interval %d\n",
		vrid, c.version, vrid, priority, vrid, c.advertInterval().Milliseconds())
	for _, vip := range addresses(c.vips()) {
		conf += fmt.Sprintf(" vrrp %d %s %s\n", vrid, word, vip)
	}
	r.write("vrrpd.conf", fmt.Sprintf("log file %s\n%s", filepath.Join(r.dir, "vrrp.log"), conf))
	r.write("zebra.conf", "hostname "+r.host.Name()+"\n")
	// FRR's daemons run as a user of their own.
	if err := r.giveTo("frr", "", "vrrpd.conf", "zebra.conf"); err != nil {
		r.lan.t.Fatal(err)
	}
}

// giveTo makes files of the router a user's; the empty name is its directory.
func (r *router) giveTo(who string, files ...string) error {
	u, err := user.Lookup(who)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	errs := []error{os.Chmod(r.lan.dir, 0o755)}
	for _, name := range files {
		errs = append(errs, os.Chown(filepath.Join(r.dir, name), uid, gid))
	}
	return errors.Join(errs...)
}

func (r *router) addFRRDevice(mac net.HardwareAddr, c combination) error {
	nl := r.host.Netlink()
	parent, err := nl.LinkByName(lab.Interface)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = frrDevice, parent.Attrs().Index, mac
	if err := nl.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		return err
	}
	device, err := nl.LinkByName(frrDevice)
	if err != nil {
		return err
	}
	for _, vip := range addresses(c.vips()) {
		addr := &netlink.Addr{Flags: unix.IFA_F_NODAD, IPNet: netlink.NewIPNet(vip.AsSlice())}
		if err := nl.AddrAdd(device, addr); err != nil {
			return err
		}
	}
	// The interface itself must not answer ARP for addresses of the device.
	if err := r.host.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/conf/"+lab.Interface+"/arp_ignore", []byte("1"), 0)
	}); err != nil {
		return err
	}
	return nl.LinkSetUp(device)
}

// bootFRR starts zebra and, once it listens, the product.
func (r *router) bootFRR() {
	r.lan.t.Helper()
	zserv := filepath.Join(r.dir, "zserv.api")
	if err := os.Remove(zserv); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.lan.t.Fatal(err)
	}
	for _, name := range []string{"zebra", string(r.product)} {
		r.run("/usr/lib/frr/"+name, "-f", filepath.Join(r.dir, name+".conf"), "-i", filepath.Join(r.dir, name+".pid"),
			"-z", zserv, "--vty_socket", r.dir, "-u", "frr", "-g", "frr", "-P", "0")
		r.lan.await(startTime, "zebra listens", func() string {
			if _, err := os.Stat(zserv); err != nil {
				return err.Error()
			}
			return ""
		})
	}
}

func TestFRR(t *testing.T) {
	t.Parallel()
	pairings := []pairing{{had, vrrpd}, {vrrpd, had}}
	if everything {
		pairings = append(pairings, pairing{keepalived, vrrpd}, pairing{vrrpd, keepalived})
	}
	for _, p := range pairings {
		for _, c := range []combination{{version: 2}, {version: 3}, {version: 3, ipv6: true}} {
			t.Run(fmt.Sprintf("%s elect each other in %s", p, c), func(t *testing.T) {
				t.Parallel()
				election(t, p, c)
			})
		}
	}
}
