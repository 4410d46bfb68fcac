//go:build integ

package beside

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/lvs/check"
)

// Who looks after a server.
const (
	stock = iota
	ours
)

// scenario is a checker, and how its server answers one attempt after the other.
type scenario struct {
	name    string
	script  string // an attempt each: + or - ; the last goes on
	block   string // of keepalived.conf, without the times
	probe   func(check.Endpoint) check.Probe
	stream  func(r *bufio.Reader, w io.Writer, letter byte) (asked string)
	packet  func(packet []byte, letter byte) (asked string, reply []byte)
	secure  bool
	alpha   bool
	retries int
	retry   time.Duration // delay_before_retry
}

const interval = 4 * time.Second

// seen is what a server saw of those who look after it.
type seen struct {
	mu     sync.Mutex
	script string
	events []event
	last   time.Time
}

// event is an attempt, or a change of the verdict after it.
type event struct {
	asked string
	gap   time.Duration // since the attempt before
	told  string        // U and D, after this attempt
}

// attempt takes down that an attempt has begun and returns how to answer it.
func (s *seen) attempt() (n int, letter byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	e := event{}
	if len(s.events) > 0 {
		e.gap = now.Sub(s.last)
	}
	s.last = now
	s.events = append(s.events, e)
	n = len(s.events) - 1
	return n, s.script[min(n, len(s.script)-1)]
}

func (s *seen) asked(n int, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events[n].asked = what
}

func (s *seen) told(up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.events); n > 0 {
		s.events[n-1].told += map[bool]string{true: "U", false: "D"}[up]
	}
}

func (s *seen) done() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events) > len(s.script)
}

func page(r *bufio.Reader, w io.Writer, letter byte) string {
	var asked strings.Builder
	for {
		line, err := r.ReadString('\n')
		asked.WriteString(line)
		if err != nil || line == "\r\n" {
			break
		}
	}
	status := "200 OK"
	if letter == '-' {
		status = "500 Oops"
	}
	fmt.Fprintf(w, "HTTP/1.0 %s\r\nContent-Type: text/plain\r\n\r\nhello\n", status)
	return asked.String()
}

func mail(r *bufio.Reader, w io.Writer, letter byte) string {
	if letter == '-' {
		fmt.Fprint(w, "421 busy\r\n")
		return ""
	}
	fmt.Fprint(w, "220 hello there\r\n")
	helo, _ := r.ReadString('\n')
	fmt.Fprint(w, "250 me\r\n")
	quit, _ := r.ReadString('\n')
	fmt.Fprint(w, "221 bye\r\n")
	return helo + quit
}

func names(packet []byte, letter byte) (string, []byte) {
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil {
		return err.Error(), nil
	}
	asked := fmt.Sprintf("%v %v rd=%t %d", m.Questions, m.OpCode, m.RecursionDesired, len(packet))
	m.Response = true
	if letter == '-' {
		m.RCode = dnsmessage.RCodeServerFailure
	}
	reply, _ := m.Pack()
	return asked, reply
}

// pages is a check that asks for pages.
func pages(protocol check.Protocol, urls ...check.URL) func(check.Endpoint) check.Probe {
	return func(e check.Endpoint) check.Probe {
		p := check.HTTP{Endpoint: e, Protocol: protocol, URLs: append([]check.URL(nil), urls...)}
		for i := range p.URLs {
			if p.URLs[i].Status == nil {
				p.URLs[i].Status = []check.StatusRange{{First: 200, Last: 299}}
			}
		}
		return &p
	}
}

var helloDigest = "b1946ac92492d2347c6235b4d2611184"

var scenarios = []scenario{
	{name: "page", script: "++--+---++", retries: 2, retry: time.Second, stream: page,
		block: "HTTP_GET {\n url {\n path /a?b=c\n }", probe: pages(check.HTTP10, check.URL{Path: "/a?b=c"})},
	{name: "down from the start", script: "--+++", retries: 2, retry: time.Second, stream: page,
		block: "HTTP_GET {\n url {\n path /\n }", probe: pages(check.HTTP10, check.URL{Path: "/"})},
	{name: "alpha", script: "-+-+", retries: 0, retry: time.Second, stream: page, alpha: true,
		block: "HTTP_GET {\n url {\n path /\n }", probe: pages(check.HTTP10, check.URL{Path: "/"})},
	{name: "failures in a recovery", script: "--+---+-+--+++++", retries: 1, retry: time.Second, stream: page,
		block: "HTTP_GET {\n url {\n path /\n }", probe: pages(check.HTTP10, check.URL{Path: "/"})},
	{name: "no retries", script: "+-+-+---++++", retries: 0, retry: time.Second, stream: page,
		block: "HTTP_GET {\n url {\n path /\n }", probe: pages(check.HTTP10, check.URL{Path: "/"})},
	{name: "fast recovery", script: "++++---+++++++", retries: 1, retry: time.Second, stream: page,
		block: "HTTP_GET {\n fast_recovery\n url {\n path /1\n }\n url {\n path /2\n }\n url {\n path /3\n }",
		probe: func(e check.Endpoint) check.Probe {
			p := pages(check.HTTP10, check.URL{Path: "/1"}, check.URL{Path: "/2"}, check.URL{Path: "/3"})(e).(*check.HTTP)
			p.FastRecovery = true
			return p
		}},
	{name: "regex", script: "+++-++", retries: 1, retry: 2 * time.Second, stream: page,
		block: "HTTP_GET {\n url {\n path /\n regex hel+o\n }",
		probe: pages(check.HTTP10, check.URL{Path: "/", Regex: &check.Regex{Pattern: "^hel+o", MaxOffset: -1}})},
	{name: "a regex that does not match", script: "++", retries: 1, retry: 2 * time.Second, stream: page,
		block: "HTTP_GET {\n url {\n path /\n regex \"^hal+o\"\n }",
		probe: pages(check.HTTP10, check.URL{Path: "/", Regex: &check.Regex{Pattern: "^hal+o", MaxOffset: -1}})},
	{name: "digest, host and 1.1", script: "+++-++", retries: 1, retry: 2 * time.Second, stream: page,
		block: "HTTP_GET {\n http_protocol 1.1\n virtualhost www.example.org\n url {\n path /\n digest " + helloDigest +
			"\n status_code 200 300-302\n }",
		probe: pages(check.HTTP11, check.URL{Path: "/", Host: "www.example.org", Digest: helloDigest,
			Status: []check.StatusRange{{First: 200, Last: 200}, {First: 300, Last: 302}}})},
	{name: "another digest", script: "+++", retries: 1, retry: time.Second, stream: page,
		block: "HTTP_GET {\n http_protocol 1.0C\n url {\n path /\n digest " + strings.Repeat("0", 32) + "\n }",
		probe: pages(check.HTTP10Close, check.URL{Path: "/", Digest: strings.Repeat("0", 32)})},
	{name: "three pages", script: "++++++++---++-++++++", retries: 1, retry: time.Second, stream: page,
		block: "HTTP_GET {\n url {\n path /1\n }\n url {\n path /2\n }\n url {\n path /3\n }",
		probe: pages(check.HTTP10, check.URL{Path: "/1"}, check.URL{Path: "/2"}, check.URL{Path: "/3"})},
	{name: "three pages, down from the start", script: "+--++++++++", retries: 1, retry: time.Second, stream: page,
		block: "HTTP_GET {\n url {\n path /1\n }\n url {\n path /2\n }\n url {\n path /3\n }",
		probe: pages(check.HTTP10, check.URL{Path: "/1"}, check.URL{Path: "/2"}, check.URL{Path: "/3"})},
	{name: "a long delay before retries", script: "++--+++", retries: 1, retry: 6 * time.Second, stream: page,
		block: "HTTP_GET {\n url {\n path /\n }", probe: pages(check.HTTP10, check.URL{Path: "/"})},
	{name: "TLS", script: "++--+-++", retries: 1, retry: time.Second, stream: page, secure: true,
		block: "SSL_GET {\n url {\n path /\n }", probe: pages(check.HTTP10, check.URL{Path: "/"})},
	{name: "mail", script: "++--+---++", retries: 1, retry: time.Second, stream: mail,
		block: "SMTP_CHECK {\n helo_name lb1.example.org",
		probe: func(e check.Endpoint) check.Probe { return &check.SMTP{Endpoint: e, Helo: "lb1.example.org"} }},
	{name: "names", script: "++--+---++", retries: 1, retry: time.Second, packet: names,
		block: "DNS_CHECK {\n type AAAA\n name www.example.org",
		probe: func(e check.Endpoint) check.Probe {
			return &check.DNS{Endpoint: e, Type: "AAAA", Name: "www.example.org"}
		}},
	{name: "names of the root", script: "+-++", retries: 0, retry: time.Second, packet: names,
		block: "DNS_CHECK {", probe: func(e check.Endpoint) check.Probe { return &check.DNS{Endpoint: e, Type: "SOA", Name: "."} }},
	{name: "datagrams", script: "++-+---++", retries: 1, retry: time.Second,
		packet: func(packet []byte, letter byte) (string, []byte) {
			if letter == '-' {
				return fmt.Sprintf("%x", packet), []byte("no")
			}
			return fmt.Sprintf("%x", packet), []byte("yes")
		},
		block: "UDP_CHECK {\n require_reply 79XX73",
		probe: func(e check.Endpoint) check.Probe {
			return &check.UDP{Endpoint: e, RequireReply: true, Reply: []byte{0x79, 0, 0x73},
				ReplyMask: []byte{0xff, 0, 0xff}, MaxReply: 255}
		}},
	{name: "the built-in datagram", script: "++", retries: 1, retry: time.Second,
		packet: func(packet []byte, _ byte) (string, []byte) { return fmt.Sprintf("%x", packet), []byte("yes") },
		block:  "UDP_CHECK {", probe: func(e check.Endpoint) check.Probe { return &check.UDP{Endpoint: e} }},
}

// TestSameChecks lets keepalived and package check look after equal servers that fail in the same way. Both have to ask the
// same, byte by byte, at the same distances, and to change their minds after the same attempts. The machine skips the time
// in which nothing happens; it takes half a minute.
func TestSameChecks(t *testing.T) {
	loopback(t)
	all := map[netip.AddrPort]*seen{}
	var config strings.Builder
	var checks []check.Check
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	for i, s := range scenarios {
		var who [2]*seen
		for side := range who {
			who[side] = &seen{script: s.script}
			target := address(side, i)
			all[target] = who[side]
			if s.packet != nil {
				servePackets(t, target, s, who[side])
			} else {
				serveStreams(t, target, s, who[side], certificate.TLS)
			}
		}
		alpha := ""
		if s.alpha {
			alpha = " alpha\n"
		}
		target := address(stock, i)
		fmt.Fprintf(&config, "virtual_server 10.9.9.%d 80 {\n delay_loop %d\n warmup 0\n lb_algo rr\n lb_kind NAT\n protocol %s\n%s"+
			" real_server %v %d {\n %s\n retry %d\n delay_before_retry %d\n connect_timeout 2\n warmup 0\n }\n }\n}\n",
			i+1, interval/time.Second, map[bool]string{true: "UDP", false: "TCP"}[s.packet != nil], alpha,
			target.Addr(), target.Port(), s.block, s.retries, s.retry/time.Second)
		target = address(ours, i)
		p := s.probe(check.Endpoint{Target: target, Timeout: 2 * time.Second})
		if h, ok := p.(*check.HTTP); ok {
			h.Secure = s.secure
		}
		checks = append(checks, check.Check{ID: target.String(), Alpha: s.alpha, Probe: p,
			Schedule: check.Schedule{Interval: interval, RetryDelay: s.retry, Retries: s.retries}})
	}
	keepalived(t, config.String(), func(server netip.AddrPort, up bool) {
		if s := all[server]; s != nil {
			s.told(up)
		}
	})
	zero := time.Now()
	assumed := map[string]bool{}
	for _, c := range checks {
		assumed[c.ID] = !c.Alpha
	}
	e := check.New(check.Options{
		Now: func() clock.Time { return clock.Time(time.Second + time.Since(zero)) },
		Log: slog.New(slog.DiscardHandler),
		Report: func(r check.Result) {
			if r.Up != assumed[r.ID] {
				all[netip.MustParseAddrPort(r.ID)].told(r.Up)
				assumed[r.ID] = r.Up
			}
		},
	})
	defer e.Close()
	e.Set(checks)
	for begin := time.Now(); time.Since(begin) < 5*time.Minute; time.Sleep(time.Second) {
		done := true
		for _, s := range all {
			done = done && s.done()
		}
		if done {
			break
		}
	}
	for i, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			compare(t, s, all[address(stock, i)], all[address(ours, i)], address(stock, i), address(ours, i))
		})
	}
}

func address(side, scenario int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(1 + side), byte(1 + scenario)}), 8080)
}

func compare(t *testing.T, s scenario, theirs, mine *seen, theirAddress, myAddress netip.AddrPort) {
	theirs.mu.Lock()
	defer theirs.mu.Unlock()
	mine.mu.Lock()
	defer mine.mu.Unlock()
	n := len(s.script)
	if len(theirs.events) <= n || len(mine.events) <= n {
		t.Errorf("keepalived made %d attempts and had %d, of %d", len(theirs.events), len(mine.events), n)
		n = min(len(theirs.events), len(mine.events), n)
	}
	line := func(events []event) string {
		var b strings.Builder
		for i, e := range events[:n] {
			path := ""
			if words := strings.Fields(e.asked); len(words) > 1 && s.stream != nil {
				path = words[1]
			}
			fmt.Fprintf(&b, " %.1f%s%c%s", e.gap.Seconds(), path, s.script[i], e.told)
		}
		return b.String()
	}
	for i := range n {
		a, b := theirs.events[i], mine.events[i]
		one, other := strings.ReplaceAll(a.asked, theirAddress.String(), "SERVER"), strings.ReplaceAll(b.asked, myAddress.String(), "SERVER")
		if one != other {
			t.Errorf("attempt %d: keepalived asks %q, had asks %q", i, one, other)
		}
		if a.told != b.told || (a.gap-b.gap).Abs() > 500*time.Millisecond {
			t.Errorf("attempt %d differs:\nkeepalived%s\nhad       %s", i, line(theirs.events), line(mine.events))
			return
		}
	}
	if !t.Failed() {
		t.Logf("both%s", line(mine.events))
	}
}

func serveStreams(t *testing.T, at netip.AddrPort, s scenario, to *seen, secure *tls.Config) {
	t.Helper()
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				n, letter := to.attempt()
				var stream io.ReadWriter = c
				if s.secure {
					tc := tls.Server(c, secure)
					defer tc.Close()
					stream = tc
				}
				to.asked(n, s.stream(bufio.NewReader(stream), stream, letter))
			}()
		}
	}()
}

func servePackets(t *testing.T, at netip.AddrPort, s scenario, to *seen) {
	t.Helper()
	c, err := net.ListenPacket("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			size, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			n, letter := to.attempt()
			asked, reply := s.packet(buffer[:size], letter)
			to.asked(n, asked)
			_, _ = c.WriteTo(reply, from)
		}
	}()
}
