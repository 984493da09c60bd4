package logstore

import (
	"errors"
	"io"
	"math"
	"slices"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
)

// errTooMuch says that a range of hashes holds more than may be loaded.
var errTooMuch = errors.New("more than may be loaded")

// partition hands over all keys of a partition.
func (w *scanWorker) partition(p *scanPartition) error {
	// Keys that have a run of their own in some segment are read by themselves,
	// whatever other segments hold of them.
	w.streamed = w.streamed[:0]
	for _, g := range w.sc.v.segments {
		w.streamed = append(w.streamed, g.HotIn(p.hashes.lo, p.hashes.hi)...)
	}
	slices.SortFunc(w.streamed, segment.CompareHot)
	w.streamed = slices.CompactFunc(w.streamed, func(a, b segment.HotRun) bool { return segment.CompareHot(a, b) == 0 })
	w.pending = w.streamed

	err := errTooMuch
	if p.size <= w.sc.loadBytes {
		err = w.loadAndGroup(p.hashes, false)
	}
	if err == errTooMuch {
		err = w.divide(p.hashes)
	}
	if err != nil {
		return err
	}
	return w.emitPending(math.MaxUint64, nil)
}

func (w *scanWorker) isStreamed(hash uint64, key []byte) bool { return findHot(w.streamed, hash, key) }

// source returns the entries of a source whose hashes are in a range, and of others
// in the same ranges of the source, which are returned.
func (w *scanWorker) source(i int, r hashRange) (src segment.Source, read hashRange) {
	whole := func(bits uint8) {
		read.lo, read.hi = segment.Bounds(segment.Range(r.lo, bits), segment.Range(r.hi, bits)+1, bits)
	}
	if i < len(w.sc.v.segments) {
		g := w.sc.v.segments[i]
		whole(g.Bits)
		return g.ranges(&w.reader, r.lo, r.hi), read
	}
	t := &w.sc.v.tables[i-len(w.sc.v.segments)]
	whole(t.t.bits)
	var blocks [][]byte
	for p := segment.Range(r.lo, t.t.bits); p <= segment.Range(r.hi, t.t.bits); p++ {
		blocks = append(blocks, t.t.blocksOf(t.parts[p-t.base])...)
	}
	return &segment.Slices{Blocks: blocks}, read
}

// loadAndGroup loads a range of hashes and hands its keys over. With errTooMuch,
// nothing was handed over or charged to the ledger; that does not happen with
// filter, before which the entries were counted.
func (w *scanWorker) loadAndGroup(r hashRange, filter bool) error {
	if w.arena == nil {
		var err error
		if w.arena, err = offheap.Allocate(int(w.sc.loadBytes)); err != nil {
			return err
		}
	}
	w.loaded, w.within, w.filtered = w.arena[:0], r, filter
	for i := range w.sc.v.sources() {
		src, read := w.source(i, r)
		var err error
		if read == r && !filter {
			err = segment.EachBlock(src, w.load)
		} else {
			err = w.loadSome(i, r, filter)
		}
		if err == errTooMuch {
			return err
		}
		if err != nil {
			return w.sc.v.runError(i, err)
		}
	}
	return w.group(r)
}

// loadSome loads the entries of a source that belong to a range of hashes, without
// streamed keys if asked.
func (w *scanWorker) loadSome(source int, r hashRange, noStreamed bool) error {
	return w.eachIn(source, r, func(e *segment.Entry, hash uint64) error {
		if noStreamed && w.isStreamed(hash, e.Key) {
			return w.account(e)
		}
		return w.load(e.Raw)
	})
}

// load adds whole entries, or pieces of them, to what is loaded.
func (w *scanWorker) load(b []byte) error {
	if err := canceled.Err(w.sc.ctx); err != nil {
		return err
	}
	if len(w.loaded)+len(b) > cap(w.loaded) {
		return errTooMuch
	}
	w.loaded = append(w.loaded, b...)
	return nil
}

// eachIn calls f for each entry of a source whose hash is in a range.
func (w *scanWorker) eachIn(source int, r hashRange, f func(e *segment.Entry, hash uint64) error) error {
	src, read := w.source(source, r)
	return segment.EachEntry(src, func(e *segment.Entry) error {
		if err := canceled.Err(w.sc.ctx); err != nil {
			return err
		}
		h := w.sc.s.format.HashBytes(e.Key)
		if r.contains(h) {
			return f(e, h)
		}
		if !read.contains(h) {
			return w.sc.s.corrupt(wrongRange(e.Key))
		}
		return nil
	})
}

// account charges the ledger with an entry that is not grouped.
func (w *scanWorker) account(e *segment.Entry) error {
	if w.sc.keysOnly {
		return nil
	}
	if e.Kind == segment.KindBlob {
		return w.readBlob(e.Key, e.Value, ignore)
	}
	account(&w.ledger, e)
	return nil
}

// emitPending hands over the streamed keys up to one, by hash and key; without a
// key all of them.
func (w *scanWorker) emitPending(hash uint64, key []byte) error {
	upTo := segment.HotRun{Hash: hash, Key: key}
	for len(w.pending) > 0 && (key == nil || segment.CompareHot(w.pending[0], upTo) <= 0) {
		k := &w.pending[0]
		w.pending = w.pending[1:]
		if err := w.emitStream(k.Key, k.Hash, &w.ledger); err != nil {
			return err
		}
	}
	return nil
}

// emitStream hands over one key, which is read by itself.
func (w *scanWorker) emitStream(key []byte, hash uint64, ledger *Ledger) error {
	if w.sc.keysOnly {
		return w.emitSize(key, hash)
	}
	k, err := w.sc.v.newKeyStream(key, hash, ledger)
	if err != nil {
		return err
	}
	if err := w.begin(key); err != nil {
		return err
	}
	for {
		b, visible, err := k.step()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = canceled.Err(w.sc.ctx)
		}
		if err == nil && visible {
			err = w.bytes(b)
		}
		if err != nil {
			return err
		}
	}
	if k.exists {
		w.end()
	}
	return nil
}
