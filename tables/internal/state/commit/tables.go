// Package commit commits changes to tables. It applies a change's steps to a table's newest state, and retries until
// the catalog accepts the result. It also writes the steps' files, and folds the tail. The tail is a log of small
// appends; a fold moves the tail's rows to the table's files.
//
// Locks must be acquired in this order: [Tables.Appending]; [Entry.Commits] of all tables of the change, in the order
// of their names; Entry.mu, in the same order; Tables.mu.
//
// docs/dev/invariants.md lists what must hold (C1 to C12).
package commit

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

var (
	// ErrNotFound is wrapped by the error for a missing table.
	ErrNotFound error = notFoundError{}
	// ErrReadOnly is wrapped by the error for a change to tables that are open only for reading.
	ErrReadOnly = icecat.ErrReadOnly
	// ErrConflict is wrapped by the error for a commit that failed repeatedly because of conflicts.
	ErrConflict = errors.New("too many concurrent commits to the table: try again")
	// ErrStale means that a table changed after files were written for the table. The caller must write the files
	// again.
	ErrStale = errors.New("the table was concurrently created, replaced or deleted")
	// ErrNeedsCommit means that a put cannot go to the tail, for example because it changes columns.
	ErrNeedsCommit = errors.New("the put needs a separate commit")
	// ErrNothing means that a step has nothing to do.
	ErrNothing = errors.New("there is nothing to do")
)

// notFoundError is the type of ErrNotFound, whose message follows a table's name.
type notFoundError struct{}

func (notFoundError) Error() string { return "does not exist" }
func (notFoundError) Unwrap() error { return fs.ErrNotExist }

// Options configures Tables.
type Options struct {
	Catalog   *icecat.Catalog
	FoldBytes int64         // size, in bytes, at which a table's tail is folded
	FoldAge   time.Duration // age of the oldest row at which a table's tail is folded; negative means no limit
	Memory    int64         // memory for checking and sorting rows, in bytes
	Logger    *slog.Logger
	BucketOf  func(namespace string) string // returns the bucket's name for log messages

	// Folding is called when a fold begins. The function that it returns is called when the fold ends.
	Folding func(context.Context, icecat.TableName) (context.Context, func(rows int64, err error))

	ReadOnly   bool   // reject commits, and do not fold
	OnPrepared func() // called after a change's files have been written; can be nil
}

// Tables manages those tables of a catalog that are in use or have rows in the tail.
type Tables struct {
	Options
	Tail *tail.Store // nil if there is no tail

	// Appends to the tail hold Appending for reading. A goroutine that holds it for writing blocks appends.
	Appending sync.RWMutex

	load func(ctx context.Context, namespace, name string) (*table.Table, error) // Catalog.Load; tests count its calls

	mu      sync.Mutex
	entries map[icecat.TableName]*Entry
	pins    map[*pin]struct{}
	closed  bool

	folds  chan *Entry // tables whose tails are large enough to fold
	done   chan struct{}
	worker sync.WaitGroup
}

// NewTables returns the tables of a catalog. Call Recover to attach a tail.
func NewTables(o Options) *Tables {
	return &Tables{
		Options: o, load: o.Catalog.Load, entries: map[icecat.TableName]*Entry{}, pins: map[*pin]struct{}{},
		folds: make(chan *Entry, 1024), done: make(chan struct{}),
	}
}

// Close stops background work. It returns false if it was called before.
func (s *Tables) Close() bool {
	s.mu.Lock()
	wasClosed := s.closed
	s.closed = true
	s.mu.Unlock()
	if !wasClosed {
		close(s.done)
	}
	s.worker.Wait()
	return !wasClosed
}

// Done returns a channel that Close closes.
func (s *Tables) Done() <-chan struct{} { return s.done }

// Refresh updates a table's state in memory from the catalog, and finds the table's rows in the tail.
func (s *Tables) Refresh(ctx context.Context, n icecat.TableName) error {
	e, err := s.Acquire(ctx, n)
	if err != nil {
		return err
	}
	defer e.Release()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refresh(ctx)
}

// WithTailRows adds the table's rows in the tail to the row count and size of l.
func (s *Tables) WithTailRows(ctx context.Context, l icecat.Listed) (icecat.Listed, error) {
	s.mu.Lock()
	e := s.entries[icecat.TableName{Namespace: l.Namespace, Name: l.Name}]
	s.mu.Unlock()
	if e == nil {
		return l, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// A fold may have happened since l was read, so read the listing again, together with the tail.
	if err := e.refresh(ctx); err != nil || e.log == nil {
		return l, err
	}
	current, err := s.Catalog.Get(ctx, l.Namespace, l.Name)
	if err != nil {
		return l, err
	}
	rows, bytes, _, updated := e.log.Size(e.state.folded)
	current.Rows, current.Bytes, current.Metadata, current.Damaged = current.Rows+rows, current.Bytes+bytes, l.Metadata, l.Damaged
	current.Version = max(current.Version, highest(e.log.Versions(e.state.folded, lastEpoch)))
	if updated.After(current.Updated) {
		current.Updated = updated
	}
	return current, nil
}

// InMemory returns the tables in memory, which include every table with rows in the tail.
func (s *Tables) InMemory() (names []icecat.TableName) {
	for _, e := range s.allEntries() {
		names = append(names, e.TableName)
	}
	return names
}

// WithTail returns the tables of a namespace that have rows in the tail.
func (s *Tables) WithTail(ctx context.Context, namespace string) (names []icecat.TableName) {
	s.ReadTails(ctx)
	for _, e := range s.olderThan(time.Now().Add(time.Hour)) {
		if e.Namespace == namespace {
			names = append(names, e.TableName)
		}
	}
	return names
}

// queueFold requests a fold of the table in the background, unless the queue is full. e.mu must be held.
func (e *Entry) queueFold() {
	if e.queued {
		return
	}
	select {
	case e.tables.folds <- e:
		e.queued = true
	default:
	}
}

// Run starts folding in the background, until Close.
func (s *Tables) Run() { s.worker.Go(s.foldPeriodically) }

// foldPeriodically folds tables with a large or old tail, one at a time.
func (s *Tables) foldPeriodically() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-s.done
		cancel()
	}()
	interval := time.Hour
	if s.FoldAge > 0 {
		interval = max(s.FoldAge/4, 10*time.Millisecond)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case e := <-s.folds:
			s.foldInBackground(ctx, e)
		case <-tick.C:
			s.ReadTails(ctx)
			if s.FoldAge > 0 {
				for _, e := range s.olderThan(time.Now().Add(-s.FoldAge)) {
					if ctx.Err() != nil {
						return
					}
					s.foldInBackground(ctx, e)
				}
			}
		}
	}
}

// foldInBackground folds a table, and logs an error. After an error, the rows stay in the tail until a later fold.
func (s *Tables) foldInBackground(ctx context.Context, e *Entry) {
	e.mu.Lock()
	e.queued = false
	e.mu.Unlock()
	if _, err := e.Fold(ctx); err != nil && ctx.Err() == nil {
		s.Logger.Error("cannot fold a table: its rows stay in the tail", "bucket", s.BucketOf(e.Namespace), "table", e.Name, "err", err)
	}
}

// olderThan returns the entries with rows in the tail that were put before a moment.
func (s *Tables) olderThan(moment time.Time) (old []*Entry) {
	for _, e := range s.allEntries() {
		e.mu.Lock()
		if e.log != nil {
			rows, _, oldest, _ := e.log.Size(e.state.folded)
			if rows > 0 && oldest.Before(moment) {
				old = append(old, e)
			}
		} else if e.hasUnreadRows() { // the rows' age is unknown
			old = append(old, e)
		}
		e.mu.Unlock()
	}
	return old
}

func (s *Tables) allEntries() []*Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.entries))
}
