package sorted

import (
	"bufio"
	"errors"
	"os"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

const (
	spilledRows = 1 << 12 // of a batch in a file
	spilledCost = 1 << 20 // of a file that is read, about
)

// file is rows in a temporary file, which may be read once.
type file struct{ f *os.File }

// spill writes rows to a file, as small batches, since many are read side by side.
func spill(rows Batches) (_ *file, err error) {
	f, err := os.CreateTemp("", "partd-tables-rows-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil { // nothing is left of it, however the process ends
		return nil, errors.Join(err, f.Close())
	}
	t := &file{f}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	buffered := bufio.NewWriterSize(f, 1<<20)
	var w *ipc.Writer
	for b, err := range rows {
		if err != nil {
			return nil, err
		}
		if w == nil {
			w = ipc.NewWriter(buffered, ipc.WithSchema(b.Schema()))
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
	if err := buffered.Flush(); err != nil {
		return nil, err
	}
	_, err = f.Seek(0, 0)
	return t, err
}

func (t *file) close() { _ = t.f.Close() }

// batches yields the rows.
func (t *file) batches(yield func(arrow.RecordBatch, error) bool) {
	info, err := t.f.Stat()
	if err != nil || info.Size() == 0 {
		if err != nil {
			yield(nil, err)
		}
		return
	}
	r, err := ipc.NewReader(bufio.NewReaderSize(t.f, 1<<18))
	if err != nil {
		yield(nil, err)
		return
	}
	defer r.Release()
	for r.Next() {
		b := r.RecordBatch()
		b.Retain()
		if !yield(b, nil) {
			return
		}
	}
	if err := r.Err(); err != nil && !errors.Is(err, os.ErrClosed) {
		yield(nil, err)
	}
}

// spilled is rows that go through a file when the first is wanted.
func spilled(rows Batches) Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		f, err := spill(rows)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.close()
		f.batches(yield)
	}
}
