package mail

import (
	"fmt"
	"strings"
	"time"

	"github.com/hactl/had/internal/notify"
)

// subject and body of the mail about a change, as keepalived writes them; ok is false if there is none about it.
func compose(routerID string, c notify.Change) (subject, body string, ok bool) {
	what, group := "VRRP Instance ", c.Kind == notify.Group
	if group {
		what = "VRRP Group "
	}
	event := "Entering " + string(c.State) + " state"
	switch c.State {
	case notify.Master:
		body = "VRRP Instance is now owning VRRP VIPs"
	case notify.Backup, notify.Fault:
		body = "VRRP Instance is no longer owning VRRP VIPs"
	case notify.Stop:
		event, body = "Stopping", "VRRP Instance stopping"
	case notify.Deleted:
		event, body = "Deleted", "VRRP Deleted at reload"
	default:
		return "", "", false
	}
	switch {
	case group && c.State == notify.Stop:
		body = "All VRRP group instances are now stopping"
	case group && c.State != notify.Deleted:
		body = fmt.Sprintf("All VRRP group instances are now in %s state", c.State)
	}
	return fmt.Sprintf("[%s] %s%s - %s", routerID, what, c.Name, event), "=> " + body + " <=", true
}

// composeServer is compose for the load balancer.
func composeServer(routerID string, c notify.ServerChange) (subject, body string) {
	what := fmt.Sprintf("Virtualserver %s", c.Virtual)
	if c.Real.IsValid() {
		what = fmt.Sprintf("Realserver %s of virtual server %s", c.Virtual.Trio(c.Real), c.Virtual)
	}
	return fmt.Sprintf("[%s] %s - %s", routerID, what, c.State()), "=> " + c.Reason + " <="
}

// message is one mail with everything but its recipients.
type message struct {
	at            time.Time
	subject, body string
}

// text returns the header and the body, lines ended by CRLF.
func (m message) text(from string, to []string) string {
	return strings.Join([]string{
		"Date: " + m.at.Format(time.RFC1123Z),
		"From: " + from,
		"Subject: " + m.subject,
		"X-Mailer: Keepalived", // what people filter by
		"To: " + strings.Join(to, ", "),
		"",
		m.body,
		"",
		"",
	}, "\r\n")
}
