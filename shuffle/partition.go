package shuffle

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/encode"
)

// maxPartitions is the maximum number of partitions for [Partition].
const maxPartitions = 1 << 20

// Partition divides records into n partitions by a hash of their keys. In every process, records
// with the same key go to the same partition. The partitions are numbered from 0 to n-1; n is at most
// 1,048,576. The caller must close the result.
func Partition[T, K any](ctx context.Context, in iter.Seq2[T, error], n int, key func(T) K, o *Options[T]) (*Partitions[T, int], error) {
	p, err := NewPartitions(ctx, n, key, o)
	return feedPartitions(p, err, in)
}

// PartitionBy divides records into a partition for each key. The caller must close the
// result.
func PartitionBy[T, K any](ctx context.Context, in iter.Seq2[T, error], key func(T) K, o *Options[T]) (*Partitions[T, K], error) {
	p, err := NewPartitionsBy(ctx, key, o)
	return feedPartitions(p, err, in)
}

func feedPartitions[T, K any](p *Partitions[T, K], newErr error, in iter.Seq2[T, error]) (_ *Partitions[T, K], err error) {
	if newErr != nil {
		return nil, newErr
	}
	succeeded := false
	defer func() {
		// Close p even if the caller's code panics.
		if !succeeded {
			err = errors.Join(err, p.Close())
		}
	}()
	err = feedAll(p.Feed, in)
	if err != nil {
		return nil, err
	}
	succeeded = true
	return p, nil
}

// Partitions holds records divided by key. When all feeds are closed, partitions can be read
// in any order, any number of times, by several goroutines.
type Partitions[T, K any] struct{ keyed keyed[T, K] }

// NewPartitions returns empty partitions, which accept records; see [Partition].
func NewPartitions[T, K any](ctx context.Context, n int, key func(T) K, o *Options[T]) (*Partitions[T, int], error) {
	if n < 1 || n > maxPartitions {
		return nil, argumentErrorf("%d partitions: use 1 to %d", n, maxPartitions)
	}
	if key == nil {
		return nil, argumentErrorf("the key function is nil: pass a function")
	}
	keyCodec, err := newKeyCodec[K]()
	if err != nil {
		return nil, err
	}
	k, err := newKeyed(ctx, func(T) int { return 0 }, o)
	if err != nil {
		return nil, err
	}
	k.keyCodec = encode.ValueCodec[int]{
		Encode: func(dst []byte, number int) ([]byte, error) {
			if number < 0 || number >= n {
				return dst, argumentError{fmt.Errorf("there is no partition %d: use 0 to %d", number, n-1)} // Records adds the prefix
			}
			return binary.BigEndian.AppendUint32(dst, uint32(number)), nil
		},
		Decode: func(data []byte) (int, error) {
			if len(data) != 4 {
				return 0, wrongLengthError(len(data), 4)
			}
			return int(binary.BigEndian.Uint32(data)), nil
		},
	}
	k.appendKey = func(dst []byte, v T) ([]byte, error) {
		b, err := keyCodec.Encode(dst, key(v))
		return binary.BigEndian.AppendUint32(b[:len(dst)], uint32(xxh3.Hash(b[len(dst):])%uint64(n))), err
	}
	return &Partitions[T, int]{k}, nil
}

// NewPartitionsBy returns empty partitions, which accept records; see [PartitionBy].
func NewPartitionsBy[T, K any](ctx context.Context, key func(T) K, o *Options[T]) (*Partitions[T, K], error) {
	k, err := newKeyed(ctx, key, o)
	if err != nil {
		return nil, err
	}
	return &Partitions[T, K]{k}, nil
}

// Feed returns a feed, which needs half a MiB of additional memory.
func (p *Partitions[T, K]) Feed() (*Feed[T], error) { return p.keyed.feed() }

// ForEach calls use for each key's records, as [Grouper.ForEach] does.
func (p *Partitions[T, K]) ForEach(ctx context.Context, n int, use func(context.Context, Group[K, T]) error) error {
	return p.keyed.forEach(ctx, n, use)
}

// Stats counts the records of all closed feeds, and the groups yielded so far.
func (p *Partitions[T, K]) Stats() Stats { return p.keyed.stats() }

// Close stops the work and removes all temporary data. No feed and no loop over results may be in
// use.
func (p *Partitions[T, K]) Close() error { return p.keyed.close() }

// Keys yields the keys of all partitions with records, in no particular order.
func (p *Partitions[T, K]) Keys() iter.Seq2[K, error] {
	return func(yield func(K, error) bool) {
		if err := orZero(p.keyed.spool).startReading(); err != nil {
			yield(*new(K), err)
			return
		}
		for info, err := range partd.Keys(p.keyed.spool.engine.Ctx, p.keyed.spool.store) {
			var k K
			if err == nil {
				k, err = p.keyed.keyCodec.Decode([]byte(info.Key))
			}
			if !yield(k, err) || err != nil {
				return
			}
		}
	}
}

// Records yields the records of a partition, or nothing if there is no such partition. Records from
// one feed keep their input order. Call Verify to check that no record is missing.
func (p *Partitions[T, K]) Records(key K) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		if err := orZero(p.keyed.spool).startReading(); err != nil {
			yield(zero, err)
			return
		}
		k, err := p.keyed.keyCodec.Encode(nil, key)
		if err != nil {
			yield(zero, errorf("encoding a key: %w", err))
			return
		}
		tally := p.keyed.meter.newOutTally()
		defer tally.end()
		var records items
		err = readValue(p.keyed.spool.engine.Ctx, p.keyed.spool.store, string(k), func(data []byte, last bool) error {
			return records.add(string(k), data, last, func(_, record []byte) error {
				v, err := p.keyed.codec.Decode(record)
				if err != nil {
					return errorf("decoding a record: %w", err)
				}
				tally.count(len(record))
				if !yield(v, nil) {
					return errStopped
				}
				return nil
			})
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(zero, err)
		}
	}
}

// Verify reads all partitions and compares their records with the input.
func (p *Partitions[T, K]) Verify() error {
	if err := orZero(p.keyed.spool).startReading(); err != nil {
		return err
	}
	sc := p.keyed.spool.scan(1)
	defer sc.close()
	r := groupReader[T]{sc: sc}
	for r.next() {
	}
	return r.err
}
