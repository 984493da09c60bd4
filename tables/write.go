package tables

import (
	"cmp"
	"context"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

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
func writeFiles(ctx context.Context, t *table.Table, io *icecat.FileIO, r batchSource, c *schema.Caster, rules *check) ([]iceberg.DataFile, error) {
	defer rules.close()
	files, err := recordFiles(ctx, t, c.To, casting(ctx, r, c, rules, nil))
	if err != nil {
		io.RemoveWritten()
	}
	return files, err
}

// casting yields what r has in the types that a table stores, once it was checked: by
// the rules of the table, and by a check of the caller's, each of which may be nil.
func casting(ctx context.Context, r batchSource, c *schema.Caster, rules *check, check func(arrow.RecordBatch) error) sorted.Batches {
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

// recordFiles writes batches as data files of a table.
func recordFiles(ctx context.Context, t *table.Table, kept *arrow.Schema, rows sorted.Batches, options ...table.WriteRecordOption) (files []iceberg.DataFile, err error) {
	var failed error // set by the library's goroutine, which ends before its sequence does
	var batches iter.Seq2[arrow.RecordBatch, error] = func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range rows {
			failed = err
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
	id, err := uuid.NewV7() // one that grows; see inNameOrder
	if err != nil {
		return nil, err
	}
	fs, err := t.FS(ctx)
	if err != nil {
		return nil, err
	}
	for f, e := range table.WriteRecords(ctx, t, kept, batches, append(options, table.WithRecordBatchBufferSize(2), table.WithWriteUUID(id))...) {
		if err = e; err != nil {
			break
		}
		files = append(files, f)
	}
	if failed != nil { // the cause, which the library may have wrapped, or lost
		err = failed
	}
	if io, ok := fs.(*icecat.FileIO); ok && err != nil && io.Failure() != nil {
		err = io.Failure()
	}
	return files, err
}
