package logstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/storeerror"
)

// Append adds values to the ends of keys' values, all or nothing.
func (s *Store) Append(ctx context.Context, entries ...partd.Entry) error {
	if _, err := partd.CheckEntries("append", entries); err != nil {
		return err
	}
	_, err := s.change(ctx, "append", partd.Tag{}, appendOp(entries))
	return err
}

// Set replaces the value of a key.
func (s *Store) Set(ctx context.Context, key string, value []byte) error {
	if _, err := partd.CheckEntries("set", []partd.Entry{{Key: key, Value: value}}); err != nil {
		return err
	}
	_, err := s.change(ctx, "set", partd.Tag{}, &setOp{key: key, value: value})
	return err
}

// SetOnce sets a key if it does not exist yet, and leaves an existing key
// unchanged.
func (s *Store) SetOnce(ctx context.Context, key string, value []byte) error {
	if _, err := partd.CheckEntries("set once", []partd.Entry{{Key: key, Value: value}}); err != nil {
		return err
	}
	_, err := s.change(ctx, "set once", partd.Tag{}, &setOp{key: key, value: value, once: true})
	return err
}

// Delete removes keys, all or none. It writes nothing for keys that do not exist.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	if err := partd.CheckKeys("delete", keys); err != nil {
		return err
	}
	_, err := s.change(ctx, "delete", partd.Tag{}, s.lookFor(ctx, keys))
	return err
}

// Pop returns the values of keys and removes the keys, as one step. It writes
// nothing for keys that do not exist.
func (s *Store) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := partd.CheckKeys("pop", keys); err != nil {
		return nil, err
	}
	op := &popOp{deleteOp: deleteOp{keys: keys}}
	if _, err := s.change(ctx, "pop", partd.Tag{}, op); err != nil {
		return nil, err
	}
	return op.values, nil
}

// operation is a change that one record, or one replacement of the manifest,
// makes.
type operation interface {
	// size returns at least what a batch takes for the record, in bytes.
	size(s *Store) int64
	// empty reports whether the operation changes nothing.
	empty() bool
	// last is called with mu held, right before anything is written. It may
	// look at the store, and decides what there is to do: it changes the batch,
	// or if that is nil, what each does.
	last(ctx context.Context, s *Store, b *batch) error
	// each calls f for each entry that the operation consists of, or, before
	// last, may consist of.
	each(f func(kind segment.Kind, key string, value []byte) error) error
}

// change applies an operation, with its tag if that is not zero. It returns
// false for one that was applied before.
func (s *Store) change(ctx context.Context, opName string, tag partd.Tag, op operation) (applied bool, err error) {
	if err := canceled.Err(ctx); err != nil {
		return false, s.errorf(opName, err)
	}
	if s.dir == "" {
		return false, s.errorf(opName, storeerror.ErrNotOpened)
	}
	s.life.RLock()
	defer s.life.RUnlock()
	s.mu.Lock()
	changes := s.changes
	changes.Add(1)
	defer changes.Done()
	seq, isNew := s.seq-1, true
	if s.emptied && !s.closed && s.poisoned() == nil && s.leaveFull(nil) == nil {
		s.emptied = false // it was dropped on a disk which had no room even then, and takes changes again
	}
	if err = s.writable(); err == nil && tag != (partd.Tag{}) {
		isNew, err = s.sessions.check(tag)
	}
	s.mu.Unlock()
	if err != nil || op.empty() && tag == (partd.Tag{}) {
		return err == nil, s.errorf(opName, err)
	}
	if !isNew { // large values need not be written to find that out
		return false, s.errorf(opName, s.acknowledge(seq))
	}
	if op.size(s) > int64(s.maxBatch) {
		applied, err = s.bulk(ctx, tag, op)
		return applied, s.errorf(opName, err)
	}
	b, err := s.takeBatch(ctx)
	if err != nil {
		return false, s.errorf(opName, err)
	}
	defer s.putBatch(b)
	if err = s.encode(b, op); err == nil {
		s.mu.Lock()
		seq, applied, err = s.commit(ctx, b, tag, op)
		s.mu.Unlock()
	}
	if !applied || len(b.at) == 0 || err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
		s.blobs.giveBack(b.blobs)
	}
	if err == nil {
		err = s.acknowledge(seq)
	}
	return applied, s.errorf(opName, err)
}

// acknowledge returns once a record may be acknowledged.
func (s *Store) acknowledge(seq uint64) error {
	if !s.opts.Sync {
		return nil
	}
	return outcome(s.syncTo(seq))
}

// commit writes a batch and enters it into the table. mu is held. It returns
// the number of the record that must be synced.
func (s *Store) commit(ctx context.Context, b *batch, tag partd.Tag, op operation) (seq uint64, applied bool, err error) {
	if err := s.makeRoom(ctx, b); err != nil {
		return 0, false, err
	}
	h := recordHeader{kind: recordBatch, tag: tag, tagged: tag != (partd.Tag{})}
	if h.tagged {
		isNew, err := s.sessions.check(tag)
		if err != nil || !isNew {
			return s.seq - 1, false, err
		}
	}
	if err := op.last(ctx, s, b); err != nil {
		return 0, false, err
	}
	if o, ok := op.(*sessionOp); ok {
		h = recordHeader{kind: o.kind, tagged: true, tag: partd.Tag{Session: o.session}}
	}
	if len(b.at) == 0 && !h.tagged {
		return s.seq - 1, true, nil
	}
	seq = s.seq
	return seq, true, outcome(s.writeBatch(b, h))
}

// writeBatch writes a record that fits, and enters it into the table. mu is held.
func (s *Store) writeBatch(b *batch, h recordHeader) error {
	h.seq, h.synced = s.seq, s.wal.group.Synced()
	if err := s.tables.active.wal.write(b, h); err != nil {
		return err
	}
	s.seq++
	s.edits++
	if len(b.at) == 0 {
		s.tables.active.bare += recordHeaderLen + tagLen
	}
	s.sessions.apply(h, s.opts.MaxSessions)
	s.tables.active.insert(b)
	if s.reclaim.noteBatch(b, s.tables.active, s.segments.list) && s.reclaimDue() {
		s.considerMerge()
	}
	return nil
}

// makeRoom waits until a batch fits into the active table, and its record into
// the write-ahead file. mu is held, and let go of meanwhile.
func (s *Store) makeRoom(ctx context.Context, b *batch) error {
	for {
		if err := s.writable(); err != nil {
			return err
		}
		t := s.tables.active
		fits := t.fits(b)
		// Records without entries, as of an operation of a session that found nothing to
		// do, make only the file grow, and short ones mostly. No quota keeps such operations
		// out, so they get no more than 1 MiB of it.
		logFull := t.bare > walStep || t.wal.end > 4*int64(len(t.arena))+s.wal.step
		if fits && !logFull {
			return nil
		}
		if !fits && t.size == 0 {
			return fmt.Errorf("%w: a batch of %d bytes does not fit into %d bytes of memory: give the store more",
				partd.ErrTooLarge, len(b.entries()), len(t.arena))
		}
		begin, stalls := time.Now(), s.tables.frozen != nil
		err := s.rotateTable(ctx)
		if stalls {
			s.counted.stalls.Add(1)
			s.counted.stalled.Add(int64(time.Since(begin)))
		}
		if err != nil {
			return err
		}
	}
}
