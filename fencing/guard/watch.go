package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	nfgenmsgLength  = 4 // struct nfgenmsg: family, version, resource id
	netlinkPIDField = 12
)

// netlinkOrder is the byte order of nf_tables attributes.
var netlinkOrder = binary.BigEndian

// dialMonitor subscribes to all changes of nf_tables rules in the namespace but those of the socket with port id own.
func dialMonitor(netns int, own uint32) (*netlink.Conn, error) {
	conn, _, err := dial(netns)
	if err != nil {
		return nil, err
	}
	// A filter loads words in network order, netlink writes them in the machine's.
	ownWord := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, own))
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: netlinkPIDField, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: ownWord, SkipFalse: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: math.MaxUint32},
	})
	if err == nil {
		err = conn.SetBPF(filter)
	}
	if err == nil {
		err = conn.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to nf_tables changes: %w", err), conn.Close())
	}
	return conn, nil
}

// Watch implements Guard. Changes are noted from Open on; those from before the call are reported at once. It returns
// nil when ctx ends or the guard is closed. Only one Watch may run.
func (g *NFTables) Watch(ctx context.Context, changed func(Change)) error {
	stop := context.AfterFunc(ctx, func() { _ = g.endWatch() })
	defer stop()
	var changes changeReader
	for {
		messages, err := g.monitor.Receive()
		switch {
		case g.watchEnded.Load():
			return nil
		case errors.Is(err, unix.ENOBUFS):
			changed(Change{What: "unknown: events were lost"})
			continue
		case err != nil:
			return fmt.Errorf("guard: watch: %w", err)
		}
		for _, m := range messages {
			if c, ok := changes.next(m); ok {
				changed(c)
			}
		}
	}
}

// endWatch wakes Watch, which then returns nil.
func (g *NFTables) endWatch() error {
	if g.watchEnded.Swap(true) {
		return nil
	}
	return g.monitor.Close()
}

// changeReader turns the events of transactions into at most one Change each.
type changeReader struct {
	pending Change // of the transaction being read; What is empty if it has not touched us
}

// next takes one event. The last one of a transaction tells who made it, and completes a Change.
func (r *changeReader) next(m netlink.Message) (Change, bool) {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < nfgenmsgLength {
		return Change{}, false
	}
	attributes, err := netlink.NewAttributeDecoder(m.Data[nfgenmsgLength:])
	if err != nil {
		return Change{}, false
	}
	attributes.ByteOrder = netlinkOrder
	kind := uint16(m.Header.Type & 0xff)
	if kind == unix.NFT_MSG_NEWGEN {
		c := r.pending
		r.pending = Change{}
		for attributes.Next() {
			switch attributes.Type() {
			case unix.NFTA_GEN_PROC_PID:
				c.PID = int(attributes.Uint32())
			case unix.NFTA_GEN_PROC_NAME:
				c.Process = attributes.String()
			}
		}
		return c, c.What != ""
	}
	family := nftables.TableFamily(m.Data[0])
	if family != nftables.TableFamilyINet && family != nftables.TableFamilyARP {
		return Change{}, false
	}
	for attributes.Next() {
		// The name of the table is the first attribute of all objects. A deleted table comes after its content.
		if attributes.Type() == unix.NFTA_TABLE_NAME && attributes.String() == tableName &&
			(r.pending.What == "" || kind == unix.NFT_MSG_DELTABLE) {
			r.pending = Change{What: changeName(kind), Table: tableTitle(family)}
		}
	}
	return Change{}, false
}

func changeName(kind uint16) string {
	switch kind {
	case unix.NFT_MSG_NEWTABLE:
		return "table added"
	case unix.NFT_MSG_DELTABLE:
		return "table deleted"
	case unix.NFT_MSG_NEWCHAIN:
		return "chain added"
	case unix.NFT_MSG_DELCHAIN:
		return "chain deleted"
	case unix.NFT_MSG_NEWRULE:
		return "rule added"
	case unix.NFT_MSG_DELRULE:
		return "rule deleted"
	case unix.NFT_MSG_NEWSET:
		return "set added"
	case unix.NFT_MSG_DELSET:
		return "set deleted"
	case unix.NFT_MSG_NEWSETELEM:
		return "set element added"
	case unix.NFT_MSG_DELSETELEM:
		return "set element deleted"
	}
	return fmt.Sprintf("changed (message %d)", kind)
}
