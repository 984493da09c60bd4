package tables

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/tail"
)

// Store is a directory of tables. It is safe for concurrent use.
//
// Locks are taken in this order: entry.commit of the tables concerned, in the
// order of their names; entry.mu in the same order; Store.mu.
type Store struct {
	dir    string
	opts   Options
	hooks  hooks
	cat    *icecat.Catalog
	tail   *tail.Store // nil: none
	closes []func() error

	mu      sync.Mutex
	entries map[tableName]*entry
	pins    map[*pin]struct{}
	closed  bool

	folds  chan *entry // tables whose tail is long
	done   chan struct{}
	worker sync.WaitGroup
}

// tableName names a table in the catalog.
type tableName icecat.TableName

// hooks are what tests change inside a store.
type hooks struct {
	fs         vfs.FS
	committing func(done bool)
	crash      func(point string) // a place where a process may die

	// Each of these takes one protection out, to prove that the tests notice.
	noSync  bool // files are not synced
	noEpoch bool // a fold does not commit its epoch with the rows
	sameID  bool // all tails have one id
}

// Open opens a directory, and makes it where it is missing.
func Open(ctx context.Context, dir string, o *Options) (*Store, error) {
	return open(ctx, dir, o, hooks{fs: vfs.OS{}})
}

func open(ctx context.Context, dir string, o *Options, h hooks) (_ *Store, err error) {
	s := &Store{
		hooks: h, entries: map[tableName]*entry{}, pins: map[*pin]struct{}{},
		folds: make(chan *entry, 1024), done: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			for i := len(s.closes) - 1; i >= 0; i-- {
				err = errors.Join(err, s.closes[i]())
			}
			err = &OpError{Op: "open", Dir: dir, Err: err}
		}
	}()
	if s.dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := s.setOptions(o); err != nil {
		return nil, err
	}
	s.cat, err = icecat.Open(ctx, s.dir, icecat.Options{FS: h.fs, CacheBytes: s.opts.Memory / 4, NoSync: h.noSync, Committing: h.committing})
	if err != nil {
		return nil, err
	}
	s.closes = append(s.closes, s.cat.Close)
	if !s.opts.NoTail {
		if err := s.openTail(ctx); err != nil {
			return nil, err
		}
	}
	s.worker.Go(s.background)
	return s, nil
}

func (s *Store) setOptions(o *Options) error {
	if o != nil {
		s.opts = *o
	}
	if s.opts.FoldBytes == 0 {
		s.opts.FoldBytes = DefaultFoldBytes
	}
	if s.opts.FoldAge == 0 {
		s.opts.FoldAge = DefaultFoldAge
	}
	if s.opts.Memory == 0 {
		s.opts.Memory = DefaultMemory
	}
	if s.opts.Logger == nil {
		s.opts.Logger = slog.New(slog.DiscardHandler)
	}
	// A fold takes a few times as much as it folds, and a few are made side by side.
	s.opts.FoldBytes = min(s.opts.FoldBytes, s.opts.Memory/32)
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

// openTail opens the tail, and finds what it holds.
func (s *Store) openTail(ctx context.Context) error {
	p := s.opts.Tail
	if p == nil {
		if err := s.lock("tail.lock"); err != nil {
			return err
		}
		o := logstore.Options{
			Memory: min(max(logstore.MinMemory, s.opts.Memory/4), logstore.MaxMemory),
			Sync:   s.opts.Sync, Logger: s.opts.Logger,
		}
		l, err := logstore.Open(filepath.Join(s.dir, "tail"), &o)
		if err != nil {
			return err
		}
		s.closes = append(s.closes, l.Close)
		p = l
	} else if _, ok := p.(partd.Deleter); !ok {
		return fmt.Errorf("the tail, a %T, cannot delete keys: %w", p, errors.ErrUnsupported)
	}
	var err error
	if s.tail, err = tail.Open(ctx, p, s.cat.ID(), s.opts.Sync && s.opts.Tail != nil, s.opts.Memory/4); err != nil {
		return err
	}
	if s.opts.Tail != nil {
		if err := s.lock("tail-" + s.tail.ID() + ".lock"); err != nil {
			return err
		}
	}
	if s.hooks.sameID {
		s.tail.SetID("same")
	}
	return s.recoverTail(ctx)
}

// lock keeps other Stores away from the tail.
func (s *Store) lock(name string) error {
	l := s.hooks.fs.NewLock(filepath.Join(s.dir, name))
	got, err := l.TryLock(true)
	if err != nil {
		return err
	}
	if !got {
		return fmt.Errorf("%w by another process or Store: close it there, or give this one a tail of its own", ErrInUse)
	}
	s.closes = append(s.closes, l.Unlock)
	return nil
}

// recoverTail finds the tables that have rows in the tail.
func (s *Store) recoverTail(ctx context.Context) error {
	found := map[string]*entry{}
	var all map[string]icecat.TableName // by their metadata's UUID
	logs, err := s.tail.Recover(ctx, func(uuid string) (folded int64, exists bool, err error) {
		n, err := s.cat.ByUUID(ctx, uuid)
		if err != nil && !errors.Is(err, icecat.ErrNotFound) {
			return 0, false, err
		}
		t, err := s.loadUUID(ctx, n, uuid)
		if t == nil && err == nil {
			// Made or renamed by somebody else, or deleted: its rows go only if no table has the UUID.
			if all == nil {
				if all, err = s.cat.UUIDs(ctx); err != nil {
					return 0, false, err
				}
			}
			n = all[uuid]
			t, err = s.loadUUID(ctx, n, uuid)
		}
		if t == nil || err != nil {
			return 0, false, err
		}
		folded = s.tail.Folded(t.Properties())
		found[uuid] = &entry{s: s, tableName: tableName(n), state: state{uuid: uuid, folded: folded}}
		return folded, true, nil
	})
	if err != nil {
		return err
	}
	for uuid, l := range logs {
		e := found[uuid]
		e.log = l
		s.entries[e.tableName] = e
	}
	return nil
}

// loadUUID returns a table if it has a UUID, nil if it has another or is not there.
func (s *Store) loadUUID(ctx context.Context, n icecat.TableName, uuid string) (*table.Table, error) {
	t, err := s.cat.Load(ctx, n.Namespace, n.Name)
	if errors.Is(err, icecat.ErrNotFound) || err == nil && t.Metadata().TableUUID().String() != uuid {
		return nil, nil
	}
	return t, err
}

// Close ends what runs in the background and closes the tail, unless it was
// given. It does not fold: the next Open finds what is in the tail.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.done)
	s.worker.Wait()
	var err error
	for i := len(s.closes) - 1; i >= 0; i-- {
		err = errors.Join(err, s.closes[i]())
	}
	if err != nil {
		return &OpError{Op: "close", Dir: s.dir, Err: err}
	}
	return nil
}

// Dir returns the directory, as an absolute path.
func (s *Store) Dir() string { return s.dir }

// Bucket returns the bucket of a name. It exists while it has tables; the
// default bucket is "".
func (s *Store) Bucket(name string) *Bucket { return &Bucket{s, name} }

// Buckets yields the names of the buckets that have tables, sorted by their
// namespaces.
func (s *Store) Buckets(ctx context.Context) iter.Seq2[string, error] {
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

// Query answers SQL by Options.Engine. Its error wraps errors.ErrUnsupported
// where there is none.
func (s *Store) Query(ctx context.Context, sql string, o *QueryOptions) (array.RecordReader, error) {
	if s.opts.Engine == nil {
		return nil, &OpError{Op: "query", Dir: s.dir, Err: fmt.Errorf("the store has no engine for SQL: %w", errors.ErrUnsupported)}
	}
	return s.opts.Engine.Query(ctx, s, sql, o)
}

// pin keeps files from being removed that were of use when it was set: those of
// a reader's view, and those being written for a commit to come.
type pin struct{ since time.Time }

func (s *Store) pin() (*pin, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	p := &pin{time.Now()}
	s.pins[p] = struct{}{}
	return p, nil
}

func (s *Store) unpin(p *pin) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pins, p)
}

// pinnedSince returns when the oldest pin was set, or now.
func (s *Store) pinnedSince() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := time.Now()
	for p := range s.pins {
		if p.since.Before(oldest) {
			oldest = p.since
		}
	}
	return oldest
}
