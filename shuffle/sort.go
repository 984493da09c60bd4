package shuffle

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/tempdir"
)

// Sort yields records in the order of keys. Records with equal keys stay in
// input order.
func Sort[T any](ctx context.Context, in iter.Seq2[T, error], by []Key[T], o *Options[T]) iter.Seq2[T, error] {
	return pipe(in, func() (*Sorter[T], error) { return NewSorter(ctx, by, o) }, (*Sorter[T]).Sorted)
}

// Sorter sorts the records that are fed to it.
type Sorter[T any] struct {
	by     []Key[T]
	codec  encode.ValueCodec[T]
	sorter *extsort.Sorter
	temp   *tempdir.Set
	meter  *meter
}

// NewSorter returns a sorter by keys, which the caller closes. Within each
// feed, records with equal keys stay in order.
func NewSorter[T any](ctx context.Context, by []Key[T], o *Options[T]) (*Sorter[T], error) {
	if err := checkKeys(by); err != nil {
		return nil, err
	}
	c, err := o.withoutStore()
	if err != nil {
		return nil, err
	}
	return newSorter(ctx, by, c)
}

func newSorter[T any](ctx context.Context, by []Key[T], c config[T]) (*Sorter[T], error) {
	s, err := extsort.New(ctx, &extsort.Options{Memory: c.Memory, Threads: c.Threads, Temp: c.temp})
	if err != nil {
		return nil, err
	}
	return &Sorter[T]{by: by, codec: c.Codec, sorter: s, temp: c.temp, meter: c.meter}, nil
}

// Feed returns a feed. Any number may be open at once; each takes a little
// additional memory.
func (s *Sorter[T]) Feed() (*Feed[T], error) {
	w, err := orZero(s.sorter).Writer()
	if err != nil {
		return nil, err
	}
	appendKey := func(dst []byte, v T) ([]byte, error) { return appendKeys(dst, s.by, v), nil }
	return newFeed(s.meter.feeding(), appendKey, s.codec.Encode, w.Add, w.Close), nil
}

// Sorted yields the records in order. Close all feeds first, and call it
// once.
func (s *Sorter[T]) Sorted() iter.Seq2[T, error] { return s.first(math.MaxInt64) }

// first yields the first n records. It looks at all, so that all are verified.
func (s *Sorter[T]) first(n int64) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		left := n
		out := s.meter.reading()
		defer out.end()
		for b, err := range orZero(s.sorter).Sorted() {
			if err != nil {
				yield(none, err)
				return
			}
			for i := range int(min(int64(b.Len()), left)) {
				left--
				v, err := s.codec.Decode(b.Record(i))
				if err != nil {
					yield(none, fmt.Errorf("decoding a record: %w", err))
					return
				}
				out.count(len(b.Record(i)))
				if !yield(v, nil) {
					return
				}
			}
		}
	}
}

// Stats returns statistics about the work done so far.
func (s *Sorter[T]) Stats() Stats {
	t := orZero(s.sorter).Stats()
	return Stats{Records: t.Records, Spilled: t.Written}
}

// Close ends everything and removes all temporary data. Do not call it during a
// loop over Sorted.
func (s *Sorter[T]) Close() error { return errors.Join(orZero(s.sorter).Close(), s.temp.Close()) }
