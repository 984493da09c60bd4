package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/certfiles"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/cliutil/sizeflag"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/internal/operations"
	"github.com/go-partd/partd/tables/transform"
)

// place is where a command works: a directory, a bucket or a server.
type place struct {
	warehouse
	bucket                *string
	server, tokenFile, ca *string
	insecure              *bool
	dirFlag               *pflag.Flag
}

// directoryFlags is for commands that do not name a bucket.
func directoryFlags(cmd *cobra.Command) place {
	fs := cmd.Flags()
	p := place{
		warehouse: warehouseFlags(fs, commandsDir),
		server:    fs.String("server", "", "the `URL` of a server instead: grpc://HOST:PORT or grpc+tls://HOST:PORT"),
		tokenFile: fs.String("token-file", "", "the `FILE` with the token for the server"),
		ca:        fs.String("ca", "", "the `FILE` with the CA certificates (PEM) to trust"),
		insecure:  fs.Bool("insecure", false, "send the token even without TLS"),
	}
	must(cmd.MarkFlagDirname("dir"))
	p.dirFlag = fs.Lookup("dir")
	return p
}

// placeFlags is for commands on a bucket, most of which take names of its tables.
func placeFlags(cmd *cobra.Command, bucket string) place {
	p := directoryFlags(cmd)
	p.bucket = cmd.Flags().String("bucket", "", bucket)
	cmd.ValidArgsFunction = p.completeTables
	return p
}

// chosen is the bucket that was asked for, nil for all.
func (p place) chosen(cmd *cobra.Command) tables.Buckets {
	if cmd.Flags().Changed("bucket") {
		return tables.Buckets{*p.bucket}
	}
	return nil
}

// with runs f on the directory's store, or on the server. With create it makes the
// directory, which only writing rows does.
func (p place) with(ctx context.Context, create bool, f func(backend) error) error {
	if *p.server != "" {
		return p.remotely(f)
	}
	return p.locally(ctx, create, nil, f)
}

// withSQL is with, for what runs SQL: a server has an engine of its own.
func (p place) withSQL(ctx context.Context, f func(backend) error) error {
	if *p.server != "" {
		return p.remotely(f)
	}
	engine, err := duck.New(nil)
	if err != nil {
		return err
	}
	return errors.Join(p.locally(ctx, false, engine, f), engine.Close())
}

func (p place) locally(ctx context.Context, create bool, engine tables.Engine, f func(backend) error) (err error) {
	if err := p.exists(); !create && err != nil {
		return err
	}
	store, err := p.openStore(ctx, &tables.Options{FoldAge: -1, Engine: engine})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return f(backend{operations.Target{Store: store}, local{store}})
}

func (p place) remotely(f func(backend) error) (err error) {
	if p.dirFlag.Changed {
		return cliutil.Usagef("--dir and --server exclude each other")
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
		if o.CAs, err = certfiles.Authorities(*p.ca); err != nil {
			return err
		}
	}
	c, err := flightclient.Dial(*p.server, o)
	if err != nil {
		return cliutil.Usagef("--server: %w", err)
	}
	return errors.Join(f(backend{operations.Target{Server: c}, c}), c.Close())
}

// warehouse is where tables are on this machine or in a cloud.
type warehouse struct {
	dir, catalog, tail, cacheDir *string
	cacheSize                    *sizeflag.Size
}

// The directories without --dir. A server has that of shoots.
const (
	commandsDir = "partd-tables"
	serveDir    = "buckets"
)

func warehouseFlags(fl *pflag.FlagSet, dir string) warehouse {
	w := warehouse{
		dir:       fl.String("dir", dir, "the `DIR` of the tables, or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX (docs/warehouses.md)"),
		catalog:   fl.String("catalog", "", "the `URL` of the tables' catalog, postgres://HOST/DATABASE, or its directory (default: in DIR)"),
		tail:      fl.String("tail", "", "the `DIR` for small appends that wait to be folded (default: in DIR; in a bucket, each append is a commit)"),
		cacheDir:  fl.String("cache-dir", "", "the `DIR` for copies of a bucket's files (default: in the user's cache directory)"),
		cacheSize: &sizeflag.Size{Bytes: tables.DefaultCacheSize, Min: 1 << 20},
	}
	fl.Var(w.cacheSize, "cache-size", "`SIZE` of all copies of a bucket's files")
	return w
}

// openStore opens the tables, with more options.
func (w warehouse) openStore(ctx context.Context, o *tables.Options) (*tables.Store, error) {
	o.Catalog, o.TailDir, o.CacheDir, o.CacheSize = *w.catalog, *w.tail, *w.cacheDir, w.cacheSize.Bytes
	o.Sync, o.OpenBucket = true, cloud.OpenBucket
	return tables.Open(ctx, *w.dir, o)
}

// exists says where no tables are, as far as this machine knows.
func (w warehouse) exists() error {
	dir := *w.dir
	if strings.Contains(*w.catalog, "://") {
		return nil
	}
	if strings.Contains(dir, "://") {
		if dir = *w.catalog; dir == "" {
			return nil // to open it tells what is missing
		}
	}
	_, err := os.Stat(filepath.Join(dir, "catalog.db"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: no tables are there: give --dir or --server", dir)
	}
	return err
}

// backend is what commands work with: a directory's store, or a server.
type backend struct {
	operations.Target
	streams
}

// streams are what moves rows or columns, which no operation does. They are methods of
// flightclient.Client.
type streams interface {
	Describe(ctx context.Context, bucket, name string, at tables.At) (tables.TableInfo, *arrow.Schema, error)
	Put(ctx context.Context, bucket, name string, r array.RecordReader, m tables.PutMode, o *tables.PutOptions) (tables.Version, error)
	Scan(ctx context.Context, bucket, name string, at tables.At, o *tables.ScanOptions) (array.RecordReader, error)
	Query(ctx context.Context, sql string, o *tables.QueryOptions) (array.RecordReader, error)
	Resampled(ctx context.Context, o *transform.ResampleOptions) (array.RecordReader, error)
	ReplaceRange(ctx context.Context, bucket, name string, from, to time.Time, r array.RecordReader, o *tables.RangeOptions) (tables.Rewritten, error)
	Upsert(ctx context.Context, bucket, name string, r array.RecordReader, o *tables.UpsertOptions) (tables.Rewritten, error)
}

// local has the streams of an open store.
type local struct{ *tables.Store }

func (l local) Describe(ctx context.Context, bucket, name string, at tables.At) (info tables.TableInfo, _ *arrow.Schema, _ error) {
	t, err := l.Bucket(bucket).Table(ctx, name, at)
	if err != nil {
		return info, nil, err
	}
	if info, err = t.Info(ctx); err != nil {
		return info, nil, err
	}
	schema, err := t.Schema(ctx)
	return info, schema, err
}

func (l local) Put(ctx context.Context, bucket, name string, r array.RecordReader, m tables.PutMode, o *tables.PutOptions) (tables.Version, error) {
	return l.Bucket(bucket).Put(ctx, name, r, m, o)
}

func (l local) Scan(ctx context.Context, bucket, name string, at tables.At, o *tables.ScanOptions) (array.RecordReader, error) {
	t, err := l.Bucket(bucket).Table(ctx, name, at)
	if err != nil {
		return nil, err
	}
	return t.Scan(ctx, o)
}

func (l local) Resampled(ctx context.Context, o *transform.ResampleOptions) (array.RecordReader, error) {
	return transform.Resampled(ctx, l.Store, o)
}

func (l local) ReplaceRange(ctx context.Context, bucket, name string, from, to time.Time, r array.RecordReader, o *tables.RangeOptions) (tables.Rewritten, error) {
	return l.Bucket(bucket).ReplaceRange(ctx, name, from, to, r, o)
}

func (l local) Upsert(ctx context.Context, bucket, name string, r array.RecordReader, o *tables.UpsertOptions) (tables.Rewritten, error) {
	return l.Bucket(bucket).Upsert(ctx, name, r, o)
}

// does makes cmd do an operation: input makes what it takes of the arguments, and show
// writes its answer.
func does[In, Out any](cmd *cobra.Command, p place, o operations.Operation[In, Out], input func(args []string) (*In, error), show func(*In, Out) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in, err := input(args)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		run := func(s backend) error {
			out, err := o.Do(ctx, s.Target, in)
			if err != nil {
				return err
			}
			return show(in, out)
		}
		if o.Slots == operations.BothSlots { // it queries
			return p.withSQL(ctx, run)
		}
		return p.with(ctx, false, run)
	}
	return cmd
}

// quiet shows nothing: the exit code says it all.
func quiet[In any](*In, operations.None) error { return nil }
