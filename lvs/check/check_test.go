package check

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/lvs/check/verdict"
)

func TestMain(m *testing.M) {
	// The clock of regexp2 ends by itself some time after the last search.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/dlclark/regexp2.runClock"))
}

var zero = time.Now()

func now() clock.Time { return clock.Time(time.Second + time.Since(zero)) }

func testOptions() Options {
	return Options{Now: now, Report: func(Result) {}, Log: slog.New(slog.DiscardHandler)}
}

// try makes one attempt.
func try(t *testing.T, p Probe, step int, limit time.Duration) verdict.Outcome {
	t.Helper()
	options := testOptions()
	first := make(chan Result, 1)
	options.Report = func(r Result) { first <- r }
	e := New(options)
	defer e.Close()
	if _, ok := p.(*TCP); ok {
		e.Set([]Check{{Schedule: Schedule{Interval: time.Hour}, Probe: p}})
		r := next(t, first)
		return verdict.Outcome{OK: r.Up, Reason: r.Reason}
	}
	prober, err := p.prepare(e)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return prober.(attempter).attempt(ctx, step)
}

// expect makes one attempt and compares its outcome. An empty reason stands for success.
func expect(t *testing.T, p Probe, reason string) {
	t.Helper()
	o := try(t, p, 0, 5*time.Second)
	if o.OK != (reason == "") || !strings.Contains(o.Reason, reason) {
		t.Errorf("ok=%t, %q; want %q", o.OK, o.Reason, reason)
	}
}

// serve accepts connections on loopback until the test ends and gives each to handle.
func serve(t *testing.T, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

// serveUDP answers each datagram with what reply returns; nil: not at all.
func serveUDP(t *testing.T, reply func([]byte) [][]byte) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			for _, r := range reply(buffer[:n]) {
				_, _ = c.WriteTo(r, from)
			}
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-ended
	})
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

// refusing returns an address where nobody listens.
func refusing(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

// at is where an answer comes; slowly on a busy machine.
func at(target netip.AddrPort) Endpoint {
	return Endpoint{Target: target, Timeout: 20 * time.Second}
}

// silentAt is where none comes.
func silentAt(target netip.AddrPort) Endpoint {
	return Endpoint{Target: target, Timeout: 500 * time.Millisecond}
}

func TestTCP(t *testing.T) {
	t.Parallel()
	good := serve(t, func(net.Conn) {})
	expect(t, &TCP{at(good)}, "")
	closed := refusing(t)
	expect(t, &TCP{at(closed)}, "connect "+closed.String()+": refused")
	from := at(good)
	from.Bind = netip.MustParseAddr("127.0.0.9")
	came := make(chan string, 1)
	from.Target = serve(t, func(c net.Conn) { came <- c.RemoteAddr().String() })
	expect(t, &TCP{from}, "")
	if got := <-came; !strings.HasPrefix(got, "127.0.0.9:") {
		t.Errorf("came from %s", got)
	}
	from.BindPort = refusing(t).Port()
	for range 2 { // the port is free for the next one at once
		expect(t, &TCP{from}, "")
		if got := <-came; got != fmt.Sprintf("127.0.0.9:%d", from.BindPort) {
			t.Errorf("came from %s", got)
		}
	}
}

// TestBlackhole connects to a socket whose queue is full: the kernel drops what comes.
func TestBlackhole(t *testing.T) {
	t.Parallel()
	hole := blackhole(t)
	reset := serve(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) })
	expect(t, &TCP{at(reset)}, "")
	expect(t, &TCP{silentAt(hole)}, fmt.Sprintf("connect %v: no answer within 500ms", hole))
}

func get(target netip.AddrPort, urls ...URL) *HTTP {
	for i := range urls {
		if urls[i].Path == "" {
			urls[i].Path = "/"
		}
		if urls[i].Status == nil {
			urls[i].Status = []StatusRange{{200, 299}}
		}
	}
	return &HTTP{Endpoint: at(target), URLs: urls}
}

// answering serves the same bytes to each request.
func answering(t *testing.T, text string) netip.AddrPort {
	return serve(t, func(c net.Conn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, text)
	})
}

func TestRequests(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	server := serve(t, func(c net.Conn) {
		var text strings.Builder
		for r := bufio.NewReader(c); ; {
			line, err := r.ReadString('\n')
			text.WriteString(line)
			if err != nil || line == "\r\n" {
				break
			}
		}
		got <- text.String()
		_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n")
	})
	for _, tt := range []struct {
		protocol Protocol
		host     string
		want     string
	}{
		{HTTP10, "", "GET /a?b HTTP/1.0\r\nUser-Agent: KeepAliveClient\r\nHost: " + server.String() + "\r\n\r\n"},
		{HTTP10, "x.org", "GET /a?b HTTP/1.0\r\nUser-Agent: KeepAliveClient\r\nHost: x.org\r\n\r\n"},
		{HTTP10Close, "x", "GET /a?b HTTP/1.0\r\nUser-Agent: KeepAliveClient\r\nConnection: close\r\nHost: x\r\n\r\n"},
		{HTTP11, "x", "GET /a?b HTTP/1.1\r\nUser-Agent: KeepAliveClient\r\nConnection: close\r\nHost: x\r\n\r\n"},
	} {
		p := get(server, URL{Path: "/a?b", Host: tt.host})
		p.Protocol = tt.protocol
		expect(t, p, "")
		if text := <-got; text != tt.want {
			t.Errorf("got %q, want %q", text, tt.want)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	digest := func(s string) string {
		sum := md5.Sum([]byte(s))
		return hex.EncodeToString(sum[:])
	}
	for name, tt := range map[string]struct {
		answer string
		url    URL
		reason string
	}{
		"ok":              {"HTTP/1.0 200 OK\r\n\r\nhello", URL{}, ""},
		"no phrase":       {"HTTP/1.1 204\r\n\r\n", URL{}, ""},
		"status":          {"HTTP/1.0 503 Busy\r\n\r\nhello", URL{}, "status 503, wanted 200-299"},
		"statuses":        {"HTTP/1.0 503 Busy\r\n\r\nhello", URL{Status: []StatusRange{{200, 200}, {301, 302}, {503, 503}}}, ""},
		"digest":          {"HTTP/1.0 200 OK\r\nX: y\r\n\r\nhello", URL{Digest: digest("hello")}, ""},
		"other digest":    {"HTTP/1.0 200 OK\r\n\r\nhallo", URL{Digest: digest("hello")}, "digest " + digest("hallo") + ", wanted " + digest("hello")},
		"raw chunks":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", URL{Digest: digest("1\r\nx\r\n0\r\n\r\n")}, ""},
		"regex":           {"HTTP/1.0 200 OK\r\n\r\nhello", URL{Regex: &Regex{Pattern: "l{2}o$", MaxOffset: -1}}, ""},
		"other regex":     {"HTTP/1.0 200 OK\r\n\r\nhello", URL{Regex: &Regex{Pattern: "xyz", MaxOffset: -1}}, `regex "xyz" does not match the body of 5 bytes`},
		"inverse regex":   {"HTTP/1.0 200 OK\r\n\r\nhello", URL{Regex: &Regex{Pattern: "hell", NoMatch: true, MaxOffset: -1}}, `regex "hell" matches`},
		"catastrophe":     {"HTTP/1.0 200 OK\r\n\r\n" + strings.Repeat("a", 40), URL{Regex: &Regex{Pattern: `^(a+)+b$`, MaxOffset: -1}}, "the search takes too long"},
		"empty":           {"", URL{}, "empty answer"},
		"no HTTP":         {"220 mail ready\r\n", URL{}, `no HTTP: the answer begins with "220 mail ready"`},
		"no status":       {"HTTP/1.0 abc\r\n\r\n", URL{}, "no HTTP"},
		"long status":     {"HTTP/1.0 2000\r\n\r\n", URL{}, "no HTTP"},
		"half a header":   {"HTTP/1.0 200 OK\r\nX: y\r\n", URL{}, "the answer ends in its header"},
		"no header's end": {"HTTP/1.0 200 OK\r\n" + strings.Repeat("X: yyyyyyyyyyyyy\r\n", 10000), URL{}, "a header of more than 65536 bytes"},
		"endless status":  {"HTTP/1.0 200 " + strings.Repeat("K", 1<<20), URL{}, "a header of more than 65536 bytes"},
		"header's middle": {"HTTP/1.0 200 " + strings.Repeat("K", 8<<10-13-2) + "\r\n\r\n", URL{}, ""},
		"long to search": {"HTTP/1.0 200 OK\r\n\r\n" + strings.Repeat("K", 2<<20), URL{Regex: &Regex{Pattern: "x", MaxOffset: -1}},
			"a body of more than 1048576 bytes, too long for a regex"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, get(answering(t, tt.answer), tt.url), tt.reason)
		})
	}
}

// TestEndless reads from a server that never stops sending: the attempt ends at the bound, and its memory is bounded.
func TestEndless(t *testing.T) {
	endless := serve(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n")
		for part := make([]byte, 64<<10); ; {
			if _, err := c.Write(part); err != nil {
				return
			}
		}
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := get(endless, URL{Digest: strings.Repeat("0", 32)})
	o := try(t, p, 0, time.Minute)
	if o.OK || !strings.Contains(o.Reason, "a body of more than 67108864 bytes") {
		t.Errorf("%+v", o)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d MiB were allocated for it", grown>>20)
	}
}

// TestSlow reads from a server that sends a byte now and then, so that no read takes too long.
func TestSlow(t *testing.T) {
	t.Parallel()
	slow := serve(t, func(c net.Conn) {
		for _, b := range "HTTP/1.0 200 OK\r\n" + strings.Repeat("X: y\r\n", 1000) {
			if _, err := c.Write([]byte{byte(b)}); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	begin := time.Now()
	if o := try(t, get(slow, URL{}), 0, time.Second); o.OK {
		t.Errorf("%+v", o)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestSilent(t *testing.T) {
	t.Parallel()
	silent := serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	p := get(silent, URL{})
	p.Endpoint = silentAt(silent)
	expect(t, p, "GET / at "+silent.String()+": no answer within 500ms")
	expect(t, &SMTP{silentAt(silent), "me"}, "greeting of "+silent.String()+": no answer within 500ms")
	p.Secure = true
	expect(t, p, "TLS handshake with "+silent.String()+": no answer within 500ms")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	names := make(chan string, 10)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", len(r.TLS.PeerCertificates))
	}))
	server.TLS = &tls.Config{
		ClientAuth: tls.RequestClientCert,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			names <- hello.ServerName
			return nil, nil
		},
	}
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	target := netip.MustParseAddrPort(server.Listener.Addr().String())
	secure := func(u URL) *HTTP {
		p := get(target, u)
		p.Secure = true
		return p
	}
	says := func(text string) *Regex { return &Regex{Pattern: text, MaxOffset: -1} }

	expect(t, secure(URL{Regex: says("^HTTP/1.0 0$")}), "") // nobody vouches for the certificate, and nobody asks
	if name := <-names; name != "" {
		t.Errorf("asked for %q", name)
	}
	expect(t, secure(URL{ServerName: "other.example"}), "")
	if name := <-names; name != "other.example" {
		t.Errorf("asked for %q", name)
	}
	expect(t, secure(URL{Verify: true}), "certificate signed by unknown authority")

	files := writeCertificates(t, server.Certificate())
	mine, err := LoadTLS(files)
	if err != nil {
		t.Fatal(err)
	}
	p := secure(URL{Verify: true, Regex: says("^HTTP/1.0 1$")})
	p.TLS = mine
	expect(t, p, "")
	p.URLs[0].ServerName = "other.example"
	expect(t, p, "certificate is valid for example.com")
	p.URLs[0].ServerName = ""
	p.Protocol, p.URLs[0].Regex = HTTP2, says("^HTTP/2.0 1$")
	expect(t, p, "")
	p.URLs[0].Status = []StatusRange{{500, 500}}
	expect(t, p, "status 200, wanted 500")

	files.Password = "wrong"
	if _, err := LoadTLS(files); err == nil {
		t.Error("a key is read with a wrong pass phrase")
	}
	plain := get(answering(t, "HTTP/1.0 400 Bad\r\n\r\n"), URL{})
	plain.Secure = true
	expect(t, plain, "TLS handshake with "+plain.Target.String())
}

// TestTruncatedTLS closes the connection below TLS, as many servers do.
func TestTruncatedTLS(t *testing.T) {
	t.Parallel()
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	server := serve(t, func(c net.Conn) {
		secure := tls.Server(c, certificate.TLS)
		_, _ = bufio.NewReader(secure).ReadString('\n')
		_, _ = io.WriteString(secure, "HTTP/1.0 200 OK\r\n\r\nhello")
	})
	p := get(server, URL{})
	p.Secure = true
	expect(t, p, "")
	p.URLs[0].Compliant = true
	expect(t, p, "closed without TLS's close_notify")
	polite := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(polite.Close)
	p.Target, p.URLs[0].Status = netip.MustParseAddrPort(polite.Listener.Addr().String()), []StatusRange{{404, 404}}
	expect(t, p, "")
}

func TestHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, r.Host, r.UserAgent(), r.URL)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	p := get(netip.MustParseAddrPort(server.Listener.Addr().String()),
		URL{Path: "/a?b", Host: "x.org", Regex: &Regex{Pattern: `^HTTP/2\.0x\.orgKeepAliveClient/a\?b$`, MaxOffset: -1}})
	p.Protocol = HTTP2
	expect(t, p, "")
	p.Target = answering(t, "HTTP/1.0 200 OK\r\n\r\n")
	if o := try(t, p, 0, 5*time.Second); o.OK {
		t.Errorf("a server without HTTP/2: %+v", o)
	}
}

func TestSMTP(t *testing.T) {
	t.Parallel()
	said := make(chan string, 10)
	mail := func(lines ...string) netip.AddrPort {
		return serve(t, func(c net.Conn) {
			r := bufio.NewReader(c)
			for i, line := range lines {
				if i > 0 {
					command, _ := r.ReadString('\n')
					said <- command
				}
				_, _ = io.WriteString(c, line)
			}
			if len(lines) == 3 {
				return
			}
			_, _ = io.Copy(io.Discard, r)
		})
	}
	good := mail("220-welcome\r\n220 here\r\n", "250-me\r\n250 SIZE\r\n", "221 bye\r\n")
	expect(t, &SMTP{at(good), "lb1"}, "")
	for _, want := range []string{"HELO lb1\r\n", "QUIT\r\n"} {
		if got := <-said; got != want {
			t.Errorf("said %q, want %q", got, want)
		}
	}
	busy := mail("421 too busy\r\n")
	expect(t, &SMTP{at(busy), "lb1"}, fmt.Sprintf(`greeting of %v: "421 too busy", wanted 220`, busy))
	expect(t, &SMTP{at(mail("220 a\r\n", "550 who?\r\n")), "lb1"}, `"550 who?", wanted 250`)
	expect(t, &SMTP{at(mail("220" + strings.Repeat("x", 1<<20))), "lb1"}, "a reply of more than 8192 bytes")
	expect(t, &SMTP{at(mail(strings.Repeat("220-x\r\n", 1<<18))), "lb1"}, "a reply of more than 8192 bytes")
	expect(t, &SMTP{at(serve(t, func(net.Conn) {})), "lb1"}, "closed by the server")
	closed := refusing(t)
	expect(t, &SMTP{at(closed), "lb1"}, "refused")
}

func TestDNS(t *testing.T) {
	t.Parallel()
	questions := make(chan dnsmessage.Question, 10)
	server := func(code dnsmessage.RCode, before ...[]byte) netip.AddrPort {
		return serveUDP(t, func(query []byte) [][]byte {
			var m dnsmessage.Message
			if err := m.Unpack(query); err != nil || !m.RecursionDesired || len(m.Questions) != 1 {
				return nil
			}
			questions <- m.Questions[0]
			m.Response, m.RCode = true, code
			reply, _ := m.Pack()
			stranger := append([]byte(nil), reply...)
			stranger[0]++
			return append(append(before, query, stranger), reply)
		})
	}
	expect(t, &DNS{at(server(dnsmessage.RCodeSuccess, []byte("x"), nil)), "SOA", "."}, "")
	if q := <-questions; q.Name.String() != "." || q.Type != dnsmessage.TypeSOA {
		t.Errorf("asked for %v", q)
	}
	bad := server(dnsmessage.RCodeServerFailure)
	expect(t, &DNS{at(bad), "DNSKEY", "example.org"}, fmt.Sprintf("query example.org DNSKEY at %v: ServerFailure", bad))
	if q := <-questions; q.Name.String() != "example.org." || q.Type != 48 {
		t.Errorf("asked for %v", q)
	}
	expect(t, &DNS{silentAt(serveUDP(t, func([]byte) [][]byte { return nil })), "A", "x."}, "no answer within 500ms")
	expect(t, &DNS{silentAt(serveUDP(t, func(q []byte) [][]byte { return [][]byte{q} })), "A", "x."}, "no answer within 500ms")
	expect(t, &DNS{at(refusing(t)), "A", "x."}, "refused")
}

func TestUDP(t *testing.T) {
	t.Parallel()
	echo := serveUDP(t, func(b []byte) [][]byte { return [][]byte{b} })
	silent := serveUDP(t, func([]byte) [][]byte { return nil })
	closed := refusing(t)
	expect(t, &UDP{Endpoint: silentAt(silent)}, "")
	expect(t, &UDP{Endpoint: at(closed)}, fmt.Sprintf("datagram to %v: refused", closed))
	expect(t, &UDP{Endpoint: silentAt(silent), RequireReply: true}, "no answer within 500ms")
	reply := func(payload, want string, mask []byte, min, max int) *UDP {
		return &UDP{Endpoint: at(echo), Payload: []byte(payload), RequireReply: true,
			Reply: []byte(want), ReplyMask: mask, MinReply: min, MaxReply: max}
	}
	all := []byte{0xff, 0xff, 0xff}
	expect(t, reply("abcd", "abc", all, 0, 255), "")
	expect(t, reply("abXd", "abc", all, 0, 255), "byte 2 of the reply is 58, wanted 63")
	expect(t, reply("aXcd", "abc", []byte{0xff, 0, 0xff}, 0, 255), "")
	expect(t, reply("ab", "abc", all, 0, 255), "a reply of 2 bytes, wanted at least 3")
	expect(t, reply("abcd", "abc", all, 5, 255), "a reply of 4 bytes, wanted at least 5")
	expect(t, reply("abcd", "abc", all, 0, 3), "a reply of more than 3 bytes")
}

func TestPing(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1", "::1"} {
		p := &Ping{at(netip.AddrPortFrom(netip.MustParseAddr(address), 0))}
		if conn, err := p.open(t.Context()); err != nil {
			t.Skipf("neither echo nor raw sockets: %v", err)
		} else {
			conn.Close()
		}
		expect(t, p, "")
	}
}

func TestMisc(t *testing.T) {
	t.Parallel()
	e := New(Options{Now: now, Report: func(Result) {}, Run: func(_ context.Context, script any, _ time.Duration) (int, error) {
		if script.(int) < 0 {
			return 0, context.DeadlineExceeded
		}
		return script.(int), nil
	}})
	defer e.Close()
	for _, tt := range []struct {
		status  int
		dynamic bool
		ok      bool
		adjust  int
		reason  string
	}{
		{0, false, true, 0, "exit status 0"},
		{1, false, false, 0, "exit status 1"},
		{2, false, false, 0, "exit status 2"},
		{0, true, true, 0, "exit status 0"},
		{1, true, false, 0, "exit status 1"},
		{2, true, true, -10, "weight 0"},
		{255, true, true, 243, "weight 253"},
		{256, true, false, 0, "exit status 256"},
		{-1, true, false, 0, "deadline"},
	} {
		p, _ := Misc{Name: "/bin/x", Script: tt.status, Dynamic: tt.dynamic, Weight: 10}.prepare(e)
		o := p.(attempter).attempt(t.Context(), 0)
		if o.OK != tt.ok || o.Adjust != tt.adjust || !strings.Contains(o.Reason, tt.reason) {
			t.Errorf("%+v: %+v", tt, o)
		}
	}
}

// TestFetch takes the digest of a page, whatever its status.
func TestFetch(t *testing.T) {
	t.Parallel()
	const text = "HTTP/1.0 503 Busy\r\nX: y\r\n\r\nhello\n"
	var raw strings.Builder
	status, digest, err := get(answering(t, text), URL{}).Fetch(t.Context(), &raw)
	if err != nil || status != 503 || digest != "b1946ac92492d2347c6235b4d2611184" || raw.String() != text {
		t.Errorf("status %d, digest %s, %q, %v", status, digest, raw.String(), err)
	}
	if _, _, err := get(refusing(t), URL{}).Fetch(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("refused: %v", err)
	}
}
