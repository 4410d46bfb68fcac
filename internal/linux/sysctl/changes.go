package sysctl

import "errors"

// Changes sets parameters and remembers what they were, so that they can be put back. The zero Changes is ready for use.
// It is not safe for concurrent use.
type Changes struct{ made []change }

type change struct {
	parameter   Parameter
	before, now string
}

// Set writes the value unless the parameter has it.
func (c *Changes) Set(p Parameter, value string) error {
	before, err := p.Get()
	if err != nil || before == value {
		return err
	}
	if err := p.Set(value); err != nil {
		return err
	}
	c.made = append(c.made, change{p, before, value})
	return nil
}

// Restore puts back what Set has changed, the newest first. What somebody else has changed since stays, and what is gone
// with its interface is no error.
func (c *Changes) Restore() error {
	var errs []error
	for i := len(c.made) - 1; i >= 0; i-- {
		ch := c.made[i]
		now, err := ch.parameter.Get()
		if err == nil && now == ch.now {
			err = ch.parameter.Set(ch.before)
		}
		if !errors.Is(err, ErrNotExist) {
			errs = append(errs, err)
		}
	}
	c.made = nil
	return errors.Join(errs...)
}
