package commit

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

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

// Recover attaches a tail, and finds the tables with rows in the tail.
func (s *Tables) Recover(ctx context.Context, t *tail.Store) error {
	s.Tail = t
	entries := map[string]*Entry{}
	var byUUID map[string]icecat.TableName // maps the UUIDs in the tables' metadata to their names
	var damaged error                      // errors of damaged tables, whose UUIDs are unknown
	query := context.WithoutCancel(ctx)    // for a cancelable context, SQLite's driver starts a goroutine for each query
	logs, err := s.Tail.Recover(ctx, func(uuid string) (folded int64, exists bool, err error) {
		if err := canceled.Err(ctx); err != nil {
			return 0, false, err
		}
		n, err := s.Catalog.ByUUID(query, uuid)
		if err != nil && !errors.Is(err, icecat.ErrNotFound) {
			return 0, false, err
		}
		t, err := s.loadUUID(query, n, uuid)
		if t == nil && err == nil {
			// Another program created, renamed or deleted the table, so search all tables for the UUID.
			if byUUID == nil {
				byUUID, damaged = s.Catalog.UUIDs(ctx)
				if damaged != nil && !errors.Is(damaged, icecat.ErrContent) {
					return 0, false, damaged
				}
			}
			name, ok := byUUID[uuid]
			if !ok && damaged != nil {
				return tail.Unknown, true, nil // the rows may belong to a damaged table
			}
			n = name
			t, err = s.loadUUID(query, n, uuid)
		}
		switch {
		case errors.Is(err, icecat.ErrContent):
			s.Logger.Error("a table is damaged, so its rows stay in the tail: repair it with verify", "bucket", s.BucketOf(n.Namespace), "table", n.Name, "err", err)
			folded = tail.Unknown
		case t == nil || err != nil:
			return 0, false, err
		default:
			folded = s.Tail.Folded(t.Properties())
		}
		entries[uuid] = &Entry{tables: s, TableName: n, Changing: make(chan struct{}, 1), state: state{uuid: uuid, folded: folded}}
		return folded, true, nil
	})
	if err != nil {
		return err
	}
	for uuid, e := range entries {
		e.log = logs[uuid]
		if e.log != nil || e.hasUnreadRows() {
			s.entries[e.TableName] = e
		}
	}
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

// hasUnreadRows reports whether the tail contains rows of the table that could not be read. e.mu must be held.
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
