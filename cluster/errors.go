package cluster

import (
	"errors"
	"fmt"
	"net/netip"
)

// Errors that callers branch on.
var (
	ErrNotLeader   = errors.New("this member does not lead the log")
	ErrNoLeader    = errors.New("no leader of the log is known")
	ErrBusy        = errors.New("too many proposals are waiting for their outcome")
	ErrUnknown     = errors.New("outcome unknown: the log did not answer in time")
	ErrUnknownNode = errors.New("no member of that name is configured")
	ErrClosed      = errors.New("cluster is closed")
)

// ConfigError says that a Config cannot be used.
type ConfigError struct{ Text string }

func (e *ConfigError) Error() string { return "cluster configuration: " + e.Text }

// DataDirError says that the data directory cannot be used.
type DataDirError struct {
	Dir string
	Err error
}

func (e *DataDirError) Error() string { return fmt.Sprintf("data directory %s: %v", e.Dir, e.Err) }
func (e *DataDirError) Unwrap() error { return e.Err }

// DirectoryInUseError says that another process uses the data directory.
type DirectoryInUseError struct {
	Dir string
	PID int // 0: unknown
}

func (e *DirectoryInUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data directory %s is used by another process", e.Dir)
	}
	return fmt.Sprintf("data directory %s is used by process %d", e.Dir, e.PID)
}

// ListenError says that an address or port cannot be listened on.
type ListenError struct {
	Purpose string // cluster or gossip
	Network string // tcp or udp
	Address netip.AddrPort
	Err     error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("listen for %s traffic on %s %s: %v", e.Purpose, e.Network, e.Address, e.Err)
}
func (e *ListenError) Unwrap() error { return e.Err }

// UnreachableError says that a member did not answer.
type UnreachableError struct {
	Node string
	Err  error
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("reach %s: %v", e.Node, e.Err) }
func (e *UnreachableError) Unwrap() error { return e.Err }

// RemoteError is the error that a member's handler returned.
type RemoteError struct {
	Node, Method, Text string
}

func (e *RemoteError) Error() string { return e.Text }
