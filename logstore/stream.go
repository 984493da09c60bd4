package logstore

import (
	"context"
	"io"
	"math"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// keyStream yields the pieces of one key in order, large ones in parts.
type keyStream struct {
	v    *view
	key  []byte
	hash uint64

	// Of the sources before startSource, and of the first startEntry entries in
	// it, nothing is left.
	startSource, startEntry int
	exists                  bool // whether what was read so far makes a key

	// The ledger, if there is one, is charged with entries of the key's own
	// runs, also of those of which nothing is left.
	ledger *Ledger

	source  int
	entry   int // of the key, in this source
	reading bool
	hot     bool
	run     segment.Reader
	er      segment.EntryReader
	blob    segment.BlobReader
	inBlob  bool
	piece   pieceHasher
}

func (v *view) newKeyStream(key []byte, hash uint64, ledger *Ledger) (*keyStream, error) {
	k := &keyStream{v: v, key: key, hash: hash, ledger: ledger}
	if err := k.findStart(); err != nil {
		return nil, err
	}
	if ledger == nil {
		k.source = k.startSource
	}
	return k, nil
}

// findStart finds the last reset of the key, which is only there to be found
// where the ledger of a segment says that there are any.
func (k *keyStream) findStart() error {
	for i := k.v.sources() - 1; i >= 0; i-- {
		if i < len(k.v.segments) && k.v.segments[i].ledger.Marks == 0 {
			continue
		}
		src, _ := k.v.keySource(i, k.hash, k.key, &k.run)
		n, found := 0, false
		err := k.er.Each(src, func(e *segment.Entry) error {
			if string(e.Key) != string(k.key) {
				return nil
			}
			if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
				k.startSource, k.startEntry, found = i, n, true
			}
			n++
			return nil
		})
		if err != nil {
			return k.v.runError(i, err)
		}
		if found {
			return nil
		}
	}
	return nil
}

// next returns the next bytes of the value, valid until the next call, and
// io.EOF at its end.
func (k *keyStream) next() ([]byte, error) {
	for {
		b, visible, err := k.step()
		if err != nil {
			return nil, err
		}
		if visible && len(b) > 0 {
			return b, nil
		}
	}
}

// step advances by one entry or one block of a large value.
func (k *keyStream) step() (b []byte, visible bool, err error) {
	visible = k.source > k.startSource || k.source == k.startSource && k.entry > k.startEntry
	if k.inBlob {
		b, err = k.blob.Next()
		if err == io.EOF {
			k.inBlob = false
			if k.ledger != nil && k.hot {
				k.piece.addTo(k.ledger)
			}
			return nil, false, nil
		}
		if err == nil && k.ledger != nil && k.hot {
			k.piece.write(b)
		}
		return b, visible, err
	}
	if k.source == k.v.sources() {
		return nil, false, io.EOF
	}
	if !k.reading {
		src, hot := k.v.keySource(k.source, k.hash, k.key, &k.run)
		k.er.Reset(src)
		k.hot, k.reading, k.entry = hot != nil, true, 0
	}
	e, err := k.er.Next()
	if err == io.EOF {
		k.source, k.reading = k.source+1, false
		return nil, false, nil
	}
	if err != nil {
		return nil, false, k.v.runError(k.source, err)
	}
	if string(e.Key) != string(k.key) {
		if k.hot {
			g := k.v.segments[k.source]
			return nil, false, g.file.Corrupt(g.Start, wrongRange(e.Key))
		}
		return nil, false, nil
	}
	visible = k.source > k.startSource || k.source == k.startSource && k.entry >= k.startEntry
	k.entry++
	if visible {
		k.exists = e.Kind != segment.KindDelete
	}
	if e.Kind == segment.KindBlob {
		if !visible && (k.ledger == nil || !k.hot) {
			return nil, false, nil
		}
		if err := k.v.files.openBlob(e.Value, &k.blob); err != nil {
			return nil, false, err
		}
		k.piece.start(k.key)
		k.inBlob = true
		return nil, false, nil
	}
	if k.ledger != nil && k.hot {
		account(k.ledger, &e)
	}
	return e.Value, visible, nil
}

// maxOpenCopy is how much of a key Open may copy from the tables. Beyond, they
// are written out first, so that a slow reader holds up nobody.
const maxOpenCopy = 1 << 20

// Open returns a reader of the key's current value.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := partd.CheckKeys("open", []string{key}); err != nil {
		return nil, err
	}
	r := &keyReader{ctx: ctx, key: key, dir: s.dir}
	if err := canceled.Err(ctx); err != nil {
		return nil, r.fail("open", err)
	}
	hash := s.format.Hash(key)
	s.mu.Lock()
	v, err := s.viewLocked(hash, hash)
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
		if v, err = s.flushedView(ctx, hash, hash); err != nil {
			return nil, r.fail("open", err)
		}
	}
	v.copyTables()
	if r.k, err = v.newKeyStream([]byte(key), hash, nil); err != nil {
		_ = v.close()
		return nil, r.fail("open", err)
	}
	return r, nil
}

// canFlush reports whether tables can be written out at all.
func (s *Store) canFlush() bool { return !s.opts.ReadOnly && s.poisoned() == nil && s.full() == nil }

// flushedView returns a view of all that was appended before the call, without
// a table where that is possible: whoever reads slowly must not hold one. Where
// it is not, because the disk is full for example, two tables at most are held
// at any time, for which two spare ones are made once they are needed.
func (s *Store) flushedView(ctx context.Context, lo, hi uint64) (*view, error) {
	s.life.RLock()
	defer s.life.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, partd.ErrClosed
	}
	if err := s.flushLocked(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		if s.tables.spares > 0 {
			return nil, err // the tables that others hold are all that may be held
		}
		v, e := s.viewLocked(lo, hi) // a full disk does not keep from reading
		if e == nil && len(v.tables) > 0 {
			v.slow = true
			s.tables.slow++
		}
		return v, e
	}
	return s.segmentsView(s.segments.list), nil
}

// copyTables replaces the view's one part of each table by a copy, unless it
// is large, so that the tables can be used again.
func (v *view) copyTables() {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	large := false
	for i := range v.tables {
		t := &v.tables[i]
		if t.parts[0].size > maxOpenCopy {
			large = true
			continue
		}
		c := &table{chunkSize: max(t.parts[0].size, 1), bits: t.t.bits}
		for _, b := range t.t.blocksOf(t.parts[0]) {
			c.arena = append(c.arena, b...)
		}
		c.refs.Store(math.MaxInt32 / 2) // never given back: it is the heap's
		v.s.tables.unref(t.t)
		*t = tableView{t: c, base: t.base, parts: []part{{size: len(c.arena), chunks: []uint32{0}}}}
	}
	if !large {
		v.releaseTables()
	}
}

type keyReader struct {
	ctx    context.Context
	key    string
	dir    string
	k      *keyStream
	rest   []byte
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
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		err := canceled.Err(r.ctx)
		if err == nil {
			r.rest, err = r.k.next()
		}
		if err != nil && err != io.EOF {
			err = r.fail("read", err)
		}
		r.err = err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Rewind implements [partd.Rewinder].
func (r *keyReader) Rewind() error {
	if r.closed {
		return r.fail("rewind", partd.ErrClosed)
	}
	k, err := r.k.v.newKeyStream(r.k.key, r.k.hash, nil)
	if err != nil {
		return r.fail("rewind", err)
	}
	r.k, r.rest, r.err = k, nil, nil
	return nil
}

func (r *keyReader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	return r.k.v.close()
}
