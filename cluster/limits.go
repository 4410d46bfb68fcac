package cluster

import (
	"time"

	"github.com/hactl/had/cluster/transport"
)

// Bounds that callers may run into.
const (
	MaxMessage         = transport.MaxMessage // bytes of a payload of Send
	MaxStanding        = 16 << 10             // bytes of a standing
	MaxCall            = transport.MaxCall    // bytes of a request or an answer of Call, as JSON
	DefaultCallTimeout = 5 * time.Second
)
