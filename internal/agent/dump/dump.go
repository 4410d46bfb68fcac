// Package dump renders the state of a director in the layouts of keepalived: the data of SIGUSR1, the statistics of SIGUSR2 and
// the JSON that SIGRTMIN+2 asks for. It is pure.
package dump

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Instance is one vrrp_instance as it stands.
type Instance struct {
	Name       string
	State      string // INIT, BACKUP, MASTER, FAULT
	WantMaster bool   // it is, or was configured to begin, as MASTER
	Since      time.Time
	Interface  string
	Source     string // empty: none
	Group      string // multicast; empty: unicast
	Peers      []string
	VRID       int
	Version    int
	Priority   int // base
	Effective  int
	Advert     time.Duration
	Learned    time.Duration // interval of the present master
	Preempt    bool
	Delay      time.Duration // preempt_delay
	Accept     bool
	Promote    bool
	Strict     bool
	SkipCheck  bool
	TrackLink  bool // of its own interface
	Mail       bool
	Deleted    bool // notify_deleted
	AuthType   int
	VMAC       string // name of the interface with the virtual MAC address
	LowerQuiet bool   // lower_prio_no_advert
	HigherLast bool   // higher_prio_send_advert
	HasVIPs    bool   // the addresses should be there
	VIPs       []string

	GARP       GARP
	Statistics Statistics
}

// GARP holds the counts and times of gratuitous ARP messages.
type GARP struct {
	Repeat, RefreshRepeat, LowerRepeat int
	Delay, Refresh, LowerDelay         time.Duration
}

// Statistics are the counters of one instance.
type Statistics struct {
	Received, Sent                  uint64
	BecameMaster, ReleasedMaster    uint64
	Length, TTL, Type, Interval     uint64
	AddressList                     uint64
	AuthType, AuthMismatch, Failure uint64
	SealMissing, SealMalformed      uint64
	SealKey, SealInvalid            uint64
	SealStale, SealReplay           uint64
	ZeroReceived, ZeroSent          uint64
}

// Process is one vrrp_track_process as it stands.
type Process struct {
	Name  string
	Count int
	Least int
	Most  int // -1: unlimited
	Up    bool
}

// Text renders the statistics.
func Text(instances []Instance) []byte {
	var b bytes.Buffer
	for _, i := range instances {
		s := i.Statistics
		fmt.Fprintf(&b, "VRRP Instance: %s\n  Advertisements:\n    Received: %d\n    Sent: %d\n  Became master: %d\n  Released master: %d\n",
			i.Name, s.Received, s.Sent, s.BecameMaster, s.ReleasedMaster)
		fmt.Fprintf(&b, "  Packet Errors:\n    Length: %d\n    TTL: %d\n    Invalid Type: %d\n    Advertisement Interval: %d\n    Address List: %d\n",
			s.Length, s.TTL, s.Type, s.Interval, s.AddressList)
		fmt.Fprintf(&b, "  Authentication Errors:\n    Invalid Type: %d\n    Type Mismatch: %d\n    Failure: %d\n", s.AuthType, s.AuthMismatch,
			s.Failure)
		fmt.Fprintf(&b, "  Authentication Extension Errors:\n    Missing: %d\n    Malformed: %d\n    Unknown Key: %d\n    Invalid HMAC: %d\n"+
			"    Stale: %d\n    Replay: %d\n", s.SealMissing, s.SealMalformed, s.SealKey, s.SealInvalid, s.SealStale, s.SealReplay)
		fmt.Fprintf(&b, "  Priority Zero:\n    Received: %d\n    Sent: %d\n", s.ZeroReceived, s.ZeroSent)
	}
	return b.Bytes()
}

// Data renders what the instances are and how they stand.
func Data(instances []Instance) []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, "   "+format+"\n", args...) }
	b.WriteString("------< VRRP Topology >------\n")
	for _, i := range instances {
		fmt.Fprintf(&b, " VRRP Instance = %s\n", i.Name)
		line("VRRP Version = %d", i.Version)
		line("State = %s", i.State)
		line("Wantstate = %s", map[bool]string{true: "MASTER", false: "BACKUP"}[i.WantMaster])
		line("Last transition = %d.%06d (%s)", i.Since.Unix(), i.Since.Nanosecond()/1000, i.Since.Format("Mon Jan _2 15:04:05.000000 2006"))
		if i.Interface != "" {
			line("Interface = %s", i.Interface)
		}
		if i.VMAC != "" {
			line("VMAC interface = %s", i.VMAC)
		}
		if i.Source != "" {
			line("Using src_ip = %s", i.Source)
		}
		if i.Group != "" {
			line("Multicast address %s", i.Group)
		}
		line("Gratuitous ARP delay = %d", seconds(i.GARP.Delay))
		line("Gratuitous ARP repeat = %d", i.GARP.Repeat)
		line("Gratuitous ARP refresh = %d", seconds(i.GARP.Refresh))
		line("Gratuitous ARP refresh repeat = %d", i.GARP.RefreshRepeat)
		line("Gratuitous ARP lower priority delay = %d", seconds(i.GARP.LowerDelay))
		line("Gratuitous ARP lower priority repeat = %d", i.GARP.LowerRepeat)
		line("Send advert after receive lower priority advert = %t", !i.LowerQuiet)
		line("Send advert after receive higher priority advert = %t", i.HigherLast)
		line("Virtual Router ID = %d", i.VRID)
		line("Priority = %d", i.Priority)
		line("Effective priority = %d", i.Effective)
		line("Advert interval = %s", interval(i))
		line("Accept = %s", able(i.Accept))
		line("Preempt = %s", able(i.Preempt))
		if i.Delay > 0 {
			line("Preempt delay = %g secs", i.Delay.Seconds())
		}
		line("Promote_secondaries = %s", able(i.Promote))
		line("Authentication type = %s", [...]string{"none", "SIMPLE_PASSWORD", "IPSEC_AH"}[min(i.AuthType, 2)])
		if len(i.Peers) > 0 {
			line("Unicast peers = %d", len(i.Peers))
			for _, p := range i.Peers {
				line("  %s", p)
			}
		}
		line("Virtual IP (%d):", len(i.VIPs))
		for _, vip := range i.VIPs {
			set := ""
			if i.HasVIPs {
				set = " set"
			}
			line("  %s%s", vip, set)
		}
		line("Using smtp notification = %s", map[bool]string{true: "yes", false: "no"}[i.Mail])
		line("Notify deleted = %s", map[bool]string{true: "Deleted", false: "Fault"}[i.Deleted])
	}
	return b.Bytes()
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func able(b bool) string { return map[bool]string{true: "enabled", false: "disabled"}[b] }

func interval(i Instance) string {
	if i.Version == 2 {
		return fmt.Sprintf("%d sec", seconds(i.Advert))
	}
	return fmt.Sprintf("%d milli-sec", i.Advert.Milliseconds())
}

// states are keepalived's numbers.
var states = map[string]int{"INIT": 0, "BACKUP": 1, "MASTER": 2, "FAULT": 3}

// jsonData has the names of keepalived's JSON.
type jsonData struct {
	Name         string      `json:"iname"`
	DontTrack    int         `json:"dont_track_primary"`
	SkipCheck    int         `json:"skip_check_adv_addr"`
	Strict       int         `json:"strict_mode"`
	VMAC         string      `json:"vmac_ifname"`
	Interface    string      `json:"ifp_ifname"`
	Since        json.Number `json:"last_transition"`
	Delay        int64       `json:"garp_delay"`
	Refresh      int64       `json:"garp_refresh"`
	Repeat       int         `json:"garp_rep"`
	RefreshRep   int         `json:"garp_refresh_rep"`
	LowerDelay   int64       `json:"garp_lower_prio_delay"`
	LowerRepeat  int         `json:"garp_lower_prio_rep"`
	LowerQuiet   int         `json:"lower_prio_no_advert"`
	HigherLast   int         `json:"higher_prio_send_advert"`
	VRID         int         `json:"vrid"`
	Priority     int         `json:"base_priority"`
	Effective    int         `json:"effective_priority"`
	HasVIPs      bool        `json:"vipset"`
	Promote      bool        `json:"promote_secondaries"`
	Advert       float64     `json:"adver_int"`
	Learned      float64     `json:"master_adver_int"`
	Accept       int         `json:"accept"`
	NoPreempt    bool        `json:"nopreempt"`
	PreemptDelay int64       `json:"preempt_delay"`
	State        int         `json:"state"`
	Want         int         `json:"wantstate"`
	Version      int         `json:"version"`
	Mail         bool        `json:"smtp_alert"`
	Deleted      bool        `json:"notify_deleted"`
	VIPs         []string    `json:"vips"`
	AuthType     int         `json:"auth_type"`
}

type jsonStatistics struct {
	Received       uint64 `json:"advert_rcvd"`
	Sent           uint64 `json:"advert_sent"`
	BecameMaster   uint64 `json:"become_master"`
	ReleasedMaster uint64 `json:"release_master"`
	Length         uint64 `json:"packet_len_err"`
	Interval       uint64 `json:"advert_interval_err"`
	TTL            uint64 `json:"ip_ttl_err"`
	Type           uint64 `json:"invalid_type_rcvd"`
	AddressList    uint64 `json:"addr_list_err"`
	AuthType       uint64 `json:"invalid_authtype"`
	AuthMismatch   uint64 `json:"authtype_mismatch"`
	Failure        uint64 `json:"auth_failure"`
	ZeroReceived   uint64 `json:"pri_zero_rcvd"`
	ZeroSent       uint64 `json:"pri_zero_sent"`
}

type jsonInstance struct {
	Data  jsonData       `json:"data"`
	Stats jsonStatistics `json:"stats"`
}

type jsonProcess struct {
	Name   string `json:"name"`
	Count  int    `json:"num_cur_proc"`
	Least  int    `json:"quorum"`
	Most   int    `json:"quorum_max"`
	Quorum bool   `json:"have_quorum"`
}

// JSON renders everything: version 1 is an array of instances, version 2 an object.
func JSON(version int, instances []Instance, processes []Process) ([]byte, error) {
	list := []jsonInstance{}
	for _, i := range instances {
		list = append(list, jsonOf(i))
	}
	if version < 2 {
		return json.Marshal(list)
	}
	all := struct {
		VRRP      []jsonInstance `json:"vrrp"`
		Processes []jsonProcess  `json:"track_process"`
	}{list, []jsonProcess{}}
	for _, p := range processes {
		all.Processes = append(all.Processes, jsonProcess{p.Name, p.Count, p.Least, p.Most, p.Up})
	}
	return json.Marshal(all)
}

func jsonOf(i Instance) jsonInstance {
	bit := func(b bool) int { return map[bool]int{true: 1}[b] }
	s, want := i.Statistics, states["BACKUP"]
	if i.WantMaster {
		want = states["MASTER"]
	}
	vips := make([]string, len(i.VIPs))
	for n, vip := range i.VIPs {
		vips[n] = strings.TrimSpace(vip + map[bool]string{true: " set"}[i.HasVIPs])
	}
	return jsonInstance{jsonData{
		Name: i.Name, DontTrack: bit(!i.TrackLink), SkipCheck: bit(i.SkipCheck), Strict: bit(i.Strict), VMAC: i.VMAC, Interface: i.Interface,
		Since: json.Number(fmt.Sprintf("%d.%06d", i.Since.Unix(), i.Since.Nanosecond()/1000)), Delay: seconds(i.GARP.Delay),
		Refresh: seconds(i.GARP.Refresh), Repeat: i.GARP.Repeat, RefreshRep: i.GARP.RefreshRepeat, LowerDelay: seconds(i.GARP.LowerDelay),
		LowerRepeat: i.GARP.LowerRepeat, LowerQuiet: bit(i.LowerQuiet), HigherLast: bit(i.HigherLast), VRID: i.VRID, Priority: i.Priority,
		Effective: i.Effective, HasVIPs: i.HasVIPs, Promote: i.Promote, Advert: i.Advert.Seconds(), Learned: i.Learned.Seconds(),
		Accept: bit(i.Accept), NoPreempt: !i.Preempt, PreemptDelay: seconds(i.Delay), State: states[i.State], Want: want, Version: i.Version,
		Mail: i.Mail, Deleted: i.Deleted, VIPs: vips, AuthType: i.AuthType,
	}, jsonStatistics{
		Received: s.Received, Sent: s.Sent, BecameMaster: s.BecameMaster, ReleasedMaster: s.ReleasedMaster, Length: s.Length,
		Interval: s.Interval, TTL: s.TTL, Type: s.Type, AddressList: s.AddressList, AuthType: s.AuthType, AuthMismatch: s.AuthMismatch,
		Failure: s.Failure, ZeroReceived: s.ZeroReceived, ZeroSent: s.ZeroSent,
	}}
}
