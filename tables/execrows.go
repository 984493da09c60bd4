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

// addRows reads the query's result and records the rows to remove in c.replaced. Unless the statement is a dry run, it
// also writes the new rows.
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
	if c.execution.options.DryRun || len(c.query.Values) == 0 && c.execution.statement.Verb == sqlwrite.Delete {
		for rows.Next() {
		}
		return rows.Err()
	}
	src, err := datafile.Gather(rows, c.execution.store.opts.FoldBytes)
	if err != nil {
		return err
	}
	defer src.Release()
	var added newRows
	err = added.write(ctx, c.w, src, deletes, func(context.Context, arrow.RecordBatch) error { return nil })
	// The table's rule for duplicates may have dropped new rows.
	if numDropped := added.rowsRead - added.rowsWritten; err == nil && numDropped > 0 {
		err = &series.DuplicateError{Count: numDropped}
	}
	return err
}

var errStopped = errors.New("the reader wants no more rows")

// rowReader reads the result of a change's query and yields the new rows.
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

// firstValue is the index of the query result's first value column, after the file, row and action.
const firstValue = 3

// read reads a batch of the query's result. It handles consecutive rows with the same file and action together.
func (r *rowReader) read(b arrow.RecordBatch, yield func(arrow.RecordBatch) bool) error {
	fields := b.Schema().Fields()
	for v, column := range r.query.Values {
		fields[firstValue+v].Name = r.w.def.Logical.Field(column).Name
	}
	b, err := schema.CastSQL(b, schema.FromSQL(arrow.NewSchema(fields, nil), r.w.def.Logical))
	if err != nil {
		return err
	}
	defer b.Release()
	files, rowNumbers, actions := b.Column(0), b.Column(1), b.Column(2)
	intsOf := func(a arrow.Array) func(i int) int64 {
		if ints := arrowtype.Of(a.DataType()).Ints; ints != nil {
			return ints(a)
		}
		return func(int) int64 { return -1 } // the checks below reject it
	}
	fileOf, rowOf, actionOf := intsOf(files), intsOf(rowNumbers), intsOf(actions)
	n := int(b.NumRows())
	for i := 0; i < n; {
		action := actionOf(i)
		if action < 0 || action >= int64(len(r.query.Actions)) {
			return fmt.Errorf("the query returned action %d, which does not exist", action)
		}
		isNew := rowNumbers.IsNull(i)
		var fileIndex int
		var oldRowNumbers []int64
		from := i
		for ; i < n && actionOf(i) == action && rowNumbers.IsNull(i) == isNew; i++ {
			if isNew {
				continue
			}
			p, err := r.position(fileOf(i), rowOf(i))
			if err != nil {
				return err
			}
			if from == i {
				fileIndex = p.file
			} else if p.file != fileIndex {
				break
			}
			if p != r.last { // the query sorts by position, so equal positions are adjacent
				if err := r.replaced.Add(r.tasks[p.file].File.FilePath(), p.row, r.maxBitmapBytes()); err != nil {
					return err
				}
				r.last = p
				r.count++
			} else if r.execution.statement.Verb != sqlwrite.Delete {
				return fmt.Errorf("a row of %q matches more than one row of the source: make the source unique by the columns of ON or WHERE", r.execution.result.Table)
			}
			oldRowNumbers = append(oldRowNumbers, p.row)
		}
		if isNew {
			r.count += int64(i - from)
		}
		kind := r.query.Actions[action].Kind
		if kind == sqlwrite.Delete || r.execution.options.DryRun {
			continue
		}
		if err := r.yieldRows(b, from, i, int(action), fileIndex, oldRowNumbers, yield); err != nil {
			return err
		}
	}
	return nil
}

// yieldRows yields the new rows of the action with the given index. The values that the action sets are in rows [from,
// to) of b. For an UPDATE, the other columns are copied from the rows with the numbers oldRowNumbers in the given file.
func (r *rowReader) yieldRows(b arrow.RecordBatch, from, to, action, fileIndex int, oldRowNumbers []int64, yield func(arrow.RecordBatch) bool) error {
	def, a := r.w.def, r.query.Actions[action]
	values, err := r.castValues(b, from, to, action)
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
	for len(oldRowNumbers) > 0 {
		old, err := r.file.take(r.ctx, r.w.t, r.tasks, fileIndex, oldRowNumbers)
		if err != nil {
			return err
		}
		n := old.NumRows()
		part := values.NewSlice(values.NumRows()-int64(len(oldRowNumbers)), values.NumRows()-int64(len(oldRowNumbers))+n)
		columns := slices.Clone(old.Columns())
		for i := range columns {
			if isAssigned[i] {
				columns[i] = part.Column(i)
			}
		}
		mergedRows := array.NewRecordBatch(def.Stored, columns, n)
		old.Release()
		part.Release()
		err = emit(mergedRows)
		mergedRows.Release()
		if err != nil {
			return err
		}
		oldRowNumbers = oldRowNumbers[n:]
	}
	return nil
}

// castValues returns the values that an action sets from rows [from, to) of b, in the types stored in files. Columns
// that the action does not set contain nulls or, for INSERT, default values.
func (r *rowReader) castValues(b arrow.RecordBatch, from, to, action int) (_ arrow.RecordBatch, err error) {
	def, a := r.w.def, r.query.Actions[action]
	var fields []arrow.Field
	var columns []arrow.Array
	for _, v := range a.Values {
		fields, columns = append(fields, b.Schema().Field(firstValue+v)), append(columns, b.Column(firstValue+v))
	}
	whole := array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, b.NumRows())
	defer whole.Release()
	part := whole.NewSlice(int64(from), int64(to))
	defer part.Release()
	if a.Kind == sqlwrite.Update { // UPDATE neither adds nor widens columns, so ignore the table's evolution setting
		if r.casters[action] == nil {
			names := schema.Names(part.Schema())
			r.casters[action], err = schema.NewPutCaster(part.Schema(), schema.Select(def.Stored, names), schema.Select(def.Logical, names), nil)
			if err != nil {
				return nil, err
			}
		}
		values, err := r.casters[action].Cast(part)
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
	execution *execution
	w         *rewrite
	query     *sqlwrite.Change
	tasks     []table.FileScanTask // the table's files
	numbers   *rowNumbers          // nil if the query returns positions in files
	replaced  datafile.Deleted     // rows to remove
	count     int64                // number of changed rows
}

// maxBitmapBytes limits the bitmaps of changed rows. The bitmaps of deleted rows have the same limit.
func (c *rowChange) maxBitmapBytes() int64 { return c.execution.store.opts.Memory / 8 }
