package datafile

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/base/canceled"
)

// groupReader reads a row group: the condition's columns first, and the other columns only where rows are kept.
type groupReader struct {
	f      *file
	g      group
	schema *arrow.Schema // schema of the result
	spans  []span        // rows for which the condition has not been evaluated yet
	held   []step        // steps whose condition has been evaluated, to yield next

	conditionColumns, otherColumns []Column
	condition, other               *columnReader
	// for each result column, its index in conditionColumns followed by otherColumns
	columnIndex []int
}

func (f *file) rows(ctx context.Context, g group) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if err := f.readGroup(ctx, g, yield); err != nil {
			yield(nil, fmt.Errorf("file %s: %w", f.name, err))
		}
	}
}

func (f *file) readGroup(ctx context.Context, g group, yield func(arrow.RecordBatch, error) bool) error {
	r := &groupReader{f: f, g: g, schema: f.scan.Schema()}
	r.divideColumns()
	var err error
	r.spans, err = f.spans(&r.g)
	if err != nil || len(r.spans) == 0 {
		return err
	}
	r.condition, err = f.openColumns(ctx, f.conditionReader, r.g, r.conditionColumns, len(f.scan.ConditionColumns))
	if err != nil {
		return err
	}
	defer r.condition.release()
	if err := r.holdSteps(ctx); err != nil {
		return err
	}
	if len(r.held) == 0 && len(r.spans) == 0 {
		return nil
	}
	r.other, err = f.openColumns(ctx, f.reader, r.g, r.otherColumns, len(r.otherColumns))
	if err != nil {
		return err
	}
	defer r.other.release()
	for len(r.held) > 0 || len(r.spans) > 0 {
		st, err := r.nextStep(ctx)
		if err != nil {
			return err
		}
		if st.isEmpty {
			continue
		}
		if st.rows() > r.other.maxRows {
			r.held = append(st.split(r.other.maxRows), r.held...)
			r.condition.releaseArrays(st.conditionArrays)
			continue
		}
		b, err := r.batch(&st)
		if err != nil {
			return err
		}
		if !yield(b, nil) {
			return nil
		}
	}
	return canceled.Err(ctx)
}

// divideColumns divides the columns into those that the condition and the deletes need, which are read first, and the
// others.
func (r *groupReader) divideColumns() {
	r.conditionColumns = slices.Clone(r.f.scan.ConditionColumns)
	if r.f.deletes != nil {
		r.conditionColumns = append(r.conditionColumns, r.f.deletes.Columns...)
	}
	for _, c := range r.f.scan.Columns {
		id, _ := idOf(c.IDs)
		i := slices.IndexFunc(r.conditionColumns, func(l Column) bool {
			other, _ := idOf(l.IDs)
			return other == id
		})
		if i < 0 {
			i = len(r.conditionColumns) + len(r.otherColumns)
			r.otherColumns = append(r.otherColumns, c)
		}
		r.columnIndex = append(r.columnIndex, i)
	}
}

// holdSteps reads the condition's columns for all rows and holds the steps that have rows to keep. It does nothing if
// the columns do not fit into memory. If no rows are kept, the other columns need not be opened.
func (r *groupReader) holdSteps(ctx context.Context) error {
	if len(r.otherColumns) == 0 || len(r.conditionColumns) == 0 || r.f.size(r.g, r.conditionColumns) > maxHeldBytes {
		return nil
	}
	for size := int64(0); len(r.spans) > 0 && size <= maxHeldBytes; {
		st, err := r.readStep(ctx)
		if err != nil {
			return err
		}
		if st.isEmpty {
			continue
		}
		r.held = append(r.held, st)
		for _, a := range st.conditionArrays {
			size += bufferBytes(a.Data())
		}
	}
	return nil
}

func (r *groupReader) nextStep(ctx context.Context) (st step, err error) {
	if len(r.held) == 0 {
		return r.readStep(ctx)
	}
	st, r.held = r.held[0], r.held[1:]
	return st, nil
}

// readStep reads the condition's columns of the next rows and determines which rows to keep.
func (r *groupReader) readStep(ctx context.Context) (st step, err error) {
	if err := canceled.Err(ctx); err != nil {
		return st, err
	}
	st.span = r.spans[0]
	st.to = min(st.to, st.from+r.condition.maxRows)
	if st.to == r.spans[0].to {
		r.spans = r.spans[1:]
	} else {
		r.spans[0].from = st.to
	}
	if err := r.condition.seek(st.from); err != nil {
		return st, err
	}
	st.conditionArrays, err = r.condition.next(st.rows())
	if err != nil {
		return st, err
	}
	if err := r.f.chooseRows(&st, r.g.first+st.from); err != nil {
		return st, err
	}
	if st.isEmpty {
		r.condition.releaseArrays(st.conditionArrays)
	}
	return st, nil
}

// batch reads the other columns of a step and returns the rows to keep.
func (r *groupReader) batch(st *step) (arrow.RecordBatch, error) {
	kept := st.keptSpan()
	if err := r.other.seek(kept.from); err != nil {
		return nil, err
	}
	otherArrays, err := r.other.next(kept.rows())
	if err != nil {
		return nil, err
	}
	result := make([]arrow.Array, len(r.columnIndex))
	for i, index := range r.columnIndex {
		if index < len(r.conditionColumns) {
			result[i], err = st.keptValues(st.conditionArrays[index], st.span)
		} else {
			result[i], err = st.keptValues(otherArrays[index-len(r.conditionColumns)], kept)
		}
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", r.schema.Field(i).Name, err)
		}
		if r.f.lineage.FirstRowID != nil {
			result[i] = r.f.inherit(r.f.scan.Columns[i], result[i], st, r.g.first)
		}
	}
	b := array.NewRecordBatch(r.schema, result, st.count())
	// Releasing is safe: b has copies of the kept values, or its own references to the arrays.
	if st.keptRows != nil || r.f.scan.Recycle {
		r.condition.releaseArrays(st.conditionArrays)
	}
	if r.f.scan.Recycle {
		r.other.releaseArrays(otherArrays)
	}
	return b, nil
}
