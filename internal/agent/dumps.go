package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hactl/had/internal/agent/dump"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/vrrp"
	"github.com/hactl/had/vrrp/packet"
	"github.com/hactl/had/vrrp/speaker"
)

// Names of the files that dumps go to where the configuration names none.
const (
	dataFile       = "keepalived.data"
	statisticsFile = "keepalived.stats"
	jsonFile       = "keepalived.json"
)

// counted is what an instance counts besides its Speaker. Counters of the Speaker at the last clearing are taken off.
type counted struct {
	became, released uint64
	before           speaker.Counters
}

// dumpData writes what the instances are and how they stand (SIGUSR1).
func (a *Agent) dumpData(ctx context.Context) {
	a.dump(ctx, a.running.Load().Global.StateDumpFile, dataFile, func(all []dump.Instance, _ []dump.Process) ([]byte, error) {
		return dump.Data(all), nil
	}, false)
}

// dumpStatistics writes the counters (SIGUSR2), and with clear makes them begin anew.
func (a *Agent) dumpStatistics(ctx context.Context, clear bool) {
	a.dump(ctx, a.running.Load().Global.StatsDumpFile, statisticsFile, func(all []dump.Instance, _ []dump.Process) ([]byte, error) {
		return dump.Text(all), nil
	}, clear)
}

// dumpJSON writes everything as JSON.
func (a *Agent) dumpJSON(ctx context.Context) {
	g := &a.running.Load().Global
	a.dump(ctx, g.JSONDumpFile, jsonFile, func(all []dump.Instance, processes []dump.Process) ([]byte, error) {
		return dump.JSON(g.JSONVersion, all, processes)
	}, false)
}

// dump asks the loop how everything stands, and writes it to the file that is configured, or to one of our own.
func (a *Agent) dump(ctx context.Context, path, name string, render func([]dump.Instance, []dump.Process) ([]byte, error), clear bool) {
	var instances []dump.Instance
	var processes []dump.Process
	err := a.inLoop(ctx, func(clock.Time) {
		instances, processes = a.dumpInstances(), a.dumpProcesses()
		if clear {
			for _, i := range a.instances {
				i.counted = counted{before: i.speaker.Counters()}
			}
		}
	})
	if path == "" {
		path = filepath.Join(a.opt.DumpDir, name)
	}
	var text []byte
	if err == nil {
		text, err = render(instances, processes)
	}
	if err == nil {
		err = replaceFile(path, text)
	}
	if err != nil {
		a.log.Error("cannot write a dump", "path", path, "err", err)
		return
	}
	a.log.Info("dump written", "path", path)
}

// replaceFile puts text in the place of a file, or of a symbolic link, as a whole. It follows no link.
func replaceFile(path string, text []byte) error {
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

func (a *Agent) dumpProcesses() []dump.Process {
	var all []dump.Process
	for _, p := range a.trackers.processes {
		all = append(all, dump.Process{Name: p.conf.Name, Count: p.count, Least: p.conf.Quorum, Most: p.conf.QuorumMax,
			Up: p.state.Condition.String() == "good"})
	}
	return all
}

func (a *Agent) dumpInstances() []dump.Instance {
	var all []dump.Instance
	for _, name := range a.order {
		all = append(all, a.dumpInstance(a.instances[name]))
	}
	return all
}

func (a *Agent) dumpInstance(i *instance) dump.Instance {
	c, state := i.conf, a.machine.State(i.conf.Name)
	d := dump.Instance{
		Name: c.Name, State: state.Status.KeepalivedName(), WantMaster: c.InitialMaster || state.Status == vrrp.Active, Since: i.since,
		Interface: c.Interface, VRID: int(c.VRID), Version: int(c.Version), Priority: int(c.Priority), Effective: int(i.priority),
		Advert: c.AdvertInterval, Learned: state.ActiveInterval, Preempt: c.Preempt, Delay: c.PreemptDelay, Accept: c.Accept,
		Promote: c.PromoteSecondaries, Strict: c.Strict, SkipCheck: c.SkipCheckAdvAddr, TrackLink: c.TrackPrimary, Mail: c.SMTPAlert,
		Deleted: c.Notify.DeletedState, AuthType: int(c.Auth.Type), LowerQuiet: c.LowerPrioNoAdvert, HigherLast: c.HigherPrioSendAdvert,
		HasVIPs: i.holding.taken, Statistics: i.statistics(),
		GARP: dump.GARP{Repeat: c.GARP.MasterRepeat, RefreshRepeat: c.GARP.MasterRefreshRepeat, LowerRepeat: c.GARP.LowerPrioRepeat,
			Delay: c.GARP.MasterDelay, Refresh: c.GARP.MasterRefresh, LowerDelay: c.GARP.LowerPrioDelay},
	}
	if carrier := named(a.carriers, c.Interface); carrier != nil {
		d.VMAC, d.Interface = carrier.Name, carrier.Base
	}
	if i.source.IsValid() {
		d.Source = i.source.String()
	}
	if c.Unicast {
		for _, p := range c.Peers {
			d.Peers = append(d.Peers, p.Address.String())
		}
	} else {
		d.Group = multicastGroup(c).String()
	}
	for _, addr := range c.Addresses {
		d.VIPs = append(d.VIPs, addressText(addr))
	}
	return d
}

func addressText(addr conf.Address) string {
	text := addr.Prefix.String()
	if addr.Interface != "" {
		text += " dev " + addr.Interface
	}
	if addr.Prefix.Addr().Is4() {
		scope := map[uint8]string{0: "global", 200: "site", 253: "link", 254: "host"}[addr.Scope]
		if scope == "" {
			scope = fmt.Sprint(addr.Scope)
		}
		text += " scope " + scope
	}
	return text
}

// statistics are the counters since the last clearing.
func (i *instance) statistics() dump.Statistics {
	now, before := i.speaker.Counters(), i.counted.before
	verdict := func(v packet.Verdict) uint64 { return now.Verdicts[v] - before.Verdicts[v] }
	return dump.Statistics{
		Received: now.Received - before.Received, Sent: now.Sent - before.Sent, BecameMaster: i.counted.became,
		ReleasedMaster: i.counted.released, Length: verdict(packet.Length), TTL: verdict(packet.TTL), Type: verdict(packet.Type),
		Interval: verdict(packet.Interval), AddressList: now.AddressList - before.AddressList, AuthType: verdict(packet.AuthTypeInvalid),
		AuthMismatch: verdict(packet.AuthTypeMismatch), Failure: verdict(packet.AuthFailure), SealMissing: verdict(packet.SealMissing),
		SealMalformed: verdict(packet.SealMalformed), SealKey: verdict(packet.SealKey), SealInvalid: verdict(packet.SealInvalid),
		SealStale: verdict(packet.SealStale), SealReplay: verdict(packet.SealReplay), ZeroReceived: now.ReceivedZero - before.ReceivedZero,
		ZeroSent: now.SentZero - before.SentZero,
	}
}
