package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hactl/had/internal/conf"
)

// TestFilesOfTheMachine reads a configuration of several files: relative names start at the including file, and what is
// executable, a directory or absent is left out and reported.
func TestFilesOfTheMachine(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("had.conf", "include conf.d/*.conf\ninclude absent\n@web-1 instance ${_ENV HOST_TEST}\n", 0o644)
	write("conf.d/b.conf", "include more/c\n", 0o644)
	write("conf.d/more/c", "global_defs {\n router_id c\n}\n", 0o644)
	write("conf.d/a.conf", "use_pid_dir\n", 0o644)
	write("conf.d/run.conf", "foo\n", 0o755)
	write("conf.d/dir.conf/x", "foo\n", 0o644)
	t.Setenv("HOST_TEST", "from-env")

	opts, err := Options(filepath.Join(dir, "had.conf"), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	c, findings := conf.Load(opts)
	if c == nil {
		t.Fatal(findings)
	}
	if c.Global.RouterID != "c" || c.Process.Instance != "from-env" || !c.Process.UsePIDDir {
		t.Errorf("%+v", c.Process)
	}
	var names []string
	for _, name := range c.Files {
		names = append(names, strings.TrimPrefix(name, dir+"/"))
	}
	if got := strings.Join(names, " "); got != "had.conf conf.d/a.conf conf.d/b.conf conf.d/more/c" {
		t.Errorf("files: %s", got)
	}
	var messages []string
	for _, f := range findings {
		if f.Code == "include" {
			messages = append(messages, strings.ReplaceAll(f.String(), dir+"/", ""))
		}
	}
	want := `had.conf:1:9: warning: conf.d/dir.conf is left out: it is a directory [include]
had.conf:1:9: warning: conf.d/run.conf is left out: it is executable [include]
had.conf:2:9: note: no file matches absent [include]`
	if got := strings.Join(messages, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestConfigIDIsTheHostNameUpToItsFirstDot(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Skip("the machine has no name:", err)
	}
	opts, err := Options("x", "")
	if short, _, _ := strings.Cut(name, "."); err != nil || opts.ConfigID != short || opts.Node != name {
		t.Errorf("%q %q: %v", opts.ConfigID, opts.Node, err)
	}
}
