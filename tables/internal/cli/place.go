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

func (p place) remotely(f func(backend) error) error {
	c, err := p.dial()
	if err != nil {
		return err
	}
	return errors.Join(f(backend{operations.Target{Server: c}, c}), c.Close())
}

func (p place) dial() (*flightclient.Client, error) {
	if p.dirFlag.Changed {
		return nil, cliutil.Usagef("--dir and --server exclude each other")
	}
	o := &flightclient.Options{Insecure: *p.insecure}
	if *p.tokenFile != "" {
		token, err := os.ReadFile(*p.tokenFile)
		if err != nil {
			return nil, err
		}
		o.Token = string(bytes.TrimSpace(token))
	}
	if *p.ca != "" {
		var err error
		if o.CAs, err = certfiles.Authorities(*p.ca); err != nil {
			return nil, err
		}
	}
	c, err := flightclient.Dial(*p.server, o)
	if err != nil {
		return nil, cliutil.Usagef("--server: %w", err)
	}
	return c, nil
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
	return openStore(ctx, *w.dir, w.options(o))
}

// options adds what the flags say.
func (w warehouse) options(o *tables.Options) *tables.Options {
	o.Catalog, o.TailDir, o.CacheDir, o.CacheSize = *w.catalog, *w.tail, *w.cacheDir, w.cacheSize.Bytes
	return o
}

// openStore opens the tables of a directory or a URL.
func openStore(ctx context.Context, url string, o *tables.Options) (*tables.Store, error) {
	o.Sync, o.OpenBucket = true, cloud.OpenBucket
	return tables.Open(ctx, url, o)
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
