//go:build integ

package guard

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/hactl/had/fencing"
)

// manyGroups is a spec of n groups with one IPv4 and one IPv6 address and an IPv4 router each, and leases for all of
// them.
func manyGroups(g *NFTables, n int) (Spec, []Lease) {
	var (
		spec   Spec
		leases []Lease
	)
	for i := range n {
		a6 := netip.MustParseAddr("fd00:9::").As16()
		binary.BigEndian.PutUint16(a6[14:], uint16(i))
		name := fmt.Sprintf("VG_%03d", i)
		spec.Groups = append(spec.Groups, fencing.GuardedGroup{
			Name:      name,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 10, byte(i >> 8), byte(i)}), netip.AddrFrom16(a6)},
			Routers:   []fencing.VirtualRouter{{Interface: fmt.Sprintf("eth0.%d", i), VRID: vrid, Family: fencing.IPv4}},
		})
		leases = append(leases, Lease{Group: name, First: true})
	}
	extend(g, leases)
	return spec, leases
}

func extend(g *NFTables, leases []Lease) {
	until := g.clock().Add(time.Minute)
	for i := range leases {
		leases[i].Until = until
	}
}

func BenchmarkArm(b *testing.B) {
	for _, n := range []int{1, 10, 50, 250, 1000} {
		for _, watched := range []bool{false, true} {
			b.Run(fmt.Sprintf("groups=%d/watched=%v", n, watched), func(b *testing.B) {
				l := lan{machine: newNamespace(b)}
				g := openGuard(b, l, nil)
				spec, leases := manyGroups(g, n)
				if err := g.Install(spec); err != nil {
					b.Fatal(err)
				}
				if watched {
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					go g.Watch(ctx, func(c Change) { b.Error(c) })
				} else if err := g.endWatch(); err != nil {
					b.Fatal(err)
				}
				mustArm(b, g, leases...)
				for i := range leases {
					leases[i].First = false
				}
				for b.Loop() {
					extend(g, leases)
					mustArm(b, g, leases...)
				}
			})
		}
	}
}

func BenchmarkArmWithOneLapsed(b *testing.B) {
	l := lan{machine: newNamespace(b)}
	g := openGuard(b, l, nil)
	spec, leases := manyGroups(g, 250)
	if err := g.Install(spec); err != nil {
		b.Fatal(err)
	}
	mustArm(b, g, leases...)
	if err := g.Shut([]string{leases[100].Group}); err != nil {
		b.Fatal(err)
	}
	for i := range leases {
		leases[i].First = false
	}
	for b.Loop() {
		extend(g, leases)
		if err := g.Arm(leases)[100]; err == nil {
			b.Fatal("a lapsed lease was extended")
		}
	}
}

func BenchmarkShut(b *testing.B) {
	l := lan{machine: newNamespace(b)}
	g := openGuard(b, l, nil)
	spec, leases := manyGroups(g, 250)
	if err := g.Install(spec); err != nil {
		b.Fatal(err)
	}
	groups := make([]string, len(leases))
	for i, lease := range leases {
		groups[i] = lease.Group
	}
	for b.Loop() {
		if err := g.Shut(groups); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReplace(b *testing.B) {
	for _, n := range []int{1, 250} {
		b.Run(fmt.Sprintf("groups=%d", n), func(b *testing.B) {
			l := lan{machine: newNamespace(b)}
			g := openGuard(b, l, nil)
			spec, leases := manyGroups(g, n)
			for b.Loop() {
				extend(g, leases)
				if _, err := g.Replace(spec, leases); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
