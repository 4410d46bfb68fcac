package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/youmark/pkcs8"
	"golang.org/x/sys/unix"
)

// blackhole returns the address of a socket that answers no SYN: it listens, its queue is full, and nobody accepts.
func blackhole(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in4 := name.(*unix.SockaddrInet4)
	hole := netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port))
	for {
		c, err := net.DialTimeout("tcp", hole.String(), 200*time.Millisecond)
		if err != nil {
			return hole
		}
		t.Cleanup(func() { c.Close() })
	}
}

// writeCertificates writes an authority, and a client's certificate with an encrypted key.
func writeCertificates(t *testing.T, authority *x509.Certificate) TLSFiles {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := pkcs8.MarshalPrivateKey(key, []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return TLSFiles{
		CA:          write("ca.pem", "CERTIFICATE", authority.Raw),
		Certificate: write("client.pem", "CERTIFICATE", der),
		Key:         write("client.key", "ENCRYPTED PRIVATE KEY", encrypted),
		Password:    "secret",
	}
}
