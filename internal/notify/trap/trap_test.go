package trap

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"log/slog"

	"github.com/gosnmp/gosnmp"

	"github.com/hactl/had/internal/notify"
)

// line writes the variables of a trap as snmptrapd does.
func line(variables []gosnmp.SnmpPDU) string {
	var parts []string
	for _, v := range variables {
		value := fmt.Sprint(v.Value)
		if b, ok := v.Value.([]byte); ok {
			value = hex.EncodeToString(b)
		}
		parts = append(parts, fmt.Sprintf("%s=%s", v.Name, value))
	}
	return strings.Join(parts, " ")
}

// TestTheVariablesAreThoseOfKeepalived has what keepalived 2.2.7 hands to its SNMP agent.
func TestTheVariablesAreThoseOfKeepalived(t *testing.T) {
	router := notify.Router{Version: 2, VRID: 51, Interface: 3, Address: netip.MustParseAddr("10.9.0.1"), NewMasterReason: 3}
	v3 := router
	v3.Version, v3.NewMasterReason = 3, 2
	v6 := v3
	v6.Address = netip.MustParseAddr("fe80::1%eth0")
	all := MIBs{Keepalived: true, RFC2787: true, RFC6527: true}
	const oid = "1.3.6.1.6.3.1.1.4.1.0=."
	instance := func(state int) string {
		return oid + "1.3.6.1.4.1.9586.100.5.2.10.0.2 1.3.6.1.4.1.9586.100.5.2.3.1.2=A 1.3.6.1.4.1.9586.100.5.2.3.1.4=" +
			fmt.Sprint(state) + " 1.3.6.1.4.1.9586.100.5.2.3.1.5=1 1.3.6.1.4.1.9586.100.5.1.2.0=RID"
	}
	const rfc2787 = oid + "1.3.6.1.2.1.68.0.1 1.3.6.1.2.1.68.1.3.1.7.3.51=10.9.0.1"
	for _, test := range []struct {
		name   string
		mibs   MIBs
		change notify.Change
		want   []string
	}{
		{"backup", all, notify.Change{Kind: notify.Instance, Name: "A", State: notify.Backup, Router: router}, []string{instance(1)}},
		{"master", all, notify.Change{Kind: notify.Instance, Name: "A", State: notify.Master, Router: router}, []string{
			instance(2), rfc2787,
			oid + "1.3.6.1.2.1.207.0.1 1.3.6.1.2.1.207.1.1.1.1.3.3.51.1=0a090001 1.3.6.1.2.1.207.1.2.5.1.2.3.51.1=3"}},
		{"master of version 3", all, notify.Change{Kind: notify.Instance, Name: "A", State: notify.Master, Router: v3}, []string{
			instance(2),
			oid + "1.3.6.1.2.1.207.0.1 1.3.6.1.2.1.207.1.1.1.1.3.3.51.1=0a090001 1.3.6.1.2.1.207.1.2.5.1.2.3.51.1=2"}},
		{"master over IPv6", MIBs{RFC2787: true, RFC6527: true},
			notify.Change{Kind: notify.Instance, Name: "A", State: notify.Master, Router: v6}, []string{
				oid + "1.3.6.1.2.1.207.0.1 1.3.6.1.2.1.207.1.1.1.1.3.3.51.2=fe800000000000000000000000000001 " +
					"1.3.6.1.2.1.207.1.2.5.1.2.3.51.2=2"}},
		{"master, one MIB", MIBs{RFC2787: true}, notify.Change{Kind: notify.Instance, Name: "A", State: notify.Master, Router: router},
			[]string{rfc2787}},
		{"fault", all, notify.Change{Kind: notify.Instance, Name: "A", State: notify.Fault, Router: router}, []string{instance(3)}},
		{"stop", all, notify.Change{Kind: notify.Instance, Name: "A", State: notify.Stop, Router: router}, []string{instance(5)}},
		{"deleted", all, notify.Change{Kind: notify.Instance, Name: "A", State: notify.Deleted, Router: router}, []string{instance(6)}},
		{"group", all, notify.Change{Kind: notify.Group, Name: "G", State: notify.Master}, []string{
			oid + "1.3.6.1.4.1.9586.100.5.2.10.0.1 1.3.6.1.4.1.9586.100.5.2.1.1.2=G 1.3.6.1.4.1.9586.100.5.2.1.1.3=2 " +
				"1.3.6.1.4.1.9586.100.5.1.2.0=RID"}},
		{"lower priority heard", all,
			notify.Change{Kind: notify.Instance, Name: "A", State: notify.MasterRxLowerPri, Router: router}, nil},
		{"no MIB", MIBs{}, notify.Change{Kind: notify.Instance, Name: "A", State: notify.Master, Router: router}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, variables := range traps(test.mibs, "RID", test.change) {
				got = append(got, line(variables))
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestTrapsAboutServersAreThoseOfTheMIB: the objects that KEEPALIVED-MIB names in realServerStateChange and
// virtualServerQuorumStateChange, and those of the kind of virtual server, in the order of keepalived 2.2.7.
func TestTrapsAboutServersAreThoseOfTheMIB(t *testing.T) {
	web := notify.VirtualServer{Address: netip.MustParseAddrPort("192.0.2.1:80"), Protocol: "TCP", Quorum: 2, Up: 1, Total: 3}
	const mib = "1.3.6.1.4.1.9586.100.5.3"
	const trap = "1.3.6.1.6.3.1.1.4.1.0=." + mib
	const counts = " " + mib + ".3.1.21=1 " + mib + ".3.1.20=3 1.3.6.1.4.1.9586.100.5.1.2.0=RID"
	group, mark := web, web
	group.Group, mark.Mark, mark.Protocol = "G", 7, ""
	for name, test := range map[string]struct {
		change notify.ServerChange
		want   string
	}{
		"server down": {notify.ServerChange{Virtual: web, Real: netip.MustParseAddrPort("10.0.0.1:8080")},
			trap + ".5.0.1 " + mib + ".4.1.3=1 " + mib + ".4.1.4=0a000001 " + mib + ".4.1.5=8080 " + mib + ".4.1.6=2 " + mib + ".3.1.2=2 " +
				mib + ".3.1.5=1 " + mib + ".3.1.6=c0000201 " + mib + ".3.1.7=80 " + mib + ".3.1.8=1" + counts},
		"quorum of a mark gained": {notify.ServerChange{Virtual: mark, Up: true}, trap + ".5.0.2 " + mib + ".3.1.2=1 " + mib +
			".3.1.4=7 " + mib + ".3.1.8=2 " + mib + ".3.1.23=1 " + mib + ".3.1.22=2" + counts},
		"end of a group": {notify.ServerChange{Virtual: group, Ending: true}, trap + ".5.0.2 " + mib + ".3.1.2=3 " + mib + ".3.1.3=G " +
			mib + ".3.1.8=1 " + mib + ".3.1.23=3 " + mib + ".3.1.22=2" + counts},
	} {
		if got := line(serverTrap("RID", test.change)); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
}

func TestEngineIDsAreThoseOfRFC3411(t *testing.T) {
	if got := hex.EncodeToString(EngineID("lb1")); got != "80002572046c6231" {
		t.Errorf("got %s", got)
	}
	if got := len(EngineID(strings.Repeat("x", 100))); got != 32 {
		t.Errorf("%d bytes", got)
	}
}

// TestTheEngineSaysHowLongItRuns: a receiver takes a trap whose time stands still for a replay (RFC 3414 section 3.2).
func TestTheEngineSaysHowLongItRuns(t *testing.T) {
	receiver, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	var boots []uint32
	for _, age := range []time.Duration{time.Hour, 10 * time.Minute} {
		to := newTarget(Receiver{Host: "127.0.0.1", Port: uint16(receiver.LocalAddr().(*net.UDPAddr).Port), User: "had"}, "lb1",
			time.Now().Add(-age), slog.New(slog.DiscardHandler))
		if err := to.send(traps(MIBs{Keepalived: true}, "lb1", notify.Change{Kind: notify.Group, State: notify.Master})[0]); err != nil {
			t.Fatal(err)
		}
		packet := make([]byte, 1500)
		if err := receiver.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := receiver.Read(packet)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&gosnmp.GoSNMP{Version: gosnmp.Version3, SecurityModel: gosnmp.UserSecurityModel,
			SecurityParameters: &gosnmp.UsmSecurityParameters{UserName: "had"}}).SnmpDecodePacket(packet[:n])
		if err != nil {
			t.Fatal(err)
		}
		usm := got.SecurityParameters.(*gosnmp.UsmSecurityParameters)
		if seconds := time.Duration(usm.AuthoritativeEngineTime) * time.Second; seconds < age || seconds > age+time.Minute {
			t.Errorf("it says %v after %v", seconds, age)
		}
		boots = append(boots, usm.AuthoritativeEngineBoots)
	}
	if boots[0] >= boots[1] {
		t.Errorf("the life that began later counts %d boots, the earlier one %d", boots[1], boots[0])
	}
}

func TestATrapIsSentAgainToANameThatCouldNotBeLookedUpBefore(t *testing.T) {
	receiver, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	s := Start(Config{RouterID: "RID", MIBs: MIBs{Keepalived: true},
		Receivers: []Receiver{{Host: "name.invalid.", Port: 162, Community: "public"},
			{Host: "127.0.0.1", Port: uint16(receiver.LocalAddr().(*net.UDPAddr).Port), Community: "secret"}}},
		slog.New(slog.DiscardHandler))
	s.Tell(notify.Change{Kind: notify.Instance, Name: "A", State: notify.Master})
	s.Tell(notify.Change{Kind: notify.Instance, Name: "A", State: notify.Backup})
	for _, state := range []int{2, 1} {
		packet := make([]byte, 1500)
		if err := receiver.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := receiver.Read(packet)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&gosnmp.GoSNMP{Version: gosnmp.Version2c}).SnmpDecodePacket(packet[:n])
		if err != nil {
			t.Fatal(err)
		}
		if got.Community != "secret" || len(got.Variables) != 6 || got.Variables[3].Value != state {
			t.Errorf("community %s, variables %+v", got.Community, got.Variables)
		}
	}
	done := make(chan struct{})
	go func() { s.Stop(t.Context()); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("Stop does not end")
	}
}
