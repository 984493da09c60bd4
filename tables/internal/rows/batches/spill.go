package batches

import (
	"os"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/spill"
)

const (
	// SpilledBytes is the approximate memory for reading a file of Spill, in bytes.
	SpilledBytes = 1 << 19
	spilledRows  = 1 << 13 // maximum number of rows of a batch in a file
	spilledBlock = 1 << 18 // bytes of a file that share a checksum
)

// ArrayBytes is the approximate memory of an array without its buffers. Its description in a file takes about as much.
const ArrayBytes = 512

// Spilled is a temporary file with rows that can be read once.
type Spilled struct {
	Cost    int64 // approximate memory for reading the file, in bytes: that of the largest batch
	f       *spill.File
	columns *arrow.Schema
	convert Convert
}

// Convert converts a batch to a schema. It is [schema.Convert], which this package does not import, so that worker
// processes that need other functions of this package start quickly.
type Convert = func(b arrow.RecordBatch, to *arrow.Schema) (arrow.RecordBatch, error)

// Spill writes rows to a temporary file in a directory. The batches are small, because a merge reads many files at
// once. The caller must close the file.
func Spill(dir string, rows Seq, convert Convert) (_ *Spilled, err error) {
	f, err := tempdir.CreateIn(dir) // The file has no name, so it disappears with the process.
	if err != nil {
		return nil, err
	}
	t := &Spilled{f: spill.New(f, "sorted rows", spilledBlock), Cost: SpilledBytes, convert: convert}
	t.f.Quota = &spill.Process
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	var w *ipc.Writer
	for b, err := range rows {
		if err != nil {
			return nil, err
		}
		if w == nil {
			t.columns = b.Schema()
			w = ipc.NewWriter(t.f, ipc.WithSchema(t.columns))
		}
		step := SpilledRows(b)
		for start := int64(0); start < b.NumRows() && err == nil; start += step {
			slice, blocks := b.NewSlice(start, min(start+step, b.NumRows())), t.f.Blocks()
			err = w.Write(slice)
			slice.Release()
			t.Cost = max(t.Cost, int64(t.f.Blocks()-blocks-1)*spilledBlock+ArrayBytes*b.NumCols())
		}
		b.Release()
		if err != nil {
			return nil, err
		}
	}
	if w != nil {
		if err := w.Close(); err != nil {
			return nil, err
		}
	}
	return t, t.f.Finish()
}

// SpilledRows returns the number of rows to read or write at a time. The values of a batch take at least as much
// memory as its arrays.
func SpilledRows(b arrow.RecordBatch) int64 {
	return min(max(max(SpilledBytes, ArrayBytes*b.NumCols())/RowBytes(b), 1), spilledRows)
}

// RowBytes estimates the average size, in bytes, of a row in a batch. It returns at least 1.
func RowBytes(b arrow.RecordBatch) int64 {
	var sum int64
	for _, c := range b.Columns() {
		width, isFixedWidth := c.DataType().(arrow.FixedWidthDataType)
		texts, isText := c.(interface{ ValueBytes() []byte })
		switch {
		case isFixedWidth:
			sum += int64(c.Len()) * int64(width.BitWidth()) / 8
		case isText:
			sum += int64(len(texts.ValueBytes()))
		default: // For a slice, this counts the whole array.
			sum += util.TotalArraySize(c)
		}
	}
	return sum/max(1, b.NumRows()) + 1
}

// Close removes the file.
func (t *Spilled) Close() { _ = t.f.Close() } // the file is temporary

// Rows yields the rows. The method is a Seq.
func (t *Spilled) Rows(yield func(arrow.RecordBatch, error) bool) {
	if t.f.Blocks() == 0 {
		return
	}
	r, err := ipc.NewReader(t.f.NewReader())
	if err != nil {
		yield(nil, err)
		return
	}
	defer r.Release()
	// The types read back can differ in the metadata of nested fields, which some types compare.
	Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return t.convert(b, t.columns) })(yield)
}

// ViaFile passes rows through a temporary file. It writes all rows when the consumer asks for the first one.
func ViaFile(rows Seq, convert Convert) Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		f, err := Spill(os.TempDir(), rows, convert)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.Close()
		f.Rows(yield)
	}
}
