package transport

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// Identity is what a node proves itself with.
type Identity struct {
	leaf  tls.Certificate
	roots *x509.CertPool
}

// The validity of certificates. They are as good as the key that they are derived from, so time means nothing to them.
var (
	validFrom  = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	validAt    = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

// DeriveKey derives a key for one purpose from the cluster's key (HKDF-SHA256, RFC 5869).
func DeriveKey(clusterKey []byte, purpose string, size int) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, clusterKey, []byte("had cluster key 1"), purpose, size)
	if err != nil {
		return nil, fmt.Errorf("derive key for %s: %w", purpose, err)
	}
	return key, nil
}

// NewIdentity derives the cluster's authority and a node's certificate. The same key, cluster and node give the same.
func NewIdentity(clusterKey []byte, cluster, node string) (*Identity, error) {
	rootKey, err := deriveSigner(clusterKey, "authority")
	if err != nil {
		return nil, err
	}
	leafKey, err := deriveSigner(clusterKey, "node "+node)
	if err != nil {
		return nil, err
	}
	rootTemplate := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "had cluster authority"},
		NotBefore:             validFrom,
		NotAfter:              validUntil,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	rootDER, err := x509.CreateCertificate(nil, rootTemplate, rootTemplate, rootKey.Public(), rootKey)
	if err != nil {
		return nil, fmt.Errorf("derive cluster authority: %w", err)
	}
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return nil, fmt.Errorf("derive cluster authority: %w", err)
	}
	leafTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: node, Organization: []string{cluster}},
		NotBefore:    validFrom,
		NotAfter:     validUntil,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(nil, leafTemplate, root, leafKey.Public(), rootKey)
	if err != nil {
		return nil, fmt.Errorf("derive certificate of node %s: %w", node, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return &Identity{leaf: tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}, roots: roots}, nil
}

func deriveSigner(clusterKey []byte, purpose string) (ed25519.PrivateKey, error) {
	seed, err := DeriveKey(clusterKey, purpose, ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// serverConfig and clientConfig let the handshake finish with any certificate; verify then decides. So each side learns
// which node the other one claims to be, and can say whom it refuses.
func (id *Identity) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{id.leaf},
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		CurvePreferences:       []tls.CurveID{tls.X25519},
	}
}

func (id *Identity) clientConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{id.leaf},
		InsecureSkipVerify:     true, // verify decides, right after the handshake and before anything is said
		SessionTicketsDisabled: true,
		CurvePreferences:       []tls.CurveID{tls.X25519},
	}
}

// verify returns the node name that the other side proves, or claims if it has another key.
func (id *Identity) verify(state tls.ConnectionState) (node string, err error) {
	if len(state.PeerCertificates) == 0 {
		return "", fmt.Errorf("it has no certificate")
	}
	certificate := state.PeerCertificates[0]
	_, err = certificate.Verify(x509.VerifyOptions{Roots: id.roots, CurrentTime: validAt,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return certificate.Subject.CommonName, err
}
