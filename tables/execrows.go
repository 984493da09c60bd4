package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// addRows reads the result of the query. It records the rows to remove in c.replaced, and writes the new rows, unless
// the statement is a dry run.
func (c *rowChange) addRows(ctx context.Context, result array.RecordReader, deletes *deletePredicate) error {
	rows := batches.Reader(c.w.def.Logical, func(yield func(arrow.RecordBatch, error) bool) {
		r := &rowReader{rowChange: c, ctx: ctx, last: position{file: -1}, casters: make([]*schema.Caster, len(c.query.Actions))}
		defer r.file.close()
		for b, err := range batches.Of(result) {
			if err == nil {
				err = r.read(b, func(b arrow.RecordBatch) bool { return yield(b, nil) })
				b.Release()
			}
			if errors.Is(err, errStopped) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}, func() {})
	defer rows.Release()
	if c.x.o.DryRun || len(c.query.Values) == 0 && c.x.st.Verb == sqlwrite.Delete {
		for rows.Next() {
		}
		return rows.Err()
	}
	src, err := datafile.Gather(rows, c.x.s.opts.FoldBytes)
	if err != nil {
		return err
	}
	defer src.Release()
	var added newRows
	err = added.write(ctx, c.w, src, deletes, func(context.Context, arrow.RecordBatch) error { return nil })
	// the table's rule for duplicates dropped some new rows
	if merged := added.rowsRead - added.rowsWritten; err == nil && merged > 0 {
		err = &series.DuplicateError{Count: merged}
	}
	return err
}

var errStopped = errors.New("the reader wants no more rows")

// rowReader reads the result of a change's query, and yields the new rows.
type rowReader struct {
	*rowChange
	ctx  context.Context
	file fileRows // the rows of the current file
	last position // the last replaced row

	casters []*schema.Caster // for each action, the caster of an UPDATE's values; nil before its first row
}

// position converts the values of sqlwrite.FileColumn and sqlwrite.RowColumn to a position. It returns an error if no
// such row exists.
func (c *rowChange) position(file, row int64) (p position, err error) {
	switch {
	case c.numbers != nil && row >= 0 && row < c.numbers.total:
		return c.numbers.position(row), nil
	case c.numbers == nil && file >= 0 && file < int64(len(c.tasks)) && row >= 0 && row < c.tasks[file].File.Count():
		return position{int(file), row}, nil
	}
	return p, fmt.Errorf("the query returned row %d of file %d, which does not exist", row, file)
}

// read reads a batch of the query's result. It splits the batch into runs of rows with the same file and action.
func (r *rowReader) read(b arrow.RecordBatch, yield func(arrow.RecordBatch) bool) error {
	fields := b.Schema().Fields()
	for v, i := range r.query.Values {
		fields[3+v].Name = r.w.def.Logical.Field(i).Name
	}
	b, err := schema.CastSQL(b, schema.FromSQL(arrow.NewSchema(fields, nil), r.w.def.Logical))
	if err != nil {
		return err
	}
	defer b.Release()
	file, row, action := b.Column(0), b.Column(1), b.Column(2)
	number := func(a arrow.Array) func(i int) int64 {
		if ints := arrowtype.Of(a.DataType()).Ints; ints != nil {
			return ints(a)
		}
		return func(int) int64 { return -1 }
	}
	actionOf, fileOf, rowOf := number(action), number(file), number(row)
	n := int(b.NumRows())
	for i := 0; i < n; {
		k := actionOf(i)
		if k < 0 || k >= int64(len(r.query.Actions)) {
			return fmt.Errorf("the query returned action %d, which does not exist", k)
		}
		isNew := row.IsNull(i)
		var index int
		var rows []int64
		from := i
		for ; i < n && actionOf(i) == k && row.IsNull(i) == isNew; i++ {
			if isNew {
				continue
			}
			p, err := r.position(fileOf(i), rowOf(i))
			if err != nil {
				return err
			}
			if from == i {
				index = p.file
			} else if p.file != index {
				break
			}
			if p != r.last { // the query sorts by position, so equal positions are adjacent
				if err := r.replaced.Add(r.tasks[p.file].File.FilePath(), p.row, r.limit()); err != nil {
					return err
				}
				r.last = p
				r.count++
			} else if r.x.st.Verb != sqlwrite.Delete {
				return fmt.Errorf("a row of %q matches more than one row of the source: make the source unique by the columns of ON or WHERE", r.x.result.Table)
			}
			rows = append(rows, p.row)
		}
		if isNew {
			r.count += int64(i - from)
		}
		a := r.query.Actions[k]
		if a.Kind == sqlwrite.Delete || r.x.o.DryRun {
			continue
		}
		if err := r.yieldRows(b, from, i, int(k), index, rows, yield); err != nil {
			return err
		}
	}
	return nil
}

// yieldRows yields the new rows for action k. It takes the values that the action sets from b, from the rows with
// indices from <= i < to. For an UPDATE, it copies all other values from the given rows of file number index.
func (r *rowReader) yieldRows(b arrow.RecordBatch, from, to, k, index int, rows []int64, yield func(arrow.RecordBatch) bool) error {
	def, a := r.w.def, r.query.Actions[k]
	values, err := r.castValues(b, from, to, k)
	if err != nil {
		return err
	}
	defer values.Release()
	emit := func(stored arrow.RecordBatch) error {
		logical, err := schema.Convert(stored, def.Logical)
		if err == nil && !yield(logical) {
			err = errStopped
		}
		return err
	}
	if a.Kind == sqlwrite.Insert {
		return emit(values)
	}
	isAssigned := map[int]bool{}
	for _, v := range a.Values {
		isAssigned[r.query.Values[v]] = true
	}
	for len(rows) > 0 {
		old, err := r.file.take(r.ctx, r.w.t, r.tasks, index, rows)
		if err != nil {
			return err
		}
		n := old.NumRows()
		part := values.NewSlice(values.NumRows()-int64(len(rows)), values.NumRows()-int64(len(rows))+n)
		columns := slices.Clone(old.Columns())
		for i := range columns {
			if isAssigned[i] {
				columns[i] = part.Column(i)
			}
		}
		merged := array.NewRecordBatch(def.Stored, columns, n)
		old.Release()
		part.Release()
		err = emit(merged)
		merged.Release()
		if err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// castValues returns the values that action k sets, in the types stored in files, from the rows of b with indices from
// <= i < to. In columns that the action does not set, they are null or, for INSERT, default values.
func (r *rowReader) castValues(b arrow.RecordBatch, from, to, k int) (_ arrow.RecordBatch, err error) {
	def, a := r.w.def, r.query.Actions[k]
	var fields []arrow.Field
	var columns []arrow.Array
	for _, v := range a.Values {
		fields, columns = append(fields, b.Schema().Field(3+v)), append(columns, b.Column(3+v))
	}
	whole := array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, b.NumRows())
	defer whole.Release()
	part := whole.NewSlice(int64(from), int64(to))
	defer part.Release()
	if a.Kind == sqlwrite.Update { // the other columns do not change, so the table's evolution setting does not matter
		if r.casters[k] == nil {
			names := schema.Names(part.Schema())
			r.casters[k], err = schema.NewPutCaster(part.Schema(), schema.Select(def.Stored, names), schema.Select(def.Logical, names), nil)
			if err != nil {
				return nil, err
			}
		}
		values, err := r.casters[k].Cast(part)
		if err != nil {
			return nil, err
		}
		defer values.Release()
		return schema.ConvertNamed(values, def.Stored)
	}
	caster, changes, err := def.Caster(part.Schema())
	if err != nil {
		return nil, err
	}
	if len(changes) > 0 {
		return nil, columnChangeError(changes[0])
	}
	return caster.Cast(part)
}

// rowChange is a change to some rows of a table.
type rowChange struct {
	x        *execution
	w        *rewrite
	query    *sqlwrite.Change
	tasks    []table.FileScanTask // the table's files
	numbers  *rowNumbers          // nil if the query returns positions in files
	replaced datafile.Deleted     // rows to remove
	count    int64                // number of changed rows
}

// limit returns the maximum size, in bytes, of the bitmaps of changed rows, which is also the limit for the bitmaps of
// deleted rows.
func (c *rowChange) limit() int64 { return c.x.s.opts.Memory / 8 }
