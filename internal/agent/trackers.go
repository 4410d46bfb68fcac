package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/control/api"
	"github.com/hactl/had/internal/linux/filewatch"
	"github.com/hactl/had/internal/linux/process"
	"github.com/hactl/had/internal/notify"
	"github.com/hactl/had/vrrp"
	"github.com/hactl/had/vrrp/track"
)

// trackers are the files and processes that somebody tracks, and what follows them. Those that cannot be followed are
// ignored.
type trackers struct {
	files       []*trackedFile
	watcher     *filewatch.Watcher // nil: no file is followed
	noFiles     string             // why not, if there is something to follow
	processes   []*trackedProcess
	monitor     *process.Monitor // nil: no process is followed
	noProcesses string
	stop        context.CancelFunc
}

// trackedFile is a track_file block.
type trackedFile struct {
	conf  *conf.TrackFile
	value int32
}

// trackedProcess is a vrrp_track_process block.
type trackedProcess struct {
	conf  *conf.TrackProcess
	count int
	state track.Delayed
}

// fileChanged is what a file holds from now on.
type fileChanged struct {
	file    *trackedFile
	content filewatch.Content
}

// processesCounted is how many processes there are now, in the order of trackers.processes.
type processesCounted struct {
	processes []*trackedProcess
	counts    []int
}

// openTrackers creates the files that are to be created, and finds out how everything that is tracked stands, so that it
// is known before any instance begins. It waits for the file system. Files that running has, too, are there already; running
// is nil at the start.
func openTrackers(cfg, running *conf.Config, log *slog.Logger) *trackers {
	t := wantedTrackers(cfg)
	for i := range cfg.TrackFiles {
		c := &cfg.TrackFiles[i]
		if running != nil && slices.ContainsFunc(running.TrackFiles, func(o conf.TrackFile) bool { return conf.Same(o, *c) }) {
			continue
		}
		if err := initFile(c); err != nil {
			log.Error("tracked file cannot be created", "track_file", c.Name, "err", err)
		}
	}
	t.openFiles(log)
	t.openProcesses(log)
	return t
}

// wantedTrackers lists the files and processes that somebody tracks.
func wantedTrackers(cfg *conf.Config) *trackers {
	t := &trackers{}
	tracked := map[string]bool{}
	for i := range cfg.Instances {
		for _, l := range cfg.Instances[i].Tracking.Files {
			tracked["file "+l.Name] = true
		}
		for _, l := range cfg.Instances[i].Tracking.Processes {
			tracked["process "+l.Name] = true
		}
	}
	for i := range cfg.VirtualServers {
		for _, s := range cfg.VirtualServers[i].Servers {
			for _, c := range s.Checkers {
				if c.File != nil {
					tracked["file "+c.File.TrackFile] = true
				}
			}
		}
	}
	for i := range cfg.TrackFiles {
		if c := &cfg.TrackFiles[i]; tracked["file "+c.Name] {
			t.files = append(t.files, &trackedFile{conf: c})
		}
	}
	for i := range cfg.TrackProcesses {
		if c := &cfg.TrackProcesses[i]; tracked["process "+c.Name] {
			t.processes = append(t.processes, &trackedProcess{conf: c})
		}
	}
	return t
}

// same tells whether two lists of trackers follow the same.
func (t *trackers) same(other *trackers) bool {
	return slices.EqualFunc(t.files, other.files, func(a, b *trackedFile) bool { return conf.Same(a.conf, b.conf) }) &&
		slices.EqualFunc(t.processes, other.processes, func(a, b *trackedProcess) bool { return conf.Same(a.conf, b.conf) })
}

// replaceTrackers follows what a new configuration tracks. What lasts already goes on to.
func (a *Agent) replaceTrackers(t *trackers) {
	for _, p := range t.processes {
		for _, old := range a.trackers.processes {
			if old.conf.Name == p.conf.Name {
				p.state = old.state
			}
		}
	}
	a.trackers.stop()
	a.trackers = t
	a.runTrackers()
}

// initFile writes the value that a file begins with (init_file): if it does not exist, or with overwrite in any case. It
// follows no symbolic link.
func initFile(c *conf.TrackFile) error {
	if !c.Init {
		return nil
	}
	flags := os.O_WRONLY | os.O_CREATE | unix.O_NOFOLLOW
	if c.Overwrite {
		flags |= os.O_TRUNC
	} else {
		flags |= os.O_EXCL
	}
	file, err := os.OpenFile(c.Path, flags, 0o644)
	switch {
	case errors.Is(err, fs.ErrExist) && !c.Overwrite:
		return nil
	case err != nil:
		return err
	}
	_, err = fmt.Fprintln(file, c.InitValue)
	return errors.Join(err, file.Close())
}

func (t *trackers) openFiles(log *slog.Logger) {
	if len(t.files) == 0 {
		return
	}
	paths := make([]string, len(t.files))
	for i, f := range t.files {
		paths[i] = f.conf.Path
	}
	var err error
	if t.watcher, err = filewatch.Open(paths); err != nil {
		t.noFiles = err.Error()
		log.Error("tracked files cannot be followed and are ignored", "err", err)
		return
	}
	for i, c := range t.watcher.Content() {
		t.files[i].set(c, log)
	}
}

func (t *trackers) openProcesses(log *slog.Logger) {
	if len(t.processes) == 0 {
		return
	}
	matchers := make([]process.Matcher, len(t.processes))
	for i, p := range t.processes {
		matchers[i] = track.Pattern{Command: p.conf.Process, FullCommand: p.conf.FullCommand,
			Params: track.Params(p.conf.Params)}.Matches
	}
	var err error
	if t.monitor, err = process.Open(log, matchers); err != nil {
		t.noProcesses = err.Error()
		log.Error("tracked processes cannot be followed and are ignored", "err", err)
		return
	}
	for i, n := range t.monitor.Counts() {
		t.processes[i].count = n
	}
}

// set takes over what a file holds.
func (f *trackedFile) set(c filewatch.Content, log *slog.Logger) {
	if c.Err != nil {
		log.Error("tracked file cannot be read and counts as 0", "track_file", f.conf.Name, "err", c.Err)
	}
	f.value = track.FileValue(c.Text)
}

// run follows what is tracked until ctx ends. What changes is posted to the loop.
func (t *trackers) run(ctx context.Context, log *slog.Logger, post func(any)) {
	if t.watcher != nil {
		go func() {
			if err := t.watcher.Run(ctx, func(i int, c filewatch.Content) { post(fileChanged{t.files[i], c}) }); err != nil {
				log.Error("tracked files are not followed any more, their values stay", "err", err)
			}
		}()
	}
	if t.monitor != nil {
		go t.monitor.Run(ctx, func(counts []int) { post(processesCounted{t.processes, counts}) })
	}
}

// runTrackers begins to follow files and processes.
func (a *Agent) runTrackers() {
	ctx, stop := context.WithCancel(a.work)
	a.trackers.stop = stop
	a.trackers.run(ctx, a.log, func(ev any) { a.post(ctx, ev) })
}

func (a *Agent) fileChanged(ev fileChanged) {
	before := ev.file.value
	ev.file.set(ev.content, a.log)
	if ev.file.value != before {
		a.checks.file(ev.file.conf.Name, ev.file.value)
		a.log.Info("tracked file changed", "track_file", ev.file.conf.Name, "from", before, "to", ev.file.value)
		a.look()
	}
}

func (a *Agent) processesCounted(ev processesCounted) {
	for i, p := range ev.processes {
		p.count = ev.counts[i]
	}
	a.look()
}

// seeDelayed takes in how everything stands that counts only once it has lasted.
func (a *Agent) seeDelayed(now clock.Time) {
	a.lookAt = 0
	for _, p := range a.trackers.processes {
		seen := track.Quorum{Least: p.conf.Quorum, Most: p.conf.QuorumMax}.Condition(p.count)
		delay := p.conf.TerminateDelay
		if seen == track.Good {
			delay = p.conf.ForkDelay
		}
		before := p.state.Condition
		p.state = p.state.See(now, seen, delay)
		a.lookAt = clock.Earliest(a.lookAt, p.state.Deadline())
		if before != p.state.Condition {
			a.log.Info("tracked process changed", "vrrp_track_process", p.conf.Name, "from", before.String(),
				"to", p.state.Condition.String(), "processes", p.count)
		}
	}
	before := a.delayed
	a.delayed = map[string]track.Delayed{}
	for _, d := range a.cfg.InterfaceDelays {
		seen, delay := track.Failed, d.Down
		switch l, exists := a.table.ByName(d.Name); {
		case !exists:
			delay = 0
		case l.Works():
			seen, delay = track.Good, d.Up
		}
		state := before[d.Name].See(now, seen, delay)
		a.delayed[d.Name] = state
		a.lookAt = clock.Earliest(a.lookAt, state.Deadline())
	}
}

// lookAgain looks when something has lasted long enough to count.
func (a *Agent) lookAgain() {
	if !a.lookAt.IsZero() && a.clock.Now() >= a.lookAt {
		a.look()
	}
}

// works tells whether an interface works. With interface_up_down_delays a change counts when it has lasted.
func (a *Agent) works(name string) bool {
	if d, ok := a.delayed[name]; ok {
		return d.Condition == track.Good
	}
	l, ok := a.table.ByName(name)
	return ok && l.Works()
}

// hasSource tells whether the interface of an instance has the source address that is configured.
func (a *Agent) hasSource(in *conf.Instance) bool {
	for _, l := range a.table.Links() {
		if in.Interface != "" && in.Interface != l.Name {
			continue
		}
		for _, addr := range a.table.Addresses(l.Index) {
			if addr.Prefix.Addr() == in.Source.WithZone("") {
				return true
			}
		}
	}
	return false
}

// trackedProcesses lists the processes that an instance tracks, as they stand.
func (a *Agent) trackedProcesses(i *instance) []track.Object {
	var objects []track.Object
	for _, t := range i.conf.Tracking.Processes {
		for _, p := range a.trackers.processes {
			if p.conf.Name == t.Name && a.trackers.monitor != nil {
				objects = append(objects, track.Object{Name: "process " + t.Name, Weight: t.Weight, Reverse: t.Reverse,
					Condition: p.state.Condition})
			}
		}
	}
	return objects
}

// trackedFiles lists the files that an instance tracks, as they stand.
func (a *Agent) trackedFiles(i *instance) []track.File {
	var files []track.File
	for _, t := range i.conf.Tracking.Files {
		for _, f := range a.trackers.files {
			if f.conf.Name == t.Name && a.trackers.watcher != nil {
				files = append(files, track.File{Name: "file " + t.Name, Weight: t.Weight, Reverse: t.Reverse, Value: f.value})
			}
		}
	}
	return files
}

// filesReport lists the files that an instance tracks, for the status.
func (a *Agent) filesReport(i *instance) []api.Track {
	var tracks []api.Track
	for _, f := range a.trackedFiles(i) {
		fault := len(track.Evaluate(i.conf.Priority, nil, []track.File{f}).Faults) > 0
		tracks = append(tracks, api.Track{Kind: kindOf(f.Name), Name: nameOf(f.Name), Up: !fault, Weight: f.Weight,
			Text: strconv.Itoa(int(f.Value))})
	}
	return tracks
}

// tellPriorities writes the effective priorities that have changed into the pipes (notify_priority_changes), apart from
// those that came with a change of state.
func (a *Agent) tellPriorities() {
	for _, name := range a.order {
		i := a.instances[name]
		if i.told == i.priority {
			continue
		}
		i.told = i.priority
		if !i.conf.NotifyPriorityChanges {
			continue
		}
		state := notify.BackupPriority
		if a.status(name) == vrrp.Active {
			state = notify.MasterPriority
		}
		a.notifier.Write(notify.Change{Kind: notify.Instance, Name: name, State: state, Priority: i.priority})
	}
}

// startDelay is how long instances wait before they begin: the longer one of vrrp_startup_delay and what is left of
// vrrp_delay_after_boot. The clock counts from the boot.
func (a *Agent) startDelay() time.Duration {
	sinceBoot := time.Duration(a.clock.Now())
	return max(a.cfg.Global.StartupDelay, a.cfg.Global.DelayAfterBoot-sinceBoot)
}
