package transport

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Kind tells what a connection is for.
type Kind string

// The kinds of connections.
const (
	KindLink Kind = "link"
	KindCall Kind = "call"
	KindRaft Kind = "raft"
)

// protocol is the version of the frames. A peer of another version is refused.
const protocol = 1

// Hello is what each side of a connection says about itself before anything else.
type Hello struct {
	Protocol int    `json:"protocol"`
	Kind     Kind   `json:"kind"`
	Cluster  string `json:"cluster"`
	// ClusterID is empty in a member that belongs to no cluster yet.
	ClusterID string `json:"cluster_id,omitempty"`
	Member    string `json:"member"`
	To        string `json:"to,omitempty"` // the member it is meant for; empty: whoever has the node's name
	Run       uint64 `json:"run"`          // of the member's data directory
	Life      uint64 `json:"life"`         // of its process
	Version   string `json:"version"`      // of the program
	Lease     int64  `json:"lease"`        // nanoseconds
	Peers     string `json:"peers"`        // digest of the configured peers

	// Refused is the answer "no", and why. Code is for programs.
	Refused string `json:"refused,omitempty"`
	Code    Code   `json:"code,omitempty"`
}

// Code tells why a connection was refused.
type Code string

// The codes that programs act on.
const (
	CodeKey        Code = "key"         // the other side's certificate comes from another key
	CodeName       Code = "name"        // not the node it should be, or not configured
	CodeAddress    Code = "address"     // a node's name at an address that is not the node's
	CodeCluster    Code = "cluster"     // another cluster
	CodeMember     Code = "member"      // meant for another member id, usually an older one
	CodeRolledBack Code = "rolled_back" // the member's data directory is older than what is known of it
	CodeSuperseded Code = "superseded"  // of the cluster that this one was before a member was made the only voter
	CodeNotReady   Code = "not_ready"   // try again
	CodeProtocol   Code = "protocol"    // does not speak as expected
)

// Refusal says that a connection was refused, by this side or the other one.
type Refusal struct {
	Code     Code
	Node     string // the other side, as far as it said
	Address  netip.Addr
	Incoming bool // the other side connected to us
	Theirs   bool // the other side refused
	Reason   string
}

func (r *Refusal) Error() string {
	if r.Theirs {
		return "refused by the other side: " + r.Reason
	}
	return r.Reason
}

// Gate decides who is let in. Its methods are called from many goroutines and must not block.
type Gate interface {
	// Self is what this member says about itself.
	Self() Hello
	// Admit judges the other side of a connection. node is proved by its certificate.
	Admit(node string, address netip.Addr, hello Hello, incoming bool) *Refusal
	// Refused hears of every connection that was not accepted.
	Refused(*Refusal)
}

const (
	maxHello         = 4 << 10
	frameHeader      = 4
	handshakeTimeout = 3 * time.Second
)

var errFrameTooLong = errors.New("frame is too long")

// appendFrame appends a frame: length, then payload.
func appendFrame(b, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// readFrame reads a frame of at most limit bytes. No memory is taken for a longer one.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if uint64(length) > uint64(limit) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", errFrameTooLong, length, limit)
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(r, payload); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return payload, nil
}

func writeHello(w io.Writer, h Hello) error {
	h.Protocol = protocol
	b, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode hello: %w", err)
	}
	_, err = w.Write(appendFrame(nil, b))
	return err
}

func readHello(r io.Reader) (Hello, error) {
	b, err := readFrame(r, maxHello)
	if err != nil {
		return Hello{}, err
	}
	var h Hello
	if err := json.Unmarshal(b, &h); err != nil {
		return Hello{}, fmt.Errorf("decode hello: %w", err)
	}
	if h.Protocol != protocol && h.Refused == "" {
		return Hello{}, fmt.Errorf("it speaks version %d of the protocol, and this is version %d", h.Protocol, protocol)
	}
	return h, nil
}
