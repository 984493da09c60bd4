//go:build cgo

package duck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// putBatch appends a batch to a table.
func putBatch(t *testing.T, table *tables.Table, batch arrow.RecordBatch) {
	t.Helper()
	must.Get(table.Put(t.Context(), tabletest.OneBatch(batch), tables.PutAppend, nil))(t)
}

// TestSelectionsNeedNoDatabase checks which statements need no DuckDB after a statement that differs only in literals
// has run, and that all of them return the right rows.
func TestSelectionsNeedNoDatabase(t *testing.T) {
	s, record := openCounting(t)
	bucket := s.Bucket("b")
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int32), Nullable: true},
	}, nil)
	for i, name := range []string{"t", "t", "nested"} {
		batch := tabletest.ParseRows(t, columns, []string{`[{"id": 1, "name": "a", "x": 1}, {"id": 2, "name": "b", "x": 2}]`, `[{"id": 3, "name": "a", "x": 3}]`, `[]`}[i])
		if i < 2 {
			batch = array.NewRecordBatch(arrow.NewSchema(columns.Fields()[:3], nil), batch.Columns()[:3], batch.NumRows())
		}
		putBatch(t, bucket.Table(name), batch)
		if i == 0 {
			must.Get(s.Fold(t.Context(), nil))(t)
		}
	}
	one := tabletest.ParseRows(t, arrow.NewSchema([]arrow.Field{{Name: "p", Type: arrow.PrimitiveTypes.Int64}}, nil), `[{"p": 2}]`)
	for _, c := range []struct {
		first, sql  string // first is a statement to run before sql; "" means sql itself
		parameters  arrow.RecordBatch
		needsDuckDB bool
		want        string
	}{
		{sql: "SELECT * FROM t", want: "1 a 1;2 b 2;3 a 3;"},
		{sql: "FROM t", want: "1 a 1;2 b 2;3 a 3;"},
		{sql: "SELECT count(*) FROM t", want: "3;"},
		{sql: "SELECT x, t.ID AS i FROM b.t", want: "1 1;2 2;3 3;"},
		{sql: "SELECT x, x FROM b.t", needsDuckDB: true, want: "1 1;2 2;3 3;"},
		{sql: "SELECT id FROM t AS u WHERE u.id = 2", want: "2;"},
		{first: "SELECT id FROM t WHERE id = 77", sql: "SELECT id FROM t WHERE id = 2", want: "2;"},
		{first: "SELECT id FROM t WHERE 'c' = name AND id = 5", sql: "SELECT id FROM t WHERE 'a' = name AND id = 3", want: "3;"},
		{first: "SELECT id FROM t WHERE name = 'c' ", sql: "SELECT id FROM t WHERE name = '''' ", needsDuckDB: true},
		{sql: "SELECT id FROM t WHERE id = $1", parameters: one, want: "2;"},
		{sql: "SELECT id FROM t WHERE id = ? AND name = 'b'", parameters: one, want: "2;"},
		{sql: "SELECT * FROM nested", needsDuckDB: true},
		{sql: "SELECT l FROM nested", needsDuckDB: true},
		{sql: "SELECT id FROM nested"},
		{sql: "SELECT u.id FROM t AS u, nested", needsDuckDB: true},
		{first: "SELECT id FROM t WHERE id = 5", sql: "SELECT id FROM t WHERE id = 3000000000", needsDuckDB: true},
		{first: "SELECT id FROM t WHERE id = '5'", sql: "SELECT id FROM t WHERE id = '2'", needsDuckDB: true, want: "2;"},
		{first: "SELECT id FROM t WHERE x = 5", sql: "SELECT id FROM t WHERE x = 2", needsDuckDB: true, want: "2;"},
		{first: "SELECT id FROM t WHERE id = -5", sql: "SELECT id FROM t WHERE id = -2", needsDuckDB: true},
		{first: "SELECT id FROM t WHERE id = 5 LIMIT 1", sql: "SELECT id FROM t WHERE id = 2 LIMIT 0", needsDuckDB: true},
		{first: "SELECT id FROM t WHERE id = 5 /* ' */", sql: "SELECT id FROM t WHERE id = 2 /* ' */", needsDuckDB: true, want: "2;"},
		{first: "SELECT id FROM t WHERE 'c'\n'd' = name", sql: "SELECT id FROM t WHERE ''\n'a' = name", needsDuckDB: true, want: "1;3;"},
		{first: "SELECT id AS 'a' FROM t WHERE name = $$a$$", sql: "SELECT id AS 'b' FROM t WHERE name = $$a$$", needsDuckDB: true, want: "1;3;"},
		{sql: "SELECT id FROM t WHERE id = 2" + strings.Repeat(" AND name = 'b'", 15), want: "2;"},
		{sql: "SELECT id FROM t WHERE id = 2" + strings.Repeat(" AND name = 'b'", 16), needsDuckDB: true, want: "2;"},
		{sql: "SELECT id FROM t WHERE id > 2", needsDuckDB: true, want: "3;"},
		{sql: "SELECT id FROM t WHERE id = 2 OR id = 3", needsDuckDB: true, want: "2;3;"},
		{sql: "SELECT id FROM t WHERE NOT id = 2", needsDuckDB: true, want: "1;3;"},
		{sql: "SELECT id FROM t WHERE name COLLATE NOCASE = 'B'", needsDuckDB: true, want: "2;"},
		{sql: "SELECT count(*) FROM t WHERE id = 2", needsDuckDB: true, want: "1;"},
		{sql: "SELECT count(*) FILTER (id = 2) FROM t", needsDuckDB: true, want: "1;"},
		{sql: "SELECT DISTINCT name FROM t WHERE name = 'a'", needsDuckDB: true, want: "a;"},
		{sql: "SELECT count(*), id FROM t WHERE id = 1 GROUP BY id", needsDuckDB: true, want: "1 1;"},
		{sql: "SELECT id FROM t LIMIT 1", needsDuckDB: true, want: "1;"},
		{sql: "SELECT id FROM t ORDER BY id DESC", needsDuckDB: true, want: "3;2;1;"},
		{sql: "SELECT * EXCLUDE (x, name) FROM t", needsDuckDB: true, want: "1;2;3;"},
		{sql: "SELECT * REPLACE (5 AS x) FROM t WHERE id = 1", needsDuckDB: true, want: "1 a 5;"},
		{sql: "SELECT id FROM t QUALIFY row_number() OVER (ORDER BY id) = 1", needsDuckDB: true, want: "1;"},
		{sql: "SELECT a FROM t AS u(a) WHERE a = 2", needsDuckDB: true, want: "2;"},
		{sql: "SELECT id FROM t TABLESAMPLE 100%", needsDuckDB: true, want: "1;2;3;"},
		{sql: "WITH t AS (SELECT 7 AS id) SELECT id FROM t", needsDuckDB: true, want: "7;"},
	} {
		run := func(sql string) (text string) {
			r, err := s.Query(t.Context(), sql, &tables.QueryOptions{Bucket: "b", Parameters: c.parameters})
			if err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			defer r.Release()
			for r.Next() {
				for row := range int(r.RecordBatch().NumRows()) {
					text += fmt.Sprintf("%s;", rowText(r.RecordBatch(), row))
				}
			}
			if r.Err() != nil {
				t.Errorf("%s: %v", sql, r.Err())
			}
			return text
		}
		if c.first == "" {
			c.first = c.sql
		}
		run(c.first)
		calls := record()
		if got := run(c.sql); got != c.want || c.needsDuckDB != (len(*calls) > 0) {
			t.Errorf("%s = %q with the calls %q, want %q, with DuckDB: %v", c.sql, got, *calls, c.want, c.needsDuckDB)
		}
	}
}

func rowText(b arrow.RecordBatch, row int) string {
	values := make([]string, b.NumCols())
	for i, c := range b.Columns() {
		values[i] = c.ValueStr(row)
	}
	return strings.Join(values, " ")
}

// TestCountOfDeletedRows checks that a table's rows are counted without DuckDB although rows of its files were deleted,
// and other rows are in the tail.
func TestCountOfDeletedRows(t *testing.T) {
	s, record := openCounting(t)
	columns := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	put := func() {
		putBatch(t, s.Bucket("b").Table("t"), tabletest.ParseRows(t, columns, `[{"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}, {"id": 5}]`))
	}
	for range 2 {
		put()
		must.Get(s.Fold(t.Context(), nil))(t)
	}
	f := tabletest.NewEngine(t, s, "b", "t")
	f.MergeOnRead(3)
	for i, where := range []iceberg.BooleanExpression{iceberg.LessThan(iceberg.Reference("id"), int64(3)), iceberg.EqualTo(iceberg.Reference("id"), int64(3))} {
		f.Delete(where)
		put()
		for range 2 {
			calls := record()
			r := must.Get(s.Query(t.Context(), "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b"}))(t)
			want := []string{"11", "14"}[i] // 6 + 5 and 4 + 10
			if !r.Next() || rowText(r.RecordBatch(), 0) != want {
				t.Errorf("the count is %v, want %s", r.RecordBatch(), want)
			}
			r.Release()
			if i > 0 && len(*calls) > 0 {
				t.Errorf("counting needed the calls %q, want none", *calls)
			}
		}
	}
}

// TestSelectionsOfManyFiles checks that a statement whose condition leaves many files needs DuckDB.
func TestSelectionsOfManyFiles(t *testing.T) {
	s, record := openCounting(t)
	columns := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "name", Type: arrow.BinaryTypes.String}}, nil)
	for i := range 17 {
		putBatch(t, s.Bucket("b").Table("t"), tabletest.ParseRows(t, columns, fmt.Sprintf(`[{"id": %d, "name": "a"}]`, i)))
		must.Get(s.Fold(t.Context(), nil))(t)
		for _, condition := range []string{"name = 'a'", "id = 5"} {
			var calls *[]string
			count := int64(0)
			for range 2 {
				calls, count = record(), 0
				r := must.Get(s.Query(t.Context(), "SELECT id FROM t WHERE "+condition, &tables.QueryOptions{Bucket: "b"}))(t)
				count = must.Get(tabletest.CountRows(r))(t)
			}
			needsDuckDB, want := condition != "id = 5" && i == 16, int64(i+1)
			if condition == "id = 5" {
				want = min(1, want/6)
			}
			if count != want || needsDuckDB != (len(*calls) > 0) {
				t.Errorf("with %d files, %s selects %d rows with the calls %q, want %d rows, with DuckDB: %v", i+1, condition, count, *calls, want, needsDuckDB)
			}
		}
	}
}

// TestSelectionsCacheNoLiterals checks that the cache does not keep the literals of statements, which it does not
// count.
func TestSelectionsCacheNoLiterals(t *testing.T) {
	e, s := newEngine(t, &Options{})
	columns := arrow.NewSchema([]arrow.Field{{Name: "name", Type: arrow.BinaryTypes.String}}, nil)
	putBatch(t, s.Bucket("").Table("t"), tabletest.ParseRows(t, columns, `[{"name": "a"}]`))
	for _, sql := range []string{"SELECT name FROM t WHERE name = '%s'", "SELECT name FROM t WHERE name = '%s' -- comment"} {
		sql = fmt.Sprintf(sql, strings.Repeat("x", 100_000))
		must.Do(t, run(t, s, sql))
		st := e.statements.entries[len(e.statements.entries)-1]
		kept, err := json.Marshal([]any{st.names, st.selection})
		if err != nil || len(kept)+len(st.sql) > st.size {
			t.Errorf("the cache keeps %d bytes of a statement, and counts %d; error %v", len(kept)+len(st.sql), st.size, err)
		}
	}
}

// TestLargeSelections checks which statements on a large table need no DuckDB, and that such a statement ends with its
// context.
func TestLargeSelections(t *testing.T) {
	s, record := openCounting(t)
	ids, names := array.NewInt64Builder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	const n = maxSelectRows + 100
	for i := range int64(n) {
		ids.Append(i)
		names.Append(fmt.Sprint(i % 100))
	}
	columns := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "name", Type: arrow.BinaryTypes.String}}, nil)
	batch := array.NewRecordBatch(columns, []arrow.Array{ids.NewArray(), names.NewArray()}, n)
	putBatch(t, s.Bucket("b").Table("t"), batch)
	must.Get(s.Fold(t.Context(), nil))(t)
	for _, c := range []struct {
		sql                  string
		recycle, needsDuckDB bool
		rows                 int64
	}{
		{"SELECT * FROM t WHERE id = 1234", false, false, 1},
		{"SELECT * FROM t WHERE name = '17'", true, true, n/100 + 1},
		{"SELECT * FROM t WHERE name = '17' AND id = 17", true, false, 1},
		{"SELECT * FROM t", false, true, n},
		{"SELECT * FROM t", true, false, n},
	} {
		for first := true; ; first = false {
			calls := record()
			r := must.Get(s.Query(t.Context(), c.sql, &tables.QueryOptions{Bucket: "b", Recycle: c.recycle}))(t)
			count, err := tabletest.CountRows(r)
			if err != nil || count != c.rows || !first && c.needsDuckDB != (len(*calls) > 0) {
				t.Errorf("%s returns %d rows, error %v, with the calls %q, want %d rows, with DuckDB: %v", c.sql, count, err, *calls, c.rows, c.needsDuckDB)
			}
			if !first {
				break
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := record()
	r := must.Get(s.Query(ctx, "SELECT * FROM t", &tables.QueryOptions{Bucket: "b", Recycle: true}))(t)
	if !r.Next() {
		t.Errorf("the statement has no rows, error %v", r.Err())
	}
	cancel()
	for r.Next() {
	}
	r.Release()
	if !errors.Is(r.Err(), context.Canceled) || len(*calls) > 0 {
		t.Errorf("the canceled statement ended with %v after the calls %q", r.Err(), *calls)
	}
}
