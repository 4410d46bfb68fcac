package trap

import (
	"net/netip"

	"github.com/gosnmp/gosnmp"

	"github.com/hactl/had/internal/notify"
)

// Object identifiers of the load balancer in KEEPALIVED-MIB.
const (
	checkMIB          = keepalivedMIB + ".3"
	serverStateChange = checkMIB + ".5.0.1"
	quorumStateChange = checkMIB + ".5.0.2"

	virtualServer  = checkMIB + ".3.1"
	virtualType    = virtualServer + ".2"
	virtualGroup   = virtualServer + ".3"
	virtualMark    = virtualServer + ".4"
	virtualFamily  = virtualServer + ".5"
	virtualAddress = virtualServer + ".6"
	virtualPort    = virtualServer + ".7"
	virtualProto   = virtualServer + ".8"
	serversTotal   = virtualServer + ".20"
	serversUp      = virtualServer + ".21"
	virtualQuorum  = virtualServer + ".22"
	quorumStatus   = virtualServer + ".23"

	realServer  = checkMIB + ".4.1"
	realFamily  = realServer + ".3"
	realAddress = realServer + ".4"
	realPort    = realServer + ".5"
	realStatus  = realServer + ".6"
)

// protocols are keepalived's numbers. To it a firewall mark has the protocol of a virtual server that names none.
var protocols = map[string]int{"TCP": 1, "UDP": 2, "SCTP": 3, "": 2}

// serverTrap returns the variables of the trap about a change of the load balancer, beginning with snmpTrapOID, in keepalived's order.
func serverTrap(routerID string, c notify.ServerChange) []gosnmp.SnmpPDU {
	v := c.Virtual
	kind := 2
	which := []gosnmp.SnmpPDU{number(virtualFamily, inetVersion(v.Address.Addr())), address(virtualAddress, v.Address.Addr()),
		gauge(virtualPort, int64(v.Address.Port()))}
	switch {
	case v.Mark != 0:
		kind, which = 1, []gosnmp.SnmpPDU{gauge(virtualMark, int64(v.Mark))}
	case v.Group != "":
		kind, which = 3, []gosnmp.SnmpPDU{text(virtualGroup, v.Group)}
	}
	status, trap := 1, quorumStateChange
	if !c.Up {
		status = 2
	}
	about := append(append([]gosnmp.SnmpPDU{number(virtualType, kind)}, which...), number(virtualProto, protocols[v.Protocol]))
	if c.Real.IsValid() {
		trap = serverStateChange
		about = append([]gosnmp.SnmpPDU{number(realFamily, inetVersion(c.Real.Addr())), address(realAddress, c.Real.Addr()),
			gauge(realPort, int64(c.Real.Port())), number(realStatus, status)}, about...)
	} else {
		if c.Ending {
			status = 3 // shutdown
		}
		about = append(about, number(quorumStatus, status), gauge(virtualQuorum, v.Quorum))
	}
	about = append(about, gauge(serversUp, int64(v.Up)), gauge(serversTotal, int64(v.Total)), text(keepalivedRouterID, routerID))
	return append([]gosnmp.SnmpPDU{{Name: snmpTrapOID, Type: gosnmp.ObjectIdentifier, Value: "." + trap}}, about...)
}

func address(oid string, a netip.Addr) gosnmp.SnmpPDU {
	return gosnmp.SnmpPDU{Name: oid, Type: gosnmp.OctetString, Value: a.AsSlice()}
}

func gauge(oid string, value int64) gosnmp.SnmpPDU {
	return gosnmp.SnmpPDU{Name: oid, Type: gosnmp.Gauge32, Value: uint32(max(0, value))}
}
