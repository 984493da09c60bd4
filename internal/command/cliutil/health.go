package cliutil

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/server/certfiles"
)

// NewHealth returns the command that asks a running server for its health, for containers without
// curl. flags names the server's own address flags, such as "http". By default, the command asks at
// the address in the first of these flags that is set.
func NewHealth(out io.Writer, program string, flags ...string) *cobra.Command {
	var live bool
	var ca string
	timeout := 5 * time.Second
	addresses := make([]string, len(flags))
	cmd := &cobra.Command{
		Use:   "health [URL]",
		Short: "Ask whether a server is ready",
		Long: `Ask a running server whether it is ready. The exit code is 0 if it is, and 1 otherwise.
URL is an address such as http://localhost:9090. By default, it is the address in --` + strings.Join(flags, " or --") + `
or in the flag's environment variable, so that a container's probe needs no arguments.`,
		Example: "  " + program + " health http://localhost:9090",
		RunE: func(cmd *cobra.Command, args []string) error {
			url := strings.Join(args, "")
			if address := cmp.Or(addresses...); url == "" && address != "" {
				host, port, err := net.SplitHostPort(address)
				if err != nil {
					return Usagef("%q: use HOST:PORT", address)
				}
				if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
					host = "localhost"
				}
				url = "http://" + net.JoinHostPort(host, port)
			}
			if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
				return Usagef("give the server's URL, such as http://localhost:9090")
			}
			transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
			if ca != "" {
				var err error
				transport.TLSClientConfig.RootCAs, err = certfiles.ReadAuthorities(ca)
				if err != nil {
					return Usagef("--ca: %w", err)
				}
			}
			path := "/readyz"
			if live {
				path = "/healthz"
			}
			// Use no proxy, because the server is usually on this host.
			client := &http.Client{Transport: transport, Timeout: timeout}
			r, err := client.Get(strings.TrimSuffix(url, "/") + path)
			if err != nil {
				return err
			}
			defer r.Body.Close() //nolint:errcheck // only read
			text, err := io.ReadAll(io.LimitReader(r.Body, 4<<10))
			if err != nil {
				return fmt.Errorf("%s%s: %s: %w", url, path, r.Status, err)
			}
			if r.StatusCode != http.StatusOK {
				return fmt.Errorf("%s%s: %s: %s", url, path, r.Status, strings.TrimSpace(string(text)))
			}
			_, err = out.Write(text)
			return err
		},
	}
	fl := cmd.Flags()
	for i, name := range flags {
		fl.StringVar(&addresses[i], name, "", "`ADDRESS` that the server got with the same flag")
	}
	fl.BoolVar(&live, "live", false, "only ask whether the server's process is running")
	fl.StringVar(&ca, "ca", "", "`FILE` with the certificate of the CA that signed the server's certificate, for https://")
	fl.DurationVar(&timeout, "timeout", timeout, "maximum `DURATION` of the request")
	return cmd
}
