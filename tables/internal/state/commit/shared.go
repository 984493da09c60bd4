// Package commit commits changes to tables. It applies a change's steps to a table's newest state and retries until the
// catalog accepts the result. It also writes the steps' files and folds the tail. The tail is a log of small appends; a
// fold moves the tail's rows to the table's files.
//
// Locks must be acquired in this order: [Tables.Appending]; [Entry.Commits] of all of the change's tables, in order of
// their names; Entry.mu, in the same order; Tables.mu.
//
// docs/dev/invariants.md lists what must hold (C1 to C12).
package commit

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
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
	// ErrStale means that a table has changed since files were written for it. The caller must write the files again.
	ErrStale = errors.New("the table was concurrently created, replaced or deleted")
	// ErrNeedsCommit means that a put cannot go to the tail, for example because it changes columns.
	ErrNeedsCommit = errors.New("the put needs a separate commit")
	// ErrNothing means that a step has nothing to do.
	ErrNothing = errors.New("there is nothing to do")
)

// notFoundError is the type of ErrNotFound. Its message follows a table's name.
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

	ReadOnly   bool   // reject commits and never fold
	OnPrepared func() // called after a change's files have been written
}

// shared is the state that the entries of all tables share.
type shared struct {
	Options
	Tail *tail.Store // nil if there is no tail

	// Appends to the tail hold Appending for reading. Holding it for writing blocks appends.
	Appending sync.RWMutex

	failures foldFailures

	load func(ctx context.Context, namespace, name string) (*table.Table, error) // Catalog.Load; tests count its calls

	mu     sync.Mutex
	pins   map[*pin]struct{}
	closed bool
}

// lastEpoch is greater than the number of every epoch (numbered part of the tail).
const lastEpoch = math.MaxInt64

// pin protects files from removal: files that a reader uses, or files written for a later commit.
type pin struct{ created time.Time }

// Pin prevents the removal of files until unpin is called.
func (s *shared) Pin() (unpin func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, partd.ErrClosed
	}
	p := &pin{time.Now()}
	s.pins[p] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.pins, p)
	}, nil
}

// Pinned returns the number of pins and the time when the oldest was created. Without pins, oldest is the current time.
func (s *shared) Pinned() (pins int, oldest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	earliest := time.Now()
	for p := range s.pins {
		if p.created.Before(earliest) {
			earliest = p.created
		}
	}
	return len(s.pins), earliest
}

// site identifies a table by its name in the catalog of tables.
type site struct {
	tables *shared
	icecat.TableName
}

// Staged returns the table with the given metadata. Its files are written through fileIO.
func (s *site) Staged(meta table.Metadata, fileIO *icecat.FileIO) *table.Table {
	return s.tables.Catalog.Staged(s.Namespace, s.Name, meta, "", fileIO)
}
