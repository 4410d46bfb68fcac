//go:build integ

package integ

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/need"
	"github.com/hactl/had/internal/lab/site"
	"github.com/hactl/had/internal/lab/vm"
)

const (
	dogFed     = "the watchdog was fed all the time"
	dogStarves = "the owner is frozen"
	dogMissed  = "the machine is still there"
)

// A kernel's watchdog resets the machine of an owner that is frozen, and no other: the test runs in a virtual machine, with all
// nodes, and ends with it.
func TestVMWatchdog(t *testing.T) {
	if vm.Inside() {
		starve(t)
		return
	}
	if err := vm.Unavailable(); err != nil {
		need.Skip(t, "%v", err)
	}
	p := programs()
	m := vm.Machine{Modules: append([]string{"softdog"}, modules...), Programs: map[string]string{
		"had": p.Had, "hawitness": p.Hawitness, "hactl": p.Hactl}}
	ctx, cancel := context.WithTimeout(t.Context(), vmLimit)
	defer cancel()
	var out bytes.Buffer
	code, err := m.Boot(ctx, &out, "-test.v", "-test.run=^"+t.Name()+"$")
	said := out.String()
	if code != -1 || err != nil || !strings.Contains(said, dogFed) || !strings.Contains(said, dogStarves) || strings.Contains(said, dogMissed) {
		t.Errorf("the machine was not reset when it should be: exit code %d, %v\n%s", code, err, said)
	}
}

// starve freezes an owner that has the watchdog.
func starve(t *testing.T) {
	const timeout = time.Second // the shortest that there is
	s := setUp(t, func(p *site.Plan) { p.Period = 5 * time.Millisecond })
	dog := s.Directors()[0]
	file := strings.Replace(s.Configuration(dog), "cluster {\n", fmt.Sprintf("cluster {\n    watchdog /dev/watchdog %d\n", timeout/time.Second), 1)
	if err := errors.Join(os.WriteFile(dog.Config(), []byte(file), 0o600), s.StartAll()); err != nil {
		t.Fatal(err)
	}
	if owner, _ := awaitWhole(t, s); owner != dog {
		move(t, s, owner, dog)
	}
	time.Sleep(10 * timeout)
	fmt.Println(dogFed)
	os.Stdout.Sync()
	if err := s.Freeze(dog); err != nil {
		t.Fatal(err)
	}
	fmt.Println(dogStarves)
	time.Sleep(12 * timeout)
	fmt.Println(dogMissed)
}
