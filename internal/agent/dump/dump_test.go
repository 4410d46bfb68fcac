package dump

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func example() Instance {
	return Instance{Name: "VI_1", State: "MASTER", WantMaster: true, Since: time.Unix(1795772659, 879802000).UTC(), Interface: "eth0",
		Source: "10.1.0.1", Group: "224.0.0.18", VRID: 7, Version: 2, Priority: 255, Effective: 255, Advert: time.Second,
		Learned: time.Second, Preempt: true, Accept: true, TrackLink: true, HasVIPs: true, VIPs: []string{"10.1.0.70/24 dev eth0 scope global"},
		GARP:       GARP{Repeat: 5, RefreshRepeat: 1, LowerRepeat: 5, Delay: 5 * time.Second, LowerDelay: 5 * time.Second},
		Statistics: Statistics{Sent: 5, BecameMaster: 1, TTL: 3, SealStale: 2}}
}

func TestTheStatisticsAreLaidOutAsKeepaliveds(t *testing.T) {
	want := `VRRP Instance: VI_1
  Advertisements:
    Received: 0
    Sent: 5
  Became master: 1
  Released master: 0
  Packet Errors:
    Length: 0
    TTL: 3
    Invalid Type: 0
    Advertisement Interval: 0
    Address List: 0
  Authentication Errors:
    Invalid Type: 0
    Type Mismatch: 0
    Failure: 0
  Authentication Extension Errors:
    Missing: 0
    Malformed: 0
    Unknown Key: 0
    Invalid HMAC: 0
    Stale: 2
    Replay: 0
  Priority Zero:
    Received: 0
    Sent: 0
`
	if got := string(Text([]Instance{example()})); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// keepalived is what keepalived 2.2.7 writes of the instance of example.
const keepalived = `[{"data":{"iname":"VI_1","dont_track_primary":0,"skip_check_adv_addr":0,"strict_mode":0,"vmac_ifname":"",` +
	`"ifp_ifname":"eth0","last_transition":1795772659.879802,"garp_delay":5,"garp_refresh":0,"garp_rep":5,"garp_refresh_rep":1,` +
	`"garp_lower_prio_delay":5,"garp_lower_prio_rep":5,"lower_prio_no_advert":0,"higher_prio_send_advert":0,"vrid":7,"base_priority":255,` +
	`"effective_priority":255,"vipset":true,"promote_secondaries":false,"adver_int":1,"master_adver_int":1,"accept":1,"nopreempt":false,` +
	`"preempt_delay":0,"state":2,"wantstate":2,"version":2,"smtp_alert":false,"notify_deleted":false,` +
	`"vips":["10.1.0.70/24 dev eth0 scope global set"],"auth_type":0},"stats":{"advert_rcvd":0,"advert_sent":5,"become_master":1,` +
	`"release_master":0,"packet_len_err":0,"advert_interval_err":0,"ip_ttl_err":3,"invalid_type_rcvd":0,"addr_list_err":0,` +
	`"invalid_authtype":0,"authtype_mismatch":0,"auth_failure":0,"pri_zero_rcvd":0,"pri_zero_sent":0}}]`

func TestTheJSONIsKeepaliveds(t *testing.T) {
	got, err := JSON(1, []Instance{example()}, nil)
	if err != nil || string(got) != keepalived {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, keepalived)
	}
	got, err = JSON(2, []Instance{example()}, []Process{{Name: "p", Count: 2, Least: 1, Most: -1, Up: true}})
	if err != nil {
		t.Fatal(err)
	}
	var v2 struct {
		VRRP    []any            `json:"vrrp"`
		Process []map[string]any `json:"track_process"`
	}
	if err := json.Unmarshal(got, &v2); err != nil || len(v2.VRRP) != 1 || len(v2.Process) != 1 || v2.Process[0]["name"] != "p" {
		t.Errorf("%v: %s", err, got)
	}
}

func TestTheDataNamesTheInstanceAndItsState(t *testing.T) {
	got := string(Data([]Instance{example()}))
	for _, want := range []string{"------< VRRP Topology >------\n VRRP Instance = VI_1\n", "   State = MASTER\n", "   Virtual Router ID = 7\n",
		"   Virtual IP (1):\n     10.1.0.70/24 dev eth0 scope global set\n", "   Multicast address 224.0.0.18\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
}
