package sorted

import (
	"context"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/spill"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/take"
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
	return func(yield func(arrow.RecordBatch, error) bool) {
		next, stop := iter.Pull2(in.blocks)
		defer stop()
		in.mergeBlocks(ctx, rule, next, nil)(yield)
	}
}

// Parts calls f with one or two parts of the rows, each sorted and with the rule applied. The first part has
// the leading blocks that are already in order, and needs no temporary file. The second part has the rest.
func Parts(ctx context.Context, rule Rule, in Input, f func(Batches) error) error {
	next, stop := iter.Pull2(in.blocks)
	defer stop()
	var misplaced arrow.RecordBatch // first block that does not come after the previous one
	exhausted := false
	err := f(Merge(ctx, rule, 0, Source{Keys: in.Keys, Batches: func(yield func(arrow.RecordBatch, error) bool) {
		var last arrow.RecordBatch
		defer func() {
			if last != nil {
				last.Release()
			}
		}()
		for {
			b, err, ok := next()
			if err != nil || !ok {
				if exhausted = true; err != nil {
					yield(nil, err)
				}
				return
			}
			if last != nil {
				follows, err := in.follows(last, b, rule)
				if err != nil {
					yield(nil, err)
					return
				}
				if !follows {
					misplaced = b
					return
				}
				last.Release()
			}
			last = b.NewSlice(b.NumRows()-1, b.NumRows())
			if !yield(b, nil) {
				return
			}
		}
	}}))
	if misplaced == nil {
		return err
	}
	if err != nil || exhausted {
		misplaced.Release()
		return err
	}
	return f(in.mergeBlocks(ctx, rule, next, misplaced))
}

// follows reports whether all rows of b come after the row last. Rows with the same keys as last follow only
// if the rule keeps all rows.
func (in Input) follows(last, b arrow.RecordBatch, rule Rule) (bool, error) {
	k, err := keysOf(last, in.Keys)
	if err != nil {
		return false, err
	}
	l, err := keysOf(b, in.Keys)
	if err != nil {
		return false, err
	}
	n := k.compare(0, l, 0)
	return n < 0 || n == 0 && rule == All, nil
}

// mergeBlocks yields the rows of sorted blocks in order. If firstBlock is not nil, it comes before the blocks
// that next returns.
func (in Input) mergeBlocks(ctx context.Context, rule Rule, next func() (arrow.RecordBatch, error, bool), firstBlock arrow.RecordBatch) Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		var runs []*spillFile
		defer func() {
			for _, r := range runs {
				r.close()
			}
			if firstBlock != nil {
				firstBlock.Release()
			}
		}()
		sources := func() (sources []Source) {
			for _, r := range runs {
				sources = append(sources, Source{Keys: in.Keys, Batches: r.batches})
			}
			return sources
		}
		for {
			b, ok, err := firstBlock, true, error(nil)
			if firstBlock = nil; b == nil {
				b, err, ok = next()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !ok {
				break
			}
			r, err := spillRows(func(yield func(arrow.RecordBatch, error) bool) { yield(b, nil) })
			if err == nil {
				if runs = append(runs, r); len(runs) == maxRuns {
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
func (in Input) blocks(yield func(arrow.RecordBatch, error) bool) {
	var pending []arrow.RecordBatch
	defer func() { take.Release(pending) }()
	flush := func() bool {
		if len(pending) == 0 {
			return true
		}
		b, err := Block(pending, in.Keys)
		take.Release(pending)
		pending = nil
		return yield(b, err) && err == nil
	}
	size := int64(0)
	for b, err := range in.Batches {
		if err != nil {
			yield(nil, err)
			return
		}
		if b.NumRows() == 0 {
			b.Release()
			continue
		}
		pending = append(pending, b)
		if size += in.Size(b); size >= in.Memory {
			if size = 0; !flush() {
				return
			}
		}
	}
	flush()
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
