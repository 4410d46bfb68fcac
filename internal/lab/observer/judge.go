package observer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// Period is the usual time between two requests for one address.
	Period = time.Millisecond
	// The following are numbers of periods. SpanGap is the longest silence between two sightings of one span.
	SpanGap = 20
	// Lateness is how late a request may leave and still count.
	Lateness = 2
	// LongestGap is the longest time between two requests with which the observer counts as awake.
	LongestGap = 10
	// awakeShare is the share of requests that must have left in time.
	awakeShare = 0.99
	// Attempts is how often a test plays, at most, what the observer was not awake at.
	Attempts = 20
)

// Interval is a stretch of time.
type Interval struct {
	From Instant `json:"from"`
	To   Instant `json:"to"`
}

// Length returns the length of the interval, at least zero.
func (i Interval) Length() time.Duration { return max(i.To.Sub(i.From), 0) }

// Span is a stretch of time in which one station showed itself as the owner again and again.
type Span struct {
	Station    int     `json:"station"`
	FirstAsked Instant `json:"first_asked"`
	FirstHeard Instant `json:"first_heard"`
	LastAsked  Instant `json:"last_asked"`
	LastHeard  Instant `json:"last_heard"`
	Sightings  int     `json:"sightings"`
}

// Dual is a stretch of time in which two stations certainly were owners.
type Dual struct {
	Interval
	Stations [2]int `json:"stations"`
}

// Reach says how requests of one kind were answered, by whomever.
type Reach struct {
	Asked    int        `json:"asked"`
	Answered int        `json:"answered"`
	Out      []Interval `json:"out"` // from the first unanswered request to the next answered one
}

// LongestOut returns the longest time without answers.
func (r Reach) LongestOut() time.Duration {
	var longest time.Duration
	for _, out := range r.Out {
		longest = max(longest, out.Length())
	}
	return longest
}

// VIPVerdict is what happened to one address.
type VIPVerdict struct {
	VIP          netip.Addr    `json:"vip"`
	Spans        []Span        `json:"spans"` // by first sighting
	Duals        []Dual        `json:"duals"`
	DualFor      time.Duration `json:"dual_ns"`          // time with two certain owners
	DualPossible time.Duration `json:"dual_possible_ns"` // the same if every delay is counted as ownership
	Resolve      Reach         `json:"resolve"`          // ARP or neighbour discovery
	Echo         Reach         `json:"echo"`
}

// Interruption returns the longest time in which the address was not to be found or not to be reached.
func (v *VIPVerdict) Interruption() time.Duration {
	return max(v.Resolve.LongestOut(), v.Echo.LongestOut())
}

// Lost returns the number of requests that nobody answered.
func (v *VIPVerdict) Lost() int {
	return v.Resolve.Asked - v.Resolve.Answered + v.Echo.Asked - v.Echo.Answered
}

// LastOwner returns the station seen last, or -1.
func (v *VIPVerdict) LastOwner() int {
	owner, at := -1, Instant(0)
	for _, span := range v.Spans {
		if span.LastHeard >= at {
			owner, at = span.Station, span.LastHeard
		}
	}
	return owner
}

// Owners returns the stations in the order in which they were owners; one that came back is there twice.
func (v *VIPVerdict) Owners() []int {
	var owners []int
	for _, span := range v.Spans {
		if n := len(owners); n == 0 || owners[n-1] != span.Station {
			owners = append(owners, span.Station)
		}
	}
	return owners
}

// Interleaving says that a second station advertised a virtual router between two advertisements of a first one.
type Interleaving struct {
	At       Instant `json:"at"`
	VRID     uint8   `json:"vrid"`
	Stations [2]int  `json:"stations"`
}

// Verdict is the judgement of a stretch of time.
type Verdict struct {
	Interval
	// Void says why the observer cannot vouch for the time; empty if it can.
	Void     string        `json:"void,omitempty"`
	Awake    float64       `json:"awake"` // share of requests that left in time
	Gap      time.Duration `json:"gap_ns"`
	Period   time.Duration `json:"period_ns"`
	Stations []Station     `json:"stations"`
	VIPs     []VIPVerdict  `json:"vips"`
	// Interleavings are alternations A, B, A of advertisements with a living priority. A planned move and its way back
	// make one too, so judge it by what was done.
	Interleavings []Interleaving `json:"interleavings"`
}

// DualFor returns the longest time with two owners of one address.
func (v *Verdict) DualFor() time.Duration {
	var longest time.Duration
	for i := range v.VIPs {
		longest = max(longest, v.VIPs[i].DualFor)
	}
	return longest
}

// Interruption returns the longest interruption of any address.
func (v *Verdict) Interruption() time.Duration {
	var longest time.Duration
	for i := range v.VIPs {
		longest = max(longest, v.VIPs[i].Interruption())
	}
	return longest
}

// Name returns a station's name, "nobody" for -1.
func (v *Verdict) Name(station int) string {
	if station < 0 || station >= len(v.Stations) {
		return "nobody"
	}
	return v.Stations[station].Name
}

// VIP returns the verdict on one address, or nil.
func (v *Verdict) VIP(addr netip.Addr) *VIPVerdict {
	for i := range v.VIPs {
		if v.VIPs[i].VIP == addr {
			return &v.VIPs[i]
		}
	}
	return nil
}

// String is one line for people.
func (v *Verdict) String() string {
	var b strings.Builder
	if v.Void != "" {
		fmt.Fprintf(&b, "VOID (%s) ", v.Void)
	}
	for i := range v.VIPs {
		vip := &v.VIPs[i]
		if i > 0 {
			b.WriteString("; ")
		}
		var owners []string
		for _, station := range vip.Owners() {
			owners = append(owners, v.Name(station))
		}
		if len(owners) == 0 {
			owners = []string{"nobody"}
		}
		fmt.Fprintf(&b, "%s: %s, two owners %s, out %s (ARP/ND %d of %d, echo %d of %d unanswered)", vip.VIP,
			strings.Join(owners, " -> "), milliseconds(vip.DualFor), milliseconds(vip.Interruption()),
			vip.Resolve.Asked-vip.Resolve.Answered, vip.Resolve.Asked, vip.Echo.Asked-vip.Echo.Answered, vip.Echo.Asked)
	}
	fmt.Fprintf(&b, "; awake %.2f%%, longest gap %s", 100*v.Awake, milliseconds(v.Gap))
	return b.String()
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// Judge judges the time from one instant to another. The record must reach a little further, so that answers to the last
// requests are in it; [Observer.Judge] waits for that.
func (r *Record) Judge(from, to Instant) Verdict {
	v := Verdict{Interval: Interval{from, to}, Period: r.Period, Stations: slices.Clone(r.Stations)}
	v.Awake, v.Gap = awake(within(r.Asked, from, to), from, to, r.Period)
	switch {
	case r.Through < to:
		v.Void = "the record ends before the time to be judged"
	case v.Awake < awakeShare:
		v.Void = fmt.Sprintf("only %.2f%% of the requests left in time", 100*v.Awake)
	case v.Gap > LongestGap*r.Period:
		v.Void = fmt.Sprintf("no request left for %s", milliseconds(v.Gap))
	}
	for _, loss := range r.Losses {
		if loss.To >= from && loss.From < to && v.Void == "" {
			v.Void = fmt.Sprintf("the kernel dropped %d frames unread", loss.Frames)
		}
	}
	perVIP := make([][]Sighting, len(r.VIPs))
	for _, s := range r.Seen {
		if s.Heard >= from && s.Asked < to {
			perVIP[s.VIP] = append(perVIP[s.VIP], s)
		}
	}
	for i, addr := range r.VIPs {
		v.VIPs = append(v.VIPs, r.judgeVIP(addr, perVIP[i], from, to))
	}
	v.Interleavings = interleavings(r.Adverts, from, to)
	return v
}

func within(list []Instant, from, to Instant) []Instant {
	var inside []Instant
	for _, at := range list {
		if at >= from && at < to {
			inside = append(inside, at)
		}
	}
	return inside
}

// awake returns the share of requests that were sent of those that were due, and the longest time between two.
func awake(sent []Instant, from, to Instant, period time.Duration) (share float64, gap time.Duration) {
	if period <= 0 || to.Sub(from) < period {
		return 0, to.Sub(from)
	}
	last := from
	for _, at := range sent {
		gap = max(gap, at.Sub(last))
		last = at
	}
	gap = max(gap, to.Sub(last))
	due := float64(to.Sub(from) / period)
	return min(float64(len(sent))/due, 1), gap
}

func (r *Record) judgeVIP(addr netip.Addr, seen []Sighting, from, to Instant) VIPVerdict {
	v := VIPVerdict{VIP: addr, Spans: spans(seen, SpanGap*r.Period)}
	v.Duals, v.DualFor = duals(v.Spans, r.Period)
	v.DualPossible = possible(v.Spans)
	v.Resolve = reach(r.Asked, seen, from, to, ARP, ND)
	v.Echo = reach(r.Pinged, seen, from, to, Echo, Echo)
	return v
}

// spans groups the sightings of each station that are no further apart than the gap.
func spans(seen []Sighting, gap time.Duration) []Span {
	ordered := slices.Clone(seen)
	slices.SortStableFunc(ordered, func(a, b Sighting) int { return cmp.Compare(a.Heard, b.Heard) })
	var list []Span
	open := map[int]int{} // station -> index of its latest span
	for _, s := range ordered {
		if i, ok := open[s.Station]; ok && s.Heard.Sub(list[i].LastHeard) <= gap {
			list[i].LastHeard = s.Heard
			list[i].LastAsked = max(list[i].LastAsked, s.Asked)
			list[i].Sightings++
			continue
		}
		open[s.Station] = len(list)
		list = append(list, Span{Station: s.Station, FirstAsked: s.Asked, FirstHeard: s.Heard, LastAsked: s.Asked,
			LastHeard: s.Heard, Sightings: 1})
	}
	return list
}

// duals returns where certain parts of the spans of two stations meet, and the length of their union. A meeting counts as
// at least one period, which is the resolution.
func duals(list []Span, period time.Duration) ([]Dual, time.Duration) {
	var found []Dual
	for i := range list {
		for j := i + 1; j < len(list); j++ {
			a, b := list[i], list[j]
			if a.Station == b.Station {
				continue
			}
			if meeting, ok := certain(a, b); ok {
				meeting.To = max(meeting.To, meeting.From.Add(period))
				found = append(found, Dual{Interval: meeting, Stations: [2]int{a.Station, b.Station}})
			}
		}
	}
	slices.SortFunc(found, func(a, b Dual) int { return cmp.Compare(a.From, b.From) })
	var intervals []Interval
	for _, dual := range found {
		intervals = append(intervals, dual.Interval)
	}
	return found, union(intervals)
}

// certain returns the stretch in which both spans certainly were going on. A span of more than one round trip certainly
// covers FirstHeard to LastAsked. A shorter one only says that its station was an owner at some moment between LastAsked
// and FirstHeard; it meets the other if that lies inside the other's certain part altogether.
func certain(a, b Span) (Interval, bool) {
	aWide, bWide := a.FirstHeard <= a.LastAsked, b.FirstHeard <= b.LastAsked
	switch {
	case aWide && bWide:
		meeting := Interval{max(a.FirstHeard, b.FirstHeard), min(a.LastAsked, b.LastAsked)}
		return meeting, meeting.From <= meeting.To
	case aWide:
		return Interval{b.LastAsked, b.LastAsked}, a.FirstHeard <= b.LastAsked && b.FirstHeard <= a.LastAsked
	case bWide:
		return certain(b, a)
	default:
		return Interval{}, false
	}
}

// possible returns the length of the union of all overlaps, from request to answer.
func possible(list []Span) time.Duration {
	var overlaps []Interval
	for i := range list {
		for j := i + 1; j < len(list); j++ {
			a, b := list[i], list[j]
			overlap := Interval{max(a.FirstAsked, b.FirstAsked), min(a.LastHeard, b.LastHeard)}
			if a.Station != b.Station && overlap.From < overlap.To {
				overlaps = append(overlaps, overlap)
			}
		}
	}
	slices.SortFunc(overlaps, func(a, b Interval) int { return cmp.Compare(a.From, b.From) })
	return union(overlaps)
}

// union returns the length of the union of intervals that are sorted by their beginnings.
func union(sorted []Interval) time.Duration {
	var total time.Duration
	var end Instant
	for _, i := range sorted {
		if i.To <= end {
			continue
		}
		total += i.To.Sub(max(i.From, end))
		end = i.To
	}
	return total
}

// reach matches requests with answers of one of two kinds.
func reach(asked []Instant, seen []Sighting, from, to Instant, kind, or Kind) Reach {
	answered := map[Instant]bool{}
	for _, s := range seen {
		if s.Kind == kind || s.Kind == or {
			answered[s.Asked] = true
		}
	}
	var r Reach
	silent, since := false, Instant(0)
	for _, at := range within(asked, from, to) {
		r.Asked++
		if answered[at] {
			r.Answered++
			if silent {
				r.Out = append(r.Out, Interval{since, at})
			}
			silent = false
		} else if !silent {
			silent, since = true, at
		}
	}
	if silent {
		r.Out = append(r.Out, Interval{since, to})
	}
	return r
}

// interleavings finds alternations A, B, A of advertisements with a priority above zero, per virtual router and family. A
// priority of zero ends a station's stream.
func interleavings(adverts []Advert, from, to Instant) []Interleaving {
	type router struct {
		vrid uint8
		six  bool
	}
	type stream struct{ previous, current int }
	streams := map[router]*stream{}
	var found []Interleaving
	for _, a := range adverts {
		if a.At < from || a.At >= to {
			continue
		}
		id := router{a.VRID, a.Source.Is6()}
		s := streams[id]
		if s == nil {
			s = &stream{-1, -1}
			streams[id] = s
		}
		switch {
		case a.Priority == 0 && a.Station == s.current:
			*s = stream{-1, -1}
		case a.Priority == 0:
			if a.Station == s.previous {
				s.previous = -1
			}
		case a.Station == s.current:
		default:
			if a.Station == s.previous {
				found = append(found, Interleaving{At: a.At, VRID: a.VRID, Stations: [2]int{a.Station, s.current}})
			}
			s.previous, s.current = s.current, a.Station
		}
	}
	return found
}
