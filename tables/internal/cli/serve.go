package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/internal/server/adminhttp"
	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/sql/worker"
	"github.com/go-partd/partd/tables/page"
	"github.com/go-partd/partd/tables/rest"
)

const serveHelp = `Serve the tables of a directory or cloud bucket over Arrow Flight: to clients of Flight SQL (ADBC, JDBC,
Grafana), to clients of shoots (a Python server), and to any other Flight client; see docs/flight.md.
With --http, also serve a page for browsers, and its API; see docs/http.md. The same address serves,
under /iceberg, an Iceberg REST catalog for Spark, Trino, DuckDB, pyiceberg and others, with the
same tokens; --rest serves it at a separate address. See docs/rest.md.

With a secret, every call needs a token that is signed with the secret (see "partd-tables token"),
as a bearer token or as the password of any user. The server refuses to use a secret without TLS, because
anyone on the network could read the tokens. It also refuses to listen on an address that other machines
can reach if it has neither a secret nor TLS. --insecure allows both.

Other users of this machine cannot read the files that the server creates: files have mode 0640
and directories 0750, or less if the umask says so.

On SIGHUP, the server reloads the secrets, the revoked names and the certificate, and reopens
the audit log.

When the server is ready, it prints the line "ready URL". SIGTERM, SIGINT and the
shutdown action stop it gracefully: it finishes running calls, and writes small appends to files.

Every minute, the server maintains the tables: it merges small files where that pays, and removes files
that nothing has needed for a day. It expires versions only with --keep-versions, --keep-age or the
settings of a table (see "partd-tables settings"). --maintain=false turns this off, except for tables
with the setting maintenance=on.

The server also accepts the flags of shoots, --port, --host, --bucket_dir, --cert_file, --key_file
and --secret, and its variables SHOOTS_PORT, SHOOTS_HOST, SHOOTS_BUCKET_DIR, SHOOTS_CERT_FILE,
SHOOTS_KEY_FILE and SHOOTS_SECRET (the secret itself). With one of them, the default directory is
shoots' own, buckets. A flag overrides its PARTD_TABLES_ variable, which overrides the variable of
shoots (in shoots, variables override flags).`

func newServe(a *app) *cobra.Command {
	c := new(serveConfig)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve tables over Arrow Flight",
		Long:  serveHelp,
		Example: `  partd-tables serve
  partd-tables serve --listen grpc+tls://0.0.0.0:8081 --tls-cert cert.pem --tls-key key.pem --secret-file secret`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			startReloading, stopReloading := cliutil.CatchHangups()
			defer stopReloading()
			if c.logFormat != "text" && c.logFormat != "json" {
				return cliutil.Usagef("--log-format %q: use text or json", c.logFormat)
			}
			c.options.Logger = cliutil.NewLog(c.logFormat, a.err)
			if err := c.validate(cmd); err != nil {
				return err
			}
			const storeFiles = 128 // files that stores and worker processes keep open
			cliutil.WarnFileLimit(c.options.Logger, c.options.Connections, storeFiles)
			defer restrictNewFiles()()
			return c.serve(cmd.Context(), a, startReloading)
		},
	}
	c.addFlags(cmd)
	return cmd
}

// minFoldTime is the time that the shutdown always allows for writing small appends to files, even after
// --drain-timeout.
const minFoldTime = 500 * time.Millisecond

// serve runs the server until ctx is canceled, or an authorized client stops it. It calls onHangup with the function
// that reloads the secrets.
func (c *serveConfig) serve(ctx context.Context, a *app, onHangup func(reload func())) (err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	log := c.options.Logger
	var programs *sharing
	if c.share != "" {
		if programs, err = listenShare(c.share); err != nil {
			return err
		}
		defer func() { programs.release(endMessage(err)) }() // after the store is closed
	}
	l, err := c.listenFlight()
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // the server has usually closed it
	httpListeners := map[string]net.Listener{}
	for flag, address := range map[string]string{"--http": c.http, "--rest": c.rest, "--health": c.health} {
		if address == "" {
			continue
		}
		listen := c.listenAt
		if flag == "--health" { // shows no tables, so other machines may reach it
			listen = func(_, address string) (net.Listener, error) { return net.Listen("tcp", address) }
		}
		if httpListeners[flag], err = listen(flag, address); err != nil {
			return err
		}
		defer httpListeners[flag].Close() //nolint:errcheck // the server has usually closed it
	}
	debug.SetMemoryLimit(2 * c.memory.Bytes)
	const minMemory = 16 << 20 // minimum memory of a query; all queries together may use a quarter of --memory
	c.options.Queries = max(1, min(c.options.Queries, int(c.memory.Bytes/4/minMemory)))
	spill.Process.SetLimit(c.maxSpill.Bytes / 2)
	engine, err := duck.New(&duck.Options{
		Memory: max(minMemory, c.memory.Bytes/8), Total: c.memory.Bytes / 2, MaxTemp: c.maxSpill.Bytes / 2 / int64(c.options.Queries),
		Queries: c.options.Queries, Processes: worker.Supported,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	c.options.StoreObserver = serving.NewOperations()
	store, err := c.openStore(ctx, &tables.Options{
		NoTail: c.noTail, ReadOnly: c.readOnly, Memory: c.memory.Bytes / 4, Engine: engine, Observer: c.options.StoreObserver, Logger: log,
	})
	if err != nil {
		return err
	}
	defer func() {
		closeErr := store.Close()
		if serving.IsDiskFull(closeErr) { // not a failure of serve, because no row is lost
			log.Error("the disk is full: rows are safe in the tail's write-ahead files until the next start", "err", closeErr)
			closeErr = nil
		}
		err = errors.Join(err, closeErr)
	}()
	stopMaintenance := c.startMaintenance(ctx, store)
	defer stopMaintenance()
	if c.auditFile != "" {
		if c.audit, err = audit.Open(c.auditFile, a.err, log); err != nil {
			return cliutil.Usagef("--audit-log: %w", err)
		}
		c.options.Audit = c.audit
		defer func() { err = errors.Join(err, c.audit.Close()) }()
	}
	c.options.ReadOnly = store.ReadOnly()
	c.options.Memory, c.options.MaxMessage = c.memory.Bytes, int(c.maxMessage.Bytes)
	version, commit := cliutil.Build()
	c.options.Version = version
	if version == "devel" {
		c.options.Version += " " + commit
	}
	server, err := flightd.New(store, &c.options)
	if err != nil {
		return err
	}
	server.ShowBuild(version, commit)
	if err := c.setSecrets(server); err != nil {
		return err
	}
	onHangup(func() { c.reload(server) })
	iceberg, err := c.icebergOptions()
	if err != nil {
		return err
	}
	catalog := rest.Handler(server.Core, store, iceberg)
	// not canceled with ctx, so that the health check can report the shutdown
	httpCtx, cancelHTTP := context.WithCancel(context.WithoutCancel(ctx))
	httpErrs := make(chan error, len(httpListeners))
	stopHTTP := sync.OnceValue(func() (err error) {
		cancelHTTP()
		for range httpListeners {
			err = errors.Join(err, <-httpErrs)
		}
		return err
	})
	for flag, listener := range httpListeners {
		h := http.NewServeMux()
		scheme, serveHTTP := "http://", adminhttp.Serve // separate from the limit on connections
		if flag != "--health" {
			h.Handle("/iceberg/", http.StripPrefix("/iceberg", catalog))
			scheme = map[bool]string{true: "https://", false: "http://"}[c.options.TLS != nil]
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
			h.Handle("/", page.Handler(server.Core, store, page.Options{URL: c.url(l.Addr())}))
		case "--rest":
			h.Handle("/", catalog)
		}
		log.Info("listening", "flag", flag, "address", scheme+listener.Addr().String())
		go func() {
			err := serveHTTP(httpCtx, listener, h)
			if err != nil {
				err = fmt.Errorf("%s: %w", flag, err)
				stop(err) // stops all of serve
			}
			httpErrs <- err
		}()
	}
	defer func() { err = errors.Join(err, stopHTTP()) }()
	if c.exitOnStdinClose {
		go func() {
			_, _ = io.Copy(io.Discard, a.in)
			stop(errors.New("the standard input was closed"))
		}()
	}
	if programs != nil {
		go func() {
			programs.wait(ctx, func(_ context.Context, program net.Conn) {
				fmt.Fprintln(program, c.url(l.Addr())) //nolint:errcheck // Copy then fails, too
				_, _ = io.Copy(io.Discard, program)
			})
			stop(errors.New("the last program disconnected"))
		}()
	}
	if err := c.announce(a.out, l, log); err != nil {
		return err
	}
	if err := server.Serve(ctx, l); err != nil {
		return err
	}
	stopMaintenance()
	// stop HTTP before the fold, because HTTP calls can commit, and the fold waits for commits
	if err := stopHTTP(); err != nil {
		return nil // the deferred stopHTTP returns err again
	}
	foldCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(minFoldTime, server.RemainingGrace()))
	defer cancel()
	r, err := store.Fold(foldCtx, nil)
	switch {
	case err != nil && foldCtx.Err() != nil:
		log.Warn("some small appends were not written to files in time, but are safe in the tail until the next start", "err", err)
	case err != nil: // not a failure of serve, because no row is lost
		log.Error("some small appends could not be written to files, but are safe in the tail until the next start", "err", err)
	}
	log.Info("stopped", "rows_folded", r.Rows)
	return nil
}

// icebergOptions returns the options of the Iceberg catalog. For tables in a cloud bucket, the catalog sends
// engines the bucket's location and, with --rest-role, temporary keys.
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

// announce logs and prints that the server accepts connections. With --print-token, it also prints a token.
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
	if c.options.Secret == nil && remote.IsExposed(l.Addr()) {
		log.Warn("no --secret-file: anyone who can reach this address can read, change and remove everything", "address", url)
	}
	_, err := fmt.Fprintf(out, "ready %s\n", url)
	return err
}

// url returns the URL for clients of the listener at a. It contains the actual port, and the host of --listen, because
// a certificate may be valid only for that name.
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

// listenAt listens on an address. It returns an error if other machines can reach the address and would have full
// access.
func (c *serveConfig) listenAt(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if remote.IsExposed(l.Addr()) && c.options.Secret == nil && c.options.TLS == nil && !c.insecure {
		_ = l.Close()
		return nil, cliutil.Usagef("%s %s can be reached from other machines, but there is neither a secret nor TLS: anyone who connects could read, "+
			"change and remove everything. Use --tls-cert, --tls-key and --secret-file, or --insecure if only trusted clients can reach it", flag, l.Addr())
	}
	return l, nil
}
