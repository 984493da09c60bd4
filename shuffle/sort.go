package shuffle

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"reflect"
	"unsafe"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/extsort"
)

// Sort yields records sorted by keys. Records with equal keys keep their input order.
func Sort[T any](ctx context.Context, in iter.Seq2[T, error], keys []Key[T], o *Options[T]) iter.Seq2[T, error] {
	return pipe(in, func() (*Sorter[T], error) { return NewSorter(ctx, keys, o) }, (*Sorter[T]).Feed, (*Sorter[T]).Sorted)
}

// Sorter sorts the records fed to it.
type Sorter[T any] struct {
	keys   []Key[T]
	codec  encode.ValueCodec[T]
	sorter *extsort.Sorter
	temp   *tempdir.Set
	meter  *meter
}

// NewSorter returns a Sorter that orders records by keys. Within each feed, records with equal keys keep their
// order. The caller must close the sorter.
func NewSorter[T any](ctx context.Context, keys []Key[T], o *Options[T]) (*Sorter[T], error) {
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	c, err := o.resolveNoStore()
	if err != nil {
		return nil, err
	}
	return newSorter(ctx, keys, c)
}

func newSorter[T any](ctx context.Context, keys []Key[T], c config[T]) (*Sorter[T], error) {
	s, err := extsort.New(ctx, &extsort.Options{Memory: c.Memory, Threads: c.Threads, Temp: c.temp})
	if err != nil {
		return nil, err
	}
	return &Sorter[T]{keys: keys, codec: c.Codec, sorter: s, temp: c.temp, meter: c.meter}, nil
}

// Feed returns a feed. Any number of feeds may be open; each needs a little additional
// memory.
func (s *Sorter[T]) Feed() (*Feed[T], error) {
	w, err := orZero(s.sorter).Writer()
	if err != nil {
		return nil, err
	}
	appendKey := func(dst []byte, v T) ([]byte, error) { return appendKeys(dst, s.keys, v), nil }
	return newFeed(s.meter.newInTally(), appendKey, s.codec.Encode, w.Add, w.Close), nil
}

// Sorted yields the records in order. Close all feeds before calling it. Call it once.
func (s *Sorter[T]) Sorted() iter.Seq2[T, error] { return s.firstRecords(math.MaxInt64) }

// firstRecords yields the first n records.
func (s *Sorter[T]) firstRecords(n int64) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		tally := s.meter.newOutTally()
		defer tally.end()
		for b, err := range orZero(s.sorter).First(n) {
			if err != nil {
				yield(zero, err)
				return
			}
			for i := range b.Len() {
				v, err := s.codec.Decode(b.Record(i))
				if err != nil {
					yield(zero, errorf("decoding a record: %w", err))
					return
				}
				tally.count(len(b.Record(i)))
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

// Close stops the sorter and removes all temporary data. It must not be called during a
// loop over Sorted.
func (s *Sorter[T]) Close() error { return errors.Join(orZero(s.sorter).Close(), s.temp.Close()) }

// Key is a sort key of records. [Asc] and [Desc] return keys.
type Key[T any] struct {
	// appendTo appends an encoding of v's key. The encodings sort like the keys. last means that no
	// other key follows.
	appendTo func(dst []byte, v T, last bool) []byte
}

// By returns its arguments as a slice. The first key determines the order, the second key
// breaks ties, and so on.
func By[T any](keys ...Key[T]) []Key[T] { return keys }

// Asc returns a key in ascending order. Floats sort as by [cmp.Compare], with NaN first. For any
// other order, return a string whose bytes sort in that order.
func Asc[T any, K cmp.Ordered](key func(T) K) Key[T] {
	if key == nil {
		return Key[T]{}
	}
	t := reflect.TypeFor[K]()
	switch t.Kind() {
	case reflect.String:
		return Key[T]{func(dst []byte, v T, last bool) []byte {
			k := key(v)
			text := *(*string)(unsafe.Pointer(&k))
			if last {
				return append(dst, text...)
			}
			return extsort.AppendText(dst, text)
		}}
	case reflect.Float64:
		return newKey(key, func(dst []byte, k K) []byte { return extsort.AppendFloat(dst, *(*float64)(unsafe.Pointer(&k))) })
	case reflect.Float32:
		return newKey(key, func(dst []byte, k K) []byte {
			return extsort.AppendFloat(dst, float64(*(*float32)(unsafe.Pointer(&k))))
		})
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return newKey(key, intEncoder[K](t.Size(), true))
	default: // unsigned integers
		return newKey(key, intEncoder[K](t.Size(), false))
	}
}

// Desc returns a key in descending order.
func Desc[T any, K cmp.Ordered](key func(T) K) Key[T] { return inverted(Asc(key)) }

func newKey[T, K any](key func(T) K, encode func(dst []byte, k K) []byte) Key[T] {
	return Key[T]{func(dst []byte, v T, _ bool) []byte { return encode(dst, key(v)) }}
}

func inverted[T any](k Key[T]) Key[T] {
	if k.appendTo == nil {
		return k
	}
	return Key[T]{func(dst []byte, v T, _ bool) []byte {
		start := len(dst)
		dst = k.appendTo(dst, v, false)
		extsort.Invert(dst[start:])
		return dst
	}}
}

// intEncoder returns a function that encodes integers so that the encodings sort like the integers. size is the length
// of an integer in bytes.
func intEncoder[K any](size uintptr, signed bool) func(dst []byte, k K) []byte {
	var flip uint64 // XOR with flip inverts the sign bit
	if signed {
		flip = 1 << 63
	}
	shift := 64 - 8*size
	return func(dst []byte, k K) []byte {
		var x uint64
		p := unsafe.Pointer(&k)
		switch size {
		case 8:
			return extsort.AppendUint(dst, *(*uint64)(p)^flip)
		case 4:
			x = uint64(*(*uint32)(p))
		case 2:
			x = uint64(*(*uint16)(p))
		default:
			x = uint64(*(*uint8)(p))
		}
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], x<<shift^flip)
		return append(dst, b[:size]...)
	}
}

// appendKeys appends an encoding of a record's keys. The encodings sort like the keys.
func appendKeys[T any](dst []byte, keys []Key[T], v T) []byte {
	for i := range keys {
		dst = keys[i].appendTo(dst, v, i == len(keys)-1)
	}
	return dst
}

func checkKeys[T any](keys []Key[T]) error {
	if len(keys) == 0 {
		return argumentErrorf("there is no sort key: pass at least one, such as shuffle.By(shuffle.Asc(…))")
	}
	for i := range keys {
		if keys[i].appendTo == nil {
			return argumentErrorf("sort key %d is empty: create it with Asc or Desc, and a function that is not nil", i+1)
		}
	}
	return nil
}
