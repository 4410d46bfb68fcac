package notify

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
)

// VirtualServer is how pipes, mails and traps name a virtual server. One of Address, Mark and Group says what it is.
type VirtualServer struct {
	Address  netip.AddrPort
	Mark     uint32
	Group    string
	Protocol string // TCP, UDP or SCTP; empty: none, as of a mark

	Quorum    int64
	Up, Total int // real servers, those that are up and all
}

// String names it as keepalived does.
func (v VirtualServer) String() string {
	switch {
	case v.Mark != 0:
		return fmt.Sprintf("FWM %d", v.Mark)
	case v.Group != "":
		return fmt.Sprintf("[%s]:0", v.Group)
	}
	return v.Trio(v.Address)
}

// Trio is an address with the protocol and the port.
func (v VirtualServer) Trio(a netip.AddrPort) string {
	protocol := strings.ToLower(v.Protocol)
	if protocol == "" {
		protocol = "none"
	}
	return fmt.Sprintf("[%s]:%s:%d", a.Addr(), protocol, a.Port())
}

// ServerChange is one notification of the load balancer: a real server of a virtual server has come up or gone down, or
// the virtual server has gained or lost its quorum.
type ServerChange struct {
	Virtual VirtualServer
	Real    netip.AddrPort // not valid: it is about the quorum
	Up      bool
	Ending  bool   // the virtual server is no longer served; nothing has failed
	Reason  string // one line for people
	Mail    bool   // smtp_alert
}

// Name is what scripts, pipes and mails call what has changed.
func (c ServerChange) Name() string {
	if c.Real.IsValid() {
		return fmt.Sprintf("RS %s %s", c.Virtual.Trio(c.Real), c.Virtual)
	}
	return fmt.Sprintf("VS %s", c.Virtual)
}

// State is UP or DOWN.
func (c ServerChange) State() string {
	if c.Up {
		return "UP"
	}
	return "DOWN"
}

// Line returns the line that pipes get, without its end.
func (c ServerChange) Line() string { return c.Name() + " " + c.State() }

// NotifyServer tells of one change of the load balancer: the script, which gets no further arguments and may be nil, the
// pipes, then the receivers. It is to Notify's scripts and errors as Notify is, and may be called beside it.
func (n *Notifier) NotifyServer(change ServerChange, script *Script) {
	if script != nil {
		n.run(slog.String("server", change.Name()), change.State(), *script, nil)
	}
	for _, fifo := range n.FIFOs {
		if err := fifo.WriteTerminated(change.Line()); err != nil {
			n.Logger.Warn("notification was not written", "server", change.Name(), "state", change.State(), "err", err)
		}
	}
	for _, r := range n.Receivers {
		r.TellServer(change)
	}
}
