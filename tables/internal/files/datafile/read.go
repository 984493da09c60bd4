package datafile

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// step is a range of rows in a row group that are read together.
type step struct {
	span
	conditionArrays []arrow.Array // the condition's columns
	keptRows        []int         // indices of the rows to keep; nil means all rows
	isEmpty         bool          // no row is kept
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

// split divides a step into steps of at most the given number of rows, and omits those without rows to keep. The new
// steps share the columns' memory.
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

// keptValues returns the values to keep from column c, which has the rows in columnSpan.
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
		c, err = take.Rows(c, rows)
		if err != nil {
			return nil, err
		}
	}
	return decode(c)
}

// span is the range [from, to) of rows in a row group.
type span struct{ from, to int64 }

func (s span) rows() int64 { return s.to - s.from }

// decode converts a column that was read as codes to strings. It returns other columns unchanged.
func decode(a arrow.Array) (arrow.Array, error) {
	codes, ok := a.(*array.Dictionary)
	if !ok {
		return a, nil
	}
	indices := make([]int, a.Len())
	for i, code := range codes.Indices().(*array.Int32).Int32Values() {
		indices[i] = int(code)
		if a.IsNull(i) {
			indices[i] = -1
		}
	}
	return take.Rows(codes.Dictionary(), indices)
}
