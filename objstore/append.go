package objstore

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/storekit"
)

// Append buffers entries; see [partd.Partd]. The next Flush commits them. Append itself flushes when
// hundreds of segments are pending.
func (s *Store) Append(ctx context.Context, entries ...partd.Entry) error {
	if _, err := storekit.CheckEntries("append", entries); err != nil {
		return err
	}
	var err error
	if s.buffer.pendingFull.Load() { // limit the memory for the footers of pending segments
		err = s.flushThen(ctx, nil)
	}
	if err == nil {
		err = s.addEntries(ctx, segment.KindAppend, entries)
	}
	return s.errorf("append", err)
}

// Set replaces a value; see [partd.Setter]. It flushes the store.
func (s *Store) Set(ctx context.Context, key string, value []byte) error {
	e := []partd.Entry{{Key: key, Value: value}}
	if _, err := storekit.CheckEntries("set", e); err != nil {
		return err
	}
	return s.addAndFlush(ctx, "set", segment.KindSet, e)
}

// Delete removes keys; see [partd.Deleter]. It flushes the store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	if err := storekit.CheckKeys("delete", keys); err != nil {
		return err
	}
	entries := make([]partd.Entry, len(keys))
	for i, k := range keys {
		entries[i].Key = k
	}
	return s.addAndFlush(ctx, "delete", segment.KindDelete, entries)
}

func (s *Store) addAndFlush(ctx context.Context, op string, kind segment.Kind, entries []partd.Entry) error {
	err := s.addEntries(ctx, kind, entries)
	if err == nil {
		err = s.flushThen(ctx, nil)
		if err != nil { // the entries stay buffered, and the next flush will commit them
			err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
		}
	}
	return s.errorf(op, err)
}

// addEntries adds entries to the buffer, all or nothing.
func (s *Store) addEntries(ctx context.Context, kind segment.Kind, entries []partd.Entry) error {
	if err := s.checkUsable(ctx, true); err != nil {
		return err
	}
	if err := s.buffer.mu.lock(ctx); err != nil {
		return err
	}
	defer s.buffer.mu.unlock()
	if s.closed.Load() || s.closing.Load() {
		return partd.ErrClosed
	}
	return s.buffer.add(ctx, kind, entries)
}
