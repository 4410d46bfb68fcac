//go:build interop

package interop_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// mailPort is where the asking host takes mail.
const mailPort = 2525

// notices is what a product tells others in the course of one story.
type notices struct {
	pipe   []string // lines of the pipe, those that may come in any order sorted
	calls  []string // of scripts, sorted
	reader string   // arguments of the reader of the pipe
	mails  []string // sorted
}

// TestNotifications plays one story to both products and compares what they tell: start, a fault, recovery, stop.
func TestNotifications(t *testing.T) {
	t.Parallel()
	var theirs, ours notices
	t.Run("stories", func(t *testing.T) {
		for p, n := range map[product]*notices{keepalived: &theirs, had: &ours} {
			t.Run(string(p), func(t *testing.T) {
				t.Parallel()
				*n = story(t, p)
			})
		}
	})
	compare := func(what string, theirs, ours []string, least int) {
		if !slices.Equal(theirs, ours) || len(ours) < least {
			t.Errorf("%s:\nkeepalived\n    %s\nhad\n    %s", what, strings.Join(theirs, "\n    "), strings.Join(ours, "\n    "))
		}
	}
	compare("pipe", theirs.pipe, ours.pipe, 20)
	compare("scripts", theirs.calls, ours.calls, 30)
	// keepalived ends before it has sent what it says at the end.
	ends := func(mail string) bool { return strings.Contains(mail, "Stopping") }
	compare("mails", slices.DeleteFunc(theirs.mails, ends), slices.DeleteFunc(slices.Clone(ours.mails), ends), 10)
	if n := len(slices.DeleteFunc(ours.mails, func(m string) bool { return !ends(m) })); n != 4 {
		t.Errorf("had has sent %d mails at its end, not 4", n)
	}
	if ours.reader != theirs.reader || ours.reader == "" {
		t.Errorf("the reader of the pipe is called with %q by keepalived, %q by had", theirs.reader, ours.reader)
	}
}

func story(t *testing.T, p product) notices {
	l := newLAN(t, "10.77.0.101", "10.77.0.102", "10.77.0.103")
	mails := l.takeMails()
	r := l.addRouter(p, 300*time.Millisecond)
	dir := r.dir
	script := func(name, text string) string {
		path := r.write(name, "#!/bin/sh\n"+text+"\n")
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	call := script("call", `echo "$# $*" >> `+dir+`/calls`)
	reader := script("reader", `echo "$# $*" > `+dir+`/reader; exec sleep 1000`)
	pipe := newPipe(t, filepath.Join(dir, "pipe"))
	scripts := func(name string) string {
		var b strings.Builder
		for _, state := range []string{"master", "backup", "fault", "stop"} {
			fmt.Fprintf(&b, "    notify_%s \"%s %s %s\"\n", state, call, name, state)
		}
		fmt.Fprintf(&b, "    notify \"%s 'any of %s'\"\n", call, name)
		return b.String()
	}
	text := fmt.Sprintf(`global_defs {
    router_id lan
    notification_email { ops@example.com oncall@example.com }
    notification_email_from lb@example.com
    smtp_server %s %d
    smtp_helo_name lb.example.com
    smtp_alert
    script_user root
    notify_fifo %s
    notify_fifo_script "%s first 'second third'"
}
vrrp_sync_group G {
    group { A B }
%s}
`, asker4, mailPort, pipe.path, reader, scripts("G"))
	for i, name := range []string{"A", "B", "C"} {
		text += fmt.Sprintf(`vrrp_instance %s {
    interface eth0
    version 3
    virtual_router_id %d
    priority 100
    advert_int 0.3
    virtual_ipaddress { 10.77.0.10%d }
%s}
`, name, vrid+i, i+1, scripts(name))
	}
	r.write("keepalived.conf", text)
	r.boot()
	until := func(lines ...string) {
		t.Helper()
		l.await(15*time.Second, "the pipe has "+strings.Join(lines, ", "), func() string {
			return pipe.lacks(lines)
		})
	}
	masters := []string{`INSTANCE "A" MASTER 100`, `INSTANCE "B" MASTER 100`, `INSTANCE "C" MASTER 100`, `GROUP "G" MASTER 0`}
	until(masters...)
	pipe.mark()
	cut, err := l.lab.LinkDown(r.host)
	if err != nil {
		t.Fatal(err)
	}
	until(`INSTANCE "C" FAULT 100`, `GROUP "G" FAULT 0`)
	pipe.mark()
	if err := cut.Heal(); err != nil {
		t.Fatal(err)
	}
	until(masters...)
	pipe.mark()
	time.Sleep(time.Second) // mails and scripts under way
	r.shutdown()
	until(`INSTANCE "C" STOP 100`, `GROUP "G" STOP 0`)
	time.Sleep(time.Second)
	result := notices{pipe: pipe.canonical(), calls: linesOf(t, filepath.Join(dir, "calls")), mails: mails.all()}
	slices.Sort(result.calls)
	if all := linesOf(t, filepath.Join(dir, "reader")); len(all) == 1 {
		result.reader = strings.ReplaceAll(all[0], dir, "DIR")
	}
	return result
}

func linesOf(t *testing.T, path string) []string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}

// pipe is a named pipe that exists before a product opens it.
type pipe struct {
	path string
	mu   sync.Mutex
	got  []string // with an empty line at each mark
}

func newPipe(t *testing.T, path string) *pipe {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pipe{path: path}
	done := make(chan struct{})
	go func() {
		defer close(done)
		rest, buffer := "", make([]byte, 4096)
		for {
			n, err := file.Read(buffer)
			if err != nil {
				return
			}
			rest += string(buffer[:n])
			for line, more, found := strings.Cut(rest, "\n"); found; line, more, found = strings.Cut(rest, "\n") {
				p.add(line)
				rest = more
			}
		}
	}()
	t.Cleanup(func() {
		file.Close()
		<-done
	})
	return p
}

func (p *pipe) add(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, line)
}

// mark begins a new part of the story.
func (p *pipe) mark() { p.add("") }

// lacks names the lines that have not come since the last mark.
func (p *pipe) lacks(lines []string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	part := p.got
	for i, line := range p.got {
		if line == "" {
			part = p.got[i:]
		}
	}
	var missing []string
	for _, line := range lines {
		if !slices.Contains(part, line) {
			missing = append(missing, line)
		}
	}
	return strings.Join(missing, ", ")
}

// canonical puts in order what may come in any: the group and the instance outside it are apart, and members that change
// together are sorted by their names.
func (p *pipe) canonical() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var group, other []string
	for _, line := range p.got {
		switch {
		case strings.Contains(line, `"C"`):
			other = append(other, line)
		default:
			group = append(group, line)
		}
	}
	state := func(line string) string { return strings.Join(strings.Fields(line)[2:3], "") }
	for i := 1; i < len(group); i++ {
		a, b := group[i-1], group[i]
		if strings.HasPrefix(a, "INSTANCE") && strings.HasPrefix(b, "INSTANCE") && state(a) == state(b) && a > b {
			group[i-1], group[i] = b, a
		}
	}
	return append(group, other...)
}

// mails is what the asking host's mail server has taken.
type mails struct {
	mu  sync.Mutex
	got []string
}

// all mails, sorted: keepalived sends them side by side.
func (m *mails) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(slices.Values(m.got))
}

func (l *lan) takeMails() *mails {
	l.t.Helper()
	var listener net.Listener
	if err := l.asker.Do(func() (err error) {
		listener, err = net.Listen("tcp4", net.JoinHostPort(asker4.String(), fmt.Sprint(mailPort)))
		return err
	}); err != nil {
		l.t.Fatal(err)
	}
	m := &mails{}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &mailSession{mails: m, conn: c}, nil
	}))
	server.ErrorLog = log.New(io.Discard, "", 0) // keepalived hangs up on mails that it has begun when it ends
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	l.t.Cleanup(func() {
		server.Close()
		<-done
	})
	return m
}

type mailSession struct {
	mails *mails
	conn  *smtp.Conn
	from  string
	to    []string
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error { s.from = from; return nil }
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error   { s.to = append(s.to, to); return nil }
func (s *mailSession) Reset()                                      {}
func (s *mailSession) Logout() error                               { return nil }

func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	date, rest, _ := strings.Cut(string(text), "\r\n")
	if _, err := time.Parse("Date: "+time.RFC1123Z, date); err == nil {
		date = "a date"
	}
	s.mails.mu.Lock()
	defer s.mails.mu.Unlock()
	s.mails.got = append(s.mails.got, fmt.Sprintf("%s, from %s, to %s: %s, %q", s.conn.Hostname(), s.from, s.to, date, rest))
	return nil
}
