package tables_test

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/tablestest"
)

// refilled is a reader that may yield more rows after its end, like a queue.
type refilled struct {
	array.RecordReader
	columns *arrow.Schema
}

func (r *refilled) Next() bool {
	if r.RecordReader == nil {
		return false
	}
	if r.RecordReader.Next() {
		return true
	}
	r.RecordReader = nil
	return false
}

func (r *refilled) RecordBatch() arrow.RecordBatch {
	if r.RecordReader == nil {
		return nil
	}
	return r.RecordReader.RecordBatch()
}
func (r *refilled) Schema() *arrow.Schema { return r.columns }
func (r *refilled) Err() error            { return nil }

// TestReaderOfQueue checks that a reader that is empty for now can be put again without
// losing rows.
func TestReaderOfQueue(t *testing.T) {
	type row struct {
		N int64 `arrow:"n"`
	}
	columns, err := tables.SchemaOf[row]()
	if err != nil {
		t.Fatal(err)
	}
	b, queue := tablestest.Open(t, nil).Bucket("b"), &refilled{columns: columns}
	for _, n := range []int64{1, 0, 2, 0, 0} {
		if n > 0 {
			if queue.RecordReader, err = tables.Records([]row{{n}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Put(t.Context(), "queue", queue, tables.PutAppend, nil); err != nil {
			t.Errorf("%d: %v", n, err)
		}
	}
	tablestest.Expect(t, b, "queue", `[{"n":1},{"n":2}]`)
}

// stepping is a reader without a batch before its first Next. It keeps the last batch at its
// end.
type stepping struct {
	array.RecordReader
	batches []arrow.RecordBatch
	next    int
}

func (s *stepping) Next() bool {
	if s.next == len(s.batches) {
		return false
	}
	s.next++
	return true
}

func (s *stepping) RecordBatch() arrow.RecordBatch { return s.batches[s.next-1] }

// Put does not ask a custom reader for a batch before its first Next. A batch that the reader
// keeps at its end is not put again.
func TestReaderOfOwnKind(t *testing.T) {
	type row struct {
		N int64 `arrow:"n"`
	}
	rows, err := tables.Records([]row{{1}})
	if err != nil {
		t.Fatal(err)
	}
	b, own := tablestest.Open(t, nil).Bucket("b"), &stepping{RecordReader: rows}
	put := func() {
		t.Helper()
		if _, err := b.Put(t.Context(), "own", own, tables.PutAppend, nil); err != nil {
			t.Error(err)
		}
	}
	put()
	rows.Next()
	own.batches = []arrow.RecordBatch{rows.RecordBatch()}
	put()
	put()
	tablestest.Expect(t, b, "own", `[{"n":1}]`)
}
