package commit

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// Tables manages the tables of a catalog that are in use or have rows in the tail.
type Tables struct {
	shared
	entries map[icecat.TableName]*Entry // guarded by shared.mu

	folds  chan *folder    // tables whose tails are large enough to fold
	ctx    context.Context // canceled by Close
	cancel context.CancelFunc
	worker sync.WaitGroup
}

// maxEntries is the number of entries above which idle ones are removed from memory: those that are unused and have no
// rows in the tail.
const maxEntries = 1 << 14

// NewTables returns the tables of a catalog. Call Recover to attach a tail.
func NewTables(o Options) *Tables {
	s := &Tables{
		shared:  shared{Options: o, load: o.Catalog.Load, pins: map[*pin]struct{}{}},
		entries: map[icecat.TableName]*Entry{}, folds: make(chan *folder, 1024),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close stops background work. It returns false if it was called before.
func (s *Tables) Close() bool {
	s.mu.Lock()
	wasClosed := s.closed
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.worker.Wait()
	return !wasClosed
}

// Context returns a context that Close cancels.
func (s *Tables) Context() context.Context { return s.ctx }

func (s *Tables) allEntries() []*Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.entries))
}

// Entry is a table in memory. It exists while the table is in use or has rows in the tail. Its parts are appender,
// folder, committer, current (the table's newest known state) and site (where the table is). Each part embeds the next
// one, which it uses.
type Entry struct {
	appender
	all  *Tables
	refs int // guarded by shared.mu
}

func (s *Tables) newEntry(n icecat.TableName) *Entry {
	e := &Entry{all: s}
	e.site, e.Changing = site{&s.shared, n}, make(chan struct{}, 1)
	e.retain, e.queue = e.addReference, s.folds
	return e
}

// NewChange returns a change to the table, without steps.
func (e *Entry) NewChange() Change { return Change{committer: &e.committer, folder: e} }

// addReference adds a reference, which release drops.
func (e *Entry) addReference() (release func()) {
	e.tables.mu.Lock()
	defer e.tables.mu.Unlock()
	e.refs++
	return e.Release
}

// Release drops a reference obtained from Acquire.
func (e *Entry) Release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tables.mu.Lock() // so that Acquire does not return the entry while it is being removed
	defer e.tables.mu.Unlock()
	e.refs--
	if e.refs == 0 && len(e.all.entries) > maxEntries && !e.unread.Load() && (e.log == nil || e.tables.Tail.Retire(e.log)) {
		delete(e.all.entries, e.TableName)
	}
}

// Acquire returns a table's entry, after reading the table's rows in the tail. The caller must release the entry.
func (s *Tables) Acquire(ctx context.Context, n icecat.TableName) (*Entry, error) {
	e, err := s.reference(n)
	if err != nil {
		return nil, err
	}
	if err := e.readUnread(ctx); err != nil {
		e.Release()
		return nil, err
	}
	return e, nil
}

func (s *Tables) reference(n icecat.TableName) (*Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, partd.ErrClosed
	}
	e := s.entries[n]
	if e == nil {
		e = s.newEntry(n)
		s.entries[n] = e
	}
	e.refs++
	return e, nil
}

// AcquirePinned combines Acquire and Pin. The caller must call release.
func (s *Tables) AcquirePinned(ctx context.Context, n icecat.TableName) (_ *Entry, release func(), err error) {
	e, err := s.Acquire(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	unpin, err := s.Pin()
	if err != nil {
		e.Release()
		return nil, nil, err
	}
	return e, func() { unpin(); e.Release() }, nil
}

// Refresh updates a table's state in memory from the catalog and finds the table's rows in the tail.
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
	newest, err := s.Catalog.Get(ctx, l.Namespace, l.Name)
	if err != nil {
		return l, err
	}
	rows, bytes, _, updated := e.log.Size(e.state.folded)
	newest.Rows, newest.Bytes, newest.Metadata, newest.Damaged = newest.Rows+rows, newest.Bytes+bytes, l.Metadata, l.Damaged
	newest.Version = max(newest.Version, highest(e.log.Versions(e.state.folded, lastEpoch)))
	if updated.After(newest.Updated) {
		newest.Updated = updated
	}
	return newest, nil
}

// InMemory returns the tables in memory, which include every table with rows in the tail.
func (s *Tables) InMemory() []icecat.TableName {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.entries))
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

// olderThan returns the entries whose tail has rows put before the given moment.
func (s *Tables) olderThan(moment time.Time) (old []*Entry) {
	for _, e := range s.allEntries() {
		e.mu.Lock()
		isOld := e.hasUnreadRows() // their age is unknown
		if e.log != nil {
			rows, _, oldest, _ := e.log.Size(e.state.folded)
			isOld = rows > 0 && oldest.Before(moment)
		}
		e.mu.Unlock()
		if isOld {
			old = append(old, e)
		}
	}
	return old
}

// ReadTails reads the rows that Recover found and that have not been read since. Rows of damaged tables stay in the
// tail.
func (s *Tables) ReadTails(ctx context.Context) {
	if s.Tail == nil || !s.Tail.HasAnyUnclaimed() {
		return
	}
	for _, e := range s.allEntries() {
		_ = parallel.Catch(func() error { return e.readUnread(ctx) }) // ignore errors: operations on the table read its rows again and report the error
	}
}

// Recover attaches a tail and finds out which tables have rows in it. Acquire and ReadTails read the rows.
func (s *Tables) Recover(ctx context.Context, t *tail.Store) error {
	s.Tail = t
	return t.Recover(ctx, func(uuids []string) (map[string]bool, error) {
		names, err := s.Catalog.Recorded(ctx, uuids)
		if err != nil {
			return nil, err
		}
		exists := map[string]bool{}
		var search func() (map[string]icecat.TableName, error)
		for _, uuid := range uuids {
			n, ok := names[uuid]
			if !ok {
				if search == nil {
					search = sync.OnceValues(func() (map[string]icecat.TableName, error) { return s.Catalog.UUIDs(ctx) })
				}
				n, ok, err = s.find(ctx, uuid, search)
				if err != nil {
					return nil, err
				}
			}
			exists[uuid] = ok
			if ok && n.Name != "" {
				e := s.newEntry(n)
				e.state = state{uuid: uuid, folded: -1}
				e.unread.Store(true)
				s.entries[n] = e
			}
		}
		return exists, nil
	})
}

// find finds the table with the given UUID after another program created, renamed, changed or deleted it. If the rows
// may belong to a damaged table, find returns true without a name. search returns Catalog.UUIDs.
func (s *Tables) find(ctx context.Context, uuid string, search func() (map[string]icecat.TableName, error)) (n icecat.TableName, exists bool, err error) {
	var t *table.Table
	n, err = s.Catalog.ByUUID(ctx, uuid)
	if err == nil {
		t, err = s.load(ctx, n.Namespace, n.Name)
		if err == nil && t.Metadata().TableUUID().String() != uuid {
			t = nil // another table has the name
		}
	}
	if errors.Is(err, icecat.ErrNotFound) {
		err = nil
	}
	if t == nil && err == nil {
		byUUID, damaged := search()
		if damaged != nil && !errors.Is(damaged, icecat.ErrContent) {
			return n, false, damaged
		}
		n, exists = byUUID[uuid]
		return n, exists || damaged != nil, nil
	}
	if errors.Is(err, icecat.ErrContent) {
		s.Logger.Error("a table is damaged, so its rows stay in the tail: repair it with verify", "bucket", s.BucketOf(n.Namespace), "table", n.Name, "err", err)
		err = nil
	}
	return n, err == nil, err
}
