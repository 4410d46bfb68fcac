package vrrp

import (
	"testing"
	"time"
)

func TestAGatedRouterClaimsInsteadOfTakingOver(t *testing.T) {
	r := v3(t, gated).backup().untilDeadline()
	r.wantActions("claim: master down")
	r.wantStatus(Backup)
	r.wantNoDeadline()
	r.after(time.Hour).do(Tick{}).wantActions()
}

func TestAGatedRouterBecomesActiveWhenGranted(t *testing.T) {
	r := v3(t, gated).backup().untilDeadline().do(Granted{})
	r.wantActions("send advert, priority 100", "become active", "announce, 5 per address",
		"transition backup -> active: lease granted")
	r.wantDeadlineIn(time.Second)
}

func TestAGrantNeedsNoClaim(t *testing.T) {
	v3(t, gated).backup().do(Granted{}).wantStatus(Active)
}

func TestAGrantIsIgnoredInFaultAndInit(t *testing.T) {
	v3(t, gated).do(Granted{}).wantActions("ignored: a router in initialize cannot be active")
	v3(t, gated).backup().do(Faulted{Reason: "a"}, Granted{}).wantActions("ignored: a router in fault cannot be active")
}

func TestARenewedGrantAnnouncesAgain(t *testing.T) {
	v3(t, gated).active().do(Granted{}).wantActions("announce, 5 per address")
}

func TestAGatedOwnerClaimsAtOnce(t *testing.T) {
	r := v3(t, gated, owner).do(Start{}).untilDeadline()
	r.wantActions("claim: master down")
	r = v3(t, gated, owner).active().do(Faulted{Reason: "a"}, Recovered{})
	r.wantActions("claim: master down", "transition fault -> backup: recovered")
}

func TestAClaimBesideALivingLowerRouterIsAPreemption(t *testing.T) {
	r := v3(t, gated).backup().after(3 * time.Second).do(heard(50, lower)).untilDeadline()
	r.wantActions("claim: preempt")
	t.Run("and an ordinary one when that router falls silent", func(t *testing.T) {
		again := *r
		again.t = t
		again.wantDeadlineIn(3 * time.Second)
		again.untilDeadline()
		again.wantActions("claim: master down")
		again.wantNoDeadline()
	})
	t.Run("and an ordinary one when that router resigns", func(t *testing.T) {
		again := *r
		again.t = t
		again.do(heard(0, lower)).wantActions("claim: master down")
	})
	t.Run("and is not repeated while that router lives", func(t *testing.T) {
		again := *r
		again.t = t
		again.after(time.Second).do(heard(50, lower)).wantActions("ignored: priority 50 of 10.0.0.1 is lower than ours, 100")
		again.wantDeadlineIn(3*time.Second + skew100)
	})
}

func TestAClaimBecomesAPreemptionWhenALowerRouterIsHeard(t *testing.T) {
	r := v3(t, gated).backup().untilDeadline().do(heard(50, lower))
	r.wantActions("claim: preempt", "ignored: priority 50 of 10.0.0.1 is lower than ours, 100")
	r.wantDeadlineIn(3*time.Second + skew100)
}

func TestARouterThatResignedIsNotPreempted(t *testing.T) {
	r := v3(t, gated).backup().do(heard(50, lower), heard(0, lower)).untilDeadline()
	r.wantActions("claim: master down")
}

func TestAnAdvertOfEqualOrHigherPriorityEndsTheClaim(t *testing.T) {
	for _, p := range []uint8{100, 150} {
		r := v3(t, gated).backup().untilDeadline().do(heard(p, lower))
		r.wantActions("unclaim")
		r.wantDeadlineIn(3*time.Second + skew100)
	}
}

func TestWithoutPreemptionAnyAdvertEndsTheClaim(t *testing.T) {
	r := v3(t, gated, nopreempt).backup().untilDeadline().do(heard(1, lower))
	r.wantActions("unclaim")
	r.wantDeadlineIn(3*time.Second + skew100)
}

func TestPreemptDelayEndsAClaimThatALowerRouterForestalled(t *testing.T) {
	r := v3(t, gated, preemptDelay(time.Minute)).backup().untilDeadline().do(heard(50, lower))
	r.wantActions("unclaim")
}

func TestAClaimEndsBeforeAnythingElseHappens(t *testing.T) {
	claiming := func() *router { return v3(t, gated).backup().untilDeadline() }
	claiming().do(Faulted{Reason: "a"}).wantActions("unclaim", "transition backup -> fault: a")
	claiming().do(Stop{}).wantActions("unclaim", "transition backup -> initialize: stop")
	r := claiming().do(Yield{Reason: "refused"})
	r.wantActions("unclaim")
	r.wantDeadlineIn(3*time.Second + skew100)
	r = claiming().do(Hold{})
	r.wantActions("unclaim")
	r.untilDeadline()
	r.wantActions("wishes to be active")
	r.do(Unhold{}).untilDeadline()
	r.wantActions("claim: master down")
}

func TestAChangeOfPriorityWhileClaimingArmsNothing(t *testing.T) {
	r := v3(t, gated).backup().untilDeadline().do(SetPriority{Priority: 50})
	r.wantActions()
	r.wantNoDeadline()
	r.do(heard(60, lower)).wantActions("unclaim")
}

func TestAGatedActiveRouterRemovesItsAddressesBeforeItResigns(t *testing.T) {
	v3(t, gated).active().do(Stop{}).wantActions("leave active for initialize", "send advert, priority 0",
		"transition active -> initialize: stop")
	v3(t, gated).active().do(Faulted{Reason: "a"}).wantActions("leave active for fault", "send advert, priority 0",
		"transition active -> fault: a")
	v3(t, gated).active().do(Yield{Reason: "moved", ShortenPeers: true}).wantActions("leave active for backup",
		"send advert, priority 0", "transition active -> backup: moved")
}

func TestAGatedActiveRouterYieldsInSilenceWhenItsLeaseEnds(t *testing.T) {
	r := v3(t, gated).active().do(Yield{Reason: "lease ended"})
	r.wantActions("leave active for backup", "transition active -> backup: lease ended")
	r.wantDeadlineIn(3*time.Second + skew100)
	r.untilDeadline()
	r.wantActions("claim: master down")
}

func TestAGatedActiveRouterGivesWayToAHigherPriorityAsAnyOther(t *testing.T) {
	r := v3(t, gated).active().after(time.Second).do(heard(150, higher))
	r.wantActions("leave active for backup", "transition active -> backup: higher priority 150 of 10.0.0.9 heard")
}

func TestAGatedRouterLeavesRepairsToTheHolderOfTheLease(t *testing.T) {
	r := v3(t, gated).active().do(Disturbed{Reason: "address removed"})
	r.wantActions("ignored: the holder of the lease restores what was removed")
	r.wantStatus(Active)
}

func TestAnAdvertThatTheGrantOvertookDoesNotEndIt(t *testing.T) {
	r := v3(t, gated).active().after(999 * time.Millisecond).do(heard(150, higher))
	r.wantActions("ignored: higher priority 150 of 10.0.0.9 may have been sent before our grant")
	r.wantStatus(Active)
	r.after(time.Millisecond).do(heard(150, higher))
	r.wantStatus(Backup)
}
