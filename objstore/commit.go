package objstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// Flush commits everything acknowledged before the call: it becomes durable and
// visible to all processes. See [partd.Flusher].
func (s *Store) Flush(ctx context.Context) error { return s.errorf("flush", s.flushed(ctx, nil)) }

// Sync is Flush; see [partd.Syncer].
func (s *Store) Sync(ctx context.Context) error { return s.errorf("sync", s.flushed(ctx, nil)) }

func (s *Store) errorf(op string, err error) error {
	if err == nil {
		return nil
	}
	return &partd.Error{Op: op, Path: place(s.bucket, ""), Err: err}
}

// flushed flushes the store, unless it is open for reading only. Then it calls f, if
// there is one, which changes the store.
func (s *Store) flushed(ctx context.Context, f func() error) error {
	if err := s.usable(ctx, f != nil); err != nil || s.opts.ReadOnly {
		return err
	}
	if err := s.committing.lock(ctx); err != nil {
		return err
	}
	defer s.committing.unlock()
	if err := s.flush(ctx, false); err != nil || f == nil {
		return err
	}
	return f()
}

// flush uploads and commits all that was gathered. committing is held. As the last
// one, it leaves the store without tables.
func (s *Store) flush(ctx context.Context, last bool) error {
	if s.closed.Load() {
		return partd.ErrClosed
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	for {
		if err := s.mu.lock(ctx); err != nil {
			return err
		}
		if last && s.active.used == 0 && len(s.pending) == 0 {
			err := s.waitUploads(ctx, 0) // of what was abandoned
			if err == nil {
				s.closed.Store(true)
				s.releaseTables()
			}
			s.mu.unlock()
			return err
		}
		pieces, done, err := s.sealAll(ctx)
		s.mu.unlock()
		if err != nil {
			return err
		}
		if len(pieces) > 0 {
			if err := s.waitPieces(ctx, pieces, done); err != nil {
				return err
			}
			if err := s.commit(ctx, opEntries, pieces); err != nil {
				return err
			}
		}
		if !last {
			return nil
		}
	}
}

// sealAll empties the active table and returns what is pending, and the ends of the
// uploads that are under way. mu is held.
func (s *Store) sealAll(ctx context.Context) (pieces []*piece, done []chan struct{}, err error) {
	inline := func(p *piece) bool { return p.part.inline }
	switch {
	case s.active.used == 0:
	case int64(s.active.used) <= s.opts.hooks.inline && !slices.ContainsFunc(s.pending, inline):
		err = s.sealInline(ctx)
	default:
		err = s.seal(ctx)
	}
	for _, p := range s.uploading {
		done = append(done, p.done)
	}
	return slices.Clone(s.pending), done, err
}

// waitPieces waits until all are uploaded, while appends go on.
func (s *Store) waitPieces(ctx context.Context, pieces []*piece, done []chan struct{}) error {
	for _, d := range done {
		if err := canceled.Wait(ctx, d); err != nil {
			return err
		}
	}
	if err := s.mu.lock(ctx); err != nil {
		return err
	}
	defer s.mu.unlock()
	n := len(s.uploading)
	for n > 0 && !slices.Contains(pieces, s.uploading[n-1]) {
		n-- // a later one
	}
	return s.waitUploads(ctx, len(s.uploading)-n)
}

// commit puts a record into the log. committing is held.
func (s *Store) commit(ctx context.Context, op operation, pieces []*piece) error {
	if s.seq == 0 && s.number == 0 {
		last, largest, err := s.listLog(ctx, "")
		if err != nil {
			return err
		}
		if largest > 0 {
			s.number = last + 1
		}
	}
	r := record{number: s.number, op: op, writer: s.writer, seq: s.seq + 1}
	c := &commitment{number: s.number}
	for _, p := range pieces {
		r.parts = append(r.parts, p.part)
		if !p.part.inline && (c.born.IsZero() || p.born.Before(c.born)) {
			c.born = p.born
		}
	}
	if op == opEntries { // of a set once, nothing is pending
		c.pieces = len(pieces)
	}
	c.data = r.encode(s.format)
	s.doubt = c
	return s.settle(ctx)
}

// SetOnce sets a key if it does not exist yet; see [partd.Setter]. The order of
// the log decides which process was first.
func (s *Store) SetOnce(ctx context.Context, key string, value []byte) error {
	if _, err := partd.CheckEntries("set once", []partd.Entry{{Key: key, Value: value}}); err != nil {
		return err
	}
	return s.errorf("set once", s.flushed(ctx, func() error {
		_, size := cost(len(key), len(value))
		if most := s.opts.Memory / 16; size > most { // which is made, and encoded, at once
			return fmt.Errorf("%w: a value set once takes %d bytes, and at most %d, a sixteenth of the store's memory, are possible",
				partd.ErrTooLarge, size, most)
		}
		t, err := newTable(max(size, 1<<12))
		if err != nil {
			return err
		}
		defer t.release()
		if err := s.put(ctx, t, segment.KindSet, key, value); err != nil {
			return err
		}
		p, err := s.alone(ctx, t)
		if err != nil {
			return err
		}
		return s.commit(ctx, opOnce, []*piece{p})
	}))
}

// alone makes a piece of a table that goes into a record of its own.
func (s *Store) alone(ctx context.Context, t *table) (*piece, error) {
	if err := s.mu.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.unlock()
	if err := s.waitUploads(ctx, uploads-1); err != nil { // for an encoder
		return nil, err
	}
	p, err := s.encodeInline(t)
	if err != nil || int64(t.used) <= s.opts.hooks.inline {
		return p, err
	}
	data := p.part.bytes
	p.part.inline = false
	if p.part.bytes, err = footerOf(fileOf(s.format, s.writer, p.part.n), data); err != nil {
		return nil, err
	}
	err = s.create(ctx, segmentName(s.writer, p.part.n), data)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return p, err
}

// Drop removes every key; see [partd.Partd]. The objects remain, since other
// processes may be reading them: [Store.Sweep] deletes them once they are a day
// old.
func (s *Store) Drop(ctx context.Context) error {
	return s.errorf("drop", s.flushed(ctx, func() error { return s.commit(ctx, opDrop, nil) }))
}
