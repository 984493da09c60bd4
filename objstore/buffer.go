package objstore

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/storekit"
)

// buffer holds the changes that are not yet committed.
type buffer struct {
	*objects
	mu          ctxMutex // guards the fields below
	active      *table
	spare       *table      // the previous table, which is being encoded or already empty
	pending     []*piece    // in append order
	pendingFull atomic.Bool // too many pieces are pending, so the next Append must flush first; read without mu
	uploads     uploads
}

// allocate allocates the tables of a new store.
func (b *buffer) allocate() error {
	size := b.opts.tableSize()
	b.active, b.spare = emptyTable(size), emptyTable(size)
	if err := b.uploads.allocate(maxEncodedSize(size)); err != nil {
		return err
	}
	b.active.arena = b.uploads.takeArena()[:size]
	return nil
}

func (b *buffer) isEmpty() bool { return b.active.used == 0 && len(b.pending) == 0 }

// add adds entries to the active table, all or nothing. mu must be held.
func (b *buffer) add(ctx context.Context, kind segment.Kind, entries []partd.Entry) error {
	count, size := 0, int64(0)
	for i := range entries {
		if kind != segment.KindAppend || len(entries[i].Value) > 0 {
			n, bytes := cost(len(entries[i].Key), len(entries[i].Value))
			count, size = count+n, size+bytes
		}
	}
	if !b.active.canHold(count, size) && b.active.used > 0 {
		if err := b.seal(ctx); err != nil {
			return err
		}
	}
	// Either the active table now has space for all entries, or it is empty and put fills several tables.
	pendingBefore := len(b.pending)
	for i := range entries {
		if err := b.put(ctx, b.active, kind, entries[i].Key, entries[i].Value); err != nil {
			for _, p := range b.pending[pendingBefore:] {
				p.abandoned = true
			}
			b.pending = slices.Clip(b.pending[:pendingBefore])
			b.active.reset()
			return err
		}
	}
	b.pendingFull.Store(len(b.pending) >= b.opts.maxPending())
	return nil
}

// put adds a value to t, as several entries if it is too long for one. If t is the active table, put
// replaces t when it is full. Any other table must have enough space.
func (b *buffer) put(ctx context.Context, t *table, kind segment.Kind, key string, value []byte) error {
	if kind == segment.KindAppend && len(value) == 0 {
		return nil
	}
	for {
		n := min(len(value), segment.MaxInline)
		if !t.canHold(cost(len(key), n)) {
			if err := b.seal(ctx); err != nil {
				return err
			}
			t = b.active
		}
		t.add(b.format, kind, key, value[:n])
		value = value[n:]
		if len(value) == 0 {
			return nil
		}
		kind = segment.KindAppend
	}
}

// seal replaces the active table with an empty one. It encodes and uploads the full table in the
// background. mu must be held.
func (b *buffer) seal(ctx context.Context) error {
	u := &b.uploads
	if err := u.makeRoom(ctx); err != nil {
		return err
	}
	u.returnArena(b.spare.arena)
	b.spare.arena = nil
	t := b.active
	b.active, b.spare = b.spare, t
	p := u.start(t)
	b.pending = append(b.pending, p)
	if len(u.arenas) == 0 {
		<-p.encodingDone // without checking ctx, because encoding takes little time
		u.returnArena(t.arena)
		t.arena = nil
	}
	b.active.arena = u.takeArena()[:b.opts.tableSize()]
	return nil
}

// sealInline converts the active table, which must be small, to a piece whose data will be inside the
// record that commits the piece. mu must be held.
func (b *buffer) sealInline(ctx context.Context) error {
	p, err := b.uploads.encodeInline(ctx, b.active)
	if err != nil {
		return err
	}
	b.active.reset()
	b.pending = append(b.pending, p)
	return nil
}

// sealAll turns the active table into a pending piece, which is a segment that is not yet committed. It
// returns all pending pieces and, for each current upload, a channel that is closed when the upload
// ends. mu must be held.
func (b *buffer) sealAll(ctx context.Context) (pieces []*piece, uploadsDone []chan struct{}, err error) {
	inline := func(p *piece) bool { return p.part.inline }
	switch {
	case b.active.used == 0:
	case int64(b.active.used) <= b.opts.hooks.maxInline && !slices.ContainsFunc(b.pending, inline):
		err = b.sealInline(ctx)
	default:
		err = b.seal(ctx)
	}
	for _, p := range b.uploads.running {
		uploadsDone = append(uploadsDone, p.uploadDone)
	}
	return slices.Clone(b.pending), uploadsDone, err
}

// sealSeparately encodes t, which must not be the active table, as a piece for a separate record. It
// uploads the piece if it is too large to be stored inside the record.
func (b *buffer) sealSeparately(ctx context.Context, t *table) (*piece, error) {
	if err := b.mu.lock(ctx); err != nil {
		return nil, err
	}
	defer b.mu.unlock()
	p, err := b.uploads.encodeInline(ctx, t)
	if err != nil || int64(t.used) <= b.opts.hooks.maxInline {
		return p, err
	}
	data := p.part.bytes
	p.part.inline = false
	p.part.bytes, err = footerOf(fileOf(b.format, b.writer, p.part.segmentNumber), data)
	if err != nil {
		return nil, err
	}
	return p, b.uploads.upload(ctx, p, data)
}

// waitPieces waits until the pieces that sealAll returned are uploaded. Appends may continue during the wait.
func (b *buffer) waitPieces(ctx context.Context, pieces []*piece, uploadsDone []chan struct{}) error {
	for _, d := range uploadsDone {
		if err := canceled.Wait(ctx, d); err != nil {
			return err
		}
	}
	if err := b.mu.lock(ctx); err != nil {
		return err
	}
	defer b.mu.unlock()
	n := len(b.uploads.running)
	for n > 0 && !slices.Contains(pieces, b.uploads.running[n-1]) {
		n-- // this upload began after sealAll
	}
	return b.uploads.wait(ctx, len(b.uploads.running)-n)
}

// forget removes the first n pending pieces, which have been committed.
func (b *buffer) forget(ctx context.Context, n int) error {
	if err := b.mu.lock(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	defer b.mu.unlock()
	b.pending = slices.Delete(b.pending, 0, n)
	b.pendingFull.Store(len(b.pending) >= b.opts.maxPending())
	return nil
}

// release frees all memory. No upload may be running.
func (b *buffer) release() {
	b.active.release()
	b.spare.release()
	b.uploads.release()
	b.active, b.spare = nil, nil
}

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
