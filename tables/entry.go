package tables

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/tail"
)

// mostEntries is how many tables are remembered that nobody uses and that have
// nothing in the tail.
const mostEntries = 1 << 14

// entry is what a Store keeps of a table while it is in use, or has rows in the tail.
type entry struct {
	s *Store
	tableName
	refs int // guarded by Store.mu

	// commit is held by whoever commits to the table, in this process.
	commit sync.Mutex

	mu          sync.Mutex // guards what follows, and orders appends to the tail
	state       state
	log         *tail.Log // nil: nothing is in the tail
	bucketRules string    // those of the bucket, at the last refresh
	queued      bool      // for a fold
}

// state is what appends need to know of a table, as of one location of its metadata.
type state struct {
	location string
	uuid     string
	version  Version
	folded   int64                  // the last epoch that is in the files
	def      *definition.Definition // nil if the table does not exist
	rules    string                 // of the table, as they are kept
}

// acquire returns the entry of a table, which the caller releases.
func (s *Store) acquire(n tableName) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	e := s.entries[n]
	if e == nil {
		e = &entry{s: s, tableName: n}
		s.entries[n] = e
	}
	e.refs++
	return e, nil
}

// use acquires an entry, and keeps files that are written for it. The caller calls done.
func (s *Store) use(n tableName) (e *entry, done func(), err error) {
	if e, err = s.acquire(n); err != nil {
		return nil, nil, err
	}
	p, err := s.pin()
	if err != nil {
		e.release()
		return nil, nil, err
	}
	return e, func() { s.unpin(p); e.release() }, nil
}

// use is that of the store for a table of the bucket.
func (b *Bucket) use(name string) (e *entry, done func(), err error) {
	n, err := b.check(name)
	if err != nil {
		return nil, nil, err
	}
	return b.s.use(n)
}

func (e *entry) release() {
	// Who has the last reference is alone with the entry, but for those who
	// come meanwhile.
	e.mu.Lock()
	defer e.mu.Unlock()
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if e.refs--; e.refs == 0 && len(e.s.entries) > mostEntries && (e.log == nil || e.s.tail.Retire(e.log)) {
		delete(e.s.entries, e.tableName)
	}
}

// refresh brings the state up to what the catalog says now. It wants mu.
func (e *entry) refresh(ctx context.Context) error {
	loc, rules, err := e.s.cat.Lookup(ctx, e.Namespace, e.Name)
	if errors.Is(err, icecat.ErrNotFound) {
		e.lose()
		return nil
	}
	e.bucketRules = rules
	if err != nil || loc == e.state.location {
		return err
	}
	_, err = e.load(ctx)
	return err
}

// load returns the table as it is now, with the state brought up to it. It wants mu.
func (e *entry) load(ctx context.Context) (*table.Table, error) {
	t, err := e.s.cat.Load(ctx, e.Namespace, e.Name)
	if errors.Is(err, icecat.ErrNotFound) {
		e.lose()
		return nil, err
	}
	if err != nil || t.MetadataLocation() == e.state.location {
		return t, err
	}
	return t, e.set(ctx, t)
}

// set makes a table the state. It wants mu.
func (e *entry) set(ctx context.Context, t *table.Table) error {
	var n state
	err := icecat.Safely(func() (err error) { n, err = e.stateOf(t); return err })
	if err != nil {
		return &icecat.Damaged{File: e.s.cat.Shown(t.MetadataLocation()), Err: err, Remedy: icecat.Unusable}
	}
	if e.log != nil && e.log.UUID() != n.uuid {
		e.lose()
	}
	if e.log == nil && e.s.tail != nil {
		// It may have had another name, or could not be read before.
		if e.log, err = e.s.tail.Claim(ctx, n.uuid, n.folded); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &icecat.Damaged{File: "its rows in the tail", Err: err, Remedy: icecat.Unusable}
		}
	}
	if e.log != nil {
		// Another Store may have applied puts with the same ids.
		applied, err := e.s.cat.PutsApplied(ctx, n.uuid, slices.Collect(maps.Keys(e.log.IDs(n.folded, lastEpoch)))...)
		if err != nil {
			return err
		}
		e.log.Void(applied)
	}
	e.state = n
	return nil
}

// stateOf returns the state that a table's metadata says.
func (e *entry) stateOf(t *table.Table) (n state, err error) {
	meta := t.Metadata()
	def, err := definition.Of(meta)
	if err != nil {
		return n, err
	}
	n = state{
		location: t.MetadataLocation(), uuid: meta.TableUUID().String(), version: versionOf(meta), def: def, folded: -1, rules: meta.Properties()[rulesProperty],
	}
	if e.s.tail != nil {
		n.folded = e.s.tail.Folded(meta.Properties())
	}
	return n, nil
}

// lose lets go of a table that somebody else deleted or renamed. What it has in
// the tail stays there, for an entry with its new name, or the next Open, to find
// out which. It wants mu.
func (e *entry) lose() {
	e.state = state{}
	if e.log != nil {
		e.log.Release()
		e.log = nil
	}
}

// waits reports whether the tail has rows of a table that could not be read. It wants mu.
func (e *entry) waits() bool { return e.log == nil && e.s.tail != nil && e.s.tail.Waits(e.state.uuid) }

// forget deletes the log of a table that was deleted. It wants mu.
func (e *entry) forget(ctx context.Context) error {
	e.state = state{}
	if e.log == nil {
		return nil
	}
	err := e.s.tail.Discard(ctx, e.log)
	if err == nil {
		e.log = nil
	}
	return err
}

// tail returns the log, made where there is none. It wants mu and a table.
func (e *entry) tail() *tail.Log {
	if e.log == nil {
		e.log = e.s.tail.Log(e.state.uuid, e.state.folded)
	}
	return e.log
}

// versionOf returns the number of a table's current snapshot.
func versionOf(meta table.Metadata) Version {
	if s := meta.CurrentSnapshot(); s != nil {
		return Version(s.SequenceNumber)
	}
	return 0
}
