package tables

import (
	"bytes"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// readers maps kinds of readers to functions that create such a reader of the given numbers. After the end, some
// readers keep their last batch, and others have no batch, as before the first Next.
var readers = map[string]func(t *testing.T, b *Bucket, ns ...int64) array.RecordReader{
	"slice": func(_ *testing.T, _ *Bucket, ns ...int64) array.RecordReader { return rowsOf(ns...) },
	"ipc": func(t *testing.T, _ *Bucket, ns ...int64) array.RecordReader {
		var stream bytes.Buffer
		w, r := ipc.NewWriter(&stream, ipc.WithSchema(numbers)), rowsOf(ns...)
		for r.Next() {
			if err := w.Write(r.RecordBatch()); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		out, err := ipc.NewReader(&stream, ipc.WithAllocator(memory.DefaultAllocator))
		if err != nil {
			t.Fatal(err)
		}
		return out
	},
	"iter": func(_ *testing.T, _ *Bucket, ns ...int64) array.RecordReader {
		r := rowsOf(ns...)
		return array.ReaderFromIter(numbers, func(yield func(arrow.RecordBatch, error) bool) {
			for r.Next() {
				r.RecordBatch().Retain()
				if !yield(r.RecordBatch(), nil) {
					return
				}
			}
		})
	},
	"structs": func(t *testing.T, _ *Bucket, ns ...int64) array.RecordReader {
		type row struct {
			N int64 `arrow:"n"`
		}
		rows := make([]row, len(ns))
		for i, n := range ns {
			rows[i].N = n
		}
		r, err := Records(rows)
		if err != nil {
			t.Fatal(err)
		}
		return r
	},
	"scan": func(t *testing.T, b *Bucket, ns ...int64) array.RecordReader {
		if _, err := b.Table("source").Put(t.Context(), rowsOf(ns...), PutReplace, nil); err != nil {
			t.Fatal(err)
		}
		source := b.Table("source")
		r, err := source.Scan(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	},
}

// TestPutDrainedReader checks that Put returns an error for a reader that another Put has already read, whatever the kind
// of reader, even with an Observer, and even if the first Put wrote files batch by batch.
func TestPutDrainedReader(t *testing.T) {
	for name, o := range map[string]*Options{"tail": nil, "files": {FoldBytes: 1}, "observed": {Observer: &recordingObserver{}}} {
		b := mustOpen(t, t.TempDir(), o).Bucket("b")
		for kind, reader := range readers {
			t.Run(name+"/"+kind, func(t *testing.T) {
				r := reader(t, b, 1, 2)
				defer r.Release()
				if _, err := b.Table(kind).Put(t.Context(), r, PutAppend, nil); err != nil {
					t.Fatal(err)
				}
				for name, put := range map[string]func() error{
					"append":  func() error { _, err := b.Table(kind).Put(t.Context(), r, PutAppend, nil); return err },
					"replace": func() error { _, err := b.Table(kind).Put(t.Context(), r, PutReplace, nil); return err },
					"upsert": func() error {
						_, err := b.Table(kind).Upsert(t.Context(), r, &UpsertOptions{Keys: []string{"n"}})
						return err
					},
					"nil reader": func() error { _, err := b.Table(kind).Put(t.Context(), nil, PutAppend, nil); return err },
					"update": func() error {
						return b.s.Update(t.Context(), func(x *Txn) error { return x.Put("b", kind, r, PutReplace, nil) })
					},
					"update with a nil reader": func() error {
						return b.s.Update(t.Context(), func(x *Txn) error { return x.Put("b", kind, nil, PutReplace, nil) })
					},
				} {
					if err := put(); err == nil || !strings.Contains(err.Error(), "the reader") {
						t.Errorf("%s: error = %v, want an error about the reader", name, err)
					}
				}
				wantRows(t, b, kind, 1, 2)
			})
		}
	}
}

// TestReaderTwiceInUpdate checks that a reader can be put only once within one Update.
func TestReaderTwiceInUpdate(t *testing.T) {
	b := mustOpen(t, t.TempDir(), nil).Bucket("b")
	for kind, reader := range readers {
		r := reader(t, b, 1, 2)
		err := b.s.Update(t.Context(), func(x *Txn) error {
			if err := x.Put("b", kind, r, PutError, nil); err != nil {
				t.Errorf("%v: first Put: %v", kind, err)
			}
			return x.Put("b", kind+" again", r, PutError, nil)
		})
		if err == nil || !strings.Contains(err.Error(), "the reader") {
			t.Errorf("%s: the second put's error = %v, want an error about the reader", kind, err)
		}
		r.Release()
	}
}

// TestReaderWithoutRows checks that a reader without rows can be put repeatedly, because no rows are lost.
func TestReaderWithoutRows(t *testing.T) {
	b := mustOpen(t, t.TempDir(), nil).Bucket("b")
	for kind, reader := range readers {
		r := reader(t, b)
		for range 3 {
			if _, err := b.Table(kind).Put(t.Context(), r, PutAppend, nil); err != nil {
				t.Errorf("%s: put of a reader without rows: %v", kind, err)
			}
		}
		r.Release()
	}
}

// TestNoReaderObserved checks that a nil reader is an error, even if an Observer counts the rows.
func TestNoReaderObserved(t *testing.T) {
	b := mustOpen(t, t.TempDir(), &Options{Observer: &recordingObserver{}}).Bucket("")
	if _, err := b.Table("t").Put(t.Context(), nil, PutAppend, nil); err == nil || !strings.Contains(err.Error(), "is nil") {
		t.Errorf(`Put error = %v, want an error with the text "is nil"`, err)
	}
	if _, err := b.Table("t").Upsert(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "is nil") {
		t.Errorf(`Upsert error = %v, want an error with the text "is nil"`, err)
	}
}
