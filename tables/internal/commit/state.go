package commit

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/tail"
)

// state is what appends need to know of a table, as of one location of its metadata.
type state struct {
	location string
	uuid     string
	version  int64
	folded   int64                  // the last epoch that is in the files
	def      *definition.Definition // nil if the table does not exist
}

// Current returns the table as it is now, nil if there is none.
func (e *Entry) Current(ctx context.Context) (*table.Table, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load(ctx)
	if errors.Is(err, icecat.ErrNotFound) {
		return nil, nil
	}
	return t, err
}

// Waiting reports whether rows of the table are in the tail alone.
func (e *Entry) Waiting(ctx context.Context) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refresh(ctx); err != nil || e.log == nil {
		return false, err
	}
	rows, _, _, _ := e.log.Size(e.state.folded)
	return rows > 0, nil
}

// refresh brings the state up to what the catalog says now. It wants mu.
func (e *Entry) refresh(ctx context.Context) error {
	loc, rules, err := e.of.Catalog.Lookup(ctx, e.Namespace, e.Name)
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

// set makes a table the state. It wants mu.
func (e *Entry) set(ctx context.Context, t *table.Table) error {
	var n state
	err := icecat.Safely(func() (err error) { n, err = e.stateOf(t); return err })
	if err != nil {
		return &icecat.Damaged{File: e.of.Catalog.Shown(t.MetadataLocation()), Err: err, Remedy: icecat.Unusable}
	}
	if e.log != nil && e.log.UUID() != n.uuid {
		e.lose()
	}
	if e.log == nil && e.of.Tail != nil {
		// It may have had another name, or could not be read before.
		if e.log, err = e.of.Tail.Claim(ctx, n.uuid, n.folded); err != nil {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			return &icecat.Damaged{File: "its rows in the tail", Err: err, Remedy: icecat.Unusable}
		}
	}
	if e.log != nil {
		// Another Store may have applied puts with the same ids.
		applied, err := e.of.Catalog.PutsApplied(ctx, n.uuid, slices.Collect(maps.Keys(e.log.IDs(n.folded, lastEpoch)))...)
		if err != nil {
			return err
		}
		e.log.Void(applied)
	}
	e.state = n
	return nil
}

// stateOf returns the state that a table's metadata says.
func (e *Entry) stateOf(t *table.Table) (n state, err error) {
	meta := t.Metadata()
	n = state{location: t.MetadataLocation(), uuid: meta.TableUUID().String(), folded: -1}
	if s := meta.CurrentSnapshot(); s != nil {
		n.version = s.SequenceNumber
	}
	if e.of.Tail != nil {
		n.folded = e.of.Tail.Folded(meta.Properties())
	}
	n.def, err = definition.Of(meta)
	return n, err
}

// lose lets go of a table that somebody else deleted or renamed. What it has in
// the tail stays there, for an entry with its new name, or the next Open, to find
// out which. It wants mu.
func (e *Entry) lose() {
	e.state = state{}
	if e.log != nil {
		e.log.Release()
		e.log = nil
	}
}

// Recover takes a tail, and finds the tables that have rows in it.
func (s *Tables) Recover(ctx context.Context, t *tail.Store) error {
	s.Tail = t
	found := map[string]*Entry{}
	var all map[string]icecat.TableName // by their metadata's UUID
	var damaged error                   // of tables whose UUIDs are not in it
	logs, err := s.Tail.Recover(ctx, func(uuid string) (folded int64, exists bool, err error) {
		n, err := s.Catalog.ByUUID(ctx, uuid)
		if err != nil && !errors.Is(err, icecat.ErrNotFound) {
			return 0, false, err
		}
		t, err := s.loadUUID(ctx, n, uuid)
		if t == nil && err == nil {
			// Made or renamed by somebody else, or deleted: its rows go only if no table has the UUID.
			if all == nil {
				if all, damaged = s.Catalog.UUIDs(ctx); damaged != nil && !errors.Is(damaged, icecat.ErrContent) {
					return 0, false, damaged
				}
			}
			known, is := all[uuid]
			if !is && damaged != nil {
				return tail.Unknown, true, nil // it may be that of a table that is damaged
			}
			n = known
			t, err = s.loadUUID(ctx, n, uuid)
		}
		switch {
		case errors.Is(err, icecat.ErrContent):
			s.Logger.Error("a table is damaged, its rows stay in the tail", "bucket", s.BucketOf(n.Namespace), "table", n.Name, "err", err)
			folded = tail.Unknown
		case t == nil || err != nil:
			return 0, false, err
		default:
			folded = s.Tail.Folded(t.Properties())
		}
		found[uuid] = &Entry{of: s, TableName: n, state: state{uuid: uuid, folded: folded}}
		return folded, true, nil
	})
	if err != nil {
		return err
	}
	for uuid, e := range found {
		if e.log = logs[uuid]; e.log != nil || e.waits() {
			s.entries[e.TableName] = e
		}
	}
	return nil
}

// loadUUID returns a table if it has a UUID, nil if it has another or is not there.
func (s *Tables) loadUUID(ctx context.Context, n icecat.TableName, uuid string) (*table.Table, error) {
	t, err := s.Catalog.Load(ctx, n.Namespace, n.Name)
	if errors.Is(err, icecat.ErrNotFound) || err == nil && t.Metadata().TableUUID().String() != uuid {
		return nil, nil
	}
	return t, err
}

// waits reports whether the tail has rows of a table that could not be read. It wants mu.
func (e *Entry) waits() bool {
	return e.log == nil && e.of.Tail != nil && e.of.Tail.Waits(e.state.uuid)
}

// forget deletes the log of a table that was deleted. It wants mu.
func (e *Entry) forget(ctx context.Context) error {
	e.state = state{}
	if e.log == nil {
		return nil
	}
	err := e.of.Tail.Discard(ctx, e.log)
	if err == nil {
		e.log = nil
	}
	return err
}
