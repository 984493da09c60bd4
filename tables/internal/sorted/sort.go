package sorted

import (
	"context"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/take"
)

// Input is rows in any order.
type Input struct {
	Batches Batches
	Keys    []int
	Memory  int64                         // sort about so many bytes at a time
	Size    func(arrow.RecordBatch) int64 // of a batch, in bytes
}

// mostRuns is how many sorted runs lie in files before they are made one.
const mostRuns = 128

// Sort yields the rows in order, as the rule says, by way of temporary files where
// they take more than the memory. Rows of equal keys stay in the order in which
// they came.
func Sort(ctx context.Context, rule Rule, in Input) Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		next, stop := iter.Pull2(in.blocks)
		defer stop()
		in.merged(ctx, rule, next, nil)(yield)
	}
}

// Parts calls f with one or two parts of the rows, each in order, as the rule
// says: rows that come in order are the first, as they come, and what is left
// from where that ends is sorted. So rows that are in order touch no temporary file.
func Parts(ctx context.Context, rule Rule, in Input, f func(Batches) error) error {
	next, stop := iter.Pull2(in.blocks)
	defer stop()
	var misplaced arrow.RecordBatch // the first block that does not follow on those before
	ended := false
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
				if ended = true; err != nil {
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
	if err != nil || ended {
		misplaced.Release()
		return err
	}
	return f(in.merged(ctx, rule, next, misplaced))
}

// follows reports whether the rows of a block come after a row, and are none that
// the rule is about.
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

// merged yields the rows of blocks in order, of which the first may be known already.
func (in Input) merged(ctx context.Context, rule Rule, next func() (arrow.RecordBatch, error, bool), first arrow.RecordBatch) Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		var runs []*file
		defer func() {
			for _, r := range runs {
				r.close()
			}
			if first != nil {
				first.Release()
			}
		}()
		sources := func() (all []Source) {
			for _, r := range runs {
				all = append(all, Source{Keys: in.Keys, Batches: r.batches})
			}
			return all
		}
		for {
			b, ok, err := first, true, error(nil)
			if first = nil; b == nil {
				b, err, ok = next()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !ok {
				break
			}
			r, err := spillRows(one(b))
			if err == nil {
				if runs = append(runs, r); len(runs) == mostRuns {
					if r, err = spillRows(Merge(ctx, All, 0, sources()...)); err == nil {
						for _, r := range runs {
							r.close()
						}
						runs = []*file{r}
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

func one(b arrow.RecordBatch) Batches {
	return func(yield func(arrow.RecordBatch, error) bool) { yield(b, nil) }
}

// blocks yields the rows in sorted batches of about the memory each.
func (in Input) blocks(yield func(arrow.RecordBatch, error) bool) {
	var gathered []arrow.RecordBatch
	defer func() { take.Release(gathered) }()
	flush := func() bool {
		if len(gathered) == 0 {
			return true
		}
		b, err := Block(gathered, in.Keys)
		take.Release(gathered)
		gathered = nil
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
		gathered = append(gathered, b)
		if size += in.Size(b); size >= in.Memory {
			if size = 0; !flush() {
				return
			}
		}
	}
	flush()
}

// Block makes one sorted batch of some, at least one. Rows of equal keys stay in
// their order.
func Block(batches []arrow.RecordBatch, columns []int) (arrow.RecordBatch, error) {
	whole, err := take.Concat(batches)
	if err != nil {
		return nil, err
	}
	defer whole.Release()
	k, err := keysOf(whole, columns)
	if err != nil {
		return nil, err
	}
	n := int(whole.NumRows())
	if k.inOrder(n) {
		whole.Retain()
		return whole, nil
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return k.compare(a, k, b) })
	return take.Batch(whole, order)
}
