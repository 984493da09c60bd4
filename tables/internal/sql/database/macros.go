//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"slices"
	"strings"
)

// macros define functions of DataFusion that DuckDB lacks or defines differently. docs/sql.md lists the remaining
// differences. A macro does not know the types of its arguments. Macros that accept both numbers and text therefore
// convert x to text and treat it as a number if it looks like one.
var macros = []string{
	`CREATE MACRO partd_months(stride) AS 12 * date_part('year', CAST(stride AS INTERVAL)) + date_part('month', CAST(stride AS INTERVAL))`,
	// time_bucket ignores the day of the month in the origin, so date_bin computes bins of months itself.
	`CREATE MACRO date_bin(stride, ts) AS time_bucket(CAST(stride AS INTERVAL), ts, TIMESTAMP '1970-01-01'),
		(stride, ts, origin) AS CASE
			WHEN partd_months(stride) = 0 THEN time_bucket(CAST(stride AS INTERVAL), ts, CAST(origin AS TIMESTAMP))
			ELSE CAST(origin AS TIMESTAMP) + to_months(CAST(partd_months(stride) * floor(
				(date_diff('month', CAST(origin AS TIMESTAMP), CAST(ts AS TIMESTAMP))
					- CASE WHEN CAST(origin AS TIMESTAMP) + to_months(CAST(date_diff('month', CAST(origin AS TIMESTAMP), CAST(ts AS TIMESTAMP)) AS INTEGER)) > CAST(ts AS TIMESTAMP) THEN 1 ELSE 0 END)
				/ partd_months(stride)) AS INTEGER)) END`,

	`CREATE MACRO partd_number(x) AS TRY_CAST(CAST(x AS VARCHAR) AS DECIMAL(38, 9))`,
	`CREATE MACRO partd_micros(x) AS epoch_us(CAST(CAST(x AS VARCHAR) AS TIMESTAMPTZ))`,
	`CREATE MACRO to_timestamp(x) AS CASE WHEN partd_number(x) IS NULL THEN CAST(CAST(x AS VARCHAR) AS TIMESTAMP_NS)
		ELSE make_timestamp_ns(CAST(partd_number(x) * 1000000000 AS BIGINT)) END`,
	`CREATE MACRO to_timestamp_seconds(x) AS CAST(CASE WHEN partd_number(x) IS NULL THEN make_timestamp(partd_micros(x) // 1000000 * 1000000)
		ELSE make_timestamp(CAST(trunc(partd_number(x)) AS BIGINT) * 1000000) END AS TIMESTAMP_S)`,
	`CREATE MACRO to_timestamp_millis(x) AS CAST(CASE WHEN partd_number(x) IS NULL THEN make_timestamp(partd_micros(x) // 1000 * 1000)
		ELSE make_timestamp(CAST(trunc(partd_number(x)) AS BIGINT) * 1000) END AS TIMESTAMP_MS)`,
	`CREATE MACRO to_timestamp_micros(x) AS CASE WHEN partd_number(x) IS NULL THEN make_timestamp(partd_micros(x))
		ELSE make_timestamp(CAST(trunc(partd_number(x)) AS BIGINT)) END`,
	`CREATE MACRO to_timestamp_nanos(x) AS CASE WHEN partd_number(x) IS NULL THEN CAST(CAST(x AS VARCHAR) AS TIMESTAMP_NS)
		ELSE make_timestamp_ns(CAST(trunc(partd_number(x)) AS BIGINT)) END`,

	`CREATE MACRO approx_percentile_cont(x, p) AS approx_quantile(CAST(x AS DOUBLE), p),
		(x, p, centroids) AS approx_quantile(CAST(x AS DOUBLE), p)`,

	// arrow_typeof supports the types that results can have. For structs and maps, it returns DuckDB's names. DuckDB
	// copies an argument to each of its uses in a macro, recursively, so the macro uses x only once.
	`CREATE MACRO arrow_typeof(x) AS list_transform(list_transform([typeof(x)], lambda t: [regexp_replace(t, '(\[\])*$', ''), regexp_extract(t, '(\[\])*$')]), lambda p:
		replace(p[2], '[]', 'List(') || CASE p[1] WHEN 'BOOLEAN' THEN 'Boolean' WHEN 'TINYINT' THEN 'Int8' WHEN 'SMALLINT' THEN 'Int16' WHEN 'INTEGER' THEN 'Int32'
		WHEN 'BIGINT' THEN 'Int64' WHEN 'HUGEINT' THEN 'Int64' WHEN 'UTINYINT' THEN 'UInt8' WHEN 'USMALLINT' THEN 'UInt16' WHEN 'UINTEGER' THEN 'UInt32' WHEN 'UBIGINT' THEN 'UInt64'
		WHEN 'FLOAT' THEN 'Float32' WHEN 'DOUBLE' THEN 'Float64' WHEN 'VARCHAR' THEN 'Utf8' WHEN 'BLOB' THEN 'Binary' WHEN 'DATE' THEN 'Date32' WHEN 'TIME' THEN 'Time64(µs)'
		WHEN 'TIMESTAMP' THEN 'Timestamp(µs)' WHEN 'TIMESTAMP_S' THEN 'Timestamp(s)' WHEN 'TIMESTAMP_MS' THEN 'Timestamp(ms)' WHEN 'TIMESTAMP_NS' THEN 'Timestamp(ns)'
		WHEN 'TIMESTAMP WITH TIME ZONE' THEN 'Timestamp(µs, "UTC")' WHEN 'INTERVAL' THEN 'Interval(MonthDayNano)' WHEN '"NULL"' THEN 'Null'
		ELSE regexp_replace(p[1], '^DECIMAL\((\d+),(\d+)\)$', 'Decimal128(\1, \2)') END || replace(p[2], '[]', ')'))[1]`,
}

// guards replace DuckDB functions that can exhaust memory, run for years without checking for interrupts, or overflow
// the stack. DuckDB matches LIKE patterns recursively, with one level per wildcard. The guards convert patterns with
// more than two wildcards to regular expressions, which take linear time; DuckDB still pushes down simpler constant
// patterns. When changing a guard, note that:
//   - DuckDB evaluates constant CASE branches even if it does not take them, so check arguments within each call.
//   - DuckDB recompiles a regular expression for each row if the pattern contains a call to error.
//   - If a pattern is a parameter, DuckDB infers its type from the casts and from strlen, which, unlike length, accepts only text.
var guards = []string{
	`CREATE MACRO partd_wilds(p) AS strlen(p) - strlen(replace(p, '%', ''))`,
	`CREATE MACRO partd_wild(p) AS partd_wilds(p) > 2`,
	`CREATE MACRO partd_if_bounded(p) AS CASE WHEN partd_wilds(p) <= 100 THEN CAST(p AS VARCHAR) END`,
	`CREATE MACRO partd_if_few(p) AS CASE WHEN NOT partd_wild(p) THEN CAST(p AS VARCHAR) END`,
	`CREATE MACRO partd_like(s, p) AS CASE WHEN partd_wilds(p) > 100 THEN error('LIKE accepts at most 100 wildcards (%)')
		ELSE regexp_full_match(s, replace(replace(regexp_escape(partd_if_bounded(p)), '\%', '.*'), '_', '.'), 's') END`,
	`CREATE MACRO "~~"(s, p) AS CASE WHEN partd_wild(p) THEN partd_like(s, p) ELSE system.main."~~"(s, partd_if_few(p)) END`,
	`CREATE MACRO "!~~"(s, p) AS CASE WHEN partd_wild(p) THEN NOT partd_like(s, p) ELSE system.main."!~~"(s, partd_if_few(p)) END`,
	`CREATE MACRO "~~*"(s, p) AS CASE WHEN partd_wild(p) THEN partd_like(lower(s), lower(p)) ELSE system.main."~~*"(s, partd_if_few(p)) END`,
	`CREATE MACRO "!~~*"(s, p) AS CASE WHEN partd_wild(p) THEN NOT partd_like(lower(s), lower(p)) ELSE system.main."!~~*"(s, partd_if_few(p)) END`,
	`CREATE MACRO "~~~"(s, p) AS system.main."~~~"(s, CASE WHEN strlen(p) - strlen(replace(p, '*', '')) > 2 THEN error('GLOB accepts at most two wildcards (*): use regexp_matches') ELSE CAST(p AS VARCHAR) END)`,
	guardEscape("like_escape"), guardEscape("not_like_escape"), guardEscape("ilike_escape"), guardEscape("not_ilike_escape"),
	`CREATE MACRO partd_count(n, size) AS CASE WHEN CAST(n AS HUGEINT) * size > 65536 THEN error('a length must not exceed 65536 bytes or elements') ELSE n END`,
	`CREATE MACRO repeat(x, n) AS system.main.repeat(x, partd_count(n, strlen(CAST(x AS VARCHAR))))`,
	`CREATE MACRO lpad(s, n, c) AS system.main.lpad(s, CAST(partd_count(n, 1) AS INTEGER), c)`,
	`CREATE MACRO rpad(s, n, c) AS system.main.rpad(s, CAST(partd_count(n, 1) AS INTEGER), c)`,
	`CREATE MACRO bitstring(x, n) AS system.main.bitstring(x, CAST(partd_count(n, 1) AS INTEGER))`,
	guardResize("list_resize"), guardResize("array_resize"),
}

// guardedFunctions lists the functions that guards replace. Statements may not call them with a schema, because that
// would bypass the guards.
var guardedFunctions = []string{"~~", "!~~", "~~*", "!~~*", "~~~", "repeat", "lpad", "rpad", "bitstring", "list_resize", "array_resize"}

// maxNestedMacros limits the nesting of macros. Before DuckDB checks for interrupts, it copies an argument to each of
// its uses in a macro, recursively: each level of LIKE makes ten copies.
const maxNestedMacros = 3

var macroNames = func() map[string]bool {
	names := map[string]bool{}
	for _, macro := range slices.Concat(macros, guards) {
		name, _, _ := strings.Cut(strings.TrimPrefix(macro, "CREATE MACRO "), "(")
		names[strings.Trim(name, `"`)] = true
	}
	return names
}()

func guardEscape(name string) string {
	return `CREATE MACRO ` + name + `(s, p, e) AS system.main.` + name + `(s, CASE WHEN partd_wild(p) THEN error('LIKE with ESCAPE accepts at most two wildcards (%): use regexp_matches') ELSE CAST(p AS VARCHAR) END, e)`
}

func guardResize(name string) string {
	return `CREATE MACRO ` + name + `(l, n) AS system.main.` + name + `(l, partd_count(n, 1)), (l, n, x) AS system.main.` + name + `(l, partd_count(n, 1), x)`
}
