package sorted

import (
	"os"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

const (
	spilledRows       = 1 << 13 // maximum number of rows of a batch in a file
	spilledBatchBytes = 1 << 19 // approximate memory for reading a file, in bytes
	spilledBlock      = 1 << 18 // bytes of a file that share a checksum
)

// ArrayBytes is the approximate memory of an array without its buffers. Its description in a file takes about as much.
const ArrayBytes = 512

// spillFile is a temporary file with rows that can be read once.
type spillFile struct {
	f       *spill.File
	columns *arrow.Schema
	cost    int64 // approximate memory for reading the file, in bytes: that of the largest batch
}

// spillRows writes rows to a temporary file in a directory. The batches are small, because a merge reads many files at
// once.
func spillRows(dir string, rows Batches) (_ *spillFile, err error) {
	f, err := tempdir.CreateIn(dir) // The file has no name, so it disappears with the process.
	if err != nil {
		return nil, err
	}
	t := &spillFile{f: spill.New(f, "sorted rows", spilledBlock), cost: spilledBatchBytes}
	t.f.Quota = &spill.Process
	defer func() {
		if err != nil {
			t.close()
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
		step := spilledBatchRows(b)
		for start := int64(0); start < b.NumRows() && err == nil; start += step {
			slice, blocks := b.NewSlice(start, min(start+step, b.NumRows())), t.f.Blocks()
			err = w.Write(slice)
			slice.Release()
			t.cost = max(t.cost, int64(t.f.Blocks()-blocks-1)*spilledBlock+ArrayBytes*b.NumCols())
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

// spilledBatchRows returns the number of rows to read or write at a time. The values of a batch take at least as much
// memory as its arrays.
func spilledBatchRows(b arrow.RecordBatch) int64 {
	return min(max(max(spilledBatchBytes, ArrayBytes*b.NumCols())/rowBytes(b), 1), spilledRows)
}

func (t *spillFile) close() { _ = t.f.Close() } // the file is temporary

func (t *spillFile) batches(yield func(arrow.RecordBatch, error) bool) {
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
	arrowsafe.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Convert(b, t.columns) })(yield)
}

// Spill writes rows to a temporary file in a directory. The result can be read once, and until release is called.
func Spill(dir string, rows Batches) (spilled Batches, release func(), err error) {
	f, err := spillRows(dir, rows)
	if err != nil {
		return nil, nil, err
	}
	return f.batches, f.close, nil
}

// ViaFile passes rows through a temporary file. When the consumer asks for the first row, it writes them all.
func ViaFile(rows Batches) Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		f, err := spillRows(os.TempDir(), rows)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.close()
		f.batches(yield)
	}
}
