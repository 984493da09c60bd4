package shuffle

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/go-partd/partd/internal/hashagg"
)

// Accumulator says how records become one value of type A for each key. It
// begins as the zero value of A.
type Accumulator[T, A any] struct {
	// Add adds a record.
	Add func(to *A, record T)
	// Merge adds what other records of the same key came to. It may be called by
	// several goroutines at once, for different values.
	Merge func(to *A, other *A)
	// Size returns the bytes that an accumulator takes beside its own struct: of
	// its slices, maps and strings, about. nil where there are none. It is asked
	// after each Add and Merge.
	Size func(*A) int
	// Codec encodes accumulators that do not fit in memory. The zero value means
	// the [DefaultCodec].
	Codec Codec[A]
}

// Result is a key with what its records came to.
type Result[K, A any] struct {
	Key   K
	Value A
}

// Aggregate yields each key once, with what the accumulator made of its records,
// in no particular order. Keys are the same if their default encodings are: for
// all types but those with pointers to floats as == says, and all NaNs are one key.
func Aggregate[T, K, A any](ctx context.Context, in iter.Seq2[T, error], key func(T) K, acc Accumulator[T, A], o *Options[T]) iter.Seq2[Result[K, A], error] {
	return pipe(in, func() (*Aggregator[T, K, A], error) { return NewAggregator(ctx, key, acc, o.single()) }, (*Aggregator[T, K, A]).Results)
}

// Aggregator aggregates what is fed to it.
type Aggregator[T, K, A any] struct {
	*tables[T]
	key    func(T) K
	acc    Accumulator[T, A]
	codec  Codec[K]
	inline bool // accumulators are kept as words
}

// NewAggregator returns an aggregator, to be closed.
func NewAggregator[T, K, A any](ctx context.Context, key func(T) K, acc Accumulator[T, A], o *Options[T]) (*Aggregator[T, K, A], error) {
	if key == nil || acc.Add == nil || acc.Merge == nil {
		return nil, errors.New("aggregating needs a key, and an accumulator with Add and Merge")
	}
	codec, err := newCodec[K](true)
	if err != nil {
		return nil, err
	}
	opts := o.orDefault()
	// Records are not stored: there may be no codec for them.
	opts.Codec = Codec[T]{Encode: func(dst []byte, _ T) ([]byte, error) { return dst, nil }, Decode: func([]byte) (v T, _ error) { return v, nil }}
	c, err := opts.withoutStore()
	if err != nil {
		return nil, err
	}
	a := &Aggregator[T, K, A]{key: key, acc: acc, codec: codec}
	engine := hashagg.Options{}
	if err := a.plan(&engine); err != nil {
		return nil, err
	}
	if a.tables, err = newTables(ctx, c, engine); err != nil {
		return nil, err
	}
	return a, nil
}

// plan decides where accumulators are kept: in the words of the engine, if
// they are plain memory, or else in lists of their own.
func (a *Aggregator[T, K, A]) plan(o *hashagg.Options) error {
	if a.acc.Codec.Encode == nil {
		var err error
		if a.acc.Codec, err = DefaultCodec[A](); err != nil {
			return fmt.Errorf("the accumulator: %w", err)
		}
		if a.acc.Codec.flat && a.acc.Size == nil && wordsOf[A]() <= maxInline {
			a.inline = true
			o.Words = wordsOf[A]()
			o.Merge = func(dst, src []uint64) { a.acc.Merge(inWords[A](dst), inWords[A](src)) }
			return nil
		}
	}
	o.Words = 1
	o.NewStates = func() hashagg.States { return &accumulators[T, A]{acc: &a.acc} }
	return nil
}

// Feed returns a feed. Any number may be open at once; as many as there are
// threads do not wait for each other.
func (a *Aggregator[T, K, A]) Feed() (*Feed[T], error) {
	encode := func(dst []byte, v T) ([]byte, error) { return a.codec.Encode(dst, a.key(v)) }
	return a.feed(encode, func(t *hashagg.Table) func(v *T, state []uint64, isNew bool) error {
		if a.inline {
			return func(v *T, state []uint64, _ bool) error {
				a.acc.Add(inWords[A](state), *v)
				return nil
			}
		}
		list := t.States().(*accumulators[T, A])
		return func(v *T, state []uint64, isNew bool) error {
			to := list.at(state, isNew)
			a.acc.Add(to, *v)
			list.resize(state, to)
			return nil
		}
	})
}

// Results yields the results, once. All feeds must be closed.
func (a *Aggregator[T, K, A]) Results() iter.Seq2[Result[K, A], error] {
	return results(a.tables, func(g hashagg.Group) (r Result[K, A], size int, err error) {
		if r.Key, err = a.codec.Decode(g.Key); err != nil {
			return r, 0, fmt.Errorf("decoding a key: %w", err)
		}
		if a.inline {
			r.Value = *inWords[A](g.State)
		} else {
			r.Value = *g.States.(*accumulators[T, A]).at(g.State, false)
		}
		return r, len(g.Key), nil
	})
}
