// Package watchdog feeds a Linux watchdog device: a timer, in hardware or in the kernel (softdog), that resets the machine
// unless it is written to in time. It covers what nobody in user space can: a daemon that hangs while addresses are there.
package watchdog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Device is a watchdog that runs. One goroutine uses it.
type Device struct {
	file *os.File
	path string
}

// Open starts a watchdog: from here on the machine is reset when Feed is not called for timeout, which is rounded to
// seconds. The error says why it cannot be used: it is not there, somebody else has it, it cannot be stopped again
// (nowayout, so that a clean stop would reset the machine), or it does not take that timeout. It is not running then.
func Open(path string, timeout time.Duration) (*Device, error) {
	if nowayout(path) {
		return nil, fmt.Errorf("watchdog %s: it cannot be stopped once it runs (nowayout): every stop of had would reset the machine", path)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	switch {
	case errors.Is(err, syscall.EBUSY):
		return nil, fmt.Errorf("watchdog %s: somebody else feeds it already", path)
	case err != nil:
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	d := &Device{file: file, path: path}
	if err := d.configure(int(timeout.Round(time.Second) / time.Second)); err != nil {
		return nil, errors.Join(fmt.Errorf("watchdog %s: %w", path, err), d.Close())
	}
	return d, nil
}

// configure checks what the device can do, and sets its timeout.
func (d *Device) configure(seconds int) error {
	fd := int(d.file.Fd())
	info, err := unix.IoctlGetWatchdogInfo(fd)
	switch {
	case err != nil:
		return fmt.Errorf("it is no watchdog: %w", err)
	case info.Options&unix.WDIOF_MAGICCLOSE == 0:
		return errors.New("it cannot be stopped once it runs: every stop of had would reset the machine")
	case info.Options&unix.WDIOF_SETTIMEOUT == 0:
		return errors.New("its timeout cannot be set")
	}
	if err := unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		return fmt.Errorf("it does not take a timeout of %d s: %w", seconds, err)
	}
	if got, err := unix.IoctlGetInt(fd, unix.WDIOC_GETTIMEOUT); err != nil || got != seconds {
		return fmt.Errorf("its timeout is %d s, and not %d s (error: %v)", got, seconds, err)
	}
	return unix.IoctlWatchdogKeepalive(fd)
}

// Feed puts the reset off for another timeout.
func (d *Device) Feed() error { return unix.IoctlWatchdogKeepalive(int(d.file.Fd())) }

// Close stops the watchdog.
func (d *Device) Close() error {
	_, err := d.file.WriteString("V") // the magic character
	if err := errors.Join(err, d.file.Close()); err != nil {
		return fmt.Errorf("watchdog %s does not stop: %w", d.path, err)
	}
	return nil
}

// nowayout tells whether a device can never be stopped, as far as the kernel says so.
func nowayout(path string) bool {
	name := filepath.Base(path)
	if name == "watchdog" {
		name = "watchdog0" // the old name of the first one
	}
	b, err := os.ReadFile(filepath.Join("/sys/class/watchdog", name, "nowayout"))
	return err == nil && strings.TrimSpace(string(b)) == "1"
}
