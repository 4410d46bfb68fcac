package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hactl/had/internal/conf"
)

// BenchmarkLoad reads a file with a thousand virtual servers of ten real servers each.
func BenchmarkLoad(b *testing.B) {
	for name, check := range map[string]string{"unchecked": "", "checked": "TCP_CHECK {\nconnect_timeout 2\n}\n"} {
		b.Run(name, func(b *testing.B) {
			var servers, file strings.Builder
			for i := range 10 {
				fmt.Fprintf(&servers, "real_server 10.77.0.%d 80 {\nweight %d\n%s}\n", 101+i, i+1, check)
			}
			for i := range 1000 {
				fmt.Fprintf(&file, "virtual_server 198.18.%d.%d 80 {\nlb_algo wlc\nlb_kind NAT\nprotocol TCP\n%s}\n", i/250, i%250+1, servers.String())
			}
			path := filepath.Join(b.TempDir(), "keepalived.conf")
			if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
				b.Fatal(err)
			}
			options, err := Options(path, "")
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if c, findings := conf.Load(options); c == nil || len(c.VirtualServers) != 1000 {
					b.Fatal(findings)
				}
			}
		})
	}
}
