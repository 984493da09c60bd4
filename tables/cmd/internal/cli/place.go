package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/server/certfiles"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// location holds the flags for the location of tables: a directory, a cloud bucket or a server.
type location struct {
	warehouse
	bucket                *string
	server, tokenFile, ca *string
	insecure              *bool
	dirFlag               *pflag.Flag // --dir, or --from of copy; it cannot be combined with --server
}

// directoryFlags adds the flags for the location of tables, except --bucket.
func directoryFlags(cmd *cobra.Command) location {
	p := location{warehouse: warehouseFlags(cmd)}
	cliutil.Must(cmd.MarkFlagDirname("dir"))
	p.serverFlags(cmd, "dir")
	return p
}

// serverFlags adds the flags for a server. dir is the name of the flag that --server replaces.
func (p *location) serverFlags(cmd *cobra.Command, dir string) {
	fs := cmd.Flags()
	p.server = fs.String("server", "", "use the server at this `URL` instead of a directory: grpc://HOST:PORT, grpc+tls://HOST:PORT or grpc+unix:///PATH")
	p.tokenFile = fs.String("token-file", "", "`FILE` with the token for the server")
	p.ca = fs.String("ca", "", "`FILE` with the CA certificates (PEM) to trust")
	p.insecure = fs.Bool("insecure", false, "send the token even without TLS")
	p.dirFlag = fs.Lookup(dir)
}

// tableArgument matches the usage line of a command whose first argument is a table's name.
var tableArgument = regexp.MustCompile(`\[--\] \[?(NAME|SOURCE)`)

// locationFlags adds the flags for the location of tables. Shells complete arguments as table names if the first argument
// in the usage line is a table name. Otherwise, they complete nothing.
func locationFlags(cmd *cobra.Command, bucketUsage string) location {
	p := directoryFlags(cmd)
	p.bucket = cmd.Flags().String("bucket", "", bucketUsage)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	if tableArgument.MatchString(cmd.Use) {
		cmd.ValidArgsFunction = p.completeTables
	}
	return p
}

// readFlags is like locationFlags, for a command that can run without changing tables: it also adds --read-only.
func readFlags(cmd *cobra.Command, bucketUsage string) location {
	p := locationFlags(cmd, bucketUsage)
	p.readOnlyFlag()
	return p
}

const readOnlyFlag = "read-only"

// readOnlyFlag adds --read-only.
func (p location) readOnlyFlag() {
	p.cmd.Flags().BoolVar(p.readOnly, readOnlyFlag, false, "read the current state without changing anything, even while another process has the tables open. Rows that are not yet in files belong to no version. Reading fails if the other process expires files that are being read")
}

// requestedBuckets returns the requested bucket, or nil for all buckets.
func (p location) requestedBuckets(cmd *cobra.Command) tables.Buckets {
	if cmd.Flags().Changed("bucket") {
		return tables.Buckets{*p.bucket}
	}
	return nil
}

// withBackend runs f on the store or on the server. If create is true, it creates a missing directory.
func (p location) withBackend(ctx context.Context, create bool, f func(backend) error) error {
	if *p.server != "" {
		return p.withServer(f)
	}
	return p.withDir(ctx, create, nil, f)
}

// withSQL is like withBackend, but f may run SQL.
func (p location) withSQL(ctx context.Context, create bool, f func(backend) error) (err error) {
	if *p.server != "" {
		return p.withServer(f)
	}
	engine, err := duck.New(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	return p.withDir(ctx, create, engine, func(b backend) error {
		err := f(b)
		// Close the engine before the store: while the store closes and syncs, the engine would prepare a database for
		// a statement that never comes.
		return errors.Join(err, engine.Close())
	})
}

// withDir runs f on the store in the directory. If create is true, it creates a missing directory. engine runs SQL; it
// may be nil.
func (p location) withDir(ctx context.Context, create bool, engine tables.Engine, f func(backend) error) (err error) {
	if err := p.checkExists(); !create && err != nil {
		return err
	}
	store, err := p.openStore(ctx, &tables.Options{FoldAge: -1, Engine: engine, ReadOnly: p.readOnly != nil && *p.readOnly})
	if errors.Is(err, tables.ErrInUse) {
		err = fmt.Errorf("%w: %s", err, p.inUseAdvice(err))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return f(backend{operations.Target{Store: store}, localStreams{store}})
}

// serverURLPattern matches the URL of the server that holds the tables, in an error that wraps tables.ErrInUse.
var serverURLPattern = regexp.MustCompile(`grpc(\+\w+)?://[^\s,]+`)

// inUseAdvice says how the command can use tables that another process has open.
func (p location) inUseAdvice(inUseErr error) string {
	var flags []string
	if p.cmd.Flags().Lookup(readOnlyFlag) != nil {
		flags = append(flags, "--"+readOnlyFlag)
	}
	if url := serverURLPattern.FindString(inUseErr.Error()); url != "" && p.server != nil {
		flags = append(flags, "--server "+url)
	}
	if flags == nil {
		return "this command has no read-only mode"
	}
	return "use " + strings.Join(flags, " or ")
}

func (p location) withServer(f func(backend) error) (err error) {
	if p.dirFlag != nil && p.dirFlag.Changed {
		return cliutil.Usagef("--%s and --server cannot be combined", p.dirFlag.Name)
	}
	if p.readOnly != nil && *p.readOnly {
		return cliutil.Usagef("--%s and --server cannot be combined: with --server, the command opens no tables and needs no lock", readOnlyFlag)
	}
	o := &flightclient.Options{Insecure: *p.insecure}
	if *p.tokenFile != "" {
		token, err := os.ReadFile(*p.tokenFile)
		if err != nil {
			return err
		}
		o.Token = string(bytes.TrimSpace(token))
	}
	if *p.ca != "" {
		o.CAs, err = certfiles.ReadAuthorities(*p.ca)
		if err != nil {
			return err
		}
	}
	c, err := flightclient.Dial(*p.server, o)
	if err != nil {
		return cliutil.Usagef("--server: %w", err)
	}
	return errors.Join(f(backend{operations.Target{Server: c}, c}), c.Close())
}

// warehouse is the location of tables on this machine or in a cloud.
type warehouse struct {
	cmd                          *cobra.Command
	dir, catalog, tail, cacheDir *string
	cacheSize                    *cliutil.Size
	rebuild                      bool  // replace a damaged catalog
	readOnly                     *bool // open the tables read-only; nil means false
}

// defaultDir is the default of --dir.
const defaultDir = "partd-tables"

func warehouseFlags(cmd *cobra.Command) warehouse {
	fl := cmd.Flags()
	w := warehouse{
		cmd:       cmd,
		dir:       fl.String("dir", defaultDir, "`DIR` with the tables, or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX (docs/warehouses.md)"),
		catalog:   fl.String("catalog", "", "`URL` of the catalog, postgres://HOST/DATABASE, or the directory that contains it (default: in DIR)"),
		tail:      fl.String("tail", "", "`DIR` for small appends until they are moved into data files (default: in the directory of the tables). Without --tail, each append to a cloud bucket is committed separately"),
		cacheDir:  fl.String("cache-dir", "", "`DIR` for local copies of a cloud bucket's files (default: in the user's cache directory)"),
		cacheSize: &cliutil.Size{Bytes: tables.DefaultCacheSize, Min: 1 << 20},
		readOnly:  new(bool),
	}
	fl.Var(w.cacheSize, "cache-size", "maximum `SIZE` of all local copies of a cloud bucket's files")
	return w
}

// openStore opens the store with the options in o, after adding the options from the flags.
func (w warehouse) openStore(ctx context.Context, o *tables.Options) (*tables.Store, error) {
	o.Catalog, o.TailDir, o.CacheDir, o.CacheSize = *w.catalog, *w.tail, *w.cacheDir, w.cacheSize.Bytes
	o.Sync, o.OpenBucket, o.Rebuild = true, cloud.OpenBucket, w.rebuild
	if o.Logger == nil {
		o.Logger = cliutil.NewWarnings(w.cmd.Root().Name(), w.cmd.ErrOrStderr())
	}
	return tables.Open(ctx, *w.dir, o)
}

// checkExists returns an error if the location has no tables. It returns nil for a remote catalog. It also returns nil if
// a directory has files of tables but no catalog: opening the directory returns a better error, or rebuilds the catalog.
func (w warehouse) checkExists() error {
	dir := *w.dir
	if strings.Contains(*w.catalog, "://") {
		return nil
	}
	if strings.Contains(dir, "://") {
		dir = *w.catalog
		if dir == "" {
			return nil // opening the store fails, because a cloud bucket needs --catalog
		}
	}
	_, err := os.Stat(filepath.Join(dir, "catalog.db"))
	if errors.Is(err, fs.ErrNotExist) {
		if files, _ := os.ReadDir(filepath.Join(dir, "data")); len(files) > 0 {
			return nil
		}
		return fmt.Errorf("%s contains no tables: use --dir or --server", dir)
	}
	return err
}

// command makes cmd run f on the store or the server.
func (p location) command(cmd *cobra.Command, f func(ctx context.Context, s backend, args []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.withBackend(cmd.Context(), false, func(s backend) error { return f(cmd.Context(), s, args) })
	}
	return cmd
}

// operationCommand makes cmd run an operation. parseArgs returns the operation's input, and show prints its output.
func operationCommand[In, Out any](cmd *cobra.Command, p location, o operations.Operation[In, Out], parseArgs func(args []string) (*In, error), show func(*In, Out) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		input, err := parseArgs(args)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		run := func(s backend) error {
			output, err := o.Do(ctx, s.Target, input)
			if err != nil {
				return err
			}
			return show(input, output)
		}
		if o.Slots == operations.BothSlots { // the operation runs queries
			return p.withSQL(ctx, false, run)
		}
		return p.withBackend(ctx, false, run)
	}
	return cmd
}

// printNothing is the parameter show of operationCommand for operations without output.
func printNothing[In any](*In, operations.None) error { return nil }

const (
	tableBucketUsage = "the table's `BUCKET` (default: the default bucket)"
	allBucketsUsage  = "only this `BUCKET` (default: all buckets; \"\" is the default bucket)"
)

// forEachTable calls f for each table that matches filter in the given buckets, or in all buckets if buckets is empty.
func forEachTable(ctx context.Context, s backend, buckets tables.Buckets, filter tables.Filter, f func(tables.TableInfo) error) error {
	for name, err := range operations.Buckets.Each(ctx, s.Target, &operations.None{}) {
		if err != nil {
			return err
		}
		if len(buckets) > 0 && !slices.Contains(buckets, name) {
			continue
		}
		for info, err := range operations.Tables.Each(ctx, s.Target, &operations.List{Bucket: name, Filter: filter}) {
			if err == nil {
				err = f(info)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (p location) completeTables(cmd *cobra.Command, _ []string, prefix string) (names []string, _ cobra.ShellCompDirective) {
	const (
		maxNames = 1000
		timeout  = time.Second
	)
	errLimit := errors.New("enough names found")
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	if env.Apply(cmd) == nil {
		_ = p.withBackend(ctx, false, func(s backend) error { // after an error, offer the names found so far
			return forEachTable(ctx, s, tables.Buckets{*p.bucket}, tables.Filter{}, func(info tables.TableInfo) error {
				if strings.HasPrefix(info.Name, prefix) && cliutil.IsPrintable(info.Name) {
					names = append(names, info.Name)
				}
				if len(names) == maxNames {
					return errLimit
				}
				return nil
			})
		})
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
