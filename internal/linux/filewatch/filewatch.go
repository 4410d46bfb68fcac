// Package filewatch follows the content of small files by inotify.
//
// A file is followed by its path, whatever happens to it: it may be absent, written, replaced by renaming, be a symbolic
// link that is pointed elsewhere, and so may every directory above it. While a file is being written its old content
// counts; the new one does when the writer closes it.
package filewatch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	contentLimit = 4096 // bytes of a file that are read
	linkLimit    = 40   // symbolic links in one path, as in the kernel

	changes = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
		unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
)

// Content is what a file holds.
type Content struct {
	// Text is the beginning of the file, at most 4096 bytes. It is empty for a file that is absent or cannot be read.
	Text string

	// Err is why a file cannot be read. An absent file is no error.
	Err error
}

// Watcher follows files. Make one with Open, then call Run once.
type Watcher struct {
	paths   []string // absolute
	content []Content
	inotify *os.File
	fd      int
	entries map[entry][]int // files whose content an entry of a directory may change, by index
	watches map[int]bool    // watch descriptors
}

// entry is a name in a watched directory.
type entry struct {
	watch int
	name  string // empty: the directory itself
}

// Open reads the files for the first time and begins to follow them. It waits for the file system. Run must be called
// next; it closes what Open opened.
func Open(paths []string) (*Watcher, error) {
	w := &Watcher{content: make([]Content, len(paths)), watches: map[int]bool{}}
	for _, path := range paths {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("follow file %s: %w", path, err)
		}
		w.paths = append(w.paths, abs)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open inotify: %w", err)
	}
	w.fd, w.inotify = fd, os.NewFile(uintptr(fd), "inotify")
	if err := w.place(); err != nil {
		return nil, errors.Join(err, w.inotify.Close())
	}
	for i := range w.paths {
		w.content[i] = read(w.paths[i])
	}
	return w, nil
}

// Content returns what the files held when they were opened, in the order of their paths. It may be called until Run.
func (w *Watcher) Content() []Content { return slices.Clone(w.content) }

// Run reports every change of a file's content, by its index among the paths, on the calling goroutine, until ctx is done;
// then it returns nil. It waits for the file system. An error means that files are not followed any more.
func (w *Watcher) Run(ctx context.Context, report func(file int, c Content)) error {
	stop := context.AfterFunc(ctx, func() { _ = w.inotify.Close() })
	defer func() {
		if stop() {
			_ = w.inotify.Close()
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := w.inotify.Read(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("follow files: %w", err)
		}
		touched := w.touched(buffer[:n])
		if len(touched) == 0 {
			continue
		}
		if err := w.place(); err != nil {
			return err
		}
		for i := range w.paths {
			if !touched[i] {
				continue
			}
			if c := read(w.paths[i]); c.Text != w.content[i].Text || (c.Err == nil) != (w.content[i].Err == nil) {
				w.content[i] = c
				report(i, c)
			}
		}
	}
}

// touched returns the files that events may concern.
func (w *Watcher) touched(events []byte) map[int]bool {
	touched := map[int]bool{}
	for len(events) >= unix.SizeofInotifyEvent {
		watch := int(int32(binary.NativeEndian.Uint32(events)))
		mask := binary.NativeEndian.Uint32(events[4:])
		length := int(binary.NativeEndian.Uint32(events[12:]))
		name := unix.ByteSliceToString(events[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+length])
		events = events[unix.SizeofInotifyEvent+length:]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			for i := range w.paths {
				touched[i] = true
			}
			continue
		case mask&unix.IN_IGNORED != 0:
			delete(w.watches, watch)
		}
		for _, i := range w.entries[entry{watch, name}] {
			touched[i] = true
		}
	}
	return touched
}

// place watches every directory that a path leads through, in the order of the path, so that nothing that happens after a
// look into a directory is missed. Directories that no path leads through any more are let go.
func (w *Watcher) place() error {
	w.entries = map[entry][]int{}
	before := w.watches
	w.watches = map[int]bool{}
	for i, path := range w.paths {
		if err := w.follow(i, path); err != nil {
			return fmt.Errorf("follow file %s: %w", path, err)
		}
	}
	for watch := range before {
		if !w.watches[watch] {
			_, _ = unix.InotifyRmWatch(w.fd, uint32(watch)) // the directory may be gone
		}
	}
	return nil
}

// follow watches the directories that a path leads through, as far as they exist.
func (w *Watcher) follow(file int, path string) error {
	dir, rest, links := "/", strings.TrimLeft(path, "/"), 0
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir)
			continue
		}
		watch, err := unix.InotifyAddWatch(w.fd, dir, changes|unix.IN_ONLYDIR)
		switch {
		case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM):
			return err
		case err != nil:
			return nil // gone meanwhile, or not to be looked into: the directory above tells when that changes
		}
		w.watches[watch] = true
		for _, e := range []entry{{watch, name}, {watch, ""}} {
			w.entries[e] = append(w.entries[e], file)
		}
		place := filepath.Join(dir, name)
		target, err := os.Readlink(place)
		switch {
		case err != nil:
			dir = place // no link, or absent
		case links == linkLimit:
			return nil
		case filepath.IsAbs(target):
			dir, rest, links = "/", target+"/"+rest, links+1
		default:
			rest, links = target+"/"+rest, links+1
		}
	}
	return nil
}

// read returns the content of a file. Pipes and devices are not opened.
func read(path string) Content {
	text, err := readRegular(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		err = nil
	}
	return Content{text, err}
}

func readRegular(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, contentLimit))
	return string(text), err
}
