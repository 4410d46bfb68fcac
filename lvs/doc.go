// Package lvs says what the kernel's IPVS table should be, and what has to change to get there: configuration and health
// make a Table, and two Tables make a plan. It is pure: it reads no clock and touches no kernel. Package lvs/ipvs carries
// plans out, package lvs/check finds out which real servers answer.
package lvs
