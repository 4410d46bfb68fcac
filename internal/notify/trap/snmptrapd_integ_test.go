//go:build integ

package trap

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hactl/had/internal/notify"
)

// TestSnmptrapdUnderstandsWhatIsSent lets Net-SNMP's receiver decode, authenticate and decrypt.
func TestSnmptrapdUnderstandsWhatIsSent(t *testing.T) {
	path, err := exec.LookPath("snmptrapd")
	if err != nil {
		path = "/usr/sbin/snmptrapd"
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("needs Debian's snmptrapd (tools/install)")
	}
	for _, test := range []struct {
		name     string
		receiver Receiver
		lines    string // of snmptrapd.conf
		heard    bool
	}{
		{"version 2c", Receiver{Community: "secret"}, "authCommunity log secret", true},
		{"version 2c of another community", Receiver{Community: "other"}, "authCommunity log secret", false},
		{"version 3 with authentication and encryption",
			Receiver{User: "had", Auth: "SHA", AuthPassword: "authenticate", Priv: "AES", PrivPassword: "encryption"},
			"createUser -e 0x%s had SHA authenticate AES encryption\nauthUser log had priv", true},
		{"version 3 with newer hash and older cipher",
			Receiver{User: "had", Auth: "SHA256", AuthPassword: "authenticate", Priv: "DES", PrivPassword: "encryption"},
			"createUser -e 0x%s had SHA-256 authenticate DES encryption\nauthUser log had priv", true},
		{"version 3 with authentication alone", Receiver{User: "had", Auth: "SHA512", AuthPassword: "authenticate"},
			"createUser -e 0x%s had SHA-512 authenticate\nauthUser log had auth", true},
		{"version 3 with neither and an engine ID of its own", Receiver{User: "had", EngineID: []byte{0x80, 0, 0, 1, 5, 9}},
			"createUser -e 0x%s had\nauthUser log had noauth", true},
		{"version 3 with a wrong password",
			Receiver{User: "had", Auth: "SHA", AuthPassword: "something else", Priv: "AES", PrivPassword: "encryption"},
			"createUser -e 0x%s had SHA authenticate AES encryption\nauthUser log had priv", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			id := test.receiver.EngineID
			if id == nil {
				id = EngineID("lb1")
			}
			d := startTrapd(t, path, strings.Replace(test.lines, "%s", hex.EncodeToString(id), 1))
			test.receiver.Host, test.receiver.Port = "127.0.0.1", d.port
			// Twice, as after a restart: the second life's traps must not be taken for replays of the first one's.
			for life := range 2 {
				s := Start(Config{RouterID: "lb1", MIBs: MIBs{Keepalived: true, RFC2787: true, RFC6527: true},
					Receivers: []Receiver{test.receiver}}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
				s.Tell(notify.Change{Kind: notify.Instance, Name: fmt.Sprintf("VI_%d", life), State: notify.Master,
					Router: notify.Router{Version: 2, VRID: 51, Interface: 3, Address: netip.MustParseAddr("10.9.0.1"),
						NewMasterReason: 3}})
				s.Tell(notify.Change{Kind: notify.Group, Name: "VG_1", State: notify.Fault})
				s.Stop(t.Context())
				if !test.heard {
					time.Sleep(300 * time.Millisecond)
					continue
				}
				d.await(t, 4*(life+1))
			}
			got := d.traps()
			if !test.heard {
				if len(got) > 0 {
					t.Errorf("heard all the same: %s", got)
				}
				return
			}
			for life := range 2 {
				for i, want := range []string{
					`OID: .1.3.6.1.4.1.9586.100.5.2.10.0.2 | .1.3.6.1.4.1.9586.100.5.2.3.1.2 = STRING: "VI_` + fmt.Sprint(life) + `" | ` +
						`.1.3.6.1.4.1.9586.100.5.2.3.1.4 = INTEGER: 2 | .1.3.6.1.4.1.9586.100.5.2.3.1.5 = INTEGER: 1 | ` +
						`.1.3.6.1.4.1.9586.100.5.1.2.0 = STRING: "lb1"`,
					`OID: .1.3.6.1.2.1.68.0.1 | .1.3.6.1.2.1.68.1.3.1.7.3.51 = IpAddress: 10.9.0.1`,
					`OID: .1.3.6.1.2.1.207.0.1 | .1.3.6.1.2.1.207.1.1.1.1.3.3.51.1 = Hex-STRING: 0A 09 00 01 | ` +
						`.1.3.6.1.2.1.207.1.2.5.1.2.3.51.1 = INTEGER: 3`,
					`OID: .1.3.6.1.4.1.9586.100.5.2.10.0.1 | .1.3.6.1.4.1.9586.100.5.2.1.1.2 = STRING: "VG_1" | ` +
						`.1.3.6.1.4.1.9586.100.5.2.1.1.3 = INTEGER: 3 | .1.3.6.1.4.1.9586.100.5.1.2.0 = STRING: "lb1"`,
				} {
					if trap := got[4*life+i]; !strings.HasSuffix(trap, want) {
						t.Errorf("got  %s\nwant %s", trap, want)
					}
				}
			}
		})
	}
}

// trapd is a running snmptrapd.
type trapd struct {
	port uint16
	log  string
}

func startTrapd(t *testing.T, path, lines string) *trapd {
	t.Helper()
	dir := t.TempDir()
	d := &trapd{log: filepath.Join(dir, "log")}
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	d.port = uint16(l.LocalAddr().(*net.UDPAddr).Port)
	l.Close()
	config := filepath.Join(dir, "snmptrapd.conf")
	if err := os.WriteFile(config, []byte(lines+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-f", "-n", "-On", "-Lf", d.log, "-C", "-c", config, "-F", "trap %v\n", fmt.Sprintf("udp:127.0.0.1:%d", d.port))
	cmd.Env = append(os.Environ(), "MIBS=", "SNMP_PERSISTENT_DIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if content, err := os.ReadFile(d.log); err == nil && t.Failed() {
			t.Logf("snmptrapd: %s", content)
		}
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if content, _ := os.ReadFile(d.log); strings.Contains(string(content), "NET-SNMP version") {
			return d
		}
		if time.Now().After(end) {
			t.Fatal("snmptrapd does not start")
		}
	}
}

// separator of variables; a Hex-STRING has a blank at its end.
var separator = regexp.MustCompile(` ?\t`)

// traps returns the variables of what has arrived, one trap per element.
func (d *trapd) traps() (all []string) {
	content, _ := os.ReadFile(d.log)
	for line := range strings.Lines(string(content)) {
		if variables, found := strings.CutPrefix(line, "trap "); found {
			all = append(all, separator.ReplaceAllString(strings.TrimSpace(variables), " | "))
		}
	}
	return all
}

// await waits for a number of traps.
func (d *trapd) await(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); len(d.traps()) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d traps have arrived, not %d: %s", len(d.traps()), n, d.traps())
		}
	}
}
