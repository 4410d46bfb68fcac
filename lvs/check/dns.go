package check

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/hactl/had/lvs/check/verdict"
)

// strayMax is how many datagrams that are no answer an attempt reads.
const strayMax = 1000

// DNS succeeds when the server answers a question without an error code (DNS_CHECK; RFC 1035, 4.1).
type DNS struct {
	Endpoint
	Type string // A, NS, CNAME, SOA, MX, TXT, AAAA, RRSIG or DNSKEY
	Name string // "." is the root
}

var dnsTypes = map[string]dnsmessage.Type{
	"A": dnsmessage.TypeA, "NS": dnsmessage.TypeNS, "CNAME": dnsmessage.TypeCNAME, "SOA": dnsmessage.TypeSOA,
	"MX": dnsmessage.TypeMX, "TXT": dnsmessage.TypeTXT, "AAAA": dnsmessage.TypeAAAA, "RRSIG": 46, "DNSKEY": 48,
}

type dnsProber struct {
	*DNS
	question dnsmessage.Question
}

func (*DNS) schedule(*verdict.Config) {}

func (p *DNS) prepare(*Engine) (prober, error) {
	kind, ok := dnsTypes[p.Type]
	if !ok {
		return nil, fmt.Errorf("unknown type %q", p.Type)
	}
	name, err := dnsmessage.NewName(strings.TrimSuffix(p.Name, ".") + ".")
	if err != nil {
		return nil, fmt.Errorf("name %q: %w", p.Name, err)
	}
	q := dnsmessage.Question{Name: name, Type: kind, Class: dnsmessage.ClassINET}
	d := &dnsProber{p, q}
	if _, err := d.query(0); err != nil {
		return nil, fmt.Errorf("name %q: %w", p.Name, err)
	}
	return d, nil
}

func (p *dnsProber) query(id uint16) ([]byte, error) {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{p.question},
	}
	return m.Pack()
}

func (p *dnsProber) attempt(ctx context.Context, _ int) verdict.Outcome {
	what := fmt.Sprintf("query %s %s at %v", p.Name, p.Type, p.Target)
	conn, err := p.udp(ctx)
	if err != nil {
		return failed(err.Error())
	}
	defer conn.Close()
	id := uint16(rand.Uint32())
	query, err := p.query(id)
	if err != nil {
		return failed(what + ": " + err.Error())
	}
	if _, err := conn.Write(query); err != nil {
		return failed(what + ": " + p.reason(err))
	}
	buffer := make([]byte, 64) // the header; the rest is dropped
	// The time for the answer begins once: what is no answer does not prolong it.
	until := conn.deadline()
	for range strayMax {
		if err := conn.SetReadDeadline(until); err != nil {
			return failed(what + ": " + p.reason(err))
		}
		n, err := conn.read(buffer)
		if err != nil {
			return failed(what + ": " + p.reason(err))
		}
		var parser dnsmessage.Parser
		header, err := parser.Start(buffer[:n])
		if err != nil || header.ID != id || !header.Response {
			continue
		}
		if header.RCode != dnsmessage.RCodeSuccess {
			return failed(what + ": " + strings.TrimPrefix(header.RCode.String(), "RCode"))
		}
		return succeeded(what + ": answered")
	}
	return failed(fmt.Sprintf("%s: %d datagrams, none of them an answer", what, strayMax))
}
