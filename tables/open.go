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
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables/internal/files/bucketfs"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// locate sets s.dir, s.localDir and the locations in cat. If dir is a URL, it also opens the object-store bucket. It
// returns s.localDir: the directory of the tables or, if they are in a bucket, of the catalog. If neither is on this
// machine, s.localDir is in the cache directory.
func (s *core) locate(ctx context.Context, dir string, cat *icecat.Options) (catalogDir string, err error) {
	inBucket := strings.Contains(dir, "://")
	if !inBucket {
		s.dir, err = filepath.Abs(dir)
		if err != nil {
			return "", err
		}
		s.localDir = s.dir
	} else if err := s.openBucket(ctx, dir, cat); err != nil {
		return "", err
	}
	catalog := s.opts.Catalog
	switch {
	case strings.HasPrefix(catalog, "postgres://"), strings.HasPrefix(catalog, "postgresql://"):
		cat.Database = catalog
	case strings.Contains(catalog, "://"):
		scheme, _, _ := strings.Cut(catalog, "://")
		return "", fmt.Errorf("the catalog cannot be at a %s:// URL: use postgres://HOST/DATABASE, or a directory", scheme)
	case inBucket && catalog == "":
		return "", errors.New("tables in a bucket need a catalog: use postgres://HOST/DATABASE or, if no other machine writes, a directory on this machine")
	case catalog != "":
		s.localDir, err = filepath.Abs(catalog)
		if err != nil {
			return "", err
		}
		if !inBucket && s.localDir != s.dir {
			return "", fmt.Errorf("the catalog cannot be in %s: if the tables are in a directory, it must be in that directory or in PostgreSQL", catalog)
		}
	}
	return s.localDir, nil
}

// openBucket opens the object-store bucket at url, with a cache on this machine. It sets s.dir and s.localDir.
func (s *core) openBucket(ctx context.Context, url string, cat *icecat.Options) (err error) {
	scheme, path, _ := strings.Cut(url, "://")
	if host, _, _ := strings.Cut(path, "/"); strings.ContainsAny(host, "@:") {
		s.dir = scheme + "://…" // s.dir appears in error messages, so it must not contain credentials
		return errors.New("the URL must not contain credentials: write s3://BUCKET/PREFIX, and supply credentials as docs/warehouses.md describes")
	}
	root, _, _ := strings.Cut(url, "?")
	s.dir = strings.TrimRight(root, "/")
	if s.opts.OpenBucket == nil {
		return errors.New("cannot open a URL: set Options.OpenBucket")
	}
	s.opts.NoTail = s.opts.Tail == nil && s.opts.TailDir == ""
	cacheDir := s.opts.CacheDir
	if cacheDir == "" {
		cacheDir, err = os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("find a cache directory: %w", err)
		}
		cacheDir = filepath.Join(cacheDir, "partd-tables")
	}
	sum := xxh3.HashString128(s.dir).Bytes()
	s.localDir, err = filepath.Abs(filepath.Join(cacheDir, "warehouses", hex.EncodeToString(sum[:])))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.localDir, 0o700); err != nil {
		return err
	}
	cache, err := bucketfs.OpenCache(cacheDir, cmp.Or(s.opts.CacheSize, DefaultCacheSize))
	if err != nil {
		return fmt.Errorf("open the cache: %w", err)
	}
	b, err := s.opts.OpenBucket(ctx, url)
	if err != nil {
		return errors.Join(err, cache.Close())
	}
	files := bucketfs.New(b, cache, s.dir, url, cmp.Or(s.hooks.RetryFor, time.Minute))
	s.closers = append(s.closers, files.Close)
	cat.FS, cat.Root = files, s.dir
	return nil
}

// Open opens a directory of tables. It creates the directory if it is missing. If Options.OpenBucket is set, dir can be
// a URL such as s3://BUCKET/PREFIX.
func Open(ctx context.Context, dir string, o *Options) (*Store, error) {
	return openHooked(ctx, dir, o, hooks{FS: vfs.OS{}})
}

func openHooked(ctx context.Context, dir string, o *Options, h hooks) (_ *Store, err error) {
	c := &core{hooks: h}
	s := &Store{c, newKeeper(c)}
	defer func() {
		if err != nil {
			err = &OpError{Op: "open", Dir: cmp.Or(s.dir, dir), Err: errors.Join(err, s.closers.closeAll())}
		}
	}()
	s.opts, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	cat := icecat.Options{FS: h.FS, CacheBytes: s.opts.Memory / 4, Committing: h.OnCommit, Logger: s.opts.Logger, Rebuild: s.opts.Rebuild}
	catalogDir, err := s.locate(ctx, dir, &cat)
	if err != nil {
		return nil, err
	}
	if s.opts.ReadOnly || cat.Database == "" && !writable(catalogDir) {
		if err := s.openCopies(ctx, &cat); err != nil {
			return nil, err
		}
	}
	if err := s.lockTailDir(); err != nil {
		return nil, err
	}
	s.cat, err = icecat.Open(ctx, catalogDir, cat)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.cat.Close)
	s.commits = commit.NewTables(commit.Options{
		Catalog: s.cat, FoldBytes: s.opts.FoldBytes, FoldAge: s.opts.FoldAge, Memory: s.opts.Memory, Logger: s.opts.Logger, BucketOf: bucketOf,
		Folding: s.opts.beginFold, ReadOnly: s.opts.ReadOnly, OnPrepared: func() {
			if s.hooks.OnPrepared != nil {
				s.hooks.OnPrepared()
			}
		},
	})
	if !s.opts.NoTail {
		if err := s.openTail(ctx); err != nil {
			return nil, err
		}
		s.keeper.holder = s.tail.ID() // so that a restarted server still holds its lease
	}
	if err := s.cat.EndRebuild(); err != nil {
		return nil, err
	}
	if !s.opts.ReadOnly {
		s.commits.Run()
	}
	return s, nil
}

func (o *Options) beginFold(ctx context.Context, n tableName) (context.Context, func(rows int64, err error)) {
	ctx, end := o.begin(ctx, "fold", bucketOf(n.Namespace), n.Name)
	return ctx, func(rows int64, err error) { end(Outcome{Rows: rows, Err: err}) }
}

func (s *core) openTail(ctx context.Context) error {
	tailStore := s.opts.Tail
	if tailStore == nil {
		dir := s.tailDir()
		o := logstore.Options{
			Memory: min(max(logstore.MinMemory, s.opts.Memory/4), logstore.MaxMemory),
			// Do not set Sync: package tail itself syncs, once for several concurrent appends.
			Logger: s.opts.Logger,
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
		s.closers = append(s.closers, l.Close)
		tailStore = l
	} else if _, ok := tailStore.(partd.Deleter); !ok {
		return fmt.Errorf("the tail's store, of type %T, cannot delete keys: %w", tailStore, errors.ErrUnsupported)
	}
	var err error
	if s.opts.Rebuild {
		id, err := tail.Warehouse(ctx, tailStore)
		err = cmp.Or(err, s.cat.RestoreID(ctx, id))
		if err != nil {
			return err
		}
	}
	s.tail, err = tail.Open(ctx, tailStore, s.cat.ID(), s.opts.Sync, s.opts.Memory/4)
	if err != nil {
		return err
	}
	if s.opts.Tail != nil {
		if err := s.lock(filepath.Join(s.localDir, "tail-"+s.tail.ID()+".lock")); err != nil {
			return err
		}
	}
	return s.commits.Recover(ctx, s.tail)
}

var _ tail.Reclaimer = (*logstore.Store)(nil)

// createSynced creates and syncs a log store in dir, unless one exists. Without the sync, a power failure could leave a
// store that cannot be opened.
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

// lock locks the file at path, so that no other Store can open the tail.
func (s *core) lock(path string) error {
	l := s.hooks.FS.NewLock(path)
	locked, err := l.TryLock(true)
	if err != nil {
		return err
	}
	if !locked {
		return fmt.Errorf("the tail is %w by %s: close it there, or open the tables read-only", ErrInUse, vfs.Holder(s.hooks.FS, path))
	}
	// On a local disk, an error only means that messages cannot name the holder.
	if err := vfs.RecordHolder(s.hooks.FS, path); err != nil && vfs.NetworkOf(s.hooks.FS, filepath.Dir(path)) != "" {
		return errors.Join(err, l.Unlock())
	}
	s.closers = append(s.closers, func() error {
		_ = vfs.ClearHolder(s.hooks.FS, path) // a stale record is harmless, because it is only used in messages
		return l.Unlock()
	})
	return nil
}

// lockTailDir locks the tail's directory, if it has one. A rebuild needs this lock to replace the catalog's files.
func (s *core) lockTailDir() error {
	if s.opts.NoTail || s.opts.Tail != nil {
		return nil
	}
	dir := s.tailDir()
	if err := s.hooks.FS.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return err
	}
	return s.lock(dir + ".lock")
}

func (s *core) tailDir() string { return cmp.Or(s.opts.TailDir, filepath.Join(s.localDir, "tail")) }
