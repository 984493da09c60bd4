package datafile

import (
	"context"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/sorted"
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

// WithRowIDs gives files that are to be added the row ids that the third version
// of Iceberg asks for: those that follow the table's last. Iceberg's library
// takes no files without, and older versions have none.
func WithRowIDs(t *table.Table, files []iceberg.DataFile) ([]iceberg.DataFile, error) {
	meta := t.Metadata()
	if meta.Version() < 3 {
		return files, nil
	}
	numbered := make([]iceberg.DataFile, len(files))
	next := meta.NextRowID()
	for i, f := range files {
		b, err := Rebuild(meta.PartitionSpec(), f, f.FilePath())
		if err != nil {
			return nil, err
		}
		numbered[i] = b.FirstRowID(next).Build()
		next += f.Count()
	}
	return numbered, nil
}

// Rebuild returns what makes a file's entry again, for it to be changed.
func Rebuild(spec iceberg.PartitionSpec, f iceberg.DataFile, path string) (*iceberg.DataFileBuilder, error) {
	b, err := iceberg.NewDataFileBuilder(spec, f.ContentType(), path, f.FileFormat(), f.Partition(), nil, nil, f.Count(), f.FileSizeBytes())
	if err != nil {
		return nil, err
	}
	b.ColumnSizes(f.ColumnSizes()).ValueCounts(f.ValueCounts()).NullValueCounts(f.NullValueCounts()).NaNValueCounts(f.NaNValueCounts()).
		LowerBoundValues(f.LowerBoundValues()).UpperBoundValues(f.UpperBoundValues()).SplitOffsets(f.SplitOffsets())
	if id := f.SortOrderID(); id != nil {
		b.SortOrderID(*id)
	}
	return b, nil
}
