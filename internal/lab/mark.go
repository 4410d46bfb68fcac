package lab

import (
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// TellApart makes one host see the senders of frames with shared hardware addresses, such as those of virtual routers, as
// what they are: in frames that the switch hands to it, and in the ARP in them, each host has its own address in place of a
// shared one. Nobody else sees a difference, and the switch learns what was sent. It holds for the hosts there are, until
// the lab is closed.
func (l *Lab) TellApart(to *Host, shared ...net.HardwareAddr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	conn, err := nftables.New(nftables.WithNetNSFd(l.ns.fd()))
	if err != nil {
		return fmt.Errorf("open nftables of the switch: %w", err)
	}
	policy := nftables.ChainPolicyAccept
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyBridge, Name: "marks"})
	chain := conn.AddChain(&nftables.Chain{Name: "marks", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &policy})
	for _, h := range l.hosts {
		for _, mac := range shared {
			for _, at := range []expr.Payload{
				{Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 6}, // the sender's address in ARP
				{Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
			} {
				rule := []expr.Any{
					&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(ifname(h.Port())),
					&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal(ifname(to.Port())),
				}
				if at.Base == expr.PayloadBaseNetworkHeader {
					rule = append(rule, &expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, equal(bigEndian16(0x0806)))
				}
				read, write := at, at
				read.DestRegister = 1
				write.OperationType, write.SourceRegister = expr.PayloadWrite, 1
				rule = append(rule, &read, equal(mac), &expr.Immediate{Register: 1, Data: h.mac}, &write)
				conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("tell senders apart at the switch: %w", err)
	}
	return nil
}
