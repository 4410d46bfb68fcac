// Package mail sends a mail for each change of state for which the configuration asks for one (smtp_alert), with the
// subject, the header and the body of keepalived's.
//
// Nothing here blocks its caller: a mail goes into a bounded queue, and one goroutine delivers what is in there, one mail
// after the other. What cannot be delivered is tried again for a while. keepalived tries once.
package mail
