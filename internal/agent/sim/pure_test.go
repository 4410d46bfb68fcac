package sim

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNothingInARunDependsOnAnythingButTheSeed holds what makes a seed reproducible: no goroutine, no real clock, no other
// source of chance in the simulation and in the packages that it runs.
func TestNothingInARunDependsOnAnythingButTheSeed(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	forbidden := map[string]string{
		"math/rand": "chance", "math/rand/v2": "chance", "crypto/rand": "chance", "os": "the machine", "net": "the network",
		"syscall": "the machine", "sync": "goroutines", "sync/atomic": "goroutines", "context": "goroutines",
		"runtime": "the machine", "log/slog": "the machine",
	}
	clocks := map[string]bool{"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "AfterFunc": true,
		"Tick": true, "NewTimer": true, "NewTicker": true}
	for _, dir := range []string{"fsm", "vrrp", "vrrp/track", "cluster/lease", "fencing", "internal/clock", "internal/agent/director",
		"internal/agent/sim"} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			name := entry.Name()
			if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || dir == "internal/agent/sim" && name == "series.go" {
				continue // the series runs several runs side by side
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, filepath.Join(root, dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, imported := range file.Imports {
				if why, bad := forbidden[strings.Trim(imported.Path.Value, `"`)]; bad {
					t.Errorf("%s imports %s: a run would depend on %s", files.Position(imported.Pos()), imported.Path.Value, why)
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s starts a goroutine", files.Position(n.Pos()))
				case *ast.SelectStmt:
					t.Errorf("%s selects", files.Position(n.Pos()))
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && clocks[n.Sel.Name] {
						t.Errorf("%s reads a real clock: time.%s", files.Position(n.Pos()), n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}
