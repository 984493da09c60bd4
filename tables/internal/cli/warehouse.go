package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/cliutil/sizeflag"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables"
)

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
