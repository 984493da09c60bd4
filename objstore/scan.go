package objstore

import (
	"context"
	"errors"
	"iter"
	"math"
	"math/bits"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
)

// Scan yields every key with its value; see [partd.Scanner]. It is a snapshot of what
// the log has at its start. At the end it compares what it read with the ledgers of all
// segments.
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
	sc := &scanner{store: s, view: v, budget: min(memory/2, maxArena), yield: yield}
	sc.groups.format = s.format
	all := partOf(part, parts)
	if err := sc.passes(ctx, all); err != nil {
		return err
	}
	if parts > 1 || s.opts.hooks.noLedger {
		return nil
	}
	var want segment.Ledger
	for _, g := range v.segments {
		want.Add(g.ledger)
	}
	if err := want.Diff(sc.ledger()); err != nil {
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

func (sc *scanner) ledger() segment.Ledger {
	l := sc.groups.ledger
	l.Add(sc.wide)
	return l
}

// passes reads interval by interval, each while the one before is grouped and yielded.
func (sc *scanner) passes(ctx context.Context, all interval) error {
	ctx, cancel := context.WithCancel(ctx)
	next := sc.start(ctx, all.lo, all.hi)
	defer func() {
		cancel()
		if next != nil {
			(<-next.done).release()
		}
	}()
	for next != nil {
		p := next
		l := <-p.done
		next = nil
		if p.hi < all.hi {
			if !p.tooLarge { // which needs the memory for itself
				next = sc.start(ctx, p.hi+1, all.hi)
			}
		}
		err := l.err
		if err == nil && p.tooLarge {
			err = sc.scanWide(ctx, p.interval)
		} else if err == nil {
			err = sc.emit(ctx, l)
		}
		l.release()
		if err != nil {
			return err
		}
		if next == nil && p.hi < all.hi {
			next = sc.start(ctx, p.hi+1, all.hi)
		}
	}
	return nil
}

// pass is an interval that is being read.
type pass struct {
	interval
	tooLarge bool
	done     chan *loaded
}

func (sc *scanner) start(ctx context.Context, lo, hi uint64) *pass {
	iv, bytes, tooLarge := sc.view.next(lo, hi, sc.budget)
	p := &pass{iv, tooLarge, make(chan *loaded, 1)}
	if tooLarge {
		p.done <- &loaded{}
		return p
	}
	go func() { p.done <- sc.store.loadAll(ctx, sc.view, iv, bytes) }()
	return p
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
			return context.Cause(ctx)
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

// Stat counts keys and bytes, for which it reads what Scan reads; see [partd.Statter].
// Disk is what the segments that count take of the bucket.
func (s *Store) Stat(ctx context.Context) (partd.Stats, error) {
	st, err := partd.Stat(ctx, struct {
		partd.Partd
		partd.Lister
	}{s, s})
	if err != nil {
		return st, err
	}
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	for _, g := range s.catalog.segments {
		st.Disk += g.End
	}
	st.Memory = s.MemoryUsed()
	return st, nil
}
