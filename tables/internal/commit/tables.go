// Package commit puts the steps of a change on the newest state of a table until the catalog
// takes them, writes their files, and folds what waits in the tail.
//
// Locks are taken in this order: [Entry.Commits] of the tables concerned, in the order of
// their names; Entry.mu in the same order; Tables.mu. [Tables.Appending] comes before all
// of them.
package commit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/tail"
)

var (
	// ErrNotFound is wrapped by the error for a table that is not there.
	ErrNotFound = fmt.Errorf("not found (%w)", fs.ErrNotExist)
	// ErrReadOnly is wrapped by the error of what would change tables that are open for reading.
	ErrReadOnly = icecat.ErrReadOnly
	// ErrConflict is wrapped by the error of a commit that lost to others' again and again.
	ErrConflict = errors.New("others commit to the table at the same time; try again")
	// ErrStale says that a change must be looked at anew, since the table is not what it was
	// when its files were written.
	ErrStale = errors.New("the table was made, replaced or deleted meanwhile")
	// ErrNeedsCommit says that a put does not go to the tail: where it could be refused
	// for what others put, or changes columns, one commit decides.
	ErrNeedsCommit = errors.New("the put is a commit of its own")
	// ErrNothing says that a step has nothing to do.
	ErrNothing = errors.New("there is nothing to do")
)

// Options of Tables.
type Options struct {
	Catalog   *icecat.Catalog
	FoldBytes int64         // of a table in the tail, from which on it is folded
	FoldAge   time.Duration // of rows in the tail, likewise; below 0, age folds nothing
	Memory    int64
	Logger    *slog.Logger
	BucketOf  func(namespace string) string // for the log

	// Folding is called as a fold begins, and what it returns as it ends.
	Folding func(context.Context, icecat.TableName) (context.Context, func(rows int64, err error))

	ReadOnly bool   // nothing is committed or folded
	Prepared func() // called once the files of a change are written; nil: nobody is
	NoEpoch  bool   // for tests: a fold does not commit its epoch with the rows
}

// Tables are those of a catalog, as far as they are in use or have rows in the tail.
type Tables struct {
	Options
	Tail *tail.Store // nil: none

	// Appending is held by appends to the tail, and by who keeps them out.
	Appending sync.RWMutex

	mu      sync.Mutex
	entries map[icecat.TableName]*Entry
	pins    map[*pin]struct{}
	closed  bool

	folds  chan *Entry // tables whose tail is long
	done   chan struct{}
	worker sync.WaitGroup
}

// New returns the tables of a catalog, to which a tail may be given with Recover.
func New(o Options) *Tables {
	return &Tables{
		Options: o, entries: map[icecat.TableName]*Entry{}, pins: map[*pin]struct{}{},
		folds: make(chan *Entry, 1024), done: make(chan struct{}),
	}
}

// Close ends what runs in the background. It reports false where it was called before.
func (s *Tables) Close() bool {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if !was {
		close(s.done)
	}
	s.worker.Wait()
	return !was
}

// Done is closed by Close.
func (s *Tables) Done() <-chan struct{} { return s.done }

// Refresh brings what is in memory of a table up to what the catalog says now, and finds
// rows that the tail has of it.
func (s *Tables) Refresh(ctx context.Context, n icecat.TableName) error {
	e, err := s.Acquire(n)
	if err != nil {
		return err
	}
	defer e.Release()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refresh(ctx)
}

// Now adds what is in the tail to what the catalog lists of a table.
func (s *Tables) Now(ctx context.Context, l icecat.Listed) (icecat.Listed, error) {
	s.mu.Lock()
	e := s.entries[icecat.TableName{Namespace: l.Namespace, Name: l.Name}]
	s.mu.Unlock()
	if e == nil {
		return l, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// A fold may have come since the listing: both are read again together.
	if err := e.refresh(ctx); err != nil || e.log == nil {
		return l, err
	}
	now, err := s.Catalog.Get(ctx, l.Namespace, l.Name)
	if err != nil {
		return l, err
	}
	rows, bytes, _, updated := e.log.Size(e.state.folded)
	now.Rows, now.Bytes, now.Metadata, now.Damaged = now.Rows+rows, now.Bytes+bytes, l.Metadata, l.Damaged
	if updated.After(now.Updated) {
		now.Updated = updated
	}
	return now, nil
}

// InMemory returns the tables that are in memory: all with rows in the tail, and others.
func (s *Tables) InMemory() (all []icecat.TableName) {
	for _, e := range s.inMemory() {
		all = append(all, e.TableName)
	}
	return all
}

// WithTail returns the tables of a namespace that have rows in the tail.
func (s *Tables) WithTail(namespace string) (all []icecat.TableName) {
	for _, e := range s.aged(time.Now().Add(time.Hour)) {
		if e.Namespace == namespace {
			all = append(all, e.TableName)
		}
	}
	return all
}

// queue asks for a fold of the entry. Where too many are asked for already, age
// finds it. It wants mu.
func (e *Entry) queue() {
	if e.queued {
		return
	}
	select {
	case e.of.folds <- e:
		e.queued = true
	default:
	}
}

// Run folds in the background, until Close.
func (s *Tables) Run() { s.worker.Go(s.background) }

// background folds tables whose tail is long or old, one after the other.
func (s *Tables) background() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-s.done
		cancel()
	}()
	every := time.Hour
	if s.FoldAge > 0 {
		every = max(s.FoldAge/4, 10*time.Millisecond)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case e := <-s.folds:
			s.foldBehind(ctx, e)
		case <-tick.C:
			if s.FoldAge > 0 {
				for _, e := range s.aged(time.Now().Add(-s.FoldAge)) {
					if ctx.Err() != nil {
						return
					}
					s.foldBehind(ctx, e)
				}
			}
		}
	}
}

// foldBehind folds a table. An error is no one's but the log's: the rows stay in
// the tail, and the next round tries again.
func (s *Tables) foldBehind(ctx context.Context, e *Entry) {
	e.mu.Lock()
	e.queued = false
	e.mu.Unlock()
	if _, err := e.Fold(ctx); err != nil && ctx.Err() == nil {
		s.Logger.Error("a table could not be folded, its rows stay in the tail", "bucket", s.BucketOf(e.Namespace), "table", e.Name, "err", err)
	}
}

// aged returns the tables with rows in the tail from before a time.
func (s *Tables) aged(before time.Time) (old []*Entry) {
	for _, e := range s.inMemory() {
		e.mu.Lock()
		if e.log != nil {
			rows, _, since, _ := e.log.Size(e.state.folded)
			if rows > 0 && since.Before(before) {
				old = append(old, e)
			}
		} else if e.waits() { // until the table is repaired
			old = append(old, e)
		}
		e.mu.Unlock()
	}
	return old
}

// inMemory returns the tables that are in memory.
func (s *Tables) inMemory() []*Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.entries))
}
