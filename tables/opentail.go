package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/tail"
)

// openTail opens the tail, and finds what it holds.
func (s *Store) openTail(ctx context.Context) error {
	p := s.opts.Tail
	if p == nil {
		dir := cmp.Or(s.opts.TailDir, filepath.Join(s.local, "tail"))
		if err := s.hooks.fs.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
			return err
		}
		if err := s.lock(dir + ".lock"); err != nil {
			return err
		}
		o := logstore.Options{
			Memory: min(max(logstore.MinMemory, s.opts.Memory/4), logstore.MaxMemory),
			Sync:   s.opts.Sync, Logger: s.opts.Logger,
		}
		l, err := logstore.Open(dir, &o)
		if err != nil {
			return err
		}
		s.closes = append(s.closes, l.Close)
		p = l
	} else if _, ok := p.(partd.Deleter); !ok {
		return fmt.Errorf("the tail, a %T, cannot delete keys: %w", p, errors.ErrUnsupported)
	}
	var err error
	if s.tail, err = tail.Open(ctx, p, s.cat.ID(), s.opts.Sync && s.opts.Tail != nil, s.opts.Memory/4); err != nil {
		return err
	}
	if s.opts.Tail != nil {
		if err := s.lock(filepath.Join(s.local, "tail-"+s.tail.ID()+".lock")); err != nil {
			return err
		}
	}
	if s.hooks.sameID {
		s.tail.SetID("same")
	}
	return s.recoverTail(ctx)
}

// lock keeps other Stores away from the tail.
func (s *Store) lock(path string) error {
	l := s.hooks.fs.NewLock(path)
	got, err := l.TryLock(true)
	if err != nil {
		return err
	}
	if !got {
		return fmt.Errorf("%w by another process or Store: close it there, or give this one a tail of its own", ErrInUse)
	}
	s.closes = append(s.closes, l.Unlock)
	return nil
}

// recoverTail finds the tables that have rows in the tail.
func (s *Store) recoverTail(ctx context.Context) error {
	found := map[string]*entry{}
	var all map[string]icecat.TableName // by their metadata's UUID
	var damaged error                   // of tables whose UUIDs are not in it
	logs, err := s.tail.Recover(ctx, func(uuid string) (folded int64, exists bool, err error) {
		n, err := s.cat.ByUUID(ctx, uuid)
		if err != nil && !errors.Is(err, icecat.ErrNotFound) {
			return 0, false, err
		}
		t, err := s.loadUUID(ctx, n, uuid)
		if t == nil && err == nil {
			// Made or renamed by somebody else, or deleted: its rows go only if no table has the UUID.
			if all == nil {
				if all, damaged = s.cat.UUIDs(ctx); damaged != nil && !errors.Is(damaged, ErrDamaged) {
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
		case errors.Is(err, ErrDamaged):
			s.opts.Logger.Error("a table is damaged, its rows stay in the tail", "bucket", bucketOf(n.Namespace), "table", n.Name, "err", err)
			folded = tail.Unknown
		case t == nil || err != nil:
			return 0, false, err
		default:
			folded = s.tail.Folded(t.Properties())
		}
		found[uuid] = &entry{s: s, tableName: tableName(n), state: state{uuid: uuid, folded: folded}}
		return folded, true, nil
	})
	if err != nil {
		return err
	}
	for uuid, e := range found {
		if e.log = logs[uuid]; e.log != nil || e.waits() {
			s.entries[e.tableName] = e
		}
	}
	return nil
}

// loadUUID returns a table if it has a UUID, nil if it has another or is not there.
func (s *Store) loadUUID(ctx context.Context, n icecat.TableName, uuid string) (*table.Table, error) {
	t, err := s.cat.Load(ctx, n.Namespace, n.Name)
	if errors.Is(err, icecat.ErrNotFound) || err == nil && t.Metadata().TableUUID().String() != uuid {
		return nil, nil
	}
	return t, err
}
