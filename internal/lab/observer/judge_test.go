package observer

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

const ms = Instant(time.Millisecond)

// asking returns a record of an observer that asked in every millisecond of [0, end) and half a millisecond later pinged.
func asking(end Instant) *Record {
	r := &Record{Period: time.Millisecond, VIPs: []netip.Addr{netip.MustParseAddr("10.77.0.100")},
		Stations: []Station{{Name: "a"}, {Name: "b"}, {Name: "c"}}, Through: end + 100*ms}
	for at := Instant(0); at < end; at += ms {
		r.Asked = append(r.Asked, at)
		r.Pinged = append(r.Pinged, at+ms/2)
	}
	return r
}

// answer lets a station answer all requests of [from, to) after a delay.
func (r *Record) answer(station int, from, to, delay Instant) {
	for _, at := range within(r.Asked, from, to) {
		r.Seen = append(r.Seen, Sighting{Asked: at, Heard: at + delay, Station: station, Kind: ARP})
	}
	for _, at := range within(r.Pinged, from, to) {
		r.Seen = append(r.Seen, Sighting{Asked: at, Heard: at + delay, Station: station, Kind: Echo})
	}
}

func TestVerdicts(t *testing.T) {
	const delay = ms / 20
	for _, test := range []struct {
		name         string
		see          func(r *Record)
		owners       []int
		dual         time.Duration
		possible     time.Duration
		interruption time.Duration
		lost         int
	}{
		{
			name:   "one owner all the time",
			see:    func(r *Record) { r.answer(0, 0, 1000*ms, delay) },
			owners: []int{0},
		},
		{
			name:         "nobody",
			see:          func(r *Record) {},
			interruption: time.Second, lost: 2000,
		},
		{
			name: "a handover without an overlap",
			see: func(r *Record) {
				r.answer(0, 0, 500*ms, delay)
				r.answer(1, 503*ms, 1000*ms, delay)
			},
			owners: []int{0, 1}, interruption: 3 * time.Millisecond, lost: 6,
		},
		{
			name: "two owners for ten milliseconds",
			see: func(r *Record) {
				r.answer(0, 0, 510*ms, delay)
				r.answer(1, 500*ms, 1000*ms, delay)
			},
			// From the first answer of b to the last request that a answered.
			owners: []int{0, 1}, dual: 9450 * time.Microsecond, possible: 9550 * time.Microsecond,
		},
		{
			name: "both answer one request: that alone does not prove two owners at one instant",
			see: func(r *Record) {
				r.answer(0, 0, 500*ms+ms/4, delay)
				r.answer(1, 500*ms, 1000*ms, delay)
			},
			owners: []int{0, 1}, possible: 50 * time.Microsecond,
		},
		{
			name: "an answer that was held up in the network is no second owner",
			see: func(r *Record) {
				r.answer(0, 0, 500*ms, delay)
				r.Seen[len(r.Seen)-1].Heard += 15 * ms // overtaken by what b says from 505 ms on
				r.answer(1, 505*ms, 1000*ms, delay)
			},
			owners: []int{0, 1}, possible: 9550 * time.Microsecond, interruption: 5 * time.Millisecond, lost: 10,
		},
		{
			name: "a single claim in the middle of somebody else's time is a second owner",
			see: func(r *Record) {
				r.answer(0, 0, 1000*ms, delay)
				r.Seen = append(r.Seen, Sighting{Asked: 300 * ms, Heard: 300 * ms, Station: 1, Kind: Claim})
			},
			owners: []int{0, 1}, dual: time.Millisecond,
		},
		{
			name: "a single answer in the middle of somebody else's time is a second owner",
			see: func(r *Record) {
				r.answer(0, 0, 1000*ms, delay)
				r.answer(1, 300*ms, 300*ms+1, delay)
			},
			owners: []int{0, 1}, dual: time.Millisecond, possible: 50 * time.Microsecond,
		},
		{
			name: "a claim just before the first answer belongs to it",
			see: func(r *Record) {
				r.answer(0, 0, 500*ms, delay)
				r.Seen = append(r.Seen, Sighting{Asked: 501 * ms, Heard: 501 * ms, Station: 1, Kind: Claim})
				r.answer(1, 502*ms, 1000*ms, delay)
			},
			owners: []int{0, 1}, interruption: 2 * time.Millisecond, lost: 4,
		},
		{
			name: "three owners at once count once",
			see: func(r *Record) {
				r.answer(0, 0, 1000*ms, delay)
				r.answer(1, 200*ms, 400*ms, delay)
				r.answer(2, 300*ms, 500*ms, delay)
			},
			owners: []int{0, 1, 2}, dual: 299450 * time.Microsecond, possible: 299550 * time.Microsecond,
		},
		{
			name: "an owner that comes back",
			see: func(r *Record) {
				r.answer(0, 0, 300*ms, delay)
				r.answer(1, 400*ms, 600*ms, delay)
				r.answer(0, 800*ms, 1000*ms, delay)
			},
			owners: []int{0, 1, 0}, interruption: 200 * time.Millisecond, lost: 600,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := asking(1000 * ms)
			test.see(r)
			v := r.Judge(0, 1000*ms)
			if v.Void != "" {
				t.Fatalf("void: %s", v.Void)
			}
			w := v.VIPs[0]
			if got := w.Owners(); !slices.Equal(got, test.owners) {
				t.Errorf("owners %v, want %v", got, test.owners)
			}
			if w.DualFor != test.dual || w.DualPossible != max(test.possible, 0) {
				t.Errorf("two owners for %s, possibly %s, want %s and %s", w.DualFor, w.DualPossible, test.dual, test.possible)
			}
			if w.Interruption() != test.interruption || w.Lost() != test.lost {
				t.Errorf("interruption %s, %d lost, want %s and %d", w.Interruption(), w.Lost(), test.interruption, test.lost)
			}
		})
	}
}

func TestAnObserverThatWasNotAwakeProvesNothing(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(r *Record)
		void string
	}{
		{"awake", func(r *Record) {}, ""},
		{"one request in a hundred left out", func(r *Record) {
			r.Asked = slices.DeleteFunc(r.Asked, func(at Instant) bool { return at/ms%100 == 50 })
		}, ""},
		{"two in a hundred", func(r *Record) {
			r.Asked = slices.DeleteFunc(r.Asked, func(at Instant) bool { return at/ms%50 == 25 })
		}, "only 98.00% of the requests left in time"},
		{"asleep for eleven milliseconds", func(r *Record) {
			r.Asked = slices.DeleteFunc(r.Asked, func(at Instant) bool { return at > 500*ms && at < 511*ms })
		}, "no request left for 11.0 ms"},
		{"asleep at the end", func(r *Record) {
			r.Asked = slices.DeleteFunc(r.Asked, func(at Instant) bool { return at > 1980*ms })
		}, "no request left for 20.0 ms"},
		{"frames lost unread", func(r *Record) { r.Losses = []Loss{{Interval{500 * ms, 550 * ms}, 3}} },
			"the kernel dropped 3 frames unread"},
		{"frames lost before", func(r *Record) { r.Losses = []Loss{{Interval{-50 * ms, -1}, 3}} }, ""},
		{"not yet there", func(r *Record) { r.Through = 1500 * ms }, "the record ends before the time to be judged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := asking(2000 * ms)
			test.make(r)
			if v := r.Judge(0, 2000*ms); v.Void != test.void {
				t.Errorf("void %q, want %q", v.Void, test.void)
			}
		})
	}
}

func TestInterleavedAdvertisements(t *testing.T) {
	advert := func(at Instant, station int, priority uint8) Advert {
		return Advert{At: at, Station: station, VRID: 51, Priority: priority, Source: netip.MustParseAddr("10.77.0.1")}
	}
	for _, test := range []struct {
		name    string
		adverts []Advert
		want    int
	}{
		{"one source", []Advert{advert(0, 0, 100), advert(1, 0, 100)}, 0},
		{"a takeover", []Advert{advert(0, 0, 100), advert(1, 1, 90), advert(2, 1, 90)}, 0},
		{"two sources", []Advert{advert(0, 0, 100), advert(1, 1, 90), advert(2, 0, 100), advert(3, 1, 90)}, 2},
		{"a resignation and its way back", []Advert{advert(0, 0, 100), advert(1, 0, 0), advert(2, 1, 90), advert(3, 1, 0), advert(4, 0, 100)}, 0},
		{"a resignation after the successor's first", []Advert{advert(0, 0, 100), advert(1, 1, 90), advert(2, 0, 0), advert(3, 0, 100)}, 0},
		{"outside the time", []Advert{advert(0, 0, 100), advert(1, 1, 90), advert(2000*ms, 0, 100)}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := asking(1000 * ms)
			r.Adverts = test.adverts
			if v := r.Judge(0, 1000*ms); len(v.Interleavings) != test.want {
				t.Errorf("interleavings %v, want %d", v.Interleavings, test.want)
			}
		})
	}
}

func TestAStreamIsTheRecordAgain(t *testing.T) {
	want := Record{
		Period: time.Millisecond, Realtime: true,
		VIPs:     []netip.Addr{netip.MustParseAddr("10.77.0.100"), netip.MustParseAddr("fd00::1")},
		Stations: []Station{{"a", "02:00:00:00:00:01"}, {"02:00:00:00:00:09", "02:00:00:00:00:09"}},
		Asked:    []Instant{100 * ms, 101 * ms}, Pinged: []Instant{100*ms + 7},
		Seen:    []Sighting{{100 * ms, 100*ms + 9, 1, 1, ND}, {99 * ms, 99 * ms, 0, 0, Claim}},
		Adverts: []Advert{{102 * ms, 1, netip.MustParseAddr("fe80::1"), 3, 51, 100}},
		Through: 150 * ms,
		Losses:  []Loss{{Interval{0, 150 * ms}, 4}},
	}
	b := batch{base: 100 * ms, through: want.Through, lost: 4, asked: want.Asked, pinged: want.Pinged, seen: want.Seen}
	empty := batch{base: 150 * ms, through: 150 * ms}
	var got Record
	for _, text := range []string{
		`{"type":"hello","period_ns":1000000,"realtime":true,"vips":["10.77.0.100","fd00::1"],"stations":[{"name":"a","mac":"02:00:00:00:00:01"}]}`,
		`{"type":"station","stations":[{"name":"02:00:00:00:00:09","mac":"02:00:00:00:00:09"}]}`,
		`{"type":"advert","advert":{"at":102000000,"station":1,"source":"fe80::1","version":3,"vrid":51,"priority":100}}`,
		string(b.appendTo(nil)), string(empty.appendTo(nil)),
	} {
		if err := got.Read([]byte(text)); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, text := range []string{`{"type":"batch","seen":[[0,0,2,0,1]]}`, `{"type":"batch","seen":[[0,0,0,9,1]]}`, `{"type":"advert"}`,
		`{"type":"advert","advert":{"station":5}}`, `{"type":"odd"}`, `{"type":"error","error":"no such interface"}`, `nonsense`} {
		if err := got.Read([]byte(text)); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestForgettingKeepsWhatCameLater(t *testing.T) {
	r := asking(100 * ms)
	r.answer(0, 0, 100*ms, 1)
	r.Adverts = []Advert{{At: 10 * ms}, {At: 60 * ms}}
	r.Losses = []Loss{{Interval{10 * ms, 20 * ms}, 1}, {Interval{60 * ms, 70 * ms}, 1}}
	r.Forget(50 * ms)
	if len(r.Asked) != 50 || len(r.Pinged) != 50 || len(r.Seen) != 100 || len(r.Adverts) != 1 || len(r.Losses) != 1 {
		t.Errorf("%d asked, %d pinged, %d seen, %d adverts, %d losses are left", len(r.Asked), len(r.Pinged), len(r.Seen),
			len(r.Adverts), len(r.Losses))
	}
}
