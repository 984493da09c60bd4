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
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/definition"
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
	OnPrepared func() // called after a change's files have been written
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

// maxEntries is the number of entries above which unused entries without rows in the tail are removed from memory.
const maxEntries = 1 << 14

// lastEpoch is greater than the number of every epoch (numbered part of the tail).
const lastEpoch = math.MaxInt64

// Entry is the state of a table in memory, while the table is in use or has rows in the tail.
type Entry struct {
	tables *Tables
	icecat.TableName
	refs int // guarded by Tables.mu

	// Commits is held during every commit to the table in this process.
	Commits sync.Mutex

	// Changing has one element while an SQL statement of this process changes rows of the table.
	Changing chan struct{}

	mu          sync.Mutex // guards the fields below, and serializes appends to the tail
	state       state
	log         *tail.Log // nil if the tail has no rows of the table, or they are unread
	bucketRules string    // the bucket's rules, as of the last refresh
	queued      bool      // whether a fold is queued
	nextVersion int64     // lowest version that the next append may return; commits in progress may take lower numbers
	foldedEpoch int64     // 1 plus the number of the last epoch that a fold in progress moves to files

	appends  appendQueue
	encoders sync.Pool // *tail.Encoder values for reuse

	unread atomic.Bool // whether Recover found rows of the table that nobody has read since; changed with e.mu held
}

// state contains the parts of a table's metadata that an append needs.
type state struct {
	location string
	uuid     string
	version  int64
	last     int64                  // highest version number in use; -1 if Iceberg's format does not number versions
	updated  time.Time              // time of the newest change
	folded   int64                  // last epoch of the tail whose rows are in files
	def      *definition.Definition // nil if the table does not exist
}

// pin protects files from removal: files that a reader uses, or files written for a later commit.
type pin struct{ created time.Time }

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

func (s *Tables) allEntries() []*Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.entries))
}

// Staged returns the table with the given metadata. Its files are written through fileIO.
func (e *Entry) Staged(meta table.Metadata, fileIO *icecat.FileIO) *table.Table {
	return e.tables.Catalog.Staged(e.Namespace, e.Name, meta, "", fileIO)
}

// LockCommits locks e.Commits. During a rewrite of rows, this may take long. If ctx ends first, LockCommits returns an
// error.
func (e *Entry) LockCommits(ctx context.Context) error {
	locked := make(chan struct{})
	go func() {
		e.Commits.Lock()
		select {
		case locked <- struct{}{}:
		case <-ctx.Done():
			e.Commits.Unlock()
		}
	}()
	return canceled.Wait(ctx, locked)
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
