package datafile

import (
	"context"
	"errors"
	"fmt"
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

	"github.com/go-partd/partd/internal/base/canceled"
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
	var rowsErr error // set by a goroutine in the library, which ends before the loop below does
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

type fileWriter struct {
	ctx           context.Context
	table         *table.Table
	fs            iceio.WriteFileIO
	id            uuid.UUID
	locations     table.LocationProvider
	icebergSchema *iceberg.Schema // the columns to write; prepare changes their names to those in files
	arrowSchema   *arrow.Schema

	groups          rowGroups
	targetFileBytes int64
	compressAll     bool // compress every column with zstd

	path   string           // path of the open file
	output iceio.FileWriter // nil if no file is open
	enc    *encoder
	files  []iceberg.DataFile
}

// maxGroupBytes limits the size of a row group, because Arrow limits a string column to 2 GiB.
const maxGroupBytes = 1 << 30

func (w *fileWriter) prepare() (err error) {
	properties := w.table.Properties()
	// Another program may have set a value below 1.
	w.groups.maxRows = max(int64(properties.GetInt(table.ParquetRowGroupLimitKey, table.ParquetRowGroupLimitDefault)), 1)
	w.groups.maxBytes = min(int64(properties.GetInt(table.ParquetRowGroupSizeBytesKey, int(table.ParquetRowGroupSizeBytesDefault))), maxGroupBytes)
	switch properties.Get(table.ParquetCompressionKey, "") {
	case "zstd", "gzip", "brotli": // the table asks for better compression than Snappy's
		w.compressAll = true
	}
	if w.targetFileBytes == 0 {
		w.targetFileBytes = int64(properties.GetInt(table.WriteTargetFileSizeBytesKey, table.WriteTargetFileSizeBytesDefault))
	}
	w.locations, err = w.table.LocationProvider()
	if err != nil {
		return err
	}
	w.icebergSchema, err = iceberg.SanitizeColumnNames(w.icebergSchema)
	if err != nil {
		return err
	}
	w.arrowSchema, err = table.SchemaToArrowSchema(w.icebergSchema, nil, true, false)
	return err
}

// add adds the rows of a batch and releases the batch.
func (w *fileWriter) add(b arrow.RecordBatch) error { return w.groups.add(b, w.flush) }

func (w *fileWriter) flush() (err error) {
	if err := canceled.Err(w.ctx); err != nil {
		return err
	}
	joined, err := w.groups.join()
	if joined == nil || err != nil {
		return err
	}
	defer joined.Release()
	rows, err := schema.Convert(joined, w.arrowSchema) // rename nested fields to their names in files
	if err != nil {
		return err
	}
	defer rows.Release()
	if err := schema.CheckNestedNulls(rows); err != nil {
		return err
	}
	if w.output == nil {
		if err := w.openFile(); err != nil {
			return err
		}
	}
	if err := w.enc.write(w.ctx, rows); err != nil {
		return err
	}
	if w.enc.bytesWritten() >= w.targetFileBytes {
		return w.closeFile()
	}
	return nil
}

func (w *fileWriter) openFile() (err error) {
	// compareNames relies on the first number to order the files of one writer.
	w.path = w.locations.NewDataLocation(fmt.Sprintf("00000-%d-%s-%05d.parquet", len(w.files), w.id, len(w.files)+1))
	w.output, err = w.fs.Create(w.path)
	if err == nil {
		w.enc, err = newEncoder(w.output, w.arrowSchema, w.compressAll)
	}
	return err
}

func (w *fileWriter) closeFile() error {
	if w.output == nil {
		return nil
	}
	footer, size, err := w.enc.close()
	err = errors.Join(err, w.output.Close())
	w.output = nil
	if err != nil {
		return err
	}
	f, err := table.DataFileFromMetadata(table.DataFileArgs{
		Schema: w.icebergSchema, Spec: w.table.Spec(), Format: iceberg.ParquetFile, Metadata: footer, FilePath: w.path, FileSize: size,
		Content: iceberg.EntryContentData, Properties: w.table.Properties(), FormatVersion: w.table.Metadata().Version(),
	})
	if err == nil {
		f, err = complete(w.table.Spec(), f, w.enc.nanCounts(), footer)
	}
	w.files = append(w.files, f)
	return err
}

// abort closes the open file after an error. The caller must remove all written files, including this one.
func (w *fileWriter) abort() {
	w.groups.release()
	if w.output != nil {
		_ = w.output.Close() // the caller removes the file
	}
}
