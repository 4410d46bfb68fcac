//go:build integ

package observer

import (
	"os"
	"testing"

	"github.com/hactl/had/internal/lab"
)

func TestMain(m *testing.M) {
	MaybeRun()
	os.Exit(lab.Main(m.Run))
}
