// Package trap sends SNMP traps about changes of state: those of KEEPALIVED-MIB and, when a router becomes MASTER, those of
// RFC 2787 and RFC 6527, of version 2c or 3.
//
// keepalived hands its traps to an SNMP agent over AgentX, and that one knows the receivers. Here the receivers are
// configured (snmp_trap), and the traps are sent from here. Nothing blocks the caller: traps go into a bounded queue for
// each receiver, from which a goroutine sends them. Traps are datagrams; one that is lost on its way is lost.
package trap
