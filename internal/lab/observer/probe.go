package observer

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// helperName is what this program is told to be called when it is started to observe.
	helperName = "had-observer"
	// ringSize is the number of requests whose times are remembered, two for each period. An answer to a forgotten request counts
	// as asked when it was heard.
	ringSize = 1 << 15
	// batchSpan is the time between two batch lines.
	batchSpan = 50 * time.Millisecond
	// settleSpan is how long the observer goes on listening after it was told to stop.
	settleSpan = 100 * time.Millisecond
	// senders is the number of threads that send in turn, each on a processor of its own: a request leaves in time if one of them is
	// not held up by whatever the kernel does on its processor.
	senders = 2
	// Real-time priorities; a sender must not wait for the receiver.
	sendPriority, receivePriority = 50, 49
	// receiveBuffer is the size of the receiving socket's buffer in bytes: some seconds of answers.
	receiveBuffer = 16 << 20
	// memoryLimit is what the observing process may use before garbage is collected, in bytes.
	memoryLimit = 128 << 20
	// frameSize bounds what is read of a frame; all that is understood is shorter.
	frameSize = 256
)

// setup is what the observing process is told on its standard input.
type setup struct {
	Interface string       `json:"interface"`
	PeriodNS  int64        `json:"period_ns"`
	VIPs      []netip.Addr `json:"vips"`
	Sources4  []netip.Addr `json:"sources4"`
	Sources6  []netip.Addr `json:"sources6"`
	Stations  []Station    `json:"stations"`
}

// MaybeRun turns this process into an observer and does not return, if it was started as one. It must be the first call of
// func main, or of TestMain, of every program that starts an observer.
func MaybeRun() {
	if len(os.Args) == 0 || os.Args[0] != helperName {
		return
	}
	if err := observe(os.Stdin, os.Stdout); err != nil {
		json.NewEncoder(os.Stdout).Encode(line{Type: lineError, Error: err.Error()})
		os.Exit(1)
	}
	os.Exit(0)
}

// prober is the observing process.
type prober struct {
	setup
	period   time.Duration
	mac      net.HardwareAddr
	macs     []net.HardwareAddr // of the configured stations
	vipIndex map[netip.Addr]int
	source   map[netip.Addr]int // position of a source address in its ring
	id       uint16             // identifier of the echo requests
	send     int                // sockets
	receive  int
	realtime bool
	out      io.Writer

	start Instant // when the first request is due
	stop  atomic.Bool
	next  atomic.Int64 // number of the next request that no sender has taken
	sent  [ringSize]request
}

// request is the latest request of its place in the ring. Even numbers ask who has the addresses, odd ones ping. A sender
// writes the time before it sends, and done after the time.
type request struct {
	at   atomic.Int64 // 0: left out, because it would have been late
	done atomic.Int64 // the request's number plus one
}

// observe runs until the input ends.
func observe(in io.Reader, out io.Writer) error {
	input := bufio.NewReader(in)
	first, err := input.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read what to observe: %w", err)
	}
	p := &prober{out: out, vipIndex: map[netip.Addr]int{}, source: map[netip.Addr]int{}, id: uint16(os.Getpid())}
	if err := json.Unmarshal(first, &p.setup); err != nil {
		return fmt.Errorf("read what to observe: %w", err)
	}
	if err := p.prepare(); err != nil {
		return err
	}
	// The garbage collector stops the world from threads without priority, which can take long on a busy machine. There is
	// little garbage, so it hardly ever has to run.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	go func() {
		io.Copy(io.Discard, input) // returns at the end of the input
		p.stop.Store(true)
	}()
	p.start = Now().Add(10 * time.Millisecond)
	var running sync.WaitGroup
	realtime := make(chan bool)
	processors := processors(senders)
	for sender, processor := range processors {
		running.Go(func() {
			runtime.LockOSThread()
			pin(processor)
			realtime <- urgent(sendPriority)
			p.ask(int64(sender), int64(len(processors)))
		})
	}
	p.realtime = true
	for range processors {
		p.realtime = <-realtime && p.realtime
	}
	runtime.LockOSThread()
	urgent(receivePriority)
	err = p.listen()
	p.stop.Store(true)
	running.Wait()
	return err
}

// processors returns up to n processors that this process may use; at least one, which is -1 if they cannot be found out.
func processors(n int) []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return []int{-1}
	}
	var list []int
	for cpu := 0; len(list) < min(n, set.Count()); cpu++ {
		if set.IsSet(cpu) {
			list = append(list, cpu)
		}
	}
	return list
}

// pin keeps the calling thread on a processor. If it cannot be kept there it only becomes likelier that requests are late.
func pin(processor int) {
	if processor < 0 {
		return
	}
	var set unix.CPUSet
	set.Set(processor)
	unix.SchedSetaffinity(0, &set)
}

func (p *prober) prepare() error {
	p.period = time.Duration(p.PeriodNS)
	if p.period < 100*time.Microsecond {
		return fmt.Errorf("a period of %s is too short", p.period)
	}
	link, err := net.InterfaceByName(p.Interface)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", p.Interface, err)
	}
	p.mac = link.HardwareAddr
	for i, vip := range p.VIPs {
		p.vipIndex[vip] = i
		if vip.Is4() && len(p.Sources4) == 0 || vip.Is6() && len(p.Sources6) == 0 {
			return fmt.Errorf("no source address of the family of %s", vip)
		}
	}
	for _, ring := range [][]netip.Addr{p.Sources4, p.Sources6} {
		for i, source := range ring {
			p.source[source] = i
		}
	}
	for i, s := range p.Stations {
		mac, err := net.ParseMAC(s.MAC)
		if err != nil {
			return fmt.Errorf("station %s: %w", s.Name, err)
		}
		p.macs = append(p.macs, mac)
		p.Stations[i].MAC = mac.String()
	}
	if p.send, err = packetSocket(link.Index, 0); err != nil {
		return fmt.Errorf("open a socket to send on %s: %w", p.Interface, err)
	}
	if p.receive, err = packetSocket(link.Index, unix.ETH_P_ALL); err != nil {
		return fmt.Errorf("open a socket to receive on %s: %w", p.Interface, err)
	}
	if err := prepareReceiver(p.receive, link.Index); err != nil {
		return fmt.Errorf("prepare to receive on %s: %w", p.Interface, err)
	}
	return nil
}

func packetSocket(ifindex int, protocol uint16) (int, error) {
	network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
	// The socket is bound to its protocol only together with its interface: it hears nothing of others in between.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if protocol != 0 {
		// Before the bind, or a first frame of another kind could slip in.
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, relevant()); err != nil {
			return -1, fmt.Errorf("attach filter: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network, Ifindex: ifindex}); err != nil {
		return -1, fmt.Errorf("bind: %w", err)
	}
	return fd, nil
}

// relevant is a filter program that passes ARP, ICMP, ICMPv6 and VRRP.
func relevant() *unix.SockFprog {
	const (
		loadHalf = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		loadByte = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		equals   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		give     = unix.BPF_RET | unix.BPF_K
	)
	program := []unix.SockFilter{
		{Code: loadHalf, K: 12},                       // 0: Ethernet type
		{Code: equals, K: etherARP, Jt: 9},            // 1: -> 11
		{Code: equals, K: etherIPv4, Jf: 3},           // 2: -> 6
		{Code: loadByte, K: 23},                       // 3: IPv4 protocol
		{Code: equals, K: protocolICMP, Jt: 6},        // 4: -> 11
		{Code: equals, K: protocolVRRP, Jt: 5, Jf: 4}, // 5: -> 11, 10
		{Code: equals, K: etherIPv6, Jf: 3},           // 6: -> 10
		{Code: loadByte, K: 20},                       // 7: IPv6 next header
		{Code: equals, K: protocolICMPv6, Jt: 2},      // 8: -> 11
		{Code: equals, K: protocolVRRP, Jt: 1},        // 9: -> 11
		{Code: give, K: 0},                            // 10
		{Code: give, K: frameSize},                    // 11
	}
	return &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
}

func prepareReceiver(fd, ifindex int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		// Without the privilege the system's limit applies; frames that it costs are counted and void the verdict.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
			return fmt.Errorf("set buffer size: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("ignore own frames: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("ask for timestamps: %w", err)
	}
	promiscuous := unix.PacketMreq{Ifindex: int32(ifindex), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &promiscuous); err != nil {
		return fmt.Errorf("listen to all stations: %w", err)
	}
	return nil
}

// urgent gives the calling thread real-time priority, or what it can get, and says whether it is real-time.
func urgent(priority uint32) bool {
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority,
		Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if unix.SchedSetAttr(0, &attr, 0) == nil {
		return true
	}
	unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
	return false
}

// due returns when a request is to be sent.
func (p *prober) due(number int64) Instant { return p.start.Add(time.Duration(number) * p.period / 2) }

// ask sends the requests of one of the senders, each at its time, until the observer is told to stop, and those before them that their
// own sender has not taken yet.
func (p *prober) ask(sender, senders int64) {
	buf := make([]byte, 0, frameSize)
	for number := sender; !p.stop.Load(); number += senders {
		sleepUntil(p.due(number))
		for next := p.next.Load(); next <= number; next = p.next.Load() {
			if p.next.CompareAndSwap(next, next+1) {
				p.request(buf, next)
			}
		}
	}
}

// request sends a request. One that would be more than [Lateness] late is left out: a burst of requests proves nothing about the time
// in which none was sent.
func (p *prober) request(buf []byte, number int64) {
	now := Now()
	if now.Sub(p.due(number)) > Lateness*p.period {
		now = 0
	}
	slot := &p.sent[number%ringSize]
	slot.at.Store(int64(now))
	slot.done.Store(number + 1)
	switch {
	case now == 0:
	case number%2 == 0:
		p.resolve(buf, number/2)
	default:
		p.ping(buf, number)
	}
}

// sentAt returns the time of a request, 0 if it was left out. It returns false if the request is not yet or no longer known.
func (p *prober) sentAt(number int64) (Instant, bool) {
	if number < 0 {
		return 0, false
	}
	slot := &p.sent[number%ringSize]
	if slot.done.Load() != number+1 {
		return 0, false
	}
	at := Instant(slot.at.Load())
	return at, slot.done.Load() == number+1 // else it has been overwritten meanwhile
}

// sleepUntil holds on to the Go scheduler's processor: a raw system call does not have to queue for one afterwards. The
// sleep is at most half a period, which is all that the garbage collector may have to wait.
func sleepUntil(due Instant) {
	ts := unix.NsecToTimespec(int64(due))
	const absolute = 1 // TIMER_ABSTIME
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, absolute,
			uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		if errno != unix.EINTR {
			return
		}
	}
}

// resolve asks who has the addresses, for the n-th time.
func (p *prober) resolve(buf []byte, n int64) {
	for _, vip := range p.VIPs {
		if vip.Is4() {
			p.transmit(appendARPRequest(buf[:0], p.mac, p.Sources4[n%int64(len(p.Sources4))], vip))
		} else {
			p.transmit(appendSolicitation(buf[:0], p.mac, p.Sources6[n%int64(len(p.Sources6))], vip))
		}
	}
}

// ping pings the addresses at each station, with a request's number.
func (p *prober) ping(buf []byte, number int64) {
	for _, vip := range p.VIPs {
		source := p.Sources4
		if vip.Is6() {
			source = p.Sources6
		}
		for _, mac := range p.macs {
			p.transmit(appendEcho(buf[:0], mac, p.mac, source[0], vip, p.id, uint32(number)))
		}
	}
}

// transmit sends a frame. An error means that the observer's own link is down: its requests go unanswered, as they would if
// they were lost on the way.
func (p *prober) transmit(frame []byte) {
	unix.RawSyscall(unix.SYS_WRITE, uintptr(p.send), uintptr(unsafe.Pointer(&frame[0])), uintptr(len(frame)))
}

// listener is the receiving side's state.
type listener struct {
	*prober
	batch   batch
	report  int64   // number of the next request to report
	offset  Instant // wall clock minus CLOCK_MONOTONIC
	buf     []byte  // of the lines
	frame   [frameSize]byte
	control [256]byte
}

// listen receives and writes the stream until the observer is told to stop. It looks every few milliseconds: when frames came
// in is the kernel's word, so nothing is lost by being late.
func (p *prober) listen() error {
	l := &listener{prober: p}
	l.offset, _ = clockOffset()
	hello := line{Type: lineHello, PeriodNS: p.PeriodNS, Realtime: p.realtime, VIPs: p.VIPs, Stations: p.Stations}
	if err := l.write(hello); err != nil {
		return err
	}
	l.batch.base = Now()
	var deadline Instant
	for {
		time.Sleep(batchSpan / 10)
		if err := l.drain(); err != nil {
			return err
		}
		now := Now()
		if p.stop.Load() && deadline == 0 {
			deadline = now.Add(settleSpan)
		}
		ending := deadline != 0 && now >= deadline
		if ending || now.Sub(l.batch.base) >= batchSpan {
			if err := l.flush(); err != nil {
				return err
			}
		}
		if ending {
			return nil
		}
	}
}

// clockOffset returns how far the wall clock is ahead of CLOCK_MONOTONIC, and whether the reading was undisturbed.
func clockOffset() (Instant, bool) {
	var offset Instant
	for range 4 {
		before := Now()
		wall := readClock(unix.CLOCK_REALTIME)
		after := Now()
		offset = wall - (before+after)/2
		if after.Sub(before) < 20*time.Microsecond {
			return offset, true
		}
	}
	return offset, false
}

// drain reads all frames that are there. Everything received before it began is then in the batch.
func (l *listener) drain() error {
	before := Now()
	stepped := false
	if offset, good := clockOffset(); good {
		// Somebody set the wall clock: the stamps of frames that wait here are of either clock.
		stepped = offset.Sub(l.offset).Abs() > time.Millisecond
		l.offset = offset
	}
	for {
		n, oobn, _, _, err := unix.Recvmsg(l.receive, l.frame[:], l.control[:], unix.MSG_DONTWAIT)
		switch err {
		case nil:
		case unix.EAGAIN:
			l.batch.through = before
			return nil
		case unix.EINTR:
			continue
		case unix.ENETDOWN:
			continue // reported once when the link goes down; frames come again when it is up
		default:
			return fmt.Errorf("receive a frame: %w", err)
		}
		at := Now()
		if stamp, ok := timestamp(l.control[:oobn]); ok && !stepped {
			at = min(at, stamp-l.offset)
		}
		if err := l.note(parse(l.frame[:n]), at); err != nil {
			return err
		}
	}
}

// timestamp finds the kernel's receive time, wall clock, in the control messages.
func timestamp(control []byte) (Instant, bool) {
	for len(control) >= unix.CmsgLen(0) {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return 0, false
		}
		if header.Level == unix.SOL_SOCKET && header.Type == unix.SCM_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			return Instant((*unix.Timespec)(unsafe.Pointer(&data[0])).Nano()), true
		}
		control = rest
	}
	return 0, false
}

// note adds what a frame says to the record.
func (l *listener) note(h heard, at Instant) error {
	if h.advert != nil {
		index, err := l.station(h.mac)
		if err != nil {
			return err
		}
		h.advert.At, h.advert.Station = at, index
		return l.write(line{Type: lineAdvert, Advert: h.advert})
	}
	vip, ok := l.vipIndex[h.vip]
	if h.kind == 0 || !ok {
		return nil
	}
	asked := at
	switch h.kind {
	case ARP, ND:
		// An answer to somebody else shows the station's ownership too, but nobody knows when it was asked.
		if i, ours := l.source[h.to]; ours {
			sources := l.Sources4
			if h.to.Is6() {
				sources = l.Sources6
			}
			asked = l.askedAs(int64(i), int64(len(sources)), at)
		}
	case Echo:
		if h.id != l.id {
			return nil
		}
		asked = l.pingedAs(h.number, at)
	}
	index, err := l.station(h.mac)
	if err != nil {
		return err
	}
	l.batch.seen = append(l.batch.seen, Sighting{Asked: asked, Heard: at, VIP: vip, Station: index, Kind: h.kind})
	return nil
}

// askedAs returns the time of the latest request before an instant that was sent under the i-th of the source addresses, or
// that instant if there is none.
func (l *listener) askedAs(i, sources int64, at Instant) Instant {
	newest := (l.next.Load() - 1) / 2
	n := newest - ((newest-i)%sources+sources)%sources
	for ; newest-n < ringSize/4; n -= sources {
		if sent, known := l.sentAt(2 * n); known && sent != 0 && sent <= at {
			return sent
		}
	}
	return at
}

// pingedAs returns the time of an echo request, or the instant of its answer if the request is forgotten.
func (l *listener) pingedAs(number uint32, at Instant) Instant {
	if sent, known := l.sentAt(int64(number)); known && sent != 0 {
		return min(sent, at)
	}
	return at
}

// station returns the index of a hardware address and makes strangers known.
func (l *listener) station(mac net.HardwareAddr) (int, error) {
	if i := station(l.Stations, mac); i >= 0 {
		return i, nil
	}
	stranger := Station{Name: mac.String(), MAC: mac.String()}
	l.Stations = append(l.Stations, stranger)
	return len(l.Stations) - 1, l.write(line{Type: lineStation, Stations: []Station{stranger}})
}

// flush writes the batch and begins the next one.
func (l *listener) flush() error {
	b := &l.batch
	b.asked, b.pinged = b.asked[:0], b.pinged[:0]
	for ; ; l.report++ {
		at, known := l.sentAt(l.report)
		if !known {
			break
		}
		switch {
		case at == 0:
		case l.report%2 == 0:
			b.asked = append(b.asked, at)
		default:
			b.pinged = append(b.pinged, at)
		}
	}
	// A sender may have taken a request and not got on with it: then the record is complete up to that request only.
	b.through = min(b.through, l.due(l.report))
	stats, err := unix.GetsockoptTpacketStats(l.receive, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return fmt.Errorf("ask for dropped frames: %w", err)
	}
	b.lost = int(stats.Drops)
	l.buf = b.appendTo(l.buf[:0])
	if _, err := l.out.Write(l.buf); err != nil {
		return fmt.Errorf("write the stream: %w", err)
	}
	b.base, b.seen = Now(), b.seen[:0]
	return nil
}

func (l *listener) write(item line) error {
	if err := json.NewEncoder(l.out).Encode(item); err != nil {
		return fmt.Errorf("write the stream: %w", err)
	}
	return nil
}
