package speaker

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hactl/had/vrrp/packet"
)

// Speaker speaks for one virtual router. Its methods may be called by any goroutine.
type Speaker struct {
	hub     *Hub
	config  Config
	handler func(Received)

	// The Hub's lock guards what follows.
	shared   *sharedSocket // nil: none
	status   Status
	options  packet.Options // those of config, or with OldUnicast after a peer was seen to use it
	counters Counters
	message  []byte
	stamp    packet.Stamp   // of the last advertisement sent, with auth_hmac
	senders  packet.Senders // whose stamps are known
	opened   bool           // Open has returned, or is about to
}

// Counters count the messages of a Speaker.
type Counters struct {
	Received     uint64 // accepted advertisements
	ReceivedZero uint64 // of these with priority 0
	Sent         uint64 // advertisements, each peer's copy counted
	SentZero     uint64 // of these with priority 0
	SendErrors   uint64
	Own          uint64 // our own messages that came back
	AddressList  uint64 // accepted advertisements with another list of addresses

	// Verdicts counts every received message by the outcome of its checks; index by packet.Verdict.
	Verdicts [packet.Verdicts]uint64
}

// Status returns whether the Speaker can speak.
func (s *Speaker) Status() Status {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.status
}

// Counters returns the counters as they stand.
func (s *Speaker) Counters() Counters {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.counters
}

// Send sends one advertisement with this priority, to the group or to each peer, without waiting. It tries all peers
// and returns the errors; while the Speaker cannot speak it returns the Status's.
func (s *Speaker) Send(priority uint8) error {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.status.Err != nil {
		s.counters.SendErrors++
		return fmt.Errorf("send advertisement of %s: %w", s.config.Name, s.status.Err)
	}
	if s.config.Seal != nil {
		s.stamp = s.config.Seal.Next(s.stamp, time.Now())
	}
	var errs []error
	for _, destination := range s.config.destinations() {
		if err := s.sendTo(destination, priority); err != nil {
			s.counters.SendErrors++
			errs = append(errs, fmt.Errorf("send advertisement of %s: %w", s.config.Name, err))
			continue
		}
		s.counters.Sent++
		if priority == 0 {
			s.counters.SentZero++
		}
	}
	return errors.Join(errs...)
}

func (s *Speaker) sendTo(destination netip.Addr, priority uint8) error {
	source := s.status.Source
	var err error
	s.message, err = packet.Append(s.message[:0], s.config.advertisement(priority), source, destination, s.options)
	if err != nil {
		return err
	}
	s.message = s.config.Seal.Append(s.message, source, s.stamp)
	return s.shared.Send(source, destination, s.message)
}

// Configure replaces the configuration. Counters go on, and so does the socket if it is the same; a change of Status is told
// to the new OnStatus. The caller has checked with Check that the Speakers can be told apart once all are configured.
func (s *Speaker) Configure(config Config) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	before := s.config
	h.countVirtual(s, -1)
	s.config = config
	if before.Options != config.Options {
		s.options = config.Options
	}
	h.countVirtual(s, 1)
	h.attachAll(before.Interface, config.Interface)
}

// Close ends the Speaker. Its announcements are cancelled. A handler that runs may go on for a moment.
func (s *Speaker) Close() {
	s.CancelAnnouncements()
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.speakers, s) {
		return
	}
	h.detach(s)
	h.countVirtual(s, -1)
	h.speakers = slices.DeleteFunc(h.speakers, func(other *Speaker) bool { return other == s })
	s.config.OnStatus = nil
	s.setStatus(Status{Err: errClosed})
	// Addresses that were virtual may now be sources of others on the interface.
	h.attachAll(s.config.Interface)
}

// setStatus enters the status and tells OnStatus of a change. The Hub's lock is held.
func (s *Speaker) setStatus(status Status) {
	before := s.status
	s.status = status
	if before.Index == status.Index && before.Source == status.Source && text(before.Err) == text(status.Err) {
		return
	}
	if s.opened && s.config.OnStatus != nil {
		s.config.OnStatus(status)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
