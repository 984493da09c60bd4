package series

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// rowGroup is a group of rows in a file or batch: a lower bound on their times and the number of rows.
type rowGroup struct{ lowest, rows int64 }

// LastRowsFilter returns a condition for the last minRows rows, or a few more, in the files and the tail (rows not in
// files yet), without reading rows. The count includes rows that delete files remove, so the condition can select fewer
// than minRows rows. LastRowsFilter returns nil if too little is known about the files' bounds.
func (s *Series) LastRowsFilter(ctx context.Context, minRows int64, tail []arrow.RecordBatch) (*filter.Expr, error) {
	start, err := s.lastRowsStart(ctx, minRows, tail)
	if err != nil || start == math.MinInt64 {
		return nil, err
	}
	return s.boundsFilter(&sorted.Bounds{Lowest: start, Highest: math.MaxInt64}, s.def.Logical)
}

// lastRowsStart returns the lowest time that LastRowsFilter selects, or math.MinInt64 for all rows.
func (s *Series) lastRowsStart(ctx context.Context, minRows int64, tail []arrow.RecordBatch) (int64, error) {
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
	var groups []rowGroup
	for _, b := range tail {
		if b.NumRows() > 0 {
			start := max(0, b.NumRows()-minRows)
			slice := b.NewSlice(start, b.NumRows())
			if bounds := s.BatchBounds(slice); bounds != nil {
				groups = append(groups, rowGroup{bounds.Lowest, b.NumRows() - start})
			}
			slice.Release()
		}
	}
	for _, f := range files {
		if f.Bounds == nil {
			return math.MinInt64, nil
		}
		if latestStart(groups, minRows) > f.Bounds.Highest {
			break
		}
		fileGroups, err := s.rowGroups(ctx, f)
		if err != nil {
			return 0, err
		}
		groups = append(groups, fileGroups...)
	}
	return latestStart(groups, minRows), nil
}

// latestStart returns the highest time such that the groups starting at or after it contain at least minRows rows.
func latestStart(groups []rowGroup, minRows int64) int64 {
	slices.SortFunc(groups, func(a, b rowGroup) int { return cmp.Compare(b.lowest, a.lowest) })
	for _, group := range groups {
		minRows -= group.rows
		if minRows <= 0 {
			return group.lowest
		}
	}
	return math.MinInt64
}

func (s *Series) rowGroups(ctx context.Context, f *File) (rowGroups []rowGroup, err error) {
	wholeFile := []rowGroup{{f.Bounds.Lowest, f.Data().Count()}}
	if !s.InOrder(f.Data()) || f.Data().FileFormat() != iceberg.ParquetFile || len(f.Data().SplitOffsets()) == 1 || datafile.HasDeletes(f.Task) {
		return wholeFile, nil
	}
	scan, err := datafile.NewScan(ctx, s.table, s.def.Columns, s.Names[:1], nil)
	if err != nil {
		return nil, err
	}
	bounds, err := scan.GroupBounds(ctx, f.Data().FilePath())
	for _, b := range bounds {
		low, ok := s.bound(b.Min)
		if !ok {
			return wholeFile, nil
		}
		rowGroups = append(rowGroups, rowGroup{low, b.Rows})
	}
	return rowGroups, err
}
