// Package parquetfile writes rows of any type as Parquet files that other programs read.
package parquetfile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/tables/internal/schema"
)

// groupBytes is how much of a row group waits in memory, in bytes, before it is written.
const groupBytes = 16 << 20

// Write writes the rows of r to a file, which appears whole or not at all, in bounded
// memory. It returns how many there are. Where the file is there, and is not to be
// replaced, its error wraps output.ErrExists.
func Write(ctx context.Context, path string, replace bool, r array.RecordReader) (rows int64, err error) {
	f, err := output.Create(ctx, path, replace)
	if err != nil {
		return 0, err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	w, err := NewWriter(buffered, r.Schema())
	for err == nil && r.Next() {
		if err = canceled.Err(ctx); err == nil {
			rows += r.RecordBatch().NumRows()
			err = w.Write(r.RecordBatch())
		}
	}
	if err == nil {
		err = r.Err()
	}
	if err == nil {
		err = errors.Join(w.Close(), buffered.Flush())
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("%s: %w", path, err), f.Abort())
	}
	return rows, f.Commit()
}

// Writer writes columns that the library cannot write as those that a table keeps for
// them. Close completes what was written; it does not close what is written to.
type Writer struct {
	file   *pqarrow.FileWriter
	schema *arrow.Schema
}

// keepOpen hides the method Close, which the library would call.
type keepOpen struct{ io.Writer }

// NewWriter returns a writer of rows with the columns given.
func NewWriter(w io.Writer, columns *arrow.Schema) (*Writer, error) {
	fields := slices.Clone(columns.Fields())
	for i, f := range fields {
		if kept, err := schema.StoredType(f.Type); err == nil && schema.Has(f.Type, unwritable) {
			fields[i].Type = kept
		}
	}
	metadata := columns.Metadata()
	p := &Writer{schema: arrow.NewSchema(fields, &metadata)}
	properties := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd))
	var err error
	p.file, err = pqarrow.NewFileWriter(p.schema, keepOpen{w}, properties, pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	return p, err
}

// unwritable reports whether the library does not write, and read again, a type with any
// nulls.
func unwritable(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.DATE64, arrow.DURATION, arrow.STRING_VIEW, arrow.BINARY_VIEW, arrow.DECIMAL32, arrow.DECIMAL64, arrow.FIXED_SIZE_LIST:
		return true
	case arrow.EXTENSION:
		return t.(arrow.ExtensionType).ExtensionName() == "arrow.json"
	}
	return false
}

// Write writes rows. Small batches become one row group.
func (p *Writer) Write(b arrow.RecordBatch) error {
	kept, err := schema.Convert(b, p.schema)
	if err != nil {
		return err
	}
	defer kept.Release()
	if err := p.file.WriteBuffered(kept); err != nil {
		return err
	}
	if max(p.file.RowGroupTotalBytesWritten(), p.file.RowGroupTotalCompressedBytes()) >= groupBytes {
		return p.file.NewBufferedRowGroupChecked()
	}
	return nil
}

// Close completes the file.
func (p *Writer) Close() error { return p.file.Close() }
