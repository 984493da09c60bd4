package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/server/adminhttp"
	"github.com/go-partd/partd/internal/server/certfiles"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/page"
	"github.com/go-partd/partd/tables/rest"
)

func (c *serveConfig) addressFlags(fl *pflag.FlagSet) {
	fl.StringVar(&c.listen, "listen", "grpc://localhost:8081", "`URL` to listen on: grpc://HOST:PORT or grpc+tls://HOST:PORT (port 0 picks a free one), or grpc+unix:///PATH for a socket that only this user can open")
	fl.IntVar(&c.port, "port", 8081, "")
	fl.StringVar(&c.host, "host", "localhost", "")
	fl.StringVar(&c.http, "http", "", "serve the web page on `ADDR`, such as localhost:9090; the paths /healthz, /readyz and /metrics need no token (default: off)")
	fl.StringVar(&c.health, "health", "", "serve only /healthz, /readyz and /metrics on `ADDR`, without a token or TLS, for probes that must not reach the tables (default: off)")
	fl.StringVar(&c.rest, "rest", "", "serve an Iceberg REST catalog on `ADDR`, such as localhost:8181, in addition to the path /iceberg on the --http address (default: off)")
	fl.StringVar(&c.restRole, "rest-role", "", "give engines temporary keys of the role `ARN`, each valid for an hour and for the files of one table (default: engines use their own keys)")
	fl.BoolVar(&c.insecure, "insecure", false, "allow a secret without TLS, and remote clients without a secret or TLS")
	fl.StringVar(&c.cert, "tls-cert", "", "`FILE` with the certificate and its intermediates, in PEM; reread after a change")
	fl.StringVar(&c.key, "tls-key", "", "`FILE` with the certificate's key, in PEM")
	fl.StringVar(&c.cert, "cert_file", "", "")
	fl.StringVar(&c.key, "key_file", "", "")
	fl.StringVar(&c.share, "share", "", "share the server with programs of this user at the Unix socket `PATH`, and stop when the last program disconnects")
	fl.BoolVar(&c.exitOnStdinClose, "exit-on-stdin-close", false, "stop when the standard input closes, for example because the parent process ended")
}

func (c *serveConfig) checkAddress() error {
	if (c.cert == "") != (c.key == "") {
		return cliutil.Usagef("--tls-cert and --tls-key must be used together")
	}
	if err := c.parseAddress(); err != nil || c.cert == "" {
		return err
	}
	files, err := certfiles.Load(certfiles.Options{Cert: c.cert, Key: c.key, MinVersion: tls.VersionTLS12, Log: c.options.Logger})
	if err != nil {
		return cliutil.Usagef("%w", err)
	}
	c.certificates, c.options.TLS = files, &tls.Config{GetCertificate: files.Certificate, MinVersion: tls.VersionTLS12}
	return nil
}

// serverRun is a running server.
type serverRun struct {
	*serveConfig
	stop          context.CancelCauseFunc // stops all of serve
	listener      net.Listener
	httpListeners map[string]net.Listener // by flag: --http, --rest or --health
	programs      *sharing                // nil without --share
}

func (c *serveConfig) listenFlight() (net.Listener, error) {
	if c.scheme == unixScheme {
		l, err := remote.Listen("ipc://" + c.hostName)
		if err != nil {
			return nil, fmt.Errorf("--listen: %w", err)
		}
		return l, nil
	}
	return c.listenAt("--listen", net.JoinHostPort(c.hostName, strconv.Itoa(c.portNumber)))
}

// listenAt listens on the address given by flag. It returns an error if other machines could reach the address and would
// have full access.
func (c *serveConfig) listenAt(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if remote.IsExposed(l.Addr()) && c.options.Secret == nil && c.options.TLS == nil && !c.insecure {
		_ = l.Close() // nobody has connected
		return nil, cliutil.Usagef("%s %s can be reached from other machines, but there is neither a secret nor TLS: anyone who connects could read, "+
			"change and remove everything. Use --tls-cert, --tls-key and --secret-file, or --insecure if only trusted clients can reach it", flag, l.Addr())
	}
	return l, nil
}

// url returns the URL for clients. It contains the actual port, and the host from --listen, because a certificate may
// be valid only for that name.
func (r *serverRun) url() string {
	if r.scheme == unixScheme {
		return r.scheme + r.hostName
	}
	address := r.listener.Addr().String()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if r.hostName != "" {
		host = r.hostName
	}
	return r.scheme + net.JoinHostPort(host, port)
}

// announce logs and prints that the server accepts connections. With --print-token, it also prints a token.
func (r *serverRun) announce() error {
	url, log := r.url(), r.options.Logger
	if r.printToken {
		token, err := flightd.NewToken(r.options.Secret, flightd.Admin, url, defaultTTL)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(r.a.out, token); err != nil {
			return err
		}
	}
	log.Info("listening", "address", url, "dir", *r.dir)
	if r.options.Secret == nil && remote.IsExposed(r.listener.Addr()) {
		log.Warn("no --secret-file: anyone who can reach this address can read, change and remove everything", "address", url)
	}
	_, err := fmt.Fprintf(r.a.out, "ready %s\n", url)
	return err
}

// icebergOptions returns the options for the Iceberg catalog. For tables in a cloud bucket, the catalog sends engines
// the bucket's location and, with --rest-role, temporary keys.
func (c *serveConfig) icebergOptions() (rest.Options, error) {
	o := rest.Options{FoldEvery: c.foldEvery}
	lender, err := cloud.NewLender(*c.dir, c.restRole)
	switch {
	case err != nil:
		return o, err
	case lender != nil:
		o.Storage = lender.Settings()
		if c.restRole != "" {
			o.Lend = lender.Lend
		}
	case c.restRole != "":
		return o, cliutil.Usagef("--rest-role needs tables in an S3 bucket")
	}
	return o, nil
}

// startHTTP serves HTTP at the addresses of --http, --rest and --health until stop is called. If serving fails, it stops
// the whole server. stop returns the failures; it may be called several times.
func (r *serverRun) startHTTP(ctx context.Context, server *flightd.Server, store *tables.Store, catalog http.Handler) (stop func() error) {
	// httpCtx outlives ctx, so that the health check can report the shutdown.
	httpCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	errs := make(chan error, len(r.httpListeners))
	for flag, listener := range r.httpListeners {
		h := http.NewServeMux()
		scheme, serveHTTP := "http://", adminhttp.Serve // connections to --health do not count toward --max-connections
		if flag != "--health" {
			h.Handle("/iceberg/", http.StripPrefix("/iceberg", catalog))
			scheme = map[bool]string{true: "https://", false: "http://"}[r.options.TLS != nil]
			serveHTTP = func(ctx context.Context, l net.Listener, h http.Handler) error {
				return page.Serve(ctx, l, server.Core, h)
			}
		}
		if flag != "--rest" {
			health := adminhttp.Handler(func() error { return cmp.Or(context.Cause(ctx), server.Ready()) }, server.Metrics())
			for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
				h.Handle(path, health)
			}
		}
		switch flag {
		case "--http":
			options := page.Options{URL: r.url()}
			options.UseFormats(r.a.formats)
			h.Handle("/", page.Handler(server.Core, store, options))
		case "--rest":
			h.Handle("/", catalog)
		}
		r.options.Logger.Info("listening", "flag", flag, "address", scheme+listener.Addr().String())
		go func() {
			err := serveHTTP(httpCtx, listener, h)
			if err != nil {
				err = fmt.Errorf("%s: %w", flag, err)
				r.stop(err)
			}
			errs <- err
		}()
	}
	return sync.OnceValue(func() (err error) {
		cancel()
		for range r.httpListeners {
			err = errors.Join(err, <-errs)
		}
		return err
	})
}

// parseAddress sets c.scheme, c.hostName and c.portNumber from the flags for the address.
func (c *serveConfig) parseAddress() error {
	isSet := c.cmd.Flags().Changed
	if isSet("port") || isSet("host") {
		if isSet("listen") {
			return cliutil.Usagef("--listen cannot be combined with --host or --port")
		}
		c.listen = "grpc://" + net.JoinHostPort(c.host, strconv.Itoa(c.port))
	}
	secure := c.cert != ""
	if !isSet("listen") && secure {
		c.listen = strings.Replace(c.listen, "grpc://", "grpc+tls://", 1)
	}
	scheme, target, ok := strings.Cut(c.listen, "://")
	if !ok || !slices.Contains([]string{"grpc", "grpc+tcp", "grpc+tls", "grpc+unix"}, scheme) {
		return cliutil.Usagef("--listen %q: use grpc://HOST:PORT, grpc+tls://HOST:PORT or grpc+unix:///PATH", c.listen)
	}
	if secure != (scheme == "grpc+tls") {
		return cliutil.Usagef("--listen %q: use grpc+tls:// with --tls-cert and --tls-key, and grpc:// without", c.listen)
	}
	c.scheme = scheme + "://"
	if c.scheme == unixScheme {
		c.hostName = target
		return nil
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return cliutil.Usagef("--listen %q: use HOST:PORT; port 0 picks a free port", c.listen)
	}
	portNumber, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return cliutil.Usagef("--listen %q: %q is not a port", c.listen, port)
	}
	c.hostName, c.portNumber = host, int(portNumber)
	return nil
}
