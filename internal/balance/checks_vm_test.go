//go:build integ

package balance

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A tenth of the checks in a tenth of the interval takes a tenth of the time to start.
var (
	checksFlag   = flag.Int("checks", 10000, "health checks of the benchmark of checks")
	intervalFlag = flag.Duration("interval", 10*time.Second, "time in which each program makes these checks; whole seconds")
)

const (
	checkStart = 4 * time.Second       // until a program has filled its table and makes its first checks, which it spreads over the interval
	checkWatch = 5 * time.Second       // then its checks are watched
	clockTick  = 10 * time.Millisecond // of the times in /proc/PID/stat
)

// crowd is a server that counts how often it is asked.
type crowd struct {
	mu     sync.Mutex
	counts []int // by tenth of a second since begin
	begin  time.Time
}

// open serves on all addresses of the real servers: what page is set answers with it, and closes.
func (c *crowd) open(f *field, port int) {
	f.open(fmt.Sprintf(":%d", port), func(l net.Listener) {
		page := []byte("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello\n")
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.count()
			go func() {
				defer conn.Close()
				b := make([]byte, 512)
				if n, _ := conn.Read(b); n > 0 { // one that only connects says nothing
					_, _ = conn.Write(page)
				}
			}()
		}
	})
}

func (c *crowd) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := int(time.Since(c.begin) / (100 * time.Millisecond))
	for len(c.counts) <= n {
		c.counts = append(c.counts, 0)
	}
	c.counts[n]++
}

// watch counts for a while. It returns how often the servers were asked, and in the tenth of a second in which they were asked most.
func (c *crowd) watch(while time.Duration) (all, most int) {
	c.mu.Lock()
	c.counts, c.begin = nil, time.Now()
	c.mu.Unlock()
	time.Sleep(while)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.counts {
		all, most = all+n, max(most, n)
	}
	return all, most
}

// usage is what the processes of a program take.
type usage struct {
	user, system time.Duration
	memory       int // bytes, those that processes share divided among them
	threads      int
}

// usage looks at the program's processes: they share a session.
func (d *director) usage() (u usage) {
	d.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	check(d.t, err)
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has ended
		}
		// The fields after the name, which is in parentheses, beginning with the third (proc_pid_stat(5)).
		f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if f[3] != strconv.Itoa(d.proc.PID()) {
			continue
		}
		number := func(field int) int {
			n, err := strconv.Atoi(f[field-3])
			check(d.t, err)
			return n
		}
		u.user += time.Duration(number(14)) * clockTick
		u.system += time.Duration(number(15)) * clockTick
		u.threads += number(20)
		text, err = os.ReadFile(filepath.Join(dir, "smaps_rollup"))
		check(d.t, err)
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
				check(d.t, err)
				u.memory += kilobytes << 10
			}
		}
	}
	return u
}

// Ten thousand checks in ten seconds: what each costs stock keepalived and had, in the virtual machine's time, of which a second are a
// billion instructions. The kernel's work for the other end of the connections is in it, for both. A quotient is had's
// share by keepalived's.
func BenchmarkChecks(b *testing.B) {
	for _, kind := range []struct{ name, block string }{
		{"TCP_CHECK", "TCP_CHECK {\n"},
		{"HTTP_GET", "HTTP_GET {\nurl {\npath /\nstatus_code 200\n}\n"},
	} {
		b.Run(kind.name, func(b *testing.B) {
			var servers, file strings.Builder
			for i := range perService {
				servers.WriteString(server(fmt.Sprintf("10.77.0.%d 80", 101+i), kind.block+"connect_timeout 2\n}") + "\n")
			}
			for i := range *checksFlag / perService {
				fmt.Fprintf(&file, "virtual_server 198.18.%d.%d 80 {\ndelay_loop %d\nlb_algo wlc\nlb_kind NAT\nprotocol TCP\n%s\n}\n",
					i/250, i%250+1, *intervalFlag/time.Second, servers.String())
			}
			var of [2]struct {
				usage
				attempts int
				burst    float64
			}
			for b.Loop() {
				for i, product := range []string{"keepalived", "had"} {
					f := newField(b)
					c := crowd{begin: time.Now()}
					c.open(f, 80)
					d := f.director("director", product, 1)
					d.configure(file.String())
					d.start()
					time.Sleep(checkStart)
					before := d.usage()
					all, most := c.watch(checkWatch)
					after := d.usage()
					if want := *checksFlag * int(checkWatch/time.Second) / int(*intervalFlag/time.Second); all < want*9/10 || all > want*11/10 {
						b.Errorf("%s makes %d checks, %d were due. Its log:\n%s", product, all, want, d.log())
					}
					d.stop()
					of[i].user += after.user - before.user
					of[i].system += after.system - before.system
					of[i].memory = max(of[i].memory, after.memory)
					of[i].threads = max(of[i].threads, after.threads)
					of[i].attempts += all
					of[i].burst = max(of[i].burst, float64(most)*float64(checkWatch/(100*time.Millisecond))/float64(all))
				}
			}
			b.ReportMetric(0, "ns/op")
			for i, product := range []string{"keepalived", "had"} {
				o, per := of[i], func(t time.Duration) float64 { return float64(t.Microseconds()) / float64(of[i].attempts) }
				b.ReportMetric(per(o.user+o.system), product+"-µs/check")
				b.ReportMetric(per(o.user), product+"-user-µs/check")
				b.ReportMetric(float64(o.memory)/1024/float64(*checksFlag), product+"-KiB/check")
				b.ReportMetric(float64(o.threads), product+"-threads")
				b.ReportMetric(o.burst, product+"-burst")
			}
			b.ReportMetric(float64(of[1].user+of[1].system)/float64(of[0].user+of[0].system), "cpu-quotient")
			b.ReportMetric(float64(of[1].memory)/float64(of[0].memory), "memory-quotient")
		})
	}
}
