package sorted

import (
	"context"
	"iter"
	"os"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// Input is the input of Sort and Parts.
type Input struct {
	Batches batches.Seq
	Keys    []int
	Memory  int64                         // approximate number of bytes to sort at a time
	Keep    int64                         // approximate number of sorted bytes to keep in memory rather than in files
	Size    func(arrow.RecordBatch) int64 // returns the size of a batch in bytes
}

// Sort yields the rows in order and applies rule to rows with equal keys, which keep their original order. It sorts
// blocks of about in.Memory bytes, writes those beyond in.Keep to temporary files, and merges them all. It reads, sorts
// and writes concurrently, which takes the memory of four blocks.
func Sort(ctx context.Context, rule Rule, in Input) batches.Seq {
	return in.mergeBlocks(ctx, rule, in.blocks())
}

// Parts splits the rows into one or two parts. It sorts each part, applies the rule, and calls f for the part. The
// first part has the leading blocks that are already in order and needs no temporary file. The second part has the
// rest. Unless f fails, f must read all rows in its part.
func Parts(ctx context.Context, rule Rule, in Input, f func(batches.Seq) error) error {
	next, stop := iter.Pull2(in.blocks())
	defer stop()
	var misplaced *sortedBlock // the first block of the second part
	leading := func(yield func(arrow.RecordBatch, error) bool) {
		var last arrow.RecordBatch // the last row of the previous block
		for b, err, ok := next(); ok; b, err, ok = next() {
			if err == nil && last != nil && !in.follows(last, b, rule) {
				misplaced = b
				return
			}
			if err == nil {
				last, err = b.lastRow()
			}
			if err != nil {
				b.release()
				yield(nil, err)
				return
			}
			more := true
			b.rows(func(b arrow.RecordBatch, err error) bool {
				more = yield(b, err) && err == nil
				return more
			})
			b.release()
			if !more {
				return
			}
		}
	}
	if err := f(Merge(ctx, rule, 0, Source{Keys: in.Keys, Batches: leading})); err != nil || misplaced == nil {
		misplaced.release()
		return err
	}
	defer func() { misplaced.release() }() // in case f fails before reading
	return f(in.mergeBlocks(ctx, rule, func(yield func(*sortedBlock, error) bool) {
		first := misplaced
		misplaced = nil
		for b, err, ok := first, error(nil), true; ok && yield(b, err); b, err, ok = next() {
		}
	}))
}

// follows reports whether all rows of b come after the row last. Rows with the same keys as last follow it only if the
// rule keeps all rows.
func (in Input) follows(last arrow.RecordBatch, b *sortedBlock, rule Rule) bool {
	batch, row := b.firstRow()
	k, err := keysOf(last, in.Keys)
	l, err2 := keysOf(batch, in.Keys)
	if err != nil || err2 != nil {
		return false // the merge reports the error
	}
	n := k.compare(0, l, row)
	return n < 0 || n == 0 && rule == All
}

// mergeBlocks yields the rows of sorted blocks in order.
func (in Input) mergeBlocks(ctx context.Context, rule Rule, blocks iter.Seq2[*sortedBlock, error]) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		var kept, files []*sortedBlock // files come after the kept blocks
		waitForSpill := func() (struct{}, error) { return struct{}{}, nil }
		defer func() {
			_, _ = waitForSpill() // If it failed, the caller already has the error.
			for _, b := range append(kept, files...) {
				b.release()
			}
		}()
		space := in.Keep
		for b, err := range blocks {
			if err == nil {
				space -= b.size
				if space >= 0 {
					kept = append(kept, b)
					continue
				}
				files = append(files, b)
				_, err = waitForSpill()
				if err == nil {
					waitForSpill = background(func() (struct{}, error) { return struct{}{}, b.spill() })
				}
			}
			for err == nil && in.areMany(files) {
				_, err = waitForSpill()
				if err == nil {
					files, err = in.mergeSmallest(ctx, files)
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
		_, err := waitForSpill()
		for err == nil && in.areMany(files) {
			files, err = in.mergeSmallest(ctx, files)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		Merge(ctx, rule, 0, in.sources(append(kept, files...))...)(yield)
	}
}

// areMany reports whether Sort must merge half of the temporary files, because reading all of them would take the
// memory of a few blocks. It does not count the last file, which may be incomplete, and never returns true for fewer
// than four files.
func (in Input) areMany(files []*sortedBlock) bool {
	const minFiles = 4
	cost := int64(batches.SpilledBytes)
	for _, b := range files[:max(len(files)-1, 0)] {
		cost += b.file.Cost
	}
	return len(files) >= minFiles && cost >= min(max(4*in.Memory, 16*batches.SpilledBytes), 128*batches.SpilledBytes)
}

// mergeSmallest merges half of the files into one file.
func (in Input) mergeSmallest(ctx context.Context, files []*sortedBlock) ([]*sortedBlock, error) {
	n := len(files) / 2
	first := spill.ShortestNeighbors(files, n)
	group := files[first : first+n]
	merged := &sortedBlock{}
	var err error
	merged.file, err = batches.Spill(os.TempDir(), Merge(ctx, All, 0, in.sources(group)...), schema.Convert)
	if err != nil {
		return files, err
	}
	for _, b := range group {
		merged.size += b.size
		b.release()
	}
	return slices.Replace(files, first, first+n, merged), nil
}

func (in Input) sources(blocks []*sortedBlock) []Source {
	sources := make([]Source, len(blocks))
	for i, b := range blocks {
		sources[i] = Source{Keys: in.Keys, Batches: b.rows}
		if b.order != nil { // Copying rows in order takes time, so a goroutine does it ahead. There are few such blocks.
			sources[i].Batches = batches.Ahead(b.rows, 1)
		}
	}
	return sources
}

// blocks yields the rows in sorted blocks of about in.Memory bytes. It sorts a block while it reads the next one.
func (in Input) blocks() iter.Seq2[*sortedBlock, error] {
	return func(yield func(*sortedBlock, error) bool) {
		var batches []arrow.RecordBatch
		var size, rows int64
		maxRows := max(in.Memory/sortRowBytes, minBlockRows)
		var sorting func() (*sortedBlock, error) // waits for the previous block; nil if there is none
		defer func() {
			take.Release(batches)
			if sorting != nil {
				b, _ := sorting()
				b.release()
			}
		}()
		// flush waits for the previous block, starts to sort the current one, and yields the previous one.
		flush := func() (more bool) {
			var previous *sortedBlock
			var err error
			wait := sorting
			sorting = nil
			if wait != nil {
				previous, err = wait()
			}
			if block, blockSize := batches, size; err == nil && len(block) > 0 {
				sorting = background(func() (*sortedBlock, error) { return newBlock(block, in.Keys, blockSize) })
				batches, size, rows = nil, 0, 0
			}
			return wait == nil || yield(previous, err) && err == nil
		}
		for b, err := range in.Batches {
			if err != nil {
				yield(nil, err)
				return
			}
			if b.NumRows() == 0 {
				b.Release()
				continue
			}
			batches = append(batches, b)
			size, rows = size+in.Size(b), rows+b.NumRows()
			if (size >= in.Memory || rows >= maxRows) && !flush() {
				return
			}
		}
		if flush() { // yields the block before the last, and then the last one
			flush()
		}
	}
}

// background calls f in a goroutine. The returned function waits for f and returns its results or panics as f did.
func background[T any](f func() (T, error)) (wait func() (T, error)) {
	wait = sync.OnceValues(f)
	go func() {
		defer func() { _ = recover() }() // wait panics in its caller too
		_, _ = wait()                    // wait returns the result to its caller
	}()
	return wait
}
