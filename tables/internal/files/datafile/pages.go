package datafile

import (
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/parquet/metadata"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
)

const (
	maxIndexBytes = 16 << 20 // bytes; a larger page index is ignored
	minSeekRows   = 1 << 12  // decoding fewer rows is faster than seeking to another page
)

// pageIndex returns the page index of a row group, or nil if it is missing or invalid.
func (f *file) pageIndex(g group) *metadata.RowGroupPageIndexReader {
	group, size := f.parsed.MetaData().RowGroup(g.number), f.parsed.MetaData().GetSourceFileSize()
	for _, location := range []func(int) (metadata.IndexLocation, bool){group.ColumnIndexLocation, group.OffsetIndexLocation} {
		// The library reads the indexes of all columns together, so check the size of the whole range.
		start, end := int64(math.MaxInt64), int64(0)
		for i := range group.NumColumns() {
			if index, ok := location(i); ok {
				start, end = min(start, index.Offset), max(end, index.Offset+int64(index.Length))
			}
		}
		if end > 0 && (start < 0 || end > min(size, start+maxIndexBytes)) {
			return nil
		}
		columns := slices.Concat(f.scan.ConditionColumns, f.scan.Columns)
		if f.deletes != nil {
			columns = append(columns, f.deletes.Columns...)
		}
		for _, c := range columns {
			if leaf := f.leafIndex(c); leaf >= 0 {
				if index, ok := location(leaf); ok && (index.Length <= 0 || !arrowsafe.Whole(f.opened, index.Offset, int(index.Length))) {
					return nil
				}
			}
		}
	}
	index, err := f.parsed.GetPageIndexReader().RowGroup(g.number)
	if err != nil {
		return nil
	}
	return index
}

// pageStarts returns the first row of each page of a column, or nil if the column is nested or has no valid page index.
func (f *file) pageStarts(g group, leaf int) (rows []int64) {
	meta := f.parsed.MetaData()
	if g.index == nil || meta.Schema.Column(leaf).MaxRepetitionLevel() > 0 {
		return nil
	}
	index, err := g.index.GetOffsetIndex(leaf)
	if err != nil || index == nil {
		return nil
	}
	chunk, err := meta.RowGroup(g.number).ColumnChunk(leaf)
	if err != nil {
		return nil
	}
	row, minOffset := int64(-1), chunk.DataPageOffset()
	for i, page := range index.GetPageLocations() {
		if page.FirstRowIndex <= row || i == 0 && page.FirstRowIndex != 0 || page.Offset < minOffset || page.CompressedPageSize <= 0 {
			return nil
		}
		row, minOffset = page.FirstRowIndex, page.Offset+int64(page.CompressedPageSize)
		rows = append(rows, row)
	}
	if row >= g.rows || minOffset > meta.GetSourceFileSize() {
		return nil
	}
	return rows
}

// pageBounds holds the row range of a page and the bounds of its values.
type pageBounds struct {
	span
	filter.Bounds
}

// columnPages returns a column's pages in a row group, or nil if they are unknown.
func (f *file) columnPages(g group, c Column) (pages []pageBounds) {
	leaf, _ := f.statsLeaf(c)
	if g.index == nil || leaf < 0 {
		return nil
	}
	starts := f.pageStarts(g, leaf)
	index, err := g.index.GetColumnIndex(leaf)
	if starts == nil || err != nil || index == nil || len(index.GetNullPages()) != len(starts) {
		return nil
	}
	for i, end := range append(starts[1:], g.rows) {
		p := pageBounds{span{starts[i], end}, filter.Bounds{Rows: end - starts[i], Nulls: -1}}
		if index.GetNullPages()[i] {
			p.Nulls = p.Rows
		} else {
			p.Min, p.Max = index.GetMinValues()[i], index.GetMaxValues()[i]
			if index.IsSetNullCounts() {
				p.Nulls = index.GetNullCounts()[i]
			}
		}
		pages = append(pages, p)
	}
	return pages
}

// spans returns the rows of a row group that can match according to page statistics. It also sets g.index.
func (f *file) spans(g *group) (spans []span, err error) {
	defer f.recoverPanic(&err)
	spans = []span{{max(0, f.skip-g.first), g.rows}}
	where := f.scan.Where
	if where != nil || spans[0].from > 0 {
		g.index = f.pageIndex(*g)
	}
	if where == nil {
		return spans, nil
	}
	for _, c := range f.scan.ConditionColumns {
		pages := f.columnPages(*g, c)
		if pages == nil {
			continue
		}
		var matching []span
		for _, p := range pages {
			if mayMatch, _ := where.May(func(name string) filter.Bounds {
				if name == c.Field.Name {
					return p.Bounds
				}
				return f.boundsOf(*g, name)
			}); !mayMatch {
				continue
			}
			if last := len(matching) - 1; last >= 0 && matching[last].to == p.from {
				matching[last].to = p.to
			} else {
				matching = append(matching, p.span)
			}
		}
		spans = intersect(spans, matching)
	}
	return spans, nil
}

func intersect(a, b []span) (result []span) {
	for len(a) > 0 && len(b) > 0 {
		if s := (span{max(a[0].from, b[0].from), min(a[0].to, b[0].to)}); s.from < s.to {
			result = append(result, s)
		}
		if a[0].to < b[0].to {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return result
}
