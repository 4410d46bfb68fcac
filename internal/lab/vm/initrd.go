package vm

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	modulesDir = "/modules"
	// moduleOrder names the file in modulesDir that lists the modules in the order in which they are to be loaded.
	moduleOrder = "order"
)

// writeInitrd writes the initial file system. modules is the directory that has the kernel's.
func (m Machine) writeInitrd(to io.Writer, modules string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := archive{seen: map[string]bool{}}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run", "/tmp", "/etc"} {
		c.directory(dir)
	}
	c.file("/etc/passwd", []byte("root:x:0:0:root:/:/bin/sh\n"))
	c.file("/etc/group", []byte("root:x:0:\n"))
	programs := map[string]string{"/init": self}
	for name, file := range m.Programs {
		programs[filepath.Join(Programs, name)] = file
	}
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		if err := c.program(name, programs[name]); err != nil {
			return err
		}
	}
	files, err := moduleFiles(modules, m.Modules)
	if err != nil {
		return err
	}
	var order []string
	for _, file := range files {
		order = append(order, filepath.Base(file))
		if err := c.copy(filepath.Join(modulesDir, filepath.Base(file)), file); err != nil {
			return err
		}
	}
	c.file(filepath.Join(modulesDir, moduleOrder), []byte(strings.Join(order, "\n")))
	c.end()
	_, err = to.Write(c.Bytes())
	return err
}

// moduleFiles finds the modules and what they depend on, in the order in which they are to be loaded.
func moduleFiles(root string, names []string) ([]string, error) {
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && err == nil {
			all[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var files []string
	var add func(name string) error
	add = func(name string) error {
		path, ok := all[strings.ReplaceAll(name, "-", "_")]
		if !ok || slices.Contains(files, path) {
			return nil // built into the kernel
		}
		f, err := elf.Open(path)
		if err != nil {
			return fmt.Errorf("read module %s: %w", path, err)
		}
		defer f.Close()
		info, err := f.Section(".modinfo").Data()
		if err != nil {
			return fmt.Errorf("read module %s: %w", path, err)
		}
		for field := range bytes.SplitSeq(info, []byte{0}) {
			if names, ok := strings.CutPrefix(string(field), "depends="); ok && names != "" {
				for dependency := range strings.SplitSeq(names, ",") {
					if err := add(dependency); err != nil {
						return err
					}
				}
			}
		}
		files = append(files, path)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// archive is a cpio archive in the format that the kernel unpacks (newc).
type archive struct {
	bytes.Buffer
	inode int
	seen  map[string]bool // by path
}

// program adds a program with the loader and the libraries that it needs, which keep the paths that they have outside.
func (a *archive) program(path, file string) error {
	f, err := elf.Open(file)
	if err != nil {
		return fmt.Errorf("read program %s: %w", file, err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		out, err := exec.Command("ldd", file).Output()
		if err != nil {
			return fmt.Errorf("find the libraries of %s: %w", file, err)
		}
		for field := range strings.FieldsSeq(string(out)) {
			if filepath.IsAbs(field) {
				if err := a.copy(field, field); err != nil {
					return err
				}
			}
		}
	}
	return a.copy(path, file)
}

// copy adds a file from outside, once.
func (a *archive) copy(path, file string) error {
	if a.seen[path] {
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	a.file(path, data)
	return nil
}

func (a *archive) file(path string, data []byte) {
	a.directory(filepath.Dir(path))
	a.add(path, 0o100755, data)
}

// directory adds a directory and those that it is in, once.
func (a *archive) directory(path string) {
	if path == "/" || a.seen[path] {
		return
	}
	a.directory(filepath.Dir(path))
	a.add(path, 0o40755, nil)
}

func (a *archive) end() { a.add("/TRAILER!!!", 0, nil) }

func (a *archive) add(path string, mode int, data []byte) {
	a.seen[path] = true
	a.inode++
	name := strings.TrimPrefix(path, "/")
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0,
		len(name)+1, 0)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(data)
	a.pad()
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad() {
	for a.Len()%4 != 0 {
		a.WriteByte(0)
	}
}
