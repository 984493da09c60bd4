package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/tail"
)

// Store is a directory of tables, or a bucket's. It is safe for concurrent use.
type Store struct {
	dir     string // or the bucket's URL, without its options
	local   string // where this machine's locks are
	opts    Options
	hooks   hooks
	cat     *icecat.Catalog
	tail    *tail.Store // nil: none
	commits *commit.Tables
	closes  []func() error
}

// tableName names a table in the catalog.
type tableName = icecat.TableName

// entry is a table that is changed.
type entry struct {
	*commit.Entry
	s *Store
}

// use returns the entry of a table, and keeps files that are written for it. The caller
// calls done.
func (s *Store) use(n tableName) (e entry, done func(), err error) {
	e.s = s
	e.Entry, done, err = s.commits.Use(n)
	return e, done, err
}

// use is that of the store for a table of the bucket that is to be changed.
func (b *Bucket) use(name string) (e entry, done func(), err error) {
	if b.store().opts.ReadOnly {
		return e, nil, ErrReadOnly
	}
	n, err := b.check(name)
	if err != nil {
		return e, nil, err
	}
	return b.store().use(n)
}

// hooks are what tests change inside a store.
type hooks struct {
	fs         vfs.FS
	committing func(done bool)
	prepared   func()        // called once the files of a put are written
	retryFor   time.Duration // requests of a bucket; 0: a minute
	fileBytes  int           // how large data files are to be; 0: targetSize

	// Each of these takes one protection out, to prove that the tests notice.
	noSync  bool // files are not synced
	noEpoch bool // a fold does not commit its epoch with the rows
	sameID  bool // all tails have one id
}

// Open opens a directory, and makes it where it is missing; or, with
// Options.OpenBucket, what is at a URL such as s3://BUCKET/PREFIX.
func Open(ctx context.Context, dir string, o *Options) (*Store, error) {
	return open(ctx, dir, o, hooks{fs: vfs.OS{}})
}

func open(ctx context.Context, dir string, o *Options, h hooks) (_ *Store, err error) {
	s := &Store{hooks: h}
	defer func() {
		if err != nil {
			err = &OpError{Op: "open", Dir: cmp.Or(s.dir, dir), Err: errors.Join(err, s.closeAll())}
		}
	}()
	if err := s.setOptions(o); err != nil {
		return nil, err
	}
	cat := icecat.Options{FS: h.fs, CacheBytes: s.opts.Memory / 4, NoSync: h.noSync, Committing: h.committing}
	at, err := s.place(ctx, dir, &cat)
	if err != nil {
		return nil, err
	}
	if s.opts.ReadOnly || cat.Database == "" && !writable(at) {
		if err := s.borrow(ctx, &cat); err != nil {
			return nil, err
		}
	}
	if s.cat, err = icecat.Open(ctx, at, cat); err != nil {
		return nil, err
	}
	s.closes = append(s.closes, s.cat.Close)
	s.commits = commit.New(commit.Options{
		Catalog: s.cat, FoldBytes: s.opts.FoldBytes, FoldAge: s.opts.FoldAge, Memory: s.opts.Memory, Logger: s.opts.Logger, BucketOf: bucketOf,
		Folding: s.folding, NoEpoch: h.noEpoch, ReadOnly: s.opts.ReadOnly, Prepared: func() {
			if s.hooks.prepared != nil {
				s.hooks.prepared()
			}
		},
	})
	if !s.opts.NoTail {
		if err := s.openTail(ctx); err != nil {
			return nil, err
		}
	}
	if !s.opts.ReadOnly {
		s.commits.Run()
	}
	return s, nil
}

// folding tells of a fold, which may be one in the background.
func (s *Store) folding(ctx context.Context, n tableName) (context.Context, func(rows int64, err error)) {
	ctx, end := s.begin(ctx, "fold", bucketOf(n.Namespace), n.Name)
	return ctx, func(rows int64, err error) { end(Outcome{Rows: rows, Err: err}) }
}

func (s *Store) setOptions(o *Options) error {
	s.opts = *cmp.Or(o, new(Options))
	s.opts.FoldAge = cmp.Or(s.opts.FoldAge, DefaultFoldAge)
	s.opts.Memory = cmp.Or(s.opts.Memory, DefaultMemory)
	s.opts.Logger = cmp.Or(s.opts.Logger, slog.New(slog.DiscardHandler))
	// A fold takes a few times as much as it folds, and a few are made side by side.
	s.opts.FoldBytes = min(cmp.Or(s.opts.FoldBytes, DefaultFoldBytes), s.opts.Memory/32, 1<<30)
	switch {
	case s.opts.NoTail && s.opts.Tail != nil:
		return errors.New("options Tail and NoTail exclude each other")
	case s.opts.FoldBytes < 0:
		return fmt.Errorf("option FoldBytes is %d: it must be positive", s.opts.FoldBytes)
	case s.opts.Memory < 1<<20:
		return fmt.Errorf("option Memory is %d bytes: it must be at least 1 MiB", s.opts.Memory)
	}
	return nil
}

// Close ends what runs in the background and closes the tail, unless it was
// given. It does not fold: the next Open finds what is in the tail.
func (s *Store) Close() error {
	s = s.made()
	if !s.commits.Close() {
		return nil
	}
	if err := s.closeAll(); err != nil {
		return &OpError{Op: "close", Dir: s.dir, Err: err}
	}
	return nil
}

func (s *Store) closeAll() (err error) {
	for _, f := range slices.Backward(s.closes) {
		err = errors.Join(err, f())
	}
	return err
}

// Dir returns the directory, as an absolute path, or the URL without its options.
func (s *Store) Dir() string { return s.made().dir }

// Bucket returns the bucket of a name. It exists from its first table on until
// it is deleted; the default bucket is "".
func (s *Store) Bucket(name string) *Bucket { return &Bucket{s.made(), name} }

// Buckets yields the names of the buckets, sorted by their namespaces.
func (s *Store) Buckets(ctx context.Context) iter.Seq2[string, error] {
	s = s.made()
	return func(yield func(string, error) bool) {
		all, err := s.cat.Namespaces(ctx)
		if err != nil {
			yield("", &OpError{Op: "list buckets", Dir: s.dir, Err: err})
			return
		}
		for _, ns := range all {
			if !yield(bucketOf(ns), nil) {
				return
			}
		}
	}
}
