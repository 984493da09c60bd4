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
	numBuckets = 1024
	numWorkers = 2 // number of files that are written at the same time
)

// partition distributes rows to files. The rows of the first keys are collected in memory and written to their files
// in large pieces. The rows of all other keys go to buckets. All rows of a key keep their order.
type partition struct {
	*splitter
	memory    int64 // limit for collected rows, in bytes
	files     []*file
	fileIndex map[string]int // index in files, by key
	usedBytes int64          // size of collected rows
	// blockBytes is the size of the blocks that add gets next.
	blockBytes atomic.Int64

	buckets     parted.Buckets
	bucketBytes [numBuckets]int64 // size of the rows in each bucket
}

const (
	// minFileMemory limits the number of files: if all files share the memory evenly, each has at least this many bytes
	// for its rows. With less, row groups would be too small.
	minFileMemory = 512 << 10
	minFiles      = 16       // allowed even if the files then have less memory
	minPieceBytes = 64 << 10 // average size of a key's rows in a block if there are few keys
)

var maxBlock int64 = parted.MaxBlock // tests use less

func (s *splitter) largestBlock() int64 { return min(s.Memory/16, maxBlock) }

func (s *splitter) newPartition(level int) *partition {
	p := &partition{splitter: s, memory: s.Memory / 4, fileIndex: map[string]int{}}
	// The log store of each level gets half the memory of the previous level's log store, which is still in use.
	p.buckets = parted.Buckets{Count: numBuckets, Level: level, Memory: s.Memory / 4 >> level, Temp: s.Temp}
	p.blockBytes.Store(s.largestBlock())
	return p
}

// chooseBlockBytes returns the size for the next blocks. If there are few keys, blocks are small enough for the
// processor's cache, because add reads the rows of a block in the order of their keys.
func (p *partition) chooseBlockBytes() int64 {
	if p.buckets.InUse() {
		return p.largestBlock()
	}
	return min(p.largestBlock(), int64(len(p.files))*minPieceBytes)
}

// numberOf returns the index of a key's file, or -1-b if the key's rows go to bucket b.
func (p *partition) numberOf(key []byte) int {
	if i, ok := p.fileIndex[string(key)]; ok {
		return i
	}
	canAdd := !p.isWide || p.buckets.Level > 0 // writing many wide files at the same time takes too much memory
	if canAdd && len(p.files) < max(minFiles, int(p.memory/minFileMemory)) {
		p.files = append(p.files, &file{})
		p.fileIndex[string(key)] = len(p.files) - 1
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
	numFiles := len(p.files)
	for row, n := range numbers {
		if n < 0 { // number the buckets after the files
			numbers[row] = numFiles - 1 - n
		}
	}
	for _, g := range parted.GroupRows(numbers, numFiles+numBuckets) {
		rows, err := take.Batch(block, g.Rows)
		if err != nil {
			return err
		}
		if g.Number < numFiles {
			p.usedBytes += p.files[g.Number].add(rows)
			continue
		}
		size, err := p.buckets.Add(ctx, 0, g.Number-numFiles, rows)
		if err != nil {
			return err
		}
		p.bucketBytes[g.Number-numFiles] += size
	}
	return errors.Join(p.buckets.Flush(ctx), p.writeLargest(ctx))
}

// writeLargest frees half of the memory for collected rows if all of it is in use: it writes the files with the most
// collected rows. It also writes files with at least maxBlock bytes, because larger batches could not be joined.
func (p *partition) writeLargest(ctx context.Context) error {
	limit := p.memory
	if p.usedBytes >= limit {
		limit /= 2
	} else if !slices.ContainsFunc(p.files, func(f *file) bool { return f.bytes >= maxBlock }) {
		return nil
	}
	largest := slices.SortedFunc(slices.Values(p.files), func(a, b *file) int { return cmp.Compare(b.bytes, a.bytes) })
	n := 0
	for ; n < len(largest) && (p.usedBytes > limit || largest[n].bytes >= maxBlock); n++ {
		p.usedBytes -= largest[n].bytes
	}
	if n > 0 && largest[0].bytes >= p.memory/2 { // writing takes several times the memory of a large row
		ctx = parallel.Sequential(ctx)
	}
	return parallel.Each(ctx, slices.Values(largest[:n]), numWorkers, func(ctx context.Context, f *file) error { return p.write(ctx, f, false) })
}

// finish writes the collected rows. After an error, it only releases them.
func (p *partition) finish(ctx context.Context, err error) error {
	if err == nil {
		err = parallel.Each(ctx, slices.Values(p.files), numWorkers, func(ctx context.Context, f *file) error { return p.write(ctx, f, true) })
	}
	for _, f := range p.files {
		err = errors.Join(err, f.discard())
	}
	return err
}
