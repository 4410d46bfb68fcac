package observer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/hactl/had/internal/lab"
)

// Config says what to observe.
type Config struct {
	VIPs []netip.Addr
	// Sources4 and Sources6 are the addresses under which the observer asks, in turn: an answer says by its destination
	// which request it answers, so with n of them answers may take up to n periods. The first must be an address of the
	// observer's host; the others must be of the same subnet and belong to nobody.
	Sources4, Sources6 []netip.Addr
	// Stations are the hosts that may own the addresses: those that are pinged.
	Stations []*lab.Host
	// Period is the time between two requests for one address; zero is [Period]. Whatever is counted in periods, the
	// resolution of the verdict too, goes with it.
	Period time.Duration
}

// Observer is a running observer.
type Observer struct {
	proc  *lab.Proc
	input *os.File // its end stops the observer

	mu      sync.Mutex
	changed chan struct{} // closed and replaced with each line
	record  Record
	err     error // why the stream ended, set before ended is closed
	ended   chan struct{}
}

// startLimit bounds the wait for the first requests of an observer.
const startLimit = 5 * time.Second

// errEnded is the end of a stream that nobody asked for.
var errEnded = errors.New("the observer ended")

// Start starts an observer on a host that takes no part and waits until it is asking. The program must call [MaybeRun] first.
func Start(ctx context.Context, host *lab.Host, cfg Config) (*Observer, error) {
	period := cfg.Period
	if period == 0 {
		period = Period
	}
	s := setup{Interface: lab.Interface, PeriodNS: int64(period), VIPs: cfg.VIPs, Sources4: cfg.Sources4, Sources6: cfg.Sources6}
	for _, h := range cfg.Stations {
		s.Stations = append(s.Stations, Station{Name: h.Name(), MAC: h.MAC().String()})
	}
	request, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("start observer: %w", err)
	}
	theirInput, input, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start observer: %w", err)
	}
	defer theirInput.Close()
	output, theirOutput, err := os.Pipe()
	if err != nil {
		input.Close()
		return nil, fmt.Errorf("start observer: %w", err)
	}
	defer theirOutput.Close()
	proc, err := host.Start(lab.Command{Path: "/proc/self/exe", Name: helperName, Stdin: theirInput, Stdout: theirOutput,
		Output: os.Stderr})
	if err != nil {
		input.Close()
		output.Close()
		return nil, fmt.Errorf("start observer: %w", err)
	}
	o := &Observer{proc: proc, input: input, changed: make(chan struct{}), ended: make(chan struct{})}
	go o.read(output)
	if _, err := input.Write(append(request, '\n')); err != nil {
		o.Stop()
		return nil, fmt.Errorf("start observer: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := o.wait(ctx, func(r *Record) bool { return len(r.Asked) > 0 && len(r.Pinged) > 0 }); err != nil {
		o.Stop()
		return nil, fmt.Errorf("start observer: %w", err)
	}
	return o, nil
}

// read takes the stream until it ends.
func (o *Observer) read(output *os.File) {
	defer output.Close()
	lines := bufio.NewReaderSize(output, 1<<16)
	var failure error
	for {
		data, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		o.mu.Lock()
		if err := o.record.Read(data); err != nil && failure == nil {
			failure = err
		}
		close(o.changed)
		o.changed = make(chan struct{})
		o.mu.Unlock()
	}
	o.mu.Lock()
	o.err = failure
	if o.err == nil {
		o.err = errEnded
	}
	o.mu.Unlock()
	close(o.ended)
}

// wait waits until the record satisfies a condition.
func (o *Observer) wait(ctx context.Context, satisfied func(*Record) bool) error {
	for {
		o.mu.Lock()
		ok, changed := satisfied(&o.record), o.changed
		o.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-o.ended:
			return o.err
		case <-ctx.Done():
			return fmt.Errorf("wait for the observer: %w", ctx.Err())
		}
	}
}

// Judge waits until the observer has seen the time up to and a little beyond `to`, and judges the time from `from` on.
func (o *Observer) Judge(ctx context.Context, from, to Instant) (Verdict, error) {
	if err := o.wait(ctx, func(r *Record) bool { return r.Through >= to.Add(SpanGap*r.Period) }); err != nil {
		return Verdict{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.record.Judge(from, to), nil
}

// Owners says who answered for an address within the last span, by name: usually one, none if it is nobody's, two if all is
// lost.
func (o *Observer) Owners(vip netip.Addr, span time.Duration) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := &o.record
	since := r.Through.Add(-span)
	var names []string
	seen := map[int]bool{}
	for i := len(r.Seen) - 1; i >= 0 && r.Seen[i].Heard >= since.Add(-SpanGap*r.Period); i-- {
		s := r.Seen[i]
		if s.Heard < since || r.VIPs[s.VIP] != vip || seen[s.Station] {
			continue
		}
		seen[s.Station] = true
		names = append(names, r.Stations[s.Station].Name)
	}
	return names
}

// WaitOwner waits until one station has been the only one to answer for an address for a span.
func (o *Observer) WaitOwner(ctx context.Context, vip netip.Addr, name string, span time.Duration) error {
	started := Now()
	return o.wait(ctx, func(r *Record) bool {
		since := r.Through.Add(-span)
		if since < started || len(r.Asked) == 0 {
			return false
		}
		found := false
		for i := len(r.Seen) - 1; i >= 0 && r.Seen[i].Heard >= since.Add(-SpanGap*r.Period); i-- {
			s := r.Seen[i]
			if s.Heard < since || r.VIPs[s.VIP] != vip {
				continue
			}
			if r.Stations[s.Station].Name != name {
				return false
			}
			found = true
		}
		return found
	})
}

// Adverts returns the VRRP advertisements since an instant, with the names of their senders.
func (o *Observer) Adverts(since Instant) []NamedAdvert {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []NamedAdvert
	for _, a := range o.record.Adverts {
		if a.At >= since {
			list = append(list, NamedAdvert{a, o.record.Stations[a.Station].Name})
		}
	}
	return list
}

// NamedAdvert is an advertisement and the name of its sender.
type NamedAdvert struct {
	Advert
	Sender string
}

// Realtime says whether the observer has real-time priority.
func (o *Observer) Realtime() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.record.Realtime
}

// Forget drops what was seen before the instant.
func (o *Observer) Forget(before Instant) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.record.Forget(before)
}

// Stop ends the observer. What it saw stays available.
func (o *Observer) Stop() {
	o.input.Close()
	select {
	case <-o.ended:
	case <-time.After(startLimit):
		o.proc.KillTree()
		<-o.ended
	}
	<-o.proc.Done()
}

// Sources returns n addresses of a subnet, counted from the first one given, to ask under.
func Sources(first netip.Addr, n int) []netip.Addr {
	list := make([]netip.Addr, 0, n)
	for addr := first; len(list) < n && addr.IsValid(); addr = addr.Next() {
		list = append(list, addr)
	}
	return list
}

// LinkLocal returns the link-local address that a host makes of its hardware address (RFC 4291 appendix A).
func LinkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3],
		14: mac[4], 15: mac[5]})
}
