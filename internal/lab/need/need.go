// Package need decides what a test does that needs something which this machine lacks: loop devices, an emulator, stock keepalived,
// the right to make namespaces. It is skipped, unless HAD_NO_SKIP is set, as `make test` does on machines that have it all:
// then a proof that is missing is a failure.
package need

import (
	"fmt"
	"os"
	"testing"
)

// Skip ends the calling test: it is skipped, or it fails.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if strict() {
		t.Fatalf("HAD_NO_SKIP is set, so this test must not be skipped: %s", reason)
	}
	t.Skip(reason)
}

// Missing says on the standard output why a whole test program does not run, and returns its exit code.
func Missing(reason error) int {
	if strict() {
		fmt.Println("HAD_NO_SKIP is set, so these tests must not be skipped:", reason)
		return 1
	}
	fmt.Println("skipped:", reason)
	return 0
}

func strict() bool { return os.Getenv("HAD_NO_SKIP") != "" }
