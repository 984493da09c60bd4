package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// DeleteRows deletes the rows where a condition is true, in one commit. It keeps rows where the condition is false or
// null, and rows in the tail of another Store.
//
// DeleteRows rewrites only files that contain deleted rows. In a table without a time column, the remaining rows of a
// rewritten file become the table's last rows. If a table has format version 3 and its property write.delete.mode is
// merge-on-read, DeleteRows writes deletion vectors instead.
func (t *Table) DeleteRows(ctx context.Context, where *filter.Expr) (_ RewriteResult, err error) {
	defer wrapError(&err, "delete rows of", t.Bucket().Name(), t.Name())
	return t.rewrite(ctx, func(ctx context.Context, w *rewrite) error {
		deletes, err := w.where(where)
		if err != nil {
			return err
		}
		w.unlock()
		return w.removeByMode(ctx, deletes, table.WriteDeleteModeKey)
	})
}

// RangeOptions configures ReplaceRange. Nil or the zero value selects the defaults.
type RangeOptions struct {
	// TimeColumn is the timestamp or date column of the range. "" means the time column in the table's settings, or
	// else the first timestamp or date column.
	TimeColumn string
}

// ReplaceRange replaces the rows with times in [from, to) with the rows of r, in one commit. Like DeleteRows, it
// rewrites only files that contain replaced rows. A zero time means no bound. If a row of r is outside the range or has
// no time, ReplaceRange returns an error. It reads r to the end and does not release it.
func (t *Table) ReplaceRange(ctx context.Context, from, to time.Time, r array.RecordReader, o *RangeOptions) (_ RewriteResult, err error) {
	defer wrapError(&err, "replace a range of", t.Bucket().Name(), t.Name())
	if from.IsZero() && to.IsZero() {
		return RewriteResult{}, errors.New("the range has no bounds: set its start or its end")
	}
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		return RewriteResult{}, fmt.Errorf("the range from %s to %s is empty: its end must be after its start", filter.TimeText(from), filter.TimeText(to))
	}
	o = cmp.Or(o, &RangeOptions{})
	if _, err := t.checkWritable(); err != nil { // check before reading rows
		return RewriteResult{}, err
	}
	src, err := datafile.Gather(r, t.store().opts.FoldBytes)
	if err != nil {
		return RewriteResult{}, err
	}
	defer src.Release()
	var added newRows
	return t.rewrite(ctx, func(ctx context.Context, w *rewrite) error {
		between, err := series.TimeRange(w.def.Logical, cmp.Or(o.TimeColumn, w.def.Settings.Time), from, to)
		if err != nil {
			return err
		}
		w.result.TimeColumn = between.Columns()[0]
		deletes, err := w.where(between)
		if err != nil {
			return err
		}
		if w.def.Order.HasRule() {
			w.Allowed = commit.NoChanges // a concurrent append could add rows that duplicate the new rows
		}
		err = added.write(ctx, w, src, deletes, func(ctx context.Context, b arrow.RecordBatch) error {
			inside, err := deletes.matches(b)
			if err != nil {
				return err
			}
			for i, inRange := range inside {
				if !inRange {
					column := deletes.columns[0]
					return schema.Errorf(column, "row %d has the value %s, which is outside the range, so nothing was replaced",
						added.rowsRead+int64(i)+1, b.Column(b.Schema().FieldIndices(column)[0]).ValueStr(i))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return w.remove(ctx, deletes)
	})
}

// newRows are the rows that a rewrite adds. If the commit is retried, files that are still valid are not written again.
type newRows struct {
	basis *commit.Basis // table state for which the rows were written; nil until they are written
	// whether a retry must check the rows again, because a rule compares them with all rows of the table
	recheck  bool
	rowsRead int64 // number of rows of src read so far

	rowsWritten int64 // number of rows written, not counting dropped duplicates
}

// canReuse reports whether an earlier attempt wrote the rows and they are still valid for the table.
func (n *newRows) canReuse(w *rewrite) bool {
	return n.basis != nil && n.basis.Matches(&w.Basis) && !n.recheck
}

// write writes the rows of src, which replace the rows that deletes selects. It converts each batch to the types stored
// in files and calls check with the converted batch.
func (n *newRows) write(ctx context.Context, w *rewrite, src *datafile.Source, deletes *deletePredicate, check func(context.Context, arrow.RecordBatch) error) error {
	if n.canReuse(w) {
		w.result.Written = n.rowsWritten
		return nil
	}
	if n.basis != nil { // an earlier attempt wrote the rows for another state of the table
		if !src.IsWhole() {
			return ErrConflict
		}
		src.Rewind()
		w.IO.RemoveWritten()
	}
	basis := w.Basis
	*n = newRows{basis: &basis}
	caster, changes, err := w.def.Caster(src.Schema)
	if err != nil {
		return err
	}
	if len(changes) > 0 {
		return columnChangeError(changes[0])
	}
	rules, err := w.e.ruleCheck(ctx, w.def, src.Schema, w.t, deletes)
	if err != nil {
		return err
	}
	defer rules.Close()
	n.recheck = rules.WholeTable()
	if n.recheck {
		w.Allowed = commit.NoChanges
	}
	checkAndCount := func(b arrow.RecordBatch) error {
		if err := check(ctx, b); err != nil {
			return err
		}
		n.rowsRead += b.NumRows()
		return nil
	}
	w.unlock()
	w.addedFiles, err = w.e.Write(ctx, w.writer(), w.IO, commit.WriteInput{Rows: src, Caster: caster, Rules: rules, Check: checkAndCount})
	for _, f := range w.addedFiles {
		n.rowsWritten += f.Count()
	}
	w.keptOnRetry, w.result.Written = len(w.IO.Written()), n.rowsWritten
	return err
}

func columnChangeError(c definition.Change) error {
	return schema.Errorf(c.Field.Name, "this operation cannot %s columns: call Evolve first", c.Op)
}
