package sorted

import (
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// Input is the rows to sort.
type Input struct {
	Batches Batches
	Keys    []int
	Memory  int64                         // approximate number of bytes to sort at a time
	Size    func(arrow.RecordBatch) int64 // returns the size of a batch in bytes
}

// maxRuns is the number of temporary files that Sort merges into one.
const maxRuns = 128

// Sort yields the rows in order, and applies rule to rows with equal keys, which keep their original order. It sorts
// blocks of about in.Memory bytes. If there are several blocks, it writes the blocks to temporary files and merges the
// files.
func Sort(ctx context.Context, rule Rule, in Input) Batches {
	return in.mergeBlocks(ctx, rule, in.blocks())
}

// Parts calls f with one or two parts of the rows, each sorted and with the rule applied. The first part has
// the leading blocks that are already in order, and needs no temporary file. The second part has the rest. Unless f
// fails, it must read all rows of a part.
func Parts(ctx context.Context, rule Rule, in Input, f func(Batches) error) error {
	parts := NewSplitter(in.blocks())
	defer parts.Close()
	var last arrow.RecordBatch // the last row of the first part so far
	defer func() {
		if last != nil {
			last.Release()
		}
	}()
	leading := parts.Part(func(b arrow.RecordBatch) (n int64, complete bool) {
		if last != nil {
			isNext := in.follows(last, b, rule)
			last.Release() // last keeps a whole block in memory
			last = nil
			if !isNext {
				return 0, true
			}
		}
		last = b.NewSlice(b.NumRows()-1, b.NumRows())
		return b.NumRows(), false
	})
	if err := f(Merge(ctx, rule, 0, Source{Keys: in.Keys, Batches: leading})); err != nil {
		return err
	}
	if misplaced, err := parts.Peek(); err != nil || misplaced == nil {
		return err
	}
	return f(in.mergeBlocks(ctx, rule, parts.Part(AllRows)))
}

// follows reports whether all rows of b come after the row last. Rows with the same keys as last follow only
// if the rule keeps all rows.
func (in Input) follows(last, b arrow.RecordBatch, rule Rule) bool {
	k, err := keysOf(last, in.Keys)
	l, err2 := keysOf(b, in.Keys)
	if err != nil || err2 != nil {
		return false // the merge reports the error
	}
	n := k.compare(0, l, 0)
	return n < 0 || n == 0 && rule == All
}

// mergeBlocks yields the rows of sorted blocks in order.
func (in Input) mergeBlocks(ctx context.Context, rule Rule, blocks Batches) Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		var runs []*spillFile
		defer func() {
			for _, r := range runs {
				r.close()
			}
		}()
		sources := func() (sources []Source) {
			for _, r := range runs {
				sources = append(sources, Source{Keys: in.Keys, Batches: r.batches})
			}
			return sources
		}
		for b, err := range blocks {
			if err != nil {
				yield(nil, err)
				return
			}
			r, err := spillRows(func(yield func(arrow.RecordBatch, error) bool) { yield(b, nil) })
			if err == nil {
				runs = append(runs, r)
				if len(runs) == maxRuns {
					if r, err = spillRows(Merge(ctx, All, 0, sources()...)); err == nil {
						for _, r := range runs {
							r.close()
						}
						runs = []*spillFile{r}
					}
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
		Merge(ctx, rule, 0, sources()...)(yield)
	}
}

// blocks yields the rows in sorted batches of about in.Memory bytes.
func (in Input) blocks() Batches {
	newCount := func() Counter {
		size := int64(0)
		return func(b arrow.RecordBatch) (n int64, complete bool) {
			size += in.Size(b)
			return b.NumRows(), size >= in.Memory
		}
	}
	return joinParts(in.Batches, newCount, func(batches []arrow.RecordBatch) (arrow.RecordBatch, error) { return Block(batches, in.Keys) })
}

// Block joins one or more batches into a batch sorted by columns. Rows with equal keys keep their order.
func Block(batches []arrow.RecordBatch, columns []int) (arrow.RecordBatch, error) {
	joined, err := take.Concat(batches)
	if err != nil {
		return nil, err
	}
	defer joined.Release()
	k, err := keysOf(joined, columns)
	if err != nil {
		return nil, err
	}
	n := int(joined.NumRows())
	if k.inOrder(n) {
		joined.Retain()
		return joined, nil
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return k.compare(a, k, b) })
	return take.Batch(joined, order)
}

const (
	spilledRows       = 1 << 12 // maximum number of rows of a batch in a file
	spilledBatchBytes = 1 << 20 // approximate memory for reading a file, in bytes
	spilledBlock      = 1 << 18 // bytes of a file that share a checksum
)

// spillFile is a temporary file with rows that can be read once.
type spillFile struct{ f *spill.File }

// spillRows writes rows to a temporary file. The batches are small, because a merge reads many files at the
// same time.
func spillRows(rows Batches) (_ *spillFile, err error) {
	f, err := tempdir.Create() // The file has no name, so it disappears with the process.
	if err != nil {
		return nil, err
	}
	t := &spillFile{spill.New(f, "sorted rows", spilledBlock)}
	t.f.Quota = &spill.Process
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	var w *ipc.Writer
	for b, err := range rows {
		if err != nil {
			return nil, err
		}
		if w == nil {
			w = ipc.NewWriter(t.f, ipc.WithSchema(b.Schema()))
		}
		batchRows := min(max(spilledBatchBytes/rowBytes(b), 1), spilledRows)
		for start := int64(0); start < b.NumRows() && err == nil; start += batchRows {
			slice := b.NewSlice(start, min(start+batchRows, b.NumRows()))
			err = w.Write(slice)
			slice.Release()
		}
		b.Release()
		if err != nil {
			return nil, err
		}
	}
	if w != nil {
		if err := w.Close(); err != nil {
			return nil, err
		}
	}
	return t, t.f.Finish()
}

func (t *spillFile) close() { _ = t.f.Close() }

func (t *spillFile) batches(yield func(arrow.RecordBatch, error) bool) {
	if t.f.Blocks() == 0 {
		return
	}
	r, err := ipc.NewReader(t.f.NewReader())
	if err != nil {
		yield(nil, err)
		return
	}
	defer r.Release()
	arrowsafe.Batches(r)(yield)
}

// viaFile passes rows through a temporary file. It writes all rows when the consumer asks for the first one.
func viaFile(rows Batches) Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		f, err := spillRows(rows)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.close()
		f.batches(yield)
	}
}
