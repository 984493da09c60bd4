package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/adminhttp"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/worker"
	"github.com/go-partd/partd/tables/page"
	"github.com/go-partd/partd/tables/rest"
)

const serveHelp = `Serve the tables of a directory or cloud bucket over Arrow Flight: to clients of Flight SQL (ADBC, JDBC,
Grafana), to clients of shoots, and to any other Flight client. docs/flight.md has examples.
With --http, also serve a page for browsers, and its API; see docs/http.md. Below /iceberg
at that address, or with --rest at its own, is a catalog of Iceberg's REST specification: for
Spark, Trino, DuckDB, pyiceberg and others, with the same tokens; see docs/rest.md.

With a secret, every call needs a token signed with it ("partd-tables token" makes one),
as a bearer token or as the password of any user. A secret without TLS is refused, since
anyone on the network could read the tokens; so is an address beyond this machine without
either. --insecure allows both.

When it is ready, it writes "ready URL" on a line of its own. SIGTERM, SIGINT and the action
shutdown stop it gracefully: it finishes the calls under way, and folds small appends.

shoots' flags --port, --host, --bucket_dir, --cert_file, --key_file and --secret work
too, as do its variables SHOOTS_PORT, SHOOTS_HOST, SHOOTS_BUCKET_DIR, SHOOTS_CERT_FILE,
SHOOTS_KEY_FILE and SHOOTS_SECRET, the secret itself. A flag overrides its
PARTD_TABLES_ variable, which overrides shoots' (in shoots, variables override flags).`

func newServe(a *app) *cobra.Command {
	c := new(serveConfig)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve tables over Arrow Flight",
		Long:  serveHelp,
		Example: `  partd-tables serve
  partd-tables serve --listen grpc+tls://0.0.0.0:8081 --tls-cert cert.pem --tls-key key.pem --secret-file secret`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.options.Logger = cliutil.NewLog("text", a.err)
			if err := c.finish(cmd); err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(commandsDir, "catalog.db")); err == nil && *c.dir == serveDir && !cmd.Flags().Changed("dir") {
				c.options.Logger.Warn("tables that the commands put here are not served: give --dir "+commandsDir, "dir", serveDir)
			}
			return c.serve(cmd.Context(), a)
		},
	}
	c.flags(cmd)
	return cmd
}

// serve runs the server until ctx ends, or a client that may do so ends it.
func (c *serveConfig) serve(ctx context.Context, a *app) (err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	log := c.options.Logger
	l, err := c.listenFlight()
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // most often the second time
	beside := map[string]net.Listener{}
	for flag, address := range map[string]string{"--http": c.http, "--rest": c.rest} {
		if address == "" {
			continue
		}
		if beside[flag], err = c.listenAt(flag, address); err != nil {
			return err
		}
		defer beside[flag].Close() //nolint:errcheck // most often the second time
	}
	debug.SetMemoryLimit(2 * c.memory.Bytes)
	const least = 16 << 20 // that a query has of the half of half
	c.options.Queries = max(1, min(c.options.Queries, int(c.memory.Bytes/4/least)))
	engine, err := duck.New(&duck.Options{Memory: max(least, c.memory.Bytes/8), Total: c.memory.Bytes / 2, Queries: c.options.Queries, Processes: worker.Supported})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	c.options.Operations = flightd.NewOperations()
	store, err := c.openStore(ctx, &tables.Options{
		NoTail: c.noTail, ReadOnly: c.readOnly, Memory: c.memory.Bytes / 4, Engine: engine, Observer: c.options.Operations, Logger: log,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	c.options.ReadOnly = store.ReadOnly()
	c.options.Memory, c.options.MaxMessage = c.memory.Bytes, int(c.maxMessage.Bytes)
	server, err := flightd.New(store, &c.options)
	if err != nil {
		return err
	}
	iceberg, err := c.iceberg()
	if err != nil {
		return err
	}
	catalog := rest.Handler(server, store, iceberg)
	for flag, on := range beside {
		h := http.NewServeMux()
		h.Handle("/iceberg/", http.StripPrefix("/iceberg", catalog))
		if flag == "--http" {
			health := adminhttp.Handler(func() error { return context.Cause(ctx) }, server.Metrics())
			for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
				h.Handle(path, health)
			}
			h.Handle("/", page.Handler(server, store, page.Options{URL: c.url(l.Addr())}))
		} else {
			h.Handle("/", catalog)
		}
		log.Info("listening", "flag", flag, "address", map[bool]string{true: "https://", false: "http://"}[c.options.TLS != nil]+on.Addr().String())
		served := make(chan error, 1)
		lateCtx, end := context.WithCancel(context.WithoutCancel(ctx)) // it tells of the end, too
		defer func() { end(); err = errors.Join(err, <-served) }()
		go func() {
			err := page.Serve(lateCtx, on, server, h)
			if err != nil {
				err = fmt.Errorf("%s: %w", flag, err)
				stop(err) // the whole server
			}
			served <- err
		}()
	}
	if c.exitOnStdinClose {
		go func() {
			_, _ = io.Copy(io.Discard, a.in)
			stop(errors.New("the standard input was closed"))
		}()
	}
	if err := c.announce(a.out, l, log); err != nil {
		return err
	}
	if err := server.Serve(ctx, l); err != nil {
		return err
	}
	r, err := store.Fold(context.WithoutCancel(ctx), nil)
	if err != nil {
		return fmt.Errorf("small appends are safe, but were not folded: %w", err)
	}
	log.Info("ended", "rows_folded", r.Rows)
	return nil
}

// iceberg is how engines are served: of a bucket they are told where it is, and lent keys of
// a role if there is one.
func (c *serveConfig) iceberg() (rest.Options, error) {
	o := rest.Options{FoldEvery: c.foldEvery}
	lender, err := cloud.NewLender(*c.dir, c.restRole)
	switch {
	case err != nil:
		return o, err
	case lender != nil:
		if o.Storage = lender.Settings(); c.restRole != "" {
			o.Lend = lender.Lend
		}
	case c.restRole != "":
		return o, cliutil.Usagef("--rest-role is for tables in a bucket of S3")
	}
	return o, nil
}

// announce says that connections are taken from now on.
func (c *serveConfig) announce(out io.Writer, l net.Listener, log *slog.Logger) error {
	url := c.url(l.Addr())
	if c.printToken {
		token, err := flightd.NewToken(c.options.Secret, flightd.Admin, url, defaultTTL)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, token); err != nil {
			return err
		}
	}
	log.Info("listening", "address", url, "dir", *c.dir)
	if c.options.Secret == nil && remote.BeyondLoopback(l.Addr()) {
		log.Warn("there is no secret: anyone who can reach this address can read, change and remove everything", "address", url)
	}
	_, err := fmt.Fprintf(out, "ready %s\n", url)
	return err
}

// url is what clients connect to: the host as it was given, which a certificate
// names, and the port that it came to.
func (c *serveConfig) url(a net.Addr) string {
	if c.scheme == unixScheme {
		return c.scheme + c.hostName
	}
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if c.hostName != "" {
		host = c.hostName
	}
	return c.scheme + net.JoinHostPort(host, port)
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

// listenAt refuses an address from which others could do anything.
func (c *serveConfig) listenAt(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if remote.BeyondLoopback(l.Addr()) && c.options.Secret == nil && c.options.TLS == nil && !c.insecure {
		_ = l.Close()
		return nil, cliutil.Usagef("%s %s can be reached from other machines, and there is neither a secret nor TLS: anyone who connects could read, "+
			"change and remove everything. Give --tls-cert, --tls-key and --secret-file, or --insecure if the network admits only trusted clients", flag, l.Addr())
	}
	return l, nil
}
