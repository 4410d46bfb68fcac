package stonith

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Outcome is how a machine was switched off.
type Outcome struct {
	Method   string // the devices that did it
	Verified bool   // each of them says that the machine is off, too
}

const (
	retryPause = time.Second            // before an action is tried again
	lookPause  = 500 * time.Millisecond // between two looks at a machine that is still going down
)

// SwitchOff switches a node off: with all devices of the lowest level, else with all of the next one, and so on. The
// error says why each of them has failed; then nothing is known of the node.
func SwitchOff(ctx context.Context, node string, devices []Device) (Outcome, error) {
	var failed []error
	for _, level := range levels(devices) {
		outcome, err := level.off(ctx, node)
		if err == nil {
			return outcome, nil
		}
		failed = append(failed, fmt.Errorf("level %d: %w", level[0].Level, err))
		if ctx.Err() != nil {
			break
		}
	}
	if failed == nil {
		return Outcome{}, errors.New("it has no fence device")
	}
	return Outcome{}, joined(failed)
}

// joined is several errors in one line.
func joined(all []error) error {
	texts := make([]string, len(all))
	for i, err := range all {
		texts[i] = err.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}

// level is the devices of one level: a machine with two power supplies has two.
type level []Device

// levels groups devices, the lowest level first.
func levels(devices []Device) (all []level) {
	sorted := slices.Clone(devices)
	slices.SortStableFunc(sorted, func(a, b Device) int { return a.Level - b.Level })
	for _, d := range sorted {
		if n := len(all); n > 0 && all[n-1][0].Level == d.Level {
			all[n-1] = append(all[n-1], d)
		} else {
			all = append(all, level{d})
		}
	}
	return all
}

func (l level) off(ctx context.Context, node string) (Outcome, error) {
	outcome := Outcome{Verified: true}
	var names []string
	for _, d := range l {
		verified, err := d.off(ctx, node)
		if err != nil {
			return Outcome{}, err
		}
		outcome.Verified = outcome.Verified && verified
		names = append(names, d.Name())
	}
	// The first of two power supplies may have been switched on again while the second one was at work.
	for _, d := range l[:len(l)-1] {
		if d.Agent == "" {
			continue
		}
		if power, err := d.Status(ctx, node); err == nil && power == PowerOn {
			return Outcome{}, fmt.Errorf("%s: it is on again", d.Name())
		}
	}
	outcome.Method = strings.Join(names, " and ")
	return outcome, nil
}

// off switches a node off with one device, with its retries.
func (d Device) off(ctx context.Context, node string) (verified bool, err error) {
	for try := range d.Retries + 1 {
		if try > 0 && !pause(ctx, retryPause) {
			return false, ctx.Err()
		}
		if verified, err = d.offOnce(ctx, node); err == nil {
			return verified, nil
		}
	}
	return false, err
}

func (d Device) offOnce(ctx context.Context, node string) (verified bool, err error) {
	r, err := d.ask(ctx, Off, node)
	failed := d.done(Off, r, err)
	if d.Agent == "" {
		return false, failed
	}
	if about, err := Describe(ctx, d.Agent); err == nil && !about.Offers(Status) {
		return false, failed // and its word is all that there is
	}
	// A device that did not get to an end may have done its work all the same: what it says of the machine counts.
	patience := time.Now().Add(d.Timeout)
	for {
		power, err := d.Status(ctx, node)
		switch {
		case power == PowerOff:
			return true, nil
		case failed != nil:
			return false, failed
		case err != nil:
			return false, fmt.Errorf("it says that it has switched %s off, but not whether it is: %w", node, err)
		case time.Now().After(patience):
			return false, fmt.Errorf("%s says that it has switched %s off, and that it is on", d.Name(), node)
		}
		if !pause(ctx, lookPause) {
			return false, ctx.Err()
		}
	}
}

// SwitchOn switches a node on with all its devices: a power supply, or the port of a switch that was shut.
func SwitchOn(ctx context.Context, node string, devices []Device) error {
	var failed []error
	for _, d := range devices {
		if d.Agent == "" {
			continue // a command only knows how to switch off
		}
		r, err := d.ask(ctx, On, node)
		if err := d.done(On, r, err); err != nil {
			failed = append(failed, err)
		}
	}
	if failed != nil {
		return joined(failed)
	}
	return nil
}

// pause waits. It returns false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
