package parquetfile

import (
	"context"
	"io"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/files/datafile"
)

// RowWriter writes rows. Close completes the file, but does not close the underlying io.Writer.
type RowWriter interface {
	Write(arrow.RecordBatch) error
	Close() error
}

// NewFast is like NewWriter, but uses the faster encoder of data files if that encoder supports all columns.
func NewFast(w io.Writer, columns *arrow.Schema) (RowWriter, error) {
	if datafile.HasFlatTypes(columns) {
		return datafile.NewFlatWriter(context.Background(), w, columns)
	}
	return NewWriter(w, columns)
}
