package vrrp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hactl/had/internal/clock"
)

// conflictAdverts is how many more advertisements an owner sends when another owner of lower address is heard, and
// conflictTenths how many tenths of the longer interval it then waits for the other to fall silent.
const (
	conflictAdverts = 2
	conflictTenths  = 12
)

// latePart is the part of an interval by which an advertisement may be late and the next one is none the later for it: what
// delays each of them a little does not add up. One that is later than that begins a new series.
const latePart = 10

// startAtOnce is the down timer of an owner that may start as Active.
const startAtOnce = time.Microsecond

// step is one step under way: the state so far and the actions so far.
type step struct {
	State
	cfg     *Config
	now     clock.Time
	actions []Action
}

// Step gives the machine one event and returns the next state and the actions to execute, in order. now is a reading of
// the lease clock, never zero and never before that of the step before. cfg must satisfy Validate. An event that means
// nothing in the present status yields Ignored; a Tick before its time yields nothing. An unknown event panics.
func (s State) Step(cfg *Config, now clock.Time, ev Event) (State, []Action) {
	st := step{State: s.normalised(cfg), cfg: cfg, now: now}
	switch ev := ev.(type) {
	case Start:
		st.start(ev)
	case Stop:
		st.stop()
	case Tick:
		st.tick()
	case Received:
		st.received(ev)
	case SetPriority:
		st.setPriority(ev)
	case Faulted:
		st.faulted(ev)
	case Recovered:
		st.recovered()
	case Granted:
		st.granted()
	case Yield:
		st.yield(ev)
	case Reannounce:
		st.reannounce()
	case Defend:
		st.defend()
	case Hold:
		st.hold()
	case Unhold:
		st.unhold()
	case Disturbed:
		st.disturbed(ev)
	default:
		panic(fmt.Sprintf("vrrp: unknown event %T", ev))
	}
	return st.State, st.actions
}

// normalised fills in what follows from the configuration, which may have been replaced since the last step.
func (s State) normalised(cfg *Config) State {
	switch {
	case cfg.Owner():
		if !s.Lowered {
			s.Priority = PriorityOwner
		}
	case s.Lowered || s.Priority == 0 || s.Priority == PriorityOwner:
		s.Priority, s.Lowered = cfg.Priority, false
	}
	if s.ActiveInterval == 0 || cfg.Version == Version2 {
		s.ActiveInterval = cfg.AdvertInterval
	}
	return s
}

func (st *step) emit(a Action) { st.actions = append(st.actions, a) }

func (st *step) ignore(reason string) { st.emit(Ignored{Reason: reason}) }

func (st *step) start(ev Start) {
	if st.Status == Backup || st.Status == Active {
		st.ignore("the router runs already")
		return
	}
	if ev.Delay > 0 {
		st.QuietUntil = st.now.Add(ev.Delay)
	}
	if st.Status == Fault {
		st.ignore("the router has a fault and begins when that is gone")
		return
	}
	st.enterBackup()
	switch {
	case st.ownerWantsActive():
		st.startDownTimer(startAtOnce)
		st.emit(Transition{From: Initialize, To: Backup, Reason: "start as owner", Silent: true})
		return
	case st.cfg.InitialActive:
		// Takes over fast if nobody answers: one interval and the smallest skew.
		st.startDownTimer(st.ActiveInterval + SkewTime(st.cfg.Version, PriorityOwner, st.ActiveInterval))
	}
	st.emit(Transition{From: Initialize, To: Backup, Reason: "start"})
}

func (st *step) stop() {
	from := st.Status
	switch from {
	case Initialize:
		st.ignore("the router does not run")
		return
	case Backup:
		st.unclaim()
	case Active:
		st.resign(Initialize, 1)
	}
	st.enter(Initialize)
	st.emit(Transition{From: from, To: Initialize, Reason: "stop"})
}

func (st *step) tick() {
	switch st.Status {
	case Backup:
		st.tickBackup()
	case Active:
		st.tickActive()
	}
}

// due tells whether a timer is armed and has run out.
func (st *step) due(at clock.Time) bool { return at != 0 && !st.now.Before(at) }

func (st *step) tickBackup() {
	if st.Claiming {
		if st.Claim == Preempt && st.due(st.LowerUntil) {
			st.LowerUntil = 0
			st.claim(MasterDown)
		}
		return
	}
	if !st.due(st.DownAt) {
		return
	}
	st.want("active down timer expired")
}

// want does what a Backup router does that would now be Active: ungated it becomes so; gated it claims; held it says so
// and starts its down timer again.
func (st *step) want(reason string) {
	if st.Lowered {
		st.Priority, st.Lowered = PriorityOwner, false
	}
	switch {
	case st.Held:
		st.Wish = true
		st.restartDownTimer()
		st.emit(Wished{})
	case st.cfg.Gated:
		st.DownAt = 0
		if st.LowerUntil != 0 && !st.due(st.LowerUntil) {
			st.claim(Preempt)
		} else {
			st.LowerUntil = 0
			st.claim(MasterDown)
		}
	default:
		st.becomeActive(reason)
	}
}

func (st *step) claim(kind ClaimKind) {
	if st.Claiming && st.Claim == kind {
		return
	}
	st.Claiming, st.Claim = true, kind
	st.emit(Claim{Kind: kind})
}

// unclaim ends a claim, if there is one. The caller arms the down timer or leaves Backup.
func (st *step) unclaim() {
	if st.Claiming {
		st.Claiming, st.Claim = false, 0
		st.emit(Unclaim{})
	}
}

// startDownTimer arms the down timer. During the startup delay every timer begins at its end.
func (st *step) startDownTimer(span time.Duration) { st.DownAt = max(st.now, st.QuietUntil).Add(span) }

func (st *step) restartDownTimer() { st.startDownTimer(st.downInterval(st.cfg)) }

// enter makes the router a fresh one of the given status: nothing learned, no timer armed.
func (st *step) enter(status Status) {
	priority := st.Priority
	if st.cfg.Owner() {
		priority = PriorityOwner
	}
	st.State = State{Status: status, Priority: priority, Held: st.Held, ActiveInterval: st.cfg.AdvertInterval}
}

// becomeActive enters Active from any other status (RFC 9568 section 6.4.2).
func (st *step) becomeActive(reason string) {
	from, takeover := st.Status, st.takeover()
	st.enter(Active)
	if st.cfg.Gated {
		st.SettledAt = st.now.Add(st.cfg.AdvertInterval)
	}
	st.sendAdvert()
	st.emit(BecomeActive{})
	st.announceTwice()
	if st.cfg.GARP.MasterRefresh > 0 {
		st.RefreshAt = st.now.Add(st.cfg.GARP.MasterDelay + st.cfg.GARP.MasterRefresh)
	}
	if st.cfg.ExtraAnnounce > 0 {
		st.ExtraAt = st.now.Add(st.cfg.ExtraAnnounce)
	}
	st.emit(Transition{From: from, To: Active, Reason: reason, Takeover: takeover})
}

// takeover says why the router becomes Active now.
func (st *step) takeover() Takeover {
	switch {
	case st.Resigned:
		return Resigned
	case st.LowerUntil != 0 && !st.due(st.LowerUntil):
		return Preempted
	}
	return NoResponse
}

// announceTwice announces all addresses and arms the second burst.
func (st *step) announceTwice() {
	st.emit(Announce{Repeat: max(1, st.cfg.GARP.MasterRepeat)})
	st.AnnounceAt = 0
	if st.cfg.GARP.MasterDelay > 0 {
		st.AnnounceAt = st.now.Add(st.cfg.GARP.MasterDelay)
	}
}

// sendAdvert sends an advertisement and starts the advertisement timer again.
func (st *step) sendAdvert() {
	st.emit(SendAdvert{Priority: st.Priority})
	st.AdvertAt = st.now.Add(st.cfg.AdvertInterval)
	if st.ConflictAdverts > 0 {
		st.ConflictAdverts--
		if st.ConflictAdverts == 0 {
			st.ConflictAt = st.now.Add(st.ConflictInterval * conflictTenths / 10)
		}
	}
}

func (st *step) tickActive() {
	if st.overslept() {
		st.giveWay("not scheduled for too long, another router must be active")
		return
	}
	if st.due(st.ConflictAt) {
		if st.ConflictHeard {
			st.lower()
			return
		}
		st.ConflictFrom, st.ConflictInterval, st.ConflictAt = netip.Addr{}, 0, 0
	}
	if due := st.AdvertAt; st.due(due) {
		st.sendAdvert()
		if st.now.Sub(due) <= st.cfg.AdvertInterval/latePart {
			st.AdvertAt = due.Add(st.cfg.AdvertInterval)
		}
	}
	if st.due(st.AnnounceAt) {
		st.AnnounceAt = 0
		st.emit(Announce{Repeat: max(1, st.cfg.GARP.MasterRepeat)})
	}
	if st.due(st.RefreshAt) {
		st.RefreshAt = 0
		if st.cfg.GARP.MasterRefresh > 0 {
			st.RefreshAt = st.now.Add(st.cfg.GARP.MasterRefresh)
			st.emit(Announce{Repeat: max(1, st.cfg.GARP.MasterRefreshRepeat)})
		}
	}
	if st.due(st.ExtraAt) {
		st.ExtraAt = 0
		if st.cfg.ExtraAnnounce > 0 {
			st.ExtraAt = st.now.Add(st.cfg.ExtraAnnounce)
			st.emit(Announce{Repeat: 1, Extra: true})
		}
	}
	if st.due(st.LowerAnnounceAt) {
		st.LowerAnnounceAt = 0
		if st.cfg.GARP.LowerPrioRepeat > 0 {
			st.emit(Announce{Repeat: st.cfg.GARP.LowerPrioRepeat})
		}
	}
}

// overslept tells whether timer_expired_backup is set and our last advertisement is so old that every other router has
// long seen its down timer run out.
func (st *step) overslept() bool {
	if st.cfg.TimerExpiredBackup == 0 {
		return false
	}
	sentAt := st.AdvertAt.Add(-st.cfg.AdvertInterval)
	limit := 3*st.cfg.AdvertInterval + SkewTime(st.cfg.Version, st.cfg.TimerExpiredBackup, st.cfg.AdvertInterval)
	return st.now.Sub(sentAt) > limit
}

// lower makes an Active owner Backup with priority 254, because another owner does not yield.
func (st *step) lower() {
	from, interval := st.ConflictFrom, st.ConflictInterval
	st.emit(LeaveActive{To: Backup})
	st.enterBackup()
	st.Priority, st.Lowered = PriorityMax, true
	st.follow(from, PriorityOwner, interval)
	st.emit(Transition{From: Active, To: Backup, Reason: fmt.Sprintf("%v is configured as address owner, too", from)})
}

// enterBackup makes the router a fresh Backup with its own interval and a full down timer.
func (st *step) enterBackup() {
	quiet := st.QuietUntil
	st.enter(Backup)
	st.QuietUntil = quiet
	st.restartDownTimer()
}

// follow takes over the data of the Active router and starts the down timer that results.
func (st *step) follow(from netip.Addr, priority uint8, interval time.Duration) {
	st.learn(interval)
	st.ActiveFrom, st.ActivePriority = from, priority
	st.restartDownTimer()
}

// giveWay leaves Active for Backup without resigning.
func (st *step) giveWay(reason string) {
	st.emit(LeaveActive{To: Backup})
	st.enterBackup()
	st.emit(Transition{From: Active, To: Backup, Reason: reason})
}

// resign leaves Active for another status with advertisements of priority 0. Ungated they come first, as in keepalived.
// Gated the addresses go first: nobody else may take them before we have released the lease, so the advertisement only
// has to shorten the others' timers. The caller sets the new status and emits the Transition.
func (st *step) resign(to Status, adverts int) {
	if st.cfg.Gated {
		st.emit(LeaveActive{To: to})
		st.emit(SendAdvert{Priority: PriorityResign})
		return
	}
	for range adverts {
		st.emit(SendAdvert{Priority: PriorityResign})
	}
	st.emit(LeaveActive{To: to})
}

func (st *step) received(ev Received) {
	switch {
	case st.Status == Initialize:
		st.ignore("the router does not run")
	case st.Status == Fault:
		st.ignore("the router has a fault")
	case st.now.Before(st.QuietUntil):
		st.ignore("the startup delay is not over")
	case st.cfg.Owner() && st.cfg.OwnerIgnoreAdverts:
		st.ignore("an address owner does not look at advertisements")
	case st.Status == Backup:
		st.receivedBackup(ev)
	default:
		st.receivedActive(ev)
	}
}

// learn takes over the Active router's interval (version 3; RFC 9568 section 6.4.2). An interval of zero teaches
// nothing: a down timer made of it would run out at once.
func (st *step) learn(interval time.Duration) {
	if st.cfg.Version == Version3 && interval >= centisecond {
		st.ActiveInterval = interval
	}
}

// receivedBackup handles an advertisement in Backup (RFC 9568 section 6.4.2).
func (st *step) receivedBackup(ev Received) {
	if st.Lowered && ev.Priority != PriorityOwner {
		st.Priority, st.Lowered = PriorityOwner, false
	}
	st.Resigned = ev.Priority == PriorityResign
	if st.Resigned {
		st.LowerUntil = 0
		if st.Claiming {
			st.claim(MasterDown)
			return
		}
		st.startDownTimer(st.skew(st.cfg))
		return
	}
	lower := ev.Priority < st.Priority
	accept := !st.cfg.Preempt || !lower
	if lower && st.cfg.Preempt && st.cfg.PreemptDelay > 0 {
		if st.PreemptAt == 0 {
			st.PreemptAt = st.now.Add(st.cfg.PreemptDelay)
		}
		accept = st.now.Before(st.PreemptAt)
	}
	if !lower {
		st.PreemptAt, st.LowerUntil = 0, 0
	}
	if accept {
		st.unclaim()
		st.Wish = false
		st.follow(ev.From, ev.Priority, ev.Interval)
	}
	if lower {
		st.LowerUntil = st.now.Add(st.downInterval(st.cfg))
	}
	if accept {
		return
	}
	if st.Claiming {
		st.claim(Preempt)
	}
	st.ignore(fmt.Sprintf("priority %d of %v is lower than ours, %d", ev.Priority, ev.From, st.Priority))
}

// receivedActive handles an advertisement in Active (RFC 9568 section 6.4.3).
func (st *step) receivedActive(ev Received) {
	if ev.Priority == PriorityResign {
		st.sendAdvert()
		return
	}
	order := int(ev.Priority) - int(st.Priority)
	if order == 0 {
		order = ev.From.WithZone("").Compare(st.cfg.Local.WithZone(""))
	}
	switch {
	case ev.Unleased:
		st.lowerHeard(LowerHeard{From: ev.From, Priority: ev.Priority})
	case order == 0:
		st.ignore(fmt.Sprintf("advertisement with our own address %v", ev.From))
	case order > 0 && st.now.Before(st.SettledAt):
		st.ignore(fmt.Sprintf("higher priority %d of %v may have been sent before our grant", ev.Priority, ev.From))
	case order > 0:
		st.receivedHigher(ev)
	case ev.Priority == PriorityOwner:
		st.receivedOwner(ev)
	default:
		st.lowerHeard(LowerHeard{From: ev.From, Priority: ev.Priority})
	}
}

// receivedHigher gives way to a router of higher rank. No priority 0 is sent.
func (st *step) receivedHigher(ev Received) {
	if st.cfg.HigherPrioSendAdvert {
		st.sendAdvert()
	}
	reason := fmt.Sprintf("higher priority %d of %v heard", ev.Priority, ev.From)
	if ev.Priority == st.Priority {
		reason = fmt.Sprintf("equal priority %d of higher address %v heard", ev.Priority, ev.From)
	}
	st.emit(LeaveActive{To: Backup})
	st.enterBackup()
	st.follow(ev.From, ev.Priority, ev.Interval)
	st.emit(Transition{From: Active, To: Backup, Reason: reason})
}

// receivedOwner handles another address owner of lower address, which ought to yield to us.
func (st *step) receivedOwner(ev Received) {
	switch {
	case st.ConflictAt != 0:
		st.ConflictHeard = true
	case st.ConflictAdverts == 0:
		st.ConflictAdverts = conflictAdverts
		st.ConflictInterval = st.cfg.AdvertInterval
		if st.cfg.Version == Version3 {
			st.ConflictInterval = max(st.ConflictInterval, ev.Interval)
		}
		st.ConflictFrom = ev.From
		st.lowerHeard(LowerHeard{From: ev.From, Priority: ev.Priority})
		return
	}
	st.ignore(fmt.Sprintf("%v is configured as address owner, too", ev.From))
}

func (st *step) lowerHeard(heard LowerHeard) {
	st.answerLower()
	st.emit(heard)
}

// answerLower shows the routers and hosts on the link who is Active.
func (st *step) answerLower() {
	if !st.cfg.LowerPrioNoAdvert {
		st.sendAdvert()
	}
	st.announceLower()
}

// announceLower announces all addresses because a router of lower rank was heard, and arms the second burst.
func (st *step) announceLower() {
	if garp := st.cfg.GARP; garp.LowerPrioRepeat > 0 {
		st.emit(Announce{Repeat: garp.LowerPrioRepeat})
		st.LowerAnnounceAt = 0
		if garp.LowerPrioDelay > 0 {
			st.LowerAnnounceAt = st.now.Add(garp.LowerPrioDelay)
		}
	}
}

// setPriority takes over the effective priority. An Active router says so in its next advertisement; in Backup the
// running down timer is moved by the difference that the skew makes.
func (st *step) setPriority(ev SetPriority) {
	switch {
	case st.cfg.Owner():
		st.ignore("the priority of an address owner does not change")
		return
	case ev.Priority == 0 || ev.Priority > PriorityMax:
		st.ignore(fmt.Sprintf("priority %d is not in 1..254", ev.Priority))
		return
	}
	before := st.downInterval(st.cfg)
	st.Priority = ev.Priority
	if st.Status == Backup && st.DownAt != 0 {
		st.DownAt = st.DownAt.Add(st.downInterval(st.cfg) - before)
	}
}

func (st *step) faulted(ev Faulted) {
	from := st.Status
	switch from {
	case Fault:
		if !st.Unannounced || ev.Silent {
			st.ignore("the router has a fault already")
			return
		}
		from = Initialize
	case Backup:
		st.unclaim()
	case Active:
		// An instance that detects its own fault says so twice, one that follows a peer once.
		adverts := 2
		if ev.Peer {
			adverts = 1
		}
		st.resign(Fault, adverts)
	}
	silent := ev.Silent && from == Initialize
	quiet := st.QuietUntil
	st.enter(Fault)
	st.QuietUntil, st.Unannounced = quiet, silent
	st.emit(Transition{From: from, To: Fault, Reason: ev.Reason, Silent: silent})
}

// recovered leaves Fault: an owner that is to be Active becomes so, every other router is Backup with its own interval.
func (st *step) recovered() {
	if st.Status != Fault {
		st.ignore("the router has no fault")
		return
	}
	reason := "recovered"
	if st.Unannounced { // nobody knows of the fault
		st.Status, reason = Initialize, "start"
	}
	from := st.Status
	early := st.now.Before(st.QuietUntil)
	if st.ownerWantsActive() && !early && !st.cfg.Gated && !st.Held {
		st.becomeActive(reason + " as owner")
		return
	}
	st.enterBackup()
	if st.ownerWantsActive() {
		if early {
			st.startDownTimer(startAtOnce)
		} else {
			st.want(reason + " as owner")
		}
	}
	st.emit(Transition{From: from, To: Backup, Reason: reason})
}

func (st *step) ownerWantsActive() bool { return st.cfg.Owner() && st.cfg.InitialActive }

func (st *step) granted() {
	switch st.Status {
	case Backup:
		reason := "granted by the sync group"
		if st.cfg.Gated {
			reason = "lease granted"
		}
		st.Claiming, st.Claim = false, 0
		st.becomeActive(reason)
	case Active:
		st.announceTwice()
	default:
		st.ignore(fmt.Sprintf("a router in %v cannot be active", st.Status))
	}
}

func (st *step) yield(ev Yield) {
	switch {
	case st.Status == Active && ev.ShortenPeers:
		st.resign(Backup, 1)
		st.enterBackup()
		st.emit(Transition{From: Active, To: Backup, Reason: ev.Reason})
	case st.Status == Active:
		st.giveWay(ev.Reason)
	case st.Claiming:
		st.unclaim()
		st.restartDownTimer()
	default:
		st.ignore("the router is neither active nor claiming")
	}
}

func (st *step) reannounce() {
	if st.Status != Active {
		st.ignore("the router is not active")
		return
	}
	st.announceTwice()
}

func (st *step) defend() {
	if st.Status != Active {
		st.ignore("the router is not active")
		return
	}
	st.announceLower()
}

func (st *step) hold() {
	if st.Held {
		st.ignore("the router is held already")
		return
	}
	st.Held = true
	if st.Claiming {
		st.unclaim()
		st.restartDownTimer()
	}
}

func (st *step) unhold() {
	if !st.Held {
		st.ignore("the router is not held")
		return
	}
	st.Held, st.Wish = false, false
}

// disturbed makes an ungated Active router resign and come back after the skew time.
func (st *step) disturbed(ev Disturbed) {
	switch {
	case st.Status != Active:
		st.ignore("the router is not active")
	case st.cfg.Gated:
		st.ignore("the holder of the lease restores what was removed")
	default:
		st.resign(Backup, 1)
		st.enterBackup()
		st.startDownTimer(st.skew(st.cfg))
		st.emit(Transition{From: Active, To: Backup, Reason: ev.Reason})
	}
}
