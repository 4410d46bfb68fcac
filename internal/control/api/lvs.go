package api

// LVSText is a virtual service as text in keepalived's language, without and with its real servers.
type LVSText struct {
	Key     string          `json:"service"`
	Text    string          `json:"text"`
	Servers []LVSServerText `json:"servers"`
}

// LVSServerText is one real server of a LVSText.
type LVSServerText struct {
	Key    string  `json:"server"`
	Text   string  `json:"text"`
	Weight *uint32 `json:"weight,omitempty"` // instead of that in Text
}

// LVSRecord is the replicated state of a virtual service.
type LVSRecord struct {
	LVSText
	Version uint64 `json:"version"`        // log index of the newest change by a person or a file
	File    string `json:"file,omitempty"` // the node whose file it is from; empty: added by hand
	Since   Time   `json:"since,omitzero"`
	By      string `json:"by,omitempty"`
	Reason  string `json:"reason,omitempty"`

	Marks []LVSMark `json:"marks"` // of Servers, in their order
}

// LVSMark is what the cluster knows of a real server beside its text.
type LVSMark struct {
	Drained *LVSDrain   `json:"drained,omitempty"`
	Found   *LVSVerdict `json:"found,omitempty"` // nil: nobody has said anything
}

// LVSDrain says that a real server gets no new connections.
type LVSDrain struct {
	Since  Time   `json:"since,omitzero"`
	Until  Time   `json:"until,omitzero"` // zero: until taken off
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// LVSVerdict says whether a real server answers.
type LVSVerdict struct {
	Up     bool   `json:"up"`
	Adds   int64  `json:"adds,omitempty"` // what checks add to the weight, or take from it
	Reason string `json:"reason,omitempty"`
	Node   string `json:"node,omitempty"` // who says so
	At     Time   `json:"at,omitzero"`
}

// LVSTable is the replicated state of all virtual services.
type LVSTable struct {
	Version  uint64      `json:"version"` // log index of the newest change; 0: the cluster has none, files decide
	Services []LVSRecord `json:"services"`
}

// NodeLVS is what a director knows of the virtual services for itself.
type NodeLVS struct {
	Node     string        `json:"node"`
	Version  uint64        `json:"version"`           // of the LVSTable that it serves; 0: those of its file
	Problem  string        `json:"problem,omitempty"` // why its kernel does not have all that it should
	Services []NodeService `json:"services"`
	File     []LVSText     `json:"file,omitempty"`   // of its own file; only from the node that is asked
	Kernel   []string      `json:"kernel,omitempty"` // what differs between its kernel and what it wants there, a line each
}

// NodeService is a virtual service on one director.
type NodeService struct {
	Key     string       `json:"service"`
	Group   string       `json:"group,omitempty"` // whose owner's checks count; empty: each director's own
	Owner   bool         `json:"owner,omitempty"` // this node holds Group: its checks count
	Quorum  bool         `json:"quorum"`          // enough real servers are up
	Servers []NodeServer `json:"servers"`
}

// NodeServer is a real server on one director.
type NodeServer struct {
	Key      string      `json:"server"`
	Found    *LVSVerdict `json:"found,omitempty"` // what its own checks say; nil: they have not said anything yet
	Serves   bool        `json:"serves"`          // it counts as up here
	InKernel bool        `json:"in_kernel"`
	Weight   uint32      `json:"weight"` // wanted in the kernel
	Active   uint32      `json:"active_connections"`
	Inactive uint32      `json:"inactive_connections"`
}

// GatheredLVS is what a node could find out about the virtual services.
type GatheredLVS struct {
	At         Time      `json:"at"`
	Node       string    `json:"node"`
	Cluster    string    `json:"cluster,omitempty"`
	Consistent bool      `json:"consistent"` // the leader has confirmed that Table is the newest
	Table      LVSTable  `json:"table"`
	Self       *NodeLVS  `json:"self,omitempty"` // nil on a witness
	Peers      []LVSPeer `json:"peers"`          // directors
	Problem    string    `json:"problem,omitempty"`
}

// LVSPeer is another director's answer.
type LVSPeer struct {
	Name  string   `json:"name"`
	View  *NodeLVS `json:"view,omitempty"`
	Error string   `json:"error,omitempty"`
}

// LVSState is what becomes of new connections that would go to a real server.
type LVSState string

// The states of a real server.
const (
	ServerUp      LVSState = "up"
	ServerDown    LVSState = "down"
	ServerDrained LVSState = "drained"
	ServerUnknown LVSState = "unknown" // nobody has said anything about it yet
)

// LVSReport is the answer of `hactl lvs list`.
type LVSReport struct {
	Schema     string       `json:"schema"`
	Cluster    string       `json:"cluster,omitempty"`
	Node       string       `json:"node"`
	At         Time         `json:"at"`
	Consistent bool         `json:"consistent"`
	View       ViewOrigin   `json:"view"`
	Version    uint64       `json:"version"`
	Services   []LVSService `json:"services"`
	Findings   []Finding    `json:"findings"`
}

// LVSService is one virtual service of a LVSReport.
type LVSService struct {
	Key     string      `json:"service"`
	Group   string      `json:"group,omitempty"`
	Owner   string      `json:"owner,omitempty"` // the director whose checks count, if one does
	Version uint64      `json:"version,omitempty"`
	File    string      `json:"file,omitempty"`
	Since   Time        `json:"since,omitzero"`
	By      string      `json:"by,omitempty"`
	Reason  string      `json:"reason,omitempty"`
	Quorum  *bool       `json:"quorum,omitempty"` // nil: no director says
	Text    string      `json:"text"`
	Servers []LVSServer `json:"servers"`
}

// LVSServer is one real server of a LVSReport.
type LVSServer struct {
	Key       string    `json:"server"`
	State     LVSState  `json:"state"`
	Why       string    `json:"why,omitempty"`
	Since     Time      `json:"since,omitzero"` // of State
	Says      string    `json:"says,omitempty"` // whose view State is
	Weight    uint32    `json:"weight"`         // in the kernel of Says, as it should be
	Active    uint32    `json:"active_connections"`
	Inactive  uint32    `json:"inactive_connections"`
	SetWeight *uint32   `json:"set_weight,omitempty"` // by hand, instead of that in Text
	Drained   *LVSDrain `json:"drained,omitempty"`
	Differs   []string  `json:"differs,omitempty"` // directors whose own checks say otherwise, and what
	Text      string    `json:"text"`
}

// LVSAction names what a LVSRequest does.
type LVSAction string

// The actions.
const (
	LVSAdd          LVSAction = "add"
	LVSRemove       LVSAction = "remove"
	LVSAddServer    LVSAction = "add-server"
	LVSRemoveServer LVSAction = "remove-server"
	LVSWeight       LVSAction = "weight"
	LVSDrainServer  LVSAction = "drain"
	LVSUndrain      LVSAction = "undrain"
	LVSApply        LVSAction = "apply" // make services what the file of the node that is asked says
)

// LVSRequest asks for a change of virtual services.
type LVSRequest struct {
	Do         LVSAction `json:"do"`
	Service    string    `json:"service,omitempty"`     // key, or a part that only one has; empty with LVSDrainServer and LVSUndrain: all; LVSApply: all that differ
	Server     string    `json:"server,omitempty"`      // address and port; with LVSDrainServer and LVSUndrain an address alone is all its ports
	Text       string    `json:"text,omitempty"`        // LVSAdd: virtual_server block; LVSAddServer: real_server block
	Like       string    `json:"like,omitempty"`        // LVSAddServer: the real server of the service whose text to take, in place of Text
	Weight     *uint32   `json:"weight,omitempty"`      // LVSWeight; nil: that of the text
	Replace    bool      `json:"replace,omitempty"`     // LVSAdd, LVSAddServer: also if it is there already
	ForSeconds Seconds   `json:"for_seconds,omitempty"` // LVSDrainServer; 0: until taken off
	Expect     *uint64   `json:"expect,omitempty"`      // the version that the service must have
	Reason     string    `json:"reason,omitempty"`
}

// LVSOutcome is what a LVSRequest has changed.
type LVSOutcome struct {
	Schema  string   `json:"schema"`
	Version uint64   `json:"version"` // of what was changed
	Changed []string `json:"changed"` // services, or service and server
	Until   Time     `json:"until,omitzero"`
}

// LVSDifference is the answer of `hactl config diff`.
type LVSDifference struct {
	Schema     string      `json:"schema"`
	Node       string      `json:"node"`
	Consistent bool        `json:"consistent"`
	Nothing    bool        `json:"nothing"`
	File       []LVSDrift  `json:"file"`   // between the cluster and the file of the node that is asked
	Kernel     []LVSKernel `json:"kernel"` // between what each director wants in its kernel and what it has
}

// LVSDrift is how a file differs from the cluster in one virtual service.
type LVSDrift struct {
	Key    string   `json:"service"`
	Change string   `json:"change"` // to get from the cluster to the file: added, removed or changed
	Lines  []string `json:"lines"`  // with - those of the cluster alone, with + those of the file alone
}

// LVSKernel is how a director's kernel differs from what it wants there.
type LVSKernel struct {
	Node  string   `json:"node"`
	Lines []string `json:"lines"`
}

// Kinds of events about virtual services.
const (
	EventLVS      = "lvs"      // somebody has changed them
	EventSeed     = "seed"     // the cluster has its first ones, from a file
	EventVerdicts = "verdicts" // real servers went down or came up
)
