package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hactl/had/internal/conf"
)

func TestAFileBeginsWithAValue(t *testing.T) {
	tests := []struct {
		name    string
		before  string // "": absent
		file    conf.TrackFile
		content string // "": absent
	}{
		{"not asked for", "", conf.TrackFile{InitValue: 5}, ""},
		{"absent", "", conf.TrackFile{Init: true, InitValue: -5}, "-5\n"},
		{"there already", "7\n", conf.TrackFile{Init: true, InitValue: 5}, "7\n"},
		{"there already, and overwritten", "7777\n", conf.TrackFile{Init: true, InitValue: 5, Overwrite: true}, "5\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.file.Path = filepath.Join(t.TempDir(), "value")
			if tt.before != "" {
				if err := os.WriteFile(tt.file.Path, []byte(tt.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := initFile(&tt.file); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(tt.file.Path); string(got) != tt.content {
				t.Errorf("it holds %q, want %q", got, tt.content)
			}
		})
	}
}

func TestAFileThatIsALinkIsNotOverwritten(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := initFile(&conf.TrackFile{Path: link, Init: true, Overwrite: true}); err == nil {
		t.Error("no error")
	}
	if got, _ := os.ReadFile(target); string(got) != "precious" {
		t.Errorf("the target holds %q", got)
	}
}

// What is tracked is known before any instance begins; what nobody tracks is not followed.
func TestTrackersBeginWithWhatIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "value")
	cfg := &conf.Config{
		TrackFiles: []conf.TrackFile{{Name: "a", Path: path, Init: true, InitValue: 9}, {Name: "b", Path: path}},
		TrackProcesses: []conf.TrackProcess{{Name: "none", Process: []string{"nobody-has-this"}, Quorum: 1, QuorumMax: -1},
			{Name: "untracked", Process: []string{"x"}}},
		Instances: []conf.Instance{{Name: "i", Priority: 100, Tracking: conf.Tracking{
			Files: []conf.Track{{Name: "a", Weight: 2}}, Processes: []conf.Track{{Name: "none"}}}}},
	}
	tr := openTrackers(cfg, nil, slog.New(slog.DiscardHandler))
	if len(tr.files) != 1 || tr.files[0].value != 9 || len(tr.processes) != 1 || tr.processes[0].count != 0 {
		t.Fatalf("files %+v, processes %+v", tr.files, tr.processes)
	}
	a := &Agent{cfg: cfg, log: slog.New(slog.DiscardHandler), trackers: tr}
	a.seeDelayed(1)
	i := &instance{conf: &cfg.Instances[0]}
	if files := a.trackedFiles(i); len(files) != 1 || files[0].Value != 9 || files[0].Weight != 2 {
		t.Errorf("tracked files: %+v", files)
	}
	if objects := a.trackedProcesses(i); len(objects) != 1 || objects[0].Condition.String() != "failed" {
		t.Errorf("tracked processes: %+v", objects)
	}
	ctx := t.Context()
	tr.run(ctx, a.log, func(any) {})
}
