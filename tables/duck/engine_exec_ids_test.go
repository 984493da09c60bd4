//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// TestExecIDs repeats each statement with the same ID, before and after a fold. The repetitions must change nothing and
// return the same number of rows. Statements that ignore the ID must fail the second time.
func TestExecIDs(t *testing.T) {
	s := newStore(t, nil)
	for i, sql := range []string{
		"CREATE TABLE t AS SELECT i AS k FROM range(10) r(i)",
		"INSERT INTO t VALUES (10), (11)",
		"INSERT INTO t SELECT k + 100 FROM t",
		"UPDATE t SET k = k + 1000 WHERE k < 3",
		"UPDATE t SET k = k + 1 WHERE k < 0", // no rows
		"DELETE FROM t WHERE k % 2 = 1",
		"MERGE INTO t USING range(5) r(i) ON t.k = r.i WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (i + 5000)",
		"TRUNCATE t",
	} {
		o := &tables.ExecOptions{Bucket: "b", ID: fmt.Sprint("id ", i)}
		first, err := s.Exec(t.Context(), sql, o)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		table := s.Bucket("b").Table("t")
		before, _ := table.Info(t.Context())
		again, err := s.Exec(t.Context(), sql, o)
		after, _ := table.Info(t.Context())
		if err != nil || again.Rows != first.Rows || after.Rows != before.Rows || after.Version != before.Version {
			t.Errorf("%s again = %d rows, error %v, and the table went from %d to %d rows; want %d rows and no change", sql, again.Rows, err, before.Rows, after.Rows, first.Rows)
		}
		fold(t, s)
		if again, err := s.Exec(t.Context(), sql, o); err != nil || again.Rows != first.Rows {
			t.Errorf("%s after a fold = %d rows, error %v; want %d rows", sql, again.Rows, err, first.Rows)
		}
	}
	for _, sql := range []string{"ALTER TABLE t ADD COLUMN x INT", "ALTER TABLE t RENAME x TO y", "ALTER TABLE t DROP y", "ALTER TABLE t RENAME TO u", "DROP TABLE u", "CREATE SCHEMA c"} {
		o := &tables.ExecOptions{Bucket: "b", ID: sql}
		if _, err := s.Exec(t.Context(), sql, o); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if _, err := s.Exec(t.Context(), sql, o); err == nil {
			t.Errorf("%s succeeded twice, want an error", sql)
		}
	}
}

// TestExecReusedID checks that a statement with the ID of a different statement or put fails and changes nothing. The
// rows of INSERT … VALUES are not compared.
func TestExecReusedID(t *testing.T) {
	s := newStore(t, nil)
	exec := func(id, sql string, o tables.ExecOptions) error {
		o.Bucket, o.ID = "b", id
		_, err := s.Exec(t.Context(), sql, &o)
		return err
	}
	k := func(n int64) tables.ExecOptions {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "1", Type: arrow.PrimitiveTypes.Int64}}, nil))
		b.Field(0).(*array.Int64Builder).Append(n)
		return tables.ExecOptions{Parameters: b.NewRecordBatch()}
	}
	for _, c := range []struct {
		id, sql string
		o       tables.ExecOptions
		refused bool
	}{
		{"create", "CREATE TABLE t AS SELECT i AS k FROM range(10) r(i)", tables.ExecOptions{}, false},
		{"create", "DELETE FROM t", tables.ExecOptions{}, true},
		{"create", "INSERT INTO t VALUES (7)", tables.ExecOptions{}, true},
		{"delete", "DELETE FROM t WHERE k = ?", k(1), false},
		{"delete", "DELETE FROM t WHERE k = ?", k(1), false},
		{"delete", "DELETE FROM t WHERE k = ?", k(2), true},
		{"delete", "INSERT INTO t SELECT 1", tables.ExecOptions{}, true},
		{"values", "INSERT INTO t VALUES (1)", tables.ExecOptions{}, false},
		{"values", "INSERT INTO t VALUES (1)", tables.ExecOptions{}, false},
		{"values", "TRUNCATE t", tables.ExecOptions{}, true},
	} {
		err := exec(c.id, c.sql, c.o)
		if c.refused != (err != nil) || c.refused && (!errors.As(err, new(*tables.ArgumentError)) || !strings.Contains(err.Error(), "use a new ID")) {
			t.Errorf("%s with the ID %q = %v, want refused: %v", c.sql, c.id, err, c.refused)
		}
	}
	expect(t, s, "SELECT count(*), sum(k) FROM b.t", nil, "10|45")
}

// TestExecRefused checks errors that depend on the tables. Neither these statements nor a dry run may change anything.
func TestExecRefused(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	put(t, s, "secret", "t", numbers(0, 10))
	twice := `a row of "t" matches more than one row of the source: make the source unique by the columns of ON or WHERE`
	for sql, want := range map[string]string{
		"UPDATE t SET s = 'x' FROM (VALUES (1), (1)) u(i) WHERE t.k = u.i":                twice,
		"MERGE INTO t USING (VALUES (1), (1)) u(i) ON t.k = u.i WHEN MATCHED THEN DELETE": twice,
		"INSERT INTO t VALUES (1)":                              "INSERT has 2 columns but 1 values",
		"INSERT INTO t (k, K) VALUES (1, 2)":                    `column "K" occurs twice`,
		"INSERT INTO t (x) VALUES (1)":                          `the table has no column "x"`,
		"UPDATE t SET x = 1":                                    `the table has no column "x"`,
		"UPDATE t SET k = 'x'":                                  "Conversion error",
		"UPDATE t SET s = t":                                    "is a whole row",
		"DELETE FROM t USING t AS u WHERE k = 1":                "Ambiguous",
		"DELETE FROM t USING t AS u UNION ALL SELECT 99, 99, 0": "UNION does not fit here",
		"DELETE FROM nothere":                                   "does not exist",
		"ALTER TABLE t ADD COLUMN K INT":                        "cannot add the column",
		"ALTER TABLE t ALTER x TYPE INT":                        "cannot widen the column",
		"ALTER TABLE t RENAME x TO y":                           "cannot rename the column",
		"CREATE TABLE t AS SELECT 1 AS a":                       "exists",
		"CREATE TABLE T AS SELECT 1 AS a":                       "exists",
		"INSERT INTO secret.t VALUES (1, 'a')":                  "cannot access tables of bucket",
		"INSERT INTO t SELECT * FROM secret.t":                  "cannot access tables of bucket",
		"DELETE FROM t WHERE k IN (SELECT k FROM secret.t)":     "cannot access tables of bucket",
		"ALTER TABLE t ALTER k TYPE VARCHAR":                    "k",
		"DROP SCHEMA b":                                         "not empty",
		"DELETE FROM t WHERE k = $1":                            "parameters",
	} {
		_, err := s.Exec(tables.WithBuckets(t.Context(), []string{"b"}), sql, &tables.ExecOptions{Bucket: "b"})
		must.Fail(t, err, want, "%s", sql)
	}
	denied := errors.New("denied")
	o := &tables.ExecOptions{Bucket: "b", Authorize: func(r tables.ExecResult) error {
		if r.Verb != "DROP TABLE" || r.Bucket != "b" || r.Table != "t" {
			t.Errorf("Authorize got %+v", r)
		}
		return denied
	}}
	must.Fail(t, must.Err(s.Exec(t.Context(), "DROP TABLE T", o)), denied, "DROP of a table that is denied")
	if r, err := s.Exec(t.Context(), "DELETE FROM t WHERE k < 4", &tables.ExecOptions{Bucket: "b", DryRun: true}); err != nil || r.Rows != 4 {
		t.Errorf("a dry run = %d rows, error %v; want 4", r.Rows, err)
	}
	expect(t, s, "SELECT count(*), sum(k) FROM b.t", nil, "10|45")
}

// TestHostileExec puts expressions that must be refused, like those in TestHostile, into each part of each statement.
// All statements must fail, and no error may reveal a path or a secret.
func TestHostileExec(t *testing.T) {
	t.Setenv("PARTD_TEST_SECRET", "hunter2")
	temp := t.TempDir()
	s := newStore(t, &duck.Options{TempDir: temp})
	put(t, s, "b", "t", numbers(0, 10))
	fold(t, s)
	file := lastFile(t, s)
	escapes := []string{
		"(SELECT content FROM read_text('/etc/passwd'))", "(SELECT count(*)::VARCHAR FROM read_parquet('FILE'))", "(SELECT max(s) FROM 'FILE')", "getenv('PARTD_TEST_SECRET')",
		"current_setting('temp_directory')", "(SELECT max(value) FROM duckdb_settings())", "(SELECT max(view_name) FROM duckdb_views)", "error(s)", "(SELECT filename FROM t)",
		"(SELECT s FROM query('SELECT 1'))", "nextval('x')::VARCHAR", "'a'; COPY (SELECT 1) TO 'OUT'", "(SELECT max(s) FROM \"partd target\".u)",
	}
	for _, escape := range escapes {
		escape = strings.NewReplacer("FILE", file, "OUT", filepath.Join(temp, "out")).Replace(escape)
		for _, sql := range []string{
			"INSERT INTO t VALUES (1, X)", "INSERT INTO t SELECT k, X FROM t", "CREATE TABLE x AS SELECT X AS a FROM t", "DELETE FROM t WHERE s = X", "DELETE FROM t USING (SELECT X AS a FROM t) u WHERE a = s",
			"UPDATE t SET s = X", "UPDATE t SET s = '' WHERE s = X", "UPDATE t SET s = a FROM (SELECT k AS j, X AS a FROM t) u WHERE j = k", "WITH u AS (SELECT X AS a FROM t) DELETE FROM t WHERE s IN (SELECT a FROM u)",
			"MERGE INTO t USING (SELECT k AS j, X AS a FROM t) u ON j = k WHEN MATCHED AND a = s THEN DELETE", "MERGE INTO t USING (SELECT 1 AS j) u ON s = X WHEN MATCHED THEN DELETE",
			"MERGE INTO t USING (SELECT 1 AS j) u ON j = k WHEN MATCHED THEN UPDATE SET s = X", "MERGE INTO t USING (SELECT 1 AS j) u ON j = k WHEN MATCHED AND s = X THEN DELETE",
			"MERGE INTO t USING (SELECT 77 AS j) u ON j = k WHEN NOT MATCHED AND true THEN INSERT VALUES (1, (SELECT X FROM t))",
		} {
			sql = strings.Replace(sql, "X", escape, 1)
			_, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"})
			if err == nil {
				t.Errorf("%s succeeded, want an error", sql)
				continue
			}
			for _, path := range []string{s.Dir(), temp, "hunter2"} {
				if strings.Contains(err.Error(), path) && !strings.Contains(sql, path) {
					t.Errorf("%s: the error reveals a path or a secret: %v", sql, err)
				}
			}
		}
	}
	expect(t, s, "SELECT count(*), count(DISTINCT s) FROM b.t", nil, "10|10")
}

// TestExecParameters runs statements for several rows of parameters.
func TestExecParameters(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 3))
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "0", Type: arrow.BinaryTypes.String}, {Name: "1", Type: arrow.PrimitiveTypes.Int64}}, nil))
	for i := range 9000 {
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprint("p", i))
		b.Field(1).(*array.Int64Builder).Append(int64(i))
	}
	many := b.NewRecordBatch()
	d, err := s.Describe(t.Context(), "INSERT INTO t (s, k) VALUES (?, ? + 100)", &tables.QueryOptions{Bucket: "b"})
	if err != nil || d.Parameters.NumFields() != 2 || d.Parameters.Field(0).Type.ID() != arrow.STRING || d.Result.Field(0).Name != "rows" {
		t.Fatalf("description %+v, error %v", d, err)
	}
	r, err := s.Exec(t.Context(), "INSERT INTO t (s, k) VALUES (?, ? + 100)", &tables.ExecOptions{Bucket: "b", Parameters: many})
	if err != nil || r.Rows != 9000 {
		t.Fatalf("INSERT = %d rows, error %v", r.Rows, err)
	}
	expect(t, s, "SELECT count(*), sum(k), count(DISTINCT s), min(k) FILTER (s = 'p8999') FROM b.t", nil, "9003|41395503|9003|9099")
	r, err = s.Exec(t.Context(), "UPDATE t SET s = ? WHERE k = ? + 100", &tables.ExecOptions{Bucket: "b", Parameters: many.NewSlice(0, 3), ID: "x"})
	if err != nil || r.Rows != 3 {
		t.Fatalf("UPDATE = %d rows, error %v", r.Rows, err)
	}
}

// TestExecTouchesOnlyMatchingFiles checks that a change keeps the files without changed rows.
func TestExecTouchesOnlyMatchingFiles(t *testing.T) {
	s := newStore(t, nil)
	for i := range int64(4) {
		put(t, s, "b", "t", numbers(10*i, 10*i+10))
		fold(t, s)
	}
	files := func() (paths []string) {
		p := must.Get(s.Bucket("b").Table("t").ScanPlan(context.Background()))(t)
		defer p.Close()
		for _, f := range p.Files {
			paths = append(paths, f.Path)
		}
		return paths
	}
	before := files()
	for _, sql := range []string{"UPDATE t SET s = 'x' WHERE k = 15", "DELETE FROM t WHERE k = 15", "MERGE INTO t USING (SELECT 15 AS i) ON k = i WHEN NOT MATCHED THEN INSERT VALUES (15, 'y')", "DELETE FROM t WHERE k BETWEEN 20 AND 29"} {
		must.Get(s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}))(t)
	}
	after := files()
	for i, path := range before {
		if kept := slices.Contains(after, path); kept != (i == 0 || i == 3) {
			t.Errorf("file %d kept: %v", i, kept)
		}
	}
	expect(t, s, "SELECT count(*), sum(k) FROM b.t", nil, "30|535")
}

// TestExecConcurrent runs statements on one table concurrently with puts, folds and compactions. No change may be lost.
func TestExecConcurrent(t *testing.T) {
	const writers, each = 4, 8
	s := newStore(t, &duck.Options{Queries: 2})
	change(t, s, "CREATE TABLE t AS SELECT 0::BIGINT AS k, 0 AS n", 1)
	var statements sync.WaitGroup
	for range writers {
		statements.Go(func() {
			for range each {
				for _, sql := range []string{
					"MERGE INTO t USING (SELECT 1 AS i) AS u ON k = i WHEN MATCHED THEN UPDATE SET n = n + 1 WHEN NOT MATCHED THEN INSERT VALUES (i, 1)",
					"UPDATE t SET n = n + 1 WHERE k = 0", "INSERT INTO t VALUES (2, 1)",
				} {
					if _, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}); err != nil {
						t.Errorf("%s: %v", sql, err)
					}
				}
			}
		})
	}
	done := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			_, err := s.Fold(t.Context(), nil)
			must.Check(t, err)
			if _, err := s.Compact(t.Context(), nil); err != nil && !errors.Is(err, tables.ErrConflict) {
				t.Error(err)
			}
		}
	})
	statements.Wait()
	close(done)
	background.Wait()
	expect(t, s, "SELECT k, count(*), sum(n) FROM b.t GROUP BY k ORDER BY k", nil, "0|1|32", "1|1|32", "2|32|32")
}

// TestExecManyValues inserts values whose query, with a cast for each value, is longer than MaxSQL.
func TestExecManyValues(t *testing.T) {
	s := newStore(t, nil)
	change(t, s, "CREATE TABLE t (k INT, s VARCHAR)", 0)
	sql := "INSERT INTO t VALUES (1, '')" + strings.Repeat(",(2,3)", 9_998) + ", (4, '" + strings.Repeat("long", 40<<10) + "')"
	if len(sql) > duck.MaxSQL {
		t.Fatal("the statement itself is too long")
	}
	if d, err := s.Describe(t.Context(), sql, &tables.QueryOptions{Bucket: "b"}); err != nil || d.Parameters.NumFields() != 0 {
		t.Errorf("Describe of the statement = %+v, error %v", d, err)
	}
	change(t, s, sql, 10_000)
	expect(t, s, "SELECT count(*), sum(k), sum(length(s)) FROM b.t", nil, fmt.Sprint("10000|20001|", 9_998+160<<10))
	if _, err := s.Exec(t.Context(), strings.Replace(sql, "(4,", "('x',", 1), &tables.ExecOptions{Bucket: "b"}); err == nil {
		t.Error("a wrong value in the last row was inserted")
	}
	expect(t, s, "SELECT count(*) FROM b.t", nil, "10000")
}
