package mail

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/hactl/had/internal/notify"
)

// received is one mail as the server got it.
type received struct {
	helo, from, user string
	to               []string
	tls              bool
	text             string
}

// server is a real mail server on the loopback interface. Its fields say what it refuses.
type server struct {
	refuse  map[string]*smtp.SMTPError // by recipient
	atFirst []error                    // answers to the first messages
	login   bool
	noTLS   bool // does not know STARTTLS

	mu    sync.Mutex
	mails []received
	tries int
	port  uint16
	ca    string // file with its certificate
}

func (s *server) NewSession(c *smtp.Conn) (smtp.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	return &session{server: s, conn: c}, nil
}

type session struct {
	server *server
	conn   *smtp.Conn
	mail   received
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "had" || password != "secret word" {
			return smtp.ErrAuthFailed
		}
		s.mail.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.login && s.mail.user == "" {
		return smtp.ErrAuthRequired
	}
	s.mail.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.server.refuse[to]; err != nil {
		return err
	}
	s.mail.to = append(s.mail.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if first := s.server.atFirst; len(first) > 0 {
		s.server.atFirst = first[1:]
		return first[0]
	}
	s.mail.helo, s.mail.text = s.conn.Hostname(), string(text)
	_, s.mail.tls = s.conn.TLSConnectionState()
	s.server.mails = append(s.server.mails, s.mail)
	return nil
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

// serve starts a server; implicit makes it speak TLS from the start.
func (s *server) serve(t *testing.T, implicit bool) *server {
	t.Helper()
	certificate := s.certify(t)
	settings := &tls.Config{Certificates: []tls.Certificate{certificate}}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = uint16(l.Addr().(*net.TCPAddr).Port)
	if implicit {
		l = tls.NewListener(l, settings)
	}
	daemon := smtp.NewServer(s)
	daemon.Domain, daemon.TLSConfig = "mail.example", settings
	if s.noTLS {
		daemon.TLSConfig = nil
	}
	daemon.ErrorLog = quiet{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = daemon.Serve(l)
	}()
	t.Cleanup(func() {
		_ = daemon.Close()
		<-done
	})
	return s
}

// quiet swallows what the server says about connections that end early.
type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// certify makes a certificate for 127.0.0.1 that signs itself.
func (s *server) certify(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(s.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (s *server) config() Config {
	return Config{RouterID: "lb1", From: "had@lb1.example", Recipients: []string{"a@x.example", "b@y.example"},
		Server: "127.0.0.1", Port: s.port, HeloName: "lb1.example", Step: 5 * time.Second}
}

func (s *server) got() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received{}, s.mails...)
}

// subjects of what has arrived.
func (s *server) subjects() (all []string) {
	for _, m := range s.got() {
		for line := range strings.Lines(m.text) {
			if subject, found := strings.CutPrefix(line, "Subject: "); found {
				all = append(all, strings.TrimSpace(subject))
			}
		}
	}
	return all
}

// start makes a Sender that retries fast and ends with the test.
func start(t *testing.T, cfg Config, log io.Writer) *Sender {
	t.Helper()
	s := newSender(cfg, slog.New(slog.NewTextHandler(log, nil)))
	s.firstRetry = 10 * time.Millisecond
	s.start()
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Sender) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.Stop(ctx)
	if ctx.Err() != nil {
		t.Error("the sender does not stop")
	}
}

func change(kind notify.Kind, name string, state notify.State) notify.Change {
	return notify.Change{Kind: kind, Name: name, State: state, Priority: 100, Mail: true}
}

func TestSubjectsAndBodiesAreKeepaliveds(t *testing.T) {
	for _, test := range []struct {
		kind          notify.Kind
		state         notify.State
		subject, body string
	}{
		{notify.Instance, notify.Master, "[lb1] VRRP Instance V - Entering MASTER state", "=> VRRP Instance is now owning VRRP VIPs <="},
		{notify.Instance, notify.Backup, "[lb1] VRRP Instance V - Entering BACKUP state", "=> VRRP Instance is no longer owning VRRP VIPs <="},
		{notify.Instance, notify.Fault, "[lb1] VRRP Instance V - Entering FAULT state", "=> VRRP Instance is no longer owning VRRP VIPs <="},
		{notify.Instance, notify.Stop, "[lb1] VRRP Instance V - Stopping", "=> VRRP Instance stopping <="},
		{notify.Instance, notify.Deleted, "[lb1] VRRP Instance V - Deleted", "=> VRRP Deleted at reload <="},
		{notify.Group, notify.Master, "[lb1] VRRP Group V - Entering MASTER state", "=> All VRRP group instances are now in MASTER state <="},
		{notify.Group, notify.Backup, "[lb1] VRRP Group V - Entering BACKUP state", "=> All VRRP group instances are now in BACKUP state <="},
		{notify.Group, notify.Fault, "[lb1] VRRP Group V - Entering FAULT state", "=> All VRRP group instances are now in FAULT state <="},
		{notify.Group, notify.Stop, "[lb1] VRRP Group V - Stopping", "=> All VRRP group instances are now stopping <="},
	} {
		subject, body, ok := compose("lb1", change(test.kind, "V", test.state))
		if !ok || subject != test.subject || body != test.body {
			t.Errorf("%s %s:\n got %q, %q, %t\nwant %q, %q", test.kind, test.state, subject, body, ok, test.subject, test.body)
		}
	}
	if _, _, ok := compose("lb1", change(notify.Instance, "V", notify.MasterRxLowerPri)); ok {
		t.Error("there is a mail about what is no change of state")
	}
}

func TestSubjectsOfServersAreKeepaliveds(t *testing.T) {
	web := notify.VirtualServer{Address: netip.MustParseAddrPort("192.0.2.1:80"), Protocol: "TCP"}
	for _, test := range []struct {
		change  notify.ServerChange
		subject string
	}{
		{notify.ServerChange{Virtual: web, Real: netip.MustParseAddrPort("10.0.0.1:8080"), Reason: "why"},
			"[RID] Realserver [10.0.0.1]:tcp:8080 of virtual server [192.0.2.1]:tcp:80 - DOWN"},
		{notify.ServerChange{Virtual: notify.VirtualServer{Mark: 7}, Up: true, Reason: "why"}, "[RID] Virtualserver FWM 7 - UP"},
	} {
		if subject, body := composeServer("RID", test.change); subject != test.subject || body != "=> why <=" {
			t.Errorf("%q %q, want %q", subject, body, test.subject)
		}
	}
}

func TestAMailArrivesAsKeepalivedWouldHaveSentIt(t *testing.T) {
	srv := (&server{}).serve(t, false)
	s := start(t, srv.config(), io.Discard)
	s.Tell(change(notify.Instance, "VI_1", notify.Master))
	stop(t, s)
	mails := srv.got()
	if len(mails) != 1 {
		t.Fatalf("%d mails", len(mails))
	}
	m := mails[0]
	if m.helo != "lb1.example" || m.from != "had@lb1.example" || strings.Join(m.to, " ") != "a@x.example b@y.example" || m.tls {
		t.Errorf("envelope: %+v", m)
	}
	date, rest, _ := strings.Cut(m.text, "\r\n")
	if at, err := time.Parse("Date: "+time.RFC1123Z, date); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("%q: %v", date, err)
	}
	want := "From: had@lb1.example\r\nSubject: [lb1] VRRP Instance VI_1 - Entering MASTER state\r\nX-Mailer: Keepalived\r\n" +
		"To: a@x.example, b@y.example\r\n\r\n=> VRRP Instance is now owning VRRP VIPs <=\r\n\r\n"
	if rest != want {
		t.Errorf("got  %q\nwant %q", rest, want)
	}
}

func TestNoMailIsSentThatNobodyWants(t *testing.T) {
	srv := (&server{}).serve(t, false)
	cfg := srv.config()
	cfg.NoFaults = true
	s := start(t, cfg, io.Discard)
	silent := change(notify.Instance, "silent", notify.Master)
	silent.Mail = false
	s.Tell(silent)
	for _, state := range []notify.State{notify.Backup, notify.Fault, notify.Backup, notify.Master, notify.Fault, notify.Backup} {
		s.Tell(change(notify.Instance, "V", state)) // the second BACKUP follows a FAULT of which nobody was told
	}
	s.Tell(change(notify.Group, "V", notify.Backup)) // of the same name
	stop(t, s)
	want := "[lb1] VRRP Instance V - Entering BACKUP state|[lb1] VRRP Instance V - Entering MASTER state|" +
		"[lb1] VRRP Instance V - Entering BACKUP state|[lb1] VRRP Group V - Entering BACKUP state"
	if got := strings.Join(srv.subjects(), "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTLSProtectsTheMailAndTheLogin(t *testing.T) {
	for _, test := range []struct {
		name     string
		security Security
		implicit bool
	}{{"after STARTTLS", StartTLS, false}, {"from the start", Implicit, true}} {
		t.Run(test.name, func(t *testing.T) {
			srv := (&server{login: true}).serve(t, test.implicit)
			cfg := srv.config()
			cfg.Security, cfg.CAFile, cfg.User, cfg.Password = test.security, srv.ca, "had", "secret word"
			if _, err := deliver(t.Context(), cfg, message{subject: "x", body: "y"}); err != nil {
				t.Fatal(err)
			}
			if m := srv.got()[0]; !m.tls || m.user != "had" || m.helo != "lb1.example" {
				t.Errorf("%+v", m)
			}
			cfg.Password = "wrong"
			if _, err := deliver(t.Context(), cfg, message{}); !permanent(err) || !strings.HasPrefix(err.Error(), "login:") {
				t.Errorf("with a wrong password: %v", err)
			}
			cfg.CAFile = ""
			var unknown x509.UnknownAuthorityError
			if _, err := deliver(t.Context(), cfg, message{}); !errors.As(err, &unknown) || permanent(err) {
				t.Errorf("with a certificate that nobody vouches for: %v", err)
			}
		})
	}
}

func TestWithoutSTARTTLSThereIsNoMailInTheClear(t *testing.T) {
	srv := (&server{noTLS: true}).serve(t, false)
	cfg := srv.config()
	cfg.Security, cfg.CAFile = StartTLS, srv.ca
	if _, err := deliver(t.Context(), cfg, message{}); err == nil || !strings.HasPrefix(err.Error(), "starttls:") || len(srv.got()) > 0 {
		t.Errorf("%v, and %d mails arrived", err, len(srv.got()))
	}
}

func TestARecipientThatIsRefusedKeepsNoOtherFromItsMail(t *testing.T) {
	srv := &server{refuse: map[string]*smtp.SMTPError{"a@x.example": {Code: 550, Message: "no such user"}}}
	srv.serve(t, false)
	var log bytes.Buffer
	s := start(t, srv.config(), &log)
	s.Tell(change(notify.Instance, "V", notify.Master))
	stop(t, s)
	if mails := srv.got(); len(mails) != 1 || strings.Join(mails[0].to, " ") != "b@y.example" {
		t.Errorf("%+v", mails)
	}
	if !strings.Contains(log.String(), "recipient a@x.example: 550") {
		t.Errorf("log: %s", log.String())
	}
}

func TestWhatTheServerDoesNotTakeNowIsTriedAgain(t *testing.T) {
	busy := &smtp.SMTPError{Code: 451, Message: "later"}
	srv := (&server{atFirst: []error{busy, busy}}).serve(t, false)
	s := start(t, srv.config(), io.Discard)
	s.Tell(change(notify.Instance, "V", notify.Master))
	s.Tell(change(notify.Instance, "V", notify.Backup))
	for end := time.Now().Add(10 * time.Second); len(srv.got()) < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("arrived: %v", srv.subjects())
		}
	}
	if got := srv.subjects(); !strings.Contains(got[0], "MASTER") || !strings.Contains(got[1], "BACKUP") {
		t.Errorf("out of order: %v", got)
	}
}

func TestWhatTheServerNeverTakesIsGivenUp(t *testing.T) {
	srv := (&server{atFirst: []error{&smtp.SMTPError{Code: 554, Message: "spam"}}}).serve(t, false)
	var log bytes.Buffer
	s := start(t, srv.config(), &log)
	s.Tell(change(notify.Instance, "V", notify.Master))
	s.Tell(change(notify.Instance, "V", notify.Backup))
	stop(t, s)
	if got := srv.subjects(); len(got) != 1 || !strings.Contains(got[0], "BACKUP") || srv.tries != 2 {
		t.Errorf("arrived: %v after %d tries", got, srv.tries)
	}
	if !strings.Contains(log.String(), "mail not sent") {
		t.Errorf("log: %s", log.String())
	}
}

func TestAServerThatIsSilentKeepsNobodyWaiting(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := (&server{port: uint16(l.Addr().(*net.TCPAddr).Port)}).config()
	cfg.Step = time.Minute
	var log bytes.Buffer
	s := newSender(cfg, slog.New(slog.NewTextHandler(&log, nil)))
	s.start()
	began := time.Now()
	for i := range maxWaiting + 10 {
		state := notify.Master
		if i%2 == 0 {
			state = notify.Backup
		}
		s.Tell(change(notify.Instance, "V", state))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.Stop(ctx)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if !strings.Contains(log.String(), "the oldest is dropped") || !strings.Contains(log.String(), "still waiting") {
		t.Errorf("log: %s", log.String())
	}
	cfg.Step = 20 * time.Millisecond
	if _, err := deliver(t.Context(), cfg, message{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with a short time for each step: %v", err)
	}
}
