package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/sql/worker"
	"github.com/go-partd/partd/tables/rest"
)

const serveHelp = `Serve the tables in a directory or cloud bucket over Arrow Flight: to Flight SQL clients (ADBC,
JDBC, Grafana), to clients of shoots (a Python server), and to any other Flight client. See
docs/flight.md.

With --http, the server also serves a web page and its API (docs/http.md). Under the path
/iceberg, the same address serves an Iceberg REST catalog for Spark, Trino, DuckDB, pyiceberg and
others, with the same tokens; --rest serves the catalog at a separate address (docs/rest.md). The
paths /write and /api/v2/write accept InfluxDB's line protocol (docs/line-protocol.md).

With a secret, every call needs a token that is signed with the secret (see "partd-tables token
--help"), as a bearer token or as the password of any user. The server refuses to use a secret
without TLS, because anyone on the network could read the tokens. It also refuses to listen on an
address that other machines can reach if it has neither a secret nor TLS. --insecure allows both.

Other users of this machine cannot read the files that the server creates: files have mode 0640
and directories 0750, or less if the umask is stricter.

On SIGHUP, the server reloads the secrets, the revoked names and the certificate, and reopens
the audit log.

When the server is ready, it prints the line "ready URL". SIGTERM, SIGINT and the
shutdown action stop it gracefully: it finishes running calls and writes small appends to files.

Every minute, the server maintains the tables: it merges small files if that pays off and removes
files that have been unused for a day. It expires versions only with --keep-versions, --keep-age
or the settings of a table (see "partd-tables settings --help"). --maintain=false turns
maintenance off, except for tables with the setting maintenance=on.

The server also accepts the flags of shoots, --port, --host, --bucket_dir, --cert_file,
--key_file and --secret, and its variables SHOOTS_PORT, SHOOTS_HOST, SHOOTS_BUCKET_DIR,
SHOOTS_CERT_FILE, SHOOTS_KEY_FILE and SHOOTS_SECRET (the secret itself). If one of them is set,
the default directory is that of shoots, "buckets". A flag overrides its PARTD_TABLES_ variable,
which overrides the variable of shoots (in shoots, variables override flags).`

func newServe(a *app) *cobra.Command {
	c := &serveConfig{a: a}
	settings := []struct { // in the order in which they are checked
		addFlags func(*pflag.FlagSet)
		check    func() error // checks the flags and sets options from them and the files that they name
	}{
		{c.logFlags, c.checkLog},
		{c.directoryFlags, c.checkDirectory},
		{c.addressFlags, c.checkAddress},
		{c.secretFlags, c.checkSecrets},
		{c.limitFlags, c.checkLimits},
	}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve tables over Arrow Flight",
		Long:  serveHelp,
		Example: `  partd-tables serve
  partd-tables serve --listen grpc+tls://0.0.0.0:8081 --tls-cert cert.pem --tls-key key.pem --secret-file secret`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			startReloading, stopReloading := cliutil.CatchHangups()
			defer stopReloading()
			for _, s := range settings {
				if err := s.check(); err != nil {
					return err
				}
			}
			const storeFiles = 128 // files that stores and worker processes keep open
			cliutil.WarnFileLimit(c.options.Logger, c.options.Connections, storeFiles)
			defer restrictNewFiles()() // restricts new files from now until the server has stopped
			return c.serve(cmd.Context(), startReloading)
		},
	}
	c.warehouse = warehouseFlags(cmd)
	for _, s := range settings {
		s.addFlags(cmd.Flags())
	}
	for name := range shootsToServeFlag {
		cliutil.Must(cmd.Flags().MarkHidden(name))
	}
	return cmd
}

// serve runs the server until ctx is canceled or an authorized client stops it. It calls onHangup with a function that
// reloads the secrets and certificates.
func (c *serveConfig) serve(ctx context.Context, onHangup func(reload func())) (err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := &serverRun{serveConfig: c, stop: stop, httpListeners: map[string]net.Listener{}}
	if c.share != "" {
		r.programs, err = listenShare(c.share)
		if err != nil {
			return err
		}
		defer func() { r.programs.release(endMessage(err)) }() // after the store is closed
	}
	r.listener, err = c.listenFlight()
	if err != nil {
		return err
	}
	defer r.listener.Close() //nolint:errcheck // the server has usually closed it
	for flag, address := range map[string]string{"--http": c.http, "--rest": c.rest, "--health": c.health} {
		if address == "" {
			continue
		}
		listen := c.listenAt
		if flag == "--health" { // --health gives no access to tables, so other machines may reach it
			listen = func(_, address string) (net.Listener, error) { return net.Listen("tcp", address) }
		}
		r.httpListeners[flag], err = listen(flag, address)
		if err != nil {
			return err
		}
		defer r.httpListeners[flag].Close() //nolint:errcheck // the server has usually closed it
	}
	vfs.NoteURL(r.url()) // shown in the errors of other processes that open the directory
	defer vfs.NoteURL("")
	return c.withStore(ctx, func(store *tables.Store) error { return r.serveStore(ctx, store, onHangup) })
}

// withStore opens the store and its SQL engine, calls f with the store, and closes both.
func (c *serveConfig) withStore(ctx context.Context, f func(*tables.Store) error) (err error) {
	debug.SetMemoryLimit(2 * c.memory.Bytes)
	const minMemory = 16 << 20 // minimum memory for a query; all queries together may use a quarter of --memory
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
	log := c.options.Logger
	store, err := c.openStore(ctx, &tables.Options{
		NoTail: c.noTail, ReadOnly: c.readOnly, Memory: c.memory.Bytes / 4, Engine: engine, Observer: c.options.StoreObserver, Logger: log,
	})
	if err != nil {
		return err
	}
	defer func() {
		closeErr := store.Close()
		if kinds.IsDiskFull(closeErr) { // not a failure of serve, because no row is lost
			log.Error("the disk is full: rows in the tail stay in its write-ahead files, and the next start reads them", "err", closeErr)
			closeErr = nil
		}
		err = errors.Join(err, closeErr)
	}()
	return f(store)
}

// serveStore serves a store until the server stops. Then it moves the small appends in the tail, which consists of
// write-ahead files, into data files; see fold.
func (r *serverRun) serveStore(ctx context.Context, store *tables.Store, onHangup func(reload func())) (err error) {
	stopMaintenance := r.startMaintenance(ctx, store)
	defer stopMaintenance()
	if r.auditFile != "" {
		r.audit, err = audit.Open(r.auditFile, r.a.errOut, r.options.Logger)
		if err != nil {
			return cliutil.Usagef("--audit-log: %w", err)
		}
		r.options.Audit = r.audit
		defer func() { err = errors.Join(err, r.audit.Close()) }()
	}
	server, err := r.newServer(store)
	if err != nil {
		return err
	}
	onHangup(func() { r.reload(server) })
	iceberg, err := r.icebergOptions()
	if err != nil {
		return err
	}
	stopHTTP := r.startHTTP(ctx, server, store, rest.Handler(server.Core, store, iceberg))
	defer func() { err = errors.Join(err, stopHTTP()) }()
	r.stopWithPrograms(ctx)
	if err := r.announce(); err != nil {
		return err
	}
	if err := server.Serve(ctx, r.listener); err != nil {
		return err
	}
	stopMaintenance()
	// Stop HTTP before the fold, because HTTP calls can commit, and the fold waits for commits.
	if err := stopHTTP(); err != nil {
		return nil // the deferred call of stopHTTP returns the same error, which is joined
	}
	r.fold(ctx, store, server.RemainingGrace())
	return nil
}

// newServer returns a server with the options and secrets that the flags set.
func (c *serveConfig) newServer(store *tables.Store) (*flightd.Server, error) {
	o := &c.options
	o.ReadOnly = store.ReadOnly()
	o.Memory, o.MaxMessage = c.memory.Bytes, int(c.maxMessage.Bytes)
	version, commit := cliutil.Build()
	o.Version = version
	if version == "devel" {
		o.Version += " " + commit
	}
	server, err := flightd.New(store, o)
	if err != nil {
		return nil, err
	}
	server.ShowBuild(version, commit)
	return server, c.setSecrets(server)
}

// stopWithPrograms makes the server stop when standard input is closed, with --exit-on-stdin-close, and when the last
// program disconnects, with --share.
func (r *serverRun) stopWithPrograms(ctx context.Context) {
	if r.exitOnStdinClose {
		go func() {
			_, _ = io.Copy(io.Discard, r.a.in) // returns at the end of standard input
			r.stop(errors.New("the standard input was closed"))
		}()
	}
	if r.programs != nil {
		go func() {
			r.programs.wait(ctx, func(_ context.Context, program net.Conn) {
				fmt.Fprintln(program, r.url())      //nolint:errcheck // if this fails, Copy fails as well
				_, _ = io.Copy(io.Discard, program) // returns when the program disconnects
			})
			r.stop(errors.New("the last program disconnected"))
		}()
	}
}

// fold moves small appends into data files. grace is the unused rest of --drain-timeout. fold takes at most this long, but
// it always has minFoldTime.
func (c *serveConfig) fold(ctx context.Context, store *tables.Store, grace time.Duration) {
	const minFoldTime = 500 * time.Millisecond
	log := c.options.Logger
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(minFoldTime, grace))
	defer cancel()
	r, err := store.Fold(ctx, nil)
	switch {
	case err != nil && ctx.Err() != nil:
		log.Warn("some small appends were not moved into data files in time; they stay in the tail, and the next start reads them", "err", err)
	case err != nil: // not a failure of serve, because no row is lost
		log.Error("some small appends could not be moved into data files; they stay in the tail, and the next start reads them", "err", err)
	}
	log.Info("stopped", "rows_folded", r.Rows)
}

// startMaintenance maintains the tables in the background. stop ends a running pass and waits for it; it can be called
// several times.
func (c *serveConfig) startMaintenance(ctx context.Context, store *tables.Store) (stop func()) {
	if store.ReadOnly() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	o := &tables.MaintainOptions{OlderThan: c.keepAge, Keep: c.keepVersions, Requested: !c.maintain}
	go func() {
		defer close(stopped)
		for canceled.Wait(ctx, time.After(c.maintainEvery)) == nil {
			_, err := store.Maintain(ctx, o)
			// The store itself logs the failures of single tables.
			if err != nil && ctx.Err() == nil && !errors.Is(err, tables.ErrInUse) && store.MaintenanceSummary().Failing == 0 {
				c.options.Logger.Warn("cannot maintain the tables", "err", err)
			}
		}
	}()
	return func() {
		cancel()
		<-stopped
	}
}
