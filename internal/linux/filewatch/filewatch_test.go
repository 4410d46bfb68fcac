package filewatch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = 10 * time.Second

// bench is a directory with files that are followed.
type bench struct {
	t       *testing.T
	dir     string
	reports chan string
}

// follow follows files of a directory that prepare has filled.
func follow(t *testing.T, prepare func(b *bench), names ...string) *bench {
	b := &bench{t: t, dir: t.TempDir(), reports: make(chan string, 64)}
	if prepare != nil {
		prepare(b)
	}
	var paths []string
	for _, name := range names {
		paths = append(paths, b.path(name))
	}
	w, err := Open(paths)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range w.Content() {
		b.reports <- describe(names[i], c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, func(i int, c Content) { b.reports <- describe(names[i], c) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return b
}

func describe(name string, c Content) string {
	if c.Err != nil {
		return name + " fails"
	}
	return name + "=" + c.Text
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) write(name, text string) { b.must(os.WriteFile(b.path(name), []byte(text), 0o644)) }

// expect asserts the next reports.
func (b *bench) expect(reports ...string) {
	b.t.Helper()
	for _, want := range reports {
		select {
		case got := <-b.reports:
			if got != want {
				b.t.Fatalf("reported %q, want %q", got, want)
			}
		case <-time.After(patience):
			b.t.Fatalf("%q was not reported", want)
		}
	}
}

func TestWritingReplacingAndRemoving(t *testing.T) {
	t.Parallel()
	b := follow(t, func(b *bench) { b.write("a", "1") }, "a", "b")
	b.expect("a=1", "b=")
	b.write("a", "2")
	b.expect("a=2")
	b.write("b", "3")
	b.expect("b=3")
	b.write("new", "4")
	b.must(os.Rename(b.path("new"), b.path("a")))
	b.expect("a=4")
	b.must(os.Remove(b.path("a")))
	b.expect("a=")
	b.must(os.Link(b.path("b"), b.path("a")))
	b.expect("a=3")
	b.must(os.Rename(b.path("a"), b.path("elsewhere"))) // two names of one file: removed by rename
	b.expect("a=")
}

func TestTheOldContentCountsWhileAFileIsWritten(t *testing.T) {
	t.Parallel()
	b := follow(t, func(b *bench) { b.write("a", "1"); b.write("b", "1") }, "a", "b")
	b.expect("a=1", "b=1")
	file, err := os.OpenFile(b.path("a"), os.O_WRONLY|os.O_TRUNC, 0)
	b.must(err)
	b.write("b", "2") // is looked at meanwhile
	b.expect("b=2")
	_, err = fmt.Fprint(file, "7")
	b.must(err)
	b.write("b", "3")
	b.expect("b=3")
	b.must(file.Close())
	b.expect("a=7")
}

func TestDirectoriesComeAndGo(t *testing.T) {
	t.Parallel()
	b := follow(t, nil, "x/y/a")
	b.expect("x/y/a=")
	b.must(os.MkdirAll(b.path("x/y"), 0o755))
	b.write("x/y/a", "1")
	b.expect("x/y/a=1")
	b.must(os.Rename(b.path("x"), b.path("z")))
	b.expect("x/y/a=")
	b.write("z/y/a", "2") // of no interest under this name
	b.must(os.Rename(b.path("z"), b.path("x")))
	b.expect("x/y/a=2")
	b.must(os.RemoveAll(b.path("x")))
	b.expect("x/y/a=")
	b.must(os.MkdirAll(b.path("x/y"), 0o755))
	b.write("x/y/a", "3")
	b.expect("x/y/a=3")
}

// A configuration map of Kubernetes is a link to a directory that is exchanged as a whole.
func TestSymbolicLinksAreFollowed(t *testing.T) {
	t.Parallel()
	b := follow(t, func(b *bench) {
		for _, version := range []string{"v1", "v2"} {
			b.must(os.Mkdir(b.path(version), 0o755))
			b.write(version+"/a", version)
		}
		b.must(os.Symlink("v1", b.path("now")))
		b.must(os.Symlink("now/a", b.path("a")))
	}, "a")
	b.expect("a=v1")
	b.must(os.Symlink("v2", b.path("next")))
	b.must(os.Rename(b.path("next"), b.path("now")))
	b.expect("a=v2")
	b.write("v2/a", "5")
	b.expect("a=5")
	b.must(os.Remove(b.path("a")))
	b.expect("a=")
	b.must(os.Symlink(b.path("a"), b.path("a"))) // leads nowhere
	b.expect("a fails")
}

func TestWhatIsNoRegularFileIsNotRead(t *testing.T) {
	t.Parallel()
	b := follow(t, func(b *bench) { b.must(os.Mkdir(b.path("d"), 0o755)) }, "d", "d/a")
	b.expect("d fails", "d/a=")
	b.must(os.Remove(b.path("d")))
	b.expect("d=")
	b.write("d", strings.Repeat("9", 2*contentLimit))
	b.expect("d=" + strings.Repeat("9", contentLimit))
}
