//go:build interop

package interop_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab"
)

// forgery is an advertisement that somebody makes up.
type forgery struct {
	version, kind, vrid, priority, ttl byte
	interval                           uint16 // in the unit of the version
	auth                               byte   // type
	password                           string
	src, dst                           netip.Addr
	vips                               []netip.Addr
	plain                              bool // version 3 without a pseudo-header in the checksum
	badChecksum                        bool
	cut                                int // bytes that are missing at the end
}

// frame builds the forgery as it is sent from one hardware address to another.
func (f forgery) frame(from, to net.HardwareAddr) []byte {
	body := []byte{f.version<<4 | f.kind, f.vrid, f.priority, byte(len(f.vips)), f.auth, byte(f.interval), 0, 0}
	if f.version == 3 {
		binary.BigEndian.PutUint16(body[4:], f.interval)
	}
	for _, vip := range f.vips {
		body = append(body, vip.AsSlice()...)
	}
	var pseudo []byte
	if f.version == 2 && f.src.Is4() {
		data := make([]byte, 8)
		copy(data, f.password)
		body = append(body, data...)
	} else if !f.plain {
		pseudo = append(append(f.src.AsSlice(), f.dst.AsSlice()...), 0, protocolVRRP, 0, byte(len(body)))
	}
	binary.BigEndian.PutUint16(body[6:], ^onesSum(append(pseudo, body...)))
	if f.badChecksum {
		body[7] ^= 1
	}
	body = body[:len(body)-f.cut]
	if f.src.Is6() {
		ip := []byte{0x6c, 0, 0, 0, 0, byte(len(body)), protocolVRRP, f.ttl}
		ip = append(append(ip, f.src.AsSlice()...), f.dst.AsSlice()...)
		return append(append(ethernet(to, from, etherIPv6), ip...), body...)
	}
	ip := []byte{0x45, 0xc0, 0, byte(ipv4Len + len(body)), 0x12, 0x34, 0, 0, f.ttl, protocolVRRP, 0, 0}
	ip = append(append(ip, f.src.AsSlice()...), f.dst.AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], ^onesSum(ip))
	return append(append(ethernet(to, from, etherIPv4), ip...), body...)
}

// groupMAC is the hardware address of a multicast group (RFC 1112 section 6.4, RFC 2464 section 7).
func groupMAC(group netip.Addr) net.HardwareAddr {
	b := group.AsSlice()
	if group.Is4() {
		return net.HardwareAddr{0x01, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// response is what a master does when it hears something.
type response struct {
	adverts int // at once
	claims  int // announcements of its addresses
	yields  bool
}

func (r response) String() string {
	end := "remains master"
	if r.yields {
		end = "gives up"
	}
	return fmt.Sprintf("%d advertisements at once, %d announcements, %s", r.adverts, r.claims, end)
}

// told is something that a master hears, and what it makes of it.
type told struct {
	name  string
	lie   func(f *forgery)
	want  response
	only  int  // version; 0: both
	claim bool // the liar claims an address shortly before
}

const (
	burst     = 2             // announcements of an address at once
	announced = 2 * burst * 2 // and once more, of two addresses
)

// TestResponses tells a master things that may or may not be true.
func TestResponses(t *testing.T) {
	t.Parallel()
	higher := told{name: "a higher priority", lie: func(*forgery) {}, want: response{yields: true}}
	lower := told{name: "a lower priority", lie: func(f *forgery) { f.priority = lowPriority - 1 },
		want: response{adverts: 1, claims: announced}}
	all := []told{
		{name: "priority 0", lie: func(f *forgery) { f.priority = 0 }, want: response{adverts: 1}},
		lower,
		{name: "the same priority from a lower address", lie: func(f *forgery) { f.priority = lowPriority }, want: lower.want},
		{name: "a wrong checksum", lie: func(f *forgery) { f.badChecksum = true }},
		{name: "a packet that a router has forwarded", lie: func(f *forgery) { f.ttl = 254 }},
		{name: "another virtual router", lie: func(f *forgery) { f.vrid++ }},
		{name: "another version", lie: func(f *forgery) { f.version ^= 1 }},
		{name: "another type", lie: func(f *forgery) { f.kind = 2 }},
		{name: "a short packet", lie: func(f *forgery) { f.cut = 4 }},
		{name: "another interval", lie: func(f *forgery) { f.interval = 2 }, only: 2},
		{name: "another password", lie: func(f *forgery) { f.password = "let-me-o" }, only: 2},
		{name: "no password", lie: func(f *forgery) { f.auth, f.password = 0, "" }, only: 2},
		higher,
		{name: "the same priority from a higher address",
			lie:  func(f *forgery) { f.priority, f.src = lowPriority, netip.MustParseAddr("10.77.0.200") },
			want: response{yields: true}},
		{name: "a higher priority and a longer interval", lie: func(f *forgery) { f.interval = 150 },
			want: response{yields: true}, only: 3},
		{name: "a claim of an address, and then a higher priority", lie: func(*forgery) {},
			want: response{yields: true}, only: 3, claim: true},
	}
	last, silent := higher, lower
	last.want = response{adverts: 1, yields: true}
	silent.want = response{claims: announced}
	for _, p := range []product{keepalived, had} {
		for _, test := range []struct {
			name  string
			c     combination
			tolds []told
			lines []string
		}{
			{"", combination{version: 2, password: "let-me-in"}, all, nil},
			{"", combination{version: 3}, all, nil},
			{" with higher_prio_send_advert and lower_prio_no_advert", combination{version: 3}, []told{last, silent},
				[]string{"higher_prio_send_advert true", "lower_prio_no_advert true"}},
		} {
			t.Run(fmt.Sprintf("%s as a master answers what it hears as keepalived does, in %s%s", p, test.c, test.name), func(t *testing.T) {
				t.Parallel()
				responses(t, p, test.c, test.tolds, test.lines...)
			})
		}
	}
}

func responses(t *testing.T, p product, c combination, tolds []told, lines ...string) {
	const atOnce = 300 * time.Millisecond
	l := newLAN(t, c.vips()...)
	liar, r := l.addRouter(keepalived, c.advertInterval()), l.addRouter(p, time.Second)
	mouth, err := openTap(liar.host, lab.Interface, func(time.Time, bool, frame) {})
	if err != nil {
		t.Fatal(err)
	}
	defer mouth.close()
	lines = append(lines, "garp_master_delay 0", fmt.Sprintf("garp_lower_prio_repeat %d", burst), "garp_lower_prio_delay 1")
	instance := c.instance(r, liar, lowPriority, lines...)
	instance.interval = time.Second
	r.write("keepalived.conf", configuration(instance))
	r.boot()
	l.awaitMaster(r, startTime+5*time.Second)

	truth := forgery{version: byte(c.version), kind: 1, vrid: vrid, priority: highPriority, ttl: 255, interval: 100,
		src: netip.MustParseAddr("10.77.0.1"), dst: netip.MustParseAddr("224.0.0.18"), vips: addresses(c.vips())}
	if c.version == 2 {
		truth.interval, truth.auth, truth.password = 1, 1, "let-me-i"
	}
	for _, test := range tolds {
		if test.only != 0 && test.only != c.version {
			continue
		}
		lie := truth
		test.lie(&lie)
		l.firstAdvert(r, time.Now(), 2*time.Second)
		time.Sleep(time.Second / 5) // far from the advertisements that are due anyway
		now := time.Now()
		if test.claim { // as of a router that has taken over, and was faster than its advertisement
			if err := mouth.send(question(mouth.mac, lie.vips[0], lie.vips[0])); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err := mouth.send(lie.frame(mouth.mac, groupMAC(lie.dst))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(atOnce + 1100*time.Millisecond)
		got := response{yields: true}
		for _, e := range l.record.find(now, func(e *event) bool { return e.router == r.name }) {
			switch {
			case e.kind == claim:
				got.claims++
			case e.kind == advert && e.at.Sub(now) < atOnce:
				got.adverts++
			case e.kind == advert:
				got.yields = false
			}
		}
		if got != test.want {
			t.Errorf("told %s: %s\nwant: %s", test.name, got, test.want)
		}
		if !got.yields {
			continue
		}
		unit := time.Second
		if c.version == 3 {
			unit = time.Duration(lie.interval) * 10 * time.Millisecond // version 3 goes by the master's interval
		}
		prescribed := 3*unit + (256-lowPriority)*unit/256
		l.within(r, "told "+test.name+": return to master", l.firstAdvert(r, now.Add(atOnce), prescribed+tolerance).Sub(now), prescribed)
		l.awaitMaster(r, r.settle()+tolerance)
	}
}
