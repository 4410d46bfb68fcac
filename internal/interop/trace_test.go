//go:build interop

package interop_test

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hactl/had/internal/lab"
)

// kindOfItem is where something was seen. What was seen at different places is compared for itself.
type kindOfItem uint8

const (
	adverts  kindOfItem = iota // of the router
	claims                     // gratuitous ARP and unsolicited neighbour advertisements of the router
	kernel                     // changes of addresses, routes and rules
	notified                   // arguments of notification scripts, in the order in which these were started
	fifo                       // lines of the pipe
	life                       // of the process
	kindsOfItem
)

func (k kindOfItem) String() string {
	return [...]string{"advert", "claim", "kernel", "notify", "fifo", "process"}[k]
}

// item is something that was seen, once or several times in a row.
type item struct {
	kind        kindOfItem
	stream      string // what has an order of its own: a virtual router on the wire, an interface
	text        string
	first, last time.Time
	count       int
}

// phase is the time from one event to the next.
type phase struct {
	name  string
	late  bool // what happens then is seen late: after the start of a process, or when the kernel has noticed something
	start time.Time
	items [kindsOfItem][]item
}

// trace is all that was to be seen of a router.
type trace struct {
	phases []phase
	items  []item // not yet sorted into phases
}

// resigns is in the text of every advertisement of priority 0.
const resigns = "prio 0 "

// describe says what an advertisement holds.
func describe(f frame) string {
	p := f.raw[ethernetLen:]
	var ttl byte
	var body []byte
	if f.ipv6 {
		ttl, body = p[7], p[ipv6Len:]
	} else {
		ttl, body = p[8], p[int(p[0]&0x0f)*4:binary.BigEndian.Uint16(p[2:])]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "v%d vrid %d prio %d %s > %s ttl %d", f.version, f.vrid, f.priority, f.src, f.dst, ttl)
	if f.version == 2 {
		fmt.Fprintf(&b, " every %d s auth %d", body[5], body[4])
	} else {
		fmt.Fprintf(&b, " every %d cs", binary.BigEndian.Uint16(body[4:])&0xfff)
	}
	size := len(f.src.AsSlice())
	rest := body[8:]
	b.WriteString(" for")
	for range body[3] {
		addr, _ := netip.AddrFromSlice(rest[:size])
		fmt.Fprintf(&b, " %s", addr)
		rest = rest[size:]
	}
	if strings.Trim(string(rest), "\x00") != "" {
		fmt.Fprintf(&b, " data %q", rest)
	}
	pseudo := append(append(f.src.AsSlice(), f.dst.AsSlice()...), 0, protocolVRRP, byte(len(body)>>8), byte(len(body)))
	switch {
	case onesSum(append(pseudo, body...)) == 0xffff:
		b.WriteString(" checksum with pseudo-header")
	case onesSum(body) == 0xffff:
		b.WriteString(" checksum without pseudo-header")
	default:
		b.WriteString(" checksum wrong")
	}
	b.WriteString(f.sender())
	return b.String()
}

// sender is the hardware address that a frame came from, if it is a virtual router's.
func (f frame) sender() string {
	if mac := f.mac.String(); strings.HasPrefix(mac, "00:00:5e:") {
		return " from " + mac
	}
	return ""
}

// burstGap is the silence that separates two bursts of announcements.
const burstGap = 250 * time.Millisecond

// normalised sorts what was seen into the phases, and takes out what may differ between two lives of one product.
func (tr trace) normalised(dir string) trace {
	phases := slices.Clone(tr.phases)
	for _, i := range kernelItems(tr.items) {
		n, _ := slices.BinarySearchFunc(phases, i.first, func(p phase, at time.Time) int {
			if p.start.After(at) {
				return 1
			}
			return -1
		})
		if n == 0 {
			continue // the preparations
		}
		list := &phases[n-1].items[i.kind]
		i.text = strings.ReplaceAll(i.text, dir, "DIR")
		*list = append(*list, i)
	}
	for n := range phases {
		items := &phases[n].items
		items[adverts] = byStream(items[adverts], runs)
		items[claims] = byStream(items[claims], bursts)
		items[kernel] = byStream(items[kernel], nil)
		items[notified] = inOrder(items[notified])
	}
	return trace{phases: phases}
}

// byStream puts the streams one after the other and joins items of each.
func byStream(items []item, join func([]item) []item) []item {
	slices.SortStableFunc(items, func(a, b item) int { return strings.Compare(a.stream, b.stream) })
	if join == nil {
		return items
	}
	var out []item
	for len(items) > 0 {
		n := slices.IndexFunc(items, func(i item) bool { return i.stream != items[0].stream })
		if n < 0 {
			n = len(items)
		}
		out = append(out, join(items[:n])...)
		items = items[n:]
	}
	return out
}

// runs makes one item of equal ones in a row.
func runs(items []item) []item {
	var out []item
	for _, i := range items {
		if n := len(out) - 1; n >= 0 && out[n].text == i.text {
			out[n].count++
			out[n].last = i.last
			continue
		}
		out = append(out, i)
	}
	return out
}

// bursts makes one item of the announcements that follow one another closely, with the number for each address.
func bursts(items []item) []item {
	var out []item
	for len(items) > 0 {
		burst := items[0]
		var addrs []string
		counts := map[string]int{}
		for len(items) > 0 && items[0].first.Sub(burst.last) < burstGap {
			if counts[items[0].text]++; counts[items[0].text] == 1 {
				addrs = append(addrs, items[0].text)
			}
			burst.last = items[0].first
			items = items[1:]
		}
		for i, a := range addrs {
			addrs[i] = fmt.Sprintf("%d x %s", counts[a], a)
		}
		burst.text = strings.Join(addrs, ", ") + on(burst.stream)
		out = append(out, burst)
	}
	return out
}

var (
	address = regexp.MustCompile(`^[0-9]+: +(\S+) +(inet6? .*)`)
	links   = regexp.MustCompile(`^[0-9]+: +([^ @:]+)\S*: .*link/ether (\S+)`)
	device  = regexp.MustCompile(`\b(?:dev|iif|oif) (\S+)`)
	blanks  = regexp.MustCompile(`[\s\\]+`)
)

// kernelItems takes out what the kernel does of itself, which is routes that follow from addresses, and what the stage did. Of
// what the kernel tells about links, only that there are others than the stage's is of interest.
func kernelItems(items []item) []item {
	var out []item
	known := map[string]bool{"lo": true, lab.Interface: true, second: true}
	for _, i := range items {
		if i.kind != kernel {
			out = append(out, i)
			continue
		}
		if strings.Contains(i.text, "proto kernel") || strings.Contains(i.text, probeAddress) {
			continue
		}
		text, removed := strings.CutPrefix(i.text, "Deleted ")
		if m := links.FindStringSubmatch(text); m != nil {
			if known[m[1]] != removed {
				continue
			}
			known[m[1]] = !removed
			i.stream, text = m[1], fmt.Sprintf("link %s %s", m[1], m[2])
		} else if m := address.FindStringSubmatch(text); m != nil {
			i.stream, text = m[1], m[1]+" "+m[2]
			if strings.HasPrefix(m[2], "inet6") {
				i.stream = m[1] + strings.Fields(m[2])[1] // the kernel tells of these when it finds the time
			}
		} else if m := device.FindStringSubmatch(text); m != nil {
			i.stream = m[1]
		}
		sign := "add "
		if removed {
			sign = "del "
		}
		i.text = sign + strings.TrimSpace(blanks.ReplaceAllString(text, " "))
		out = append(out, i)
	}
	return out
}

// inOrder sorts the words of scripts by the process that said them: a process that was started later has a higher number,
// and may have been faster.
func inOrder(items []item) []item {
	pid := func(i item) int {
		text, _, _ := strings.Cut(i.text, " ")
		n, _ := strconv.Atoi(text)
		return n
	}
	slices.SortStableFunc(items, func(a, b item) int { return cmp.Compare(pid(a), pid(b)) })
	for n := range items {
		_, items[n].text, _ = strings.Cut(items[n].text, " ")
	}
	return items
}

const (
	// soon is how far the times of two products may be apart from the beginning of a phase, and late how far if the phase
	// is a late one.
	soon = 450 * time.Millisecond
	late = 1300 * time.Millisecond
)

// compare shows two traces of one scenario in one text. Lines begin with a blank, or if only one of the two has them with
// - for the first, + for the second.
func compare(a, b trace) []string {
	var lines []string
	for n := range a.phases {
		p, q := a.phases[n], b.phases[n]
		lines = append(lines, " "+p.name)
		tolerated := soon
		if p.late {
			tolerated = late
		}
		for k := range kindsOfItem {
			same := func(x, y item) bool {
				apart := (x.first.Sub(p.start) - y.first.Sub(q.start)).Abs()
				return x.text == y.text && countsAgree(k, x, y) && (apart < tolerated || k == life)
			}
			align(p.items[k], q.items[k], same, func(sign byte, i item) {
				start := p.start
				if sign == '+' {
					start = q.start
				}
				lines = append(lines, fmt.Sprintf("%c   %-8s%5.1f s  %s", sign, k, i.first.Sub(start).Seconds(), i))
			})
		}
	}
	return lines
}

// align tells in order of the items that two lists have in common, by their longest common subsequence, and of the others.
func align(x, y []item, same func(x, y item) bool, tell func(sign byte, i item)) {
	longest := make([][]int, len(x)+1) // of what is left of both lists
	for i := range longest {
		longest[i] = make([]int, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			if same(x[i], y[j]) {
				longest[i][j] = 1 + longest[i+1][j+1]
			}
		}
	}
	for i, j := 0, 0; i < len(x) || j < len(y); {
		switch {
		case i < len(x) && j < len(y) && same(x[i], y[j]):
			tell(' ', x[i])
			i, j = i+1, j+1
		case j == len(y) || i < len(x) && longest[i+1][j] >= longest[i][j+1]:
			tell('-', x[i])
			i++
		default:
			tell('+', y[j])
			j++
		}
	}
}

// String is the text of the item and how often it was seen.
func (i item) String() string {
	if i.count == 1 {
		return i.text
	}
	return fmt.Sprintf("%s (%d times)", i.text, i.count)
}

// countsAgree tells whether two items were seen equally often: an advertisement is repeated until the phase ends, so that
// one more or less says nothing.
func countsAgree(k kindOfItem, x, y item) bool {
	if k != adverts || strings.Contains(x.text, resigns) {
		return x.count == y.count
	}
	return max(x.count, y.count)-min(x.count, y.count) <= 1+max(x.count, y.count)/8
}
