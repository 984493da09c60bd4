package tables_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/tablestest"
)

// queueReader is a reader that can yield more rows after its end, like a queue.
type queueReader struct {
	array.RecordReader
	columns *arrow.Schema
}

func (r *queueReader) Next() bool {
	if r.RecordReader == nil {
		return false
	}
	if r.RecordReader.Next() {
		return true
	}
	r.RecordReader = nil
	return false
}

func (r *queueReader) RecordBatch() arrow.RecordBatch {
	if r.RecordReader == nil {
		return nil
	}
	return r.RecordReader.RecordBatch()
}
func (r *queueReader) Schema() *arrow.Schema { return r.columns }
func (r *queueReader) Err() error            { return nil }

// TestReaderOfQueue checks that a reader that is temporarily empty can be put again without losing rows.
func TestReaderOfQueue(t *testing.T) {
	type row struct {
		N int64 `arrow:"n"`
	}
	columns, err := tables.SchemaOf[row]()
	if err != nil {
		t.Fatal(err)
	}
	b, queue := tablestest.Open(t, nil).Bucket("b"), &queueReader{columns: columns}
	for _, n := range []int64{1, 0, 2, 0, 0} {
		if n > 0 {
			if queue.RecordReader, err = tables.Records([]row{{n}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Table("queue").Put(t.Context(), queue, tables.PutAppend, nil); err != nil {
			t.Errorf("put of row %d (0 means no row): %v", n, err)
		}
	}
	tablestest.Expect(t, b, "queue", `[{"n":1},{"n":2}]`)
}

// customReader is a reader whose RecordBatch panics before the first Next, and returns the last batch after the end.
type customReader struct {
	array.RecordReader
	batches []arrow.RecordBatch
	next    int
}

func (s *customReader) Next() bool {
	if s.next == len(s.batches) {
		return false
	}
	s.next++
	return true
}

func (s *customReader) RecordBatch() arrow.RecordBatch { return s.batches[s.next-1] }

// TestCustomReader checks that Put does not ask a custom reader for a batch before its first Next, and does not put
// a batch again that the reader returns after its end.
func TestCustomReader(t *testing.T) {
	type row struct {
		N int64 `arrow:"n"`
	}
	rows, err := tables.Records([]row{{1}})
	if err != nil {
		t.Fatal(err)
	}
	b, custom := tablestest.Open(t, nil).Bucket("b"), &customReader{RecordReader: rows}
	put := func() {
		t.Helper()
		if _, err := b.Table("own").Put(t.Context(), custom, tables.PutAppend, nil); err != nil {
			t.Error(err)
		}
	}
	put()
	rows.Next()
	custom.batches = []arrow.RecordBatch{rows.RecordBatch()}
	put()
	put()
	tablestest.Expect(t, b, "own", `[{"n":1}]`)
}

// readers maps kinds of readers to functions that create such a reader of the given numbers. After the end, some
// readers keep their last batch, and others have no batch, as before the first Next.
var readers = map[string]func(t *testing.T, b *tables.Bucket, ns ...int64) array.RecordReader{
	"slice": func(_ *testing.T, _ *tables.Bucket, ns ...int64) array.RecordReader { return tabletest.Rows(ns...) },
	"ipc": func(t *testing.T, _ *tables.Bucket, ns ...int64) array.RecordReader {
		var stream bytes.Buffer
		w, r := ipc.NewWriter(&stream, ipc.WithSchema(tabletest.Numbers)), tabletest.Rows(ns...)
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
	"iter": func(_ *testing.T, _ *tables.Bucket, ns ...int64) array.RecordReader {
		r := tabletest.Rows(ns...)
		return array.ReaderFromIter(tabletest.Numbers, func(yield func(arrow.RecordBatch, error) bool) {
			for r.Next() {
				r.RecordBatch().Retain()
				if !yield(r.RecordBatch(), nil) {
					return
				}
			}
		})
	},
	"structs": func(t *testing.T, _ *tables.Bucket, ns ...int64) array.RecordReader {
		type row struct {
			N int64 `arrow:"n"`
		}
		rows := make([]row, len(ns))
		for i, n := range ns {
			rows[i].N = n
		}
		r, err := tables.Records(rows)
		if err != nil {
			t.Fatal(err)
		}
		return r
	},
	"scan": func(t *testing.T, b *tables.Bucket, ns ...int64) array.RecordReader {
		tabletest.PutRows(t, b, "source", tabletest.Rows(ns...), tables.PutReplace, nil)
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
	for name, o := range map[string]*tables.Options{"tail": nil, "files": {FoldBytes: 1}, "observed": {Observer: &recordingObserver{}}} {
		b := tabletest.Open(t, t.TempDir(), o).Bucket("b")
		for kind, reader := range readers {
			t.Run(name+"/"+kind, func(t *testing.T) {
				r := reader(t, b, 1, 2)
				defer r.Release()
				tabletest.PutRows(t, b, kind, r, tables.PutAppend, nil)
				for name, put := range map[string]func() error{
					"append":  func() error { _, err := b.Table(kind).Put(t.Context(), r, tables.PutAppend, nil); return err },
					"replace": func() error { _, err := b.Table(kind).Put(t.Context(), r, tables.PutReplace, nil); return err },
					"upsert": func() error {
						_, err := b.Table(kind).Upsert(t.Context(), r, &tables.UpsertOptions{Keys: []string{"n"}})
						return err
					},
					"nil reader": func() error { _, err := b.Table(kind).Put(t.Context(), nil, tables.PutAppend, nil); return err },
					"update": func() error {
						return b.Store().Update(t.Context(), func(x *tables.Txn) error { return x.Put("b", kind, r, tables.PutReplace, nil) })
					},
					"update with a nil reader": func() error {
						return b.Store().Update(t.Context(), func(x *tables.Txn) error { return x.Put("b", kind, nil, tables.PutReplace, nil) })
					},
				} {
					if err := put(); err == nil || !strings.Contains(err.Error(), "the reader") {
						t.Errorf("%s: error = %v, want an error about the reader", name, err)
					}
				}
				tabletest.WantRows(t, b, kind, 1, 2)
			})
		}
	}
}

// TestReaderTwiceInUpdate checks that a reader can be put only once within one Update.
func TestReaderTwiceInUpdate(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	for kind, reader := range readers {
		r := reader(t, b, 1, 2)
		err := b.Store().Update(t.Context(), func(x *tables.Txn) error {
			if err := x.Put("b", kind, r, tables.PutError, nil); err != nil {
				t.Errorf("%v: first Put: %v", kind, err)
			}
			return x.Put("b", kind+" again", r, tables.PutError, nil)
		})
		if err == nil || !strings.Contains(err.Error(), "the reader") {
			t.Errorf("%s: the second put's error = %v, want an error about the reader", kind, err)
		}
		r.Release()
	}
}

// TestReaderWithoutRows checks that a reader without rows can be put repeatedly, because no rows are lost.
func TestReaderWithoutRows(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	for kind, reader := range readers {
		r := reader(t, b)
		for range 3 {
			if _, err := b.Table(kind).Put(t.Context(), r, tables.PutAppend, nil); err != nil {
				t.Errorf("%s: put of a reader without rows: %v", kind, err)
			}
		}
		r.Release()
	}
}

// TestNoReaderObserved checks that a nil reader is an error, even if an Observer counts the rows.
func TestNoReaderObserved(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{Observer: &recordingObserver{}}).Bucket("")
	if _, err := b.Table("t").Put(t.Context(), nil, tables.PutAppend, nil); err == nil || !strings.Contains(err.Error(), "is nil") {
		t.Errorf(`Put error = %v, want an error with the text "is nil"`, err)
	}
	if _, err := b.Table("t").Upsert(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "is nil") {
		t.Errorf(`Upsert error = %v, want an error with the text "is nil"`, err)
	}
}
