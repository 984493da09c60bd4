package commit

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// load returns the table's current state, and updates the entry from it. e.mu must be held.
func (e *Entry) load(ctx context.Context) (*table.Table, error) {
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

// advance sets the entry's state to the table after, which a commit of the table before returned. If the entry has seen
// another state in the meantime, advance loads the table. e.mu must be held.
func (e *Entry) advance(ctx context.Context, before, after *table.Table) error {
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
func (e *Entry) Current(ctx context.Context) (*table.Table, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load(ctx)
	if errors.Is(err, icecat.ErrNotFound) {
		return nil, nil
	}
	return t, err
}

// HasTail reports whether the table has rows that are only in the tail.
func (e *Entry) HasTail(ctx context.Context) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refresh(ctx); err != nil || e.log == nil {
		return false, err
	}
	rows, _, _, _ := e.log.Size(e.state.folded)
	return rows > 0, nil
}

// refresh loads the table if its metadata has changed in the catalog. e.mu must be held.
func (e *Entry) refresh(ctx context.Context) error {
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
func (e *Entry) setState(ctx context.Context, t *table.Table) error {
	var newState state
	err := icecat.CatchPanic(func() (err error) { newState, err = e.stateOf(t); return err })
	if err != nil {
		return &icecat.Damaged{File: e.tables.Catalog.DisplayPath(t.MetadataLocation()), Err: err, Remedy: icecat.RemedyUnrepairable}
	}
	if e.log != nil && e.log.UUID() != newState.uuid {
		e.detach()
	}
	if e.log == nil && e.tables.Tail != nil {
		// The tail may already have rows of the table, for example if the table was renamed or repaired.
		if e.log, err = e.tables.Tail.Claim(ctx, newState.uuid, newState.folded); err != nil {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			return &icecat.Damaged{File: "its rows in the tail", Err: err, Remedy: icecat.RemedyUnrepairable}
		}
	}
	if e.log != nil {
		// Another process may have applied some of the same puts. Ignore the rows of these puts in this tail.
		applied, err := e.tables.Catalog.PutsApplied(ctx, newState.uuid, slices.Collect(maps.Keys(e.log.IDs(newState.folded, lastEpoch)))...)
		if err != nil {
			return err
		}
		e.log.Void(applied)
	}
	if e.state.uuid != "" && e.state.uuid != newState.uuid {
		e.nextVersion = 0
	}
	e.state = newState
	return nil
}

func (e *Entry) stateOf(t *table.Table) (s state, err error) {
	meta := t.Metadata()
	s = state{location: t.MetadataLocation(), uuid: meta.TableUUID().String(), folded: -1, last: -1, updated: lastChange(meta)}
	if meta.Version() > 1 {
		s.last = meta.LastSequenceNumber()
	}
	if snapshot := meta.CurrentSnapshot(); snapshot != nil {
		s.version = snapshot.SequenceNumber
	}
	if e.tables.Tail != nil {
		s.folded = e.tables.Tail.Folded(meta.Properties())
	}
	s.def, err = definition.FromMetadata(meta)
	return s, err
}

// detach clears the entry after another program deleted or renamed the table. The rows stay in the tail. If the
// table was renamed, the entry with its new name finds them; otherwise, the next Open does. e.mu must be held.
func (e *Entry) detach() {
	e.state = state{}
	if e.log != nil {
		e.log.Release()
		e.log = nil
	}
}

// Recover attaches a tail, and finds the tables with rows in the tail. Acquire and ReadTails read the rows.
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
				if n, ok, err = s.find(ctx, uuid, search); err != nil {
					return nil, err
				}
			}
			exists[uuid] = ok
			if ok && n.Name != "" {
				e := &Entry{tables: s, TableName: n, Changing: make(chan struct{}, 1), state: state{uuid: uuid, folded: -1}}
				e.unread.Store(true)
				s.entries[n] = e
			}
		}
		return exists, nil
	})
}

// find finds the table with a UUID after another program created, renamed, changed or deleted the table. If the rows
// may belong to a damaged table, it returns true without a name. search returns Catalog.UUIDs.
func (s *Tables) find(ctx context.Context, uuid string, search func() (map[string]icecat.TableName, error)) (n icecat.TableName, exists bool, err error) {
	var t *table.Table
	if n, err = s.Catalog.ByUUID(ctx, uuid); err == nil {
		t, err = s.loadUUID(ctx, n, uuid)
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

// ReadTails reads the rows that Recover found and nobody has read since. Rows of damaged tables stay in the tail.
func (s *Tables) ReadTails(ctx context.Context) {
	if s.Tail == nil || !s.Tail.HasAnyUnclaimed() {
		return
	}
	for _, e := range s.allEntries() {
		_ = s.readTail(ctx, e) // ignore errors: operations on the table read its rows again, and report the error
	}
}

// readTail reads an entry's rows in the tail if nobody has read them since Recover.
func (s *Tables) readTail(ctx context.Context, e *Entry) error {
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

// loadUUID returns a table, or nil if it does not exist or has another UUID.
func (s *Tables) loadUUID(ctx context.Context, n icecat.TableName, uuid string) (*table.Table, error) {
	t, err := s.load(ctx, n.Namespace, n.Name)
	if errors.Is(err, icecat.ErrNotFound) || err == nil && t.Metadata().TableUUID().String() != uuid {
		return nil, nil
	}
	return t, err
}

// hasUnreadRows reports whether the tail contains rows of the table that have not been read, or cannot be. e.mu must be
// held.
func (e *Entry) hasUnreadRows() bool {
	return e.log == nil && e.tables.Tail != nil && e.tables.Tail.HasUnclaimed(e.state.uuid)
}

// deleteLog deletes the log of a deleted table. e.mu must be held.
func (e *Entry) deleteLog(ctx context.Context) error {
	e.state = state{}
	if e.log == nil {
		return nil
	}
	err := e.tables.Tail.Discard(ctx, e.log)
	if err != nil {
		return err
	}
	e.log = nil
	return nil
}

// Applied reports whether a put with the ID was applied to a table.
func (e *Entry) Applied(ctx context.Context, t *table.Table, id string) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.applied(ctx, t.Metadata().TableUUID().String(), id)
}

// applied is Applied for a table with the given UUID. e.mu must be held, unless e.log is nil.
func (e *Entry) applied(ctx context.Context, uuid, id string) (bool, error) {
	if e.log != nil && e.log.UUID() == uuid {
		if ok, err := e.log.Applied(ctx, id); ok || err != nil {
			return ok, err
		}
	}
	appliedIDs, err := e.tables.Catalog.PutsApplied(ctx, uuid, id)
	return len(appliedIDs) > 0, err
}
