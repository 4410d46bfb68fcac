package check

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/hactl/had/lvs/check/verdict"
)

// UDP sends a datagram (UDP_CHECK). It fails when ICMP says that nobody is there. Silence is success unless a reply is
// required.
type UDP struct {
	Endpoint
	Payload      []byte // nil: builtinPayload
	RequireReply bool
	Reply        []byte // the reply begins with these bytes, as far as ReplyMask has ones; nil: any reply of any length
	ReplyMask    []byte // as long as Reply
	MinReply     int    // bytes
	MaxReply     int
}

func (*UDP) schedule(*verdict.Config) {}

func (p *UDP) prepare(*Engine) (prober, error) { return p, nil }

// builtinPayload is what keepalived sends if the configuration does not say what.
var builtinPayload = []byte("keepalived check - keepalived ch")

func (p *UDP) attempt(ctx context.Context, _ int) verdict.Outcome {
	conn, err := p.udp(ctx)
	if err != nil {
		return failed(err.Error())
	}
	defer conn.Close()
	what := fmt.Sprintf("datagram to %v: ", p.Target)
	payload := p.Payload
	if payload == nil {
		payload = builtinPayload
	}
	if _, err := conn.Write(payload); err != nil {
		return failed(what + p.reason(err))
	}
	room := 1 // the rest of a datagram is dropped
	if p.Reply != nil {
		room = p.MaxReply + 1
	}
	buffer := make([]byte, room)
	n, err := conn.Read(buffer)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && !p.RequireReply && ctx.Err() == nil:
		return succeeded(what + "not refused")
	case err != nil:
		return failed(what + p.reason(err))
	case p.RequireReply && p.Reply != nil:
		if problem := p.compare(buffer[:n]); problem != "" {
			return failed(what + problem)
		}
	}
	return succeeded(what + "answered")
}

// compare returns what is wrong with a reply, or nothing.
func (p *UDP) compare(reply []byte) string {
	switch n := len(reply); {
	case n < p.MinReply:
		return fmt.Sprintf("a reply of %d bytes, wanted at least %d", n, p.MinReply)
	case n > p.MaxReply:
		return fmt.Sprintf("a reply of more than %d bytes", p.MaxReply)
	}
	for i, mask := range p.ReplyMask {
		switch {
		case i >= len(reply):
			return fmt.Sprintf("a reply of %d bytes, wanted at least %d", len(reply), len(p.Reply))
		case reply[i]&mask != p.Reply[i]&mask:
			return fmt.Sprintf("byte %d of the reply is %02x, wanted %02x", i, reply[i], p.Reply[i])
		}
	}
	return ""
}
