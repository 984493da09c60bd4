package bulk

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/arrowvalue"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

const (
	buckets = 1024
	workers = 2 // write files at the same time
)

// partition distributes rows to files. The rows of the first keys are collected in memory, and written to their files
// when they are many. The rows of all other keys go to buckets, which are keys of a log store. All rows of a key stay
// in their order.
type partition struct {
	*splitter
	memory  int64 // for collected rows, in bytes
	files   []*file
	numbers map[string]int // index in files of each key
	used    int64          // bytes of collected rows
	// blockBytes is the size of the blocks that add gets next.
	blockBytes atomic.Int64

	seed      maphash.Seed
	log       *logstore.Store // nil until a row goes to a bucket
	logMemory int64
	sizes     [buckets]int64 // in bytes
}

const (
	// minFileMemory is the memory for the rows of a file, in bytes, if that of all files is shared evenly. Less would
	// make row groups too small.
	minFileMemory = 512 << 10
	minFiles      = 16
	minPieceBytes = 64 << 10 // average size of the rows of a key in a block
)

func (s *splitter) largestBlock() int64 { return min(s.Memory/16, maxBlock) }

func (s *splitter) newPartition(logMemory int64) *partition {
	p := &partition{splitter: s, memory: s.Memory / 4, numbers: map[string]int{}, seed: maphash.MakeSeed(), logMemory: logMemory}
	p.blockBytes.Store(s.largestBlock())
	return p
}

// chooseBlockBytes returns a size of blocks. If there are few keys, blocks are small enough for the processor's cache,
// because add reads each of their rows in the order of the keys.
func (p *partition) chooseBlockBytes() int64 {
	if p.log != nil {
		return p.largestBlock()
	}
	return min(p.largestBlock(), int64(len(p.files))*minPieceBytes)
}

// numberOf returns the index of a key's file, or -1-bucket.
func (p *partition) numberOf(key []byte) int {
	if i, ok := p.numbers[string(key)]; ok {
		return i
	}
	if len(p.files) < max(minFiles, int(p.memory/minFileMemory)) {
		p.files = append(p.files, &file{})
		p.numbers[string(key)] = len(p.files) - 1
		return len(p.files) - 1
	}
	return -1 - int(maphash.Bytes(p.seed, key)%buckets)
}

// add adds the rows of a block.
func (p *partition) add(ctx context.Context, block arrow.RecordBatch) error {
	const batchBytes = 4 << 20 // bytes that one call appends to the store
	numbers, err := numberRows(block, p.by, p.numberOf)
	if err != nil {
		return err
	}
	files := len(p.files)
	for row, n := range numbers {
		if n < 0 {
			numbers[row] = files - 1 - n
		}
	}
	var entries []partd.Entry
	size := 0
	for _, g := range groupRows(numbers, files+buckets) {
		rows, err := take.Batch(block, g.rows)
		if err != nil {
			return err
		}
		if g.number < files {
			p.used += p.files[g.number].add(rows)
			continue
		}
		e, err := arrowvalue.Entry(bucketName(g.number-files), rows.Schema(), rows)
		rows.Release()
		if err != nil {
			return err
		}
		p.sizes[g.number-files] += int64(len(e.Value))
		entries = append(entries, e)
		if size += len(e.Value); size >= batchBytes {
			if err := p.store(ctx, entries); err != nil {
				return err
			}
			entries, size = entries[:0], 0
		}
	}
	return errors.Join(p.store(ctx, entries), p.writeLargest(ctx))
}

// store appends entries to the log store.
func (p *partition) store(ctx context.Context, entries []partd.Entry) (err error) {
	if len(entries) > 0 && p.log == nil {
		p.log, err = logstore.OpenTemp(p.Temp, &logstore.Options{Memory: min(max(p.logMemory, logstore.MinMemory), logstore.MaxMemory)})
	}
	if len(entries) == 0 || err != nil {
		return err
	}
	return p.log.Append(ctx, entries...)
}

// writeLargest writes the files with most collected rows, so that half of the memory is free, if all of it is in use.
// It also writes files with more rows than can be joined.
func (p *partition) writeLargest(ctx context.Context) error {
	limit := p.memory
	if p.used >= limit {
		limit /= 2
	} else if !slices.ContainsFunc(p.files, func(f *file) bool { return f.bytes >= maxBlock }) {
		return nil
	}
	largest := slices.SortedFunc(slices.Values(p.files), func(a, b *file) int { return cmp.Compare(b.bytes, a.bytes) })
	n := 0
	for ; n < len(largest) && (p.used > limit || largest[n].bytes >= maxBlock); n++ {
		p.used -= largest[n].bytes
	}
	return parallel.Each(ctx, slices.Values(largest[:n]), workers, func(ctx context.Context, f *file) error { return p.write(ctx, f, false) })
}

// finish writes the collected rows. After an error, it only releases them.
func (p *partition) finish(ctx context.Context, err error) error {
	if err == nil {
		err = parallel.Each(ctx, slices.Values(p.files), workers, func(ctx context.Context, f *file) error { return p.write(ctx, f, true) })
	}
	for _, f := range p.files {
		err = errors.Join(err, f.discard())
	}
	return err
}

// bucketName returns the key of a bucket in the log store.
func bucketName(bucket int) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(bucket)))
}

// read yields the rows of a bucket.
func (p *partition) read(ctx context.Context, bucket int) sorted.Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		r, err := arrowvalue.Read(ctx, p.log, bucketName(bucket), arrowvalue.DefaultLimit)
		if err != nil {
			yield(nil, fmt.Errorf("temporary data: %w", err))
			return
		}
		defer r.Release()
		// A column's type that was read can differ in the metadata of nested fields, which some types compare.
		for b, err := range arrowsafe.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Convert(b, p.plain) }) {
			if !yield(b, err) {
				return
			}
		}
	}
}
