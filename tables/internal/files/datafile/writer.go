package datafile

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

type fileWriter struct {
	ctx           context.Context
	table         *table.Table
	fs            iceio.WriteFileIO
	id            uuid.UUID
	locations     table.LocationProvider
	icebergSchema *iceberg.Schema // the columns to write; prepare gives them the names that they have in files
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

// add adds the rows of a batch, and releases the batch.
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
