package tables

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/schema"
)

// Head reads the first n rows.
func (t *Table) Head(ctx context.Context, n int64) (array.RecordReader, error) {
	if n < 1 {
		return nil, t.error("scan", errors.New("the first rows are one at least"))
	}
	return t.Scan(ctx, &ScanOptions{Limit: n})
}

// Tail reads the last n rows, in their order.
func (t *Table) Tail(ctx context.Context, n int64) (array.RecordReader, error) {
	if n < 1 {
		return nil, t.error("scan", errors.New("the last rows are one at least"))
	}
	return t.Scan(ctx, &ScanOptions{Last: n})
}

// Last reads the last row.
func (t *Table) Last(ctx context.Context) (array.RecordReader, error) { return t.Tail(ctx, 1) }

// last prepares a scan of the last rows. It counts rows from some time on, which
// the files' bounds say, and goes further back where these are not enough.
func (r *reader) last(wanted int64) error {
	asked := r.filters
	few := schema.Names(r.def.Logical)[:1]
	if r.series != nil {
		few = r.series.Names
	}
	for enough := wanted; ; enough *= 8 {
		r.filters = slices.Clone(asked)
		if r.series != nil {
			after, err := r.series.Since(r.ctx, enough, r.rows)
			if err != nil {
				return err
			}
			if after != nil {
				r.filters = append(r.filters, after)
			}
		}
		count, err := r.count(few)
		if err != nil {
			return err
		}
		if count >= wanted || len(r.filters) == len(asked) || enough > math.MaxInt64/8 {
			r.skip = max(0, count-wanted)
			return nil
		}
	}
}

// count counts the rows that the filters let through, reading a few columns.
func (r *reader) count(columns []string) (count int64, err error) {
	c := r.view.reader(r.ctx, r.filters...)
	if err := c.plan(columns); err != nil {
		return 0, err
	}
	for b, err := range c.batches {
		if err != nil {
			return 0, err
		}
		count += b.NumRows()
		b.Release()
	}
	return count, nil
}
