package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
)

// DeleteRows deletes the rows for which a condition is true, in one commit. Rows for
// which it is false or null stay. It sees every row that was acknowledged before it
// started, except rows in the tail of another Store.
//
// Only files that contain such a row are rewritten. In a table without a time column,
// the remaining rows of these files then follow those of the other files.
func (b *Bucket) DeleteRows(ctx context.Context, name string, where *filter.Expr) (_ Rewritten, err error) {
	defer failed(&err, "delete rows of", b.Name(), name)
	return b.rewrite(ctx, name, func(ctx context.Context, w *rewrite) error {
		g, err := w.where(where)
		if err != nil {
			return err
		}
		return w.remove(ctx, g)
	})
}

// RangeOptions of ReplaceRange. The zero value, and nil, are the defaults.
type RangeOptions struct {
	// TimeColumn is the column that the range is about: a timestamp or a date. ""
	// means that of the table's settings, or the first such column.
	TimeColumn string
}

// ReplaceRange replaces the rows from one time up to, but not including, another by those
// of r, in one commit; see DeleteRows. A zero time is no bound. A row of r outside the
// range, or without a time, is an error. ReplaceRange reads r to its end and does not
// release it.
func (b *Bucket) ReplaceRange(ctx context.Context, name string, from, to time.Time, r array.RecordReader, o *RangeOptions) (_ Rewritten, err error) {
	defer failed(&err, "replace a range of", b.Name(), name)
	if from.IsZero() && to.IsZero() {
		return Rewritten{}, errors.New("the range has no bound: give its beginning or its end")
	}
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		return Rewritten{}, fmt.Errorf("the range from %s to %s is empty: its end is not in it", filter.TimeText(from), filter.TimeText(to))
	}
	o = cmp.Or(o, &RangeOptions{})
	src, err := datafile.Gather(r, b.store().opts.FoldBytes)
	if err != nil {
		return Rewritten{}, err
	}
	defer src.Release()
	var n newRows
	return b.rewrite(ctx, name, func(ctx context.Context, w *rewrite) error {
		between, err := series.TimeRange(w.def.Logical, cmp.Or(o.TimeColumn, w.def.Settings.Time), from, to)
		if err != nil {
			return err
		}
		w.done.TimeColumn = between.Columns()[0]
		g, err := w.where(between)
		if err != nil {
			return err
		}
		if w.Order != nil && w.Order.Rule != KeepAll && w.Order.Rule != "" {
			w.Since = commit.Nothing // or there may be duplicates
		}
		err = n.write(ctx, w, src, g, func(ctx context.Context, b arrow.RecordBatch) error {
			inside, err := g.deletes(b)
			if err != nil {
				return err
			}
			for i, in := range inside {
				if !in {
					column := g.columns[0]
					return schema.Errorf(column, "row %d has %s, which is outside of the range: nothing was replaced",
						n.rows+int64(i)+1, b.Column(b.Schema().FieldIndices(column)[0]).ValueStr(i))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return w.remove(ctx, g)
	})
}

// newRows is the rows that a rewrite puts, which are written once, however often the
// rest begins again.
type newRows struct {
	on    *commit.Basis // that they were written on
	again bool          // a rule compares them with all rows of the table, which may be others now
	rows  int64         // that were read

	written int64 // without those that the rule for duplicates leaves out
}

// stands reports whether the rows were written for the table as it is.
func (n *newRows) stands(w *rewrite) bool {
	return n.on != nil && n.on.Fits(&w.Basis) && !n.again
}

// write writes the rows of a source in the place of those that go, each batch of which
// check has seen in the types that are kept.
func (n *newRows) write(ctx context.Context, w *rewrite, src *datafile.Source, g *deletePredicate, check func(context.Context, arrow.RecordBatch) error) error {
	if n.stands(w) {
		w.done.Written = n.written
		return nil
	}
	if n.on != nil { // for a table, or rows, that are others now
		if !src.Whole() {
			return ErrConflict
		}
		src.Rewind()
		w.IO.RemoveWritten()
	}
	on := w.Basis
	*n = newRows{on: &on}
	fit, changes, err := w.def.Caster(src.Schema)
	if err != nil {
		return err
	}
	if len(changes) > 0 {
		c := changes[0]
		return schema.Errorf(c.Field.Name, "the table would have to %s it, and a correction leaves its columns alone: evolve them first", c.Op)
	}
	rules, err := w.e.check(ctx, w.def, src.Schema, w.t, g)
	if err != nil {
		return err
	}
	defer rules.Close()
	if n.again = rules.WholeTable(); n.again {
		w.Since = commit.Nothing
	}
	seen := func(b arrow.RecordBatch) error {
		if err := check(ctx, b); err != nil {
			return err
		}
		n.rows += b.NumRows()
		return nil
	}
	w.put, err = w.e.Write(ctx, w.writer(), w.IO, commit.Writing{Rows: src, Caster: fit, Rules: rules, Check: seen})
	for _, f := range w.put {
		n.written += f.Count()
	}
	w.puts, w.done.Written = len(w.IO.Written()), n.written
	return err
}
