package trap

import (
	"fmt"
	"net/netip"

	"github.com/gosnmp/gosnmp"

	"github.com/hactl/had/internal/notify"
)

// MIBs says which of them traps are sent.
type MIBs struct {
	Keepalived bool // enable_snmp_vrrp
	RFC2787    bool // enable_snmp_rfcv2: routers of version 2
	RFC6527    bool // enable_snmp_rfcv3: routers of both versions
	Checker    bool // enable_snmp_checker: servers and quorums
}

// Object identifiers. keepalived sends those of KEEPALIVED-MIB without an index, and so do we.
const (
	sysUpTime   = "1.3.6.1.2.1.1.3.0"
	snmpTrapOID = "1.3.6.1.6.3.1.1.4.1.0"

	keepalivedMIB         = "1.3.6.1.4.1.9586.100.5"
	keepalivedRouterID    = keepalivedMIB + ".1.2.0"
	groupStateChange      = keepalivedMIB + ".2.10.0.1"
	groupName             = keepalivedMIB + ".2.1.1.2"
	groupState            = keepalivedMIB + ".2.1.1.3"
	instanceStateChange   = keepalivedMIB + ".2.10.0.2"
	instanceName          = keepalivedMIB + ".2.3.1.2"
	instanceState         = keepalivedMIB + ".2.3.1.4"
	instanceInitialState  = keepalivedMIB + ".2.3.1.5"
	vrrpTrapNewMaster     = "1.3.6.1.2.1.68.0.1"
	vrrpOperMasterIPAddr  = "1.3.6.1.2.1.68.1.3.1.7" // + ifIndex.vrid
	vrrpv3NotifyNewMaster = "1.3.6.1.2.1.207.0.1"
	vrrpv3MasterIPAddr    = "1.3.6.1.2.1.207.1.1.1.1.3" // + ifIndex.vrid.inetVersion
	vrrpv3NewMasterReason = "1.3.6.1.2.1.207.1.2.5.1.2" // + ifIndex.vrid.inetVersion
)

// states are keepalived's numbers.
var states = map[notify.State]int{notify.Backup: 1, notify.Master: 2, notify.Fault: 3, notify.Stop: 5, notify.Deleted: 6}

// traps returns the variables of the traps about a change, beginning with snmpTrapOID.
func traps(mibs MIBs, routerID string, c notify.Change) [][]gosnmp.SnmpPDU {
	var all [][]gosnmp.SnmpPDU
	add := func(trap string, variables ...gosnmp.SnmpPDU) {
		all = append(all, append([]gosnmp.SnmpPDU{{Name: snmpTrapOID, Type: gosnmp.ObjectIdentifier, Value: "." + trap}}, variables...))
	}
	state, known := states[c.State]
	if !known {
		return nil
	}
	if mibs.Keepalived {
		if c.Kind == notify.Group {
			add(groupStateChange, text(groupName, c.Name), number(groupState, state), text(keepalivedRouterID, routerID))
		} else {
			initial := states[notify.Backup]
			if c.Router.InitialMaster {
				initial = states[notify.Master]
			}
			add(instanceStateChange, text(instanceName, c.Name), number(instanceState, state),
				number(instanceInitialState, initial), text(keepalivedRouterID, routerID))
		}
	}
	if c.Kind != notify.Instance || c.State != notify.Master || !c.Router.Address.IsValid() {
		return all
	}
	r := c.Router
	addr := r.Address.WithZone("")
	if mibs.RFC2787 && r.Version == 2 && addr.Is4() {
		add(vrrpTrapNewMaster, gosnmp.SnmpPDU{Name: fmt.Sprintf("%s.%d.%d", vrrpOperMasterIPAddr, r.Interface, r.VRID),
			Type: gosnmp.IPAddress, Value: addr.String()})
	}
	if mibs.RFC6527 {
		index := fmt.Sprintf(".%d.%d.%d", r.Interface, r.VRID, inetVersion(addr))
		add(vrrpv3NotifyNewMaster,
			gosnmp.SnmpPDU{Name: vrrpv3MasterIPAddr + index, Type: gosnmp.OctetString, Value: addr.AsSlice()},
			number(vrrpv3NewMasterReason+index, r.NewMasterReason))
	}
	return all
}

// inetVersion is InetVersion of RFC 4001.
func inetVersion(a netip.Addr) int {
	if a.Is4() {
		return 1
	}
	return 2
}

func text(oid, value string) gosnmp.SnmpPDU {
	return gosnmp.SnmpPDU{Name: oid, Type: gosnmp.OctetString, Value: value}
}

func number(oid string, value int) gosnmp.SnmpPDU {
	return gosnmp.SnmpPDU{Name: oid, Type: gosnmp.Integer, Value: value}
}
