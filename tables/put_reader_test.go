package tables_test

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
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
