package logstore

import (
	"context"
	"errors"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/storekit"
)

// Append adds each entry's value to the end of its key's value. If it fails, no entry takes effect.
func (s *Store) Append(ctx context.Context, entries ...partd.Entry) error {
	if _, err := storekit.CheckEntries("append", entries); err != nil {
		return err
	}
	_, err := s.change(ctx, "append", partd.Tag{}, appendOp(entries))
	return err
}

// Set replaces the value of a key.
func (s *Store) Set(ctx context.Context, key string, value []byte) error {
	return s.set(ctx, "set", &setOp{key: key, value: value})
}

// SetOnce sets a key unless it exists.
func (s *Store) SetOnce(ctx context.Context, key string, value []byte) error {
	return s.set(ctx, "set once", &setOp{key: key, value: value, once: true})
}

func (s *Store) set(ctx context.Context, opName string, op *setOp) error {
	if _, err := storekit.CheckEntries(opName, []partd.Entry{{Key: op.key, Value: op.value}}); err != nil {
		return err
	}
	_, err := s.change(ctx, opName, partd.Tag{}, op)
	return err
}

// Delete removes keys. If it fails, it removes none.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	if err := storekit.CheckKeys("delete", keys); err != nil {
		return err
	}
	_, err := s.change(ctx, "delete", partd.Tag{}, s.newDeleteOp(ctx, keys))
	return err
}

// Pop atomically returns the keys' values and removes the keys.
func (s *Store) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := storekit.CheckKeys("pop", keys); err != nil {
		return nil, err
	}
	op := &popOp{deleteOp: deleteOp{keys: keys}}
	if _, err := s.change(ctx, "pop", partd.Tag{}, op); err != nil {
		return nil, err
	}
	return op.values, nil
}

// change applies op; opName is its name in errors. If tag is not zero, change records it, so that a
// retry with the same tag changes nothing and returns applied = false.
func (s *Store) change(ctx context.Context, opName string, tag partd.Tag, op storeOp) (applied bool, err error) {
	if err := canceled.Err(ctx); err != nil {
		return false, s.opError(opName, err)
	}
	if s.dir == "" {
		return false, s.opError(opName, storeerror.ErrNotOpened)
	}
	s.lifeMu.RLock()
	defer s.lifeMu.RUnlock()
	s.mu.Lock()
	changes := s.reclaimer.changes
	changes.Add(1)
	defer changes.Done()
	seq, isNew := s.journal.seq-1, true
	if s.mustResume && !s.closed && s.checkPoisoned() == nil && s.resumeWrites(nil) == nil {
		s.mustResume = false // the store has a write-ahead file again
	}
	err = s.checkWritable()
	if err == nil {
		isNew, err = s.journal.sessions.check(tag)
	}
	s.mu.Unlock()
	if err != nil || op.isEmpty() && tag == (partd.Tag{}) {
		return err == nil, s.opError(opName, err)
	}
	if !isNew { // a retry: do not write its large values to blob files again
		return false, s.opError(opName, s.syncer.acknowledge(seq))
	}
	if op.size(&s.encoder) > int64(s.maxBatch) {
		applied, err = s.applyBulk(ctx, tag, op)
		return applied, s.opError(opName, err)
	}
	b, err := s.takeBatch(ctx)
	if err != nil {
		return false, s.opError(opName, err)
	}
	defer s.putBatch(b)
	err = s.encode(b, op)
	if err == nil {
		s.mu.Lock()
		seq, applied, err = s.commit(ctx, b, tag, op)
		s.mu.Unlock()
	}
	if !applied || len(b.offsets) == 0 || err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
		s.blobs.release(b.blobs)
	}
	if err == nil {
		err = s.syncer.acknowledge(seq)
	}
	return applied, s.opError(opName, err)
}

// commit writes a batch to the write-ahead log and inserts it into the active table. mu must be
// held. The caller must pass seq to acknowledge, which waits until the record is durable.
func (s *Store) commit(ctx context.Context, b *batch, tag partd.Tag, op storeOp) (seq uint64, applied bool, err error) {
	if err := s.journal.makeRoom(ctx, b); err != nil {
		return 0, false, err
	}
	h := recordHeader{kind: recordBatch, tag: tag, tagged: tag != (partd.Tag{})}
	if isNew, err := s.journal.sessions.check(tag); err != nil || !isNew {
		return s.journal.seq - 1, false, err
	}
	hasChanged, err := op.prepare(ctx, &s.journal, &s.views)
	if err != nil {
		return 0, false, err
	}
	if hasChanged {
		b.clear()
		if err := s.encode(b, op); err != nil {
			return 0, false, err
		}
	}
	if o, ok := op.(*sessionOp); ok {
		h = recordHeader{kind: o.kind, tagged: true, tag: partd.Tag{Session: o.session}}
	}
	if len(b.offsets) == 0 && !h.tagged {
		return s.journal.seq - 1, true, nil
	}
	seq = s.journal.seq
	return seq, true, commitError(s.journal.writeBatch(b, h))
}

// BatchBytes returns the recommended maximum size of a batch, in bytes. Much larger batches become
// separate small segments, which are expensive to merge.
func (s *Store) BatchBytes() int { return s.maxBatch / 2 }

// newDeleteOp returns an operation that deletes keys. It looks up which keys exist, without
// blocking other calls. If it cannot read the keys, it assumes that they exist, so that damaged
// keys can be deleted.
func (s *Store) newDeleteOp(ctx context.Context, keys []string) *deleteOp {
	op := &deleteOp{keys: keys}
	if len(keys) == 0 {
		return op
	}
	s.mu.Lock()
	op.editCount = s.journal.editCount
	s.mu.Unlock()
	exists := make([]bool, len(keys))
	if s.lookUp(ctx, "delete", keys, nil, exists) == nil {
		op.exists = exists
	}
	return op
}
