//go:build interop

package interop_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// sessionLimit is long enough for a session to come up: both sides speak once a second until then.
const sessionLimit = startTime + 5*time.Second

// neighborSession is a bfd_instance of k with a neighbor, both by their addresses. A second of silence ends it: a machine that is busy
// with other tests may well keep a program waiting for less.
func neighborSession(source, neighbor string, lines ...string) string {
	s := fmt.Sprintf("bfd_instance N {\n    source_ip %s\n    neighbor_ip %s\n    min_tx 100\n    min_rx 100\n    multiplier 10\n",
		source, neighbor)
	for _, line := range lines {
		s += "    " + line + "\n"
	}
	return s + "}\n"
}

// had notices the end of a neighbor that keeps a session with it, and the silence of the wire between them.
func TestBFD(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		with  product
		ipv6  bool
		lines []string
		frr   string // of the peer in bfdd.conf, after its address
	}{
		{"bfdd", bfdd, false, nil, ""},
		{"bfdd, which waits for had", bfdd, false, nil, "passive-mode"},
		{"bfdd, for which had waits", bfdd, false, []string{"passive"}, ""},
		{"bfdd over IPv6", bfdd, true, []string{"hoplimit 255"}, ""},
		{"stock keepalived", keepalived, false, nil, ""},
		{"stock keepalived over IPv6", keepalived, true, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newTracker(t, had)
			other := k.addRouter(tt.with, time.Second)
			ours, theirs := k.r.source4(), other.source4()
			if tt.ipv6 {
				ours, theirs = k.r.source6(), other.source6()
			}
			if tt.with == bfdd {
				other.write("zebra.conf", "hostname "+other.host.Name()+"\n")
				other.write("bfdd.conf", fmt.Sprintf("log file %s\nbfd\n peer %s local-address %s\n  detect-multiplier 10\n"+
					"  receive-interval 100\n  transmit-interval 100\n  %s\n", filepath.Join(other.dir, "bfd.log"), ours, theirs, tt.frr))
				k.must(other.giveTo("frr", "", "bfdd.conf", "zebra.conf"))
			} else {
				other.write("keepalived.conf", configuration(block(neighborSession(theirs, ours))))
			}
			k.begin(neighborSession(ours, theirs, tt.lines...), "track_bfd {\n        N\n    }")
			k.expect(pipeLimit, "FAULT 200")
			k.quiet(time.Second)
			other.bootBFD()
			k.expect(sessionLimit+master, "BACKUP 200", "MASTER 200")
			k.quiet(3 * time.Second)

			// A neighbor that is gone is noticed long before an advertisement interval has passed three times.
			other.kill()
			killed := time.Now()
			k.expect(pipeLimit, "FAULT 200")
			t.Logf("noticed after %v", time.Since(killed))
			other.bootBFD()
			k.expect(sessionLimit+master, "BACKUP 200", "MASTER 200")

			// Frames that do not arrive are noticed without anybody being gone.
			cut, err := k.lab.CutPort(other.host)
			k.must(err)
			k.expect(pipeLimit, "FAULT 200")
			k.must(cut.Heal())
			k.expect(sessionLimit+master, "BACKUP 200", "MASTER 200")
		})
	}
}

// bootBFD starts a program that keeps a BFD session, stock keepalived with all its processes.
func (r *router) bootBFD() {
	r.lan.t.Helper()
	if r.product != keepalived {
		r.boot()
		return
	}
	r.clean()
	r.run("/usr/sbin/keepalived", "-f", filepath.Join(r.dir, "keepalived.conf"), "-n", "-l", "-D",
		"-p", filepath.Join(r.dir, "parent.pid"), "-r", filepath.Join(r.dir, "vrrp.pid"), "-c", filepath.Join(r.dir, "check.pid"),
		"-b", filepath.Join(r.dir, "bfd.pid"))
}
