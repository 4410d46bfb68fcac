package check

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/hactl/had/internal/pcre"
	"github.com/hactl/had/lvs/check/verdict"
)

// Bounds of an answer over HTTP. A server that exceeds them has failed.
const (
	headerMax   = 64 << 10 // bytes, status line included
	bodyMax     = 64 << 20
	searchedMax = 1 << 20  // of a body that is searched
	smallBody   = 64 << 10 // bodies up to here are searched at any time, longer ones as many as searchSlots at once
	searchSlots = 16
)

const userAgent = "KeepAliveClient" // keepalived's; servers and logs know it

// Protocol is a version of HTTP.
type Protocol uint8

// The versions.
const (
	HTTP10      Protocol = iota // HTTP/1.0
	HTTP10Close                 // HTTP/1.0 with Connection: close
	HTTP11                      // HTTP/1.1 with Connection: close
	HTTP2                       // HTTP/2; without TLS by prior knowledge (RFC 9113, 3.3)
)

// HTTP fetches resources, one in each attempt, in order (HTTP_GET, SSL_GET). There is at least one. Answers of HTTP/1 are
// read to the end of the connection and taken as they are: no redirects are followed, no transfer coding is undone. Those of
// HTTP/2 have neither.
type HTTP struct {
	Endpoint
	Secure       bool // over TLS
	TLS          *TLS // what to present and trust; nil: nothing
	Protocol     Protocol
	FastRecovery bool // see verdict.Config
	URLs         []URL
}

// URL is one resource that has to be there.
type URL struct {
	Path       string
	Host       string        // of the header; empty: address and port of the target
	ServerName string        // that TLS asks for; empty: none
	Verify     bool          // the server's certificate must be valid for ServerName, or without one for the address
	Status     []StatusRange // accepted
	Digest     string        // MD5 of the body in lower-case hex; empty: any
	Regex      *Regex        // nil: any body

	// Compliant takes a connection that ends without TLS's close_notify for an error.
	Compliant bool
}

// Regex is a pattern that a body has to match; see package pcre.
type Regex struct {
	Pattern   string
	Options   []string // names of PCRE2's compile options, in lower case
	NoMatch   bool     // the body must not match
	MinOffset int      // of the first byte of a match
	MaxOffset int      // of the first byte of a match; -1: any
}

// StatusRange is a range of status codes, both ends included.
type StatusRange struct{ First, Last int }

func (p *HTTP) schedule(c *verdict.Config) {
	c.Steps, c.Rounds, c.FastRecovery = len(p.URLs), true, p.FastRecovery
	c.FailedInterval = max(c.Interval, c.RetryDelay)
}

type httpProber struct {
	*HTTP
	searches chan struct{} // slots for long bodies
	urls     []httpURL
}

type httpURL struct {
	*URL
	what    string        // for reasons
	request []byte        // of HTTP/1
	pattern *pcre.Pattern // of Regex
}

func (p *HTTP) prepare(e *Engine) (prober, error) {
	h := &httpProber{HTTP: p, searches: e.searches}
	for i := range p.URLs {
		u := httpURL{URL: &p.URLs[i], request: p.request(&p.URLs[i])}
		u.what = "GET " + u.Path
		if u.Host != "" {
			u.what += " of " + u.Host
		}
		u.what += fmt.Sprintf(" at %v: ", p.Target)
		if u.Regex != nil {
			var err error
			if u.pattern, err = pcre.Compile(u.Regex.Pattern, u.Regex.Options); err != nil {
				return nil, fmt.Errorf("regex %q: %w", u.Regex.Pattern, err)
			}
		}
		h.urls = append(h.urls, u)
	}
	return h, nil
}

// request returns what keepalived sends for a URL, byte by byte.
func (p *HTTP) request(u *URL) []byte {
	var b strings.Builder
	version := "1.0"
	if p.Protocol == HTTP11 {
		version = "1.1"
	}
	fmt.Fprintf(&b, "GET %s HTTP/%s\r\nUser-Agent: %s\r\n", u.Path, version, userAgent)
	if p.Protocol != HTTP10 {
		b.WriteString("Connection: close\r\n")
	}
	fmt.Fprintf(&b, "Host: %s\r\n\r\n", p.host(u))
	return []byte(b.String())
}

func (p *HTTP) host(u *URL) string {
	if u.Host != "" {
		return u.Host
	}
	return p.Target.String()
}

func (p *httpProber) attempt(ctx context.Context, step int) verdict.Outcome {
	u := &p.urls[step]
	a := &answer{ctx: ctx, url: u, slots: p.searches}
	if u.Digest != "" {
		a.digest = md5.New()
	}
	defer a.release()
	err := p.fetch(ctx, u, a)
	if err == nil {
		err = a.judge()
		if err != nil {
			err = errors.New(u.what + err.Error())
		}
	}
	if err != nil {
		return failed(err.Error())
	}
	return succeeded(fmt.Sprintf("%sstatus %d", u.what, a.status))
}

// fetch connects, makes the request of a URL and takes in the answer.
func (p *httpProber) fetch(ctx context.Context, u *httpURL, a *answer) error {
	conn, err := p.tcp(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var stream net.Conn = conn
	if p.Secure {
		secure := tls.Client(conn, p.tlsConfig(u.URL))
		if err := secure.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS handshake with %v: %s", p.Target, p.reason(err))
		}
		stream = secure
	}
	if p.Protocol == HTTP2 {
		err = p.fetch2(ctx, stream, u, a)
	} else {
		err = p.fetch1(stream, u, a)
		if err == nil && p.Secure && u.Compliant && conn.eof { // close_notify ends the reading before that
			err = errors.New("closed without TLS's close_notify")
		}
	}
	if err != nil {
		return errors.New(u.what + err.Error())
	}
	return nil
}

// Fetch makes the request of the first URL and returns the status code and the MD5 of the body in hex, whatever a check
// would say to them. What the server sends is copied to raw: all of it with HTTP/1, and the body with HTTP/2.
func (p *HTTP) Fetch(ctx context.Context, raw io.Writer) (status int, digest string, err error) {
	u := URL{Path: p.URLs[0].Path, Host: p.URLs[0].Host, ServerName: p.URLs[0].ServerName, Status: []StatusRange{{0, 999}}}
	h := &httpProber{HTTP: p}
	a := &answer{ctx: ctx, url: &httpURL{URL: &u, what: fmt.Sprintf("GET %s at %v: ", u.Path, p.Target), request: p.request(&u)},
		digest: md5.New(), raw: raw}
	err = h.fetch(ctx, a.url, a)
	return a.status, hex.EncodeToString(a.digest.Sum(nil)), err
}

func (p *HTTP) tlsConfig(u *URL) *tls.Config {
	name := u.ServerName
	if name == "" && u.Verify {
		name = p.Target.Addr().WithZone("").String()
	}
	if p.Protocol == HTTP2 {
		return p.TLS.clientConfig(name, u.Verify, "h2")
	}
	return p.TLS.clientConfig(name, u.Verify)
}

// readers are shared by attempts that are not under way at the same time.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 8<<10) }}

// fetch1 makes a request of HTTP/1 and takes in the answer.
func (p *httpProber) fetch1(conn net.Conn, u *httpURL, a *answer) error {
	if _, err := conn.Write(u.request); err != nil {
		return errors.New(p.reason(err))
	}
	r := readers.Get().(*bufio.Reader)
	r.Reset(conn)
	if a.raw != nil {
		r.Reset(io.TeeReader(conn, a.raw))
	}
	defer func() {
		r.Reset(nil)
		readers.Put(r)
	}()
	status, err := readHeader(r)
	switch {
	case errors.Is(err, errAnswer):
		return err
	case err != nil:
		return errors.New(p.reason(err))
	}
	if err := a.begin(status); err != nil {
		return err
	}
	err = a.readAll(r)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // the end of the connection without the end of TLS
	}
	if err != nil && !errors.Is(err, errAnswer) {
		return errors.New(p.reason(err))
	}
	return err
}

// readAll takes in what comes up to the end, from the reader's own buffer.
func (a *answer) readAll(r *bufio.Reader) error {
	for {
		_, err := r.Peek(1)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		part, _ := r.Peek(r.Buffered())
		if _, err := a.Write(part); err != nil {
			return err
		}
		_, _ = r.Discard(len(part))
	}
}

// errAnswer marks what is wrong with an answer, not with the connection.
var errAnswer = errors.New("")

func wrongAnswer(format string, args ...any) error {
	return fmt.Errorf("%s%w", fmt.Sprintf(format, args...), errAnswer)
}

// readHeader reads up to the empty line and returns the status code.
func readHeader(r *bufio.Reader) (status int, err error) {
	for total, first, begin := 0, true, true; ; {
		line, err := r.ReadSlice('\n')
		total += len(line)
		switch {
		case total == 0 && errors.Is(err, io.EOF):
			return 0, wrongAnswer("empty answer")
		case errors.Is(err, io.EOF):
			return 0, wrongAnswer("the answer ends in its header, after %d bytes", total)
		case total > headerMax:
			return 0, wrongAnswer("a header of more than %d bytes", headerMax)
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return 0, err
		}
		if first {
			if status, err = parseStatus(line); err != nil {
				return 0, err
			}
			first = false
		}
		if begin && string(line) == "\r\n" {
			return status, nil
		}
		begin = len(line) > 0 && line[len(line)-1] == '\n'
	}
}

// parseStatus returns the code of a status line (RFC 9112, 4).
func parseStatus(line []byte) (int, error) {
	version, rest, _ := strings.Cut(string(line[:min(len(line), 64)]), " ")
	rest = strings.TrimLeft(rest, " ")
	if len(rest) >= 3 && strings.HasPrefix(version, "HTTP/") && (len(rest) == 3 || rest[3] < '0' || rest[3] > '9') {
		if code, err := strconv.ParseUint(rest[:3], 10, 16); err == nil {
			return int(code), nil
		}
	}
	return 0, wrongAnswer("no HTTP: the answer begins with %q", excerpt(strings.TrimSpace(string(line[:min(len(line), 64)]))))
}

// fetch2 makes a request of HTTP/2 and takes in the answer.
func (p *httpProber) fetch2(ctx context.Context, conn net.Conn, u *httpURL, a *answer) error {
	scheme, protocols := "http", new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	if secure, ok := conn.(*tls.Conn); ok {
		if secure.ConnectionState().NegotiatedProtocol != "h2" {
			return wrongAnswer("the server does not speak HTTP/2")
		}
		scheme = "https"
		protocols.SetHTTP2(true)
	}
	dial := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	transport := &http.Transport{
		DialContext: dial, DialTLSContext: dial,
		Protocols:              protocols,
		DisableCompression:     true,
		MaxResponseHeaderBytes: headerMax,
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+p.Target.String()+u.Path, nil)
	if err != nil {
		return err
	}
	request.Host = p.host(u.URL)
	request.Header.Set("User-Agent", userAgent)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return errors.New(p.reason(err))
	}
	defer response.Body.Close()
	if err := a.begin(response.StatusCode); err != nil {
		return err
	}
	body := io.Reader(response.Body)
	if a.raw != nil {
		body = io.TeeReader(body, a.raw)
	}
	if _, err = io.Copy(a, body); err != nil && !errors.Is(err, errAnswer) {
		return errors.New(p.reason(err))
	}
	return err
}

// answer takes in a response.
type answer struct {
	ctx    context.Context
	url    *httpURL
	slots  chan struct{}
	held   bool // a slot
	status int
	size   int
	digest hash.Hash // nil: not wanted
	raw    io.Writer // gets a copy of what comes; nil: nobody does
	body   []byte    // kept to be searched
}

func (a *answer) release() {
	if a.held {
		<-a.slots
		a.held = false
	}
}

// begin judges the status code.
func (a *answer) begin(status int) error {
	a.status = status
	var wanted []string
	for _, r := range a.url.Status {
		switch {
		case status >= r.First && status <= r.Last:
			return nil
		case r.First == r.Last:
			wanted = append(wanted, strconv.Itoa(r.First))
		default:
			wanted = append(wanted, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return wrongAnswer("status %d, wanted %s", status, strings.Join(wanted, " "))
}

// Write takes in a part of the body.
func (a *answer) Write(part []byte) (int, error) {
	a.size += len(part)
	if a.size > bodyMax {
		return 0, wrongAnswer("a body of more than %d bytes", bodyMax)
	}
	if a.digest != nil {
		a.digest.Write(part)
	}
	if a.url.pattern == nil {
		return len(part), nil
	}
	if a.size > searchedMax {
		return 0, wrongAnswer("a body of more than %d bytes, too long for a regex", searchedMax)
	}
	if a.size > smallBody && !a.held {
		select {
		case a.slots <- struct{}{}:
			a.held = true
		case <-a.ctx.Done():
			return 0, wrongAnswer("too many long bodies are searched at once")
		}
	}
	a.body = append(a.body, part...)
	return len(part), nil
}

// judge compares the whole body.
func (a *answer) judge() error {
	if a.digest != nil {
		if digest := hex.EncodeToString(a.digest.Sum(nil)); digest != a.url.Digest {
			return fmt.Errorf("digest %s, wanted %s", digest, a.url.Digest)
		}
	}
	if a.url.pattern == nil {
		return nil
	}
	x := a.url.Regex
	found, err := a.url.pattern.Search(a.body, x.MinOffset, x.MaxOffset)
	switch {
	case err != nil:
		return fmt.Errorf("regex %q: %w", excerpt(x.Pattern), err)
	case found && x.NoMatch:
		return fmt.Errorf("regex %q matches the body of %d bytes", excerpt(x.Pattern), a.size)
	case !found && !x.NoMatch:
		return fmt.Errorf("regex %q does not match the body of %d bytes", excerpt(x.Pattern), a.size)
	}
	return nil
}
