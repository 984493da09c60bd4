package shuffle

import (
	"context"
	"iter"
	"unsafe"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/engine/hashagg"
)

// Accumulator combines the records of a key into one value of type A, which starts as
// the zero value.
type Accumulator[T, A any] struct {
	// Add adds a record to an accumulator.
	Add func(accumulator *A, record T)
	// Merge merges src, an accumulator for the same key, into dst. It may be called concurrently
	// for different accumulators.
	Merge func(dst, src *A)
	// Size returns the approximate size in bytes of an accumulator's slices, maps and strings,
	// without the struct itself. It is called after each Add and Merge. It may be nil if A has
	// no slices, maps or strings.
	Size func(*A) int
	// Codec encodes accumulators that do not fit in memory. The zero value means [DefaultCodec],
	// which rejects most types with slices, maps or pointers.
	Codec encode.ValueCodec[A]
}

// Result is a key with the aggregate of its records.
type Result[K, A any] struct {
	Key   K
	Value A
}

// Aggregate yields each key once, with its accumulated records, in no particular order. Keys
// are equal if their default encodings are equal. For most types, this is the same as ==, but
// all NaNs are the same key.
func Aggregate[T, K, A any](ctx context.Context, in iter.Seq2[T, error], key func(T) K, acc Accumulator[T, A], o *Options[T]) iter.Seq2[Result[K, A], error] {
	return pipe(in, func() (*Aggregator[T, K, A], error) { return NewAggregator(ctx, key, acc, o.oneThread()) }, (*Aggregator[T, K, A]).Feed, (*Aggregator[T, K, A]).Results)
}

// Aggregator aggregates the records fed to it.
type Aggregator[T, K, A any] struct {
	tables   tables[T]
	key      func(T) K
	acc      Accumulator[T, A]
	keyCodec encode.ValueCodec[K]
	inline   bool // accumulators are stored in the hash table, not in pages (see accumulators)
}

// NewAggregator returns an aggregator. The caller must close it.
func NewAggregator[T, K, A any](ctx context.Context, key func(T) K, acc Accumulator[T, A], o *Options[T]) (*Aggregator[T, K, A], error) {
	if key == nil || acc.Add == nil || acc.Merge == nil {
		return nil, argumentErrorf("a function is nil: pass a key function, and an accumulator with Add and Merge")
	}
	if (acc.Codec.Encode == nil) != (acc.Codec.Decode == nil) {
		return nil, argumentErrorf("the accumulator's codec has only one of Encode and Decode: set both")
	}
	keyCodec, err := newKeyCodec[K]()
	if err != nil {
		return nil, err
	}
	opts := o.orDefault()
	// Records are not stored, so their type needs no codec.
	opts.Codec = encode.ValueCodec[T]{Encode: func(dst []byte, _ T) ([]byte, error) { return dst, nil }, Decode: func([]byte) (v T, _ error) { return v, nil }}
	c, err := opts.resolveNoStore()
	if err != nil {
		return nil, err
	}
	a := &Aggregator[T, K, A]{key: key, acc: acc, keyCodec: keyCodec}
	engineOptions := hashagg.Options{}
	if err := a.chooseStorage(&engineOptions); err != nil {
		return nil, err
	}
	if err := a.tables.start(ctx, c, engineOptions); err != nil {
		return nil, err
	}
	return a, nil
}

// chooseStorage decides where accumulators are stored and sets a.inline and o accordingly. Small
// accumulators without pointers are stored inline: in the state words that the hash table has for
// each key. All others are stored in pages.
func (a *Aggregator[T, K, A]) chooseStorage(o *hashagg.Options) error {
	if a.acc.Codec.Encode == nil {
		var err error
		var flat bool
		a.acc.Codec, flat, err = newCodec[A](false)
		if err != nil {
			return codecTypeError[A]("accumulators of type ", err)
		}
		if flat && a.acc.Size == nil && wordsOf[A]() <= maxInlineWords {
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

// Feed returns a feed. Any number of feeds may be open. If there are more feeds than
// Options.Threads, some wait for each other.
func (a *Aggregator[T, K, A]) Feed() (*Feed[T], error) {
	encode := func(dst []byte, v T) ([]byte, error) { return a.keyCodec.Encode(dst, a.key(v)) }
	return a.tables.feed(encode, func(t *hashagg.Table) func(v *T, state []uint64, isNew bool) error {
		if a.inline {
			return func(v *T, state []uint64, _ bool) error {
				a.acc.Add(inWords[A](state), *v)
				return nil
			}
		}
		list := t.States().(*accumulators[T, A])
		return func(v *T, state []uint64, isNew bool) error {
			accumulator := list.get(state, isNew)
			a.acc.Add(accumulator, *v)
			list.resize(state, accumulator)
			return nil
		}
	})
}

// Stats returns statistics about the work done so far.
func (a *Aggregator[T, K, A]) Stats() Stats { return a.tables.stats() }

// Close stops the work and removes all temporary data. No feed and no loop over results may be in
// use.
func (a *Aggregator[T, K, A]) Close() error { return a.tables.close() }

// Results yields the results. Close all feeds before calling it. Call it once.
func (a *Aggregator[T, K, A]) Results() iter.Seq2[Result[K, A], error] {
	return results(&a.tables, func(g hashagg.Group) (r Result[K, A], size int, err error) {
		r.Key, err = a.keyCodec.Decode(g.Key)
		if err != nil {
			return r, 0, errorf("decoding a key: %w", err)
		}
		if a.inline {
			r.Value = *inWords[A](g.State)
		} else {
			r.Value = *g.States.(*accumulators[T, A]).get(g.State, false)
		}
		return r, len(g.Key), nil
	})
}

// maxInlineWords is the maximum size of an accumulator that is stored in the hash table, in words.
const maxInlineWords = 64

func wordsOf[A any]() int { return int(unsafe.Sizeof(*new(A))+7) / 8 }

// inWords returns the accumulator that words contain. A must not contain pointers.
func inWords[A any](words []uint64) *A { return (*A)(unsafe.Pointer(unsafe.SliceData(words))) }

// accumulators stores the accumulators of one hash table in pages, which never move. The state
// word of a key is the index of its accumulator.
type accumulators[T, A any] struct {
	acc       *Accumulator[T, A]
	pages     [][]item[A]
	count     int
	totalSize int64
}

type item[A any] struct {
	value    A
	lastSize int // latest result of Size
}

const pageLen = 256

func (l *accumulators[T, A]) get(words []uint64, isNew bool) *A {
	if isNew {
		if l.count == len(l.pages)*pageLen {
			l.pages = append(l.pages, make([]item[A], pageLen))
		}
		words[0] = uint64(l.count)
		l.count++
	}
	return &l.item(words).value
}

func (l *accumulators[T, A]) item(words []uint64) *item[A] {
	return &l.pages[words[0]/pageLen][words[0]%pageLen]
}

// resize calls Size and updates totalSize after an accumulator has changed.
func (l *accumulators[T, A]) resize(words []uint64, a *A) {
	if l.acc.Size != nil {
		item := l.item(words)
		size := l.acc.Size(a)
		l.totalSize += int64(size - item.lastSize)
		item.lastSize = size
	}
}

// Append appends the encoding of an accumulator.
func (l *accumulators[T, A]) Append(dst []byte, words []uint64) ([]byte, error) {
	return l.acc.Codec.Encode(dst, l.item(words).value)
}

// Merge decodes an accumulator and merges it into the one in words.
func (l *accumulators[T, A]) Merge(words []uint64, isNew bool, data []byte) error {
	other, err := l.acc.Codec.Decode(data)
	if err != nil {
		return err
	}
	accumulator := l.get(words, isNew)
	if isNew {
		*accumulator = other
	} else {
		l.acc.Merge(accumulator, &other)
	}
	l.resize(words, accumulator)
	return nil
}

// Memory returns twice the bytes in use. The second half allows for garbage that has not been
// collected yet.
func (l *accumulators[T, A]) Memory() int64 {
	return 2 * (int64(len(l.pages))*pageLen*int64(unsafe.Sizeof(item[A]{})) + l.totalSize)
}

// Reset drops all accumulators.
func (l *accumulators[T, A]) Reset() { l.pages, l.count, l.totalSize = nil, 0, 0 }
