package tables

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/tables/internal/bucketfs"
	"github.com/go-partd/partd/tables/internal/filecache"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// place finds out where the files, the catalog and this machine's locks are, and opens
// the bucket. It returns the catalog's directory.
func (s *Store) place(ctx context.Context, dir string, cat *icecat.Options) (at string, err error) {
	inBucket := strings.Contains(dir, "://")
	if !inBucket {
		if s.dir, err = filepath.Abs(dir); err != nil {
			return "", err
		}
		s.local = s.dir
	} else if err := s.openBucket(ctx, dir, cat); err != nil {
		return "", err
	}
	switch catalog := s.opts.Catalog; {
	case strings.HasPrefix(catalog, "postgres://"), strings.HasPrefix(catalog, "postgresql://"):
		cat.Database = catalog
	case strings.Contains(catalog, "://"):
		scheme, _, _ := strings.Cut(catalog, "://")
		return "", fmt.Errorf("a catalog at %s://…: write postgres://HOST/DATABASE, or a directory", scheme)
	case inBucket && catalog == "":
		return "", errors.New("tables in a bucket want a catalog: postgres://HOST/DATABASE, or a directory of this machine if no other one writes")
	case catalog != "":
		if s.local, err = filepath.Abs(catalog); err != nil {
			return "", err
		}
		if !inBucket && s.local != s.dir {
			return "", fmt.Errorf("the catalog of a directory is in it, or in PostgreSQL, not in %s", catalog)
		}
	}
	return s.local, nil
}

// openBucket opens the bucket of a URL, with a cache for it.
func (s *Store) openBucket(ctx context.Context, url string, cat *icecat.Options) (err error) {
	scheme, rest, _ := strings.Cut(url, "://")
	if host, _, _ := strings.Cut(rest, "/"); strings.ContainsAny(host, "@:") {
		s.dir = scheme + "://…" // it would be in messages, and in what tables are made of
		return errors.New("credentials are no part of the URL: write s3://BUCKET/PREFIX, and see docs/warehouses.md for where they are found")
	}
	root, _, _ := strings.Cut(url, "?")
	s.dir = strings.TrimRight(root, "/")
	if s.opts.OpenBucket == nil {
		return errors.New("this program opens directories alone: Options.OpenBucket is missing")
	}
	s.opts.NoTail = s.opts.Tail == nil && s.opts.TailDir == ""
	cacheDir := s.opts.CacheDir
	if cacheDir == "" {
		if cacheDir, err = os.UserCacheDir(); err != nil {
			return fmt.Errorf("there is no place for copies of files: %w", err)
		}
		cacheDir = filepath.Join(cacheDir, "partd-tables")
	}
	sum := xxh3.HashString128(s.dir).Bytes()
	if s.local, err = filepath.Abs(filepath.Join(cacheDir, "warehouses", hex.EncodeToString(sum[:]))); err != nil {
		return err
	}
	if err := os.MkdirAll(s.local, 0o700); err != nil {
		return err
	}
	cache, err := filecache.Open(cacheDir, cmp.Or(s.opts.CacheSize, DefaultCacheSize))
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	b, err := s.opts.OpenBucket(ctx, url)
	if err != nil {
		return errors.Join(err, cache.Close())
	}
	files := bucketfs.New(b, cache, s.dir, url, cmp.Or(s.hooks.retryFor, time.Minute))
	s.closes = append(s.closes, files.Close)
	cat.FS, cat.Root = files, s.dir
	return nil
}
