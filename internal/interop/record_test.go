//go:build interop

package interop_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// event is something that was seen on the LAN.
type event struct {
	at     time.Time
	router string // who sent it
	wire   int
	frame
}

// record is all that was seen, in the order in which it was read.
type record struct {
	mu     sync.Mutex
	events []event
	heard  []heardFrame // adverts and claims as they arrived at another host
}

// heardFrame is a frame off the wire.
type heardFrame struct {
	at  time.Time
	raw []byte
}

func (r *record) add(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *record) hear(at time.Time, raw []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, heardFrame{at, raw})
}

// wire returns the frames that crossed the wire.
func (r *record) wire() []heardFrame {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.heard)
}

// find returns the events since an instant that satisfy a condition.
func (r *record) find(since time.Time, wanted func(e *event) bool) []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []event
	for i := len(r.events) - 1; i >= 0 && r.events[i].at.After(since.Add(-time.Second)); i-- {
		if e := &r.events[i]; !e.at.Before(since) && wanted(e) {
			found = append(found, *e)
		}
	}
	slices.Reverse(found)
	return found
}

// adverts returns a router's advertisements since an instant; the empty name is everybody.
func (r *record) adverts(router string, since time.Time) []event {
	return r.find(since, func(e *event) bool { return e.kind == advert && (router == "" || e.router == router) })
}

// whyNot says why a router is not the one that speaks and answers for a virtual router since an instant, or nothing if it is.
// At least min answers are expected for each address.
func (r *record) whyNot(router string, v virtual, since time.Time, min int) string {
	spoke, answers := 0, map[netip.Addr]int{}
	for _, e := range r.find(since, func(e *event) bool { return e.wire == v.wire }) {
		living := e.kind == advert && e.priority > 0 && e.vrid == v.vrid && e.ipv6 == v.vips[0].Is6()
		answered := e.kind == answer && slices.Contains(v.vips, e.addr)
		switch {
		case living && e.router != router:
			return fmt.Sprintf("%s advertises priority %d", e.router, e.priority)
		case living:
			spoke++
		case answered && e.router != router:
			return fmt.Sprintf("%s answers for %s", e.router, e.addr)
		case answered:
			answers[e.addr]++
		}
	}
	if spoke == 0 {
		return "no advertisement"
	}
	for _, vip := range v.vips {
		if answers[vip] < min {
			return fmt.Sprintf("%d answers for %s", answers[vip], vip)
		}
	}
	return ""
}

// timeline draws the record for people: neighbouring events of one kind are one line.
func (r *record) timeline(start time.Time) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	type row struct {
		text        string
		first, last time.Time
		count       int
	}
	var rows []*row
	open := map[string]*row{} // the last row of a sender and kind
	for _, e := range r.events {
		text := fmt.Sprintf("%s of %s", e.kind, e.router)
		key := text + e.addr.String()
		if e.kind == advert {
			text = fmt.Sprintf("%s: VRID %d, version %d, priority %d to %s", text, e.vrid, e.version, e.priority, e.dst)
		} else {
			text = fmt.Sprintf("%s: %s", text, e.addr)
		}
		key += fmt.Sprint(e.wire, e.vrid, e.ipv6)
		if last := open[key]; last != nil && last.text == text && e.at.Sub(last.last) < 1500*time.Millisecond {
			last.last = e.at
			last.count++
			continue
		}
		open[key] = &row{text, e.at, e.at, 1}
		rows = append(rows, open[key])
	}
	var b strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&b, "  %7.3f .. %7.3f s %4d x %s\n", row.first.Sub(start).Seconds(), row.last.Sub(start).Seconds(),
			row.count, row.text)
	}
	return b.String()
}
