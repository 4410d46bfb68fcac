package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// cgroups is where the control groups of hosts are mounted.
const cgroups = RunDir + "/cgroup"

// mountCgroups mounts them, once, with the controller of memory. There is one tree of control groups, whatever the namespaces.
var mountCgroups = sync.OnceValue(func() error {
	if err := os.MkdirAll(cgroups, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("cgroup2", cgroups, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount control groups on %s: %w", cgroups, err)
	}
	return os.WriteFile(filepath.Join(cgroups, "cgroup.subtree_control"), []byte("+memory"), 0)
})

// Cgroup is a control group (version 2) of what runs on a host. It ends with the host.
type Cgroup struct {
	path string
	dir  *os.File
}

// Confine puts whatever is started on the host from now on into a control group, which limits nothing yet. It takes the root of the tree
// of control groups, and with it a machine that nobody else uses.
func (h *Host) Confine() (*Cgroup, error) {
	if err := mountCgroups(); err != nil {
		return nil, err
	}
	path := filepath.Join(cgroups, h.name)
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a control group: %w", err), os.Remove(path))
	}
	h.group = &Cgroup{path: path, dir: dir}
	return h.group, nil
}

// Set writes one of the group's files: "cgroup.freeze", "memory.max".
func (c *Cgroup) Set(name, value string) error {
	return os.WriteFile(filepath.Join(c.path, name), []byte(value), 0)
}

// Get reads one of the group's files.
func (c *Cgroup) Get(name string) (string, error) {
	value, err := os.ReadFile(filepath.Join(c.path, name))
	return string(value), err
}

// remove kills what is left in the group and removes it.
func (c *Cgroup) remove() error {
	c.dir.Close()
	if err := c.Set("cgroup.kill", "1"); err != nil {
		return err
	}
	for deadline := time.Now().Add(reapLimit); ; time.Sleep(time.Millisecond) {
		if err := os.Remove(c.path); !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}
