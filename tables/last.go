package tables

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/datafile"
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
	if r.series == nil {
		return r.lastFiles(wanted)
	}
	asked := r.filters
	for enough := wanted; ; enough *= 8 {
		r.filters = slices.Clone(asked)
		after, err := r.series.Since(r.ctx, enough, r.rows)
		if err != nil {
			return err
		}
		if after != nil {
			r.filters = append(r.filters, after)
		}
		count, err := r.view.reader(r.ctx, r.filters...).count(r.series.Names)
		if err != nil {
			return err
		}
		if count >= wanted || len(r.filters) == len(asked) || enough > math.MaxInt64/8 {
			r.skip = max(0, count-wanted)
			return nil
		}
	}
}

// lastFiles is last for rows without an order. It counts those of the tail, and then goes
// from the last file to the first, more of them at a time, until there are enough.
func (r *reader) lastFiles(wanted int64) error {
	tasks, err := r.tasks(r.ctx)
	if err != nil {
		return err
	}
	few := schema.Names(r.def.Logical)[:1]
	r.from = len(tasks)
	count := func(files *view, from, to int) (n int64, err error) {
		c := files.reader(r.ctx, r.filters...)
		c.from, c.to = from, to
		return c.count(few)
	}
	all, err := count(r.view, len(tasks), len(tasks))
	noTail := *r.view
	noTail.rows = nil
	known := len(r.filters) == 0 // what a file's end says are the rows
	for step := 1; err == nil && all < wanted && r.from > 0; step *= 2 {
		to := r.from
		if known {
			step = 1
		}
		r.from = max(0, to-step)
		var n int64
		if known = known && !datafile.HasDeletes(tasks[r.from]); known {
			n, err = datafile.RowsOf(r.ctx, r.t, tasks[r.from])
		} else {
			n, err = count(&noTail, r.from, to)
		}
		all += n
	}
	if r.skip = max(0, all-wanted); known && r.from < len(tasks) {
		r.skip, r.skipping = 0, r.skip
	}
	return err
}

// count counts the rows that the filters let through, reading a few columns.
func (r *reader) count(columns []string) (count int64, err error) {
	if err := r.plan(columns); err != nil {
		return 0, err
	}
	for b, err := range r.batches {
		if err != nil {
			return 0, err
		}
		count += b.NumRows()
		b.Release()
	}
	return count, nil
}
