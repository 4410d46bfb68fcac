package ipvs

import (
	"fmt"

	"github.com/hactl/had/internal/linux/rtnl"
	"github.com/hactl/had/lvs"
)

// Traffic counts what went through a service or to a destination since it was added or set to zero, with the
// kernel's averages per second. The kernel adds them up every two seconds.
type Traffic struct {
	Connections, PacketsIn, PacketsOut, BytesIn, BytesOut uint64
	PerSecond                                             Rates
}

// Rates are averages per second.
type Rates struct{ Connections, PacketsIn, PacketsOut, BytesIn, BytesOut uint64 }

// ServiceStatistics are those of a service and its destinations.
type ServiceStatistics struct {
	Traffic
	Destinations map[lvs.DestinationKey]DestinationStatistics
}

// DestinationStatistics are those of a destination, with how many connections it has: established ones, others, and
// clients that are bound to it by persistence.
type DestinationStatistics struct {
	Traffic
	Active, Inactive, Persistent uint32
}

// Statistics returns those of all services.
func (c *Conn) Statistics() (map[lvs.ServiceKey]ServiceStatistics, error) {
	all := map[lvs.ServiceKey]ServiceStatistics{}
	err := c.eachService(func(key lvs.ServiceKey, service []byte) {
		all[key] = ServiceStatistics{Traffic: decodeTraffic(inner(service, serviceStats64)),
			Destinations: map[lvs.DestinationKey]DestinationStatistics{}}
	})
	for key, s := range all {
		if err != nil {
			break
		}
		err = c.eachDestination(key, func(d []byte) {
			s.Destinations[decodeDestinationKey(key.Family, d)] = DestinationStatistics{
				Traffic:    decodeTraffic(inner(d, destinationStats64)),
				Active:     rtnl.Uint32(inner(d, destinationActive)),
				Inactive:   rtnl.Uint32(inner(d, destinationInactive)),
				Persistent: rtnl.Uint32(inner(d, destinationPersistent)),
			}
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the statistics of IPVS: %w", err)
	}
	return all, nil
}

func decodeTraffic(stats []byte) (t Traffic) {
	fields := map[uint16]*uint64{
		statsConnections: &t.Connections, statsConnectionsPerSecond: &t.PerSecond.Connections,
		statsPacketsIn: &t.PacketsIn, statsPacketsInPerSecond: &t.PerSecond.PacketsIn,
		statsPacketsOut: &t.PacketsOut, statsPacketsOutPerSecond: &t.PerSecond.PacketsOut,
		statsBytesIn: &t.BytesIn, statsBytesInPerSecond: &t.PerSecond.BytesIn,
		statsBytesOut: &t.BytesOut, statsBytesOutPerSecond: &t.PerSecond.BytesOut,
	}
	for kind, value := range rtnl.Attributes(stats) {
		if field := fields[kind]; field != nil {
			*field = uint64From(value)
		}
	}
	return t
}
