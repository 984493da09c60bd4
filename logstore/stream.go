package logstore

import (
	"context"
	"io"
	"math"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// keyStream yields the pieces of one key in order, splitting large pieces into blocks.
type keyStream struct {
	view *view
	key  []byte
	hash uint64

	// The last reset of the key: the value does not depend on earlier sources, or on the
	// first startEntry entries of startSource.
	startSource, startEntry int
	exists                  bool // whether the key exists after the entries read so far

	// If ledger is not nil, entries in the key's hot runs are added to it, including dead ones.
	ledger *Ledger

	source  int
	entry   int // index of the key's next entry in this source
	reading bool
	hot     bool
	run     segment.Reader
	er      segment.EntryReader
	blob    segment.BlobReader
	inBlob  bool
	piece   pieceHasher
}

func (v *view) newKeyStream(key []byte, hash uint64, ledger *Ledger) (*keyStream, error) {
	k := &keyStream{view: v, key: key, hash: hash, ledger: ledger}
	if err := k.findStart(); err != nil {
		return nil, err
	}
	if ledger == nil {
		k.source = k.startSource
	}
	return k, nil
}

// findStart finds the last reset of the key. It skips segments whose ledgers have no resets.
func (k *keyStream) findStart() error {
	for i := k.view.sources() - 1; i >= 0; i-- {
		if i < len(k.view.segments) && k.view.segments[i].ledger.Marks == 0 {
			continue
		}
		src, _ := k.view.keySource(i, k.hash, k.key, &k.run)
		n, exists := 0, false
		err := k.er.Each(src, func(e *segment.Entry) error {
			if string(e.Key) != string(k.key) {
				return nil
			}
			if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
				k.startSource, k.startEntry, exists = i, n, true
			}
			n++
			return nil
		})
		if err != nil {
			return k.view.runError(i, err)
		}
		if exists {
			return nil
		}
	}
	return nil
}

// next returns the next bytes of the value, or io.EOF at its end. They are valid until
// the next call.
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

// step advances by one entry, or by one block of a large value.
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
	if k.source == k.view.sources() {
		return nil, false, io.EOF
	}
	if !k.reading {
		src, hot := k.view.keySource(k.source, k.hash, k.key, &k.run)
		k.er.Reset(src)
		k.hot, k.reading, k.entry = hot != nil, true, 0
	}
	e, err := k.er.Next()
	if err == io.EOF {
		k.source, k.reading = k.source+1, false
		return nil, false, nil
	}
	if err != nil {
		return nil, false, k.view.runError(k.source, err)
	}
	if string(e.Key) != string(k.key) {
		if k.hot {
			g := k.view.segments[k.source]
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
		if err := k.view.files.openBlob(e.Value, &k.blob); err != nil {
			return nil, false, err
		}
		k.piece.start(k.key)
		k.inBlob = true
		return nil, false, nil
	}
	if k.ledger != nil && k.hot {
		addInline(k.ledger, &e)
	}
	return e.Value, visible, nil
}

// maxOpenCopy is the maximum amount of a key's data that Open copies from the tables. If
// there is more, Open flushes them first, so that a slow reader blocks no other call.
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

// canFlush reports whether the store can write tables as segments.
func (s *Store) canFlush() bool {
	return !s.opts.ReadOnly && s.checkPoisoned() == nil && s.fullError() == nil
}

// flushedView returns a view of everything appended before the call. It flushes the
// tables first, so that a slow reader does not retain them. If that fails, for example on
// a full disk, the view may contain tables. Slow readers retain at most two tables; two
// spare ones replace them when necessary.
func (s *Store) flushedView(ctx context.Context, lo, hi uint64) (*view, error) {
	s.lifeMu.RLock()
	defer s.lifeMu.RUnlock()
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
			return nil, err // slow readers already retain all tables that they may
		}
		v, viewErr := s.viewLocked(lo, hi) // the data can be read even on a full disk
		if viewErr == nil && len(v.tables) > 0 {
			v.slowReader = true
			s.tables.slowReaders++
		}
		return v, viewErr
	}
	return s.segmentsView(s.segments.list), nil
}

// copyTables replaces the view's single part of each table with a copy, unless it is
// large. So the tables can be reused.
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
		c.refs.Store(math.MaxInt32 / 2) // never released, because it is on the heap
		v.s.tables.release(t.t)
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
	k, err := r.k.view.newKeyStream(r.k.key, r.k.hash, nil)
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
	return r.k.view.close()
}
