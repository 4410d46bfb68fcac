package check

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/youmark/pkcs8"
)

// TLS is what a client presents to TLS servers and trusts. It does not change.
type TLS struct {
	id           string // equal for equal content
	roots        *x509.CertPool
	certificates []tls.Certificate
}

// TLSFiles are the PEM files of a TLS. An empty path stands for none.
type TLSFiles struct {
	CA          string // certificates of authorities
	Certificate string // of the client
	Key         string // of the certificate; empty: in the file of the certificate
	Password    string // of the key
}

// LoadTLS reads the files. It blocks.
func LoadTLS(files TLSFiles) (*TLS, error) {
	t, sum := &TLS{}, sha256.New()
	read := func(path string) ([]byte, error) {
		text, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%d ", len(text))
		sum.Write(text)
		return text, err
	}
	if files.CA != "" {
		text, err := read(files.CA)
		if err != nil {
			return nil, err
		}
		t.roots = x509.NewCertPool()
		if !t.roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("no certificate in %s", files.CA)
		}
	}
	if files.Certificate != "" {
		certificate, err := read(files.Certificate)
		if err != nil {
			return nil, err
		}
		path := files.Key
		if path == "" {
			path = files.Certificate
		}
		key, err := read(path)
		if err != nil {
			return nil, err
		}
		if key, err = decrypt(key, files.Password); err != nil {
			return nil, fmt.Errorf("key %s: %w", path, err)
		}
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s, key %s: %w", files.Certificate, path, err)
		}
		t.certificates = []tls.Certificate{pair}
	}
	t.id = string(sum.Sum(nil))
	return t, nil
}

// decrypt returns the PEM text of a private key without its pass phrase.
func decrypt(text []byte, password string) ([]byte, error) {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return text, nil // nothing is encrypted
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY":
			key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, []byte(password))
			if err != nil {
				return nil, err
			}
			plain, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				return nil, err
			}
			return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain}), nil
		case strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return nil, errors.New("encrypted in the old format of OpenSSL; convert it with openssl pkcs8 -topk8")
		}
	}
}

// clientConfig returns the settings of a connection. server is the name to ask for; verify demands a certificate for it
// that the roots, or without roots those of the system, vouch for.
func (t *TLS) clientConfig(server string, verify bool, protocols ...string) *tls.Config {
	c := &tls.Config{
		ServerName:         server,
		InsecureSkipVerify: !verify,
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       cipherSuites,
		NextProtos:         protocols,
	}
	if t != nil {
		c.RootCAs, c.Certificates = t.roots, t.certificates
	}
	return c
}

// cipherSuites also has the key exchange of RSA alone, which keepalived's OpenSSL offers: a server that knows nothing else
// is up.
var cipherSuites = func() []uint16 {
	var ids []uint16
	for _, s := range tls.CipherSuites() {
		ids = append(ids, s.ID)
	}
	for _, s := range tls.InsecureCipherSuites() {
		if strings.HasPrefix(s.Name, "TLS_RSA_WITH_AES") {
			ids = append(ids, s.ID)
		}
	}
	return ids
}()
