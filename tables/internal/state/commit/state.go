package commit

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// state contains the parts of a table's metadata that an append needs. It is never modified, only replaced as a whole.
type state struct {
	location string
	uuid     string
	version  int64
	last     int64                  // highest version number in use; -1 in Iceberg's format version 1, which does not number snapshots
	updated  time.Time              // time of the newest change
	folded   int64                  // last epoch of the tail whose rows are in files
	def      *definition.Definition // nil if the table does not exist
}

// stateOf returns the state of t. rows is the tail, or nil.
func stateOf(t *table.Table, rows *tail.Store) (s state, err error) {
	meta := t.Metadata()
	s = state{location: t.MetadataLocation(), uuid: meta.TableUUID().String(), folded: -1, last: -1, updated: lastChange(meta)}
	if meta.Version() > 1 {
		s.last = meta.LastSequenceNumber()
	}
	if snapshot := meta.CurrentSnapshot(); snapshot != nil {
		s.version = snapshot.SequenceNumber
	}
	if rows != nil {
		s.folded = rows.Folded(meta.Properties())
	}
	s.def, err = definition.FromMetadata(meta)
	return s, err
}

// current holds a table's newest state that this process has seen and the table's rows in the tail.
type current struct {
	site

	mu          sync.Mutex // guards the fields below and serializes appends to the tail
	state       state
	log         *tail.Log // nil if the tail has no rows of the table, or they are unread
	bucketRules string    // the bucket's rules, as of the last refresh
	nextVersion int64     // lowest version that the next append may return; commits in progress may take lower numbers
	foldedEpoch int64     // 1 plus the number of the last epoch that a fold in progress is moving to files; 0 without a fold

	unread atomic.Bool // whether Recover found rows of the table that have not been read since; changed with mu held
}

// load returns the table's current state and updates the entry from it. e.mu must be held.
func (e *current) load(ctx context.Context) (*table.Table, error) {
	t, err := e.tables.load(ctx, e.Namespace, e.Name)
	if errors.Is(err, icecat.ErrNotFound) {
		e.detach()
		return nil, err
	}
	if err != nil || t.MetadataLocation() == e.state.location {
		return t, err
	}
	return t, e.setState(ctx, t)
}

// advance sets the entry's state to after, the result of a commit to before. If the entry has seen another state in the
// meantime, advance loads the table. e.mu must be held.
func (e *current) advance(ctx context.Context, before, after *table.Table) error {
	switch e.state.location {
	case after.MetadataLocation():
		return nil
	case before.MetadataLocation():
		return e.setState(ctx, after)
	}
	_, err := e.load(ctx)
	return err
}

// Current returns the table's current state, or nil if the table does not exist.
func (e *current) Current(ctx context.Context) (*table.Table, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load(ctx)
	if errors.Is(err, icecat.ErrNotFound) {
		return nil, nil
	}
	return t, err
}

// refresh loads the table if its metadata has changed in the catalog. e.mu must be held.
func (e *current) refresh(ctx context.Context) error {
	location, rules, err := e.tables.Catalog.Lookup(ctx, e.Namespace, e.Name)
	if errors.Is(err, icecat.ErrNotFound) {
		e.detach()
		return nil
	}
	e.bucketRules = rules
	if err != nil || location == e.state.location {
		return err
	}
	_, err = e.load(ctx)
	return err
}

// setState stores the state of t in the entry. e.mu must be held.
func (e *current) setState(ctx context.Context, t *table.Table) error {
	var newState state
	err := parallel.Catch(func() (err error) { newState, err = stateOf(t, e.tables.Tail); return err })
	if err != nil {
		return &icecat.Damaged{File: e.tables.Catalog.DisplayPath(t.MetadataLocation()), Err: err, Remedy: icecat.RemedyUnrepairable}
	}
	if e.log != nil && e.log.UUID() != newState.uuid {
		e.detach()
	}
	if e.log == nil && e.tables.Tail != nil {
		// The tail may already have rows of the table, for example if the table was renamed or repaired.
		e.log, err = e.tables.Tail.Claim(ctx, newState.uuid, newState.folded)
		if err != nil {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			return &icecat.Damaged{File: "its rows in the tail", Err: err, Remedy: icecat.RemedyUnrepairable}
		}
	}
	if e.log != nil {
		if err := e.voidApplied(ctx, e.log, newState.folded); err != nil {
			return err
		}
	}
	if e.state.uuid != "" && e.state.uuid != newState.uuid {
		e.nextVersion = 0
	}
	e.state = newState
	return nil
}

// detach clears the entry after another program deleted or renamed the table. The rows stay in the tail. If the table
// was renamed, the entry for its new name finds them; otherwise, the next Open does. e.mu must be held.
func (e *current) detach() {
	e.state = state{}
	if e.log != nil {
		e.log.Release()
		e.log = nil
	}
}

// hasUnreadRows reports whether the tail contains rows of the table that have not been or cannot be read. e.mu must be
// held.
func (e *current) hasUnreadRows() bool {
	return e.log == nil && e.tables.Tail != nil && e.tables.Tail.HasUnclaimed(e.state.uuid)
}

// deleteLog deletes the log of a deleted table. e.mu must be held.
func (e *current) deleteLog(ctx context.Context) error {
	e.state = state{}
	if e.log == nil {
		return nil
	}
	err := e.tables.Tail.Discard(ctx, e.log)
	if err == nil {
		e.log = nil
	}
	return err
}

// readUnread reads the table's rows in the tail if they have not been read since Recover.
func (e *current) readUnread(ctx context.Context) error {
	if !e.unread.Load() {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.unread.Load() {
		return nil
	}
	if err := e.refresh(ctx); err != nil && !errors.Is(err, icecat.ErrContent) {
		return err
	}
	e.unread.Store(false)
	return nil
}

// Applied reports whether the put with the given ID was applied to t.
func (e *current) Applied(ctx context.Context, t *table.Table, id string) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.applied(ctx, e.log, t.Metadata().TableUUID().String(), id)
}

// Tail contains the rows of a table that are only in the tail.
type Tail struct {
	Rows        []arrow.RecordBatch // in the column types of files; the caller of View must release them
	Fingerprint string              // changes whenever the rows change

	Deduped  bool // whether Rows were stored by Cache, and therefore contain no duplicates
	Replaces bool // if Deduped: whether Rows can replace rows in files

	log *tail.Log
	key string
}

// Cache stores deduplicated rows for other readers of the same table state.
func (t *Tail) Cache(deduped arrow.RecordBatch, replaces bool) { t.log.Cache(t.key, deduped, replaces) }

// View returns the table's current state and definition. If withRows is true, it also returns the rows that are only in
// the tail.
func (e *current) View(ctx context.Context, withRows bool) (t *table.Table, d *definition.Definition, rows *Tail, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rows = &Tail{}
	t, err = e.load(ctx)
	d = e.state.def
	if err != nil || !withRows || e.log == nil {
		return t, d, rows, err
	}
	rows.log = e.log
	rows.Fingerprint, err = e.log.Fingerprint(ctx, e.state.folded)
	if err != nil {
		return t, d, rows, err
	}
	rows.key = e.state.location + " " + rows.Fingerprint
	rows.Rows, rows.Replaces, rows.Deduped = e.log.Cached(rows.key)
	if !rows.Deduped {
		rows.Rows, err = e.log.Rows(ctx, e.state.folded, lastEpoch)
	}
	if err != nil {
		return t, d, rows, err
	}
	rows.Rows, err = castTail(t.Metadata(), rows.Rows, d.Stored)
	return t, d, rows, err
}

// HasTail reports whether the table has rows that are only in the tail.
func (e *current) HasTail(ctx context.Context) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refresh(ctx); err != nil || e.log == nil {
		return false, err
	}
	rows, _, _, _ := e.log.Size(e.state.folded)
	return rows > 0, nil
}

// tailTimes returns the table, and the times of the oldest and newest rows in its tail. If the tail is empty, the times
// are zero.
func (e *current) tailTimes(ctx context.Context) (t *table.Table, oldest, updated time.Time, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err = e.load(ctx)
	if err == nil && e.log != nil {
		_, _, oldest, updated = e.log.Size(e.state.folded)
	}
	return t, oldest, updated, err
}

// If the outcome of a fold's commit was unknown, the commit may have succeeded. So each fold records its epoch in the
// table's metadata. The rows of a recorded epoch are in files and only have to be removed from the tail.

// epochProperty returns the table property that records epoch as the tail's last epoch whose rows are in files.
func (s *shared) epochProperty(epoch int64) iceberg.Properties {
	return iceberg.Properties{s.Tail.Property(): strconv.FormatInt(epoch, 10)}
}

// isFolded reports whether t records the epoch. If so, an earlier fold was committed, but its outcome was unknown or it
// did not remove the rows from the tail.
func (s *shared) isFolded(t *table.Table, epoch int64) bool {
	return s.Tail.Folded(t.Properties()) >= epoch
}

// settle updates the entry after a fold of before. after is the table that the fold committed. It is nil if an earlier
// fold had committed the rows, or if the fold had no rows. e.mu must be held.
func (e *current) settle(ctx context.Context, before, after *table.Table, hadRows bool) (err error) {
	switch {
	case after != nil:
		err = e.advance(ctx, before, after)
	case hadRows:
		_, err = e.load(ctx)
	}
	return err
}
