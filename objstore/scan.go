package objstore

import (
	"context"
	"errors"
	"iter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/storekit"
)

// Scan yields every key with its value; see [partd.Scanner]. It yields the state that the store has when
// the scan starts. At the end, it compares all entries with checksums that were computed when they were
// appended.
func (s *Store) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return s.ScanPart(ctx, 0, 1)
}

// ScanPart yields the keys in one part; see [partd.PartScanner].
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

// scan implements ScanPart. It returns errStop if the caller stops the iteration.
func (s *Store) scan(ctx context.Context, part, parts int, yield func(partd.Chunk, error) bool) error {
	v, err := s.flushAndRefresh(ctx)
	if err != nil {
		return err
	}
	memory, release := s.scans.reserveBudget()
	defer release()
	sc := &scanner{
		view: v, disk: &s.disk, closed: &s.closed, budget: passBudget(memory), yield: yield, groups: groups{format: s.format},
	}
	iv := partOf(part, parts)
	if share := v.share(iv); s.opts.usesDisk(&share, sc.budget) {
		err = sc.regroup(ctx, iv, share.pileLayout(sc.budget))
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

// pass is one step of reading. Either load is set, which reads data into memory, or stream is set,
// which reads and processes data that does not fit in memory.
type pass struct {
	load   func(ctx context.Context) *loadedInterval
	stream func(ctx context.Context) error
	done   chan *loadedInterval // receives the result of load
}

// run executes passes. It loads the next pass while process handles the previous one. A pass with
// stream runs alone, because it needs all of the memory.
func (sc *scanner) run(
	ctx context.Context, nextPass func() *pass, process func(context.Context, *loadedInterval) error,
) error {
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

// readInPasses yields the keys of an interval. It splits the interval into parts that fit the budget
// and reads each part from all segments before the next.
func (sc *scanner) readInPasses(ctx context.Context, iv interval) error {
	lo, isDone := iv.lo, false
	nextPass := func() *pass {
		if isDone {
			return nil
		}
		part, bytes, tooLarge := sc.view.nextInterval(lo, iv.hi, sc.budget)
		lo, isDone = part.hi+1, part.hi == iv.hi
		if tooLarge {
			return &pass{stream: func(ctx context.Context) error { return sc.scanWide(ctx, sc.eachEntry, part) }}
		}
		return &pass{load: func(ctx context.Context) *loadedInterval {
			return sc.loadAll(ctx, 0, len(sc.view.segments), part, bytes)
		}}
	}
	return sc.run(ctx, nextPass, sc.emit)
}
