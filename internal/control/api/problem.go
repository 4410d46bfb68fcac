package api

import (
	"fmt"
	"strings"
)

// Exit codes of hactl: a documented contract.
const (
	ExitOK          = 0   // done, healthy, predicate true
	ExitFailed      = 1   // failed, predicate false
	ExitUsage       = 2   // usage error, or a prompt without a terminal
	ExitUnreachable = 3   // the daemon is not reachable
	ExitNoQuorum    = 4   // refused: no quorum
	ExitRefused     = 5   // refused by a safety check, which is named
	ExitNotFound    = 6   // no such node, group or address
	ExitTimeout     = 124 // timed out while waiting; the outcome is unknown
)

// ProblemKind classes a problem; each kind has one exit code.
type ProblemKind string

// The kinds of a problem.
const (
	Failed      ProblemKind = "failed"
	Usage       ProblemKind = "usage"
	Unreachable ProblemKind = "unreachable"
	QuorumLost  ProblemKind = "no-quorum"
	Refused     ProblemKind = "refused"
	NotFound    ProblemKind = "not-found"
	TimedOut    ProblemKind = "timeout"
)

// Problem is an error in three parts: what failed, why, and the next command. It crosses the control socket.
type Problem struct {
	Kind  ProblemKind `json:"kind"`
	Check string      `json:"check,omitempty"` // name of the safety check that refused
	What  string      `json:"what"`
	Why   string      `json:"why,omitempty"`
	Next  string      `json:"next,omitempty"`

	Details []string `json:"details,omitempty"` // lines that belong to Why
}

// Error returns what and why in one line.
func (p *Problem) Error() string {
	s := p.What
	if p.Why != "" {
		s += ": " + p.Why
	}
	return s
}

// ExitCode maps the kind.
func (p *Problem) ExitCode() int {
	switch p.Kind {
	case Usage:
		return ExitUsage
	case Unreachable:
		return ExitUnreachable
	case QuorumLost:
		return ExitNoQuorum
	case Refused:
		return ExitRefused
	case NotFound:
		return ExitNotFound
	case TimedOut:
		return ExitTimeout
	default:
		return ExitFailed
	}
}

// NoSuchNode says that name is not a member; known lists those who are.
func NoSuchNode(name string, known []string) *Problem {
	return &Problem{Kind: NotFound, What: fmt.Sprintf("no node %q", name),
		Why: "the cluster has " + orNone(known), Next: "hactl cluster members"}
}

// NoSuchGroup says that name is not a group; known lists those that are.
func NoSuchGroup(name string, known []string) *Problem {
	return &Problem{Kind: NotFound, What: fmt.Sprintf("no group %q", name),
		Why: "the groups are " + orNone(known), Next: "hactl group list"}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
