package conf

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
)

// Names of package syntax that a caller of Load needs.
type (
	Pos      = syntax.Pos
	Finding  = syntax.Finding
	Severity = syntax.Severity
	Code     = syntax.Code
	Node     = syntax.Node
	Files    = syntax.Files
)

// The severities of findings, in rising order.
const (
	Note    = syntax.Note
	Warning = syntax.Warning
	Error   = syntax.Error
)

// Options says what Load reads and what it may know of its surroundings.
type Options struct {
	// Path is the file to read. As in keepalived it may be a pattern that matches several.
	Path string

	// ConfigID decides the conditions (@ID): keepalived's -i, else the host name up to its first dot.
	ConfigID string

	// Node is the name of this machine where the cluster block gives none: the host name.
	Node string

	// Env looks up an environment variable for ${_ENV NAME}. A nil Env knows none.
	Env func(name string) (value string, set bool)

	// Files is the file system. It must not be nil.
	Files Files

	// Checks are the include checks in force from the start (all of them with keepalived's -e).
	Checks syntax.Checks

	// Seed begins the sequence of ${_RANDOM}.
	Seed uint64

	// MaxLines bounds the number of lines after expansion; 0: 1048576.
	MaxLines int

	// Witness says that only the cluster block is needed, and the advertisement intervals from which the lease derives:
	// findings about anything else are left out.
	Witness bool
}

// Config is a configuration, checked and with all defaults in place. It is not changed after Load.
type Config struct {
	Path     string
	ConfigID string
	Files    []string // all files that were read, in the order of reading

	Process         Process
	Global          Global
	Static          Static
	TrackGroups     []TrackGroup
	GARPGroups      []GARPGroup
	Linkbeat        []LinkbeatInterface
	InterfaceDelays []InterfaceDelay
	Scripts         []Script
	TrackFiles      []TrackFile
	TrackProcesses  []TrackProcess
	BFD             []BFD
	SyncGroups      []SyncGroup
	Instances       []Instance

	// Cluster is nil if the file has no cluster block: then had behaves as keepalived does.
	Cluster *Cluster

	SSL                 *SSL // nil: none
	VirtualServerGroups []VirtualServerGroup
	VirtualServers      []VirtualServer

	source *source
}

// Process holds the words outside any block.
type Process struct {
	NetNamespace        string // network namespace to run in; empty: the one we were started in
	NetNamespaceIPVS    string // namespace of the IPVS table
	IPVSInHostNamespace bool   // net_namespace_ipvs without a name
	NamespaceWithIPSets bool
	UsePIDDir           bool
	Instance            string // name of this process among several on one host
	ChildWaitTime       time.Duration
	LinkbeatUsePolling  bool
}

// Family is the address family of a virtual router. Its value is the version of IP.
type Family uint8

// The families. The zero Family is not valid.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Version is a version of VRRP: 2 (RFC 3768) or 3 (RFC 9568).
type Version = uint8

// Global holds the words of global_defs. Defaults of instances are already applied to the instances; they are repeated
// here because status shows them.
type Global struct {
	RouterID string // empty: the host name

	Mail Mail

	StartupScript         *Command
	StartupScriptTimeout  time.Duration
	ShutdownScript        *Command
	ShutdownScriptTimeout time.Duration

	ScriptUser             string // default identity of scripts; empty: keepalived_script if it exists, else our own
	ScriptGroup            string // empty: the user's primary group
	ScriptSecurity         bool   // enable_script_security
	UseSymlinkPaths        bool
	SetSupplementaryGroups bool

	DefaultInterface         string // for static addresses without dev
	DynamicInterfaces        bool
	DynamicInterfacesChanges bool // allow_if_changes
	DisableLocalIGMP         bool

	NotifyFIFO            FIFO
	VRRPNotifyFIFO        FIFO
	LVSNotifyFIFO         FIFO
	FIFOWriteOnReload     bool // fifo_write_vrrp_states_on_reload
	NotifyPriorityChanges bool

	MulticastGroup4 netip.Addr
	MulticastGroup6 netip.Addr

	VRRPVersion          Version // default of IPv4 instances
	GARP                 GARP
	GARPExtraInterfaces  ExtraInterfaces
	GARPInterval         time.Duration // least time between two gratuitous ARP messages of an interface; 0: no limit
	GNAInterval          time.Duration
	MinGARP              bool
	DownTimerAdverts     int
	LowerPrioNoAdvert    bool
	HigherPrioSendAdvert bool
	OwnerIgnoreAdverts   bool
	V3ChecksumAsV2       bool
	CheckUnicastSource   bool
	SkipCheckAdvAddr     bool
	Strict               bool
	StartupDelay         time.Duration
	DelayAfterBoot       time.Duration
	LogUnknownVRIDs      bool
	VMACPrefix           string
	VMACAddrPrefix       string

	Firewall Firewall
	LVS      LVS
	SNMP     SNMP

	DBus                bool
	DBusServiceName     string
	DBusNoInterfaceName string

	ProcessNames ProcessNames
	VRRP         Scheduling // how the vrrp process is to be scheduled
	Checker      Scheduling
	BFD          Scheduling

	MaxAutoPriority      int // ceiling of the automatic realtime priority; 0: off, -1: disabled
	MinAutoPriorityDelay time.Duration

	Buffers Buffers

	Umask             int // -1: not given
	RandomSeed        uint64
	RandomSeedSet     bool
	ReloadCheckConfig bool
	ReloadCheckLog    string
	ReloadTimeFile    string
	ReloadRepeat      bool
	ReloadFile        string
	ReloadFileSet     bool
	ConfigSaveDir     string
	TmpConfigDir      string
	DataUseInstance   bool
	JSONVersion       int
	IPRouteUsrDir     string
	IPRouteEtcDir     string
	StateDumpFile     string
	StatsDumpFile     string
	JSONDumpFile      string
	CheckerLogAll     bool // checker_log_all_failures
	RSInitNotifies    bool
	NoCheckerEmails   bool
}

// Mail says where alerts go. Nothing is sent without a Server and Recipients.
type Mail struct {
	From           string
	Recipients     []string
	Server         string // address or host name; empty: none
	Port           uint16
	HeloName       string
	ConnectTimeout time.Duration
	Alert          *bool // smtp_alert; nil: not given
	AlertVRRP      *bool
	AlertChecker   *bool
	NoFaults       bool // no_email_faults
	TLS            MailTLS
	CAFile         string // PEM; empty: the system's authorities
	User           string // empty: no login; only with TLS
	Password       string
}

// MailTLS is smtp_tls.
type MailTLS uint8

// The ways to protect mail under way.
const (
	MailPlain MailTLS = iota
	MailStartTLS
	MailImplicitTLS
)

// FIFO is a named pipe that receives state changes. An empty Path is none.
type FIFO struct {
	Pos    Pos
	Path   string
	User   string
	Group  string
	Script *Command // reader; gets Path as its last argument
}

// GARP holds the counts and times of gratuitous ARP messages and unsolicited neighbour advertisements.
type GARP struct {
	MasterRepeat        int           // messages per address on becoming Active, and again after MasterDelay
	MasterDelay         time.Duration // to the second burst; 0: no second burst
	MasterRefresh       time.Duration // period of the refresh while Active; 0: none
	MasterRefreshRepeat int           // messages per address of each refresh
	LowerPrioRepeat     int           // messages per address on hearing a lower priority; 0: none
	LowerPrioDelay      time.Duration // to the second such burst; 0: no second burst
}

// ExtraInterfaces is garp_extra_if: periodic announcements on interfaces that are not the instance's own.
type ExtraInterfaces struct {
	Period time.Duration // 0: off
	All    bool          // on any interface, not only on VMACs
}

// Firewall says how no_accept and VMACs are filtered.
type Firewall struct {
	Nftables         string // table; empty: not given
	NftablesPriority int
	NftablesIfindex  bool
	NftablesCounters bool

	Iptables    bool
	IptablesIn  string
	IptablesOut string

	IPSets        []string // names; nil: not given
	IPSetsOff     bool     // vrrp_ipsets without a name
	IPVSTable     string   // nftables_ipvs
	IPVSPriority  int
	IPVSStartMark uint32
}

// LVS holds the settings of the IPVS table.
type LVS struct {
	Timeouts      bool // lvs_timeouts was given
	TCPTimeout    time.Duration
	TCPFinTimeout time.Duration
	UDPTimeout    time.Duration
	Flush         bool
	FlushOnStop   bool
	FlushOnStopVS bool // only the configured services
	SyncDaemon    *SyncDaemon
}

// SyncDaemon is lvs_sync_daemon.
type SyncDaemon struct {
	Pos       Pos
	Interface string
	Instance  string // instance whose role it follows; empty: both roles
	ID        int    // -1: the VRID of Instance, or 0
	MaxLen    int    // 0: the kernel's
	Port      uint16
	TTL       uint8
	Group     netip.Addr
}

// SNMP holds the words about SNMP. had sends traps itself; the rest is AgentX.
type SNMP struct {
	Socket           string
	Traps            bool
	VRRP             bool
	RFCv2            bool
	RFCv3            bool
	Checker          bool
	VSUpdateInterval time.Duration
	RSUpdateInterval time.Duration
	Receivers        []TrapReceiver
}

// TrapReceiver is an snmp_trap block. With a User it gets traps of SNMP version 3, else of version 2c.
type TrapReceiver struct {
	Pos       Pos
	Host      string // address or host name
	Port      uint16
	Community string

	User         string
	Auth         string // protocol; empty: no authentication
	AuthPassword string
	Priv         string // protocol; empty: no encryption; only with Auth
	PrivPassword string
	EngineID     []byte // nil: from the router ID
}

// ProcessNames holds the names of keepalived's processes.
type ProcessNames struct {
	Distinct bool // process_names
	Parent   string
	VRRP     string
	Checker  string
	BFD      string
}

// Scheduling is what the operator wants of the scheduler for one of keepalived's processes.
type Scheduling struct {
	Nice           int
	NoSwap         bool
	RealtimeSet    bool
	Realtime       int
	CPUs           []int
	RlimitRTTime   time.Duration
	NetlinkCommand NetlinkBuffers
	NetlinkMonitor NetlinkBuffers
}

// NetlinkBuffers is the receive buffer of a netlink socket.
type NetlinkBuffers struct {
	Bytes uint32 // 0: the kernel's default
	Force bool
}

// Buffers says how large the receive buffers of sockets are.
type Buffers struct {
	ReceivePolicy     ReceivePolicy
	ReceiveBytes      uint32
	ReceiveMultiplier uint32
	ProcessMonitor    NetlinkBuffers
}

// ReceivePolicy is vrrp_rx_bufs_policy.
type ReceivePolicy uint8

// The policies for the receive buffers of VRRP sockets.
const (
	ReceiveDefault ReceivePolicy = iota // the kernel's default
	ReceiveMTU
	ReceiveAdvert
	ReceiveBytes
)

// Command is a script with its arguments, as the words notify_master, script, startup_script and others take it.
type Command struct {
	Pos  Pos
	Line string // the command as written, without the identity

	// Argv is the program and its arguments, escapes resolved. It is empty if Opens is set.
	Argv []string

	// Opens is the file of a command of the form "</path": success if that file can be opened for reading.
	Opens string

	User  string // empty: the default identity
	Group string // empty: the user's primary group
}

// Commands returns every command of the configuration that had runs.
func (c *Config) Commands() iter.Seq[*Command] {
	return func(yield func(*Command) bool) {
		g := &c.Global
		all := []*Command{g.StartupScript, g.ShutdownScript, g.NotifyFIFO.Script, g.VRRPNotifyFIFO.Script,
			g.LVSNotifyFIFO.Script}
		for i := range c.Scripts {
			all = append(all, &c.Scripts[i].Command)
		}
		notified := func(n *Notify) {
			all = append(all, n.Master, n.Backup, n.Fault, n.Stop, n.Deleted, n.Any, n.MasterRxLowerPri)
		}
		for i := range c.SyncGroups {
			notified(&c.SyncGroups[i].Notify)
		}
		for i := range c.Instances {
			notified(&c.Instances[i].Notify)
		}
		for i := range c.VirtualServers {
			all = slices.AppendSeq(all, c.VirtualServers[i].Commands())
		}
		for _, command := range all {
			if command != nil && !yield(command) {
				return
			}
		}
	}
}

// Static holds what is present as long as had runs, whatever VRRP says.
type Static struct {
	Addresses []Address
	Routes    []Route
	Rules     []Rule
}

// Address is one line of an address block.
type Address struct {
	Pos        Pos
	Prefix     netip.Prefix // the address with its length
	Interface  string       // never empty in an instance that has an interface
	Scope      uint8        // rtnetlink scope: 0 global, 200 site, 253 link, 254 host
	Broadcast  netip.Addr   // IPv4; unset: none
	Label      string
	Peer       netip.Addr
	Home       bool
	DAD        bool // "-nodad": ask for duplicate address detection
	MngTmpAddr bool
	NoPrefixRt bool // noprefixroute
	AutoJoin   bool
	Track      bool // unless no_track

	// PreferredLft is the preferred lifetime; PreferredForever: no limit.
	PreferredLft time.Duration

	// UseVMAC puts the address on a VMAC of its own on Interface (use_vmac in its line, or use_vmac_addr); an address of the
	// instance's family on the instance's interface is on the instance's VMAC anyway.
	UseVMAC    bool
	TrackGroup string
}

// PreferredForever is the preferred lifetime of an address without a limit.
const PreferredForever time.Duration = -1

// Script is a vrrp_script block.
type Script struct {
	Pos      Pos
	Name     string
	Command  Command
	Interval time.Duration
	Timeout  time.Duration
	Weight   int
	Reverse  bool
	Rise     int
	Fall     int
	InitFail bool
}

// TrackFile is a track_file block.
type TrackFile struct {
	Pos       Pos
	Name      string
	Path      string
	Weight    int
	Reverse   bool
	Init      bool // create the file with InitValue if it is absent
	InitValue int
	Overwrite bool // and write it even if it exists
}

// ParamMatch says how the parameters of a tracked process are compared.
type ParamMatch uint8

// The ways of comparing parameters.
const (
	ParamsIgnored ParamMatch = iota
	ParamsEqual
	ParamsPartial // the given ones are a leading subset
	ParamsInitial // and the last given one may be a prefix
)

// TrackProcess is a vrrp_track_process block.
type TrackProcess struct {
	Pos            Pos
	Name           string
	Process        []string // program and parameters
	Params         ParamMatch
	FullCommand    bool
	Weight         int
	Reverse        bool
	Quorum         int
	QuorumMax      int // -1: unlimited
	TerminateDelay time.Duration
	ForkDelay      time.Duration
}

// BFD is a bfd_instance block.
type BFD struct {
	Pos        Pos
	Name       string
	Source     netip.Addr
	Neighbor   netip.Addr
	MinRX      time.Duration
	MinTX      time.Duration
	IdleTX     time.Duration
	Multiplier int
	Passive    bool
	TTL        int // 0: 255 for IPv4, 64 for IPv6
	MaxHops    int
	Multihop   bool
	Weight     int
	Reverse    bool
	VRRP       bool // deliver events to VRRP
	Checker    bool // deliver events to the health checkers
}

// Tracking names what an instance or a group follows. Weights are final: the tracked object's own where the line gives
// none, and zero where a sync group forbids them.
type Tracking struct {
	Interfaces []Track
	Scripts    []Track
	Files      []Track
	Processes  []Track
	BFD        []Track
}

// Track is one line of a track block. Weight 0 means that a failure is a fault.
type Track struct {
	Pos     Pos
	Name    string
	Weight  int
	Reverse bool
}

// Notify holds the scripts that are told of state changes.
type Notify struct {
	Master           *Command
	Backup           *Command
	Fault            *Command
	Stop             *Command
	Deleted          *Command
	DeletedState     bool // notify_deleted was given: report DELETED instead of FAULT
	Any              *Command
	MasterRxLowerPri *Command
}

// SyncGroup is a vrrp_sync_group block: instances that change state together.
type SyncGroup struct {
	Pos                   Pos
	Name                  string
	Members               []string // names of instances that exist, in the order of the file
	Tracking              Tracking // already merged into the members
	TrackingWeight        bool     // sync_group_tracking_weight
	Notify                Notify
	SMTPAlert             bool
	NotifyPriorityChanges bool
}

// AuthType is an authentication type of VRRP version 2.
type AuthType uint8

// The authentication types, by their values on the wire.
const (
	AuthNone AuthType = 0
	AuthPass AuthType = 1
	AuthAH   AuthType = 2
)

// Auth is the authentication block of an instance.
type Auth struct {
	Pos  Pos
	Type AuthType
	Data [8]byte // auth_pass, cut to 8 bytes or padded with zeros
}

// HMACReplay says what the sequence value of an HMAC trailer means.
type HMACReplay uint8

// The kinds of replay protection.
const (
	ReplayTime HMACReplay = iota
	ReplayMonotonic
)

// HMACMode is the mode of an auth_hmac block.
type HMACMode uint8

// The modes.
const (
	HMACEnforce HMACMode = iota
	HMACPermissive
	HMACReceiveOnly
)

// HMACKey is one key of an auth_hmac block.
type HMACKey struct {
	Pos    Pos
	ID     uint8
	Secret []byte // 32 to 64 bytes
}

// HMAC is the auth_hmac block of an instance.
type HMAC struct {
	Pos        Pos
	Keys       []HMACKey
	ActiveKey  uint8
	TimeWindow time.Duration
	AntiReplay HMACReplay
	Mode       HMACMode
}

// UnicastPeer is one line of unicast_peer. A TTL of -1 is not checked.
type UnicastPeer struct {
	Pos     Pos
	Address netip.Addr
	MinTTL  int
	MaxTTL  int
}

// OldChecksum says whether a unicast instance uses the checksum of very old releases.
type OldChecksum uint8

// The ways to handle the old unicast checksum.
const (
	OldChecksumDetect OldChecksum = iota // use it once a peer does
	OldChecksumAlways
	OldChecksumNever
)

// VMAC is use_vmac: a macvlan with the virtual router MAC.
type VMAC struct {
	Pos              Pos
	Name             string // empty: prefix.VRID
	MAC              []byte // nil: from the VRID; 5 octets: completed with the VRID; 6 octets: as it is
	Group            Number // interface group; not set: the parent's
	NetlinkNotifyMsg bool
	TransmitFromBase bool // vmac_xmit_base
}

// IPVLAN is use_ipvlan.
type IPVLAN struct {
	Pos     Pos
	Name    string
	Address netip.Prefix
	Mode    string // bridge, private or vepa
	Group   Number // interface group; not set: the parent's
}

// Instance is a vrrp_instance block with all defaults applied.
type Instance struct {
	Pos       Pos
	Name      string
	SyncGroup string // name of its sync group; empty: none

	Version   Version
	Family    Family
	VRID      uint8
	Interface string // empty: a unicast instance with only a source address
	VRF       string

	// InitialMaster is "state MASTER", or priority 255.
	InitialMaster bool
	// Priority is the base priority, 1..255; 255 is the address owner.
	Priority uint8
	// AdvertInterval is rounded to what the version can express.
	AdvertInterval   time.Duration
	DownTimerAdverts int
	Preempt          bool
	PreemptDelay     time.Duration

	Addresses        []Address // announced in adverts
	Excluded         []Address // held while Active, not announced
	Routes           []Route
	Rules            []Rule
	NoVirtualAddress bool // no_virtual_ipaddress

	Auth Auth
	HMAC *HMAC // nil: none

	Unicast            bool // adverts go to Peers and to no multicast group
	Peers              []UnicastPeer
	UnicastFaultNoPeer bool
	UnicastTTL         int // -1: not given
	CheckUnicastSource bool
	OldUnicastChecksum OldChecksum

	Source         netip.Addr // of adverts; unset: the primary address of the interface
	TrackSource    bool       // fault while Source is absent
	MulticastGroup netip.Addr
	ChecksumAsV2   bool

	TrackPrimary bool // the state of Interface counts; false with dont_track_primary
	Tracking     Tracking

	GARP                GARP
	GARPExtraInterfaces ExtraInterfaces

	Accept               bool // packets to the addresses are accepted while Active
	SkipCheckAdvAddr     bool
	Strict               bool
	HigherPrioSendAdvert bool
	LowerPrioNoAdvert    bool
	OwnerIgnoreAdverts   bool
	TimerExpiredBackup   uint8 // 0: off
	PromoteSecondaries   bool

	VMAC   *VMAC   // nil: none
	IPVLAN *IPVLAN // nil: none

	Notify                Notify
	SMTPAlert             bool
	NotifyPriorityChanges bool

	KernelRxBufSize  uint32 // bytes; 0: by policy
	LVSSyncInterface string // deprecated lvs_sync_daemon_interface
	LinkbeatPolling  bool
}

// TrackGroup is a track_group block.
type TrackGroup struct {
	Pos     Pos
	Name    string
	Members []string
}

// GARPGroup is a garp_group block: interfaces that share one limit.
type GARPGroup struct {
	Pos          Pos
	GARPInterval time.Duration
	GNAInterval  time.Duration
	Interfaces   []string
}

// LinkbeatInterface is one entry of linkbeat_interfaces.
type LinkbeatInterface struct {
	Pos    Pos
	Name   string
	Method string // MII, ETHTOOL, IOCTL; empty: probe
}

// InterfaceDelay is one line of interface_up_down_delays.
type InterfaceDelay struct {
	Pos  Pos
	Name string
	Down time.Duration
	Up   time.Duration
}
