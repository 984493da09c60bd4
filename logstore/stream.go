package logstore

import (
	"context"
	"io"
	"math"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/storekit"
)

// keyStream yields the pieces of one key in order, splitting large pieces into blocks.
type keyStream struct {
	view *view
	key  []byte
	hash uint64

	// Position of the key's last Set or Delete. Earlier entries do not belong to the value:
	// those in sources before startSource (see view.sources), and the key's first startEntry
	// entries in startSource.
	startSource, startEntry int
	exists                  bool // the key exists after the entries read so far

	// If ledger is not nil, all entries of the key are added to it.
	ledger *Ledger

	source   int
	entry    int // index of the key's next entry in this source
	started  bool
	inHotRun bool
	run      segment.Reader
	er       segment.EntryReader
	blob     segment.BlobReader
	inBlob   bool
	piece    ledger.Piece
}

func (v *view) newKeyStream(key []byte, hash uint64, ledger *Ledger) (*keyStream, error) {
	ks := &keyStream{view: v, key: key, hash: hash, ledger: ledger}
	if err := ks.findStart(); err != nil {
		return nil, err
	}
	if ledger == nil {
		ks.source = ks.startSource
	}
	return ks, nil
}

// findStart finds the key's last Set or Delete.
func (ks *keyStream) findStart() error {
	for i := ks.view.sources() - 1; i >= 0; i-- {
		if i < len(ks.view.segments) && ks.view.segments[i].ledger.Marks == 0 {
			continue
		}
		src, _ := ks.view.keySource(i, ks.hash, ks.key, &ks.run)
		n, hasReset := 0, false
		err := ks.er.Each(src, func(e *segment.Entry) error {
			if string(e.Key) != string(ks.key) {
				return nil
			}
			if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
				ks.startSource, ks.startEntry, hasReset = i, n, true
			}
			n++
			return nil
		})
		if err != nil {
			return ks.view.runError(i, err)
		}
		if hasReset {
			return nil
		}
	}
	return nil
}

// next returns the next bytes of the value, or io.EOF at its end. The bytes are valid until
// the next call.
func (ks *keyStream) next() ([]byte, error) {
	for {
		b, visible, err := ks.step()
		if err != nil {
			return nil, err
		}
		if visible && len(b) > 0 {
			return b, nil
		}
	}
}

// step advances by one entry, or by one block of a large value, and returns its bytes. visible
// is false for bytes from before the key's last Set or Delete.
func (ks *keyStream) step() (b []byte, visible bool, err error) {
	visible = ks.source > ks.startSource || ks.source == ks.startSource && ks.entry > ks.startEntry
	if ks.inBlob {
		b, err = ks.blob.Next()
		if err == io.EOF {
			ks.inBlob = false
			if ks.ledger != nil {
				ks.ledger.AddPiece(&ks.piece)
			}
			return nil, false, nil
		}
		if err == nil && ks.ledger != nil {
			ks.piece.Add(b)
		}
		return b, visible, err
	}
	if ks.source == ks.view.sources() {
		return nil, false, io.EOF
	}
	if !ks.started {
		src, hotRun := ks.view.keySource(ks.source, ks.hash, ks.key, &ks.run)
		ks.er.Reset(src)
		ks.inHotRun, ks.started, ks.entry = hotRun != nil, true, 0
	}
	e, err := ks.er.Next()
	if err == io.EOF {
		ks.source, ks.started = ks.source+1, false
		return nil, false, nil
	}
	if err != nil {
		return nil, false, ks.view.runError(ks.source, err)
	}
	if string(e.Key) != string(ks.key) {
		if ks.inHotRun {
			seg := ks.view.segments[ks.source]
			return nil, false, seg.file.Corrupt(seg.Start, wrongRangeError(e.Key))
		}
		return nil, false, nil
	}
	visible = ks.source > ks.startSource || ks.source == ks.startSource && ks.entry >= ks.startEntry
	ks.entry++
	if visible {
		ks.exists = e.Kind != segment.KindDelete
	}
	if e.Kind == segment.KindBlob {
		if !visible && ks.ledger == nil {
			return nil, false, nil
		}
		if err := ks.view.files.openBlob(e.Value, &ks.blob); err != nil {
			return nil, false, err
		}
		ks.piece.Start(string(ks.key))
		ks.inBlob = true
		return nil, false, nil
	}
	if ks.ledger != nil {
		addInline(ks.ledger, &e)
	}
	return e.Value, visible, nil
}

// maxOpenCopy is the maximum size of a table part that Open copies, in bytes. If a part is
// larger, Open flushes the tables and reads segments instead, because a table cannot be reused
// while a reader uses it.
const maxOpenCopy = 1 << 20

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
	if r.stream, err = v.newKeyStream([]byte(key), hash, nil); err != nil {
		_ = v.close()
		return nil, r.fail("open", err)
	}
	return r, nil
}

// flushedView flushes the tables and returns a view without them, so that a slow reader does not
// block the reuse of tables. If flushing fails, for example on a full disk, the view may contain
// tables. Slow readers can hold at most two tables; the store then uses two spare tables in their
// place.
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
			return nil, err // slow readers already use the maximum number of tables
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

// copyTables copies the view's part of each table to the heap, and releases the table. The view must
// have exactly one part of each table. copyTables skips large parts.
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
