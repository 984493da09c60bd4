package tables

import (
	"context"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// positionEngine answers the query of a change with one row.
type positionEngine struct {
	file         uint64
	row          int64
	action       int32
	concurrently func() // called after the query has read the table's state
}

func (e *positionEngine) Query(ctx context.Context, _ *Store, _ string, o *QueryOptions) (array.RecordReader, error) {
	p, err := o.Target.Plan(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if e.concurrently != nil {
		e.concurrently()
	}
	s := arrow.NewSchema([]arrow.Field{{Name: "file", Type: arrow.PrimitiveTypes.Uint64}, {Name: "row", Type: arrow.PrimitiveTypes.Int64}, {Name: "action", Type: arrow.PrimitiveTypes.Int32}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	b.Field(0).(*array.Uint64Builder).Append(e.file)
	b.Field(1).(*array.Int64Builder).Append(e.row)
	b.Field(2).(*array.Int32Builder).Append(e.action)
	batch := b.NewRecordBatch()
	defer batch.Release()
	return array.NewRecordReader(s, []arrow.RecordBatch{batch})
}

func (*positionEngine) Describe(context.Context, *Store, string, *QueryOptions) (*QueryDescription, error) {
	panic("not used")
}

func (*positionEngine) ColumnTypes(logical, _ *arrow.Schema) []string {
	return make([]string, logical.NumFields())
}

// TestExecWrongPositions checks that Exec fails if the query returns a row or an action that does not exist.
func TestExecWrongPositions(t *testing.T) {
	for _, e := range []positionEngine{{file: 1}, {file: 1 << 63}, {row: 3}, {row: -1}, {action: 1}, {action: -1}} {
		s := mustOpen(t, t.TempDir(), &Options{Engine: &e})
		mustPut(t, s.Bucket(""), "t", PutAppend, 1, 2, 3)
		if _, err := s.Exec(t.Context(), "DELETE FROM t WHERE n = 1", nil); err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("with %+v: error %v, want an error that the row or action does not exist", e, err)
		}
		wantRows(t, s.Bucket(""), "t", 1, 2, 3)
	}
}

// TestExecDuringAppend checks that a DELETE does not block an append that writes files, and that the appended rows
// stay.
func TestExecDuringAppend(t *testing.T) {
	e := &positionEngine{row: 1}
	s := mustOpen(t, t.TempDir(), &Options{Engine: e, NoTail: true})
	b := s.Bucket("")
	mustPut(t, b, "t", PutAppend, 1, 2, 3)
	calls := 0
	e.concurrently = func() {
		if calls++; calls == 1 {
			mustPut(t, b, "t", PutAppend, 4, 5)
		}
	}
	if r, err := s.Exec(t.Context(), "DELETE FROM t WHERE n = 2", nil); err != nil || r.Rows != 1 || calls != 1 {
		t.Errorf("DELETE = %d rows, error %v, after %d attempts; want 1 row after 1 attempt", r.Rows, err, calls)
	}
	wantRows(t, b, "t", 1, 3, 4, 5)
}
