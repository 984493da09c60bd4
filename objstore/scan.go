package objstore

import (
	"context"
	"errors"
	"iter"
	"math"
	"math/bits"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/storekit"
)

// Scan yields every key with its value; see [partd.Scanner]. It yields the state that the store has when
// the scan starts. At the end, it compares all entries with checksums that were computed when they were
// appended.
func (s *Store) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return s.ScanPart(ctx, 0, 1)
}

// ScanPart yields the keys of one part; see [partd.PartScanner].
func (s *Store) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		err := storekit.CheckPart(part, parts)
		if err == nil {
			err = s.errorf("scan", s.scan(ctx, part, parts, yield))
		}
		if err != nil && !errors.Is(err, errStop) {
			yield(partd.Chunk{}, err)
		}
	}
}

// partOf returns the interval of hashes that belong to a part.
func partOf(part, parts int) interval {
	lo, _ := bits.Div64(uint64(part), 0, uint64(parts))
	if part+1 == parts {
		return interval{lo, math.MaxUint64}
	}
	hi, _ := bits.Div64(uint64(part+1), 0, uint64(parts))
	return interval{lo, hi - 1}
}

// scan implements ScanPart. It returns errStop if the caller stops the iteration.
func (s *Store) scan(ctx context.Context, part, parts int, yield func(partd.Chunk, error) bool) error {
	v, err := s.flushAndRefresh(ctx)
	if err != nil {
		return err
	}
	memory, release := s.scans.reserveBudget()
	defer release()
	sc := &scanner{store: s, view: v, budget: passBudget(memory), yield: yield}
	sc.groups.format = s.format
	iv := partOf(part, parts)
	if sh := v.share(iv); s.opts.usesDisk(&sh, sc.budget) {
		err = sc.regroup(ctx, iv, sh.pileLayout(sc.budget))
	} else {
		err = sc.readInPasses(ctx, iv)
	}
	if err != nil {
		return err
	}
	if parts > 1 {
		return nil
	}
	var expected segment.Ledger
	for _, g := range v.segments {
		expected.Add(g.ledger)
	}
	ledger := sc.groups.ledger
	ledger.Add(sc.streamedLedger)
	if err := expected.Diff(ledger); err != nil {
		return corrupt(objectPath(s.bucket, "seg"), err)
	}
	return nil
}

// scanner is a running Scan, ScanPart, Get or Open.
type scanner struct {
	store          *Store
	view           view
	budget         int64 // memory for a pass's loaded data and its groups, in bytes
	yield          func(partd.Chunk, error) bool
	groups         groups
	streamedLedger segment.Ledger // checksums of the entries that were processed without loading them into groups
	buf            []byte
}

// readInPasses yields the keys of an interval. It reads one part of the interval after another from
// all segments.
func (sc *scanner) readInPasses(ctx context.Context, whole interval) error {
	lo, isDone := whole.lo, false
	nextPass := func() *pass {
		if isDone {
			return nil
		}
		iv, bytes, tooLarge := sc.view.nextInterval(lo, whole.hi, sc.budget)
		lo, isDone = iv.hi+1, iv.hi == whole.hi
		if tooLarge {
			return &pass{stream: func(ctx context.Context) error { return sc.scanWide(ctx, sc.eachEntry, iv) }}
		}
		return &pass{load: func(ctx context.Context) *loadedInterval { return sc.loadAll(ctx, 0, len(sc.view.segments), iv, bytes) }}
	}
	return sc.run(ctx, nextPass, sc.emit)
}

// pass is one step of reading. Either load is set, which reads data into memory, or stream is set,
// which reads and processes data that does not fit in memory.
type pass struct {
	load   func(ctx context.Context) *loadedInterval
	stream func(ctx context.Context) error
	done   chan *loadedInterval // receives the result of load
}

// run executes passes. It loads the next pass while process handles the previous one. A pass with
// stream runs alone, because it needs all memory.
func (sc *scanner) run(ctx context.Context, nextPass func() *pass, process func(context.Context, *loadedInterval) error) error {
	ctx, cancel := context.WithCancel(ctx)
	start := func() *pass {
		p := nextPass()
		if p != nil && p.load != nil {
			p.done = make(chan *loadedInterval, 1)
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
			if err := p.stream(ctx); err != nil {
				return err
			}
			next = start()
			continue
		}
		l := <-p.done
		next = start()
		err := l.err
		if err == nil {
			err = process(ctx, l)
		}
		l.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// emit groups loaded entries by key, and yields each key's value.
func (sc *scanner) emit(ctx context.Context, l *loadedInterval) error {
	gs := &sc.groups
	if err := gs.load(sc.view, l); err != nil {
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
		c := chunker{key: string(gs.entry(k.entryOffset).Key), buf: sc.buf[:0], yield: sc.yield}
		ok := gs.eachPiece(k, c.add) && c.emit(true)
		sc.buf = c.buf
		if !ok {
			return errStop
		}
	}
	return nil
}

// Keys yields each key with its size; see [partd.Lister]. It reads as much as Scan.
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

// Stat counts keys and bytes; see [partd.Statter]. It reads as much as Scan. Disk is the size of the
// committed segments in the bucket.
func (s *Store) Stat(ctx context.Context) (partd.Stats, error) {
	stats, err := partd.Stat(ctx, struct {
		partd.Partd
		partd.Lister
	}{s, s})
	if err != nil {
		return stats, err
	}
	if err := s.catalog.mu.lock(ctx); err != nil {
		return stats, &partd.Error{Op: "stat", Err: err}
	}
	defer s.catalog.mu.unlock()
	for _, g := range s.catalog.segments {
		stats.Disk += g.End
	}
	stats.Memory = s.MemoryUsed()
	return stats, nil
}
