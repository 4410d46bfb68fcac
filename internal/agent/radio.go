package agent

import (
	"net/netip"
	"time"

	"github.com/hactl/had/internal/agent/director"
	"github.com/hactl/had/internal/clock"
	"github.com/hactl/had/internal/conf"
	"github.com/hactl/had/internal/linux/link"
	"github.com/hactl/had/internal/linux/neigh"
	"github.com/hactl/had/internal/linux/sysctl"
	"github.com/hactl/had/vrrp/packet"
	"github.com/hactl/had/vrrp/speaker"
)

// received is an advertisement for an instance.
type received struct {
	instance *instance
	speaker.Received
}

// claimed is a stranger's claim of an address.
type claimed struct{ neigh.Claim }

// sendersKept bounds what is remembered of those who send to us, whoever forges their addresses.
const sendersKept = 16

// strangerKept is how long after its last claim a stranger is spoken of.
const strangerKept = time.Minute

// stranger is another machine that has claimed one of our addresses while we had it.
type stranger struct {
	claim neigh.Claim
	at    time.Time
}

// radioChanged says that an instance can speak, or cannot any more, or from another address.
type radioChanged struct{}

// openRadio opens what speaks VRRP and ARP. The interfaces need not exist yet.
func (a *Agent) openRadio() error {
	var err error
	if a.sender, err = neigh.OpenSender(); err != nil {
		return err
	}
	options := speaker.Options{Log: a.log, Sender: a.sender, Forwarding: forwardsIPv6, Spacing: a.spacing}
	if a.cfg.Global.LogUnknownVRIDs {
		options.OnUnknown = func(u speaker.Unknown) {
			a.log.Info("advertisement of an unknown virtual router", "iface", u.Interface, "vrid", u.VRID, "peer", u.From)
		}
	}
	a.hub = speaker.New(options)
	a.watcher = neigh.NewWatcher(a.log, a.sender, func(c neigh.Claim) { a.offer(claimed{c}, "stranger") })
	for _, name := range a.order {
		if err := a.openSpeaker(a.instances[name]); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) openSpeaker(i *instance) (err error) {
	i.speaker, err = a.hub.Open(a.speakerConfig(i.conf, a.carriers), func(r speaker.Received) {
		a.offer(received{instance: i, Received: r}, "advert")
	})
	return err
}

func (a *Agent) closeRadio() {
	if a.watcher != nil {
		a.watcher.Close()
	}
	if a.hub != nil {
		if err := a.hub.Close(); err != nil {
			a.log.Debug("close VRRP sockets", "err", err)
		}
	}
	if a.sender != nil {
		if err := a.sender.Close(); err != nil {
			a.log.Debug("close ARP sockets", "err", err)
		}
	}
}

// speakerConfig is an instance as the wire sees it.
func (a *Agent) speakerConfig(in *conf.Instance, carriers []*carrier) speaker.Config {
	c := speaker.Config{
		Name: in.Name, IPv6: in.Family == conf.IPv6, Interface: in.Interface, Version: in.Version, VRID: in.VRID,
		Interval: in.AdvertInterval, Group: in.MulticastGroup, CheckSource: in.CheckUnicastSource,
		UnicastTTL: max(in.UnicastTTL, 0), Source: in.Source, ReceiveBuffer: int(in.KernelRxBufSize),
		Auth: packet.Auth{Type: packet.AuthType(in.Auth.Type), Data: in.Auth.Data}, Seal: seal(in.HMAC),
		Options: packet.Options{ChecksumAsV2: in.ChecksumAsV2,
			OldUnicast: in.Unicast && in.OldUnicastChecksum == conf.OldChecksumAlways},
		NeverOldUnicast: in.OldUnicastChecksum == conf.OldChecksumNever,
		OnStatus: func(speaker.Status) {
			if !a.radioWaits.Swap(true) && !a.offer(radioChanged{}, "radio") {
				a.radioMissed.Store(true)
			}
		},
	}
	if carrier := named(carriers, in.Interface); carrier != nil && !carrier.address.IsValid() {
		c.Base = carrier.Base
	}
	if in.Interface == "" {
		c.Interface = in.VRF
	}
	for _, addr := range in.Addresses {
		c.Addresses = append(c.Addresses, addr.Prefix.Addr())
	}
	for _, addr := range in.Excluded {
		c.Excluded = append(c.Excluded, addr.Prefix.Addr())
	}
	if in.Unicast {
		for _, p := range in.Peers {
			c.Peers = append(c.Peers, packet.Peer{Addr: p.Address,
				MinTTL: uint8(max(p.MinTTL, 0)), MaxTTL: uint8(max(p.MaxTTL, 0))})
		}
	}
	return c
}

// seal is auth_hmac as the wire sees it.
func seal(h *conf.HMAC) *packet.Seal {
	if h == nil {
		return nil
	}
	s := &packet.Seal{Active: h.ActiveKey, Sign: h.Mode != conf.HMACReceiveOnly, Require: h.Mode == conf.HMACEnforce}
	if h.AntiReplay == conf.ReplayTime {
		s.Window = h.TimeWindow
	}
	for _, k := range h.Keys {
		s.Keys = append(s.Keys, packet.Key{ID: k.ID, Secret: k.Secret})
	}
	return s
}

// spacing is the least distance between announcements on an interface. The announcer's goroutine asks.
func (a *Agent) spacing(iface string) speaker.Spacing {
	cfg := a.running.Load()
	s := speaker.Spacing{ARP: cfg.Global.GARPInterval, NA: cfg.Global.GNAInterval}
	for _, g := range cfg.GARPGroups {
		for _, member := range g.Interfaces {
			if member == iface {
				return speaker.Spacing{Group: g.Interfaces[0], ARP: g.GARPInterval, NA: g.GNAInterval}
			}
		}
	}
	return s
}

// sendAdvert sends an advertisement, unless the lease has ended since it was decided (O5).
func (a *Agent) sendAdvert(act director.SendAdvert) {
	i := a.instances[act.Instance]
	if a.expired(act.NotAfter) {
		return
	}
	if err := i.speaker.Send(act.Priority); err != nil {
		a.log.Warn("advertisement was not sent", "instance", act.Instance, "err", err)
		return
	}
	i.sentAt = time.Now()
}

// announce queues announcements of an instance's addresses. Each frame looks at the deadline again.
func (a *Agent) announce(act director.Announce) {
	i := a.instances[act.Instance]
	a.announceAddresses(i, a.announced(i, act.Extra), act.Repeat, act.NotAfter)
}

func (a *Agent) announceAddresses(i *instance, addresses []conf.Address, repeat int, notAfter clock.Time) {
	var targets []speaker.Target
	for _, addr := range addresses {
		iface := addr.Interface
		if iface == "" {
			iface = i.conf.Interface
		}
		targets = append(targets, speaker.Target{Interface: iface, Address: addr.Prefix.Addr()})
	}
	i.announcedAt = time.Now()
	i.speaker.Announce(targets, repeat, func() bool { return !a.expired(notAfter) })
}

// advertReceived takes in an advertisement.
func (a *Agent) advertReceived(r received) {
	i := r.instance
	h := i.heard[r.From]
	i.heard[r.From] = heard{priority: r.Advertisement.Priority, at: time.Now(), count: h.count + 1}
	if len(i.heard) > sendersKept {
		i.forgetOldest()
	}
	if r.AddressesDiffer && !i.differs[r.From] {
		i.differs[r.From] = true
		a.log.Warn("a peer advertises other addresses than ours", "instance", i.conf.Name, "peer", r.From,
			"addresses", r.Advertisement.Addresses)
	}
	a.step(director.Advert{Instance: i.conf.Name, From: r.From, Priority: r.Advertisement.Priority,
		Interval: r.Advertisement.Interval})
}

// forgetOldest keeps the list of senders short, whoever forges them.
func (i *instance) forgetOldest() {
	var oldest netip.Addr
	for from, h := range i.heard {
		if !oldest.IsValid() || h.at.Before(i.heard[oldest].at) {
			oldest = from
		}
	}
	delete(i.heard, oldest)
	delete(i.differs, oldest)
}

// watchStrangers listens for claims of the addresses that are held here.
func (a *Agent) watchStrangers() {
	a.takenChanged = false
	watched := map[string][]netip.Addr{}
	for _, name := range a.order {
		i := a.instances[name]
		for _, addr := range held(i.conf) {
			iface := addr.Interface
			if iface == "" {
				iface = i.conf.Interface
			}
			if i.holding.taken {
				watched[iface] = append(watched[iface], addr.Prefix.Addr())
			} else if _, known := watched[iface]; !known {
				watched[iface] = nil
			}
		}
	}
	for _, iface := range sortedKeys(watched) {
		a.watcher.Watch(iface, watched[iface])
	}
}

// strangerHeard takes in a claim of one of our addresses by another machine.
func (a *Agent) strangerHeard(c claimed) {
	if c.Ours {
		return
	}
	for _, name := range a.virtual[c.Addr.WithZone("")] {
		i := a.instances[name]
		if !i.holding.taken {
			continue
		}
		i.remember(c.Claim)
		a.step(director.Competitor{Instance: name, Address: c.Addr, Hardware: c.MAC.String()})
	}
}

// remember notes a stranger's claim.
func (i *instance) remember(c neigh.Claim) {
	if len(i.strangers) >= sendersKept {
		clear(i.strangers)
	}
	i.strangers[c.MAC] = stranger{claim: c, at: time.Now()}
}

// handleLink tells everything that follows interfaces.
func (a *Agent) handleLink(ev link.Event) {
	a.table.Apply(ev)
	a.hub.HandleLink(ev)
	a.watcher.HandleLink(ev)
}

// verdicts are the advertisements that were not accepted, by reason.
func (i *instance) verdicts() map[string]uint64 {
	counters := i.speaker.Counters()
	dropped := map[string]uint64{}
	for v, n := range counters.Verdicts {
		if verdict := packet.Verdict(v); n > 0 && !verdict.Accepted() {
			dropped[verdict.String()] = n
		}
	}
	if counters.AddressList > 0 {
		dropped["address list"] = counters.AddressList
	}
	return dropped
}

// forwardsIPv6 tells whether an interface is a router's, for the flag in neighbour advertisements.
func forwardsIPv6(iface string) bool {
	forwarding, err := sysctl.IPv6(iface, "forwarding").GetInt()
	return err == nil && forwarding > 0
}
