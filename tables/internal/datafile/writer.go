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

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/take"
)

// writer writes rows as data files, each with several row groups.
type writer struct {
	ctx     context.Context
	table   *table.Table
	fs      iceio.WriteFileIO
	id      uuid.UUID
	place   table.LocationProvider
	columns *iceberg.Schema // with the names in the files
	arrow   *arrow.Schema

	groupRows, groupBytes, fileBytes int64

	waiting     []arrow.RecordBatch // rows of the next group
	rows, bytes int64

	path  string
	out   iceio.FileWriter // nil: no file is open
	file  *encoder
	files []iceberg.DataFile
}

// maxGroupBytes limits a group, because Arrow limits a column of texts to 2 GiB.
const maxGroupBytes = 1 << 30

func (w *writer) prepare() (err error) {
	properties := w.table.Properties()
	w.groupRows = max(int64(properties.GetInt(table.ParquetRowGroupLimitKey, table.ParquetRowGroupLimitDefault)), 1) // other writers may set any value
	w.groupBytes = min(int64(properties.GetInt(table.ParquetRowGroupSizeBytesKey, int(table.ParquetRowGroupSizeBytesDefault))), maxGroupBytes)
	if w.fileBytes == 0 {
		w.fileBytes = int64(properties.GetInt(table.WriteTargetFileSizeBytesKey, table.WriteTargetFileSizeBytesDefault))
	}
	if w.place, err = w.table.LocationProvider(); err != nil {
		return err
	}
	if w.columns, err = iceberg.SanitizeColumnNames(w.table.Schema()); err != nil {
		return err
	}
	w.arrow, err = table.SchemaToArrowSchema(w.columns, nil, true, false)
	return err
}

// add takes ownership of a batch.
func (w *writer) add(b arrow.RecordBatch) error {
	defer b.Release()
	if b.NumRows() == 0 {
		return nil
	}
	each := max(SizeOf(b)/b.NumRows(), 1)
	for from := int64(0); from < b.NumRows(); {
		n := min(b.NumRows()-from, w.groupRows-w.rows, max((w.groupBytes-w.bytes)/each, 1))
		w.waiting = append(w.waiting, b.NewSlice(from, from+n))
		from, w.rows, w.bytes = from+n, w.rows+n, w.bytes+n*each
		if w.rows >= w.groupRows || w.bytes >= w.groupBytes {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes the waiting rows as a group.
func (w *writer) flush() (err error) {
	if w.rows == 0 {
		return nil
	}
	if err := canceled.Err(w.ctx); err != nil {
		return err
	}
	one, err := take.Concat(w.waiting)
	w.release()
	if err != nil {
		return err
	}
	defer one.Release()
	rows, err := schema.Convert(one, w.arrow) // only renames nested parts to the files' names
	if err != nil {
		return err
	}
	defer rows.Release()
	if err := schema.CheckNestedNulls(rows); err != nil {
		return err
	}
	if w.out == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	if err := w.file.write(w.ctx, rows); err != nil {
		return err
	}
	if w.file.written() >= w.fileBytes {
		return w.close()
	}
	return nil
}

func (w *writer) release() {
	take.Release(w.waiting)
	w.waiting, w.rows, w.bytes = nil, 0, 0
}

func (w *writer) open() (err error) {
	w.path = w.place.NewDataLocation(fmt.Sprintf("00000-%d-%s-%05d.parquet", len(w.files), w.id, len(w.files)+1)) // see inNameOrder
	if w.out, err = w.fs.Create(w.path); err == nil {
		w.file, err = newEncoder(w.out, w.arrow)
	}
	return err
}

// close completes the open file, if any.
func (w *writer) close() error {
	if w.out == nil {
		return nil
	}
	about, size, err := w.file.close()
	err = errors.Join(err, w.out.Close())
	w.out = nil
	if err != nil {
		return err
	}
	f, err := table.DataFileFromMetadata(table.DataFileArgs{
		Schema: w.columns, Spec: w.table.Spec(), Format: iceberg.ParquetFile, Metadata: about, FilePath: w.path, FileSize: size,
		Content: iceberg.EntryContentData, Properties: w.table.Properties(), FormatVersion: w.table.Metadata().Version(),
	})
	if err == nil {
		f, err = withNaNs(w.table.Spec(), f, w.file.nanCounts())
	}
	w.files = append(w.files, f)
	return err
}

// abort closes the open file after an error. The caller removes all written files, including this
// one.
func (w *writer) abort() {
	w.release()
	if w.out != nil {
		_ = w.out.Close()
	}
}
