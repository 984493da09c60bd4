package bulk

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/parted"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

const (
	buckets = 1024
	workers = 2 // number of files that are written at the same time
)

// partition distributes rows to files. The rows of the first keys are collected in memory, and written to their files
// when they are many. The rows of all other keys go to buckets. All rows of a key stay in their order.
type partition struct {
	*splitter
	memory  int64 // for collected rows, in bytes
	files   []*file
	numbers map[string]int // index in files of each key
	used    int64          // bytes of collected rows
	// blockBytes is the size of the blocks that add gets next.
	blockBytes atomic.Int64

	buckets parted.Buckets
	sizes   [buckets]int64 // in bytes
}

const (
	// minFileMemory limits the number of files: if all files share the memory evenly, each has at least this many bytes
	// for its rows. With less, row groups would be too small.
	minFileMemory = 512 << 10
	minFiles      = 16
	minPieceBytes = 64 << 10 // average size of the rows of a key in a block
)

var maxBlock int64 = parted.MaxBlock // tests use less

func (s *splitter) largestBlock() int64 { return min(s.Memory/16, maxBlock) }

func (s *splitter) newPartition(level int) *partition {
	p := &partition{splitter: s, memory: s.Memory / 4, numbers: map[string]int{}}
	// The log store of each level gets half of the memory of the one above, which is still in use.
	p.buckets = parted.Buckets{Count: buckets, Level: level, Memory: s.Memory / 4 >> level, Temp: s.Temp}
	p.blockBytes.Store(s.largestBlock())
	return p
}

// chooseBlockBytes returns a size of blocks. If there are few keys, blocks are small enough for the processor's cache,
// because add reads each of their rows in the order of the keys.
func (p *partition) chooseBlockBytes() int64 {
	if p.buckets.InUse() {
		return p.largestBlock()
	}
	return min(p.largestBlock(), int64(len(p.files))*minPieceBytes)
}

// numberOf returns the index of a key's file, or -1-b if the key's rows go to bucket b.
func (p *partition) numberOf(key []byte) int {
	if i, ok := p.numbers[string(key)]; ok {
		return i
	}
	canAdd := !p.isWide || p.buckets.Level > 0 // writing many wide files at the same time takes too much memory
	if canAdd && len(p.files) < max(minFiles, int(p.memory/minFileMemory)) {
		p.files = append(p.files, &file{})
		p.numbers[string(key)] = len(p.files) - 1
		return len(p.files) - 1
	}
	return -1 - p.buckets.Of(parted.Hash(key))
}

// add adds the rows of a block.
func (p *partition) add(ctx context.Context, block arrow.RecordBatch) error {
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
	for _, g := range parted.GroupRows(numbers, files+buckets) {
		rows, err := take.Batch(block, g.Rows)
		if err != nil {
			return err
		}
		if g.Number < files {
			p.used += p.files[g.Number].add(rows)
			continue
		}
		size, err := p.buckets.Add(ctx, 0, g.Number-files, rows)
		if err != nil {
			return err
		}
		p.sizes[g.Number-files] += size
	}
	return errors.Join(p.buckets.Flush(ctx), p.writeLargest(ctx))
}

// writeLargest writes the files with the most collected rows if all memory for collected rows is in use, so that half of
// it becomes free. It also writes files with more rows than can be joined.
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
	if n > 0 && largest[0].bytes >= p.memory/2 { // writing takes several times the memory of a large row
		ctx = parallel.Sequential(ctx)
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
