package shuffle

import (
	"context"
	"iter"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/engine/hashagg"
)

// Distinct yields each record once, in no particular order. Records are equal if their
// encodings are equal.
func Distinct[T any](ctx context.Context, in iter.Seq2[T, error], o *Options[T]) iter.Seq2[T, error] {
	return pipe(in, func() (*Deduplicator[T], error) { return NewDeduplicator(ctx, o.oneThread()) }, (*Deduplicator[T]).Feed, (*Deduplicator[T]).Records)
}

// DistinctBy yields the first record for each key. It yields the keys in no particular order.
func DistinctBy[T, K any](ctx context.Context, in iter.Seq2[T, error], key func(T) K, o *Options[T]) iter.Seq2[T, error] {
	return pipe(in, func() (*Deduplicator[T], error) { return NewDeduplicatorBy(ctx, key, o.oneThread()) }, (*Deduplicator[T]).Feed, (*Deduplicator[T]).Records)
}

// Deduplicator accepts records and keeps one of several equal records.
type Deduplicator[T any] struct {
	tables tables[T]
	key    func(dst []byte, v T) ([]byte, error) // appends a record's key; if nil, the encoded record is the key
	codec  encode.ValueCodec[T]
}

// NewDeduplicator returns a deduplicator that works like [Distinct]. The caller must close
// it.
func NewDeduplicator[T any](ctx context.Context, o *Options[T]) (*Deduplicator[T], error) {
	c, err := o.resolveNoStore()
	if err != nil {
		return nil, err
	}
	// Encodings are compared, so equal values need equal encodings.
	if o.orDefault().Codec.Encode == nil {
		c.Codec, _, err = newCodec[T](true)
		if err != nil {
			return nil, codecTypeError[T]("", err)
		}
	}
	d := &Deduplicator[T]{codec: c.Codec}
	if err := d.tables.start(ctx, c, hashagg.Options{}); err != nil {
		return nil, err
	}
	return d, nil
}

// NewDeduplicatorBy returns a deduplicator that works like [DistinctBy]. If several feeds receive
// records with the same key, the deduplicator keeps the first record from one of these feeds. The
// caller must close the deduplicator.
func NewDeduplicatorBy[T, K any](ctx context.Context, key func(T) K, o *Options[T]) (*Deduplicator[T], error) {
	if key == nil {
		return nil, argumentErrorf("the key function is nil: pass a function, or use Distinct")
	}
	keys, err := newKeyCodec[K]()
	if err != nil {
		return nil, err
	}
	c, err := o.resolveNoStore()
	if err != nil {
		return nil, err
	}
	d := &Deduplicator[T]{codec: c.Codec}
	d.key = func(dst []byte, v T) ([]byte, error) { return keys.Encode(dst, key(v)) }
	if err := d.tables.start(ctx, c, hashagg.Options{Words: 2, NewStates: func() hashagg.States { return new(firstRecords) }}); err != nil {
		return nil, err
	}
	return d, nil
}

// Feed returns a feed. Any number of feeds may be open. If there are more feeds than
// Options.Threads, some wait for each other.
func (d *Deduplicator[T]) Feed() (*Feed[T], error) {
	if d.key == nil {
		return d.tables.feed(d.codec.Encode, func(*hashagg.Table) func(*T, []uint64, bool) error {
			return func(*T, []uint64, bool) error { return nil }
		})
	}
	return d.tables.feed(d.key, func(t *hashagg.Table) func(v *T, state []uint64, isNew bool) error {
		var record []byte
		list := t.States().(*firstRecords)
		return func(v *T, state []uint64, isNew bool) (err error) {
			if !isNew {
				return nil
			}
			record, err = d.codec.Encode(record[:0], *v)
			if err != nil {
				return errorf("encoding a record: %w", err)
			}
			list.put(state, record)
			return nil
		}
	})
}

// Stats returns statistics about the work done so far.
func (d *Deduplicator[T]) Stats() Stats { return d.tables.stats() }

// Close stops the work and removes all temporary data. No feed and no loop over results may be in
// use.
func (d *Deduplicator[T]) Close() error { return d.tables.close() }

// Records yields the distinct records. Close all feeds before calling it. Call it once.
func (d *Deduplicator[T]) Records() iter.Seq2[T, error] {
	return results(&d.tables, func(g hashagg.Group) (v T, size int, err error) {
		record := g.Key
		if d.key != nil {
			record = g.States.(*firstRecords).get(g.State)
		}
		v, err = d.codec.Decode(record)
		if err != nil {
			err = errorf("decoding a record: %w", err)
		}
		return v, len(record), err
	})
}

// firstRecords stores the first record for each key in one hash table. A key's first state word is
// the record's block (upper half) and offset; the second is the record's length.
type firstRecords struct {
	blocks [][]byte
	excess int64 // sum of the bytes by which long blocks exceed firstRecordsBlock
}

const firstRecordsBlock = 64 << 10

func (f *firstRecords) put(words []uint64, record []byte) {
	last := len(f.blocks) - 1
	if last < 0 || len(f.blocks[last])+len(record) > cap(f.blocks[last]) {
		f.excess += int64(max(len(record)-firstRecordsBlock, 0))
		f.blocks = append(f.blocks, make([]byte, 0, max(firstRecordsBlock, len(record))))
		last++
	}
	words[0] = uint64(last)<<32 | uint64(len(f.blocks[last]))
	words[1] = uint64(len(record))
	f.blocks[last] = append(f.blocks[last], record...)
}

func (f *firstRecords) get(words []uint64) []byte {
	pos, n := words[0]&(1<<32-1), words[1]
	return f.blocks[words[0]>>32][pos : pos+n : pos+n]
}

func (f *firstRecords) Append(dst []byte, words []uint64) ([]byte, error) {
	return append(dst, f.get(words)...), nil
}

func (f *firstRecords) Merge(words []uint64, isNew bool, data []byte) error {
	if isNew {
		f.put(words, data)
	}
	return nil
}

// Memory returns twice the bytes in use. The second half allows for garbage that has not been
// collected yet.
func (f *firstRecords) Memory() int64 { return 2 * (int64(len(f.blocks))*firstRecordsBlock + f.excess) }

func (f *firstRecords) Reset() { *f = firstRecords{} }
