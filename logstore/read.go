package logstore

import (
	"cmp"
	"context"
	"io"
	"math"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/storekit"
)

// Get returns the value of each key, in the order of keys.
func (s *Store) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	if err := s.lookUp(ctx, "get", keys, values, nil); err != nil {
		return nil, err
	}
	return values, nil
}

// HasKey reports whether the key exists.
func (s *Store) HasKey(ctx context.Context, key string) (bool, error) {
	exists := make([]bool, 1)
	err := s.lookUp(ctx, "has", []string{key}, nil, exists)
	return err == nil && exists[0], err
}

// lookUp stores the keys' values in values and sets exists[i] if key i exists. Either slice may be
// nil. op is the operation's name in errors.
func (s *Store) lookUp(ctx context.Context, op string, keys []string, values [][]byte, exists []bool) error {
	if err := storekit.CheckKeys(op, keys); err != nil {
		return err
	}
	lo, hi := uint64(0), uint64(math.MaxUint64)
	if len(keys) == 1 {
		lo = s.format.Hash(keys[0])
		hi = lo
	}
	s.mu.Lock()
	v, err := s.views.viewOfRange(lo, hi)
	s.mu.Unlock()
	if err != nil {
		return s.opError(op, err)
	}
	err = v.get(ctx, keys, values, exists)
	if s.segments.wasted.Load() >= s.segments.wasteLimit.Load() {
		s.mu.Lock()
		s.background.startIfDue()
		s.mu.Unlock()
	}
	err = cmp.Or(err, v.close())
	if err == nil {
		return nil
	}
	e := &partd.Error{Op: op, Path: s.dir, Err: err}
	if len(keys) == 1 {
		e.Key, e.HasKey = keys[0], true
	}
	return e
}

// Open returns a reader of the key's current value.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := storekit.CheckKeys("open", []string{key}); err != nil {
		return nil, err
	}
	r := &keyReader{ctx: ctx, key: key, dir: s.dir}
	if err := canceled.Err(ctx); err != nil {
		return nil, r.fail("open", err)
	}
	hash := s.format.Hash(key)
	s.mu.Lock()
	v, err := s.views.viewOfRange(hash, hash)
	s.mu.Unlock()
	if err != nil {
		return nil, r.fail("open", err)
	}
	large := false
	for i := range v.tables {
		large = large || v.tables[i].parts[0].size > maxOpenCopy
	}
	if large && s.canFlush() {
		if err := v.close(); err != nil {
			return nil, r.fail("open", err)
		}
		v, err = s.flushedView(ctx, hash, hash)
		if err != nil {
			return nil, r.fail("open", err)
		}
	}
	v.copyTables()
	r.stream, err = v.newKeyStream([]byte(key), hash, nil)
	if err != nil {
		_ = v.close() // an error is harmless, because the view was only read
		return nil, r.fail("open", err)
	}
	return r, nil
}

// flushedView flushes the tables and returns a view without them, so that a slow reader does not
// block the reuse of tables. If flushing fails, for example on a full disk, the view may contain
// tables. Slow readers can hold at most two tables, which two spare tables then replace.
func (s *Store) flushedView(ctx context.Context, lo, hi uint64) (*view, error) {
	s.lifeMu.RLock()
	defer s.lifeMu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, partd.ErrClosed
	}
	if err := s.journal.flush(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		if s.tables.spares > 0 {
			return nil, err // slow readers already use the maximum number of tables
		}
		v, viewErr := s.views.viewOfRange(lo, hi) // the data can be read even on a full disk
		if viewErr == nil && len(v.tables) > 0 {
			v.slowReader = true
			s.tables.slowReaders++
		}
		return v, viewErr
	}
	return s.views.viewOfSegments(s.segments.list), nil
}

func (s *Store) scanView(ctx context.Context) (*view, error) {
	if s.dir != "" && s.canFlush() {
		return s.flushedView(ctx, allHashes.lo, allHashes.hi)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.views.viewOfRange(allHashes.lo, allHashes.hi)
}

type keyReader struct {
	ctx    context.Context
	key    string
	dir    string
	stream *keyStream
	unread []byte
	err    error
	closed bool
}

func (r *keyReader) fail(op string, err error) error {
	return &partd.Error{Op: op, Key: r.key, HasKey: true, Path: r.dir, Err: err}
}

func (r *keyReader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, r.fail("read", partd.ErrClosed)
	}
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.unread) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		err := canceled.Err(r.ctx)
		if err == nil {
			r.unread, err = r.stream.next()
		}
		if err != nil && err != io.EOF {
			err = r.fail("read", err)
		}
		r.err = err
	}
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}

// Rewind implements [storekit.Rewinder].
func (r *keyReader) Rewind() error {
	if r.closed {
		return r.fail("rewind", partd.ErrClosed)
	}
	ks, err := r.stream.view.newKeyStream(r.stream.key, r.stream.hash, nil)
	if err != nil {
		return r.fail("rewind", err)
	}
	r.stream, r.unread, r.err = ks, nil, nil
	return nil
}

func (r *keyReader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	return r.stream.view.close()
}
