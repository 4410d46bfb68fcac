//go:build interop

package interop_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const tshark = "/usr/bin/tshark"

// dissected is what tshark has to say about one frame. The fields are in the order of tsharkFields.
type dissected []string

var tsharkFields = []string{"frame.protocols", "vrrp.version", "vrrp.type", "vrrp.checksum.status", "ip.checksum.status",
	"icmpv6.checksum.status", "_ws.malformed", "_ws.expert.message"}

func (d dissected) field(name string) string {
	for i, f := range tsharkFields {
		if f == name {
			return d[i]
		}
	}
	panic("tshark is not asked for " + name)
}

// good is tshark's word for a right checksum.
const good = "1"

// fault says what is wrong with the frame, or nothing. Version 2 over IPv6 is keepalived's own invention, which tshark reads
// like version 2 over IPv4 and finds fault with, whoever sent it: there, being equal to keepalived's frames is all.
func (d dissected) fault() string {
	protocols := d.field("frame.protocols")
	switch {
	case strings.HasSuffix(protocols, ":ipv6:vrrp") && d.field("vrrp.version") == "2":
		return ""
	case d.field("_ws.malformed") != "":
		return "malformed"
	case d.field("_ws.expert.message") != "":
		return d.field("_ws.expert.message")
	case strings.Contains(protocols, ":ip:") && d.field("ip.checksum.status") != good:
		return "wrong checksum of the IP header"
	case strings.Contains(protocols, ":icmpv6") && d.field("icmpv6.checksum.status") != good:
		return "wrong checksum of the ICMPv6 message"
	case strings.HasSuffix(protocols, ":vrrp") && d.field("vrrp.checksum.status") != good:
		return "wrong checksum of the VRRP message"
	case strings.HasSuffix(protocols, ":vrrp") && d.field("vrrp.type") != good:
		return "not an advertisement"
	}
	for _, known := range []string{":vrrp", ":arp", ":icmpv6"} {
		if strings.HasSuffix(protocols, known) {
			return ""
		}
	}
	return "not understood: " + protocols
}

// dissect has tshark judge frames off the wire, each distinct one once. The test fails if it finds fault with any.
func dissect(t *testing.T, frames []heardFrame) {
	t.Helper()
	seen := map[string]bool{}
	var distinct []heardFrame
	for _, f := range frames {
		if key := string(normalised(f.raw)); !seen[key] {
			seen[key] = true
			distinct = append(distinct, f)
		}
	}
	if len(distinct) == 0 {
		t.Error("there is nothing to dissect")
		return
	}
	results, err := runTshark(t, distinct)
	if err != nil {
		t.Error(err)
		return
	}
	advertisements := 0
	for i, d := range results {
		if strings.HasSuffix(d.field("frame.protocols"), ":vrrp") {
			advertisements++
		}
		if fault := d.fault(); fault != "" {
			t.Errorf("tshark finds fault with a frame: %s\n%x", fault, distinct[i].raw)
		}
	}
	if advertisements == 0 {
		t.Error("tshark saw no advertisement")
	}
	t.Logf("tshark: %d frames, %d distinct ones, %d of them advertisements", len(frames), len(distinct), advertisements)
}

func runTshark(t *testing.T, frames []heardFrame) ([]dissected, error) {
	file := filepath.Join(t.TempDir(), "frames.pcap")
	if err := os.WriteFile(file, pcap(frames), 0o600); err != nil {
		return nil, err
	}
	args := []string{"-n", "-r", file, "-o", "ip.check_checksum:TRUE",
		"-o", "arp.detect_duplicate_ips:FALSE", "-T", "fields", "-E", "separator=/t"}
	for _, f := range tsharkFields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command(tshark, args...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("tshark: %w: %s", err, errors.String())
	}
	var results []dissected
	for line := range strings.Lines(string(out)) {
		d := dissected(strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
		if len(d) != len(tsharkFields) {
			return nil, fmt.Errorf("tshark: line %q has not %d fields", line, len(tsharkFields))
		}
		results = append(results, d)
	}
	if len(results) != len(frames) {
		return nil, fmt.Errorf("tshark read %d of %d frames", len(results), len(frames))
	}
	return results, nil
}

// pcap is a capture file of Ethernet frames.
func pcap(frames []heardFrame) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 4)
	for _, v := range []uint32{0, 0, 65535, 1} { // time zone, accuracy, longest frame, Ethernet
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for _, f := range frames {
		for _, v := range []uint32{uint32(f.at.Unix()), uint32(f.at.Nanosecond() / 1000), uint32(len(f.raw)), uint32(len(f.raw))} {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		b = append(b, f.raw...)
	}
	return b
}

// normalised is a frame without what differs between two sendings of the same packet: the identification of an IPv4 header and
// with it the header's checksum.
func normalised(raw []byte) []byte {
	b := append([]byte(nil), raw...)
	if len(b) >= ethernetLen+ipv4Len && binary.BigEndian.Uint16(b[12:]) == etherIPv4 {
		clear(b[ethernetLen+4 : ethernetLen+6])
		clear(b[ethernetLen+10 : ethernetLen+12])
	}
	return b
}
