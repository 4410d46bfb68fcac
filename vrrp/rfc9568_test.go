package vrrp

import (
	"testing"
	"time"
)

// The tests in this file take one rule of RFC 9568 each. keepalived's departures from it are in keepalived_test.go.

// Section 6.1: "Active_Down_Interval: Time interval for Backup Router to declare Active Router down (centiseconds).
// Calculated as: (3 * Active_Adver_Interval) + Skew_Time".
func TestRFC9568Section6_1ActiveDownInterval(t *testing.T) {
	r := v3(t).backup()
	r.wantDeadlineIn(3*time.Second + 609375*time.Microsecond)
	if got := r.s.DownInterval(&r.cfg); got != 3*time.Second+609375*time.Microsecond {
		t.Errorf("DownInterval %v", got)
	}
}

// Section 6.4.1: a Startup event with Priority = 255 sends an ADVERTISEMENT, announces the addresses and becomes Active.
func TestRFC9568Section6_4_1AnOwnerStartsAsActive(t *testing.T) {
	r := v3(t, owner).do(Start{}).untilDeadline()
	r.wantActions("send advert, priority 255", "become active", "announce, 5 per address", "transition backup -> active")
	if r.now.Sub(origin) > time.Millisecond {
		t.Errorf("after %v", r.now.Sub(origin))
	}
	r.wantDeadlineIn(time.Second)
}

// Section 6.4.1: any other router sets the Active_Down_Timer and becomes Backup.
func TestRFC9568Section6_4_1AnotherRouterStartsAsBackup(t *testing.T) {
	r := v3(t).do(Start{})
	r.wantActions("transition initialize -> backup: start")
	r.wantDeadlineIn(3*time.Second + 609375*time.Microsecond)
}

// Section 6.4.2: "If a Shutdown event is received, then: Cancel the Active_Down_Timer. Transition to the Initialize state".
func TestRFC9568Section6_4_2ABackupStopsInSilence(t *testing.T) {
	r := v3(t).backup().do(Stop{})
	r.wantActions("transition backup -> initialize: stop")
	r.wantNoDeadline()
}

// Section 6.4.2: when the Active_Down_Timer fires the router advertises, announces, and becomes Active.
func TestRFC9568Section6_4_2ABackupTakesOverWhenTheDownTimerFires(t *testing.T) {
	r := v3(t).backup().untilDeadline()
	r.wantActions("send advert, priority 100", "become active", "announce, 5 per address",
		"transition backup -> active: active down timer expired")
}

// Section 6.4.2: "If the Priority in the ADVERTISEMENT is zero, then: Set the Active_Down_Timer to Skew_Time".
func TestRFC9568Section6_4_2PriorityZeroShortensTheDownTimerToTheSkew(t *testing.T) {
	r := v3(t).backup().after(time.Second).do(heard(0, higher))
	r.wantActions()
	r.wantDeadlineIn(609375 * time.Microsecond)
}

// Section 6.4.2: a priority greater than or equal to ours resets the Active_Down_Timer.
func TestRFC9568Section6_4_2AnAdvertOfEqualOrHigherPriorityRestartsTheDownTimer(t *testing.T) {
	for _, p := range []uint8{100, 101, 255} {
		r := v3(t).backup().after(2 * time.Second).do(heard(p, lower))
		r.wantActions()
		r.wantDeadlineIn(3*time.Second + 609375*time.Microsecond)
	}
}

// Section 6.4.2: "If Preempt_Mode is False [...] Reset the Active_Down_Timer to Active_Down_Interval".
func TestRFC9568Section6_4_2WithoutPreemptModeALowerPriorityRestartsTheDownTimer(t *testing.T) {
	r := v3(t, nopreempt).backup().after(2 * time.Second).do(heard(1, lower))
	r.wantActions()
	r.wantDeadlineIn(3*time.Second + 609375*time.Microsecond)
}

// Section 6.4.2: otherwise the ADVERTISEMENT is discarded.
func TestRFC9568Section6_4_2ALowerPriorityIsDiscardedAndTheTimerKeepsRunning(t *testing.T) {
	r := v3(t).backup().after(2 * time.Second).do(heard(99, higher))
	r.wantActions("ignored: priority 99 of 10.0.0.9 is lower than ours, 100")
	r.wantDeadlineIn(time.Second + 609375*time.Microsecond)
}

// Section 6.4.2: "Set Active_Adver_Interval to Max Advertise Interval contained in the ADVERTISEMENT. Recompute the
// Skew_Time. Recompute the Active_Down_Interval."
func TestRFC9568Section6_4_2TheIntervalIsLearned(t *testing.T) {
	r := v3(t).backup().do(Received{From: higher, Priority: 150, Interval: 4 * time.Second})
	r.wantDeadlineIn(12*time.Second + 4*609375*time.Microsecond)
	r.do(heard(0, higher))
	r.wantDeadlineIn(4 * 609375 * time.Microsecond)
	r.untilDeadline()
	r.wantDeadlineIn(time.Second) // Active: our own
}

// Section 6.4.3: "If a Shutdown event is received, then: Cancel the Adver_Timer. Send an ADVERTISEMENT with Priority = 0."
func TestRFC9568Section6_4_3AnActiveRouterResignsWhenItStops(t *testing.T) {
	r := v3(t).active().do(Stop{})
	r.wantActions("send advert, priority 0", "leave active for initialize", "transition active -> initialize: stop")
	r.wantNoDeadline()
}

// Section 6.4.3: "If the Adver_Timer fires, then: Send an ADVERTISEMENT. Reset the Adver_Timer to Advertisement_Interval."
func TestRFC9568Section6_4_3AnActiveRouterAdvertisesEveryInterval(t *testing.T) {
	r := v3(t).active()
	for range 3 {
		r.wantDeadlineIn(time.Second)
		r.untilDeadline()
		r.wantActions("send advert, priority 100")
	}
}

// Section 6.4.3: "If the Priority in the ADVERTISEMENT is zero, then: Send an ADVERTISEMENT. Reset the Adver_Timer".
func TestRFC9568Section6_4_3AnActiveRouterAnswersPriorityZero(t *testing.T) {
	r := v3(t).active().after(time.Second / 2).do(heard(0, higher))
	r.wantActions("send advert, priority 100")
	r.wantDeadlineIn(time.Second)
}

// Section 6.4.3: a greater priority, or an equal one from a greater address, makes the router Backup, with the interval
// and the down timer of the other.
func TestRFC9568Section6_4_3AnActiveRouterGivesWayToAHigherRank(t *testing.T) {
	tests := []struct {
		name   string
		ev     Received
		reason string
	}{
		{"greater priority", Received{From: lower, Priority: 101, Interval: 2 * time.Second},
			"higher priority 101 of 10.0.0.1 heard"},
		{"equal priority of a greater address", Received{From: higher, Priority: 100, Interval: 2 * time.Second},
			"equal priority 100 of higher address 10.0.0.9 heard"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := v3(t).active().do(tt.ev)
			r.wantActions("leave active for backup", "transition active -> backup: "+tt.reason)
			r.wantDeadlineIn(6*time.Second + 2*609375*time.Microsecond)
			if r.s.ActiveFrom != tt.ev.From || r.s.ActivePriority != tt.ev.Priority {
				t.Errorf("the active router is %v with %d", r.s.ActiveFrom, r.s.ActivePriority)
			}
		})
	}
}

// Section 6.4.3: otherwise "Discard the ADVERTISEMENT. Immediately send an ADVERTISEMENT to assert the Active state".
func TestRFC9568Section6_4_3AnActiveRouterAssertsItselfAgainstALowerRank(t *testing.T) {
	for _, ev := range []Received{heard(99, higher), heard(100, lower)} {
		r := v3(t).active().after(time.Second / 2).do(ev)
		r.wantStatus(Active)
		if len(r.got) == 0 || r.got[0] != (SendAdvert{Priority: 100}) {
			t.Errorf("actions %v", lines(r.got))
		}
	}
}

// Section 5.2.4: the priority of the owner is 255, that of a router which resigns 0, and 1 to 254 are for the others.
func TestRFC9568Section5_2_4OtherRoutersKeepBetween1And254(t *testing.T) {
	r := v3(t).active()
	for _, p := range []uint8{0, 255} {
		r.do(SetPriority{Priority: p})
		r.wantActions("ignored")
	}
	r.do(SetPriority{Priority: 1}).untilDeadline()
	r.wantActions("send advert, priority 1")
	r = v3(t, owner).active().do(SetPriority{Priority: 100})
	r.wantActions("ignored: the priority of an address owner does not change")
}

// RFC 3768 section 6.1: version 2 uses its own interval, and its Skew_Time does not depend on it.
func TestRFC3768Section6_1Version2LearnsNoInterval(t *testing.T) {
	r := v2(t, interval(2*time.Second)).backup().do(Received{From: higher, Priority: 150, Interval: 9 * time.Second})
	r.wantDeadlineIn(6*time.Second + 609375*time.Microsecond)
}
