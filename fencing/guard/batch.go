package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// batch is one nf_tables transaction under construction. The library speaks the same vocabulary (its types are used
// here) but its own Flush cannot set table flags, asks for an acknowledgement of every message, which overruns the
// socket with some hundred groups, and does not say which message the kernel refused.
type batch struct {
	buf     []byte
	start   int       // where the message being built begins
	subject []subject // of each message; sequence numbers are indices into it, plus one
	err     error     // first encoding error
}

// subject says what a message is about, so that a refusal can be attributed.
type subject struct {
	op    operation
	group uint32 // number of the group, 0 if it is about none
}

type operation uint8

const (
	opTransaction operation = iota + 1 // begin, end and commit
	opTable
	opDeleteTable
	opChain
	opSet
	opRule
	opFlushChain
	opElement
	opDeleteElement
)

func (o operation) String() string {
	return [...]string{
		opTransaction: "commit", opTable: "add table", opDeleteTable: "delete table", opChain: "add chain",
		opSet: "add set", opRule: "add rule", opFlushChain: "flush chain", opElement: "add set element",
		opDeleteElement: "delete set element",
	}[o]
}

// refusal is a message of a batch that the kernel did not accept.
type refusal struct {
	subject
	errno unix.Errno
}

func (r refusal) Error() string { return fmt.Sprintf("nf_tables: %v: %v", r.op, error(r.errno)) }

func (r refusal) Unwrap() error { return r.errno }

const (
	tableFlagOwner   = 0x2 // NFT_TABLE_F_OWNER
	tableFlagPersist = 0x4 // NFT_TABLE_F_PERSIST
	tableAttrOwner   = 0x7 // NFTA_TABLE_OWNER: netlink port id

	bigEndianKeys = 2 // value of NFTNL_UDATA_SET_KEYBYTEORDER

	// elementsPerMessage keeps the nested list of elements below its 16-bit length.
	elementsPerMessage = 256
)

func newBatch() *batch {
	b := &batch{}
	b.begin(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, subject{op: opTransaction})
	binary.BigEndian.PutUint16(b.buf[b.start+unix.NLMSG_HDRLEN+2:], unix.NFNL_SUBSYS_NFTABLES)
	b.end()
	return b
}

// empty tells whether nothing was added since newBatch.
func (b *batch) empty() bool { return len(b.subject) == 1 }

// finish closes the transaction. The last message asks for an acknowledgement, which tells the sender that nothing more
// will come.
func (b *batch) finish() {
	flags := binary.NativeEndian.Uint16(b.buf[b.start+6:])
	binary.NativeEndian.PutUint16(b.buf[b.start+6:], flags|unix.NLM_F_ACK)
	b.begin(unix.NFNL_MSG_BATCH_END, 0, 0, subject{op: opTransaction})
	binary.BigEndian.PutUint16(b.buf[b.start+unix.NLMSG_HDRLEN+2:], unix.NFNL_SUBSYS_NFTABLES)
	b.end()
}

// begin writes a netlink header and a struct nfgenmsg.
func (b *batch) begin(kind uint16, flags uint16, family nftables.TableFamily, s subject) {
	b.start = len(b.buf)
	b.subject = append(b.subject, s)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, 0) // length, set by end
	b.buf = binary.NativeEndian.AppendUint16(b.buf, kind)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, unix.NLM_F_REQUEST|flags)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, uint32(len(b.subject)))
	b.buf = binary.NativeEndian.AppendUint32(b.buf, 0)
	b.buf = append(b.buf, byte(family), unix.NFNETLINK_V0, 0, 0)
}

func (b *batch) beginNFT(kind uint16, flags uint16, family nftables.TableFamily, s subject) {
	b.begin(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, family, s)
}

func (b *batch) end() { binary.NativeEndian.PutUint32(b.buf[b.start:], uint32(len(b.buf)-b.start)) }

// attr appends one attribute; len(data) is below 64 KB in all uses.
func (b *batch) attr(kind uint16, data []byte) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(unix.SizeofNlAttr+len(data)))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, kind)
	b.buf = append(b.buf, data...)
	b.pad()
}

func (b *batch) pad() {
	for len(b.buf)%unix.NLA_ALIGNTO != 0 {
		b.buf = append(b.buf, 0)
	}
}

func (b *batch) name(kind uint16, s string) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(unix.SizeofNlAttr+len(s)+1))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, kind)
	b.buf = append(append(b.buf, s...), 0)
	b.pad()
}

func (b *batch) u32(kind uint16, v uint32) {
	var data [4]byte
	binary.BigEndian.PutUint32(data[:], v)
	b.attr(kind, data[:])
}

func (b *batch) u64(kind uint16, v uint64) {
	var data [8]byte
	binary.BigEndian.PutUint64(data[:], v)
	b.attr(kind, data[:])
}

// nest appends an attribute that contains what fill appends.
func (b *batch) nest(kind uint16, fill func()) {
	at := len(b.buf)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, 0)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, unix.NLA_F_NESTED|kind)
	fill()
	length := len(b.buf) - at
	if length > 0xffff && b.err == nil {
		b.err = fmt.Errorf("encode nf_tables attribute %d: %d bytes exceed its 16-bit length", kind, length)
	}
	binary.NativeEndian.PutUint16(b.buf[at:], uint16(length))
}

func (b *batch) table(t *nftables.Table) {
	b.beginNFT(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, t.Family, subject{op: opTable})
	b.name(unix.NFTA_TABLE_NAME, t.Name)
	b.u32(unix.NFTA_TABLE_FLAGS, t.Flags)
	b.end()
}

func (b *batch) deleteTable(t *nftables.Table) {
	b.beginNFT(unix.NFT_MSG_DELTABLE, 0, t.Family, subject{op: opDeleteTable})
	b.name(unix.NFTA_TABLE_NAME, t.Name)
	b.end()
}

// chain adds a chain: a base chain with policy accept if it has a hook, else an ordinary one.
func (b *batch) chain(c *nftables.Chain) {
	b.beginNFT(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL, c.Table.Family, subject{op: opChain})
	b.name(unix.NFTA_CHAIN_TABLE, c.Table.Name)
	b.name(unix.NFTA_CHAIN_NAME, c.Name)
	if c.Hooknum != nil {
		b.nest(unix.NFTA_CHAIN_HOOK, func() {
			b.u32(unix.NFTA_HOOK_HOOKNUM, uint32(*c.Hooknum))
			b.u32(unix.NFTA_HOOK_PRIORITY, uint32(*c.Priority))
		})
		b.name(unix.NFTA_CHAIN_TYPE, string(c.Type))
		b.u32(unix.NFTA_CHAIN_POLICY, uint32(nftables.ChainPolicyAccept))
	}
	b.end()
}

// set adds a named set, or a verdict map if IsMap.
func (b *batch) set(s *nftables.Set) {
	var flags uint32
	if s.HasTimeout {
		flags |= unix.NFT_SET_TIMEOUT
	}
	if s.IsMap {
		flags |= unix.NFT_SET_MAP
	}
	b.beginNFT(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE|unix.NLM_F_EXCL, s.Table.Family, subject{op: opSet})
	b.name(unix.NFTA_SET_TABLE, s.Table.Name)
	b.name(unix.NFTA_SET_NAME, s.Name)
	b.u32(unix.NFTA_SET_ID, s.ID)
	b.u32(unix.NFTA_SET_FLAGS, flags)
	b.u32(unix.NFTA_SET_KEY_TYPE, s.KeyType.GetNFTMagic())
	b.u32(unix.NFTA_SET_KEY_LEN, s.KeyType.Bytes)
	if s.IsMap {
		b.u32(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
		b.u32(unix.NFTA_SET_DATA_LEN, 0)
	}
	if s.KeyByteOrder != nil { // only nft, which prints the elements, wants to know
		b.attr(unix.NFTA_SET_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, bigEndianKeys))
	}
	b.end()
}

// elements adds elements, as many messages as it takes.
func (b *batch) elements(s *nftables.Set, elements []nftables.SetElement) {
	for len(elements) > 0 {
		n := min(len(elements), elementsPerMessage)
		b.elementMessage(unix.NFT_MSG_NEWSETELEM, s, elements[:n], subject{op: opElement})
		elements = elements[n:]
	}
}

func (b *batch) elementMessage(kind uint16, s *nftables.Set, elements []nftables.SetElement, about subject) {
	flags := uint16(0)
	if kind == unix.NFT_MSG_NEWSETELEM {
		flags = unix.NLM_F_CREATE
	}
	b.beginNFT(kind, flags, s.Table.Family, about)
	b.name(unix.NFTA_SET_ELEM_LIST_TABLE, s.Table.Name)
	b.name(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		for _, e := range elements {
			b.nest(unix.NFTA_LIST_ELEM, func() { b.element(e) })
		}
	})
	b.end()
}

// heldElement adds or deletes a group's element in a set of held groups. The timeout counts only when adding.
func (b *batch) heldElement(kind uint16, set *nftables.Set, group uint32, timeout time.Duration) {
	about := subject{opElement, group}
	if kind == unix.NFT_MSG_DELSETELEM {
		about.op = opDeleteElement
	}
	b.elementMessage(kind, set, []nftables.SetElement{{Key: groupKey(group), Timeout: timeout}}, about)
}

func (b *batch) element(e nftables.SetElement) {
	b.nest(unix.NFTA_SET_ELEM_KEY, func() { b.attr(unix.NFTA_DATA_VALUE, e.Key) })
	if e.Timeout > 0 {
		b.u64(unix.NFTA_SET_ELEM_TIMEOUT, uint64(e.Timeout/time.Millisecond))
	}
	if v := e.VerdictData; v != nil {
		b.nest(unix.NFTA_SET_ELEM_DATA, func() {
			b.nest(unix.NFTA_DATA_VERDICT, func() {
				b.u32(unix.NFTA_VERDICT_CODE, uint32(v.Kind))
				b.name(unix.NFTA_VERDICT_CHAIN, v.Chain)
			})
		})
	}
}

// rule appends a rule to its chain.
func (b *batch) rule(r *nftables.Rule, group uint32) {
	b.beginNFT(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, r.Table.Family, subject{opRule, group})
	b.name(unix.NFTA_RULE_TABLE, r.Table.Name)
	b.name(unix.NFTA_RULE_CHAIN, r.Chain.Name)
	b.nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		for _, e := range r.Exprs {
			data, err := expr.Marshal(byte(r.Table.Family), e)
			if err != nil && b.err == nil {
				b.err = fmt.Errorf("encode nf_tables rule of chain %s: %w", r.Chain.Name, err)
			}
			b.attr(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, data)
		}
	})
	if len(r.UserData) > 0 {
		b.attr(unix.NFTA_RULE_USERDATA, r.UserData)
	}
	b.end()
}

// flushChain removes all rules of a chain.
func (b *batch) flushChain(c *nftables.Chain, group uint32) {
	b.beginNFT(unix.NFT_MSG_DELRULE, 0, c.Table.Family, subject{opFlushChain, group})
	b.name(unix.NFTA_RULE_TABLE, c.Table.Name)
	b.name(unix.NFTA_RULE_CHAIN, c.Name)
	b.end()
}

// errNoAnswer: the kernel answers while it takes the batch, so an answer that is not there was lost.
var errNoAnswer = errors.New("nf_tables: the kernel's answer was lost")

// send commits the batch and returns what the kernel refused. If any message is refused the kernel changes nothing. An
// error means that the batch was not sent, or that its outcome is unknown (errNoAnswer).
func (b *batch) send(conn *netlink.Conn) ([]refusal, error) {
	if b.err != nil {
		return nil, b.err
	}
	b.finish()
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("nf_tables socket: %w", err)
	}
	var (
		refused []refusal
		sendErr error
	)
	err = raw.Control(func(fd uintptr) {
		if sendErr = drain(int(fd)); sendErr != nil {
			return
		}
		sendErr = unix.Sendto(int(fd), b.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if sendErr == nil {
			refused, sendErr = b.answers(int(fd))
		}
	})
	if err == nil {
		err = sendErr
	}
	if err != nil && !errors.Is(err, errNoAnswer) {
		err = fmt.Errorf("send nf_tables batch of %d bytes: %w", len(b.buf), err)
	}
	return refused, err
}

// drain empties the socket of answers to earlier batches, of which there are none unless one was cut short.
func drain(fd int) error {
	var one [1]byte
	for {
		_, _, err := unix.Recvfrom(fd, one[:], unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN:
			return nil
		case err != nil && err != unix.EINTR && err != unix.ENOBUFS:
			return err
		}
	}
}

// answers reads what the kernel has queued while it processed the batch.
func (b *batch) answers(fd int) ([]refusal, error) {
	var (
		refused []refusal
		buf     [8192]byte
	)
	last := uint32(len(b.subject) - 1) // the message before the end of the batch
	for {
		n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			if len(refused) > 0 {
				return refused, nil
			}
			return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		for msg := buf[:n]; len(msg) >= unix.NLMSG_HDRLEN+4; {
			length := binary.NativeEndian.Uint32(msg)
			kind := binary.NativeEndian.Uint16(msg[4:])
			seq := binary.NativeEndian.Uint32(msg[8:])
			if kind == unix.NLMSG_ERROR && seq >= 1 && seq <= uint32(len(b.subject)) {
				errno := unix.Errno(-int32(binary.NativeEndian.Uint32(msg[unix.NLMSG_HDRLEN:])))
				if errno != 0 {
					refused = append(refused, refusal{b.subject[seq-1], errno})
				}
				// A batch that the kernel does not even begin is answered at its first message, with nothing after.
				if seq == last {
					return refused, nil
				}
			}
			aligned := int(length+unix.NLMSG_ALIGNTO-1) &^ (unix.NLMSG_ALIGNTO - 1)
			if length < unix.NLMSG_HDRLEN || aligned >= len(msg) {
				break
			}
			msg = msg[aligned:]
		}
	}
}
