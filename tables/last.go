package tables

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
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
func (r *reader) last(ctx context.Context, v *view, o *ScanOptions) error {
	asked := r.filters
	few := schema.Names(v.returned)[:1]
	if v.order != nil {
		few = v.order.Names
	}
	for enough := o.Last; ; enough *= 8 {
		since, err := r.since(ctx, v, enough)
		if err != nil {
			return err
		}
		r.filters = slices.Clone(asked)
		if since != math.MinInt64 {
			column := v.returned.Field(v.returned.FieldIndices(few[0])[0])
			kept := v.order.timeType(v.schema)
			after, err := within(&sorted.Bounds{Lowest: since, Highest: math.MaxInt64}, column, kept)
			if err != nil {
				return err
			}
			if after != nil {
				r.filters = append(r.filters, after)
			}
		}
		count, err := r.count(ctx, v, few)
		if err != nil {
			return err
		}
		if count >= o.Last || len(r.filters) == len(asked) || enough > math.MaxInt64/8 {
			r.skip = max(0, count-o.Last)
			return nil
		}
	}
}

// count counts the rows that the filters let through, reading a few columns.
func (r *reader) count(ctx context.Context, v *view, columns []string) (count int64, err error) {
	c := &reader{s: r.s, table: r.table, ctx: ctx, tail: v.rows, left: -1, filters: r.filters}
	if err := c.choose(v, columns); err != nil {
		return 0, err
	}
	if err := c.plan(ctx, v); err != nil {
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

// group is rows that come after a time.
type group struct{ lowest, rows int64 }

// since returns a time that so many rows are not before, as far as it is known
// without reading them; the smallest number if it is not.
func (r *reader) since(ctx context.Context, v *view, enough int64) (int64, error) {
	if v.order == nil {
		return math.MinInt64, nil
	}
	var files []*orderedFile
	var err error
	if v.t.CurrentSnapshot() != nil {
		if files, err = v.order.files(ctx, v.t, v.at()...); err != nil {
			return 0, err
		}
	}
	slices.SortStableFunc(files, func(a, b *orderedFile) int {
		if a.bounds == nil || b.bounds == nil {
			return 0
		}
		return cmp.Compare(b.bounds.Highest, a.bounds.Highest)
	})
	var groups []group
	names := v.order.Names
	for _, b := range v.rows {
		if b.NumRows() > 0 {
			from := max(0, b.NumRows()-enough)
			part := b.NewSlice(from, b.NumRows())
			if bounds := batchBounds(part, b.Schema().FieldIndices(names[0])[0]); bounds != nil {
				groups = append(groups, group{bounds.Lowest, b.NumRows() - from})
			}
			part.Release()
		}
	}
	found := int64(math.MinInt64)
	for _, f := range files {
		if f.bounds == nil {
			return math.MinInt64, nil
		}
		if found = enoughSince(groups, enough); found > f.bounds.Highest {
			break
		}
		more, err := v.groups(ctx, f)
		if err != nil {
			return 0, err
		}
		groups = append(groups, more...)
	}
	return enoughSince(groups, enough), nil
}

// enoughSince returns the latest time that groups with so many rows begin at.
func enoughSince(groups []group, enough int64) int64 {
	slices.SortFunc(groups, func(a, b group) int { return cmp.Compare(b.lowest, a.lowest) })
	for _, g := range groups {
		if enough -= g.rows; enough <= 0 {
			return g.lowest
		}
	}
	return math.MinInt64
}

// groups returns the groups of rows of a file.
func (v *view) groups(ctx context.Context, f *orderedFile) (all []group, err error) {
	whole := []group{{f.bounds.Lowest, f.file().Count()}}
	if !v.order.inOrder(f.file()) || f.file().FileFormat() != iceberg.ParquetFile || len(f.file().SplitOffsets()) == 1 || datafile.HasDeletes(f.task) {
		return whole, nil
	}
	scan, err := datafile.NewScan(ctx, v.t, v.schema, v.order.Names[:1], nil)
	if err != nil {
		return nil, err
	}
	bounds, err := scan.Groups(ctx, f.file().FilePath())
	for _, b := range bounds {
		low, ok := bound(b.Least)
		if !ok {
			return whole, nil
		}
		all = append(all, group{low, b.Rows})
	}
	return all, err
}
