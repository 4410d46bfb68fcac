//go:build interop

package interop_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	hadconf "github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/conf/host"
)

// TestKeepalivedsSamplesLoad: what keepalived is delivered with loads, but for words that had refuses on purpose, and none of
// it is unknown, unless keepalived does not know it either.
func TestKeepalivedsSamplesLoad(t *testing.T) {
	t.Parallel()
	const directory = "/usr/share/doc/keepalived/samples"
	files, err := filepath.Glob(directory + "/keepalived.conf.*")
	if err != nil || len(files) == 0 {
		t.Skipf("there are no samples in %s", directory)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		opts, err := host.Options(name, "lb1")
		if err != nil {
			t.Fatal(err)
		}
		cfg, findings := hadconf.Load(opts)
		refused := false
		for _, f := range findings {
			switch {
			case f.Code == hadconf.CodeUnsupported:
				refused = true
			case f.Fatal:
				t.Errorf("%v", f)
			case f.Code == hadconf.CodeUnknownBlock:
				t.Errorf("%v", f)
			}
		}
		if (cfg == nil) != refused {
			t.Errorf("%s: loads %v, with words that are refused %v", filepath.Base(name), cfg != nil, refused)
		}
		if instances := bytes.Count(content, []byte("\nvrrp_instance ")); cfg != nil && len(cfg.Instances) != instances {
			t.Errorf("%s: %d instances, want %d", filepath.Base(name), len(cfg.Instances), instances)
		}
	}
}
