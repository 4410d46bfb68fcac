package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hactl/had/internal/agent/balancer"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/clock/leaseclock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/lvs/check"
)

const checked = `
SSL {
    ca /etc/ssl/ca.pem
}
bfd_instance peer {
    neighbor_ip 10.0.9.9
}
track_file load {
    file /run/load
}
virtual_server 192.0.2.1 443 {
    lb_algo rr
    lb_kind NAT
    protocol TCP
    delay_loop 10
    retry 2
    warmup 4
    real_server 10.0.0.1 443 {
        TCP_CHECK {
            alpha
            bindto 10.0.0.9
            bind_port 1000
            bind_if eth0
            fwmark 5
            connect_timeout 2
            log_all_failures
        }
        HTTP_GET {
            http_protocol 1.0C
            url {
                path /
                virtualhost www.example
                status_code 200-204
                digest 9b3a0c85a87da5d2a0f5c1c5c8a0f4e1
                regex well
                regex_options caseless
            }
        }
        SSL_GET {
            http_protocol 2
            sni_name www.example
            tls_verify
            tls_compliant
            fast_recovery
            url {
                path /
            }
        }
        SMTP_CHECK {
            helo_name had.example
        }
        DNS_CHECK {
            type A
            name www.example
        }
        UDP_CHECK {
            payload 01
            require_reply 8X
            min_reply_length 2
        }
        PING_CHECK {
        }
        MISC_CHECK {
            misc_path "/bin/true it"
            misc_dynamic
            misc_timeout 3
        }
        FILE_CHECK {
            track_file load
        }
        BFD_CHECK {
            name peer
        }
    }
}
`

func loadText(t testing.TB, text string) *conf.Config {
	t.Helper()
	c, findings := conf.Load(conf.Options{Path: "had.conf", Files: fstest.MapFS{"had.conf": {Data: []byte(text), Mode: 0o644}}})
	for _, f := range findings {
		if f.Severity == conf.Error {
			t.Fatal(f)
		}
	}
	return c
}

func TestChecksAreWhatTheFileSays(t *testing.T) {
	cfg := loadText(t, checked)
	r := &cfg.VirtualServers[0].Servers[0]
	script, presented := &notify.Script{Path: "/bin/true"}, &check.TLS{}
	to := check.Endpoint{Target: netip.MustParseAddrPort("10.0.0.1:443"), Timeout: 5 * time.Second}
	bound := check.Endpoint{Target: to.Target, Bind: netip.MustParseAddr("10.0.0.9"), BindPort: 1000, Interface: "eth0", Mark: 5,
		Timeout: 2 * time.Second}
	url := check.URL{Path: "/", Host: "www.example", Status: []check.StatusRange{{First: 200, Last: 204}},
		Digest: "9b3a0c85a87da5d2a0f5c1c5c8a0f4e1", Regex: &check.Regex{Pattern: "well", Options: []string{"caseless"}, MaxOffset: -1}}
	want := []check.Probe{
		&check.TCP{Endpoint: bound},
		&check.HTTP{Endpoint: to, Protocol: check.HTTP10Close, URLs: []check.URL{url}},
		&check.HTTP{Endpoint: to, Secure: true, TLS: presented, Protocol: check.HTTP2, FastRecovery: true, URLs: []check.URL{
			{Path: "/", ServerName: "www.example", Status: []check.StatusRange{{First: 200, Last: 299}}, Verify: true,
				Compliant: true}}},
		&check.SMTP{Endpoint: to, Helo: "had.example"},
		&check.DNS{Endpoint: to, Type: "A", Name: "www.example"},
		&check.UDP{Endpoint: to, Payload: []byte{1}, RequireReply: true, Reply: []byte{0x80}, ReplyMask: []byte{0xf0}, MinReply: 2, MaxReply: 255},
		&check.Ping{Endpoint: to},
		check.Misc{Name: "/bin/true it", Script: script, Timeout: 3 * time.Second, Dynamic: true, Weight: 1},
		check.Input{},
		check.Input{},
	}
	if len(r.Checkers) != len(want) {
		t.Fatalf("%d checkers", len(r.Checkers))
	}
	for i := range r.Checkers {
		got := engineCheck(balancer.Check{ID: "id", Checker: &r.Checkers[i], Weight: r.Weight, Script: script}, presented)
		if !reflect.DeepEqual(got.Probe, want[i]) {
			t.Errorf("%s: %+v, want %+v", r.Checkers[i].Kind, got.Probe, want[i])
		}
		if i == 0 {
			schedule := check.Schedule{Interval: 10 * time.Second, RetryDelay: time.Second, Retries: 2, Warmup: 4 * time.Second}
			if got.Schedule != schedule || !got.Alpha || !got.LogFailures || got.ID != "id" {
				t.Errorf("%+v", got)
			}
		}
	}
}

func TestWhatAFileMeansForAServer(t *testing.T) {
	for _, c := range []struct {
		weight  int
		reverse bool
		value   int32
		ok      bool
		adjust  int
	}{
		{0, false, 0, true, 0}, {0, false, 3, false, 0}, {0, true, 0, false, 0}, {0, true, 3, true, 0},
		{2, false, 3, true, 6}, {2, true, 3, true, -6}, {-2, false, 3, true, -6}, {2, false, 0, true, 0},
	} {
		got := fileOutcome(&conf.FileCheckFields{TrackFile: "load", Weight: c.weight, Reverse: c.reverse}, c.value)
		if got.OK != c.ok || got.Adjust != c.adjust {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

// TestFilesAndSessionsReachTheChecks: whatever is known first, the check or what it is about.
func TestFilesAndSessionsReachTheChecks(t *testing.T) {
	cfg := loadText(t, checked)
	var all []balancer.Check
	for i := range cfg.VirtualServers[0].Servers[0].Checkers {
		if c := &cfg.VirtualServers[0].Servers[0].Checkers[i]; c.Kind == conf.FileCheck || c.Kind == conf.BFDCheck {
			all = append(all, balancer.Check{ID: string(c.Kind), Checker: c})
		}
	}
	lc, err := leaseclock.New()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	found := map[string]string{}
	h := newHealthChecks()
	h.session("peer", true)
	h.start(lc.Now, slog.New(slog.DiscardHandler), func(id string, f balancer.Finding) {
		mu.Lock()
		defer mu.Unlock()
		found[id] = fmt.Sprint(f.Up, " ", f.Adds)
	})
	defer h.Close()
	expect := func(id, want string) {
		t.Helper()
		for range 500 {
			mu.Lock()
			got := found[id]
			mu.Unlock()
			if got == want {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%s: %s, want %s", id, found[id], want)
	}
	h.Set(all, nil)
	expect("BFD_CHECK", "true 0")
	h.session("peer", false)
	expect("BFD_CHECK", "false 0")
	h.file("load", 7)
	expect("FILE_CHECK", "true 7")
}

// BenchmarkMemoryOfChecks tells what a check holds in memory when there are ten thousand: its configuration, and the states of the load
// balancer and of the engine. Nothing is attempted, and there is no kernel's table.
func BenchmarkMemoryOfChecks(b *testing.B) {
	const services, servers = 1000, 10
	for _, kind := range []struct{ name, block string }{
		{"TCP_CHECK", "TCP_CHECK {\nconnect_timeout 2\n}"},
		{"HTTP_GET", "HTTP_GET {\nurl {\npath /\nstatus_code 200\n}\nconnect_timeout 2\n}"},
	} {
		b.Run(kind.name, func(b *testing.B) {
			var text strings.Builder
			for i := range services {
				fmt.Fprintf(&text, "virtual_server 198.18.%d.%d 80 {\nlb_algo wlc\nlb_kind NAT\nprotocol TCP\n", i/250, i%250+1)
				for n := range servers {
					fmt.Fprintf(&text, "real_server 10.77.0.%d 80 {\n%s\n}\n", n+101, kind.block)
				}
				text.WriteString("}\n")
			}
			for b.Loop() {
				before := heapInUse()
				cfg, log := loadText(b, text.String()), slog.New(slog.DiscardHandler)
				lb := balancer.New(balancer.Options{Log: log,
					Open: func() (balancer.Kernel, error) { return nil, errors.New("no IPVS") },
					Checks: func(found func(string, balancer.Finding)) balancer.Checks {
						return newHealthChecks().start(func() clock.Time { return 1 }, log, found) // time stands still
					}})
				ctx, stop := context.WithCancel(b.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); lb.Run(ctx) }()
				lb.Configure(balancer.Config{Virtual: cfg.VirtualServers, Global: &cfg.Global}, nil)
				time.Sleep(3 * time.Second) // for the engine to have taken them
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(heapInUse()-before)/services/servers, "B/check")
				stop()
				<-ended
				runtime.KeepAlive(cfg)
			}
		})
	}
}

// heapInUse returns the bytes of what is reachable.
func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
