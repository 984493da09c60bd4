package tables

import (
	"cmp"
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rules"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// newTable returns the metadata of a new table.
func (s *Store) newTable(sh *schema.Shape, o *Settings) (table.Metadata, error) {
	return definition.New(sh, s.cat.NewLocation(), o, s.hooks.fileBytes)
}

// write writes what r has as data files of a table, which is a Series where its rows have
// an order, through io, once it was checked. With an error nothing is left of them.
func write(ctx context.Context, t *table.Table, s *series.Series, io *icecat.FileIO, r datafile.Rows, c *schema.Caster, rules *rules.Check, check func(arrow.RecordBatch) error) (files []iceberg.DataFile, err error) {
	defer rules.Close()
	if s == nil {
		files, err = datafile.Write(ctx, t, c.To, casting(ctx, r, c, rules, check))
	} else {
		files, err = s.WriteSorted(ctx, casting(ctx, r, c, rules, func(b arrow.RecordBatch) error {
			if err := series.Check(s.Order, b); err != nil || check == nil {
				return err
			}
			return check(b)
		}))
	}
	if err != nil {
		io.RemoveWritten()
	}
	return files, err
}

// writeTail is write for rows of the tail, which it takes over.
func (s *Store) writeTail(ctx context.Context, t *table.Table, io *icecat.FileIO, rows arrow.RecordBatch) (files []iceberg.DataFile, err error) {
	defer func() {
		if err != nil {
			io.RemoveWritten()
		}
	}()
	is, err := series.Of(t, s.opts.Memory)
	if is == nil {
		defer rows.Release()
	}
	switch {
	case err != nil:
		return nil, err
	case is == nil:
		return datafile.Write(ctx, t, rows.Schema(), sorted.Only(rows))
	}
	if rows, err = is.SortRows(ctx, rows); err != nil {
		return nil, err
	}
	defer rows.Release()
	return is.Write(ctx, sorted.Only(rows))
}

// casting yields what r has in the types that a table stores, once it was checked: by
// the rules of the table, and by a check of the caller's, each of which may be nil.
func casting(ctx context.Context, r datafile.Rows, c *schema.Caster, rules *rules.Check, check func(arrow.RecordBatch) error) sorted.Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for r.Next() {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if r.RecordBatch().NumRows() == 0 {
				continue
			}
			batch, err := c.Cast(r.RecordBatch())
			if err == nil {
				if err = rules.Add(ctx, batch); err == nil && check != nil {
					err = check(batch)
				}
				if err != nil {
					batch.Release()
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if rules.Violated() { // what else is wrong is to be counted, and nothing written
				batch.Release()
				continue
			}
			if !yield(batch, nil) {
				return
			}
		}
		if err := cmp.Or(r.Err(), rules.End(ctx)); err != nil {
			yield(nil, err)
		}
	}
}
