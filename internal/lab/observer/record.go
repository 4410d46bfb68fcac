package observer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Instant is a reading of CLOCK_MONOTONIC in nanoseconds: one clock for all processes of the machine, whatever happens to the
// wall clock.
type Instant int64

// Now reads the clock.
func Now() Instant { return readClock(unix.CLOCK_MONOTONIC) }

func readClock(id int32) Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic(fmt.Sprintf("read clock %d: %v", id, err)) // both clocks exist on every Linux
	}
	return Instant(ts.Nano())
}

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the span from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// Kind is the way in which a station showed itself as the owner of an address.
type Kind uint8

const (
	ARP   Kind = iota + 1 // answered an ARP request
	ND                    // answered a neighbour solicitation
	Echo                  // answered a ping
	Claim                 // claimed the address unasked: gratuitous ARP, ARP request from it, unsolicited advertisement
)

func (k Kind) String() string {
	switch k {
	case ARP:
		return "arp"
	case ND:
		return "nd"
	case Echo:
		return "echo"
	case Claim:
		return "claim"
	default:
		return "kind " + strconv.Itoa(int(k))
	}
}

// Station is a hardware address on the LAN.
type Station struct {
	Name string `json:"name"` // as configured, or the hardware address of a stranger
	MAC  string `json:"mac"`
}

// Sighting is one sign of a station as owner of an address. It was the owner at some moment from Asked to Heard; for a claim
// both are the same.
type Sighting struct {
	Asked, Heard Instant
	VIP          int // index into Record.VIPs
	Station      int // index into Record.Stations
	Kind         Kind
}

// Advert is one VRRP advertisement.
type Advert struct {
	At       Instant    `json:"at"`
	Station  int        `json:"station"`
	Source   netip.Addr `json:"source"`
	Version  uint8      `json:"version"`
	VRID     uint8      `json:"vrid"`
	Priority uint8      `json:"priority"`
}

// Record is what an observer has seen.
type Record struct {
	Period   time.Duration // between two requests for one address
	Realtime bool          // the observer has real-time priority
	VIPs     []netip.Addr
	Stations []Station
	Asked    []Instant // when ARP requests and neighbour solicitations left, one entry for all addresses of a period
	Pinged   []Instant // when echo requests left
	Seen     []Sighting
	Adverts  []Advert
	Through  Instant // everything up to here is in the record
	Losses   []Loss  // frames that the kernel dropped
}

// Loss says that in this interval the kernel dropped frames before the observer had read them.
type Loss struct {
	Interval
	Frames int
}

// The stream is one JSON object a line. Each line has a "type".
const (
	lineHello   = "hello"   // first: period, addresses, stations
	lineStation = "station" // a hardware address that was not configured
	lineAdvert  = "advert"
	lineBatch   = "batch" // requests and sightings of some 50 ms
	lineError   = "error" // the observer gives up
)

// line is any line of the stream; which fields are set depends on its type.
type line struct {
	Type string `json:"type"`

	PeriodNS int64        `json:"period_ns,omitempty"`
	Realtime bool         `json:"realtime,omitempty"`
	VIPs     []netip.Addr `json:"vips,omitempty"`
	Stations []Station    `json:"stations,omitempty"`

	Advert *Advert `json:"advert,omitempty"`

	// Times of a batch are nanoseconds after Base.
	Base    int64      `json:"base,omitempty"`
	Through int64      `json:"through,omitempty"`
	Lost    int        `json:"lost,omitempty"`
	Asked   []int64    `json:"asked,omitempty"`
	Pinged  []int64    `json:"pinged,omitempty"`
	Seen    [][5]int64 `json:"seen,omitempty"` // asked, heard, VIP, station, kind

	Error string `json:"error,omitempty"`
}

// batch collects what goes into one batch line.
type batch struct {
	base    Instant
	through Instant
	lost    int
	asked   []Instant
	pinged  []Instant
	seen    []Sighting
}

// appendTo writes the batch as a line, without encoding/json: this runs some ten thousand times a second on the thread that
// must not be late.
func (b *batch) appendTo(buf []byte) []byte {
	number := func(key string, n int64) {
		buf = append(buf, ',', '"')
		buf = append(buf, key...)
		buf = append(buf, '"', ':')
		buf = strconv.AppendInt(buf, n, 10)
	}
	offsets := func(key string, list []Instant) {
		if len(list) == 0 {
			return
		}
		buf = append(buf, ',', '"')
		buf = append(buf, key...)
		buf = append(buf, '"', ':')
		for i, at := range list {
			buf = append(buf, separator(i))
			buf = strconv.AppendInt(buf, int64(at-b.base), 10)
		}
		buf = append(buf, ']')
	}
	buf = append(buf, `{"type":"`+lineBatch+`"`...)
	number("base", int64(b.base))
	number("through", int64(b.through-b.base))
	if b.lost != 0 {
		number("lost", int64(b.lost))
	}
	offsets("asked", b.asked)
	offsets("pinged", b.pinged)
	if len(b.seen) > 0 {
		buf = append(buf, `,"seen":`...)
		for i, s := range b.seen {
			buf = append(buf, separator(i))
			for j, n := range [5]int64{int64(s.Asked - b.base), int64(s.Heard - b.base), int64(s.VIP), int64(s.Station), int64(s.Kind)} {
				buf = append(buf, separator(j))
				buf = strconv.AppendInt(buf, n, 10)
			}
			buf = append(buf, ']')
		}
		buf = append(buf, ']')
	}
	return append(buf, "}\n"...)
}

func separator(i int) byte {
	if i == 0 {
		return '['
	}
	return ','
}

// Read adds one line of an observer's stream to the record.
func (r *Record) Read(data []byte) error {
	var l line
	if err := json.Unmarshal(bytes.TrimSpace(data), &l); err != nil {
		return fmt.Errorf("read a line of the observer's stream: %w", err)
	}
	switch l.Type {
	case lineHello:
		r.Period, r.Realtime, r.VIPs, r.Stations = time.Duration(l.PeriodNS), l.Realtime, l.VIPs, l.Stations
	case lineStation:
		r.Stations = append(r.Stations, l.Stations...)
	case lineAdvert:
		if l.Advert == nil || l.Advert.Station < 0 || l.Advert.Station >= len(r.Stations) {
			return fmt.Errorf("read an advertisement of the observer's stream: unknown station")
		}
		r.Adverts = append(r.Adverts, *l.Advert)
	case lineBatch:
		return r.readBatch(&l)
	case lineError:
		return fmt.Errorf("the observer gave up: %s", l.Error)
	default:
		return fmt.Errorf("read a line of the observer's stream: unknown type %q", l.Type)
	}
	return nil
}

func (r *Record) readBatch(l *line) error {
	base := Instant(l.Base)
	for _, offset := range l.Asked {
		r.Asked = append(r.Asked, base+Instant(offset))
	}
	for _, offset := range l.Pinged {
		r.Pinged = append(r.Pinged, base+Instant(offset))
	}
	for _, s := range l.Seen {
		vip, station := int(s[2]), int(s[3])
		if vip < 0 || vip >= len(r.VIPs) || station < 0 || station >= len(r.Stations) {
			return fmt.Errorf("read a sighting of the observer's stream: unknown address %d or station %d", vip, station)
		}
		r.Seen = append(r.Seen, Sighting{Asked: base + Instant(s[0]), Heard: base + Instant(s[1]), VIP: vip, Station: station,
			Kind: Kind(s[4])})
	}
	through := base + Instant(l.Through)
	if l.Lost > 0 {
		r.Losses = append(r.Losses, Loss{Interval: Interval{r.Through, through}, Frames: l.Lost})
	}
	r.Through = through
	return nil
}

// Forget drops what was recorded before the instant, so that an observer can run for days.
func (r *Record) Forget(before Instant) {
	r.Asked = keep(r.Asked, func(at Instant) bool { return at >= before })
	r.Pinged = keep(r.Pinged, func(at Instant) bool { return at >= before })
	r.Seen = keep(r.Seen, func(s Sighting) bool { return s.Heard >= before })
	r.Adverts = keep(r.Adverts, func(a Advert) bool { return a.At >= before })
	r.Losses = keep(r.Losses, func(l Loss) bool { return l.To >= before })
}

// keep copies what is kept, so that the old array can be freed.
func keep[T any](list []T, wanted func(T) bool) []T {
	var kept []T
	for _, item := range list {
		if wanted(item) {
			kept = append(kept, item)
		}
	}
	return kept
}

// station returns the index of a hardware address among the stations, or -1.
func station(stations []Station, mac net.HardwareAddr) int {
	text := mac.String()
	for i, s := range stations {
		if s.MAC == text {
			return i
		}
	}
	return -1
}
