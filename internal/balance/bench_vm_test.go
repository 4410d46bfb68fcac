//go:build integ

package balance

import (
	"flag"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab"
	"github.com/hactl/had/internal/lab/vm"
	"github.com/hactl/had/lvs"
)

// services is how many virtual servers a large table has, with ten real servers each.
var services = flag.Int("services", 1000, "virtual servers of the benchmark of a large table")

const (
	perService = 10
	tableLimit = 5 * time.Minute
)

// large is the configuration of a large table, and its last entry in the order of addresses, in which programs add them.
func large() (file string, service lvs.ServiceKey, last lvs.DestinationKey) {
	var text strings.Builder
	pool := many(perService)
	for i := range *services {
		service = lvs.ServiceKey{Family: lvs.IPv4, Protocol: lvs.TCP,
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i / 250), byte(i%250 + 1)}), 80)}
		fmt.Fprintf(&text, "virtual_server %s 80 {\nlb_algo wlc\nlb_kind NAT\nprotocol TCP\n%s\n}\n", service.Address.Addr(), pool)
	}
	return text.String(), service, netip.MustParseAddrPort(fmt.Sprintf("10.77.0.%d:80", 100+perService))
}

// complete waits until the kernel has all of the large table. To set the last entry to what it is costs one request, and works once it
// is there; to read everything would take the one processor from those who are measured.
func (d *director) complete(service lvs.ServiceKey, last lvs.DestinationKey) {
	d.t.Helper()
	entry := []lvs.Change{{Operation: lvs.EditDestination, Key: service, Server: last, Destination: lvs.Destination{Weight: perService}}}
	for start := time.Now(); d.kernel.Apply(entry)[0] != nil; time.Sleep(time.Millisecond) {
		if time.Since(start) > tableLimit {
			d.t.Fatalf("the table is not complete after %s", tableLimit)
		}
	}
}

// From the start of a program to a complete table in the kernel, in the virtual machine's time: a nanosecond for each instruction.
func BenchmarkLargeTable(b *testing.B) {
	file, service, last := large()
	var saved string
	for _, product := range []string{"keepalived", "had"} {
		b.Run(product, func(b *testing.B) {
			d := newField(b).director("director", product, 1)
			d.configure(file)
			for b.Loop() {
				d.start()
				d.complete(service, last)
				b.StopTimer()
				table := d.table()
				if n := len(table); n != *services {
					b.Fatalf("%d services", n)
				}
				for key, e := range table {
					if len(e.Destinations) != perService {
						b.Fatalf("%s has %d destinations", key, len(e.Destinations))
					}
				}
				saved = d.run("ipvsadm", "-Sn")
				d.stop()
				b.StartTimer()
			}
		})
	}
	b.Run("ipvsadm -R", func(b *testing.B) {
		d := newField(b).director("director", "none", 1)
		for b.Loop() {
			p, err := d.host.Start(lab.Command{Path: filepath.Join(vm.Programs, "ipvsadm"), Args: []string{"-R"}, Stdin: strings.NewReader(saved),
				LogFile: d.file("log")})
			check(b, err)
			d.complete(service, last)
			b.StopTimer()
			check(b, p.Wait(b.Context()))
			check(b, d.kernel.Flush())
			b.StartTimer()
		}
	})
}
