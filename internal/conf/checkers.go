package conf

import (
	"encoding/hex"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

// checkTimes are the times of checkers as a virtual server, a real server or a checker gives them; nil: not given.
type checkTimes struct {
	retry                                               *int
	delayBeforeRetry, warmup, connectTimeout, delayLoop *time.Duration
}

func (l *loader) checkTimeWords(h handlers, t *checkTimes) {
	span := func(p **time.Duration) func(statement) {
		return func(s statement) {
			if d, ok := l.span(s); ok {
				*p = &d
			}
		}
	}
	h["retry"] = func(s statement) {
		if n, ok := l.integer(s); ok {
			t.retry = &n
		}
	}
	h["delay_before_retry"] = span(&t.delayBeforeRetry)
	h["warmup"] = span(&t.warmup)
	h["connect_timeout"] = span(&t.connectTimeout)
	h["delay_loop"] = span(&t.delayLoop)
}

// checkDraft is the block of a checker as it was given.
type checkDraft struct {
	Checker
	word syntax.Word
	last map[string]*Node
	checkTimes

	alpha       *bool
	logAll      *bool
	connectIP   netip.Addr
	connectPort uint16
	hosts       []*checkDraft // of SMTP_CHECK

	virtualHost  string // HTTP_GET, SSL_GET
	sni          bool
	sniName      string
	tlsCompliant bool
	tlsVerify    bool
	urls         []*urlDraft

	command     *Command // MISC_CHECK
	user, group string
	fileWeight  *int
	fileReverse *bool
}

// at returns the word of a keyword of the block, or the block's.
func (d *checkDraft) at(keyword string) syntax.Word {
	if n := d.last[keyword]; n != nil {
		return n.Words[0]
	}
	return d.word
}

// urlDraft is a url block as it was given.
type urlDraft struct {
	URL
	word         syntax.Word
	last         map[string]*Node
	virtualHost  string
	regex        BodyRegex
	tlsCompliant *bool
}

const realServerBlock = "virtual_server/real_server"

// checkerBlocks are the blocks of checkers in a real_server.
func (l *loader) checkerBlocks(h handlers, r *realDraft) {
	for _, kind := range []CheckKind{
		TCPCheck, HTTPGet, SSLGet, SMTPCheck, DNSCheck, UDPCheck, PingCheck, MiscCheck, FileCheck, BFDCheck,
	} {
		d := new(checkDraft) // into which each block of this kind in turn is read
		read := l.checkerWords(kind, d)
		h[string(kind)] = func(s statement) {
			*d = newCheckDraft(kind, s)
			d.last = l.statements(s.Children, realServerBlock+"/"+s.Keyword(), read)
			checker := *d
			r.checkers = append(r.checkers, &checker)
		}
	}
}

func newCheckDraft(kind CheckKind, s statement) checkDraft {
	d := checkDraft{Checker: Checker{Pos: s.Pos(), Kind: kind}, word: s.Words[0]}
	switch kind {
	case HTTPGet, SSLGet:
		d.HTTP = &HTTPCheckFields{Protocol: "1.0"}
	case SMTPCheck:
		d.HeloName = "smtpchecker.keepalived.org"
	case DNSCheck:
		d.DNS = &DNSCheckFields{Type: "SOA", Name: "."}
	case UDPCheck:
		d.UDP = &UDPCheckFields{MaxReply: 255}
	case MiscCheck:
		d.Misc = &MiscCheckFields{}
	case FileCheck:
		d.File = &FileCheckFields{}
	}
	return d
}

// checkerWords are the words of a checker's block of one kind.
func (l *loader) checkerWords(kind CheckKind, d *checkDraft) handlers {
	h := handlers{"alpha": func(s statement) { l.setOptional(s, &d.alpha) }}
	switch kind {
	case BFDCheck:
		h["name"] = func(s statement) {
			d.Session = s.Words[1].Text
			l.reference("bfd_instance", s.Words[1], &d.Session)
		}
		return h
	case FileCheck:
		return handlers{
			"track_file": func(s statement) {
				d.File.TrackFile = s.Words[1].Text
				l.reference("track_file", s.Words[1], &d.File.TrackFile)
			},
			"weight": func(s statement) { l.fileWeight(s, d) },
		}
	}
	h["log_all_failures"] = func(s statement) { l.setOptional(s, &d.logAll) }
	l.checkTimeWords(h, &d.checkTimes)
	if kind == MiscCheck {
		delete(h, "connect_timeout")
		h["misc_path"] = func(s statement) { l.setCommand(s, &d.command) }
		h["misc_timeout"] = func(s statement) { l.setSeconds(s, &d.Misc.Timeout) }
		h["misc_dynamic"] = func(statement) { d.Misc.Dynamic = true }
		h["user"] = func(s statement) { d.user, d.group = identity(s.Args()) }
		return h
	}
	l.connectWords(h, d)
	switch kind {
	case SMTPCheck:
		h["helo_name"] = l.setText(&d.HeloName)
		h["host"] = func(s statement) {
			host := newCheckDraft(SMTPCheck, s)
			host.last = l.statements(s.Children, realServerBlock+"/SMTP_CHECK/host", l.hostWords(&host))
			d.hosts = append(d.hosts, &host)
		}
	case DNSCheck:
		h["type"] = func(s statement) {
			w := s.Words[1]
			w.Text = strings.ToUpper(w.Text)
			if allowed := words.Names(realServerBlock + "/DNS_CHECK/type"); l.choiceWord(w, s.Keyword(), allowed...) >= 0 {
				d.DNS.Type = w.Text
			}
		}
		h["name"] = func(s statement) { l.dnsName(s, &d.DNS.Name) }
	case UDPCheck:
		h["payload"] = func(s statement) {
			if b, mask, ok := l.hexBytes(s); ok && l.noWildcard(s, mask) {
				d.UDP.Payload = b
			}
		}
		h["require_reply"] = func(s statement) {
			d.UDP.RequireReply = true
			if b, mask, ok := l.hexBytes(s); ok {
				d.UDP.Reply, d.UDP.ReplyMask = b, mask
			}
		}
		h["min_reply_length"] = func(s statement) { l.setInt(s, &d.UDP.MinReply) }
		h["max_reply_length"] = func(s statement) { l.setInt(s, &d.UDP.MaxReply) }
	case HTTPGet, SSLGet:
		l.httpWords(h, kind, d)
	}
	return h
}

// connectWords are the words of checks that use the network.
func (l *loader) connectWords(h handlers, d *checkDraft) {
	port := func(p *uint16) func(statement) {
		return func(s statement) {
			if n, ok := l.integer(s); ok {
				*p = uint16(n)
			}
		}
	}
	h["connect_ip"] = func(s statement) { l.setAddress(s, &d.connectIP) }
	h["connect_port"] = port(&d.connectPort)
	h["bindto"] = func(s statement) { l.setAddress(s, &d.BindAddress) }
	h["bind_port"] = port(&d.BindPort)
	h["bind_if"] = func(s statement) { l.setInterface(s, &d.BindInterface) }
	h["fwmark"] = func(s statement) { l.setUint32(s, &d.Mark) }
}

// hostWords are the words of a host block of SMTP_CHECK.
func (l *loader) hostWords(d *checkDraft) handlers {
	h := l.checkerWords(SMTPCheck, d)
	delete(h, "helo_name")
	delete(h, "host")
	return h
}

func (l *loader) httpWords(h handlers, kind CheckKind, d *checkDraft) {
	h["nb_get_retry"] = h["retry"]
	h["virtualhost"] = l.setText(&d.virtualHost)
	h["http_protocol"] = func(s statement) {
		switch l.choice(s, words.Names(realServerBlock+"/HTTP_GET/http_protocol")...) {
		case -1:
		case 2:
			d.HTTP.Protocol = "1.0C"
		default:
			d.HTTP.Protocol = s.Words[1].Text
		}
	}
	h["enable_sni"] = l.bools(&d.sni)
	h["sni_name"] = func(s statement) { d.sni, d.sniName = true, s.Words[1].Text }
	h["fast_recovery"] = func(s statement) { l.setBool(s, &d.HTTP.FastRecovery) }
	if kind == SSLGet {
		h["tls_compliant"] = l.bools(&d.tlsCompliant)
		h["tls_verify"] = l.bools(&d.tlsVerify)
	}
	u := new(urlDraft)
	read := l.urlWords(kind, u)
	h["url"] = func(s statement) {
		*u = urlDraft{URL: URL{Pos: s.Pos()}, word: s.Words[0], regex: BodyRegex{MaxOffset: -1}}
		u.last = l.statements(s.Children, realServerBlock+"/"+string(kind)+"/url", read)
		url := *u
		d.urls = append(d.urls, &url)
	}
}

func (l *loader) urlWords(kind CheckKind, u *urlDraft) handlers {
	h := handlers{
		"path": l.setText(&u.Path),
		"digest": func(s statement) {
			text := strings.ToLower(s.Words[1].Text)
			if b, err := hex.DecodeString(text); err != nil || len(b) != 16 {
				l.errorf(CodeNumber, s.Words[1], "digest: %s is not an MD5 sum, 32 hexadecimal digits", quote(text))
				return
			}
			u.Digest = text
		},
		"status_code": func(s statement) { l.statusCodes(s, u) },
		"virtualhost": l.setText(&u.virtualHost),
		"regex":       func(s statement) { u.regex.Pos, u.regex.Pattern = s.Words[1].Pos, s.Words[1].Text },
		"regex_options": func(s statement) {
			for _, w := range s.Args() {
				if l.choiceWord(w, s.Keyword(), words.Names(realServerBlock+"/HTTP_GET/url/regex_options")...) >= 0 {
					u.regex.Options = append(u.regex.Options, w.Text)
				}
			}
		},
		"regex_no_match":   setTrue(&u.regex.NoMatch),
		"regex_min_offset": func(s statement) { l.setInt(s, &u.regex.MinOffset) },
		"regex_max_offset": func(s statement) { l.setInt(s, &u.regex.MaxOffset) },
		"regex_stack":      func(statement) {},
	}
	if kind == SSLGet {
		h["tls_compliant"] = func(s statement) { l.setOptional(s, &u.tlsCompliant) }
	}
	return h
}

// statusCodes reads CODE[-CODE] ...
func (l *loader) statusCodes(s statement, u *urlDraft) {
	for _, w := range s.Args() {
		low, high, isRange := strings.Cut(w.Text, "-")
		if !isRange {
			high = low
		}
		first, err := strconv.Atoi(low)
		last, err2 := strconv.Atoi(high)
		if err != nil || err2 != nil || first < 100 || last > 599 || first > last {
			l.errorf(CodeRange, w, "status_code: %s is not a code in 100..599 or a range of codes", quote(w.Text))
			continue
		}
		u.Status = append(u.Status, StatusRange{first, last})
	}
}

// dnsName checks a name that is asked for.
func (l *loader) dnsName(s statement, p *string) {
	name := s.Words[1].Text
	if name == "." {
		*p = name
		return
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if len(label) == 0 || len(label) > 63 {
			l.errorf(CodeRange, s.Words[1], "name: %s is not a domain name: its labels have 1 to 63 characters", quote(name))
			return
		}
	}
	if len(name) > 254 {
		l.errorf(CodeRange, s.Words[1], "name: a domain name has at most 254 characters")
		return
	}
	*p = name
}

// hexBytes reads bytes in hexadecimal, with or without blanks between them. An X stands for any digit, and has zeros in the
// mask.
func (l *loader) hexBytes(s statement) (value, mask []byte, ok bool) {
	var digits string
	for _, w := range s.Args() {
		digits += w.Text
	}
	if digits == "" {
		return nil, nil, false
	}
	if len(digits)%2 != 0 {
		l.errorf(CodeNumber, s.Words[1], "%s: %s has an odd number of hexadecimal digits", s.Keyword(), quote(digits))
		return nil, nil, false
	}
	value, mask = make([]byte, len(digits)/2), make([]byte, len(digits)/2)
	for i, c := range []byte(digits) {
		shift := 4 * (1 - i%2)
		if c == 'x' || c == 'X' {
			continue
		}
		n, err := strconv.ParseUint(string(c), 16, 4)
		if err != nil {
			l.errorf(CodeNumber, s.Words[1], "%s: %s is not a number in hexadecimal digits", s.Keyword(), quote(digits))
			return nil, nil, false
		}
		value[i/2] |= byte(n) << shift
		mask[i/2] |= 0xf << shift
	}
	return value, mask, true
}

func (l *loader) noWildcard(s statement, mask []byte) bool {
	if slices.ContainsFunc(mask, func(b byte) bool { return b != 0xff }) {
		l.errorf(CodeNumber, s.Words[1], "%s has to say each byte: X is for replies", s.Keyword())
		return false
	}
	return true
}

// fileWeight reads INT [reverse|noreverse].
func (l *loader) fileWeight(s statement, d *checkDraft) {
	n, ok := l.wholeNumber(s.Words[1], s.Keyword(), limits(-math.MaxInt32, math.MaxInt32))
	if !ok {
		return
	}
	d.fileWeight = &n
	if len(s.Args()) > 1 {
		if i := l.choiceWord(s.Words[2], "after the weight", "reverse", "noreverse"); i >= 0 {
			d.fileReverse = ptr(i == 0)
		}
	}
}
