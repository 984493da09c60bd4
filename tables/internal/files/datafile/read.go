package datafile

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// step is a range of rows of a row group that are read together.
type step struct {
	span
	conditionArrays []arrow.Array // the condition's columns
	keptRows        []int         // indices of the rows to keep; nil means all rows
	isEmpty         bool          // no row is kept
}

func (f *file) rows(ctx context.Context, g group) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if err := f.readGroup(ctx, g, yield); err != nil {
			yield(nil, fmt.Errorf("file %s: %w", f.name, err))
		}
	}
}

// chooseRows determines which rows of a step to keep, according to the condition and the deletes.
func (f *file) chooseRows(st *step, firstRow int64) error {
	where, deletes := f.scan.Where, f.deletes
	if where == nil && deletes == nil {
		return nil
	}
	keep, err := where.Holds(int(st.rows()), func(name string) arrow.Array { return st.conditionArrays[slices.Index(where.Columns, name)] })
	if err != nil {
		return err
	}
	if deletes != nil {
		if err := deletes.MarkDeleted(firstRow, keep, st.conditionArrays[len(f.scan.ConditionColumns):]); err != nil {
			return err
		}
	}
	kept := take.Indices(keep)
	st.isEmpty = len(kept) == 0
	if int64(len(kept)) < st.rows() {
		st.keptRows = kept
	}
	return nil
}

// keptSpan returns the range from the first to the last row to keep.
func (st *step) keptSpan() span {
	if st.keptRows == nil {
		return st.span
	}
	return span{st.from + int64(st.keptRows[0]), st.from + int64(st.keptRows[len(st.keptRows)-1]) + 1}
}

// split divides a step into steps of at most rows rows, and omits those without rows to keep. The new steps share the
// columns' memory.
func (st *step) split(rows int64) (steps []step) {
	kept := st.keptRows
	for start := st.from; start < st.to; start += rows {
		part := step{span: span{start, min(start+rows, st.to)}}
		for st.keptRows != nil && len(kept) > 0 && int64(kept[0]) < part.to-st.from {
			part.keptRows, kept = append(part.keptRows, kept[0]-int(start-st.from)), kept[1:]
		}
		if st.keptRows != nil && part.keptRows == nil {
			continue
		}
		for _, a := range st.conditionArrays {
			part.conditionArrays = append(part.conditionArrays, array.NewSlice(a, start-st.from, part.to-st.from))
		}
		steps = append(steps, part)
	}
	return steps
}

func (st *step) count() int64 {
	if st.keptRows == nil {
		return st.rows()
	}
	return int64(len(st.keptRows))
}

// keptValues returns the values to keep of column c, which has the rows of columnSpan.
func (st *step) keptValues(c arrow.Array, columnSpan span) (arrow.Array, error) {
	if st.keptRows != nil && columnSpan.rows() > st.count() {
		rows, skipped := st.keptRows, int(columnSpan.from-st.from)
		if skipped > 0 {
			rows = make([]int, len(st.keptRows))
			for i, row := range st.keptRows {
				rows[i] = row - skipped
			}
		}
		var err error
		if c, err = take.Rows(c, rows); err != nil {
			return nil, err
		}
	}
	return decode(c)
}

// span is the range of rows [from, to) of a row group.
type span struct{ from, to int64 }

func (s span) rows() int64 { return s.to - s.from }

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
