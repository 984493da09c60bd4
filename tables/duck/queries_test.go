//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// jsonBatch returns a batch with one row for each JSON object in lines.
func jsonBatch(t testing.TB, schema *arrow.Schema, lines string) arrow.RecordBatch {
	t.Helper()
	b, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader("["+lines+"]"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestErrorPositions(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "trades", numbers(0, 10))
	o := &tables.QueryOptions{Bucket: "b"}
	for sql, want := range map[string]string{
		"SELECT k FROM trades WHERE foo > 1":                 `line 1, column 28: Binder error: Referenced column "foo" not found`,
		"SELECT\n  'ä', fooo\nFROM trades":                   `line 2, column 8: Binder error: Referenced column "fooo" not found`,
		"SELECT k +\nFROM trades":                            "line 2, column 1: Parser error: syntax error at or near \"FROM\"",
		"SELECT nofunc(k) FROM trades":                       "line 1, column 8: Catalog error: Scalar Function with name nofunc does not exist!",
		"SELECT k\nFROM   tradse":                            `line 2, column 8: table "b"."tradse" (did you mean "trades"?): not found`,
		"SELECT CAST(s AS INT) FROM trades":                  "Could not convert string 's0' to INT32",
		"SELECT k, read_it(k) FROM read_csv('x')":            `line 1, column 27: table function "read_csv" is not available`,
		"SELECT $1 + 1":                                      "the statement has 1 parameters, but no values were given",
		"PIVOT trades ON s USING sum(k)":                     "only a single SELECT statement is allowed: a PIVOT without IN",
		"SELECT sum(k * 9223372036854775807) FROM trades":    "Overflow",
		"SELECT sum(9223372036854775807) AS big FROM trades": `column "big" contains 92233720368547758070, which does not fit into 64 bits: cast it to DECIMAL(38, 0)`,
	} {
		_, err := rows(t, s, sql, o)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v, want %s", sql, err, want)
		}
		var sqlErr *tables.SQLError
		if strings.HasPrefix(want, "line") && (!errors.As(err, &sqlErr) || sqlErr.Line == 0) {
			t.Errorf("%s: error %v is not an SQLError with a position", sql, err)
		}
	}
	if _, err := rows(t, s, "FROM tradse", o); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("query of a misspelled table: error = %v, want tables.ErrNotFound", err)
	}
	expect(t, s, "SELECT sum(9223372036854775807)::DECIMAL(38,0) FROM trades", o, "92233720368547758070")
	expect(t, s, "SELECT sum(k), sum(-k), sum(NULL::BIGINT) FROM trades", o, "45|-45|(null)")
}

func TestNamesDifferingInCase(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "T", numbers(0, 1))
	put(t, s, "b", "t", numbers(0, 2))
	put(t, s, "b", "Other", numbers(0, 3))
	put(t, s, "B", "t", numbers(0, 4))
	o := &tables.QueryOptions{Bucket: "b"}
	expect(t, s, "SELECT count(*) FROM T", o, "1")
	expect(t, s, `SELECT count(*) FROM "t"`, o, "2")
	expect(t, s, "SELECT count(*) FROM OTHER", o, "3")
	expect(t, s, `SELECT count(*) FROM "B".t`, o, "4")
	expect(t, s, `SELECT count(*) FROM other, OTHER`, o, "9")
	for _, sql := range []string{`SELECT * FROM "T", "t"`, `SELECT * FROM b.t, "B".t`} {
		_, err := rows(t, s, sql, o)
		if err == nil || !strings.Contains(err.Error(), "differ only in case") {
			t.Errorf("%s: error = %v, want \"differ only in case\"", sql, err)
		}
	}
	put(t, s, "b", "xY", numbers(0, 1))
	put(t, s, "b", "Xy", numbers(0, 1))
	if _, err := rows(t, s, "FROM xy", o); err == nil || !strings.Contains(err.Error(), `"b"."Xy" and "b"."xY"`) {
		t.Errorf(`query of a table whose name is ambiguous: error = %v, want an error with the text "b"."Xy" and "b"."xY"`, err)
	}
	put(t, s, "b", "columns", jsonBatch(t, arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "A", Type: arrow.PrimitiveTypes.Int64}}, nil), `{"a":1,"A":2}`))
	if _, err := rows(t, s, "SELECT a FROM columns", o); err == nil || !strings.Contains(err.Error(), `columns "a" and "A" differ only in case`) {
		t.Errorf(`query of a column whose name is ambiguous: error = %v, want an error with the text columns "a" and "A" differ only in case`, err)
	}
}

func TestVersions(t *testing.T) {
	s := newStore(t, nil)
	for i := range int64(3) {
		put(t, s, "b", "t", numbers(i*10, i*10+10))
		if _, err := s.Fold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, "b", "t", numbers(30, 31))
	table, err := s.Bucket("b").Table(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	versions, err := table.Versions(t.Context())
	if err != nil || len(versions) != 3 {
		t.Fatalf("Versions = %+v, %v; want 3 versions", versions, err)
	}
	for i, v := range versions {
		expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b", At: tables.AtVersion(v.Version)}, fmt.Sprint(10*(i+1)))
	}
	expect(t, s, "SELECT count(*) FROM b.t", nil, "31")
	if _, err := rows(t, s, "SELECT count(*) FROM b.t", &tables.QueryOptions{At: tables.AtVersion(99)}); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("query of a missing version: error = %v, want tables.ErrNotFound", err)
	}
}

func TestParameters(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	zone := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	for _, c := range []struct {
		dataType arrow.DataType
		json     string
		want     string
	}{
		{arrow.FixedWidthTypes.Boolean, "true", "BOOLEAN true"},
		{arrow.PrimitiveTypes.Int8, "-1", "TINYINT -1"},
		{arrow.PrimitiveTypes.Int16, "-1", "SMALLINT -1"},
		{arrow.PrimitiveTypes.Int32, "-1", "INTEGER -1"},
		{arrow.PrimitiveTypes.Int64, "-1", "BIGINT -1"},
		{arrow.PrimitiveTypes.Uint8, "200", "UTINYINT 200"},
		{arrow.PrimitiveTypes.Uint16, "200", "USMALLINT 200"},
		{arrow.PrimitiveTypes.Uint32, "200", "UINTEGER 200"},
		{arrow.PrimitiveTypes.Uint64, "200", "UBIGINT 200"},
		{arrow.FixedWidthTypes.Float16, "1.5", "FLOAT 1.5"},
		{arrow.PrimitiveTypes.Float32, "1.5", "FLOAT 1.5"},
		{arrow.PrimitiveTypes.Float64, "1.5", "DOUBLE 1.5"},
		{arrow.BinaryTypes.String, `"it's \u0000"`, "VARCHAR it's \x00"},
		{arrow.BinaryTypes.LargeString, `"x"`, "VARCHAR x"},
		{arrow.BinaryTypes.StringView, `"x"`, "VARCHAR x"},
		{arrow.BinaryTypes.Binary, `"AAE="`, `BLOB \x00\x01`},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, `"AAE="`, `BLOB \x00\x01`},
		{&arrow.Decimal128Type{Precision: 20, Scale: 2}, `"-12345678901234567.89"`, "DECIMAL(20,2) -12345678901234567.89"},
		{arrow.PrimitiveTypes.Date32, `"2023-01-31"`, "DATE 2023-01-31"},
		{arrow.FixedWidthTypes.Time32ms, `"01:02:03.004"`, "TIME 01:02:03.004"},
		{arrow.FixedWidthTypes.Time64us, `"01:02:03.000004"`, "TIME 01:02:03.000004"},
		{&arrow.TimestampType{Unit: arrow.Second}, `"2023-01-31 01:02:03"`, "TIMESTAMP_S 2023-01-31 01:02:03"},
		{&arrow.TimestampType{Unit: arrow.Nanosecond}, `"2023-01-31 01:02:03.123456789"`, "TIMESTAMP_NS 2023-01-31 01:02:03.123456789"},
		{zone, `"2023-01-31 01:02:03Z"`, "TIMESTAMP WITH TIME ZONE 2023-01-31 01:02:03+00"},
		{arrow.FixedWidthTypes.Duration_ms, "1500", "INTERVAL 00:00:01.5"},
		{arrow.Null, "null", `"NULL" (null)`},
	} {
		p := jsonBatch(t, arrow.NewSchema([]arrow.Field{{Name: "p", Type: c.dataType, Nullable: true}}, nil), `{"p":`+c.json+`}`)
		got, err := rows(t, s, "SELECT typeof(p) || ' ' || coalesce(p::VARCHAR, '(null)') FROM (SELECT $1 AS p)", &tables.QueryOptions{Parameters: p})
		if err != nil || len(got) != 1 || got[0] != c.want {
			t.Errorf("parameter of type %s: got %q, error %v; want %s", c.dataType, got, err, c.want)
		}
	}
	twoParameters := arrow.NewSchema([]arrow.Field{{Name: "b", Type: arrow.PrimitiveTypes.Int64}, {Name: "a", Type: arrow.PrimitiveTypes.Int64}}, nil)
	o := &tables.QueryOptions{Bucket: "b", Parameters: jsonBatch(t, twoParameters, `{"b":3,"a":7}`)}
	expect(t, s, "SELECT k FROM t WHERE k > ? AND k < ?", o, "4", "5", "6")
	expect(t, s, "SELECT $b - $a", o, "-4")
	expect(t, s, "SELECT $2 - $1", o, "4")
	if _, err := rows(t, s, "SELECT ?", o); err == nil {
		t.Error("a query with two values for one parameter succeeded, want an error")
	}
	lists := arrow.NewSchema([]arrow.Field{{Name: "p", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64)}}, nil)
	if _, err := rows(t, s, "SELECT ?", &tables.QueryOptions{Parameters: jsonBatch(t, lists, `{"p":[1]}`)}); err == nil || !strings.Contains(err.Error(), "parameter $1: a value of type list") {
		t.Errorf(`query with a list parameter: error = %v, want an error with the text "parameter $1: a value of type list"`, err)
	}
}

func TestDescribe(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	sql := "SELECT k, s, sum(k) AS total FROM t WHERE k > $least AND s = $s GROUP BY ALL"
	d, err := s.Describe(t.Context(), sql, &tables.QueryOptions{Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	want := arrow.NewSchema([]arrow.Field{{Name: "least", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	if !d.Parameters.Equal(want) {
		t.Errorf("Describe: parameters are %v, want %v", d.Parameters, want)
	}
	r, err := s.Query(t.Context(), sql, &tables.QueryOptions{Bucket: "b", Parameters: jsonBatch(t, want, `{"least":3,"s":"s5"}`)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if !d.Result.Equal(r.Schema()) || d.Result.Field(2).Type.ID() != arrow.INT64 {
		t.Errorf("Describe returned result columns %v, but the query has %v", d.Result, r.Schema())
	}
	d, err = s.Describe(t.Context(), "SELECT ?", nil)
	if err != nil || d.Parameters.NumFields() != 1 || d.Parameters.Field(0).Type.ID() != arrow.NULL {
		t.Errorf("Describe = %+v, %v; want one parameter of the null type", d, err)
	}
}

func TestCancel(t *testing.T) {
	s := newStore(t, nil)
	for name, sql := range map[string]string{
		"before the first row": "SELECT count(*) FROM range(1000000000000)",
		"while reading rows":   "SELECT * FROM range(1000000000000)",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var cancelled time.Time
		time.AfterFunc(300*time.Millisecond, func() { cancelled = time.Now(); cancel() })
		r, err := s.Query(ctx, sql, nil)
		if err == nil {
			for r.Next() {
			}
			err = r.Err()
			r.Release()
		}
		elapsed := time.Since(cancelled)
		if !errors.Is(err, context.Canceled) || elapsed > 500*time.Millisecond {
			t.Errorf("%s: error = %v %v after the cancellation, want context.Canceled within 500ms", name, err, elapsed)
		}
		t.Logf("%s: %v", name, elapsed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Query(ctx, "SELECT 1", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Query with a canceled context: error = %v, want context.Canceled", err)
	}
}

func TestConcurrentQueries(t *testing.T) {
	s := newStore(t, &duck.Options{Queries: 1})
	r, err := s.Query(t.Context(), "SELECT * FROM range(100000)", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Query(ctx, "SELECT 1", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second query: error = %v, want it to wait until its deadline", err)
	}
	r.Release() // released before its end
	expect(t, s, "SELECT 1", nil, "1")
}

func TestMemoryAndTemporaryFiles(t *testing.T) {
	temp := t.TempDir()
	s := newStore(t, &duck.Options{Memory: 64 << 20, Threads: 2, TempDir: temp})
	sorted := "SELECT * FROM (SELECT hash(range) AS h, range::VARCHAR || repeat('x', 90) AS s FROM range(2000000)) ORDER BY h"
	r, err := s.Query(t.Context(), sorted, nil)
	if err != nil {
		t.Fatal(err)
	}
	spilled := int64(0)
	err = filepath.WalkDir(temp, func(path string, d os.DirEntry, err error) error {
		if info, ierr := d.Info(); ierr == nil && strings.Contains(path, "spill-") {
			spilled += info.Size()
		}
		return err
	})
	if err != nil || spilled < 50<<20 {
		t.Errorf("sorting 200 MB with 64 MiB of memory spilled %d bytes, want at least 50 MiB; error: %v", spilled, err)
	}
	n := int64(0)
	for r.Next() {
		n += r.RecordBatch().NumRows()
	}
	if r.Err() != nil || n != 2_000_000 {
		t.Errorf("got %d rows, error %v; want 2,000,000", n, r.Err())
	}
	r.Release()
	for tries := 0; ; tries++ { // the database closes in the background
		files, err := filepath.Glob(filepath.Join(temp, "*", "*", "spill-*", "*"))
		if err == nil && len(files) == 0 {
			break
		}
		if time.Sleep(10 * time.Millisecond); tries == 500 {
			t.Fatalf("files %v remain; error: %v", files, err)
		}
	}
	// A list cannot spill, so the statement fails.
	_, err = rows(t, s, "SELECT list(range) FROM range(100000000)", &tables.QueryOptions{Memory: 32 << 20})
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "memory") {
		t.Errorf("a list of 800 MB with a limit of 32 MiB: error = %v, want out of memory", err)
	}
}

func TestTypes(t *testing.T) {
	s := newStore(t, nil)
	list := arrow.ListOf(arrow.PrimitiveTypes.Uint32)
	types := []struct {
		put  arrow.DataType
		json string
		got  arrow.DataType // nil means the same type as put
		want string
	}{
		{arrow.FixedWidthTypes.Boolean, "true", nil, "true"},
		{arrow.PrimitiveTypes.Int8, "-3", nil, "-3"},
		{arrow.PrimitiveTypes.Int16, "-3", nil, "-3"},
		{arrow.PrimitiveTypes.Uint8, "200", nil, "200"},
		{arrow.PrimitiveTypes.Uint16, "60000", nil, "60000"},
		{arrow.PrimitiveTypes.Uint32, "4000000000", nil, "4000000000"},
		{arrow.PrimitiveTypes.Uint64, "18446744073709551615", nil, "18446744073709551615"},
		{arrow.FixedWidthTypes.Float16, "1.5", arrow.PrimitiveTypes.Float32, "1.5"},
		{arrow.PrimitiveTypes.Float32, "1.5", nil, "1.5"},
		{arrow.BinaryTypes.LargeString, `"x"`, arrow.BinaryTypes.String, "x"},
		{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, `"x"`, arrow.BinaryTypes.String, "x"},
		{arrow.BinaryTypes.Binary, `"AAE="`, nil, "AAE="},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, `"AAE="`, arrow.BinaryTypes.Binary, "AAE="},
		{&arrow.Decimal128Type{Precision: 7, Scale: 2}, `"12.34"`, nil, "12.34"},
		{arrow.PrimitiveTypes.Date32, `"2023-01-31"`, nil, "2023-01-31"},
		{arrow.FixedWidthTypes.Time32ms, `"01:02:03.004"`, arrow.FixedWidthTypes.Time64us, "01:02:03.004000"},
		{arrow.FixedWidthTypes.Time64us, `"01:02:03.000004"`, nil, "01:02:03.000004"},
		{&arrow.TimestampType{Unit: arrow.Second}, `"2023-01-31 01:02:03"`, nil, "2023-01-31T01:02:03"},
		{&arrow.TimestampType{Unit: arrow.Millisecond}, `"2023-01-31 01:02:03.004"`, nil, "2023-01-31T01:02:03.004"},
		{&arrow.TimestampType{Unit: arrow.Nanosecond}, `"2023-01-31 01:02:03.123456789"`, nil, "2023-01-31T01:02:03.123456789"},
		{&arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, `"2023-01-31 01:02:03Z"`, nil, "2023-01-31T01:02:03Z"},
		{arrow.FixedWidthTypes.Duration_ms, "1500", arrow.PrimitiveTypes.Int64, "1500"},
		{list, "[1, 4000000000]", nil, "[1,4000000000]"},
		{arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Uint8, Nullable: true}), `{"a": 200}`, nil, `{"a":200}`},
		{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Uint16), `[{"key":"x","value":7}]`, nil, `[{"key":"x","value":7}]`},
	}
	var fields []arrow.Field
	var line []string
	for i, c := range types {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: c.put, Nullable: true})
		line = append(line, fmt.Sprintf("%q:%s", fields[i].Name, c.json))
	}
	put(t, s, "b", "t", jsonBatch(t, arrow.NewSchema(fields, nil), "{"+strings.Join(line, ",")+"}"))
	for _, source := range []string{"tail", "files"} {
		r, err := s.Query(t.Context(), "SELECT * FROM b.t", nil)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Next() {
			t.Fatalf("got no rows; error: %v", r.Err())
		}
		for i, c := range types {
			column := r.RecordBatch().Column(i)
			if c.got == nil {
				c.got = c.put
			}
			if fmt.Sprint(column.DataType()) != fmt.Sprint(c.got) && c.got.ID() != column.DataType().ID() || column.ValueStr(0) != c.want {
				t.Errorf("type %s read from the %s: got %s %s, want %s %s", c.put, source, column.DataType(), column.ValueStr(0), c.got, c.want)
			}
		}
		r.Release()
		if _, err := s.Fold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestScratch checks that an unchanged tail is written to a scratch file only once, and that old files are removed.
func TestScratch(t *testing.T) {
	temp := t.TempDir()
	s := newStore(t, &duck.Options{TempDir: temp})
	fileCount := func() int {
		files, err := filepath.Glob(filepath.Join(temp, "*", "*", "rows-*.parquet"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	put(t, s, "b", "t", numbers(0, 10))
	for range 3 {
		expect(t, s, "SELECT count(*) FROM b.t", nil, "10")
		if n := fileCount(); n != 1 {
			t.Errorf("got %d scratch files, want 1", n)
		}
	}
	for i := range int64(5) {
		put(t, s, "b", "t", numbers(i, i+1))
		expect(t, s, "SELECT count(*) FROM b.t", nil, fmt.Sprint(11+i))
	}
	if n := fileCount(); n != 1 {
		t.Errorf("after the tail changed, got %d scratch files, want 1", n)
	}
	for i := range 40 {
		put(t, s, "many", fmt.Sprint(i), numbers(0, 1))
		expect(t, s, fmt.Sprintf(`SELECT count(*) FROM many."%d"`, i), nil, "1")
	}
	if n := fileCount(); n > 32 {
		t.Errorf("got %d scratch files for 41 tables, want at most 32", n)
	}
}

func TestNoLeftovers(t *testing.T) {
	temp := t.TempDir()
	before := runtime.NumGoroutine()
	t.Run("queries", func(t *testing.T) {
		s := newStore(t, &duck.Options{TempDir: temp})
		put(t, s, "b", "t", numbers(0, 10))
		for range 5 {
			expect(t, s, "SELECT count(*) FROM b.t", nil, "10")
		}
	})
	files, err := os.ReadDir(temp)
	if err != nil || len(files) > 0 {
		t.Errorf("the temporary directory contains %+v, want it empty; error: %v", files, err)
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines remain, want at most %d", runtime.NumGoroutine(), before)
}
