// Package ipvs is the door to the kernel's IPVS.
//
// github.com/moby/ipvs reports success for everything on a kernel without IPVS, so nobody may use it before Probe has
// found the kernel's side.
package ipvs

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// UnsupportedError says that this kernel has no IPVS, or that the process may not ask for it.
type UnsupportedError struct{ Cause error }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("the kernel has no IPVS: %v; load the module ip_vs, or use a kernel that has it", e.Cause)
}

func (e *UnsupportedError) Unwrap() error { return e.Cause }

// Probe asks the kernel for IPVS in the network namespace of the calling thread. The error is an *UnsupportedError. It
// needs no privilege, and may be called at any time: a module that is loaded later is found then.
func Probe() error {
	if _, err := netlink.GenlFamilyGet("IPVS"); err != nil {
		return &UnsupportedError{Cause: err}
	}
	return nil
}
