// Package linux is the door to the Linux network stack. It holds no code itself; its parts are
//
//	ether     Ethernet addresses and headers, pure
//	arp       the ARP codec, pure
//	ndp       the codec of IPv6 neighbour discovery, pure
//	rtnl      requests to the kernel's route netlink
//	address   IP addresses of interfaces: add, refresh, remove, list
//	link      interfaces and their addresses as the kernel reports them; choice of a source address
//	neigh     gratuitous ARP and unsolicited neighbour advertisements out; strangers who claim our addresses in
//	rawsock   the raw IP sockets of VRRP
//	sysctl    kernel parameters of interfaces
//
// Every socket belongs to the network namespace of the thread that opens it and stays there. What opens sockets later,
// when an interface appears, does so on the goroutine that reports the interface.
//
// The parts import nothing of this module but each other.
package linux
