package objstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/storekit"
)

const (
	minTableSize = 144 << 10 // large enough for the largest entry
	memoryShares = 7         // a table has at most Memory/memoryShares bytes; appends use 3⅔ times the size of a table
	maxTableSize = 1 << 30   // offsets have 32 bits, and one S3 request accepts at most 5 GB
	// maxFooterBytes is the approximate limit for all segment footers in one record of the log.
	maxFooterBytes = 4 << 20
)

// tableSize returns the size at which a table of buffered entries becomes a segment.
func (s *Store) tableSize() int64 {
	return min(max(s.opts.SegmentSize, minTableSize), s.opts.Memory/memoryShares, maxTableSize)
}

// maxPending returns the maximum number of segments that one record of the log commits.
func (s *Store) maxPending() int {
	return int(maxFooterBytes / (4*(s.tableSize()/s.opts.hooks.rangeBytes) + 200))
}

// Append buffers entries; see [partd.Partd]. The next Flush commits them. Append itself flushes when
// hundreds of segments are pending.
func (s *Store) Append(ctx context.Context, entries ...partd.Entry) error {
	if _, err := storekit.CheckEntries("append", entries); err != nil {
		return err
	}
	var err error
	if s.pendingFull.Load() { // limit the memory for the footers of pending segments
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
		if err = s.flushThen(ctx, nil); err != nil { // the entries stay buffered, and the next flush will commit them
			err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
		}
	}
	return s.errorf(op, err)
}

// addEntries adds entries to the active table, all or nothing.
func (s *Store) addEntries(ctx context.Context, kind segment.Kind, entries []partd.Entry) error {
	if err := s.checkUsable(ctx, true); err != nil {
		return err
	}
	if err := s.mu.lock(ctx); err != nil {
		return err
	}
	defer s.mu.unlock()
	if s.closed.Load() || s.closing.Load() {
		return partd.ErrClosed
	}
	count, size := 0, int64(0)
	for i := range entries {
		if kind != segment.KindAppend || len(entries[i].Value) > 0 {
			n, bytes := cost(len(entries[i].Key), len(entries[i].Value))
			count, size = count+n, size+bytes
		}
	}
	if !s.active.canHold(count, size) && s.active.used > 0 {
		if err := s.seal(ctx); err != nil {
			return err
		}
	}
	// Either the active table now has space for all entries, or it is empty and put fills several tables.
	pendingBefore := len(s.pending)
	for i := range entries {
		if err := s.put(ctx, s.active, kind, entries[i].Key, entries[i].Value); err != nil {
			for _, p := range s.pending[pendingBefore:] {
				p.abandoned = true
			}
			s.pending = slices.Clip(s.pending[:pendingBefore])
			s.active.reset()
			return err
		}
	}
	s.pendingFull.Store(len(s.pending) >= s.maxPending())
	return nil
}

// put adds a value to t, and divides a value that is too long for one entry into several. If t is the
// active table, put replaces t when it is full. Any other table must have enough space.
func (s *Store) put(ctx context.Context, t *table, kind segment.Kind, key string, value []byte) error {
	if kind == segment.KindAppend && len(value) == 0 {
		return nil
	}
	for {
		n := min(len(value), segment.MaxInline)
		if !t.canHold(cost(len(key), n)) {
			if err := s.seal(ctx); err != nil {
				return err
			}
			t = s.active
		}
		t.add(s.format, kind, key, value[:n])
		if value = value[n:]; len(value) == 0 {
			return nil
		}
		kind = segment.KindAppend
	}
}
