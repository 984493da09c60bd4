package shuffle

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"unsafe"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/spill"
)

// SortFunc yields records in the order of a comparison function, like slices.SortStableFunc:
// compare returns a negative number if a comes before b, and 0 if they are equal. If keys can
// express the order, use [Sort], which is several times faster, because it compares bytes and
// merges records without decoding them.
func SortFunc[T any](ctx context.Context, in iter.Seq2[T, error], compare func(a, b T) int, o *Options[T]) iter.Seq2[T, error] {
	return pipe(in, func() (*FuncSorter[T], error) { return NewFuncSorter(ctx, compare, o) }, (*FuncSorter[T]).Feed, (*FuncSorter[T]).Sorted)
}

// FuncSorter accepts records and sorts them by a comparison function.
type FuncSorter[T any] struct {
	engine  spill.Engine // engine.Mu guards the fields from memRecords on
	compare func(a, b T) int
	codec   encode.ValueCodec[T]
	limit   int // maximum bytes of records in memory
	fanIn   int // maximum number of runs to merge at a time
	meter   *meter

	memRecords []memRecord[T]
	encoded    []byte // the encodings of memRecords
	input      ledger.Count
	runs       []*spill.File
	spilled    int64
}

// memRecord is a record in memory. Its encoding is FuncSorter.encoded[from:to].
type memRecord[T any] struct {
	record   T
	from, to int
}

// NewFuncSorter returns a sorter that uses a comparison function. Within each feed, records that
// compare equal keep their order. The caller must close the sorter.
func NewFuncSorter[T any](ctx context.Context, compare func(a, b T) int, o *Options[T]) (*FuncSorter[T], error) {
	if compare == nil {
		return nil, errors.New("the comparison function is nil: pass a function")
	}
	c, err := o.resolveNoStore()
	if err != nil {
		return nil, err
	}
	// Use only a quarter of the memory, because memRecords grows by doubling, and the old copy
	// takes memory until it is garbage-collected.
	s := &FuncSorter[T]{
		engine: spill.Engine{Memory: c.Memory, Threads: c.Threads, Temp: c.temp}, compare: compare, codec: c.Codec,
		limit: int(c.Memory / 4), fanIn: max(int(c.Memory/4/(2*funcBlock)), 2), meter: c.meter,
	}
	if err := s.engine.Start(ctx, "sorting", 1); err != nil {
		return nil, err
	}
	return s, nil
}

// Feed returns a feed. Feeds wait for each other.
func (s *FuncSorter[T]) Feed() (*Feed[T], error) {
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	if err := s.engine.OpenWriter(); err != nil {
		return nil, err
	}
	tally := s.meter.newInTally()
	return &Feed[T]{
		mu: &s.engine.Mu, tally: tally,
		add: func(v T) error {
			n, err := s.add(v)
			tally.add(n)
			return err
		},
		finish: func() error { s.engine.Writers--; return nil },
	}, nil
}

// add adds a record to memRecords, and returns the size of its encoding. engine.Mu must be held, or
// there must be only one feed.
func (s *FuncSorter[T]) add(v T) (int, error) {
	from := len(s.encoded)
	encoded, err := s.codec.Encode(s.encoded, v)
	if err != nil {
		return 0, fmt.Errorf("encoding a record: %w", err)
	}
	h := memRecord[T]{from: from, to: len(encoded)}
	// The caller may modify v, so keep a decoded copy.
	if h.record, err = s.codec.Decode(encoded[from:]); err != nil {
		return 0, fmt.Errorf("decoding a record: %w", err)
	}
	s.encoded = encoded
	s.memRecords = append(s.memRecords, h)
	s.input.AddRecord(s.encoded[from:])
	// Besides the struct, a decoded record can need as much memory as its encoding.
	if 2*len(s.encoded)+len(s.memRecords)*int(unsafe.Sizeof(h)) > s.limit {
		err = s.spill()
	}
	return h.to - h.from, err
}

func (s *FuncSorter[T]) sortMemRecords() {
	slices.SortStableFunc(s.memRecords, func(a, b memRecord[T]) int { return s.compare(a.record, b.record) })
}

// spill writes the records in memory as a run.
func (s *FuncSorter[T]) spill() error {
	s.sortMemRecords()
	r, err := s.newRun()
	if err != nil {
		return err
	}
	s.runs = append(s.runs, r)
	for _, h := range s.memRecords {
		if err := addToRun(r, s.encoded[h.from:h.to]); err != nil {
			return err
		}
	}
	clear(s.memRecords)
	s.memRecords, s.encoded = s.memRecords[:0], s.encoded[:0]
	err = s.endRun(r)
	if n := spill.EarlyMerge(s.runs, s.fanIn); err == nil && n > 0 {
		err = s.mergeSome(n)
	}
	return err
}

func (s *FuncSorter[T]) newRun() (*spill.File, error) {
	if err := canceled.Err(s.engine.Ctx); err != nil {
		return nil, err
	}
	return spill.Create(s.engine.Temp, "sorted records", funcBlock)
}

func (s *FuncSorter[T]) endRun(r *spill.File) error {
	err := r.Finish()
	s.spilled += r.Size()
	return err
}

// Sorted yields the records in order. Close all feeds before calling it. Call it once.
func (s *FuncSorter[T]) Sorted() iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		output := ledger.Count{}
		err := s.startReading()
		if err == nil {
			var m *funcMerger[T]
			if m, err = s.newMerger(s.runs, true); err == nil {
				tally := s.meter.newOutTally()
				defer tally.end()
				for m.next() {
					output.AddRecord(m.encoded)
					tally.count(len(m.encoded))
					if !yield(m.v, nil) {
						return
					}
				}
				err = m.err
			}
		}
		if err == nil {
			err = s.input.Compare(output)
		}
		if err != nil {
			yield(zero, err)
		}
	}
}

// startReading ends feeding, and merges runs until at most fanIn remain.
func (s *FuncSorter[T]) startReading() error {
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	if err := s.engine.StartReading(); err != nil {
		return err
	}
	s.sortMemRecords()
	for len(s.runs) > s.fanIn {
		if err := s.mergeSome(min(s.fanIn, len(s.runs)-s.fanIn+1)); err != nil {
			return err
		}
	}
	return canceled.Err(s.engine.Ctx)
}

// mergeSome merges the n neighboring runs with the least data into one. Only neighbors are
// merged, so that equal records keep their order.
func (s *FuncSorter[T]) mergeSome(n int) error {
	best := spill.ShortestNeighbors(s.runs, n)
	chosen := s.runs[best : best+n]
	m, err := s.newMerger(chosen, false)
	if err != nil {
		return err
	}
	merged, err := s.newRun()
	if err != nil {
		return err
	}
	for m.next() {
		if err := addToRun(merged, m.encoded); err != nil {
			return errors.Join(err, merged.Close())
		}
	}
	if err := errors.Join(m.err, s.endRun(merged)); err != nil {
		return errors.Join(err, merged.Close())
	}
	for _, r := range chosen {
		err = errors.Join(err, r.Close())
	}
	s.runs = slices.Replace(s.runs, best, best+n, merged)
	return err
}

// Stats returns statistics about the work done so far.
func (s *FuncSorter[T]) Stats() Stats {
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	return Stats{Records: s.input.Records, Spilled: s.spilled}
}

// Close stops the sorter and removes all temporary data. It must not be called during a
// loop over Sorted.
func (s *FuncSorter[T]) Close() error {
	err := s.engine.Close(func() (err error) {
		for _, r := range s.runs {
			err = errors.Join(err, r.Close())
		}
		s.runs, s.memRecords, s.encoded = nil, nil, nil
		return err
	})
	return errors.Join(err, s.engine.Temp.Close())
}
