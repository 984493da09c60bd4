package datafile

import (
	"context"
	"encoding/base64"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// FlatWriter writes rows as a Parquet file that belongs to no table, with the encodings of data files. It encodes
// columns concurrently.
type FlatWriter struct {
	ctx     context.Context
	encoder *encoder
	groups  rowGroups
}

// Maximum size of a FlatWriter's row groups, which is the same for data files.
const (
	flatGroupRows  = 128 << 10
	flatGroupBytes = 32 << 20
)

// HasFlatTypes reports whether a FlatWriter can write the given columns.
func HasFlatTypes(columns *arrow.Schema) bool {
	flat := []arrow.Type{
		arrow.BOOL, arrow.INT32, arrow.INT64, arrow.UINT32, arrow.UINT64, arrow.FLOAT32, arrow.FLOAT64, arrow.STRING, arrow.BINARY,
		arrow.DATE32, arrow.TIME32, arrow.TIME64, arrow.TIMESTAMP, arrow.DECIMAL128, arrow.FIXED_SIZE_BINARY,
	}
	isOther := func(f arrow.Field) bool { return !slices.Contains(flat, f.Type.ID()) }
	return columns.NumFields() > 0 && !slices.ContainsFunc(columns.Fields(), isOther)
}

// NewFlatWriter returns a FlatWriter for columns, for which HasFlatTypes must be true. The file contains the Arrow
// schema and its metadata, so that Arrow's readers restore all types.
func NewFlatWriter(ctx context.Context, out io.Writer, columns *arrow.Schema) (*FlatWriter, error) {
	var annotations metadata.KeyValueMetadata
	notes := columns.Metadata()
	for i, key := range notes.Keys() {
		if err := annotations.Append(key, notes.Values()[i]); err != nil {
			return nil, err
		}
	}
	encoded := base64.StdEncoding.EncodeToString(flight.SerializeSchema(columns, memory.DefaultAllocator))
	if err := annotations.Append("ARROW:schema", encoded); err != nil {
		return nil, err
	}
	e, err := newEncoder(out, columns, false, pqfile.WithWriteMetadata(annotations))
	if err != nil {
		return nil, err
	}
	e.isFlatFile = true
	return &FlatWriter{ctx, e, rowGroups{maxRows: flatGroupRows, maxBytes: flatGroupBytes}}, nil
}

// Write adds the rows of b and writes complete row groups.
func (w *FlatWriter) Write(b arrow.RecordBatch) error {
	b.Retain()
	return w.groups.add(b, w.flush)
}

func (w *FlatWriter) flush() error {
	rows, err := w.groups.join()
	if rows == nil || err != nil {
		return err
	}
	defer rows.Release()
	return w.encoder.write(w.ctx, rows)
}

// Close completes the file. It does not close the underlying writer.
func (w *FlatWriter) Close() error {
	if err := w.flush(); err != nil {
		return err
	}
	_, _, err := w.encoder.close()
	return err
}

// rowGroups collects the rows of the next row group.
type rowGroups struct {
	maxRows, maxBytes int64
	pending           []arrow.RecordBatch
	rows, bytes       int64 // number and size of the pending rows
}

// add adds the rows of a batch and releases the batch. When a row group is complete, it calls flush, which must call
// join.
func (g *rowGroups) add(b arrow.RecordBatch, flush func() error) error {
	defer b.Release()
	if b.NumRows() == 0 {
		return nil
	}
	rowBytes := max(SizeOf(b)/b.NumRows(), 1)
	for start := int64(0); start < b.NumRows(); {
		n := min(b.NumRows()-start, g.maxRows-g.rows, max((g.maxBytes-g.bytes)/rowBytes, 1))
		g.pending = append(g.pending, b.NewSlice(start, start+n))
		start, g.rows, g.bytes = start+n, g.rows+n, g.bytes+n*rowBytes
		if g.rows >= g.maxRows || g.bytes >= g.maxBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// join removes the collected rows and returns them, or nil if there are none.
func (g *rowGroups) join() (arrow.RecordBatch, error) {
	if g.rows == 0 {
		return nil, nil
	}
	defer g.release()
	return take.Concat(g.pending)
}

func (g *rowGroups) release() {
	take.Release(g.pending)
	g.pending, g.rows, g.bytes = nil, 0, 0
}
