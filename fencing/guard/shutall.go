package guard

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// ShutAll shuts every group of the guard that stands in the kernel, whoever put it there and has died since. It needs no
// Spec, so it covers whatever that one guarded last. The error wraps ErrNotInstalled if there is no guard, or only half of
// one, and is an *OwnedError if the one who put it there lives.
func ShutAll(o Options) (err error) {
	g := &NFTables{}
	if g.conn, g.portID, err = dial(o.NetNS); err != nil {
		return supported(err)
	}
	defer func() { err = errors.Join(err, g.conn.Close()) }()
	present, err := g.present()
	if err != nil {
		return supported(err)
	}
	if len(present) != guardTables {
		return fmt.Errorf("guard: shut: %w", ErrNotInstalled)
	}
	b := newBatch()
	for _, p := range present {
		if p.owner != 0 {
			return &OwnedError{Table: tableTitle(p.table.Family), PortID: p.owner}
		}
		t := newGuardTable(p.table.Family, 0)
		b.flush(t.held)
		b.flush(t.heldOwn)
	}
	return isShut(b.send(g.conn))
}

// isShut says what came of shutting groups.
func isShut(refused []refusal, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("guard: shut: %w", err)
	case len(refused) > 0 && refused[0].errno == unix.ENOENT:
		return fmt.Errorf("guard: shut: %w: %w", ErrNotInstalled, refused[0])
	case len(refused) > 0:
		return fmt.Errorf("guard: shut: %w", refused[0])
	}
	return nil
}

// guardTables is how many tables a guard has.
const guardTables = 2

// flush deletes all elements of a set, if there are any.
func (b *batch) flush(s *nftables.Set) {
	b.beginNFT(unix.NFT_MSG_DELSETELEM, 0, s.Table.Family, subject{op: opDeleteElement})
	b.name(unix.NFTA_SET_ELEM_LIST_TABLE, s.Table.Name)
	b.name(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	b.end()
}
