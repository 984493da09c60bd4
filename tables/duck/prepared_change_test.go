//go:build cgo

package duck_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// TestPreparedAfterChange prepares a statement, changes its table, and runs the statement. The
// result must be correct for the changed table.
func TestPreparedAfterChange(t *testing.T) {
	const sql = "SELECT * FROM t ORDER BY ALL"
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Float64, Nullable: true}}, nil))
	b.Field(0).(*array.Float64Builder).Append(0.5)
	floatBatch := b.NewRecordBatch()
	for _, separateProcesses := range []bool{false, true} {
		t.Run(fmt.Sprintf("separate processes %v", separateProcesses), func(t *testing.T) {
			ctx := t.Context()
			s := newStore(t, &duck.Options{Processes: separateProcesses, Threads: 1})
			bucket := s.Bucket("b")
			o := &tables.QueryOptions{Bucket: "b"}
			expectColumns := func(o *tables.QueryOptions, want string) {
				t.Helper()
				for range 2 {
					d := must.Get(s.Describe(ctx, sql, o))(t)
					got := ""
					for _, f := range d.Result.Fields() {
						got += f.Name + ":" + f.Type.String() + " "
					}
					if got != want {
						t.Errorf("Describe: columns are %s, want %s", got, want)
					}
				}
				if separateProcesses {
					time.Sleep(20 * time.Millisecond) // wait until the statement's database is idle
				}
			}
			put(t, s, "b", "t", numbers(0, 1))
			expectColumns(o, "k:int64 s:utf8 ")
			put(t, s, "b", "t", numbers(1, 2))
			expect(t, s, sql, o, "0|s0", "1|s1")
			expectColumns(o, "k:int64 s:utf8 ")
			fold(t, s)
			expect(t, s, sql, o, "0|s0", "1|s1")

			expectColumns(o, "k:int64 s:utf8 ")
			must.Do(t, bucket.Table("t").Evolve(ctx, tables.ColumnChange{Op: tables.RenameColumn, Column: "k", To: "n"}, tables.ColumnChange{Op: tables.DropColumn, Column: "s"}))
			expect(t, s, sql, o, "0", "1")
			expectColumns(o, "n:int64 ")

			r := must.Get(array.NewRecordReader(floatBatch.Schema(), []arrow.RecordBatch{floatBatch}))(t)
			must.Get(bucket.Table("t").Put(ctx, r, tables.PutReplace, nil))(t)
			expect(t, s, sql, o, "0.5")
			expectColumns(o, "k:float64 ")

			put(t, s, "c", "t", numbers(7, 8))
			expectColumns(&tables.QueryOptions{Bucket: "c"}, "k:int64 s:utf8 ")
			expectColumns(o, "k:float64 ")
			expect(t, s, sql, &tables.QueryOptions{Bucket: "c"}, "7|s7")
			if _, err := s.Query(tables.WithBuckets(ctx, []string{"c"}), sql, o); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("Query of an inaccessible bucket: error = %v, want fs.ErrPermission", err)
			}
			if _, err := s.Describe(tables.WithBuckets(ctx, []string{"c"}), sql, o); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("Describe of an inaccessible bucket: error = %v, want fs.ErrPermission", err)
			}
			must.Do(t, bucket.Delete(ctx, "t"))
			if _, err := s.Describe(ctx, sql, o); !errors.Is(err, tables.ErrNotFound) {
				t.Errorf("Describe of a deleted table: error = %v, want ErrNotFound", err)
			}
			if _, err := s.Query(ctx, sql, o); !errors.Is(err, tables.ErrNotFound) {
				t.Errorf("Query of a deleted table: error = %v, want ErrNotFound", err)
			}
		})
	}
}

// TestPreparedChangeOfOverlap prepares statements that change a table, while rows in its tail can replace rows in a
// file.
func TestPreparedChangeOfOverlap(t *testing.T) {
	s := newStore(t, nil)
	change(t, s, "CREATE TABLE t AS SELECT TIMESTAMP '2026-01-01' + to_days(i::INT) AS ts, i AS v FROM range(3) r(i)", 3)
	withSettings(tables.Settings{Time: "ts", OnDuplicate: tables.KeepLast})(t, s, s.Bucket("b").Table("t"))
	change(t, s, "INSERT INTO t VALUES ('2026-01-02', 10)", 1)
	plan, err := s.Bucket("b").Table("t").ScanPlan(t.Context())
	if err != nil || len(plan.Files) == 0 || !plan.Files[0].Overlaps {
		t.Fatalf("no file overlaps the tail, error %v", err)
	}
	plan.Close()
	for _, sql := range []string{
		"UPDATE t SET v = ? WHERE v = 1", "DELETE FROM t WHERE v = ?", "MERGE INTO t USING range(?) AS r(i) ON t.v = r.i WHEN MATCHED THEN DELETE",
	} {
		if d, err := s.Describe(t.Context(), sql, &tables.QueryOptions{Bucket: "b"}); err != nil || d.Parameters.NumFields() != 1 {
			t.Errorf("Describe of %s = %+v, error %v; want one parameter", sql, d, err)
		}
	}
}
