package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/adminhttp"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/worker"
	"github.com/go-partd/partd/tables/page"
)

const serveHelp = `Serve a directory of tables, or a bucket's, over Arrow Flight: to clients of Flight SQL (ADBC, JDBC,
Grafana), to those of shoots, and to any other Flight client. docs/flight.md has examples.
With --http, serve a page for browsers as well, and what it asks for; see docs/http.md.

With a secret, every call needs a token signed with it ("partd-tables token" makes one),
as a bearer token or as the password of any user. A secret without TLS is refused, since
anyone on the network could read the tokens; so is an address beyond this machine without
either. --insecure allows both.

Once it serves, it writes "ready URL" on a line of its own. SIGTERM, SIGINT and the action
shutdown end it gracefully: it finishes the calls under way, and folds small appends.

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
		Args: cliutil.Takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.options.Logger = cliutil.NewLog("text", a.err)
			if err := c.finish(cmd); err != nil {
				return err
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
	var admin net.Listener
	if c.http != "" {
		if admin, err = c.listenAt("--http", c.http); err != nil {
			return err
		}
		defer admin.Close() //nolint:errcheck // most often the second time
	}
	debug.SetMemoryLimit(2 * c.memory.Bytes)
	const least = 16 << 20 // that a query has of the half of half
	c.options.Queries = max(1, min(c.options.Queries, int(c.memory.Bytes/4/least)))
	engine, err := duck.New(&duck.Options{Memory: max(least, c.memory.Bytes/8), Total: c.memory.Bytes / 2, Queries: c.options.Queries, Processes: worker.Supported})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	store, err := c.openStore(ctx, &tables.Options{NoTail: c.noTail, ReadOnly: c.readOnly, Memory: c.memory.Bytes / 4, Engine: engine, Logger: log})
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
	served := make(chan error, 1)
	if admin != nil {
		log.Info("listening", "address", map[bool]string{true: "https://", false: "http://"}[c.options.TLS != nil]+admin.Addr().String())
		adminCtx, end := context.WithCancel(context.WithoutCancel(ctx)) // it tells of the end, too
		defer func() { end(); err = errors.Join(err, <-served) }()
		h := http.NewServeMux()
		health := adminhttp.Handler(func() error { return context.Cause(ctx) }, server.Metrics())
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			h.Handle(path, health)
		}
		h.Handle("/", page.Handler(server, store, page.Options{URL: c.url(l.Addr())}))
		go func() {
			err := page.Serve(adminCtx, admin, server, h)
			if err != nil {
				err = fmt.Errorf("--http: %w", err)
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
		log.Warn("there is no secret: anyone who can reach this address may read, change and remove everything", "address", url)
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
		return nil, cliutil.Usagef("%s %s can be reached from other machines, and there is neither a secret nor TLS: whoever connects could read, "+
			"change and remove everything. Give --tls-cert, --tls-key and --secret-file, or --insecure if the network lets in only those who may", flag, l.Addr())
	}
	return l, nil
}
