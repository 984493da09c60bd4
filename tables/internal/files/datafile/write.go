package datafile

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// Write writes batches as data files of about fileBytes bytes each; 0 means the table's setting. stored has the
// batches' columns: the table's columns, optionally followed by Iceberg's two lineage columns.
func Write(ctx context.Context, t *table.Table, stored *arrow.Schema, rows batches.Seq, fileBytes int64) ([]iceberg.DataFile, error) {
	id, err := uuid.NewV7() // version 7 IDs increase with time, as compareNames requires
	if err != nil {
		return nil, err
	}
	fs, err := t.FS(ctx)
	if err != nil {
		return nil, err
	}
	writeFS, ok := fs.(iceio.WriteFileIO)
	spec, columns := t.Spec(), t.Schema()
	hasLineage := stored.NumFields() > len(columns.Fields())
	if hasLineage {
		columns = iceberg.SchemaWithRowLineage(columns)
	}
	if !ok || !spec.IsUnpartitioned() || hasForeignTypes(stored) {
		options := []table.WriteRecordOption{table.WithWriteUUID(id), table.WithTargetFileSize(fileBytes)}
		if hasLineage {
			options = append(options, table.WithPreserveRowLineage(columns))
			// The library finds these columns only by their IDs.
			stored, err = table.SchemaToArrowSchema(columns, nil, true, false)
			if err != nil {
				return nil, err
			}
			rows = batches.Map(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
				defer b.Release()
				return schema.Convert(b, stored)
			})(rows)
		}
		return writeForeign(ctx, t, fs, stored, rows, options...)
	}
	w := &fileWriter{ctx: ctx, table: t, icebergSchema: columns, fs: writeFS, id: id, targetFileBytes: fileBytes}
	defer w.abort()
	if err := w.prepare(); err != nil {
		return nil, err
	}
	for b, err := range rows {
		if err == nil {
			err = w.add(b)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	err = w.closeFile()
	return w.files, err
}

// hasForeignTypes reports whether columns have types that only other programs create and only Iceberg's library can
// write.
func hasForeignTypes(columns *arrow.Schema) bool {
	return schema.ContainsType(arrow.StructOf(columns.Fields()...), func(t arrow.DataType) bool {
		e, ok := t.(arrow.ExtensionType)
		return ok && e.ExtensionName() != "arrow.uuid"
	})
}

// writeForeign writes to other programs' tables with Iceberg's library, which supports partitions and variants.
func writeForeign(ctx context.Context, t *table.Table, fs iceio.IO, stored *arrow.Schema, rows batches.Seq, options ...table.WriteRecordOption) (written []iceberg.DataFile, err error) {
	files, ok := foreignFiles{hasNaN: &atomic.Bool{}, footers: &sync.Map{}}, false
	var rowsErr error // a goroutine in the library sets it, and ends before the loop below does
	var batches iter.Seq2[arrow.RecordBatch, error] = func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range rows {
			rowsErr = err
			if err == nil && slices.ContainsFunc(b.Columns(), func(a arrow.Array) bool { return hasNaN(a.Data()) }) {
				files.hasNaN.Store(true)
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
	files.WriteFileIO, ok = fs.(iceio.WriteFileIO)
	if ok {
		openFS := func(context.Context) (iceio.IO, error) { return files, nil }
		t = table.New(t.Identifier(), t.Metadata(), t.MetadataLocation(), openFS, nil)
	}
	for f, e := range table.WriteRecords(ctx, t, stored, batches, append(options, table.WithRecordBatchBufferSize(2))...) {
		if footer, ok := files.footers.Load(f.FilePath()); e == nil && ok {
			f, e = complete(t.Spec(), f, f.NaNValueCounts(), footer.(*metadata.FileMetaData))
		}
		err = e
		if err != nil {
			break
		}
		written = append(written, f)
	}
	if rowsErr != nil { // prefer the cause, because the library may wrap or drop it
		err = rowsErr
	}
	if fileIO, ok := fs.(*icecat.FileIO); ok && err != nil && fileIO.Failure() != nil {
		err = fileIO.Failure()
	}
	return written, err
}

// WithRowIDs assigns row IDs to new files, starting at the table's next row ID. Iceberg requires row IDs from format
// version 3 on.
func WithRowIDs(t *table.Table, files []iceberg.DataFile) ([]iceberg.DataFile, error) {
	meta := t.Metadata()
	if meta.Version() < 3 {
		return files, nil
	}
	withIDs := make([]iceberg.DataFile, len(files))
	nextID := meta.NextRowID()
	for i, f := range files {
		b, err := Rebuild(meta.PartitionSpec(), f, f.FilePath())
		if err != nil {
			return nil, err
		}
		withIDs[i] = b.FirstRowID(nextID).Build()
		nextID += f.Count()
	}
	return withIDs, nil
}
