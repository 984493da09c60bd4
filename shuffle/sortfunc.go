package shuffle

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"unsafe"

	"github.com/go-partd/partd/internal/tempdir"
)

// SortFunc yields records in the order of a comparison, as slices.SortStableFunc
// would: negative where a comes before b, 0 where neither does. Where the order
// can be said by keys, [Sort] is several times faster: it compares bytes and need
// not decode what it merges.
func SortFunc[T any](ctx context.Context, in iter.Seq2[T, error], compare func(a, b T) int, o *Options[T]) iter.Seq2[T, error] {
	return through(in, func() (*FuncSorter[T], error) { return NewFuncSorter(ctx, compare, o) }, (*FuncSorter[T]).Sorted)
}

// FuncSorter sorts what is fed to it by a comparison.
type FuncSorter[T any] struct {
	ctx     context.Context
	compare func(a, b T) int
	codec   SpillCodec[T]
	temp    *tempdir.Set
	limit   int // bytes of what is held
	fanIn   int // runs that can be read at once

	mu      sync.Mutex
	feeds   int
	reading bool
	closed  bool
	held    []held[T]
	encoded []byte // of those held
	in      ledger
	runs    []*funcRun
	spilled int64
}

// held is a record in memory, with its encoding.
type held[T any] struct {
	v        T
	from, to int
}

// NewFuncSorter returns a sorter by a comparison, to be closed. The order of
// records that compare as equal is kept within each feed.
func NewFuncSorter[T any](ctx context.Context, compare func(a, b T) int, o *Options[T]) (*FuncSorter[T], error) {
	if compare == nil {
		return nil, errors.New("sorting by no comparison: give a function")
	}
	c, err := o.withoutStore()
	if err != nil {
		return nil, err
	}
	// What is held grows by doubling, and the collector lags behind.
	return &FuncSorter[T]{
		ctx: ctx, compare: compare, codec: c.codec, temp: c.temp,
		limit: int(c.memory / 4), fanIn: max(int(c.memory/4/(2*funcBlock)), 2),
	}, nil
}

// Feed returns a feed. Feeds take turns.
func (s *FuncSorter[T]) Feed() (*Feed[T], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading || s.closed {
		return nil, fmt.Errorf("a feed of records: %w", ErrClosed)
	}
	s.feeds++
	return &Feed[T]{mu: &s.mu, add: s.add, finish: func() error { s.feeds--; return nil }}, nil
}

// add holds a record. mu is held, or there is one feed.
func (s *FuncSorter[T]) add(v T) error {
	if s.closed {
		return ErrClosed
	}
	from := len(s.encoded)
	encoded, err := s.codec.Encode(s.encoded, v)
	if err != nil {
		return fmt.Errorf("encoding a record: %w", err)
	}
	h := held[T]{from: from, to: len(encoded)}
	// The caller's may change.
	if h.v, err = s.codec.Decode(encoded[from:]); err != nil {
		return fmt.Errorf("decoding a record: %w", err)
	}
	s.encoded = encoded
	s.held = append(s.held, h)
	s.in.addPiece(s.encoded[from:])
	// A decoded record may take as much as its encoding beside its own struct.
	if 2*len(s.encoded)+len(s.held)*int(unsafe.Sizeof(h)) > s.limit {
		return s.spill()
	}
	return nil
}

func (s *FuncSorter[T]) sortHeld() {
	slices.SortStableFunc(s.held, func(a, b held[T]) int { return s.compare(a.v, b.v) })
}

// spill writes what is held as a run.
func (s *FuncSorter[T]) spill() error {
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	s.sortHeld()
	w, err := newFuncRun(s.temp)
	if err != nil {
		return err
	}
	s.runs = append(s.runs, w)
	for _, h := range s.held {
		if err := w.add(s.encoded[h.from:h.to]); err != nil {
			return err
		}
	}
	clear(s.held)
	s.held, s.encoded = s.held[:0], s.encoded[:0]
	if err := w.flush(); err != nil {
		return err
	}
	s.spilled += w.size
	return nil
}

// Sorted yields the records in order, once. All feeds must be closed.
func (s *FuncSorter[T]) Sorted() iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		out := ledger{}
		err := s.start()
		if err == nil {
			var m *funcMerger[T]
			if m, err = s.merger(s.runs, true); err == nil {
				for m.next() {
					out.addPiece(m.encoded)
					if !yield(m.v, nil) {
						return
					}
				}
				err = m.err
			}
		}
		if err == nil {
			err = s.in.compare(out)
		}
		if err != nil {
			yield(none, err)
		}
	}
}

// start ends the feeding, and merges runs until the rest can be merged at once.
func (s *FuncSorter[T]) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return fmt.Errorf("a sorter: %w", ErrClosed)
	case s.reading:
		return errors.New("sorted records can be read once only")
	case s.feeds > 0:
		return fmt.Errorf("%d feeds are not closed yet", s.feeds)
	}
	s.reading = true
	s.sortHeld()
	for len(s.runs) > s.fanIn {
		if err := s.mergeSome(min(s.fanIn, len(s.runs)-s.fanIn+1)); err != nil {
			return err
		}
	}
	return context.Cause(s.ctx)
}

// mergeSome merges n neighbouring runs into one, the shortest ones. Neighbours,
// so that the order of equal records is kept.
func (s *FuncSorter[T]) mergeSome(n int) error {
	best, size := 0, int64(-1)
	for i := 0; i+n <= len(s.runs); i++ {
		sum := int64(0)
		for _, r := range s.runs[i : i+n] {
			sum += r.size
		}
		if size < 0 || sum < size {
			best, size = i, sum
		}
	}
	some := s.runs[best : best+n]
	m, err := s.merger(some, false)
	if err != nil {
		return err
	}
	w, err := newFuncRun(s.temp)
	if err != nil {
		return err
	}
	for m.next() {
		if err := w.add(m.encoded); err != nil {
			return errors.Join(err, w.close())
		}
	}
	if err := errors.Join(m.err, w.flush()); err != nil {
		return errors.Join(err, w.close())
	}
	s.spilled += w.size
	var errs []error
	for _, r := range some {
		errs = append(errs, r.close())
	}
	s.runs = slices.Replace(s.runs, best, best+n, w)
	return errors.Join(errs...)
}

// Stats tells what was done so far.
func (s *FuncSorter[T]) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Records: s.in.records, Spilled: s.spilled}
}

// Close ends everything and removes all temporary data. No loop over Sorted may
// be under way.
func (s *FuncSorter[T]) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, r := range s.runs {
		errs = append(errs, r.close())
	}
	s.runs, s.held, s.encoded = nil, nil, nil
	return errors.Join(append(errs, s.temp.Close())...)
}
