package tables

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables/internal/bucketfs"
	"github.com/go-partd/partd/tables/internal/filecache"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/tail"
)

// locate finds the places of the files, the catalog and this machine's locks, and opens the bucket. It returns
// the catalog's directory.
func (s *Store) locate(ctx context.Context, dir string, cat *icecat.Options) (catalogDir string, err error) {
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
		return "", fmt.Errorf("a catalog cannot be at %s://…: use postgres://HOST/DATABASE, or a directory", scheme)
	case inBucket && catalog == "":
		return "", errors.New("tables in a bucket need a catalog: use postgres://HOST/DATABASE, or a directory of this machine if no other machine writes")
	case catalog != "":
		if s.local, err = filepath.Abs(catalog); err != nil {
			return "", err
		}
		if !inBucket && s.local != s.dir {
			return "", fmt.Errorf("the catalog of tables in a directory must be in that directory or in PostgreSQL, not in %s", catalog)
		}
	}
	return s.local, nil
}

// openBucket opens the bucket of a URL, with a cache.
func (s *Store) openBucket(ctx context.Context, url string, cat *icecat.Options) (err error) {
	scheme, rest, _ := strings.Cut(url, "://")
	if host, _, _ := strings.Cut(rest, "/"); strings.ContainsAny(host, "@:") {
		s.dir = scheme + "://…" // the URL's options must not appear in messages and tables
		return errors.New("the URL must not contain credentials: write s3://BUCKET/PREFIX, and see docs/warehouses.md for where they are found")
	}
	root, _, _ := strings.Cut(url, "?")
	s.dir = strings.TrimRight(root, "/")
	if s.opts.OpenBucket == nil {
		return errors.New("this program opens only directories: set Options.OpenBucket to open URLs")
	}
	s.opts.NoTail = s.opts.Tail == nil && s.opts.TailDir == ""
	cacheDir := s.opts.CacheDir
	if cacheDir == "" {
		if cacheDir, err = os.UserCacheDir(); err != nil {
			return fmt.Errorf("find a directory for copies of files: %w", err)
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

// openTail opens the tail and reads its rows.
func (s *Store) openTail(ctx context.Context) error {
	p := s.opts.Tail
	if p == nil {
		dir := cmp.Or(s.opts.TailDir, filepath.Join(s.local, "tail"))
		if err := s.hooks.fs.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
			return err
		}
		if err := s.lock(dir + ".lock"); err != nil {
			return err
		}
		o := logstore.Options{
			Memory: min(max(logstore.MinMemory, s.opts.Memory/4), logstore.MaxMemory),
			Logger: s.opts.Logger, // no Sync: appends share a sync after they have released their table
		}
		if s.opts.Sync {
			if err := createSynced(dir, o); err != nil {
				return err
			}
		}
		l, err := logstore.Open(dir, &o)
		if err != nil {
			return err
		}
		s.closes = append(s.closes, l.Close)
		p = l
	} else if _, ok := p.(partd.Deleter); !ok {
		return fmt.Errorf("the tail, a %T, cannot delete keys: %w", p, errors.ErrUnsupported)
	}
	var err error
	if s.tail, err = tail.Open(ctx, p, s.cat.ID(), s.opts.Sync, s.opts.Memory/4); err != nil {
		return err
	}
	if s.opts.Tail != nil {
		if err := s.lock(filepath.Join(s.local, "tail-"+s.tail.ID()+".lock")); err != nil {
			return err
		}
	}
	if s.hooks.sameID {
		s.tail.SetID("same")
	}
	return s.commits.Recover(ctx, s.tail)
}

// createSynced creates a log store if it is missing, and syncs it. Without this, a loss of power before the
// first sync could leave a store that does not open.
func createSynced(dir string, o logstore.Options) error {
	if _, err := os.Stat(filepath.Join(dir, "MANIFEST")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	o.Sync = true
	l, err := logstore.Open(dir, &o)
	if err != nil {
		return err
	}
	return l.Close()
}

// lock locks the tail against other Stores.
func (s *Store) lock(path string) error {
	l := s.hooks.fs.NewLock(path)
	locked, err := l.TryLock(true)
	if err != nil {
		return err
	}
	if !locked {
		return fmt.Errorf("the tail is %w by %s: close it there, read with Options.ReadOnly, or give this Store its own tail", ErrInUse, vfs.Holder(s.hooks.fs, path))
	}
	_ = vfs.RecordHolder(s.hooks.fs, path) // only for messages
	s.closes = append(s.closes, func() error {
		_ = vfs.ClearHolder(s.hooks.fs, path)
		return l.Unlock()
	})
	return nil
}
