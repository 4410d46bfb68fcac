package need

import "flag"

// SitesAtOnce has as many parallel tests run at the same time, whatever the number of processors, unless -test.parallel says
// otherwise: sites mostly wait. It is for TestMain, before the tests run.
func SitesAtOnce(n string) error {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if chosen {
		return nil
	}
	return flag.Set("test.parallel", n)
}
