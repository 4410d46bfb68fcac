package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hactl/had/internal/control/api"
)

func (a *app) genhashCommand() *cobra.Command {
	var o GenhashOptions
	var sni, verbose bool
	c := &cobra.Command{
		Use:   "genhash URL",
		Short: "Print the digest of a page, for the digest of HTTP_GET and SSL_GET",
		Long: `Fetch a page as HTTP_GET (http://) or SSL_GET (https://) would, and print the MD5 of its body, which is what the keyword
digest of a url block wants. It prints what keepalived's genhash prints for the same page. No redirect is followed, and
the status code does not matter. The certificate of the server is not verified.`,
		Example: `  hactl genhash http://10.0.0.5:8080/status
  hactl genhash --virtualhost www.example.org --sni https://10.0.0.5/`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: run(func(c *cobra.Command, args []string) error {
			if err := o.parse(c.Context(), args[0]); err != nil {
				return err
			}
			if sni {
				o.ServerName = o.VirtualHost
			}
			if verbose {
				o.Raw = a.env.Stderr
			}
			digest, err := a.env.Genhash(c.Context(), o)
			if err != nil {
				return err
			}
			if verbose {
				fmt.Fprintln(a.env.Stderr)
			}
			_, err = fmt.Fprintln(a.env.Stdout, digest)
			return err
		}),
	}
	flags := c.Flags()
	flags.StringVarP(&o.VirtualHost, "virtualhost", "V", "", "`HOST` header to send, if not the address of the server")
	flags.BoolVarP(&sni, "sni", "I", false, "ask for the virtual host in the TLS handshake")
	flags.StringVarP(&o.Protocol, "protocol", "P", protocols[0], "`VERSION` of HTTP: 1.0, 1.0c (with Connection: close), 1.1 or 2")
	flags.DurationVarP(&o.Timeout, "timeout", "t", 5*time.Second, "time for connecting and for each read, such as 500ms")
	flags.Uint32VarP(&o.Mark, "fwmark", "m", 0, "firewall `MARK` of the packets")
	flags.BoolVarP(&verbose, "verbose", "v", false, "print what the server sends, on standard error")
	_ = c.RegisterFlagCompletionFunc("protocol", cobra.FixedCompletions(protocols, cobra.ShellCompDirectiveNoFileComp))
	return c
}

var protocols = []string{"1.0", "1.0c", "1.1", "2"}

// parse takes in the URL. It looks up the name of the server, if it is one.
func (o *GenhashOptions) parse(ctx context.Context, text string) error {
	usage := func(what, why string) error {
		return &api.Problem{Kind: api.Usage, What: what, Why: why, Next: "hactl genhash --help"}
	}
	if !slices.Contains(protocols, o.Protocol) {
		return usage(fmt.Sprintf("no protocol %q", o.Protocol), "")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return usage(err.Error(), "")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return usage(fmt.Sprintf("%q is no URL of a page", text), "it begins with http:// or https:// and a server")
	}
	o.TLS, o.Path = u.Scheme == "https", u.RequestURI()
	port := uint64(80)
	if o.TLS {
		port = 443
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil {
			return usage(fmt.Sprintf("port %s is out of range", p), "")
		}
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
		if err != nil {
			return err
		}
		addr = addrs[0].Unmap()
	}
	o.Server = netip.AddrPortFrom(addr, uint16(port))
	return nil
}
