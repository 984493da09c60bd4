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

// writer writes rows as data files, each of some groups.
type writer struct {
	ctx     context.Context
	table   *table.Table
	fs      iceio.WriteFileIO
	id      uuid.UUID
	place   table.LocationProvider
	columns *iceberg.Schema // under the names that files have
	arrow   *arrow.Schema

	groupRows, groupBytes, fileBytes int64

	waiting     []arrow.RecordBatch // for the next group
	rows, bytes int64

	path  string
	out   iceio.FileWriter // nil: no file is open
	file  *encoder
	files []iceberg.DataFile
}

// mostGroupBytes is so much that a column of texts, which Arrow limits to 2 GiB, has a group.
const mostGroupBytes = 1 << 30

func (w *writer) prepare() (err error) {
	properties := w.table.Properties()
	w.groupRows = max(int64(properties.GetInt(table.ParquetRowGroupLimitKey, table.ParquetRowGroupLimitDefault)), 1) // others may set any
	w.groupBytes = min(int64(properties.GetInt(table.ParquetRowGroupSizeBytesKey, int(table.ParquetRowGroupSizeBytesDefault))), mostGroupBytes)
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

// add takes a batch over.
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

// flush writes what waits, as a group.
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
	rows, err := schema.Convert(one, w.arrow) // which only names parts as files do
	if err != nil {
		return err
	}
	defer rows.Release()
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

// close completes a file, if one is open.
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
	w.files = append(w.files, f)
	return err
}

// abort lets go of what an error has left open. Who removes what was written removes the
// file, too.
func (w *writer) abort() {
	w.release()
	if w.out != nil {
		_ = w.out.Close()
	}
}
