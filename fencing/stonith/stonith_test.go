package stonith

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hactl/had/internal/lab/need"
)

// metadata that the agents of these tests print.
const described = `<?xml version="1.0" ?>
<resource-agent name="fence_fake" shortdesc="A fake" >
<longdesc>none</longdesc>
<parameters>
	<parameter name="ip" unique="0" required="1" obsoletes="ipaddr"><content type="string"  /></parameter>
	<parameter name="ipaddr" unique="0" required="0" deprecated="1"><content type="string"  /></parameter>
	<parameter name="method" unique="0" required="0"><content type="select" default="onoff"><option value="onoff" /><option value="cycle" /></content></parameter>
</parameters>
<actions>
	<action name="on" automatic="0"/>
	<action name="off" />
	STATUS<action name="monitor" />
	<action name="metadata" />
</actions>
</resource-agent>
`

// fake writes an agent: a shell script that has read its lines into a file and finds the action in $action. Its machine
// is a file named power.
func fake(t *testing.T, dir, name, body string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	meta := strings.Replace(described, "STATUS", `<action name="status" />`, 1)
	if strings.Contains(body, "# no status") {
		meta = strings.Replace(described, "STATUS", "", 1)
	}
	text := "#!/bin/sh\ncd " + dir + `
cat >lines.$$
action=$(sed -n 's/^action=//p' lines.$$ | tail -1)
cat lines.$$ >>lines; rm lines.$$
[ "$action" = metadata ] && { cat <<'EOF'
` + meta + "EOF\nexit 0; }\necho \"" + name + " $action\" >>calls\n" + body
	if err := need.Program(path, []byte(text)); err != nil {
		t.Fatal(err)
	}
	return path
}

// The ways of agents.
const (
	honest = `case $action in
off) echo off >power;;
on) echo on >power;;
status) [ "$(cat power)" = off ] && exit 2;;
esac
exit 0
`
	liar    = "[ $action = off ] && exit 0\nexit 0\n" // status: on
	broken  = "echo 'Failed: Unable to connect with secretword' >&2\nexit 1\n"
	garbage = "head -c 300000 /dev/zero | tr '\\0' x\nexit 42\n"
	hanging = "sleep 300 & echo $! >child\nwait\n"
	mute    = "# no status\n[ $action = off ] && echo off >power\nexit 0\n"
	// The exit code says that it failed, and the machine is off: a BMC that answered too late.
	late = "[ $action = off ] && { echo off >power; exit 1; }\n[ \"$(cat power)\" = off ] && exit 2\nexit 0\n"
)

func calls(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "calls"))
	return strings.Join(strings.Split(strings.TrimSpace(string(b)), "\n"), ", ")
}

func TestOffIsBelievedOnlyWhenTheMachineIsOff(t *testing.T) {
	for name, test := range map[string]struct {
		body     string
		verified bool
		says     string // part of the error; empty: it is off
	}{
		"honest":         {honest, true, ""},
		"late":           {late, true, ""},
		"without status": {mute, false, ""},
		"liar":           {liar, false, "says that it has switched lb1 off, and that it is on"},
		"broken":         {broken, false, "exit code 1: Failed: Unable to connect with ***"},
		"garbage":        {garbage, false, "exit code 42: xxx"},
		"hanging":        {hanging, false, "no answer within the timeout"},
		"killed":         {"kill -9 $$\n", false, "killed by signal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			d := Device{Agent: fake(t, dir, "fence_fake", test.body), Level: 1, Timeout: time.Second,
				Options: []Option{{"ip", "192.0.2.1"}, {"password", "secretword"}}}
			if name != "hanging" && name != "liar" {
				d.Timeout = 20 * time.Second
			}
			outcome, err := SwitchOff(t.Context(), "lb1", []Device{d})
			switch {
			case test.says == "" && err != nil:
				t.Fatal(err)
			case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
				t.Fatalf("error %v, want %s", err, test.says)
			case err != nil && (strings.Contains(err.Error(), "secretword") || len(err.Error()) > 600):
				t.Errorf("error %v", err)
			case err == nil && (outcome.Verified != test.verified || outcome.Method != "fence_fake"):
				t.Errorf("outcome %+v", outcome)
			}
			if lines, _ := os.ReadFile(filepath.Join(dir, "lines")); !strings.Contains(string(lines), "ip=192.0.2.1\npassword=secretword\nnodename=lb1\naction=off\n") {
				t.Errorf("lines %s", lines)
			}
		})
	}
}

// TestNothingIsLeftOfAHangingAgent: its children are in its process group.
func TestNothingIsLeftOfAHangingAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := Device{Agent: fake(t, dir, "fence_fake", hanging), Timeout: 500 * time.Millisecond}
	if err := d.Monitor(t.Context(), "lb1"); !errors.Is(err, ErrTimeout) {
		t.Fatalf("error %v", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	for range 100 {
		if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	t.Errorf("child %d of the agent lives on", pid)
}

func TestLevels(t *testing.T) {
	for name, test := range map[string]struct {
		levels []int
		bodies []string
		method string
		calls  string
	}{
		"the second after the first": {[]int{2, 1}, []string{honest, broken}, "fence_0", "fence_1 off, fence_1 status, fence_0 off, fence_0 status"},
		"only the first":             {[]int{1, 2}, []string{honest, honest}, "fence_0", "fence_0 off, fence_0 status"},
		"both of one":                {[]int{1, 1}, []string{honest, honest}, "fence_0 and fence_1", "fence_0 off, fence_0 status, fence_1 off, fence_1 status, fence_0 status"},
		"half of one is nothing":     {[]int{1, 1}, []string{honest, broken}, "", "fence_0 off, fence_0 status, fence_1 off, fence_1 status"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var devices []Device
			for i, body := range test.bodies {
				devices = append(devices, Device{Agent: fake(t, dir, fmt.Sprint("fence_", i), body), Level: test.levels[i], Timeout: 20 * time.Second})
			}
			outcome, err := SwitchOff(t.Context(), "lb1", devices)
			if outcome.Method != test.method || (err == nil) != (test.method != "") {
				t.Errorf("outcome %+v, error %v", outcome, err)
			}
			if got := calls(dir); got != test.calls {
				t.Errorf("calls %s, want %s", got, test.calls)
			}
		})
	}
}

func TestADeviceIsTriedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	body := "[ $action = off ] && [ ! -e again ] && { touch again; exit 1; }\n" + honest
	d := Device{Agent: fake(t, dir, "fence_fake", body), Timeout: 20 * time.Second, Retries: 1}
	if err := os.WriteFile(filepath.Join(dir, "power"), []byte("on"), 0o644); err != nil {
		t.Fatal(err)
	}
	if outcome, err := SwitchOff(t.Context(), "lb1", []Device{d}); err != nil || !outcome.Verified {
		t.Errorf("%+v, %v", outcome, err)
	}
}

func TestACommandIsBelievedByItsExitCode(t *testing.T) {
	t.Parallel()
	for command, fails := range map[string]bool{"true": false, "false": true, "/nowhere/off": true} {
		outcome, err := SwitchOff(t.Context(), "lb1", []Device{{Command: []string{command}, Timeout: 20 * time.Second}})
		if (err != nil) != fails || outcome.Verified {
			t.Errorf("%s: %+v, %v", command, outcome, err)
		}
	}
}

func TestNobodyWithoutADevice(t *testing.T) {
	if _, err := SwitchOff(t.Context(), "lb1", nil); err == nil {
		t.Error("a machine without a fence device is off")
	}
}

func TestSwitchOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := Device{Agent: fake(t, dir, "fence_fake", honest), Timeout: 20 * time.Second}
	bad := Device{Agent: fake(t, dir, "fence_bad", broken), Timeout: 20 * time.Second}
	if err := SwitchOn(t.Context(), "lb1", []Device{good, {Command: []string{"/nowhere"}}}); err != nil {
		t.Error(err)
	}
	if err := SwitchOn(t.Context(), "lb1", []Device{good, bad}); err == nil || !strings.Contains(err.Error(), "fence_bad on: exit code 1") {
		t.Error(err)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	d, err := Describe(t.Context(), fake(t, t.TempDir(), "fence_fake", honest))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.Options(), []string{"ip", "ipaddr", "method"}) || !d.Offers(Status) || d.Short != "A fake" {
		t.Errorf("%+v", d)
	}
	if p := d.Parameters[2]; !slices.Equal(p.Choices, []string{"onoff", "cycle"}) || p.Default != "onoff" {
		t.Errorf("%+v", p)
	}
	for _, text := range []string{"", "garbage", "<resource-agent/>", "<html></html>"} {
		if d, err := parse([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, d)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Describe(ctx, "/bin/true"); err == nil {
		t.Error("no error after the end of the context")
	}
}

func TestSecrets(t *testing.T) {
	for name, secret := range map[string]bool{"password": true, "passwd": true, "snmp_priv_passwd": true, "community": true, "API_token": true,
		"ip": false, "username": false, "plug": false} {
		if SecretName(name) != secret {
			t.Errorf("%s: %v", name, !secret)
		}
	}
	if got := oneLine("a\n b\x1b[1m secret \n\n", []Option{{"password", "secret"}}); got != "b [1m ***" {
		t.Errorf("%q", got)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte(described))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parse(b) })
}

// TestTheAgentsOfTheDistribution: fence_dummy, whose machine is a file, and the description of every agent that is
// installed here.
func TestTheAgentsOfTheDistribution(t *testing.T) {
	const dummy = "/usr/sbin/fence_dummy"
	if _, err := os.Stat(dummy); err != nil {
		t.Skip("fence-agents is not installed")
	}
	t.Parallel()
	status := filepath.Join(t.TempDir(), "power")
	if err := os.WriteFile(status, []byte("on"), 0o644); err != nil {
		t.Fatal(err)
	}
	about, err := Describe(t.Context(), dummy)
	if err != nil || !slices.Contains(about.Options(), "status_file") || !about.Offers(Status) {
		t.Fatalf("%+v, %v", about, err)
	}
	d := Device{Agent: dummy, Options: []Option{{"status_file", status}}, Timeout: time.Minute}
	if power, err := d.Status(t.Context(), "lb1"); power != PowerOn || err != nil {
		t.Fatalf("%s, %v", power, err)
	}
	if outcome, err := SwitchOff(t.Context(), "lb1", []Device{d}); err != nil || !outcome.Verified {
		t.Fatalf("%+v, %v", outcome, err)
	}
	if power, err := d.Status(t.Context(), "lb1"); power != PowerOff || err != nil {
		t.Fatalf("%s, %v", power, err)
	}
	if err := SwitchOn(t.Context(), "lb1", []Device{d}); err != nil {
		t.Fatal(err)
	}
	if power, err := d.Status(t.Context(), "lb1"); power != PowerOn || err != nil {
		t.Fatalf("%s, %v", power, err)
	}
	d.Options = append(d.Options, Option{"type", "fail"}, Option{"power_timeout", "1"})
	if outcome, err := SwitchOff(t.Context(), "lb1", []Device{d}); err == nil {
		t.Errorf("an agent that fails gives %+v", outcome)
	}
}
