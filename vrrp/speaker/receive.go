package speaker

import (
	"errors"
	"os"
	"time"

	"github.com/hactl/had/internal/linux/rawsock"
	"github.com/hactl/had/vrrp/packet"
)

// receivePause is the wait after an error of a socket, so that one that lasts does not keep a processor busy.
const receivePause = 10 * time.Millisecond

// read hands the messages of a socket to its Speakers until it is closed.
func (h *Hub) read(shared *sharedSocket) {
	for {
		datagram, err := shared.Receive()
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			h.log.Debug("VRRP message was not received", "iface", shared.key.iface, "err", err)
			time.Sleep(receivePause)
			continue
		}
		if deliver := h.check(shared, datagram); deliver != nil {
			deliver()
		}
	}
}

// check finds the Speaker that a message is for, checks and counts it, and returns the call of the handler that is due.
func (h *Hub) check(shared *sharedSocket, d rawsock.Datagram) (deliver func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(shared.users) == 0 { // the last one has gone, and what its socket had taken is nobody's
		return nil
	}
	s := shared.speakerFor(d)
	if s == nil {
		h.unknown++
		return h.tellUnknown(shared, d)
	}
	if d.Src == s.status.Source {
		s.counters.Own++
		return nil
	}
	meta := packet.Meta{Src: d.Src, Dst: d.Dst, TTL: d.TTL, Multicast: d.Dst.IsMulticast(), Wall: time.Now()}
	advertisement, verdict := packet.Parse(d.Payload, meta, s.config.expect(s.options))
	if advertisement.Stamp != 0 && !s.senders.Accept(d.Src, advertisement.Stamp, meta.Wall, s.config.Seal.Window) {
		verdict = packet.SealReplay
	}
	s.counters.Verdicts[verdict]++
	if !verdict.Accepted() {
		if s.config.OnRejected == nil {
			return nil
		}
		return func() { s.config.OnRejected(Rejected{From: d.Src, Verdict: verdict}) }
	}
	if verdict == packet.OKOldUnicast {
		s.options.OldUnicast = true
	}
	received := Received{
		From:            d.Src,
		Advertisement:   advertisement,
		AddressesDiffer: !packet.SameAddresses(advertisement.Addresses, s.config.Addresses),
	}
	s.counters.Received++
	if advertisement.Priority == 0 {
		s.counters.ReceivedZero++
	}
	if received.AddressesDiffer {
		s.counters.AddressList++
	}
	return func() { s.handler(received) }
}

// tellUnknown returns the call of onUnknown that is due for a message that nobody wants. The Hub's lock is held.
func (h *Hub) tellUnknown(shared *sharedSocket, d rawsock.Datagram) (tell func()) {
	_, vrid, ok := packet.Peek(d.Payload)
	u := Unknown{Interface: shared.key.iface, VRID: vrid, From: d.Src}
	if !ok || h.onUnknown == nil || h.told[u] || len(h.told) == unknownKept {
		return nil
	}
	h.told[u] = true
	return func() { h.onUnknown(u) }
}

// speakerFor returns the user of the socket whose virtual router a message names. Of several unicast routers with one
// identifier it is the one that has the sender as a peer.
func (shared *sharedSocket) speakerFor(d rawsock.Datagram) *Speaker {
	_, vrid, ok := packet.Peek(d.Payload)
	if !ok {
		return nil
	}
	var found *Speaker
	for _, s := range shared.users {
		switch {
		case s.config.VRID != vrid:
		case s.config.hasPeer(d.Src):
			return s
		case found == nil:
			found = s
		}
	}
	return found
}
