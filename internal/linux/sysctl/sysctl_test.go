package sysctl

import (
	"errors"
	"testing"
)

func TestNamesAreThoseOfSysctl(t *testing.T) {
	for want, p := range map[string]Parameter{
		"net.ipv4.conf.eth0.arp_ignore":      IPv4("eth0", "arp_ignore"),
		"net.ipv4.conf.eth0/10.arp_ignore":   IPv4("eth0.10", "arp_ignore"),
		"net.ipv6.conf.all.forwarding":       IPv6("all", "forwarding"),
		"net.ipv4.ip_nonlocal_bind":          Net("ipv4", "ip_nonlocal_bind"),
		"net.ipv4.vs.expire_nodest_conn":     Net("ipv4", "vs", "expire_nodest_conn"),
		"net.ipv4.conf.vrrp/51.promote_secs": IPv4("vrrp.51", "promote_secs"),
	} {
		if got := p.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

func TestNoNameLeavesTheTree(t *testing.T) {
	for _, iface := range []string{"", ".", "..", "../../../../etc", "a/b"} {
		if value, err := IPv4(iface, "forwarding").Get(); err == nil {
			t.Errorf("interface %q has value %q", iface, value)
		}
		if err := IPv4(iface, "forwarding").Set("0"); err == nil {
			t.Errorf("interface %q can be set", iface)
		}
	}
}

func TestAbsentParameterIsNotExist(t *testing.T) {
	_, err := IPv4("no-such-iface", "forwarding").GetInt()
	if !errors.Is(err, ErrNotExist) {
		t.Errorf("error %v, want %v", err, ErrNotExist)
	}
	if want := "read net.ipv4.conf.no-such-iface.forwarding: no such file or directory"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if ForwardingIPv6("no-such-iface") {
		t.Error("an interface that does not exist forwards")
	}
}
