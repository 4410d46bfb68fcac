package link

import (
	"net/netip"

	"github.com/hactl/had/internal/linux/address"
)

// Source returns the address of the interface from which VRRP speaks where none is configured: for IPv4 the first
// address that is not secondary, for IPv6 the first link-local address that may be used. Virtual addresses, which
// exclude reports, are no sources. current is kept as long as it qualifies, so that a further address changes nothing;
// without it the first in the kernel's order is taken. ok is false if the interface has no such address.
func (t *Table) Source(index int, ipv6 bool, current netip.Addr, exclude func(netip.Addr) bool) (src netip.Addr, ok bool) {
	for _, a := range t.on[index] {
		addr := a.Prefix.Addr()
		if addr.Is4() == ipv6 || !qualifies(*a) || exclude(addr) {
			continue
		}
		if addr == current {
			return addr, true
		}
		if !ok {
			src, ok = addr, true
		}
	}
	return src, ok
}

func qualifies(a address.Address) bool {
	if a.Prefix.Addr().Is4() {
		return a.Flags&address.Secondary == 0
	}
	return a.Prefix.Addr().IsLinkLocalUnicast() && a.Flags&(address.Tentative|address.DADFailed) == 0
}
