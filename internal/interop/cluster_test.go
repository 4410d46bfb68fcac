//go:build interop

package interop_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// foundingTime is how long a cluster may take from the start of its last member to its first owner.
const foundingTime = 30 * time.Second

// TestStrangerOnAClustersVRID lets stock keepalived appear on the VRID of a cluster, which it knows nothing of.
func TestStrangerOnAClustersVRID(t *testing.T) {
	t.Parallel()
	for _, c := range []combination{{version: 3}, {version: 2}, {version: 3, ipv6: true}} {
		t.Run(fmt.Sprintf("a cluster yields to keepalived with a higher priority, says so, and owns again when it leaves, in %s", c),
			func(t *testing.T) {
				t.Parallel()
				stranger(t, c)
			})
	}
	t.Run("a cluster keeps its addresses when keepalived with a lower priority comes and goes", func(t *testing.T) {
		t.Parallel()
		weakStranger(t, quick)
	})
}

// newCluster builds two directors with these priorities and a witness, and another host for keepalived.
func newCluster(t *testing.T, c combination, priorities [2]int, strangers int) (l *lan, first, second, keep *router) {
	t.Helper()
	l = newLAN(t, c.vips()...)
	first, second = l.addRouter(had, c.advertInterval()), l.addRouter(had, c.advertInterval())
	witness := l.addRouter(hawitness, c.advertInterval())
	keep = l.addRouter(keepalived, c.advertInterval())
	key, err := exec.Command(program("hactl"), "keygen").Output()
	if err != nil {
		t.Fatalf("hactl keygen: %v", err)
	}
	members := []*router{first, second, witness}
	for _, r := range members {
		var peers strings.Builder
		for _, p := range members {
			word := ""
			if p == witness {
				word = "  witness"
			}
			fmt.Fprintf(&peers, "    peer %s { address %s%s }\n", p.host.Name(), p.source4(), word)
		}
		r.write("cluster.key", string(key))
		cluster := block(fmt.Sprintf("cluster {\n    name interop\n    node %s\n    key_file %s\n    data_dir %s\n%s    control_socket %s\n}\n",
			r.host.Name(), filepath.Join(r.dir, "cluster.key"), filepath.Join(r.dir, "data"), peers.String(), r.socket()))
		priority := priorities[0] // the witness reads the lease out of its copy of the instance
		if r == second {
			priority = priorities[1]
		}
		r.write("keepalived.conf", configuration(cluster, c.instance(r, r, priority)))
	}
	keep.configure(c, keep, strangers)
	for _, r := range members {
		r.boot()
	}
	l.awaitMaster(first, foundingTime)
	return l, first, second, keep
}

func stranger(t *testing.T, c combination) {
	l, first, second, keep := newCluster(t, c, [2]int{150, 100}, highPriority)

	since := time.Now()
	keep.boot()
	l.awaitMaster(keep, c.electionLimit())
	l.yielded(first, l.firstAdvert(keep, since, 0))
	for _, r := range []*router{first, second} {
		l.await(5*time.Second, r.name+" says that the stranger is not bound by leases", func() string {
			for _, args := range [][]string{{"events"}, {"cluster", "status"}} {
				out := r.hactl(args...)
				if !strings.Contains(out, "not bound by leases") {
					return fmt.Sprintf("hactl %s:\n%s", strings.Join(args, " "), out)
				}
				t.Logf("%s: hactl %s:\n%s", r.name, strings.Join(args, " "), out)
			}
			return ""
		})
	}
	l.staysMaster(keep, 2*c.down(lowPriority))

	goodbye := time.Now()
	keep.shutdown()
	resigned := l.resignation(keep, goodbye)
	// The skew time of the better director, and then a lease.
	took := l.firstAdvert(first, resigned, c.skew(150)+leaseTime).Sub(resigned)
	t.Logf("%s owns again %.3f s after the stranger's last word (skew time %.3f s)", first.name, took.Seconds(), c.skew(150).Seconds())
	l.awaitMaster(first, first.settle()+tolerance)

	keep.boot()
	l.awaitMaster(keep, c.electionLimit())
	keep.die()
	silence := l.lastAdvert(keep)
	took = l.firstAdvert(first, silence, c.down(150)+leaseTime).Sub(silence)
	t.Logf("%s owns again %.3f s after the stranger's death (Active_Down_Interval %.3f s)", first.name, took.Seconds(), c.down(150).Seconds())
	l.awaitMaster(first, first.settle()+tolerance)
	l.staysMaster(first, c.down(lowPriority))
	if out := first.hactl("cluster", "status"); strings.Contains(out, "advertises the VRID") {
		t.Errorf("the stranger is gone and the status still speaks of it:\n%s", out)
	}
	// Before that it may have: of two that are started at once one may be there long before the other.
	if list := l.record.adverts(second.name, since); len(list) > 0 {
		t.Errorf("%s advertised %d times, priority %d first", second.name, len(list), list[0].priority)
	}
}

// leaseTime is what a lease may add to the time that VRRP prescribes.
const leaseTime = tolerance

func weakStranger(t *testing.T, c combination) {
	l, first, _, keep := newCluster(t, c, [2]int{150, 100}, 50)
	keep.boot()
	l.staysMaster(first, startTime+c.down(50))
	keep.die()
	l.staysMaster(first, c.down(50))
}

// hactl returns what a command says on the router, whatever its exit code.
func (r *router) hactl(args ...string) string {
	args = slices.Concat([]string{"-s", r.socket()}, args)
	out, err := exec.Command(program("hactl"), args...).CombinedOutput()
	if err != nil && len(out) == 0 {
		return err.Error()
	}
	return string(out)
}
