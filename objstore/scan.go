package objstore

import (
	"context"
	"errors"
	"iter"
	"math"
	"math/bits"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// Scan yields every key with its value; see [partd.Scanner]. It reads a snapshot: the
// state of the log when the scan starts. At the end it compares everything read with
// the ledgers of all segments.
func (s *Store) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return s.ScanPart(ctx, 0, 1)
}

// ScanPart yields the keys of one part; see [partd.PartScanner].
func (s *Store) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		err := partd.CheckPart(part, parts)
		if err == nil {
			if err = s.scan(ctx, part, parts, yield); err != nil {
				err = &partd.Error{Op: "scan", Err: err}
			}
		}
		if err != nil && !errors.Is(err, errStop) {
			yield(partd.Chunk{}, err)
		}
	}
}

// partOf returns the hashes of a part.
func partOf(part, parts int) interval {
	lo, _ := bits.Div64(uint64(part), 0, uint64(parts))
	if part+1 == parts {
		return interval{lo, math.MaxUint64}
	}
	hi, _ := bits.Div64(uint64(part+1), 0, uint64(parts))
	return interval{lo, hi - 1}
}

// scan is ScanPart. Its error is errStop where the caller has enough.
func (s *Store) scan(ctx context.Context, part, parts int, yield func(partd.Chunk, error) bool) error {
	v, err := s.current(ctx)
	if err != nil {
		return err
	}
	memory, giveBack := s.scans.take()
	defer giveBack()
	sc := &scanner{store: s, view: v, budget: budgetOf(memory), yield: yield}
	sc.groups.format = s.format
	all := partOf(part, parts)
	if sh := v.share(all); s.opts.onDisk(&sh, sc.budget) {
		err = sc.regroup(ctx, all, sh.piling(sc.budget))
	} else {
		err = sc.passes(ctx, all)
	}
	if err != nil {
		return err
	}
	if parts > 1 || s.opts.hooks.noLedger {
		return nil
	}
	var want segment.Ledger
	for _, g := range v.segments {
		want.Add(g.ledger)
	}
	found := sc.groups.ledger
	found.Add(sc.wide)
	if err := want.Diff(found); err != nil {
		return corrupt(place(s.bucket, "seg"), err)
	}
	return nil
}

// scanner is one reading of a part of the store.
type scanner struct {
	store  *Store
	view   view
	budget int64 // memory of what is read, and of the groups made of it
	yield  func(partd.Chunk, error) bool
	groups groups
	wide   segment.Ledger // of what was streamed
	buf    []byte
}

// passes reads interval after interval of all segments, and yields what is in it.
func (sc *scanner) passes(ctx context.Context, all interval) error {
	lo, over := all.lo, false
	more := func() *pass {
		if over {
			return nil
		}
		iv, bytes, tooLarge := sc.view.next(lo, all.hi, sc.budget)
		lo, over = iv.hi+1, iv.hi == all.hi
		if tooLarge {
			return &pass{wide: func(ctx context.Context) error { return sc.scanWide(ctx, sc.each, iv) }}
		}
		return &pass{load: func(ctx context.Context) *loaded { return sc.loadAll(ctx, 0, len(sc.view.segments), iv, bytes) }}
	}
	return sc.run(ctx, more, sc.emit)
}

// pass is something to be read: loaded, or, where it does not fit in memory, streamed.
type pass struct {
	load func(ctx context.Context) *loaded
	wide func(ctx context.Context) error
	done chan *loaded
}

// run reads one pass after the other, each while the one before is used. One that is
// streamed needs the memory for itself.
func (sc *scanner) run(ctx context.Context, more func() *pass, use func(context.Context, *loaded) error) error {
	ctx, cancel := context.WithCancel(ctx)
	start := func() *pass {
		p := more()
		if p != nil && p.load != nil {
			p.done = make(chan *loaded, 1)
			go func() { p.done <- p.load(ctx) }()
		}
		return p
	}
	next := start()
	defer func() {
		cancel()
		if next != nil && next.load != nil {
			(<-next.done).release()
		}
	}()
	for next != nil {
		p := next
		next = nil
		if p.load == nil {
			if err := p.wide(ctx); err != nil {
				return err
			}
			next = start()
			continue
		}
		l := <-p.done
		next = start()
		err := l.err
		if err == nil {
			err = use(ctx, l)
		}
		l.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// emit groups what was read, and yields it.
func (sc *scanner) emit(ctx context.Context, l *loaded) error {
	gs := &sc.groups
	if err := gs.add(sc.view, l); err != nil {
		return err
	}
	for i := range gs.keys {
		k := &gs.keys[i]
		if !k.exists {
			continue
		}
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		if sc.store.closed.Load() {
			return partd.ErrClosed
		}
		c := chunker{key: string(gs.entry(k.at).Key), buf: sc.buf[:0], yield: sc.yield}
		ok := gs.pieces(k, c.add) && c.emit(true)
		sc.buf = c.buf
		if !ok {
			return errStop
		}
	}
	return nil
}

// Keys yields each key with its size; see [partd.Lister]. It reads what Scan reads.
func (s *Store) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		for c, err := range s.Scan(ctx) {
			if err != nil {
				yield(partd.KeyInfo{}, err)
				return
			}
			if c.Last && !yield(partd.KeyInfo{Key: c.Key, Size: c.Offset + int64(len(c.Data))}, nil) {
				return
			}
		}
	}
}

// Stat counts keys and bytes; see [partd.Statter]. It reads as much as Scan. Disk is
// the size of the committed segments in the bucket.
func (s *Store) Stat(ctx context.Context) (partd.Stats, error) {
	st, err := partd.Stat(ctx, struct {
		partd.Partd
		partd.Lister
	}{s, s})
	if err != nil {
		return st, err
	}
	if err := s.catalog.mu.lock(ctx); err != nil {
		return st, &partd.Error{Op: "stat", Err: err}
	}
	defer s.catalog.mu.unlock()
	for _, g := range s.catalog.segments {
		st.Disk += g.End
	}
	st.Memory = s.MemoryUsed()
	return st, nil
}
