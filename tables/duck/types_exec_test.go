//go:build cgo

package duck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/extensions"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// TestTypesOfSQL uses every type of DuckDB, alone and in nested types, in a SELECT, a CREATE TABLE and an ALTER TABLE.
// If a statement runs, its values must be equal to those in plain DuckDB. Otherwise, the error must name the type.
func TestTypesOfSQL(t *testing.T) {
	s, p := newStore(t, nil), newPlainDuckDB(t)
	change(t, s, "CREATE TABLE t (i INTEGER)", 0)
	in := &tables.QueryOptions{Bucket: "b"}
	cases := []struct {
		typ, value       string
		selected, stored bool // whether a result, and a table, can have the type
	}{
		{"BOOLEAN", "true", true, true},
		{"TINYINT", "-128", true, true},
		{"SMALLINT", "-32768", true, true},
		{"INTEGER", "7", true, true},
		{"BIGINT", "-9223372036854775808", true, true},
		{"UTINYINT", "255", true, true},
		{"USMALLINT", "65535", true, true},
		{"UINTEGER", "4294967295", true, true},
		{"UBIGINT", "18446744073709551615", true, true},
		{"HUGEINT", "9223372036854775807", true, false},
		{"UHUGEINT", "5", false, false},
		{"BIGNUM", "5", false, false},
		{"FLOAT", "'nan'", true, true},
		{"DOUBLE", "-1e400", true, true},
		{"DECIMAL(4, 1)", "-999.9", true, true},
		{"DECIMAL(38, 10)", "0.0000000001", true, true},
		{"VARCHAR", "'ä'", true, true},
		{"CHAR(3)", "'abcd'", true, true},
		{"BLOB", "'\\xFF'", true, true},
		{"BIT", "'101'", false, false},
		{"UUID", "'00000000-0000-0000-0000-00000000000a'", true, true},
		{"JSON", "'{\"a\":1}'", true, false},
		{"DATE", "'2026-11-26'", true, true},
		{"TIME", "'12:00:00.000001'", true, true},
		{"TIMETZ", "'12:00:00+02'", false, false},
		{"TIME_NS", "'12:00:00.000000001'", true, false},
		{"TIMESTAMP", "'2026-11-26 01:02:03.000004'", true, true},
		{"TIMESTAMP_S", "'2026-11-26 01:02:03'", true, true},
		{"TIMESTAMP_MS", "'2026-11-26 01:02:03.004'", true, true},
		{"TIMESTAMP_NS", "'2026-11-26 01:02:03.000000005'", true, true},
		{"TIMESTAMPTZ", "'2026-11-26 01:02:03+01'", true, true},
		{"INTERVAL", "INTERVAL 1 MONTH", true, false},
		{"ENUM('a', 'b')", "'b'", true, false},
		{"UNION(a INTEGER, b VARCHAR)", "'x'", true, false},
		{"GEOMETRY", "'POINT(1 2)'", false, false},
		{"INTEGER[2]", "[1, 2]", true, true},
		{"VARIANT", "1", false, false},
	}
	for _, nesting := range []struct{ typ, value string }{{"%s", "%s"}, {"%s[]", "[%s, NULL]"}, {"STRUCT(x %s)", "{'x': %s}"}, {"MAP(INTEGER, %s)", "MAP {1: %s}"}} {
		var selected, columns, swapped, values, nulls, sets, casts []string
		for i, c := range cases {
			typ, value := fmt.Sprintf(nesting.typ, c.typ), fmt.Sprintf(nesting.value, c.value)
			isUUID := c.typ == "UUID" && nesting.typ != "%s" // the values of nested columns have no place for the type
			name := strings.Split(strings.ReplaceAll(c.typ, "TIMETZ", "TIME WITH TIME ZONE"), "(")[0]
			refused := func(sql string, err error) {
				t.Helper()
				if !strings.Contains(fmt.Sprint(err), name) && !strings.Contains(fmt.Sprint(err), "no Iceberg type") && !strings.Contains(fmt.Sprint(err), "Parser error") {
					t.Errorf("%s: error = %v, want an error with %q", sql, err, name)
				}
			}
			cast := fmt.Sprintf("CAST(%s AS %s)", value, typ)
			if c.selected {
				selected = append(selected, cast)
			} else {
				_, err := rows(t, s, "SELECT "+cast, in)
				refused("SELECT "+cast, err)
			}
			if !c.stored || isUUID {
				for _, sql := range []string{"CREATE OR REPLACE TABLE t (v " + typ + ")", "ALTER TABLE t ADD COLUMN v " + typ} {
					_, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"})
					refused(sql, err)
				}
				continue
			}
			columns, swapped = append(columns, fmt.Sprintf("v%d %s, w%[1]d %[2]s", i, typ)), append(swapped, fmt.Sprintf("w%d, v%[1]d", i))
			values, nulls = append(values, value+", DEFAULT"), append(nulls, "NULL, NULL")
			sets, casts = append(sets, fmt.Sprintf("w%d = v%[1]d, v%[1]d = %s", i, value)), append(casts, fmt.Sprintf("%s AS w%d", cast, i))
		}
		must.Check(t, must.Err(rows(t, s, "SELECT "+strings.Join(selected, ", "), in)))
		both(t, s, p, "CREATE OR REPLACE TABLE t ("+strings.Join(columns, ", ")+")")
		both(t, s, p, "ALTER TABLE t ADD COLUMN added "+fmt.Sprintf(nesting.typ, "TIMESTAMP_NS"))
		both(t, s, p, "ALTER TABLE t DROP COLUMN added")
		both(t, s, p, "INSERT INTO t VALUES ("+strings.Join(values, ", ")+"), ("+strings.Join(nulls, ", ")+")")
		both(t, s, p, "UPDATE t SET "+strings.Join(sets, ", "))
		both(t, s, p, "INSERT INTO t SELECT "+strings.Join(swapped, ", ")+" FROM t")
		change(t, s, "CREATE OR REPLACE TABLE t AS SELECT * FROM t", 4)
		wantRows(t, s, p, "CREATE TABLE AS")
		both(t, s, p, "MERGE INTO t USING (SELECT "+strings.Join(casts, ", ")+") s ON t.v0 IS NULL WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME")
	}
	for _, sql := range []string{"INSERT INTO t VALUES ('x')", "UPDATE t SET v = 'x'"} {
		must.Get(s.Exec(t.Context(), "CREATE OR REPLACE TABLE t AS SELECT NULL::INTEGER AS i", &tables.ExecOptions{Bucket: "b"}))(t)
		change(t, s, "CREATE OR REPLACE TABLE t (v UUID)", 0)
		change(t, s, "INSERT INTO t VALUES (NULL)", 1)
		if _, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}); err == nil {
			t.Errorf("%s put a text into a column of UUIDs", sql)
		}
	}
	for _, v := range []string{"'24:00:00'::TIME", "['24:00:00'::TIME]", "{'x': '24:00:00'::TIME}", "MAP {1: '24:00:00'::TIME}", "union_value(a := '24:00:00'::TIME)", "[100000000000000000000000000000000000000::HUGEINT]", "{'x': [-100000000000000000000000000000000000000::HUGEINT]}"} {
		if got, err := rows(t, s, "SELECT "+v+" AS v", in); !strings.Contains(fmt.Sprint(err), `column "v" contains`) {
			t.Errorf("SELECT %s = %v, error %v; want an error that names the column", v, got, err)
		}
	}
	// The values of nulls do not matter.
	expect(t, s, "SELECT nullif(d, 'infinity'), [nullif(ts, 'infinity')], nullif(tm, '24:00:00') FROM (VALUES ('infinity'::DATE, 'infinity'::TIMESTAMP, '24:00:00'::TIME)) v(d, ts, tm)", in, "(null)|[null]|(null)")
	change(t, s, `CREATE OR REPLACE TABLE t (v STRUCT("a[1]" INTEGER[2]))`, 0)
	infinite := "SELECT 'infinity'::DATE AS d, '-infinity'::TIMESTAMP AS ts, 'infinity'::TIMESTAMPTZ AS tz, 'infinity'::TIMESTAMP_NS AS ns, MAP {1: '-infinity'::DATE} AS m"
	want := `5881580-07-11|-9223372036854775807|9223372036854775807|2262-04-11T23:47:16.854775807|[{"key":1,"value":"-5877641-06-24"}]`
	expect(t, s, infinite, in, want)
	change(t, s, "CREATE OR REPLACE TABLE t AS "+infinite, 1)
	expect(t, s, "SELECT * FROM t", in, want)
	expect(t, s, "SELECT *, isinf(d) AND isinf(ts) AND isinf(tz) FROM t", in, want+"|true")
	expect(t, s, "SELECT 'infinity'::TIMESTAMP_S, {'x': '-infinity'::TIMESTAMP_MS}, union_value(a := 'infinity'::DATE)", in, `9223372036854775807|{"x":"-9223372036854775807"}|[0,"5881580-07-11"]`)
}

// TestSetTypesThatSQLLacks sets columns of types that SQL reads as other types.
func TestSetTypesThatSQLLacks(t *testing.T) {
	s := newStore(t, nil)
	nanos := &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "Europe/Berlin"}
	cases := []struct {
		typ         arrow.DataType
		json, value string // a value in JSON, and in SQL
		wrong       string // a value in SQL that does not fit
	}{
		{nanos, `"2026-01-01T00:00:00.000001Z"`, "'2026-01-01 01:00:00.000001+01'", "'3000-01-01'"},
		{arrow.FixedWidthTypes.Duration_ns, "5", "5", "'x'"},
		{arrow.FixedWidthTypes.Duration_s, "5", "5", "9223372036854775808"},
		{&arrow.Time64Type{Unit: arrow.Nanosecond}, `"00:00:00.000000005"`, "5", "'x'"},
		{arrow.FixedWidthTypes.Time32s, `"00:00:05"`, "'00:00:05'", "'00:00:05.5'"},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, `"AAE="`, "'\\x00\\x01'", "'abc'"},
		{extensions.NewUUIDType(), `"00000000-0000-0000-0000-00000000000a"`, "'00000000-0000-0000-0000-00000000000A'", "'x'"},
		{arrow.FixedWidthTypes.Float16, "1.5", "1.5", "1.0001"},
		{arrow.FixedWidthTypes.Date64, `"2026-01-01"`, "'2026-01-01'", "'2026-01-01 00:00:01'"},
		{&arrow.Decimal64Type{Precision: 5, Scale: 1}, `"1.5"`, "1.5", "100000"},
		{arrow.PrimitiveTypes.Uint8, "255", "255", "256"},
		{arrow.FixedSizeListOf(2, arrow.FixedWidthTypes.Duration_ms), "[1, 2]", "[1, 2]", "[1]"},
	}
	fields := []arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int32, Nullable: true}}
	var json, names, values, wrong, sets, nulls, counts []string
	for _, c := range cases {
		for _, nesting := range []struct {
			typ         arrow.DataType
			json, value string
		}{
			{c.typ, "%s", "%s"}, {arrow.ListOf(c.typ), "[%s, null]", "[%s, NULL]"}, {arrow.StructOf(arrow.Field{Name: "x", Type: c.typ, Nullable: true}), `{"x": %s}`, "{'x': %s}"},
		} {
			name, value := fmt.Sprintf("v%d", len(names)), fmt.Sprintf(nesting.value, c.value)
			fields, json = append(fields, arrow.Field{Name: name, Type: nesting.typ, Nullable: true}), append(json, fmt.Sprintf("%q: "+nesting.json, name, c.json))
			names, values, wrong = append(names, name), append(values, value), append(wrong, fmt.Sprintf(nesting.value, c.wrong))
			sets, nulls = append(sets, name+" = "+value), append(nulls, name+" = NULL")
			counts = append(counts, fmt.Sprintf("count(%s) || '|' || count(DISTINCT %[1]s::VARCHAR)", name))
		}
	}
	columns, in := "id, "+strings.Join(names, ", "), &tables.QueryOptions{Bucket: "b"}
	for _, evolution := range []tables.Evolution{"", tables.Strict} {
		put(t, s, "b", "t", jsonBatch(t, arrow.NewSchema(fields, nil), `{"id": 1, `+strings.Join(json, ", ")+"}"))
		withSettings(tables.Settings{Evolution: evolution})(t, s, s.Bucket("b").Table("t"))
		change(t, s, "INSERT INTO t SELECT id + 1, t.* EXCLUDE (id) FROM t", 1)
		change(t, s, "INSERT INTO t ("+columns+") VALUES (3, "+strings.Join(values, ", ")+"), (4"+strings.Repeat(", NULL", len(names))+")", 2)
		change(t, s, "UPDATE t SET "+strings.Join(sets, ", ")+" WHERE id = 4", 1)
		change(t, s, "MERGE INTO t USING (SELECT 5 AS id) s ON t.id = s.id WHEN NOT MATCHED THEN INSERT ("+columns+") VALUES (s.id, "+strings.Join(values, ", ")+")", 1)
		expect(t, s, "SELECT "+strings.Join(counts, ", ")+" FROM t", in, strings.TrimPrefix(strings.Repeat("|5|1", len(names)), "|"))
		for i, name := range names {
			for _, sql := range []string{"INSERT INTO t (" + name + ") VALUES (" + wrong[i] + ")", "UPDATE t SET " + name + " = " + wrong[i]} {
				if _, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}); err == nil {
					t.Errorf("%s stored a value that does not fit into %s", sql, fields[1+i].Type)
				}
			}
		}
		change(t, s, "UPDATE t SET "+strings.Join(nulls, ", ")+" WHERE id = 1", 1)
		change(t, s, "DROP TABLE t", 5)
	}
}

// TestNanosecondsOfZones sets columns of times in nanoseconds with a time zone from such columns. SQL must not truncate
// the values.
func TestNanosecondsOfZones(t *testing.T) {
	s := newStore(t, nil)
	nanos := &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "Europe/Berlin"}
	columns := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int32, Nullable: true}, {Name: "ts", Type: nanos, Nullable: true}, {Name: "l", Type: arrow.ListOf(nanos), Nullable: true}}, nil)
	put(t, s, "b", "micros", jsonBatch(t, columns, `{"id": 1, "ts": "2026-01-01T00:00:00.000001Z"}`))
	put(t, s, "b", "nanos", jsonBatch(t, columns, `{"id": 1, "ts": "2026-01-01T00:00:00.000000001Z"}`))
	put(t, s, "b", "lists", jsonBatch(t, columns, `{"id": 1, "l": ["2026-01-01T00:00:00.000000001Z"]}`))
	for _, sql := range []string{
		"INSERT INTO micros SELECT * FROM micros", "INSERT INTO nanos (ID) SELECT id FROM nanos WHERE ts > '2000-01-01'", "INSERT INTO nanos SELECT id, now(), NULL FROM lists", "UPDATE lists SET ts = now()",
		"UPDATE nanos SET id = 2 WHERE ts > '2000-01-01'", "MERGE INTO micros USING micros s ON false WHEN NOT MATCHED THEN INSERT BY NAME",
	} {
		if _, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{
		"INSERT INTO micros SELECT * FROM nanos", "INSERT INTO nanos SELECT * FROM nanos", "INSERT INTO micros SELECT * FROM lists", "INSERT INTO micros (Ts) VALUES ((SELECT max(ts) FROM nanos))", "UPDATE nanos SET ts = ts + INTERVAL 1 HOUR",
		"UPDATE micros SET l = s.l FROM lists s", "MERGE INTO micros USING nanos s ON false WHEN NOT MATCHED THEN INSERT BY NAME",
	} {
		if _, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}); !strings.Contains(errorText(err), "nanoseconds") {
			t.Errorf("%s: error = %v, want an error that names the nanoseconds", sql, err)
		}
	}
}
