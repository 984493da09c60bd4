package bulk

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/arrowvalue"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// The first keys have a bucket of their own each, which is written without grouping its rows. All others share buckets.
const (
	ownBuckets    = 128
	sharedBuckets = 1024
)

// partitions are rows in buckets. All rows of a key are in the same bucket, in their order. A bucket is a key of a log
// store.
type partitions struct {
	store   *logstore.Store
	columns []int
	seed    maphash.Seed
	own     map[string]int // the bucket of each key that has its own
	keys    []string       // the key of each of these buckets
	sizes   []int64        // bytes of each bucket

	keyBuffer, text []byte
}

// partition reads all rows into buckets. It holds about memory bytes.
func partition(ctx context.Context, rows sorted.Batches, columns []int, memory int64, temp string) (_ *partitions, n int64, err error) {
	p := &partitions{columns: columns, seed: maphash.MakeSeed(), own: map[string]int{}, sizes: make([]int64, ownBuckets+sharedBuckets)}
	if p.store, err = logstore.OpenTemp(temp, &logstore.Options{Memory: max(memory/4, logstore.MinMemory)}); err != nil {
		return nil, 0, err
	}
	var pending []arrow.RecordBatch
	defer func() {
		take.Release(pending)
		if err != nil {
			_ = p.store.Close() // the caller needs the first error
		}
	}()
	size := int64(0)
	flush := func() error {
		block, err := take.Concat(pending)
		if err != nil {
			return err
		}
		take.Release(pending)
		pending, size = pending[:0], 0
		defer block.Release()
		return p.append(ctx, block)
	}
	for b, err := range rows {
		if err != nil {
			return nil, 0, err
		}
		n += b.NumRows()
		pending = append(pending, b)
		if size += util.TotalRecordSize(b); size >= memory/6 {
			if err := flush(); err != nil {
				return nil, 0, err
			}
		}
	}
	if len(pending) > 0 {
		err = flush()
	}
	return p, n, err
}

// bucketName returns the key of a bucket in the log store.
func bucketName(bucket int) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(bucket)))
}

// append appends the rows of a block to their buckets.
func (p *partitions) append(ctx context.Context, block arrow.RecordBatch) error {
	const batchBytes = 4 << 20 // bytes that one call appends
	buckets := make([]int, block.NumRows())
	for row := range buckets {
		var err error
		if buckets[row], err = p.bucketOf(block, row); err != nil {
			return err
		}
	}
	var entries []partd.Entry
	size := 0
	flush := func() error {
		err := p.store.Append(ctx, entries...)
		entries, size = entries[:0], 0
		return err
	}
	for g, err := range groups(block, buckets, len(p.sizes)) {
		if err != nil {
			return err
		}
		e, err := arrowvalue.Entry(bucketName(g.id), block.Schema(), g.rows)
		if err != nil {
			return err
		}
		p.sizes[g.id] += int64(len(e.Value))
		entries = append(entries, e)
		if size += len(e.Value); size >= batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func (p *partitions) bucketOf(block arrow.RecordBatch, row int) (int, error) {
	var err error
	if p.keyBuffer, p.text, err = appendKey(p.keyBuffer[:0], block, p.columns, row, p.text); err != nil {
		return 0, err
	}
	if bucket, ok := p.own[string(p.keyBuffer)]; ok {
		return bucket, nil
	}
	if len(p.keys) < ownBuckets {
		key := string(p.keyBuffer)
		p.own[key] = len(p.keys)
		p.keys = append(p.keys, key)
		return len(p.keys) - 1, nil
	}
	return ownBuckets + int(maphash.Bytes(p.seed, p.keyBuffer)%sharedBuckets), nil
}

// read yields the rows of a bucket.
func (p *partitions) read(ctx context.Context, bucket int) sorted.Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		r, err := arrowvalue.Read(ctx, p.store, bucketName(bucket), arrowvalue.DefaultLimit)
		if err != nil {
			yield(nil, fmt.Errorf("temporary data: %w", err))
			return
		}
		defer r.Release()
		for b, err := range arrowsafe.Batches(r) {
			if !yield(b, err) {
				return
			}
		}
	}
}

// group is the rows of one number.
type group struct {
	id   int
	rows arrow.RecordBatch // valid until the next iteration step
}

// groups yields the rows of a block by their numbers, which are less than n. Rows with the same number keep their order.
func groups(block arrow.RecordBatch, ids []int, n int) func(yield func(group, error) bool) {
	return func(yield func(group, error) bool) {
		ends := make([]int, n)
		for _, id := range ids {
			ends[id]++
		}
		sum := 0
		for id, count := range ends {
			ends[id] = sum // the start, until the loop below moves it to the end
			sum += count
		}
		order := make([]int, len(ids))
		for row, id := range ids {
			order[ends[id]] = row
			ends[id]++
		}
		ordered, err := take.Batch(block, order)
		if err != nil {
			yield(group{}, err)
			return
		}
		defer ordered.Release()
		start := 0
		for id, end := range ends {
			if end == start {
				continue
			}
			rows := ordered.NewSlice(int64(start), int64(end))
			more := yield(group{id, rows}, nil)
			rows.Release()
			if !more {
				return
			}
			start = end
		}
	}
}
