package conf

import (
	"iter"
	"net/netip"
	"slices"
	"time"
)

// Protocol is the transport protocol of a virtual server, by its IP protocol number.
type Protocol uint8

// The protocols. A virtual server of a firewall mark has the zero Protocol.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// Method is how packets get to a real server (lb_kind, lvs_method).
type Method uint8

// The methods.
const (
	NAT Method = iota
	DR
	TUN
)

// TunnelType is the encapsulation of TUN.
type TunnelType uint8

// The encapsulations.
const (
	IPIP TunnelType = iota
	GUE
	GRE
)

// TunnelChecksum is what the outer header of a GUE or GRE tunnel carries.
type TunnelChecksum uint8

// The checksums.
const (
	NoChecksum TunnelChecksum = iota
	Checksum
	RemoteChecksum
)

// Forwarding is a method with what belongs to it. What concerns tunnels is zero with the other methods.
type Forwarding struct {
	Method   Method
	Type     TunnelType
	Port     uint16 // UDP port of GUE
	Checksum TunnelChecksum
}

// VirtualServer is a virtual_server block with all defaults applied. One of Address, Mark and Group says what it is; it
// has at least one real server.
type VirtualServer struct {
	Pos     Pos
	Address netip.AddrPort // port 0: all ports
	Mark    uint32         // firewall mark
	Group   string         // name of a VirtualServerGroup

	// Family is that of the services: of Address, of ip_family, or of the real servers; 0: a group of which each entry with
	// an address has its own, and no mark needs one.
	Family   Family
	Protocol Protocol // also of a group's addresses

	Scheduler  string
	Flags      [3]bool // of the scheduler: flag-1 to flag-3 and their names for sh and mh
	OnePacket  bool    // ops
	Forwarding Forwarding

	Persistence       time.Duration // 0: none
	PersistencePrefix uint8         // clients that share so many bits count as one; 0: each address counts
	PersistenceEngine string

	HASuspend   bool
	SMTPAlert   bool
	Omega       bool
	Quorum      int // total weight of servers that are up; at least 1
	Hysteresis  int // below Quorum
	QuorumUp    *Command
	QuorumDown  *Command
	VirtualHost string // of checkers
	SNMPName    string

	Sorry   *SorryServer // nil: none
	Servers []RealServer
}

// SorryServer is the server that serves while the quorum is missing.
type SorryServer struct {
	Pos        Pos
	Address    netip.AddrPort // port 0: that of the service
	Forwarding Forwarding
	Inhibit    bool // sorry_server_inhibit: stays in the table with weight 0 while it is not needed
}

// RealServer is a real_server block with all defaults applied.
type RealServer struct {
	Pos              Pos
	Address          netip.AddrPort // port 0: that of the service
	Forwarding       Forwarding
	Weight           int    // 0..2147483647
	Upper            uint32 // uthreshold; 0: none
	Lower            uint32 // lthreshold
	InhibitOnFailure bool
	Alpha            bool // down until its checkers have succeeded
	SMTPAlert        bool
	NotifyUp         *Command
	NotifyDown       *Command
	SNMPName         string
	Checkers         []Checker
}

// VirtualServerGroup is a virtual_server_group block.
type VirtualServerGroup struct {
	Pos     Pos
	Name    string
	Entries []GroupEntry
}

// GroupEntry is a line of a group: the addresses from First to Last with one port, or a firewall mark.
type GroupEntry struct {
	Pos         Pos
	First, Last netip.Addr
	Port        uint16 // 0: all ports
	Mark        uint32
	Family      Family // of First; of a mark: 0 where the line does not say
}

// SSL is the SSL block: what checkers present to TLS servers.
type SSL struct {
	Pos         Pos
	Password    string // of Key
	CA          string // path of a PEM file; empty: none
	Certificate string // path of a PEM file; empty: none
	Key         string // path of a PEM file; empty: the file of Certificate
}

// CheckKind is a kind of health checker, by its keyword.
type CheckKind string

// The kinds. HTTP_GET and SSL_GET differ in TLS.
const (
	TCPCheck  CheckKind = "TCP_CHECK"
	HTTPGet   CheckKind = "HTTP_GET"
	SSLGet    CheckKind = "SSL_GET"
	SMTPCheck CheckKind = "SMTP_CHECK"
	DNSCheck  CheckKind = "DNS_CHECK"
	UDPCheck  CheckKind = "UDP_CHECK"
	PingCheck CheckKind = "PING_CHECK"
	MiscCheck CheckKind = "MISC_CHECK"
	FileCheck CheckKind = "FILE_CHECK"
	BFDCheck  CheckKind = "BFD_CHECK"
)

// Checker is a health checker of a real server with all defaults applied. A host block of SMTP_CHECK is a Checker of its
// own.
type Checker struct {
	Pos            Pos
	Kind           CheckKind
	Alpha          bool // failed until it has succeeded
	LogAllFailures bool

	// Schedule: the first run comes after 1 s and a random part of Warmup. FILE_CHECK and BFD_CHECK have none.
	Retry            int // further attempts before it has failed
	DelayBeforeRetry time.Duration
	Warmup           time.Duration
	DelayLoop        time.Duration

	// What checks that use the network have in common.
	Target         netip.AddrPort // the zone of a link-local address is BindInterface
	BindAddress    netip.Addr     // unset: the kernel's choice
	BindPort       uint16         // 0: the kernel's choice
	BindInterface  string
	ConnectTimeout time.Duration // also of each read
	Mark           uint32        // SO_MARK

	HTTP *HTTPCheckFields // HTTP_GET, SSL_GET
	DNS  *DNSCheckFields
	UDP  *UDPCheckFields
	Misc *MiscCheckFields
	File *FileCheckFields

	HeloName string // SMTP_CHECK
	Session  string // BFD_CHECK: name of a bfd_instance
}

// HTTPCheckFields is what HTTP_GET and SSL_GET have of their own.
type HTTPCheckFields struct {
	Protocol     string // 1.0, 1.0C, 1.1 or 2
	FastRecovery bool
	URLs         []URL // at least one
}

// URL is one resource that has to be there.
type URL struct {
	Pos          Pos
	Path         string
	Host         string // Host header; empty: address and port of the target
	ServerName   string // that TLS names; empty: none
	Status       []StatusRange
	Digest       string // MD5 of the body in lower-case hex; empty: any
	Regex        *BodyRegex
	TLSVerify    bool // the certificate must be good for ServerName, or without one for the address
	TLSCompliant bool // a connection that ends without close_notify is an error
}

// StatusRange is a range of accepted status codes, both ends included.
type StatusRange struct{ First, Last int }

// BodyRegex is a pattern that the body has to match.
type BodyRegex struct {
	Pos       Pos
	Pattern   string
	Options   []string // names of PCRE2's compile options
	NoMatch   bool     // the body must not match
	MinOffset int      // bytes before a match may begin
	MaxOffset int      // last byte at which a match may begin; -1: any
}

// DNSCheckFields is what DNS_CHECK has of its own.
type DNSCheckFields struct {
	Type string // in capitals
	Name string // "." is the root
}

// UDPCheckFields is what UDP_CHECK has of its own.
type UDPCheckFields struct {
	Payload      []byte // nil: built-in
	RequireReply bool
	Reply        []byte // the reply begins with these, where ReplyMask has ones
	ReplyMask    []byte
	MinReply     int // bytes; counts only with Reply
	MaxReply     int
}

// MiscCheckFields is what MISC_CHECK has of its own.
type MiscCheckFields struct {
	Command Command
	Timeout time.Duration
	Dynamic bool
}

// FileCheckFields is what FILE_CHECK has of its own.
type FileCheckFields struct {
	TrackFile string
	Weight    int // multiplies the value; 0: a value other than 0 is a failure
	Reverse   bool
}

// Commands returns the commands of a virtual server, its real servers and their checkers.
func (v *VirtualServer) Commands() iter.Seq[*Command] {
	all := []*Command{v.QuorumUp, v.QuorumDown}
	for i := range v.Servers {
		r := &v.Servers[i]
		all = append(all, r.NotifyUp, r.NotifyDown)
		for j := range r.Checkers {
			if m := r.Checkers[j].Misc; m != nil {
				all = append(all, &m.Command)
			}
		}
	}
	all = slices.DeleteFunc(all, func(c *Command) bool { return c == nil })
	return slices.Values(all)
}
