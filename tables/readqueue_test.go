package tables_test

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/tablestest"
)

// refilled is a reader that has rows again after its end, as one of a queue may.
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

// A reader that had rows, and has none for now, is put again: none are lost.
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

// stepping is a reader whose batch is there from its first Next on, and stays at its end.
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

// A reader of somebody's own is asked for no batch before its first Next, and one that it
// keeps says nothing of what comes next.
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
