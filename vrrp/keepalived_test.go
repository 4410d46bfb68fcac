package vrrp

import (
	"net/netip"
	"testing"
	"time"
)

// The tests in this file state what keepalived does where the RFCs leave a choice, or where it departs from them.

const skew100 = 609375 * time.Microsecond // Skew_Time of priority 100 at one second

func TestStateMasterOfLowerPriorityBeginsWithAShortTimer(t *testing.T) {
	r := v3(t, initialActive).backup()
	r.wantDeadlineIn(time.Second + 3906*time.Microsecond)
	r = v3(t, initialActive, interval(100*time.Millisecond)).backup()
	r.wantDeadlineIn(100*time.Millisecond + 390*time.Microsecond)
}

func TestAnOwnerThatMayNotStartAsMasterWaitsForItsDownTimer(t *testing.T) {
	r := v3(t, priority(255)).do(Start{})
	r.wantActions("transition initialize -> backup: start")
	r.wantDeadlineIn(3*time.Second + 3906*time.Microsecond)
}

func TestTheStartOfAnOwnerIsNotReported(t *testing.T) {
	v3(t, owner).do(Start{}).wantActions("transition initialize -> backup, silently: start as owner")
}

func TestTheStartupDelayShiftsTimersAndMakesDeaf(t *testing.T) {
	r := v3(t).do(Start{Delay: 10 * time.Second})
	r.wantDeadlineIn(13*time.Second + skew100)
	r.after(9 * time.Second).do(heard(150, higher))
	r.wantActions("ignored: the startup delay is not over")
	r.after(time.Second).do(heard(150, higher))
	r.wantActions()
	r = v3(t, owner).do(Start{Delay: 10 * time.Second})
	r.wantDeadlineIn(10*time.Second + time.Microsecond)
}

func TestTheStartupDelayAlsoHoldsForARouterThatBeginsWithAFault(t *testing.T) {
	r := v3(t, owner).do(Faulted{Reason: "script unknown", Silent: true}, Start{Delay: 10 * time.Second})
	r.wantActions("ignored: the router has a fault and begins when that is gone")
	r.after(time.Second).do(Recovered{})
	r.wantActions("transition initialize -> backup: start")
	r.wantDeadlineIn(9*time.Second + time.Microsecond)
}

func TestDownTimerAdvertsScalesTheDownTimer(t *testing.T) {
	r := v3(t, func(c *Config) { c.DownTimerAdverts = 5 }).backup()
	r.wantDeadlineIn(5*time.Second + skew100)
}

func TestALowerAdvertAcceptedWithoutPreemptionUsesOurOwnSkew(t *testing.T) {
	r := v3(t, nopreempt).backup().do(Received{From: lower, Priority: 1, Interval: 2 * time.Second})
	r.wantDeadlineIn(6*time.Second + 2*skew100)
}

func TestPriorityZeroIsNotRecorded(t *testing.T) {
	r := v3(t).backup().do(heard(150, higher), heard(0, lower))
	if r.s.ActiveFrom != higher || r.s.ActivePriority != 150 {
		t.Errorf("the active router is %v with %d", r.s.ActiveFrom, r.s.ActivePriority)
	}
}

func TestPriorityZeroShortensTheTimerAlsoWithoutPreemptionAndDuringPreemptDelay(t *testing.T) {
	v3(t, nopreempt).backup().do(heard(0, lower)).wantDeadlineIn(skew100)
	r := v3(t, preemptDelay(time.Minute)).backup().do(heard(50, lower), heard(0, lower))
	r.wantDeadlineIn(skew100)
}

func TestPreemptDelayAcceptsLowerAdvertsUntilItIsOver(t *testing.T) {
	r := v3(t, preemptDelay(10*time.Second)).backup()
	for range 10 {
		r.do(heard(50, lower))
		r.wantActions()
		r.wantDeadlineIn(3*time.Second + skew100)
		r.after(time.Second)
	}
	r.do(heard(50, lower))
	r.wantActions("ignored")
	r.wantDeadlineIn(2*time.Second + skew100)
	r.untilDeadline()
	r.wantStatus(Active)
}

func TestPreemptDelayStartsAgainAfterAnEqualOrHigherAdvert(t *testing.T) {
	r := v3(t, preemptDelay(10*time.Second)).backup().do(heard(50, lower)).after(2 * time.Second).
		do(heard(100, higher)).after(9 * time.Second).do(heard(50, lower))
	r.wantActions()
	r.wantDeadlineIn(3*time.Second + skew100)
}

func TestPreemptDelayStartsAgainWhenBackupIsEntered(t *testing.T) {
	r := v3(t, preemptDelay(2*time.Second)).backup().do(heard(50, lower)).after(time.Second).
		do(Faulted{Reason: "eth0 down"}).after(time.Second).do(Recovered{}, heard(50, lower))
	r.wantActions()
}

func TestPreemptDelayDoesNotDelayATakeoverFromASilentMaster(t *testing.T) {
	r := v3(t, preemptDelay(time.Hour)).backup().do(heard(50, lower))
	r.wantDeadlineIn(3*time.Second + skew100)
	r.untilDeadline()
	r.wantStatus(Active)
}

func TestAChangeOfPriorityMovesTheRunningDownTimerByTheSkew(t *testing.T) {
	r := v3(t).backup().after(time.Second)
	r.do(SetPriority{Priority: 200})
	r.wantActions()
	r.wantDeadlineIn(2*time.Second + 218750*time.Microsecond)
	r.do(SetPriority{Priority: 100})
	r.wantDeadlineIn(2*time.Second + skew100)
}

func TestAChangeOfPriorityUsesTheLearnedInterval(t *testing.T) {
	r := v3(t).backup().do(Received{From: higher, Priority: 250, Interval: 2 * time.Second}).after(time.Second)
	r.do(SetPriority{Priority: 200})
	r.wantDeadlineIn(5*time.Second + 2*218750*time.Microsecond)
}

func TestAMasterOfLoweredPriorityStaysUntilItHearsABetterOne(t *testing.T) {
	r := v3(t).active().do(SetPriority{Priority: 50})
	r.wantActions()
	r.wantStatus(Active)
	r.untilDeadline()
	r.wantActions("send advert, priority 50")
	r.do(heard(60, lower))
	r.wantStatus(Backup)
}

func TestAnAdvertFromOurOwnAddressIsOnlyReported(t *testing.T) {
	r := v3(t).active().do(heard(100, ours))
	r.wantActions("ignored: advertisement with our own address 10.0.0.5")
	r.wantStatus(Active)
}

func TestWithoutALocalAddressEveryRouterOfEqualPriorityWins(t *testing.T) {
	r := v3(t, func(c *Config) { c.Local = netip.Addr{} }).active().do(heard(100, lower))
	r.wantStatus(Backup)
}

func TestIPv6AddressesCompareWithoutTheirZones(t *testing.T) {
	r := v3(t, func(c *Config) {
		c.Family, c.Local = IPv6, netip.MustParseAddr("fe80::5%eth0")
	}).active()
	r.do(heard(100, netip.MustParseAddr("fe80::5")))
	r.wantActions("ignored: advertisement with our own address fe80::5")
	r.do(heard(100, netip.MustParseAddr("fe80::6%eth0")))
	r.wantStatus(Backup)
}

func TestHigherPrioSendAdvertSendsALastAdvert(t *testing.T) {
	r := v3(t, func(c *Config) { c.HigherPrioSendAdvert = true }).active().do(heard(150, higher))
	r.wantActions("send advert, priority 100", "leave active for backup", "transition active -> backup")
}

func TestALowerAdvertIsAnsweredWithAdvertAndAnnouncements(t *testing.T) {
	r := v3(t).active().untilDeadline().after(time.Second / 2).do(heard(50, lower))
	r.wantActions("send advert, priority 100", "announce, 5 per address", "lower priority 50 heard from 10.0.0.1")
	r.wantDeadlineIn(time.Second)
	if got := r.s.LowerAnnounceAt.Sub(r.now); got != 5*time.Second {
		t.Errorf("second burst in %v", got)
	}
}

func TestLowerPrioNoAdvertKeepsTheAdvertTimer(t *testing.T) {
	r := v3(t, func(c *Config) { c.LowerPrioNoAdvert = true }).active().after(time.Second / 2).do(heard(50, lower))
	r.wantActions("announce, 5 per address", "lower priority 50 heard from 10.0.0.1")
	r.wantDeadlineIn(time.Second / 2)
}

func TestLowerPrioRepeatOfZeroAnnouncesNothing(t *testing.T) {
	r := v3(t, func(c *Config) { c.GARP.LowerPrioRepeat = 0 }).active().do(heard(50, lower))
	r.wantActions("send advert, priority 100", "lower priority 50 heard from 10.0.0.1")
	if r.s.LowerAnnounceAt != 0 {
		t.Error("a second burst is armed")
	}
}

func TestAPeerOfTheSyncGroupAnnouncesItsAddressesToo(t *testing.T) {
	r := v3(t).active().after(time.Second / 2).do(Defend{})
	r.wantActions("announce, 5 per address")
	r.wantDeadlineIn(time.Second / 2)
	v3(t).backup().do(Defend{}).wantActions("ignored: the router is not active")
}

func TestAnnouncementsOfANewMasterComeTwiceAndThenAsRefresh(t *testing.T) {
	r := v3(t, interval(40*time.Second), func(c *Config) {
		c.GARP.MasterDelay, c.GARP.MasterRefresh, c.GARP.MasterRefreshRepeat = 5*time.Second, 8*time.Second, 2
	}).active()
	since := r.now
	for _, want := range []struct {
		at     time.Duration
		action string
	}{
		{5 * time.Second, "announce, 5 per address"},
		{13 * time.Second, "announce, 2 per address"},
		{21 * time.Second, "announce, 2 per address"},
	} {
		r.untilDeadline()
		r.wantActions(want.action)
		if got := r.now.Sub(since); got != want.at {
			t.Fatalf("at %v, want %v", got, want.at)
		}
	}
}

func TestAnnouncementsOnOtherInterfacesArePeriodic(t *testing.T) {
	r := v3(t, interval(40*time.Second), func(c *Config) { c.GARP.MasterDelay, c.ExtraAnnounce = 0, 7*time.Second }).active()
	since := r.now
	for n := range 3 {
		r.untilDeadline()
		r.wantActions("announce, 1 per address on other interfaces")
		if got, want := r.now.Sub(since), time.Duration(n+1)*7*time.Second; got != want {
			t.Fatalf("at %v, want %v", got, want)
		}
	}
	if r.do(heard(150, higher)); r.s.ExtraAt != 0 {
		t.Errorf("timer still armed: %+v", r.s)
	}
}

func TestZeroRepeatsOfMasterAndRefreshCountAsOne(t *testing.T) {
	r := v3(t, interval(40*time.Second), func(c *Config) {
		c.GARP = GARP{MasterRefresh: time.Second}
	}).active()
	r.wantActions("send advert, priority 100", "become active", "announce, 1 per address", "transition backup -> active")
	r.untilDeadline()
	r.wantActions("announce, 1 per address")
	if r.s.AnnounceAt != 0 {
		t.Error("a delay of zero arms a second burst")
	}
}

func TestLeavingActiveCancelsAnnouncements(t *testing.T) {
	r := v3(t, func(c *Config) { c.GARP.MasterRefresh = time.Second }).active().do(heard(50, lower), heard(150, higher))
	if r.s.AnnounceAt != 0 || r.s.RefreshAt != 0 || r.s.LowerAnnounceAt != 0 {
		t.Errorf("timers still armed: %+v", r.s)
	}
}

func TestReannounceStartsBothBurstsAgain(t *testing.T) {
	r := v3(t).active().after(3 * time.Second).do(Reannounce{})
	r.wantActions("announce, 5 per address")
	if got := r.s.AnnounceAt.Sub(r.now); got != 5*time.Second {
		t.Errorf("second burst in %v", got)
	}
	v3(t).backup().do(Reannounce{}).wantActions("ignored: the router is not active")
}

func TestOfTwoOwnersTheOneWithTheLowerAddressYieldsAtOnce(t *testing.T) {
	r := v3(t, owner).active().do(heard(255, higher))
	r.wantStatus(Backup)
	if r.s.Priority != 255 || r.s.Lowered {
		t.Errorf("priority %d", r.s.Priority)
	}
}

func TestOfTwoOwnersTheOneWithTheHigherAddressWaitsAndThenLowersItself(t *testing.T) {
	r := v3(t, owner).active().do(Received{From: lower, Priority: 255, Interval: 2 * time.Second})
	r.wantActions("send advert, priority 255", "announce, 5 per address", "lower priority 255 heard from 10.0.0.1")
	r.do(heard(255, lower)) // already known
	r.wantActions("ignored")
	r.untilDeadline()
	r.wantActions("send advert, priority 255")
	end := r.now.Add(2400 * time.Millisecond)
	r.after(time.Second / 2).do(heard(255, lower)).wantActions("ignored: 10.0.0.1 is configured as address owner, too")
	for r.s.Status == Active {
		r.untilDeadline()
	}
	if r.now != end {
		t.Errorf("gave way %v late", r.now.Sub(end))
	}
	r.wantActions("leave active for backup",
		"transition active -> backup: 10.0.0.1 is configured as address owner, too")
	if r.s.Priority != 254 || !r.s.Lowered {
		t.Errorf("priority %d", r.s.Priority)
	}
	r.wantDeadlineIn(6*time.Second + 7812*time.Microsecond) // interval of the other, skew of an owner

	t.Run("and has 255 again when the other is silent", func(t *testing.T) {
		again := *r
		again.t = t
		again.untilDeadline()
		again.wantActions("send advert, priority 255", "become active", "announce, 5 per address", "transition backup -> active")
	})
	t.Run("and has 255 again when the other sends something else", func(t *testing.T) {
		again := *r
		again.t = t
		again.do(heard(100, lower))
		again.wantActions("ignored: priority 100 of 10.0.0.1 is lower than ours, 255")
	})
	t.Run("and has 255 again after a fault", func(t *testing.T) {
		again := *r
		again.t = t
		again.do(Faulted{Reason: "eth0 down"})
		if again.s.Priority != 255 {
			t.Errorf("priority %d", again.s.Priority)
		}
	})
	t.Run("and stays backup while the other advertises", func(t *testing.T) {
		again := *r
		again.t = t
		for range 20 {
			again.after(time.Second).do(heard(255, lower), Tick{})
		}
		again.wantStatus(Backup)
	})
}

func TestTheConflictOfOwnersEndsWhenTheOtherYields(t *testing.T) {
	r := v3(t, owner).active().do(heard(255, lower))
	for range 20 {
		r.untilDeadline()
	}
	r.wantStatus(Active)
	if r.s.ConflictAt != 0 || r.s.ConflictInterval != 0 || r.s.ConflictFrom.IsValid() {
		t.Errorf("the conflict is not over: %+v", r.s)
	}
}

func TestOwnerIgnoreAdvertsMakesTheOwnerDeaf(t *testing.T) {
	r := v3(t, owner, func(c *Config) { c.OwnerIgnoreAdverts = true }).active().do(heard(255, higher))
	r.wantActions("ignored: an address owner does not look at advertisements")
	r.wantStatus(Active)
}

func TestTimerExpiredBackupGivesUpAfterALongSleep(t *testing.T) {
	r := v3(t, nopreempt, func(c *Config) { c.TimerExpiredBackup = 254 }).active()
	r.after(3*time.Second + 7*time.Millisecond).do(Tick{})
	r.wantActions("send advert, priority 100")
	r.after(3*time.Second + 8*time.Millisecond).do(Tick{})
	r.wantActions("leave active for backup",
		"transition active -> backup: not scheduled for too long, another router must be active")
}

func TestWithoutTimerExpiredBackupAMasterGoesOnAfterALongSleep(t *testing.T) {
	r := v3(t).active().after(time.Hour).do(Tick{})
	r.wantActions("send advert, priority 100", "announce, 5 per address")
	r.wantDeadlineIn(time.Second)
}

func TestAnInstanceThatDetectsAFaultResignsTwiceAndItsPeersOnce(t *testing.T) {
	r := v3(t).active().do(Faulted{Reason: "interface eth0 down"})
	r.wantActions("send advert, priority 0", "send advert, priority 0", "leave active for fault",
		"transition active -> fault: interface eth0 down")
	r.wantNoDeadline()
	r = v3(t).active().do(Faulted{Reason: "peer VI_2", Peer: true})
	r.wantActions("send advert, priority 0", "leave active for fault", "transition active -> fault: peer VI_2")
}

func TestAFaultInBackupIsReportedAndNothingIsSent(t *testing.T) {
	v3(t).backup().do(Faulted{Reason: "script"}).wantActions("transition backup -> fault: script")
}

func TestASecondFaultIsIgnored(t *testing.T) {
	v3(t).backup().do(Faulted{Reason: "a"}, Faulted{Reason: "b"}).wantActions("ignored: the router has a fault already")
}

func TestPacketsAreIgnoredInFaultAndInit(t *testing.T) {
	v3(t).do(heard(150, higher)).wantActions("ignored: the router does not run")
	v3(t).backup().do(Faulted{Reason: "a"}, heard(150, higher)).wantActions("ignored: the router has a fault")
}

func TestARecoveredRouterIsBackupWithAFullTimerOfItsOwnInterval(t *testing.T) {
	r := v3(t, initialActive).backup().do(Received{From: higher, Priority: 150, Interval: 4 * time.Second})
	r.do(Faulted{Reason: "a"}, Recovered{})
	r.wantActions("transition fault -> backup: recovered")
	r.wantDeadlineIn(3*time.Second + skew100)
}

func TestARecoveredOwnerIsMasterDirectly(t *testing.T) {
	r := v3(t, owner).active().do(Faulted{Reason: "a"}, Recovered{})
	r.wantActions("send advert, priority 255", "become active", "announce, 5 per address",
		"transition fault -> active: recovered as owner")
}

func TestAnInitialFaultIsSilentUntilItIsReal(t *testing.T) {
	r := v3(t).do(Faulted{Reason: "script unknown", Silent: true})
	r.wantActions("transition initialize -> fault, silently: script unknown")
	r.do(Faulted{Reason: "still unknown", Silent: true}).wantActions("ignored: the router has a fault already")
	real := *r
	real.do(Faulted{Reason: "script failed"}).wantActions("transition initialize -> fault: script failed")
	real.do(Recovered{}).wantActions("transition fault -> backup: recovered")
	r.do(Recovered{}).wantActions("transition initialize -> backup: start")
	v3(t, owner).do(Faulted{Reason: "script unknown", Silent: true}, Recovered{}).wantActions("send advert, priority 255",
		"become active", "announce, 5 per address", "transition initialize -> active: start as owner")
}

func TestARouterThatIsStoppedInFaultSendsNothingAndCanStartAgain(t *testing.T) {
	r := v3(t).backup().do(SetPriority{Priority: 90}, Faulted{Reason: "a"}, Stop{})
	r.wantActions("transition fault -> initialize: stop")
	r.do(Stop{}).wantActions("ignored: the router does not run")
	r.do(Start{}).wantActions("transition initialize -> backup: start")
	if r.s.Priority != 90 {
		t.Errorf("priority %d, want that of tracking", r.s.Priority)
	}
	r.do(Start{}).wantActions("ignored: the router runs already")
}

func TestADisturbedMasterResignsAndReturnsAfterTheSkew(t *testing.T) {
	r := v3(t).active().do(Disturbed{Reason: "address 10.0.0.100 removed"})
	r.wantActions("send advert, priority 0", "leave active for backup",
		"transition active -> backup: address 10.0.0.100 removed")
	r.wantDeadlineIn(skew100)
	v3(t).backup().do(Disturbed{}).wantActions("ignored: the router is not active")
}

func TestAYieldingMemberSendsNoPriorityZeroUnlessToldTo(t *testing.T) {
	r := v3(t).active().do(Yield{Reason: "peer left"})
	r.wantActions("leave active for backup", "transition active -> backup: peer left")
	r.wantDeadlineIn(3*time.Second + skew100)
	r = v3(t).active().do(Yield{Reason: "move", ShortenPeers: true})
	r.wantActions("send advert, priority 0", "leave active for backup", "transition active -> backup: move")
	v3(t).backup().do(Yield{}).wantActions("ignored: the router is neither active nor claiming")
}

func TestAHeldMemberWishesAndTriesAgain(t *testing.T) {
	r := v3(t).do(Hold{}).backup().untilDeadline()
	r.wantActions("wishes to be active")
	r.wantDeadlineIn(3*time.Second + skew100)
	if !r.s.Wish {
		t.Error("no wish")
	}
	r.untilDeadline()
	r.wantActions("wishes to be active")
	r.do(heard(50, lower))
	if !r.s.Wish {
		t.Error("a rejected advertisement cleared the wish")
	}
	r.do(heard(150, higher))
	if r.s.Wish {
		t.Error("an accepted advertisement left the wish")
	}
	r.untilDeadline().do(Granted{})
	r.wantActions("send advert, priority 100", "become active", "announce, 5 per address",
		"transition backup -> active: granted by the sync group")
	r.do(Yield{Reason: "peer left"}).untilDeadline()
	r.wantActions("wishes to be active") // still held
	r.do(Unhold{}).untilDeadline()
	r.wantStatus(Active)
}

func TestHoldAndUnholdSayWhenTheyChangeNothing(t *testing.T) {
	r := v3(t).backup().do(Unhold{})
	r.wantActions("ignored: the router is not held")
	r.do(Hold{}, Hold{}).wantActions("ignored: the router is held already")
}

func TestARecoveredOwnerThatIsHeldWishesAtOnce(t *testing.T) {
	r := v3(t, owner).do(Hold{}, Start{}).untilDeadline()
	r.wantActions("wishes to be active")
	r.do(Faulted{Reason: "a"}, Recovered{})
	r.wantActions("wishes to be active", "transition fault -> backup: recovered")
}

func TestAnIntervalOfZeroTeachesNothing(t *testing.T) {
	r := v3(t).backup().do(Received{From: higher, Priority: 150})
	r.wantDeadlineIn(3*time.Second + skew100)
}

func TestALateOrEarlyTickIsHarmless(t *testing.T) {
	r := v3(t).backup().after(time.Second).do(Tick{})
	r.wantActions()
	r.wantDeadlineIn(2*time.Second + skew100)
	v3(t).do(Tick{}).wantActions()
	v3(t).backup().do(Faulted{Reason: "a"}, Tick{}).wantActions()
	v3(t).active().do(Tick{}).wantActions()
}

func TestSmallDelaysOfAdvertisementsDoNotAddUp(t *testing.T) {
	r := v3(t).active()
	for range 2 {
		late := r.s.AdvertAt.Add(100 * time.Millisecond)
		r.after(late.Sub(r.now)).do(Tick{}).wantActions("send advert, priority 100")
		r.wantDeadlineIn(900 * time.Millisecond)
	}
	late := r.s.AdvertAt.Add(101 * time.Millisecond)
	r.after(late.Sub(r.now)).do(Tick{}).wantActions("send advert, priority 100")
	r.wantDeadlineIn(time.Second)
}

func TestANewConfigurationTakesEffectWithoutTouchingRunningTimers(t *testing.T) {
	r := v3(t).active().after(time.Second / 4)
	r.cfg.AdvertInterval = 5 * time.Second
	r.do(Tick{})
	r.wantDeadlineIn(3 * time.Second / 4)
	r.untilDeadline()
	if got := r.s.AdvertAt.Sub(r.now); got != 5*time.Second {
		t.Errorf("next advertisement in %v", got)
	}
	r.cfg.Priority, r.cfg.InitialActive = 255, true
	if got := r.untilDeadline().s.Priority; got != 255 {
		t.Errorf("priority %d after the router became the owner", got)
	}
	r.cfg.Priority = 120
	if got := r.do(Tick{}).s.Priority; got != 120 {
		t.Errorf("priority %d after the router ceased to be the owner", got)
	}
}
