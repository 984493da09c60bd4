package servercli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
)

func newHealth() *cobra.Command {
	var address string
	var live bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "health", Short: "Ask a running server whether it is ready",
		Long: `Ask a server on this machine, at its address for --http, whether it is ready. The exit
code is 0 if it is, and 1 if it is not, with the reason. Containers can use this as a probe.`,
		Example: "  partd-server health --http 127.0.0.1:7078",
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, port, err := net.SplitHostPort(address)
			if err != nil || port == "" {
				return cliutil.Usagef("--http %q: write the HOST:PORT that the server has in --http", address)
			}
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() { // the server listens on all addresses
				host = "localhost"
			}
			path := "/readyz"
			if live {
				path = "/healthz"
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
			if err != nil {
				return cliutil.Usagef("--http %q: %w", address, err)
			}
			answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request) // without a proxy
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				const maxReason = 4 << 10
				reason, _ := io.ReadAll(io.LimitReader(answer.Body, maxReason))
				return fmt.Errorf("not ready: %s: %s", answer.Status, reason)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&address, "http", "", "`ADDRESS` that the server has in --http")
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether the process answers, not whether it is ready")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "maximum `DURATION` of the question")
	return cmd
}
