package vrrp

import "time"

const centisecond = 10 * time.Millisecond

// SkewTime returns Skew_Time for a priority and the Active router's advertisement interval.
//
// Version 2: (256 - Priority) / 256 seconds (RFC 3768 section 6.1).
// Version 3: (256 - Priority) * Active_Adver_Interval / 256 (RFC 9568 section 6.1).
// Both are rounded down to microseconds, and version 3 computes in whole centiseconds, as keepalived does.
func SkewTime(version, priority uint8, activeInterval time.Duration) time.Duration {
	steps := 256 - int64(priority)
	if version == Version2 {
		return time.Duration(steps*1_000_000/256) * time.Microsecond
	}
	return time.Duration(steps*int64(activeInterval/centisecond)*625/16) * time.Microsecond
}

// skew returns Skew_Time of this router. An owner that was lowered keeps the skew of an owner.
func (s State) skew(cfg *Config) time.Duration {
	priority := s.Priority
	if cfg.Owner() {
		priority = PriorityOwner
	}
	return SkewTime(cfg.Version, priority, s.ActiveInterval)
}

// downInterval returns Active_Down_Interval: Active_Adver_Interval times the configured number, 3 in the RFCs, plus
// Skew_Time.
func (s State) downInterval(cfg *Config) time.Duration {
	return time.Duration(cfg.DownTimerAdverts)*s.ActiveInterval + s.skew(cfg)
}

// DownInterval returns Active_Down_Interval of this State, or of a router that has heard nobody if it was not started.
func (s State) DownInterval(cfg *Config) time.Duration {
	s = s.normalised(cfg)
	return s.downInterval(cfg)
}
