package track

import (
	"math"
	"strings"
)

// Limits of priorities and of the contribution of one file. The priority of an owner is fixed.
const (
	priorityMin   = 1
	priorityMax   = 254
	priorityOwner = 255

	fileFault = -254 // a contribution so low is a fault
	fileMax   = 253  // a greater contribution counts as this
)

// Object is a script, an interface, a process or a BFD session as one router tracks it.
type Object struct {
	Name string // for the reasons of a fault, such as "script chk_haproxy"

	// Weight changes the priority: a positive one is added while the object is good, a negative one while it has failed.
	// With weight 0 a failure is a fault.
	Weight int

	// Reverse inverts the sign of what is added. With weight 0 being good is the fault.
	Reverse bool

	Condition Condition
}

// File is a tracked file as one router tracks it.
type File struct {
	Name string

	// Weight is multiplied with the value and added to the priority. A product of -254 or less is a fault and adds
	// nothing, one above 253 counts as 253. With weight 0 any value but 0 is a fault.
	Weight int

	// Reverse inverts the sign of the product. With weight 0 the value 0 is the fault.
	Reverse bool

	Value int32
}

// Outcome is what the tracked objects do to a router.
type Outcome struct {
	// Priority is the effective priority: 1 to 254, or 255 for an owner.
	Priority uint8

	// Faults names the objects that keep the router from running, in the order given. The last to leave lifts the fault.
	Faults []string

	// Waiting names the objects without a first result that keep the router from starting, in the order given.
	Waiting []string
}

// Evaluate returns the outcome for a router of a base priority of 1 to 255. The priority of an owner never changes;
// faults concern it as they do any other.
func Evaluate(base uint8, objects []Object, files []File) Outcome {
	var out Outcome
	sum := int64(base)
	for _, o := range objects {
		switch {
		case o.Condition == Pending:
		case o.Condition == Unknown:
			if o.Weight == 0 {
				out.Waiting = append(out.Waiting, o.Name)
			}
		case o.Weight == 0:
			if (o.Condition == Good) == o.Reverse {
				out.Faults = append(out.Faults, o.Name)
			}
		case (o.Condition == Good) == (o.Weight > 0):
			sum += signed(int64(o.Weight), o.Reverse)
		}
	}
	for _, f := range files {
		if f.Weight == 0 {
			if (f.Value == 0) == f.Reverse {
				out.Faults = append(out.Faults, f.Name)
			}
			continue
		}
		product := signed(int64(f.Value)*int64(f.Weight), f.Reverse)
		if product <= fileFault {
			out.Faults = append(out.Faults, f.Name)
			continue
		}
		sum += min(product, fileMax)
	}
	out.Priority = priorityOwner
	if base != priorityOwner {
		out.Priority = uint8(min(max(sum, priorityMin), priorityMax))
	}
	return out
}

func signed(contribution int64, reverse bool) int64 {
	if reverse {
		return -contribution
	}
	return contribution
}

// FileValue returns the integer that a tracked file begins with: decimal, hexadecimal after 0x, octal after 0, with a sign
// and blanks before it. What follows it does not count. An empty file and one that begins otherwise are 0; a number beyond
// 32 bits is the nearest that fits.
func FileValue(content string) int32 {
	text := strings.TrimLeft(content, " \t\n\v\f\r")
	digits, negative := strings.CutPrefix(text, "-")
	if !negative {
		digits, _ = strings.CutPrefix(text, "+")
	}
	base := int64(10)
	switch {
	case len(digits) > 2 && (digits[:2] == "0x" || digits[:2] == "0X"):
		base, digits = 16, digits[2:]
	case strings.HasPrefix(digits, "0"):
		base = 8
	}
	var n int64
	for _, c := range []byte(digits) {
		d := digit(c)
		if d >= base {
			break
		}
		n = min(n*base+d, -math.MinInt32)
	}
	if negative {
		return int32(-n)
	}
	return int32(min(n, math.MaxInt32))
}

// digit is the value of a digit; one that is none has the value of no base's.
func digit(c byte) int64 {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0')
	case c >= 'a' && c <= 'f':
		return int64(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int64(c-'A') + 10
	}
	return math.MaxInt32
}
