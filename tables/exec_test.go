package tables_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// positionEngine answers the query of a change with one row.
type positionEngine struct {
	file         uint64
	row          int64
	action       int32
	concurrently func() // called after the query has read the table's state
}

func (e *positionEngine) Query(ctx context.Context, _ *tables.Store, _ string, o *tables.QueryOptions) (array.RecordReader, error) {
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

func (*positionEngine) Describe(context.Context, *tables.Store, string, *tables.QueryOptions) (*tables.QueryDescription, error) {
	panic("not used")
}

func (*positionEngine) ColumnTypes(logical, _ *arrow.Schema) []string {
	return make([]string, logical.NumFields())
}

// TestExecWrongPositions checks that Exec fails if the query returns a row or an action that does not exist.
func TestExecWrongPositions(t *testing.T) {
	for _, e := range []positionEngine{{file: 1}, {file: 1 << 63}, {row: 3}, {row: -1}, {action: 1}, {action: -1}} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{Engine: &e})
		tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 1, 2, 3)
		if _, err := s.Exec(t.Context(), "DELETE FROM t WHERE n = 1", nil); err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("with %+v: error %v, want an error that the row or action does not exist", e, err)
		}
		tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3)
	}
}

// TestExecDuringAppend checks that a DELETE does not block an append that writes files, and that the appended rows
// stay.
func TestExecDuringAppend(t *testing.T) {
	e := &positionEngine{row: 1}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Engine: e, NoTail: true})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1, 2, 3)
	calls := 0
	e.concurrently = func() {
		if calls++; calls == 1 {
			tabletest.Put(t, b, "t", tables.PutAppend, 4, 5)
		}
	}
	if r, err := s.Exec(t.Context(), "DELETE FROM t WHERE n = 2", nil); err != nil || r.Rows != 1 || calls != 1 {
		t.Errorf("DELETE = %d rows, error %v, after %d attempts; want 1 row after 1 attempt", r.Rows, err, calls)
	}
	tabletest.WantRows(t, b, "t", 1, 3, 4, 5)
}

// TestExecDamaged checks that DROP TABLE works on a damaged table. Other statements report the damage.
func TestExecDamaged(t *testing.T) {
	s, _, _ := tabletest.CorruptedStore(t, "metadata", tabletest.Corruptions["truncated"])
	s.Opts().Engine = &rowsEngine{query: func(context.Context) []int64 { return []int64{1} }}
	for _, sql := range []string{"TRUNCATE bad", "DELETE FROM bad WHERE n = 1", "INSERT INTO bad VALUES (1)", "INSERT INTO bad SELECT 1", "CREATE OR REPLACE TABLE bad AS SELECT 1", "ALTER TABLE bad DROP s"} {
		if _, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "one"}); !errors.Is(err, tables.ErrDamaged) {
			t.Errorf("%s: error %v, want ErrDamaged", sql, err)
		}
	}
	if _, err := s.Exec(t.Context(), "DROP TABLE bad", &tables.ExecOptions{Bucket: "one"}); err != nil {
		t.Error(err)
	}
	if _, err := s.Bucket("one").Table("bad").Info(t.Context()); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("after DROP TABLE: error %v, want ErrNotFound", err)
	}
}

// TestExecFailedCount checks that a failed statement reports no rows, and that the limit on the length of an ID includes
// the numbers of the parameters' rows.
func TestExecFailedCount(t *testing.T) {
	e := &rowsEngine{}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Engine: e})
	e.query = func(context.Context) []int64 {
		tabletest.Put(t, s.Bucket(""), "t", tables.PutError, 9)
		return []int64{1, 2, 3}
	}
	if r, err := s.Exec(t.Context(), "CREATE TABLE t AS SELECT n FROM u", nil); !errors.Is(err, tables.ErrExists) || r.Rows != 0 {
		t.Errorf("CREATE TABLE = %d rows, error %v; want 0 rows and ErrExists", r.Rows, err)
	}
	for length, isValid := range map[int]bool{tables.MaxName - 2: true, tables.MaxName - 1: false} {
		o := &tables.ExecOptions{ID: strings.Repeat("x", length), Parameters: twoParameters(t)}
		_, err := s.Exec(t.Context(), "TRUNCATE missing", o)
		if errors.As(err, new(*tables.ArgumentError)) == isValid {
			t.Errorf("with an ID of %d bytes: error %v, want valid: %v", length, err, isValid)
		}
	}
}
