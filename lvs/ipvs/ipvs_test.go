package ipvs

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestAKernelWithoutIPVSIsNotTakenForOneThatHasIt(t *testing.T) {
	_, statErr := os.Stat("/proc/net/ip_vs") // what ipvsadm looks at
	err := Probe()
	if (err == nil) != (statErr == nil) {
		t.Fatalf("Probe says %v, /proc/net/ip_vs says %v", err, statErr)
	}
	var unsupported *UnsupportedError
	if err != nil && (!errors.As(err, &unsupported) || !strings.Contains(err.Error(), "ip_vs")) {
		t.Fatalf("the error does not say what to do: %v", err)
	}
}
