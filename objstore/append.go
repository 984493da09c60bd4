package objstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
)

const (
	minTable       = 144 << 10 // has room for the largest entry
	tablesInMemory = 7         // of which arenas and tables take three and two thirds
	maxTable       = 1 << 30   // offsets have 32 bits, and S3 takes 5 GB by one request
	// maxFooters is how many bytes of footers, about, a record of the log may have.
	maxFooters = 4 << 20
)

// tableSize is how many bytes of entries become a segment.
func (s *Store) tableSize() int64 {
	return min(max(s.opts.SegmentSize, minTable), s.opts.Memory/tablesInMemory, maxTable)
}

// maxPending is how many segments one record of the log makes count.
func (s *Store) maxPending() int {
	return int(maxFooters / (4*(s.tableSize()/s.opts.hooks.rangeBytes) + 200))
}

// Append buffers entries; see [partd.Partd]. They count from the next Flush on, or a
// little earlier: the store flushes by itself once it has hundreds of segments.
func (s *Store) Append(ctx context.Context, entries ...partd.Entry) error {
	if _, err := partd.CheckEntries("append", entries); err != nil {
		return err
	}
	if s.crowded.Load() { // where each segment has its ranges takes memory, too
		if err := s.Flush(ctx); err != nil {
			return &partd.Error{Op: "append", Err: err}
		}
	}
	if err := s.gather(ctx, segment.KindAppend, entries); err != nil {
		return &partd.Error{Op: "append", Err: err}
	}
	return nil
}

// Set replaces a value; see [partd.Setter]. It flushes the store.
func (s *Store) Set(ctx context.Context, key string, value []byte) error {
	e := []partd.Entry{{Key: key, Value: value}}
	if _, err := partd.CheckEntries("set", e); err != nil {
		return err
	}
	return s.gatherAndFlush(ctx, "set", segment.KindSet, e)
}

// Delete removes keys; see [partd.Deleter]. It flushes the store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	if err := partd.CheckKeys("delete", keys); err != nil {
		return err
	}
	entries := make([]partd.Entry, len(keys))
	for i, k := range keys {
		entries[i].Key = k
	}
	return s.gatherAndFlush(ctx, "delete", segment.KindDelete, entries)
}

func (s *Store) gatherAndFlush(ctx context.Context, op string, kind segment.Kind, entries []partd.Entry) error {
	if err := s.gather(ctx, kind, entries); err != nil {
		return &partd.Error{Op: op, Err: err}
	}
	if err := s.Flush(ctx); err != nil {
		// It is among what the next flush will commit.
		return &partd.Error{Op: op, Err: fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)}
	}
	return nil
}

// gather puts a batch into the table, all or nothing.
func (s *Store) gather(ctx context.Context, kind segment.Kind, entries []partd.Entry) error {
	if err := s.usable(ctx, true); err != nil {
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
	if !s.active.fits(count, size) && s.active.used > 0 {
		if err := s.seal(ctx); err != nil {
			return err
		}
	}
	// From here on the table is empty, or takes all.
	before := len(s.pending)
	for i := range entries {
		if err := s.put(ctx, s.active, kind, entries[i].Key, entries[i].Value); err != nil {
			for _, p := range s.pending[before:] {
				p.abandoned = true
			}
			s.pending = slices.Clip(s.pending[:before])
			s.active.reset()
			return err
		}
	}
	s.crowded.Store(len(s.pending) >= s.maxPending())
	return nil
}

// put adds an entry, or several for a value that is too long for one. A table that is
// not the active one must have room for it.
func (s *Store) put(ctx context.Context, t *table, kind segment.Kind, key string, value []byte) error {
	if kind == segment.KindAppend && len(value) == 0 {
		return nil
	}
	for {
		n := min(len(value), segment.MaxInline)
		if !t.fits(cost(len(key), n)) {
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
