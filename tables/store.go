package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// Store stores tables in a directory, or in a bucket of an object store. It is safe for concurrent use.
type Store struct {
	*core
	keeper *keeper
}

// Open opens a directory of tables, and creates the directory if it is missing. If Options.OpenBucket is set, dir can
// be a URL such as s3://BUCKET/PREFIX.
func Open(ctx context.Context, dir string, o *Options) (*Store, error) {
	return open(ctx, dir, o, hooks{FS: vfs.OS{}})
}

func open(ctx context.Context, dir string, o *Options, h hooks) (_ *Store, err error) {
	c := &core{hooks: h}
	s := &Store{c, newKeeper(c)}
	defer func() {
		if err != nil {
			err = &OpError{Op: "open", Dir: cmp.Or(s.dir, dir), Err: errors.Join(err, s.closers.closeAll())}
		}
	}()
	if s.opts, err = o.withDefaults(); err != nil {
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
	if s.cat, err = icecat.Open(ctx, catalogDir, cat); err != nil {
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
		s.keeper.holder = s.tail.ID() // so that a restarted server still has its lease
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

// withDefaults returns a copy of o with its defaults filled in, or an error if an option is invalid.
func (o *Options) withDefaults() (Options, error) {
	opts := *cmp.Or(o, new(Options))
	opts.FoldAge = cmp.Or(opts.FoldAge, DefaultFoldAge)
	opts.Memory = cmp.Or(opts.Memory, DefaultMemory)
	opts.Logger = cmp.Or(opts.Logger, slog.New(slog.DiscardHandler))
	// Divide by 32, because a fold uses several times the memory of its rows, and several folds run concurrently.
	opts.FoldBytes = min(cmp.Or(opts.FoldBytes, DefaultFoldBytes), opts.Memory/32, 1<<30)
	switch {
	case opts.NoTail && opts.Tail != nil:
		return opts, errors.New("options Tail and NoTail cannot be combined")
	case opts.Memory < 1<<20:
		return opts, fmt.Errorf("option Memory is %d bytes: it must be at least 1 MiB", opts.Memory)
	case opts.FoldBytes < 0:
		return opts, fmt.Errorf("option FoldBytes is %d: it must be positive", opts.FoldBytes)
	}
	return opts, nil
}

// Close stops background work and closes the Store, but not Options.Tail. Rows in the tail stay there.
func (s *Store) Close() error {
	s = s.orUnopened()
	if !s.commits.Close() {
		return nil
	}
	if err := s.closers.closeAll(); err != nil {
		return &OpError{Op: "close", Dir: s.dir, Err: err}
	}
	return nil
}

// Damage returns an error that wraps ErrDamaged if the catalog's files have been found to be damaged. Then all changes fail, and no files
// are removed.
func (s *Store) Damage() error { return s.orUnopened().cat.Damage() }

// Dir returns the directory's absolute path, or the URL that was passed to Open, without the URL's query.
func (s *Store) Dir() string { return s.orUnopened().dir }

// Buckets yields the bucket names, sorted by namespace.
func (s *Store) Buckets(ctx context.Context) iter.Seq2[string, error] {
	return s.orUnopened().buckets(ctx)
}

func (s *core) buckets(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		namespaces, err := s.cat.Namespaces(ctx)
		if err != nil {
			yield("", &OpError{Op: "list buckets", Dir: s.dir, Err: err})
			return
		}
		for _, ns := range namespaces {
			if !yield(bucketOf(ns), nil) {
				return
			}
		}
	}
}

// WithoutDir replaces the directories of the store and of temporary files, the user's home directory, and others, with
// "…" wherever they occur in text, because clients must not learn them.
func (s *Store) WithoutDir(text string, others ...string) string {
	return s.orUnopened().withoutDir(text, others...)
}
