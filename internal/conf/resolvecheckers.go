package conf

import (
	"net/netip"

	"github.com/hactl/had/internal/pcre"
)

// resolveChecker completes a checker from its real server, its virtual server and the defaults of its kind. ok is false
// if it cannot check anything.
func (l *loader) resolveChecker(v *virtualDraft, r *realDraft, d *checkDraft) (ok bool) {
	if d.Kind != BFDCheck && d.Kind != FileCheck {
		d.Checker.Alpha = r.RealServer.Alpha
	}
	setIf(&d.Checker.Alpha, d.alpha)
	d.LogAllFailures = l.global.CheckerLogAll
	setIf(&d.LogAllFailures, d.logAll)
	switch d.Kind {
	case BFDCheck:
		return l.required(d, r, "name", d.Session != "") && l.checkerSession(d)
	case FileCheck:
		return l.required(d, r, "track_file", d.File.TrackFile != "") && l.resolveFileCheck(d)
	}
	l.resolveTimes(v, r, d)
	if d.Kind == MiscCheck {
		if !l.required(d, r, "misc_path", d.command != nil) {
			return false
		}
		d.Misc.Command = *d.command
		d.Misc.Command.User, d.Misc.Command.Group = d.user, d.group
		if d.Misc.Timeout == 0 {
			d.Misc.Timeout = defaultDelayLoop
			setIf(&d.Misc.Timeout, v.delayLoop)
		}
		return true
	}
	if !l.resolveTarget(v, r, d) {
		return false
	}
	switch d.Kind {
	case UDPCheck:
		if u := d.UDP; u.MinReply > u.MaxReply {
			l.errorf(CodeRange, d.at("min_reply_length"), "min_reply_length %d is above max_reply_length %d; both are ignored",
				u.MinReply, u.MaxReply)
			u.MinReply, u.MaxReply = 0, 255
		}
	case HTTPGet, SSLGet:
		for _, u := range d.urls {
			l.resolveURL(v, r, d, u)
		}
		return l.required(d, r, "url with a path", len(d.HTTP.URLs) > 0)
	}
	return true
}

// required reports a checker that lacks what it cannot be without.
func (l *loader) required(d *checkDraft, r *realDraft, what string, found bool) bool {
	if !found {
		l.errorf(CodeMissing, d.word, "%s has no %s and is left out: nothing checks real_server %v with it", d.Kind, what, r.Address)
	}
	return found
}

// resolveTimes applies: the checker, the real server, the virtual server, the default of the kind.
func (l *loader) resolveTimes(v *virtualDraft, r *realDraft, d *checkDraft) {
	d.DelayLoop, d.ConnectTimeout = defaultDelayLoop, defaultCheckTimeout
	d.Retry, d.DelayBeforeRetry = 1, second
	outer := []*checkTimes{&v.checkTimes, &r.checkTimes, &d.checkTimes}
	for _, t := range outer {
		setIf(&d.DelayLoop, t.delayLoop)
		setIf(&d.ConnectTimeout, t.connectTimeout)
	}
	switch d.Kind {
	case MiscCheck:
		d.Retry, d.ConnectTimeout = 0, 0
	case DNSCheck:
		d.Retry, d.DelayBeforeRetry = 3, d.DelayLoop
	case HTTPGet, SSLGet:
		d.DelayBeforeRetry = 3 * second
	}
	d.Warmup = d.DelayLoop
	for _, t := range outer {
		setIf(&d.Retry, t.retry)
		setIf(&d.DelayBeforeRetry, t.delayBeforeRetry)
		setIf(&d.Warmup, t.warmup)
	}
}

// resolveTarget finds what a check connects to, and from where.
func (l *loader) resolveTarget(v *virtualDraft, r *realDraft, d *checkDraft) bool {
	address, port := r.Address.Addr(), r.Address.Port()
	if port == 0 {
		port = l.onlyPort(v)
	}
	if d.connectIP.IsValid() {
		address = d.connectIP
	}
	if d.connectPort != 0 {
		port = d.connectPort
	}
	if port == 0 && d.Kind != PingCheck {
		l.errorf(CodeMissing, d.word, "%s has no port to check, because real_server %v has none: give connect_port; it is left out",
			d.Kind, r.Address.Addr())
		return false
	}
	if address.IsLinkLocalUnicast() && address.Is6() {
		if d.BindInterface == "" {
			l.errorf(CodeMissing, d.word, "%s of the link-local address %v needs bind_if; it is left out", d.Kind, address)
			return false
		}
		address = address.WithZone(d.BindInterface)
	}
	if d.BindAddress.IsValid() && familyOf(d.BindAddress) != familyOf(address) {
		l.errorf(CodeFamily, d.at("bindto"), "bindto %v is of another address family than %v, which is checked; it is ignored",
			d.BindAddress, address)
		d.BindAddress = netip.Addr{}
	}
	d.Target = netip.AddrPortFrom(address, port)
	return true
}

// onlyPort returns the port that all entries of the virtual server's group have, or 0.
func (l *loader) onlyPort(v *virtualDraft) (port uint16) {
	group := l.virtualGroup(v)
	if group == nil {
		return 0
	}
	for _, e := range group.Entries {
		switch {
		case e.Mark != 0:
		case port == 0:
			port = e.Port
		case port != e.Port:
			return 0
		}
	}
	return port
}

func (l *loader) resolveURL(v *virtualDraft, r *realDraft, d *checkDraft, u *urlDraft) {
	if u.Path == "" || u.Path[0] != '/' {
		w := u.word
		if n := u.last["path"]; n != nil {
			w = n.Words[0]
		}
		l.errorf(CodeMissing, w, "a url needs a path that begins with /; it is left out")
		return
	}
	for _, host := range []string{v.virtualHost, r.virtualHost, d.virtualHost, u.virtualHost} {
		if host != "" {
			u.Host = host
		}
	}
	if d.Kind == SSLGet && d.sni {
		for _, name := range []string{d.virtualHost, u.virtualHost, d.sniName} {
			if name != "" {
				u.ServerName = name
			}
		}
	}
	if len(u.Status) == 0 {
		u.Status = []StatusRange{{200, 299}}
	}
	u.URL.TLSVerify = d.tlsVerify
	u.URL.TLSCompliant = d.tlsCompliant
	setIf(&u.URL.TLSCompliant, u.tlsCompliant)
	switch re := u.regex; {
	case re.Pattern != "":
		if re.MaxOffset >= 0 && re.MinOffset > re.MaxOffset {
			l.errorf(CodeRange, wordAt(re.Pos), "regex_min_offset %d is above regex_max_offset %d; both are ignored", re.MinOffset, re.MaxOffset)
			re.MinOffset, re.MaxOffset = 0, -1
		}
		if _, err := pcre.Compile(re.Pattern, re.Options); err != nil {
			l.errorf(CodeOption, wordAt(re.Pos), "regex: %v; the body is not compared with it", err)
			break
		}
		u.Regex = &re
	case re.NoMatch || re.Options != nil || re.MinOffset != 0 || re.MaxOffset >= 0:
		l.warnf(CodeOption, u.word, "the url has options of a regex, and no regex")
	}
	d.HTTP.URLs = append(d.HTTP.URLs, u.URL)
}

// checkerSession tells whether the BFD session of a checker reports to checkers.
func (l *loader) checkerSession(d *checkDraft) bool {
	for _, b := range l.cfg.BFD {
		if b.Name == d.Session {
			if !b.Checker {
				l.errorf(CodeReference, d.at("name"), "bfd_instance %s says vrrp and not checker; BFD_CHECK is left out", b.Name)
			}
			return b.Checker
		}
	}
	return false // it was dropped, and that was said
}

func (l *loader) resolveFileCheck(d *checkDraft) bool {
	for _, f := range l.cfg.TrackFiles {
		if f.Name == d.File.TrackFile {
			d.File.Weight, d.File.Reverse = f.Weight, f.Reverse
			setIf(&d.File.Weight, d.fileWeight)
			if d.fileWeight != nil {
				d.File.Reverse = false
			}
			setIf(&d.File.Reverse, d.fileReverse)
			return true
		}
	}
	return false
}
