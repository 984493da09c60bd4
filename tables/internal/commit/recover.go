package commit

import (
	"context"
	"errors"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/tail"
)

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
