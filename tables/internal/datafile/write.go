package datafile

import (
	"context"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/sorted"
	"github.com/google/uuid"
)

// Write writes batches as data files of a table.
func Write(ctx context.Context, t *table.Table, stored *arrow.Schema, rows sorted.Batches, options ...table.WriteRecordOption) (files []iceberg.DataFile, err error) {
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
	for f, e := range table.WriteRecords(ctx, t, stored, batches, append(options, table.WithRecordBatchBufferSize(2), table.WithWriteUUID(id))...) {
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
