//go:build cgo

package duck_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

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
	expectError(t, s, "SELECT ?", &tables.QueryOptions{Parameters: jsonBatch(t, lists, `{"p":[1]}`)}, "parameter $1: a value of type list")
}

func TestDescribe(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	sql := "SELECT k, s, sum(k) AS total FROM t WHERE k > $least AND s = $s GROUP BY ALL"
	d := must.Get(s.Describe(t.Context(), sql, &tables.QueryOptions{Bucket: "b"}))(t)
	want := arrow.NewSchema([]arrow.Field{{Name: "least", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	if !d.Parameters.Equal(want) {
		t.Errorf("Describe: parameters are %v, want %v", d.Parameters, want)
	}
	r, err := s.Query(t.Context(), sql, &tables.QueryOptions{Bucket: "b", Parameters: jsonBatch(t, want, `{"least":3,"s":"s5"}`)})
	must.Do(t, err)
	defer r.Release()
	if !d.Result.Equal(r.Schema()) || d.Result.Field(2).Type.ID() != arrow.INT64 {
		t.Errorf("Describe returned result columns %v, but the query has %v", d.Result, r.Schema())
	}
	d, err = s.Describe(t.Context(), "SELECT ?", nil)
	if err != nil || d.Parameters.NumFields() != 1 || d.Parameters.Field(0).Type.ID() != arrow.NULL {
		t.Errorf("Describe = %+v, %v; want one parameter of the null type", d, err)
	}
}

// TestParametersRefused passes parameters that DuckDB cannot represent, some of which would crash the
// process. Each must cause an error.
func TestParametersRefused(t *testing.T) {
	s := newStore(t, nil)
	zone := func(u arrow.TimeUnit) arrow.DataType { return &arrow.TimestampType{Unit: u, TimeZone: "UTC"} }
	for _, c := range []struct {
		dataType arrow.DataType
		appendTo func(array.Builder)
		want     string
	}{
		{arrow.BinaryTypes.String, func(b array.Builder) { b.(*array.StringBuilder).Append("a\xff") }, "not UTF-8"},
		{&arrow.Decimal128Type{Precision: 2}, append128(100), "100 with scale 0 does not fit into decimal(2, 0)"},
		{&arrow.Decimal128Type{Precision: 2}, append128(-100), "does not fit into"},
		{&arrow.Decimal128Type{Precision: 39}, append128(1), "does not fit into"},
		{&arrow.Decimal128Type{Precision: 5, Scale: -2}, append128(1), "does not fit into"},
		{&arrow.Decimal128Type{Precision: 5, Scale: 6}, append128(1), "does not fit into"},
		{&arrow.Decimal32Type{Precision: 5}, func(b array.Builder) { b.(*array.Decimal32Builder).Append(1) }, "a value of type decimal32"},
		{&arrow.Decimal64Type{Precision: 5}, func(b array.Builder) { b.(*array.Decimal64Builder).Append(1) }, "a value of type decimal64"},
		{arrow.FixedWidthTypes.Time64us, func(b array.Builder) { b.(*array.Time64Builder).Append(-1) }, "is not a time of day"},
		{arrow.FixedWidthTypes.Time64ns, func(b array.Builder) { b.(*array.Time64Builder).Append(86_400_000_000_001) }, "is not a time of day"},
		{arrow.FixedWidthTypes.Time32s, func(b array.Builder) { b.(*array.Time32Builder).Append(86_401) }, "is not a time of day"},
		{zone(arrow.Nanosecond), func(b array.Builder) { b.(*array.TimestampBuilder).Append(1) }, "not a whole number of microseconds"},
		{zone(arrow.Second), func(b array.Builder) { b.(*array.TimestampBuilder).Append(1 << 62) }, "out of range"},
		{arrow.FixedWidthTypes.Duration_s, func(b array.Builder) { b.(*array.DurationBuilder).Append(-1 << 63) }, "out of range"},
		{arrow.FixedWidthTypes.MonthInterval, func(b array.Builder) { b.(*array.MonthIntervalBuilder).Append(1) }, "a value of type month_interval"},
		{arrow.FixedWidthTypes.DayTimeInterval, func(b array.Builder) { b.(*array.DayTimeIntervalBuilder).Append(arrow.DayTimeInterval{Days: 1}) }, "a value of type day_time_interval"},
		{arrow.FixedWidthTypes.MonthDayNanoInterval, func(b array.Builder) {
			b.(*array.MonthDayNanoIntervalBuilder).Append(arrow.MonthDayNanoInterval{Nanoseconds: 1})
		}, "not a whole number of microseconds"},
	} {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "p", Type: c.dataType}}, nil))
		c.appendTo(b.Field(0))
		got, err := rows(t, s, "SELECT $1::VARCHAR", &tables.QueryOptions{Parameters: b.NewRecordBatch()})
		if err == nil || !strings.Contains(err.Error(), "parameter $1: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("parameter of type %s: got %q, error %v; want an error that contains %q", c.dataType, got, err, c.want)
		}
	}
	expectError(t, s, "SELECT 'a\xff'", nil, "not valid UTF-8")
	// The extreme values of decimals are valid.
	maxValue := "99999999999999999999999999999999999999"
	for _, v := range []string{maxValue, "-" + maxValue} {
		p := jsonBatch(t, arrow.NewSchema([]arrow.Field{{Name: "p", Type: &arrow.Decimal128Type{Precision: 38}}}, nil), `{"p":"`+v+`"}`)
		expect(t, s, "SELECT $1::VARCHAR", &tables.QueryOptions{Parameters: p}, v)
	}
}

func append128(v int64) func(array.Builder) {
	return func(b array.Builder) { b.(*array.Decimal128Builder).Append(decimal128.FromI64(v)) }
}

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

			tabletest.PutRows(t, bucket, "t", tabletest.OneBatch(floatBatch), tables.PutReplace, nil)
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
			must.Fail(t, must.Err(s.Describe(ctx, sql, o)), tables.ErrNotFound, "Describe of a deleted table")
			must.Fail(t, must.Err(s.Query(ctx, sql, o)), tables.ErrNotFound, "Query of a deleted table")
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
