//go:build integ

package notify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hactl/had/internal/lab/need"
)

// nobody is the number of the user and group nobody; any number without rights would do.
const nobody = 65534

func TestAScriptRunsAsTheUserAndGroupsConfiguredForIt(t *testing.T) {
	if os.Geteuid() != 0 {
		need.Skip(t, "needs root to change the user of a process")
	}
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	script := shell(t, dir, `{ id -u; id -g; id -G; } > "$out"`)
	script.Identity = Identity{UID: nobody, GID: nobody, Groups: []uint32{12345}}
	if o := runJob(t, &Runner{}, t.Context(), Job{Script: script}); !o.OK() {
		t.Fatalf("outcome %+v", o)
	}
	if got := strings.Fields(output(t, dir)); strings.Join(got, " ") != "65534 65534 65534 12345" {
		t.Errorf("user, group, groups: %v", got)
	}
	script.Identity.Groups = nil
	if o := runJob(t, &Runner{}, t.Context(), Job{Script: script}); o.OK() {
		t.Log("the file of the first run belongs to the same user")
	}
	if got := strings.Fields(output(t, dir)); strings.Join(got, " ") != "65534 65534 65534" {
		t.Errorf("user, group, groups without supplementary ones: %v", got)
	}
}

func TestAScriptIsResolvedWithTheRightsOfItsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		need.Skip(t, "needs root to make a file that others may not reach")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Resolve([]string{path}, Self(), ResolveOptions{}); err != nil {
		t.Errorf("as root: %v", err)
	}
	if _, err := Resolve([]string{path}, Identity{UID: nobody, GID: nobody}, ResolveOptions{}); err == nil {
		t.Error("found through a directory that its user may not enter")
	}
}

func TestAPipeGetsItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		need.Skip(t, "needs root to give a file away")
	}
	fifo, err := OpenFIFO(filepath.Join(t.TempDir(), "fifo"), &Identity{UID: nobody, GID: nobody})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fifo.Close() }()
	st, err := stat(fifo.Path())
	if err != nil || st.Uid != nobody || st.Gid != nobody {
		t.Errorf("owner %d, group %d, %v", st.Uid, st.Gid, err)
	}
}
