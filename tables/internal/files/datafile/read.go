package datafile

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// maxHeldBytes limits the decoded size of the condition's columns that stay in memory until the rows to keep are
// known.
const maxHeldBytes = 32 << 20

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

// readGroup reads the condition's columns first, and the other columns only where rows are kept.
func (f *file) readGroup(ctx context.Context, g group, yield func(arrow.RecordBatch, error) bool) error {
	conditionColumns := slices.Clone(f.scan.ConditionColumns)
	if f.deletes != nil {
		conditionColumns = append(conditionColumns, f.deletes.Columns...)
	}
	var otherColumns []Column
	var columnIndex []int // for each result column, its index in the concatenation of conditionColumns and otherColumns
	for _, c := range f.scan.Columns {
		id, _ := idOf(c.IDs)
		i := slices.IndexFunc(conditionColumns, func(l Column) bool {
			other, _ := idOf(l.IDs)
			return other == id
		})
		if i < 0 {
			i = len(conditionColumns) + len(otherColumns)
			otherColumns = append(otherColumns, c)
		}
		columnIndex = append(columnIndex, i)
	}
	spans, err := f.spans(&g)
	if err != nil || len(spans) == 0 {
		return err
	}
	conditionReader, err := f.columns(ctx, f.conditionReader, g, conditionColumns, len(f.scan.ConditionColumns))
	if err != nil {
		return err
	}
	defer conditionReader.release()
	nextStep := func() (st step, err error) {
		if err := canceled.Err(ctx); err != nil {
			return st, err
		}
		st.span = spans[0]
		if st.to = min(st.to, st.from+conditionReader.maxRows); st.to == spans[0].to {
			spans = spans[1:]
		} else {
			spans[0].from = st.to
		}
		if err = conditionReader.seek(st.from); err == nil {
			st.conditionArrays, err = conditionReader.next(st.rows())
		}
		if err != nil {
			return st, err
		}
		if err = f.chooseRows(&st, g.first+st.from); err == nil && st.isEmpty {
			conditionReader.releaseArrays(st.conditionArrays)
		}
		return st, err
	}
	var heldSteps []step // steps with matching rows
	canHold := len(otherColumns) > 0 && len(conditionColumns) > 0 && f.size(g, conditionColumns) <= maxHeldBytes
	for size := int64(0); canHold && len(spans) > 0 && size <= maxHeldBytes; {
		st, err := nextStep()
		if err != nil {
			return err
		}
		if !st.isEmpty {
			heldSteps = append(heldSteps, st)
			for _, a := range st.conditionArrays {
				size += bufferBytes(a.Data())
			}
		}
	}
	if len(heldSteps) == 0 && len(spans) == 0 {
		return nil
	}
	otherReader, err := f.columns(ctx, f.reader, g, otherColumns, len(otherColumns))
	if err != nil {
		return err
	}
	defer otherReader.release()
	schema := f.scan.Schema()
	for len(heldSteps) > 0 || len(spans) > 0 {
		var st step
		if len(heldSteps) > 0 {
			st, heldSteps = heldSteps[0], heldSteps[1:]
		} else if st, err = nextStep(); err != nil {
			return err
		}
		if st.isEmpty {
			continue
		}
		if st.rows() > otherReader.maxRows {
			heldSteps = append(st.split(otherReader.maxRows), heldSteps...)
			conditionReader.releaseArrays(st.conditionArrays)
			continue
		}
		keptSpan := st.keptSpan()
		if err := otherReader.seek(keptSpan.from); err != nil {
			return err
		}
		otherArrays, err := otherReader.next(keptSpan.rows())
		if err != nil {
			return err
		}
		columns := make([]arrow.Array, len(columnIndex))
		for i, index := range columnIndex {
			if index < len(conditionColumns) {
				columns[i], err = st.keptValues(st.conditionArrays[index], st.span)
			} else {
				columns[i], err = st.keptValues(otherArrays[index-len(conditionColumns)], keptSpan)
			}
			if err != nil {
				return fmt.Errorf("column %q: %w", schema.Field(i).Name, err)
			}
			if f.lineage.FirstRowID != nil {
				columns[i] = f.inherit(f.scan.Columns[i], columns[i], &st, g.first)
			}
		}
		b := array.NewRecordBatch(schema, columns, st.count())
		if st.keptRows != nil || f.scan.Recycle { // Releasing is safe: b has copies of the kept values, or its own references to the arrays.
			conditionReader.releaseArrays(st.conditionArrays)
		}
		if f.scan.Recycle {
			otherReader.releaseArrays(otherArrays)
		}
		if !yield(b, nil) {
			return nil
		}
	}
	return canceled.Err(ctx)
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
