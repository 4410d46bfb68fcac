package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"strconv"
	"time"
)

// Security says how the connection to the mail server is protected.
type Security uint8

// The kinds.
const (
	Plain    Security = iota // as keepalived: not at all
	StartTLS                 // TLS after STARTTLS (RFC 3207), or no mail
	Implicit                 // TLS from the start (RFC 8314)
)

// Config says what is sent to whom and how.
type Config struct {
	RouterID   string
	From       string
	Recipients []string
	NoFaults   bool // no_email_faults

	Server   string // address or host name
	Port     uint16
	HeloName string
	Step     time.Duration // for the connection and for each step of the dialogue

	Security Security
	CAFile   string // PEM; empty: the system's
	User     string // empty: no login. A login needs TLS
	Password string
}

// deliver gives one mail to the server. refused holds the answers about recipients that it does not accept; as long as it
// accepts one, that is no error.
func deliver(ctx context.Context, cfg Config, m message) (refused []error, err error) {
	step := func(what string, err error) error {
		if err != nil {
			err = fmt.Errorf("%s: %w", what, err)
		}
		return err
	}
	conn, err := dial(ctx, cfg)
	if err != nil {
		return nil, step("connect", err)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	client, err := smtp.NewClient(conn, cfg.Server)
	if err != nil {
		conn.Close()
		return nil, step("greeting", err)
	}
	defer client.Close()
	if err := hello(client, cfg); err != nil {
		return nil, err
	}
	if err := client.Mail(cfg.From); err != nil {
		return nil, step("sender "+cfg.From, err)
	}
	for _, to := range cfg.Recipients {
		if err := client.Rcpt(to); err != nil {
			refused = append(refused, step("recipient "+to, err))
		}
	}
	if len(refused) == len(cfg.Recipients) {
		return nil, errors.Join(refused...)
	}
	body, err := client.Data()
	if err != nil {
		return refused, step("data", err)
	}
	_, err = body.Write([]byte(m.text(cfg.From, cfg.Recipients)))
	if err = errors.Join(err, body.Close()); err != nil {
		return refused, step("message", err)
	}
	_ = client.Quit() // the mail is delivered, whatever the server says now
	return refused, nil
}

// dial connects to the server, with TLS if that comes first.
func dial(ctx context.Context, cfg Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Step)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(cfg.Server, strconv.Itoa(int(cfg.Port))))
	if err != nil {
		return nil, err
	}
	conn = stepConn{conn, cfg.Step}
	if cfg.Security != Implicit {
		return conn, nil
	}
	settings, err := cfg.tls()
	if err != nil {
		conn.Close()
		return nil, err
	}
	secured := tls.Client(conn, settings)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}

// hello says who we are, protects the connection and logs in.
func hello(client *smtp.Client, cfg Config) error {
	if err := client.Hello(cfg.HeloName); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if cfg.Security == StartTLS {
		settings, err := cfg.tls()
		if err != nil {
			return err
		}
		if err := client.StartTLS(settings); err != nil {
			return fmt.Errorf("starttls: %w", err)
		}
	}
	if cfg.User != "" {
		if err := client.Auth(smtp.PlainAuth("", cfg.User, cfg.Password, cfg.Server)); err != nil {
			return fmt.Errorf("login: %w", err)
		}
	}
	return nil
}

func (cfg Config) tls() (*tls.Config, error) {
	settings := &tls.Config{ServerName: cfg.Server}
	if cfg.CAFile == "" {
		return settings, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	settings.RootCAs = x509.NewCertPool()
	if !settings.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", cfg.CAFile)
	}
	return settings, nil
}

// stepConn gives each read and each write its time.
type stepConn struct {
	net.Conn
	step time.Duration
}

func (c stepConn) Read(b []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(c.step)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c stepConn) Write(b []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.step)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
