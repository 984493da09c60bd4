//go:build cgo

package duck_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// newStore returns a store with SQL that never moves rows from its tail into data files.
func newStore(t testing.TB, o *duck.Options) *tables.Store {
	t.Helper()
	return observedStore(t, o, nil)
}

// observedStore is newStore with an Observer.
func observedStore(t testing.TB, o *duck.Options, observer tables.Observer) *tables.Store {
	t.Helper()
	return openStore(t, t.TempDir(), o, tables.Options{FoldAge: -1, Observer: observer})
}

// openStore opens a store with SQL. The store is closed when the test ends.
func openStore(t testing.TB, dir string, o *duck.Options, storeOptions tables.Options) *tables.Store {
	t.Helper()
	if o == nil {
		o = &duck.Options{}
	}
	if o.TempDir == "" {
		o.TempDir = t.TempDir()
	}
	o.Processes = o.Processes || os.Getenv("PARTD_TABLES_TEST_PROCESSES") != "" // set to run all tests with processes
	engine := must.Get(duck.New(o))(t)
	storeOptions.Engine = engine
	s := must.Get(tables.Open(t.Context(), dir, &storeOptions))(t)
	t.Cleanup(func() {
		must.Do(t, s.Close())
		must.Do(t, engine.Close())
	})
	return s
}

// numbers returns a batch with columns k (int64, in [first, end)) and s (utf8).
func numbers(first, end int64) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil))
	defer b.Release()
	for k := first; k < end; k++ {
		b.Field(0).(*array.Int64Builder).Append(k)
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("s", k%10))
	}
	return b.NewRecordBatch()
}

func put(t testing.TB, s *tables.Store, bucket, name string, batches ...arrow.RecordBatch) {
	t.Helper()
	putWith(t, s, bucket, name, nil, batches...)
}

func putWith(t testing.TB, s *tables.Store, bucket, name string, o *tables.PutOptions, batches ...arrow.RecordBatch) {
	t.Helper()
	r := must.Get(array.NewRecordReader(batches[0].Schema(), batches))(t)
	defer r.Release()
	must.Get(s.Bucket(bucket).Table(name).Put(t.Context(), r, tables.PutAppend, o))(t)
}

// rows runs a statement and returns its result as text, one line per row.
func rows(t testing.TB, s *tables.Store, sql string, o *tables.QueryOptions) ([]string, error) {
	t.Helper()
	r, err := s.Query(t.Context(), sql, o)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	var lines []string
	for r.Next() {
		b := r.RecordBatch()
		for i := range int(b.NumRows()) {
			line := ""
			for j, c := range b.Columns() {
				if j > 0 {
					line += "|"
				}
				line += strings.Clone(c.ValueStr(i)) // the batch owns the string's memory
			}
			lines = append(lines, line)
		}
	}
	return lines, r.Err()
}

func expect(t *testing.T, s *tables.Store, sql string, o *tables.QueryOptions, want ...string) {
	t.Helper()
	got, err := rows(t, s, sql, o)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, error %v; want %v", sql, got, err, want)
	}
}

// expectError checks that a statement fails with an error that contains a text.
func expectError(t *testing.T, s *tables.Store, sql string, o *tables.QueryOptions, text string) {
	t.Helper()
	must.Fail(t, must.Err(rows(t, s, sql, o)), text, "%s", sql)
}

func snapshot(t *testing.T, s *tables.Store, bucket, name string) {
	t.Helper()
	must.Get(s.Bucket(bucket).Snapshot(t.Context(), name))(t)
}

func TestCloseNil(t *testing.T) {
	must.Do(t, (*duck.Engine)(nil).Close()) // callers can defer Close before they check New's error
}

func TestQuery(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 100))
	expect(t, s, "SELECT count(*), sum(k) FROM b.t", nil, "100|4950")
	fold(t, s)
	b := &tables.QueryOptions{Bucket: "b"}
	expect(t, s, "SELECT count(*), sum(k) FROM t", b, "100|4950")
	put(t, s, "b", "t", numbers(100, 110))
	expect(t, s, "SELECT count(*), sum(k) FROM t", b, "110|5995")
	put(t, s, "b", "t", numbers(110, 111))
	expect(t, s, "SELECT count(*) FROM t JOIN t AS u USING (k)", b, "111")
	put(t, s, "c", "other", numbers(5, 8))
	put(t, s, "", "plain", numbers(6, 9))
	expect(t, s, `SELECT k FROM "b"."t" JOIN c.other USING (k) ORDER BY k`, nil, "5", "6", "7")
	expect(t, s, `SELECT k FROM plain WHERE k IN (SELECT k FROM c.other) ORDER BY k DESC`, nil, "7", "6")
	expect(t, s, `SELECT min(k) FROM "default".plain JOIN t USING (k)`, b, "6")
	// A name defined by WITH hides a table, but not within its own definition.
	expect(t, s, `WITH t AS (SELECT k + 1000 AS k FROM t) SELECT min(k) FROM t`, b, "1000")
	expect(t, s, `WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r WHERE a < 4) SELECT sum(a) FROM r`, b, "10")
	expect(t, s, `WITH m AS MATERIALIZED (SELECT max(k) AS k FROM t) SELECT k FROM m`, b, "110")
	// DuckDB's own list of a statement's tables omits tables that are named like this.
	expect(t, s, `SELECT count(*) FROM t PIVOT (count(k) FOR s IN ('s1', 's2'))`, b, "1")
	expect(t, s, `SELECT k, (SELECT max(k) FROM c.other o WHERE o.k <= t.k) FROM t WHERE k = 6`, b, "6|6")
}

// jsonBatch returns a batch with one row for each JSON object in lines.
func jsonBatch(t testing.TB, schema *arrow.Schema, lines string) arrow.RecordBatch {
	t.Helper()
	return tabletest.ParseRows(t, schema, "["+lines+"]")
}

func TestMain(m *testing.M) {
	duck.RunWorker()
	procs.Roles{"statements": runStatements}.Main(m)
}
