//go:build !race

package cluster

const (
	raceEnabled = false
	patience    = 2
)
