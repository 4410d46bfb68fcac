// Package beside holds no code: its tests let stock keepalived and package check look after equal servers, inside a virtual
// machine whose kernel has IPVS, without which keepalived checks nothing.
package beside
