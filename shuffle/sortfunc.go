package shuffle

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"unsafe"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/spill"
)

// SortFunc yields records in the order of a comparison function, as
// slices.SortStableFunc does: compare returns a negative number if a comes before
// b, and 0 if neither does. If keys can express the order, [Sort] is several
// times faster: it compares bytes and merges records without decoding them.
func SortFunc[T any](ctx context.Context, in iter.Seq2[T, error], compare func(a, b T) int, o *Options[T]) iter.Seq2[T, error] {
	return pipe(in, func() (*FuncSorter[T], error) { return NewFuncSorter(ctx, compare, o) }, (*FuncSorter[T]).Sorted)
}

// FuncSorter sorts the records that are fed to it by a comparison function.
type FuncSorter[T any] struct {
	engine  spill.Engine // its Mu guards what changes
	compare func(a, b T) int
	codec   encode.ValueCodec[T]
	limit   int // bytes of what is held
	fanIn   int // runs that can be read at once
	meter   *meter

	held    []held[T]
	encoded []byte // of those held
	in      ledger.Count
	runs    []*spill.File
	spilled int64
}

// held is a record in memory, with its encoding.
type held[T any] struct {
	v        T
	from, to int
}

// NewFuncSorter returns a sorter by a comparison function, which the caller
// closes. Within each feed, records that compare as equal stay in order.
func NewFuncSorter[T any](ctx context.Context, compare func(a, b T) int, o *Options[T]) (*FuncSorter[T], error) {
	if compare == nil {
		return nil, errors.New("sorting by no comparison: give a function")
	}
	c, err := o.withoutStore()
	if err != nil {
		return nil, err
	}
	// What is held grows by doubling, and the collector lags behind.
	s := &FuncSorter[T]{
		engine: spill.Engine{Memory: c.Memory, Threads: c.Threads, Temp: c.temp}, compare: compare, codec: c.Codec,
		limit: int(c.Memory / 4), fanIn: max(int(c.Memory/4/(2*funcBlock)), 2), meter: c.meter,
	}
	if err := s.engine.Start(ctx, "sorting", 1); err != nil {
		return nil, err
	}
	return s, nil
}

// Feed returns a feed. Feeds take turns.
func (s *FuncSorter[T]) Feed() (*Feed[T], error) {
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	if err := s.engine.OpenWriter(); err != nil {
		return nil, err
	}
	tally := s.meter.feeding()
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

// add holds a record and returns the bytes of its encoding. engine.Mu is held, or
// there is one feed.
func (s *FuncSorter[T]) add(v T) (int, error) {
	from := len(s.encoded)
	encoded, err := s.codec.Encode(s.encoded, v)
	if err != nil {
		return 0, fmt.Errorf("encoding a record: %w", err)
	}
	h := held[T]{from: from, to: len(encoded)}
	// The caller's may change.
	if h.v, err = s.codec.Decode(encoded[from:]); err != nil {
		return 0, fmt.Errorf("decoding a record: %w", err)
	}
	s.encoded = encoded
	s.held = append(s.held, h)
	s.in.AddRecord(s.encoded[from:])
	// A decoded record may take as much as its encoding beside its own struct.
	if 2*len(s.encoded)+len(s.held)*int(unsafe.Sizeof(h)) > s.limit {
		err = s.spill()
	}
	return h.to - h.from, err
}

func (s *FuncSorter[T]) sortHeld() {
	slices.SortStableFunc(s.held, func(a, b held[T]) int { return s.compare(a.v, b.v) })
}

// spill writes what is held as a run.
func (s *FuncSorter[T]) spill() error {
	s.sortHeld()
	r, err := s.newRun()
	if err != nil {
		return err
	}
	s.runs = append(s.runs, r)
	for _, h := range s.held {
		if err := addToRun(r, s.encoded[h.from:h.to]); err != nil {
			return err
		}
	}
	clear(s.held)
	s.held, s.encoded = s.held[:0], s.encoded[:0]
	err = s.endRun(r)
	if n := spill.Early(s.runs, s.fanIn); err == nil && n > 0 {
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

// Sorted yields the records in order. Close all feeds first, and call it
// once.
func (s *FuncSorter[T]) Sorted() iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		out := ledger.Count{}
		err := s.start()
		if err == nil {
			var m *funcMerger[T]
			if m, err = s.merger(s.runs, true); err == nil {
				read := s.meter.reading()
				defer read.end()
				for m.next() {
					out.AddRecord(m.encoded)
					read.count(len(m.encoded))
					if !yield(m.v, nil) {
						return
					}
				}
				err = m.err
			}
		}
		if err == nil {
			err = s.in.Compare(out)
		}
		if err != nil {
			yield(none, err)
		}
	}
}

// start ends the feeding, and merges runs until the rest can be merged at once.
func (s *FuncSorter[T]) start() error {
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	if err := s.engine.StartReading(); err != nil {
		return err
	}
	s.sortHeld()
	for len(s.runs) > s.fanIn {
		if err := s.mergeSome(min(s.fanIn, len(s.runs)-s.fanIn+1)); err != nil {
			return err
		}
	}
	return canceled.Err(s.engine.Ctx)
}

// mergeSome merges n neighbouring runs into one, the shortest ones. Neighbours,
// so that the order of equal records is kept.
func (s *FuncSorter[T]) mergeSome(n int) error {
	best := spill.Shortest(s.runs, n)
	some := s.runs[best : best+n]
	m, err := s.merger(some, false)
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
	for _, r := range some {
		err = errors.Join(err, r.Close())
	}
	s.runs = slices.Replace(s.runs, best, best+n, merged)
	return err
}

// Stats returns statistics about the work done so far.
func (s *FuncSorter[T]) Stats() Stats {
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	return Stats{Records: s.in.Records, Spilled: s.spilled}
}

// Close ends everything and removes all temporary data. Do not call it during a
// loop over Sorted.
func (s *FuncSorter[T]) Close() error {
	err := s.engine.Close(func() (err error) {
		for _, r := range s.runs {
			err = errors.Join(err, r.Close())
		}
		s.runs, s.held, s.encoded = nil, nil, nil
		return err
	})
	return errors.Join(err, s.engine.Temp.Close())
}
