//go:build interop

package interop_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/hactl/had/internal/lab"
)

// labs is the number of LANs that are alive at the same time: their tests wait more than they work.
const labs = "4"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", labs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(lab.Main(m.Run))
}
