// Package observer is the outside judge of who owns a virtual IP: a host that takes no part asks, every millisecond, and
// listens.
//
// It runs as a process of its own on a host of a [lab.Lab] (this program, started again; see [MaybeRun]), with real-time
// priority where that is allowed. Each period it
//
//   - asks by broadcast ARP (IPv4) or neighbour solicitation (IPv6) who has the address, under a source address that tells
//     requests apart, so that each answer is matched with its request;
//   - half a period later sends an ICMP echo request for the address to the hardware address of each station that might
//     own it, so that a machine which still accepts packets is seen even when its ARP is silent;
//   - records who answered and when, by the kernel's receive timestamps, together with every gratuitous ARP, unsolicited
//     neighbour advertisement and VRRP advertisement.
//
// # Verdict
//
// [Record.Judge] is a pure function of the record. Sightings of one hardware address closer than [SpanGap] form a span; a
// span certainly covers the time from the moment when its first answer was heard to the moment when the last answered
// request was sent. Two owners means that such certain parts of two stations' spans meet: a machine was asked after
// another had already answered, and answered as well. Delays in the switch or in the observer cannot fake that. The
// wider, possible overlap is given beside it. Nobody's time is counted from the first unanswered request to the next
// answered one.
//
// A verdict is void, neither good nor bad, unless the observer was awake: 99% of its requests left within [Lateness] of
// their time, no gap was longer than [LongestGap], and the kernel dropped no frame before it was read.
//
// Stations are told apart by hardware address. Virtual routers that answer with the virtual router MAC on every node
// (use_vmac) look alike, unless the switch tells them apart ([lab.Lab.TellApart]).
//
// # Goroutines
//
// The observing process has two threads that send, on different processors, and one that receives and writes. The side that
// started it has one goroutine that reads; the methods of [Observer] may be called from any goroutine.
package observer
