//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/sql/database"
)

// TestExtremes checks that one query can read extreme values of each type, and nulls, both from files and from the
// tail.
func TestExtremes(t *testing.T) {
	s := newStore(t, nil)
	decimal38 := &arrow.Decimal128Type{Precision: 38, Scale: 10}
	huge := must.Get(decimal128.FromString("9999999999999999999999999999.9999999999", 38, 10))(t)
	nested := arrow.StructOf(
		arrow.Field{Name: "l", Type: arrow.ListOf(arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Uint64)), Nullable: true},
		arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int8, Nullable: true})
	fields := []arrow.Field{
		{Name: "u64", Type: arrow.PrimitiveTypes.Uint64},
		{Name: "i64", Type: arrow.PrimitiveTypes.Int64},
		{Name: "u8", Type: arrow.PrimitiveTypes.Uint8},
		{Name: "i8", Type: arrow.PrimitiveTypes.Int8},
		{Name: "u32", Type: arrow.PrimitiveTypes.Uint32},
		{Name: "i16", Type: arrow.PrimitiveTypes.Int16},
		{Name: "d", Type: decimal38},
		{Name: "f64", Type: arrow.PrimitiveTypes.Float64},
		{Name: "f32", Type: arrow.PrimitiveTypes.Float32},
		{Name: "f16", Type: arrow.FixedWidthTypes.Float16},
		{Name: "us", Type: &arrow.TimestampType{Unit: arrow.Microsecond}},
		{Name: "ns", Type: &arrow.TimestampType{Unit: arrow.Nanosecond}},
		{Name: "tz", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "America/New_York"}},
		{Name: "date", Type: arrow.PrimitiveTypes.Date32},
		{Name: "time", Type: arrow.FixedWidthTypes.Time64us},
		{Name: "dict", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}},
		{Name: "s", Type: arrow.BinaryTypes.String},
		{Name: "b", Type: arrow.BinaryTypes.Binary},
		{Name: "n", Type: nested},
	}
	for i := range fields {
		fields[i].Nullable = true
	}
	schema := arrow.NewSchema(fields, nil)
	const kinds = 4 // lowest, highest, unusual, null
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	micros := []int64{-62135596800_000_000, 253402300799_999_999, -1}
	f64 := []float64{math.Inf(-1), math.NaN(), math.Copysign(0, -1)}
	for i := range kinds - 1 {
		b.Field(0).(*array.Uint64Builder).Append([]uint64{0, math.MaxUint64, 1 << 63}[i])
		b.Field(1).(*array.Int64Builder).Append([]int64{math.MinInt64, math.MaxInt64, -1}[i])
		b.Field(2).(*array.Uint8Builder).Append([]uint8{0, 255, 128}[i])
		b.Field(3).(*array.Int8Builder).Append([]int8{-128, 127, -1}[i])
		b.Field(4).(*array.Uint32Builder).Append([]uint32{0, math.MaxUint32, 1 << 31}[i])
		b.Field(5).(*array.Int16Builder).Append([]int16{math.MinInt16, math.MaxInt16, -1}[i])
		b.Field(6).(*array.Decimal128Builder).Append([]decimal128.Num{huge.Negate(), huge, decimal128.FromI64(-1)}[i])
		b.Field(7).(*array.Float64Builder).Append(f64[i])
		b.Field(8).(*array.Float32Builder).Append([]float32{-math.MaxFloat32, float32(math.Inf(1)), math.SmallestNonzeroFloat32}[i])
		b.Field(9).(*array.Float16Builder).Append([]float16.Num{float16.MinNum, float16.MaxNum, float16.Inf()}[i])
		b.Field(10).(*array.TimestampBuilder).Append(arrow.Timestamp(micros[i]))
		b.Field(11).(*array.TimestampBuilder).Append([]arrow.Timestamp{-9223286400_000_000_000, math.MaxInt64 - 1, -1}[i])
		b.Field(12).(*array.TimestampBuilder).Append(arrow.Timestamp(micros[i]))
		b.Field(13).(*array.Date32Builder).Append([]arrow.Date32{-719162, 2932896, -1}[i])
		b.Field(14).(*array.Time64Builder).Append([]arrow.Time64{0, 86_399_999_999, 1}[i])
		must.Do(t, b.Field(15).(*array.BinaryDictionaryBuilder).AppendString([]string{"", "z", "\x00"}[i]))
		b.Field(16).(*array.StringBuilder).Append([]string{"", "ä\x00🙂", "NULL"}[i])
		b.Field(17).(*array.BinaryBuilder).Append([][]byte{{}, {0, 0xff, 0}, []byte("(null)")}[i])
		must.Do(t, b.Field(18).AppendValueFromString([]string{`{"l":null,"x":null}`, `{"l":[null,[],[{"key":"","value":null},{"key":"k","value":18446744073709551615}]],"x":-128}`, `{"l":[],"x":1}`}[i]))
	}
	for i := range fields {
		b.Field(i).AppendNull()
	}
	batch := b.NewRecordBatch()
	put(t, s, "b", "t", batch)
	fold(t, s)
	put(t, s, "b", "t", batch)
	for c, f := range fields {
		text := func(a arrow.Array, i int) string {
			if v, ok := a.(*array.Float64); ok && a.IsValid(i) {
				return fmt.Sprint(math.Float64bits(v.Value(i)) == math.Float64bits(f64[i%kinds]))
			}
			if v, ok := a.(*array.Timestamp); ok && a.IsValid(i) {
				return fmt.Sprint(int64(v.Value(i)))
			}
			if v, ok := a.(*array.Float16); ok && a.IsValid(i) {
				return fmt.Sprint(v.Value(i).Float32())
			}
			return a.ValueStr(i)
		}
		r, err := s.Query(t.Context(), fmt.Sprintf("SELECT %q FROM b.t", f.Name), nil)
		if err != nil {
			t.Errorf("query of column %s: %v", f.Name, err)
			continue
		}
		row := 0
		for r.Next() {
			got := r.RecordBatch().Column(0)
			for i := range got.Len() {
				if g, w := text(got, i), text(batch.Column(c), row%kinds); g != w {
					t.Errorf("column %s of type %s, row %d: got %s, want %s", f.Name, got.DataType(), row, g, w)
				}
				row++
			}
		}
		if r.Err() != nil || row != 2*kinds {
			t.Errorf("column %s: got %d rows, want %d; error: %v", f.Name, row, 2*kinds, r.Err())
		}
		r.Release()
	}
	// Sums near the limits of 64 bits.
	expect(t, s, "SELECT sum(i64), sum(-1 - i64::HUGEINT) FROM b.t WHERE i64 < -1 GROUP BY random()", nil,
		"-9223372036854775808|9223372036854775807", "-9223372036854775808|9223372036854775807")
	for _, sql := range []string{"SELECT sum(i64) - 1 FROM b.t WHERE i64 < -1 GROUP BY random()", "SELECT sum(i64) + 1 FROM b.t WHERE i64 > 0 GROUP BY random()", "SELECT sum(i64) FROM b.t WHERE i64 > 0"} {
		if got, err := rows(t, s, sql, nil); err == nil {
			t.Errorf("%s = %v, want an overflow error", sql, got)
		}
	}
}

func nullable(name string, typ arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: typ, Nullable: true}
}

// floats is a schema with floats at every depth.
var floats = arrow.NewSchema([]arrow.Field{
	nullable("k", arrow.PrimitiveTypes.Int64),
	nullable("f", arrow.PrimitiveTypes.Float64),
	nullable("g", arrow.PrimitiveTypes.Float32),
	nullable("s", arrow.StructOf(nullable("a", arrow.PrimitiveTypes.Float64), nullable("b", arrow.StructOf(nullable("c", arrow.PrimitiveTypes.Float32))))),
	nullable("l", arrow.ListOf(arrow.PrimitiveTypes.Float64)),
	nullable("m", arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float32)),
}, nil)

// floatRow returns a row of floats in JSON, where each float is v.
func floatRow(k int, v string) string {
	return fmt.Sprintf(`{"k":%d,"f":%s,"g":%s,"s":{"a":%s,"b":{"c":%s}},"l":[%s],"m":[{"key":"x","value":%s}]}`, k, v, v, v, v, v, v)
}

// expectNaN checks conditions on a table where row 2 contains NaN, rows 1 and 4 contain 1, and row 3 contains null.
// In SQL, NaN equals itself and is larger than all numbers.
func expectNaN(t *testing.T, s *tables.Store, state string) {
	t.Helper()
	for _, e := range []string{"f", "g", "s.a", "s.b.c", "l[1]", "m['x']"} {
		for _, p := range []string{
			"%s > 2", "%s >= 2", "%s > 1", "%s <> 1", "%s = 'NaN'", "NOT (%s <= 1)", "NOT (%s = 1)", "NOT %s < 2", "%s >= 'inf'", "%s BETWEEN 2 AND 'NaN'",
			"%s IN (5, 'NaN')", "%s NOT IN (1, 5)", "isnan(%s)", "%s IS DISTINCT FROM 1 AND k <> 3",
		} {
			sql := "SELECT k FROM b.t WHERE " + fmt.Sprintf(p, e)
			if got, err := rows(t, s, sql, nil); err != nil || fmt.Sprint(got) != "[2]" {
				t.Errorf("%s: %s = %v, error %v; want row 2", state, sql, got, err)
			}
		}
		sql := fmt.Sprintf("SELECT min(%s), max(%[1]s), count(%[1]s) FROM b.t", e)
		if got, err := rows(t, s, sql, nil); err != nil || fmt.Sprint(got) != "[1|NaN|3]" {
			t.Errorf("%s: %s = %v, error %v; want [1|NaN|3]", state, sql, got, err)
		}
	}
}

// TestNaN reads rows with NaN, which the bounds in Parquet files omit.
func TestNaN(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(1, "1")))
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(2, `"NaN"`)+","+floatRow(3, "null")+","+floatRow(4, "1")))
	expectNaN(t, s, "rows in the tail")
	fold(t, s)
	expectNaN(t, s, "folded rows")
	must.Get(s.Compact(t.Context(), nil))(t)
	expectNaN(t, s, "compacted rows")
	r := must.Get(s.Query(t.Context(), "SELECT * FROM b.t", nil))(t)
	must.Get(s.Bucket("b").Table("t").Put(t.Context(), r, tables.PutReplace, nil))(t)
	expectNaN(t, s, "rows put as one file")
}

// TestNaNForeign reads a file written by pyarrow, which does not count NaN. All of its float
// columns must be treated as if they contained NaN.
func TestNaNForeign(t *testing.T) {
	python := procs.Python(t, "pyiceberg")
	s := newStore(t, nil)
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(1, "1")))
	if plan := planOf(t, s); len(plan.NaN) > 0 {
		t.Errorf("columns %q may contain NaN, want no column", plan.NaN)
	}
	const add = `
import sys, pyarrow as pa
from pyiceberg.catalog import load_catalog
t = load_catalog("partd", type="sql", uri=f"sqlite:///{sys.argv[1]}/catalog.db", warehouse=f"file://{sys.argv[1]}").load_table("b.t")
row = lambda v: {"f": v, "g": v, "s": {"a": v, "b": {"c": v}}, "l": [v], "m": [("x", v)]}
t.append(pa.Table.from_pylist([{"k": 2, **row(float("nan"))}, {"k": 3, **row(None)}, {"k": 4, **row(1.0)}], schema=t.schema().as_arrow()))
`
	if out, err := exec.Command(python, "-c", add, s.Dir()).CombinedOutput(); err != nil {
		t.Fatalf("the pyiceberg script failed: %v\n%s", err, out)
	}
	if plan := planOf(t, s); len(plan.NaN) != 5 {
		t.Errorf("columns %q may contain NaN, want all except k", plan.NaN)
	}
	expectNaN(t, s, "rows written by pyarrow")
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(5, "0.5")))
	expect(t, s, "SELECT k FROM b.t WHERE f > 2 OR f < 1", nil, "2", "5")
}

func planOf(t *testing.T, s *tables.Store) *tables.ScanPlan {
	t.Helper()
	plan := must.Get(s.Bucket("b").Table("t").ScanPlan(t.Context()))(t)
	t.Cleanup(plan.Close)
	return plan
}

// extremes has literals for arguments of each type.
var extremes = map[string][]string{
	"BOOLEAN":   {"true"},
	"TINYINT":   {"(-128)::TINYINT", "127::TINYINT"},
	"SMALLINT":  {"(-32768)::SMALLINT", "32767::SMALLINT"},
	"INTEGER":   {"(-2147483648)::INTEGER", "2147483647", "0"},
	"BIGINT":    {"(-9223372036854775808)::BIGINT", "9223372036854775807", "0", "1"},
	"HUGEINT":   {"(-170141183460469231731687303715884105728)::HUGEINT", "170141183460469231731687303715884105727::HUGEINT"},
	"UTINYINT":  {"255::UTINYINT"},
	"USMALLINT": {"65535::USMALLINT"},
	"UINTEGER":  {"4294967295::UINTEGER"},
	"UBIGINT":   {"18446744073709551615::UBIGINT"},
	"UHUGEINT":  {"340282366920938463463374607431768211455::UHUGEINT"},
	"BIGNUM":    {"'-99999999999999999999999999999999999999999999999999'::BIGNUM"},
	"FLOAT":     {"'nan'::FLOAT", "3.4e38::FLOAT"},
	"DOUBLE":    {"'-inf'::DOUBLE", "1.7e308", "'nan'::DOUBLE", "-0.0::DOUBLE"},
	"DECIMAL":   {"99999999999999999999999999999999999999::DECIMAL(38, 0)", "-0.0000000001::DECIMAL(38, 10)"},
	"VARCHAR":   {"''", "'%'", "'🙂\\x'", "repeat('x', 600)", "'9999-12-31 23:59:59'", "'[1'"},
	"BLOB":      {"''::BLOB", "'\\xFF\\x00'::BLOB"},
	"BIT":       {"'0101'::BIT"},
	"UUID":      {"'ffffffff-ffff-ffff-ffff-ffffffffffff'::UUID"},
	"DATE":      {"'infinity'::DATE", "'5877642-06-25 (BC)'::DATE", "'9999-12-31'::DATE"},
	"TIME":      {"'24:00:00'::TIME", "'23:59:59.999999'::TIME"},
	"TIME_NS":   {"'23:59:59.999999999'::TIME_NS"},
	"TIMESTAMP": {"'-infinity'::TIMESTAMP", "'290309-12-22 (BC) 00:00:00'::TIMESTAMP", "'294247-01-10 04:00:54.775806'::TIMESTAMP"},
	"INTERVAL":  {"INTERVAL '2147483647 months'", "INTERVAL '-2147483648 days'", "INTERVAL 0 DAY"},
	"JSON":      {"'[[[]]]'::JSON", "'{\"a\":1e400}'::JSON"},
	"GEOMETRY":  {"'POINT(1 2)'::GEOMETRY"},
	"STRUCT":    {"{'a': NULL}"},
	"ANY":       {"NULL", "'x'", "[NULL]", "{'a': 1}", "MAP {1: 2}", "9223372036854775807", "'infinity'::TIMESTAMPTZ"},
}

// literalOf returns a random literal for an argument of the given type.
func literalOf(r *rand.Rand, typ string) string {
	switch {
	case r.IntN(8) == 0:
		return "NULL"
	case strings.HasSuffix(typ, "[]"):
		return "[" + literalOf(r, strings.TrimSuffix(typ, "[]")) + ", NULL]"
	case strings.HasPrefix(typ, "MAP"):
		return "MAP {'k': 9223372036854775807}"
	case strings.HasPrefix(typ, "TIMESTAMP_") || strings.HasSuffix(typ, "WITH TIME ZONE"):
		return "'9999-12-31 23:59:59'::" + typ
	case strings.HasPrefix(typ, "DECIMAL"):
		typ = "DECIMAL"
	}
	all, ok := extremes[typ]
	if !ok {
		all = extremes["ANY"]
	}
	return all[r.IntN(len(all))]
}

// signatures returns the scalar functions, aggregates and macros of DuckDB, each as its name and the types of its
// arguments, separated by NULs.
func signatures(t *testing.T) (all [][]string) {
	t.Helper()
	d := must.Get(database.Open(&database.Options{Memory: 256 << 20, MaxTemp: 1 << 20, Threads: 1}, t.TempDir()+"/spill"))(t)
	defer d.Close()
	rows := must.Get(d.Start(t.Context(), &database.Job{Memory: 256 << 20, SQL: `SELECT DISTINCT function_name || chr(1) || coalesce(
		array_to_string(list_transform(parameter_types, lambda p: coalesce(p, 'ANY')), chr(1)), '') AS f FROM duckdb_functions()
		WHERE function_type IN ('scalar', 'aggregate', 'macro') ORDER BY f`}))(t)
	defer rows.End()
	for {
		b := must.Get(rows.Next())(t)
		if b == nil {
			return all
		}
		for i := range int(b.NumRows()) {
			all = append(all, strings.Split(strings.Clone(b.Column(0).ValueStr(i)), "\x01"))
		}
		b.Release()
	}
}

// TestFunctionsWithExtremes calls every function of DuckDB with extreme arguments. Whatever happens is an answer or the
// statement's error, never a fault of the server, and later statements still run. By default, it calls 300 of them;
// PARTD_FUNCTION_ROUNDS is how often to call all.
func TestFunctionsWithExtremes(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true, Memory: 128 << 20, MaxTemp: 64 << 20})
	change(t, s, "CREATE TABLE t AS SELECT range AS i FROM range(3)", 3)
	rounds := 0
	if text := os.Getenv("PARTD_FUNCTION_ROUNDS"); text != "" {
		must.Get(fmt.Sscan(text, &rounds))(t)
	}
	r := procs.Rand(t)
	all := signatures(t)
	if len(all) < 2000 {
		t.Errorf("DuckDB lists %d functions", len(all))
	}
	if rounds == 0 {
		rounds = 1
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:300]
	}
	answers, faults := map[codes.Code]int{}, 0
	for range rounds {
		for _, f := range all {
			var args []string
			for _, typ := range f[1:] {
				if typ != "" {
					args = append(args, literalOf(r, typ))
				}
			}
			sql := fmt.Sprintf("SELECT %s(%s) AS r FROM t", f[0], strings.Join(args, ", "))
			if strings.ContainsAny(f[0], "+-*/%<>=!~@^&|") {
				sql = fmt.Sprintf("SELECT %s AS r FROM t", strings.Join(args, " "+f[0]+" "))
			}
			code := codeOf(t, s, sql)
			answers[code]++
			if code == codes.Internal || code == codes.Unknown {
				if faults++; faults < 20 {
					_, err := rows(t, s, sql, &tables.QueryOptions{Bucket: "b"})
					t.Errorf("%s: %v (%v)", sql, code, err)
				}
			}
		}
	}
	t.Log(len(all), "functions:", answers)
	if answers[codes.OK] < len(all)*rounds/4 {
		t.Errorf("only %d of %d calls returned rows", answers[codes.OK], len(all)*rounds)
	}
	expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b"}, "3")
}

// codeOf runs a statement, and returns the code with which a server would answer.
func codeOf(t *testing.T, s *tables.Store, sql string) codes.Code {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	reader, err := s.Query(ctx, sql, &tables.QueryOptions{Bucket: "b"})
	if err == nil {
		for reader.Next() {
		}
		err = reader.Err()
		reader.Release()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: runs for more than 20 s", sql)
	}
	return status.Code(serving.Status(err))
}
