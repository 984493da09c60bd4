package sorted

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/spill"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
)

const (
	spilledRows  = 1 << 12 // of a batch in a file
	spilledCost  = 1 << 20 // of a file that is read, about
	spilledBlock = 1 << 18 // bytes that have a checksum
)

// file is rows in a temporary file, which may be read once.
type file struct{ f *spill.File }

// spillRows writes rows to a file, as small batches, since many are read side by side.
func spillRows(rows Batches) (_ *file, err error) {
	f, err := tempdir.Create() // nothing is left of it, however the process ends
	if err != nil {
		return nil, err
	}
	t := &file{spill.New(f, "sorted rows", spilledBlock)}
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
			w = ipc.NewWriter(t.f, ipc.WithSchema(b.Schema()))
		}
		most := min(max(spilledCost/rowBytes(b), 1), spilledRows)
		for at := int64(0); at < b.NumRows() && err == nil; at += most {
			part := b.NewSlice(at, min(at+most, b.NumRows()))
			err = w.Write(part)
			part.Release()
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

func (t *file) close() { _ = t.f.Close() }

// batches yields the rows.
func (t *file) batches(yield func(arrow.RecordBatch, error) bool) {
	if t.f.Blocks() == 0 {
		return
	}
	r, err := ipc.NewReader(t.f.NewReader())
	if err != nil {
		yield(nil, err)
		return
	}
	defer r.Release()
	arrowsafe.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { b.Retain(); return b, nil })(yield)
}

// spilled is rows that go through a file when the first is wanted.
func spilled(rows Batches) Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		f, err := spillRows(rows)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.close()
		f.batches(yield)
	}
}
