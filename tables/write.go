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
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// newTable returns the metadata of a new table.
func (s *Store) newTable(sh *schema.Shape, o *Settings) (table.Metadata, error) {
	return definition.New(sh, s.cat.NewLocation(), o, s.hooks.fileBytes)
}

// writeFiles writes what r has as data files of a table, through io, once it was
// checked. With an error nothing is left of them.
func writeFiles(ctx context.Context, t *table.Table, io *icecat.FileIO, r datafile.Rows, c *schema.Caster, rules *check) ([]iceberg.DataFile, error) {
	defer rules.close()
	files, err := datafile.Write(ctx, t, c.To, casting(ctx, r, c, rules, nil))
	if err != nil {
		io.RemoveWritten()
	}
	return files, err
}

// casting yields what r has in the types that a table stores, once it was checked: by
// the rules of the table, and by a check of the caller's, each of which may be nil.
func casting(ctx context.Context, r datafile.Rows, c *schema.Caster, rules *check, check func(arrow.RecordBatch) error) sorted.Batches {
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
				if err = rules.add(ctx, batch); err == nil && check != nil {
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
			if rules.violated() { // what else is wrong is to be counted, and nothing written
				batch.Release()
				continue
			}
			if !yield(batch, nil) {
				return
			}
		}
		if err := cmp.Or(r.Err(), rules.end(ctx)); err != nil {
			yield(nil, err)
		}
	}
}
