package series

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// group is a number of rows whose times are at least lowest.
type group struct{ lowest, rows int64 }

// Since returns a condition for the latest start time from which the files and the tail have at least enough
// rows. It does not read the files' rows, and returns nil if their bounds do not suffice.
func (s *Series) Since(ctx context.Context, enough int64, tail []arrow.RecordBatch) (*filter.Expr, error) {
	since, err := s.since(ctx, enough, tail)
	if err != nil || since == math.MinInt64 {
		return nil, err
	}
	return s.within(&sorted.Bounds{Lowest: since, Highest: math.MaxInt64}, s.def.Logical)
}

func (s *Series) since(ctx context.Context, enough int64, tail []arrow.RecordBatch) (int64, error) {
	files, err := s.Files(ctx)
	if err != nil {
		return 0, err
	}
	slices.SortStableFunc(files, func(a, b *File) int {
		if a.Bounds == nil || b.Bounds == nil {
			return 0
		}
		return cmp.Compare(b.Bounds.Highest, a.Bounds.Highest)
	})
	var groups []group
	for _, b := range tail {
		if b.NumRows() > 0 {
			from := max(0, b.NumRows()-enough)
			part := b.NewSlice(from, b.NumRows())
			if bounds := s.BatchBounds(part); bounds != nil {
				groups = append(groups, group{bounds.Lowest, b.NumRows() - from})
			}
			part.Release()
		}
	}
	for _, f := range files {
		if f.Bounds == nil {
			return math.MinInt64, nil
		}
		if enoughSince(groups, enough) > f.Bounds.Highest {
			break
		}
		fileGroups, err := s.groups(ctx, f)
		if err != nil {
			return 0, err
		}
		groups = append(groups, fileGroups...)
	}
	return enoughSince(groups, enough), nil
}

// enoughSince returns the latest time from which groups have enough rows.
func enoughSince(groups []group, enough int64) int64 {
	slices.SortFunc(groups, func(a, b group) int { return cmp.Compare(b.lowest, a.lowest) })
	for _, g := range groups {
		if enough -= g.rows; enough <= 0 {
			return g.lowest
		}
	}
	return math.MinInt64
}

// groups returns the row groups of a file.
func (s *Series) groups(ctx context.Context, f *File) (groups []group, err error) {
	whole := []group{{f.Bounds.Lowest, f.Data().Count()}}
	if !s.InOrder(f.Data()) || f.Data().FileFormat() != iceberg.ParquetFile || len(f.Data().SplitOffsets()) == 1 || datafile.HasDeletes(f.Task) {
		return whole, nil
	}
	scan, err := datafile.NewScan(ctx, s.table, s.def.Columns, s.Names[:1], nil)
	if err != nil {
		return nil, err
	}
	bounds, err := scan.Groups(ctx, f.Data().FilePath())
	for _, b := range bounds {
		low, ok := bound(b.Min)
		if !ok {
			return whole, nil
		}
		groups = append(groups, group{low, b.Rows})
	}
	return groups, err
}
