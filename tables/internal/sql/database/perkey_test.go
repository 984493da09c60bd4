//go:build cgo

package database

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// keyedTables has the columns of the tables of the tests. Each column appears in a key of newKeyedData, or has values of
// many keys.
var keyedTables = map[string]string{
	"l": "k INTEGER, j BIGINT, s VARCHAR, f DOUBLE, v INTEGER, w INTEGER, ts INTEGER, tags INTEGER[]",
	"r": "k BIGINT, j INTEGER, s VARCHAR, f FLOAT, v INTEGER, w INTEGER, ts INTEGER, u INTEGER",
	"m": "x UTINYINT, y SMALLINT, z VARCHAR, g DOUBLE, v INTEGER, k INTEGER, ts INTEGER",
}

// keyColumns has the key columns of each table that keyedInputs can choose.
var keyColumns = map[string][]string{
	"k": {"l=k", "r=k", "m=x"}, "k,j": {"l=k,j", "r=k,j", "m=x,y"}, "j,k": {"l=j,k", "r=j,k", "m=y,x"},
	"s": {"l=s", "r=s", "m=z"}, "f": {"l=f", "r=f", "m=g"}, "": {"l=k", "r=v", "m=x"},
}

func keyedInputs(keys string, names ...string) (inputs []KeyedInput) {
	for _, text := range keyColumns[keys] {
		name, by, _ := strings.Cut(text, "=")
		if !slices.Contains(names, name) {
			continue
		}
		input := KeyedInput{Name: name, By: strings.Split(by, ",")}
		for _, column := range strings.Split(keyedTables[name], ", ") {
			input.Columns = append(input.Columns, strings.Fields(column)[0])
		}
		inputs = append(inputs, input)
	}
	return inputs
}

// keyedData has the tables of the tests, in a schema with all rows and, for each entry of keyColumns, in one for each part.
type keyedData struct {
	*Database
	t        testing.TB
	random   *rand.Rand
	isParted map[string]bool // whether the schemas for an entry of keyColumns have the rows of the last fill
}

const numParts = 3

func newKeyedData(t testing.TB, seed uint64) *keyedData {
	t.Helper()
	d := &keyedData{Database: openDatabase(t, 256<<20), t: t, random: rand.New(rand.NewPCG(seed, seed))}
	d.mustExecute("SET threads = 1")
	return d
}

func (d *keyedData) mustExecute(statements ...string) {
	d.t.Helper()
	must.Do(d.t, d.execute(strings.Join(statements, "; ")))
}

// fill replaces the rows of all tables by random ones. DuckDB has other plans for 64 rows and more.
func (d *keyedData) fill() {
	d.t.Helper()
	d.isParted = map[string]bool{}
	statements := []string{"CREATE SCHEMA IF NOT EXISTS all_rows"}
	for _, name := range []string{"l", "m", "r"} {
		columns := strings.Split(keyedTables[name], ", ")
		statements = append(statements, "CREATE OR REPLACE TABLE all_rows."+name+"("+keyedTables[name]+")")
		size := 3 + d.random.IntN(12)
		if d.random.IntN(3) == 0 {
			size = d.random.IntN(maxKeyedRows)
		}
		if d.random.IntN(20) == 0 {
			size = 0
		}
		var rows []string
		for _, time := range d.random.Perm(size) {
			var values []string
			for _, c := range columns {
				column, columnType, _ := strings.Cut(c, " ")
				values = append(values, d.value(column, columnType, time, size))
			}
			rows = append(rows, "("+strings.Join(values, ", ")+")")
		}
		if size > 0 {
			statements = append(statements, "INSERT INTO all_rows."+name+" VALUES "+strings.Join(rows, ", "))
		}
	}
	d.mustExecute(statements...)
}

const maxKeyedRows = 300

// value returns a random value of a row in a table with size rows, which has the time-th time.
func (d *keyedData) value(column, columnType string, time, size int) string {
	if d.random.IntN(6+size/20) == 0 {
		return "NULL"
	}
	if column == "ts" { // unique, so that an ASOF join has one result
		return fmt.Sprint(d.random.IntN(3) + 3*time)
	}
	switch columnType {
	case "VARCHAR":
		return []string{"'a'", "'A'", "'b'", "''", "'é'", fmt.Sprintf("'text %d'", d.random.IntN(1+size/4))}[d.random.IntN(6)]
	case "DOUBLE", "FLOAT":
		return []string{"0", "'-0'", "'nan'", "0.5", "'inf'", "'-inf'", fmt.Sprint(d.random.IntN(1+size/4), ".25")}[d.random.IntN(7)]
	case "INTEGER[]":
		return fmt.Sprint("[", d.random.IntN(3), ", ", d.random.IntN(3), "][:", d.random.IntN(3), "]")
	}
	return fmt.Sprint(d.random.IntN(min(4+size/8, 255)))
}

// part creates the schemas for an entry of keyColumns.
func (d *keyedData) part(keys string) {
	d.t.Helper()
	if d.isParted[keys] {
		return
	}
	d.isParted[keys] = true
	var statements []string
	salt := d.random.Uint32()
	for part := range numParts {
		schema := partSchema(keys, part)
		statements = append(statements, "CREATE SCHEMA IF NOT EXISTS "+schema)
		for _, input := range keyedInputs(keys, "l", "m", "r") {
			var by []string
			for _, column := range input.By {
				if column == "f" || column == "g" {
					column = "(" + column + "::DOUBLE + 0)" // -0 equals 0
				}
				by = append(by, "coalesce("+column+"::VARCHAR, 'null')")
			}
			statements = append(statements, fmt.Sprintf("CREATE OR REPLACE TABLE %s.%s AS FROM all_rows.%[2]s WHERE hash(concat_ws(',', %d, %s)) %% %d = %d",
				schema, input.Name, salt, strings.Join(by, ", "), numParts, part))
		}
	}
	d.mustExecute(statements...)
}

func partSchema(keys string, part int) string {
	return sqltext.Name(fmt.Sprint("part ", part, " by ", keys))
}

var (
	errLarge  = errors.New("the result is too large for a test")
	errBroken = errors.New("DuckDB cannot run the statement") // DuckDB 1.5.6 loses a column of some joins
)

// run returns the rows of a statement on the tables in a schema, as text.
func (d *keyedData) run(sql, schema string) (rows []string, err error) {
	d.t.Helper()
	d.mustExecute("SET schema = " + sqltext.Text(schema))
	defer d.Finish()
	if err := d.prepare(sql); err != nil {
		return nil, err
	}
	s, err := d.stream(context.Background(), sql)
	if err != nil {
		return nil, err
	}
	defer s.End()
	for {
		batch, err := s.Next()
		if batch == nil || err != nil {
			return rows, err
		}
		rows = append(rows, rowTexts(batch)...)
		batch.Release()
		if len(rows) > 50_000 {
			return nil, errLarge
		}
	}
}

func rowTexts(batch arrow.RecordBatch) (rows []string) {
	for i := range int(batch.NumRows()) {
		var values []string
		for _, c := range batch.Columns() {
			value := strings.Clone(c.ValueStr(i))
			values = append(values, strings.ReplaceAll(value, "-0", "0")) // they are equal, so a group can have either
		}
		rows = append(rows, strings.Join(values, "|"))
	}
	return rows
}

// runBoth runs a statement once for all rows, and the statement perKey once for each part.
func (d *keyedData) runBoth(sql, perKey, keys string) (whole, parted []string, err error) {
	d.t.Helper()
	d.part(keys)
	d.mustExecute("SET asof_loop_join_threshold = 1000000000") // this plan is right about NULL
	whole, err = d.run(sql, "all_rows")
	d.mustExecute("RESET asof_loop_join_threshold")
	if err != nil && strings.Contains(err.Error(), "INTERNAL") {
		return nil, nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	for part := 0; part < numParts && err == nil; part++ {
		var rows []string
		rows, err = d.run(perKey, partSchema(keys, part))
		parted = append(parted, rows...)
	}
	return whole, parted, err
}

func inOrder(rows []string) []string {
	rows = slices.Clone(rows)
	slices.Sort(rows)
	return rows
}

// namedIn returns the inputs that a statement names.
func namedIn(t *testing.T, d *Database, sql, keys string) []KeyedInput {
	t.Helper()
	names, err := d.TableNames(sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var tables []string
	for _, n := range names {
		tables = append(tables, strings.ToLower(n.Table))
	}
	return keyedInputs(keys, tables...)
}

const keyedRounds = 4 // of random rows for each statement

// TestPerKeyAccepts checks that statements which PerKey accepts have the same rows with parts.
func TestPerKeyAccepts(t *testing.T) {
	d := newKeyedData(t, 1)
	sets := make([]int, len(acceptedPerKey))
	for range keyedRounds {
		d.fill()
		for i, statement := range acceptedPerKey {
			keys, sql, _ := strings.Cut(statement, ": ")
			inputs := namedIn(t, d.Database, sql, keys)
			perKey, _, err := d.PerKey(sql, inputs)
			if err != nil {
				t.Errorf("%s: %v", statement, err)
				continue
			}
			whole, parted, err := d.runBoth(sql, perKey, keys)
			if err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
			sets[i] += len(whole)
			if !slices.Equal(inOrder(whole), inOrder(parted)) {
				t.Errorf("%s: the parts have the rows %q, want %q", statement, inOrder(parted), inOrder(whole))
			}
		}
	}
	for i, n := range sets {
		if n == 0 {
			t.Errorf("%s: the test is useless, because the statement has no rows", acceptedPerKey[i])
		}
	}
}

// acceptedPerKey has statements, after their entry of keyColumns.
var acceptedPerKey = []string{
	"k: SELECT * FROM l", "k: FROM L WHERE v > 1", "k: SELECT v + w AS x, unnest(tags) FROM l", "k: SELECT l FROM l",
	"k: SELECT k, sum(v) FROM l GROUP BY k", "k: SELECT sum(v) FROM l GROUP BY K, w HAVING count(*) > 1",
	"k: SELECT k AS a, count(*) FROM l GROUP BY a", "k: SELECT k, count(*) FROM l GROUP BY 1", "k: SELECT k, v, count(*) FROM l GROUP BY ALL",
	"k: SELECT l.*, count(*) FROM l GROUP BY ALL", "k: SELECT v AS k, count(*) FROM l GROUP BY k, v", "k: SELECT count(*) FROM l GROUP BY GROUPING SETS ((k))",
	"k,j: SELECT j, k, max(v), list(v ORDER BY v), list_sort(list(DISTINCT w)), quantile_disc(v, 0.5) FROM l GROUP BY j, k",
	"s: SELECT s, upper(s), count(*) FROM l WHERE s LIKE '%a%' OR s LIKE 'a%b%c%' OR s IN ('A', 'b') GROUP BY s", "f: SELECT f, count(*) FROM l GROUP BY f",
	"k: SELECT weighted_avg(v, w), k FROM l GROUP BY k", "k: SELECT age(TIMESTAMP '2020-01-01', TIMESTAMP '2021-01-01'), k FROM l",
	"k: SELECT DISTINCT k, v FROM l", "k: SELECT DISTINCT * FROM l", "k: SELECT DISTINCT v, l.* EXCLUDE (v) FROM l",
	"k: SELECT * FROM (SELECT DISTINCT ON (k) k, v, w FROM l ORDER BY k, v DESC NULLS LAST, w)", "k: SELECT * FROM (SELECT DISTINCT ON (1) k, v, w FROM l ORDER BY ALL)",
	"k: SELECT *, rank() OVER (PARTITION BY k ORDER BY v) FROM l", "k: SELECT v AS k, sum(v) OVER (PARTITION BY w, k ORDER BY ts) FROM l",
	"k: SELECT k, v FROM l QUALIFY count(*) OVER (PARTITION BY k) > 1", "k: SELECT k, sum(v) OVER w FROM l WINDOW w AS (PARTITION BY k ORDER BY ts)",
	"k: SELECT k, j, sum(count(*)) OVER (PARTITION BY k) FROM l GROUP BY k, j", "k,j: SELECT max(v) OVER (PARTITION BY l.j, l.k) FROM l",
	"k: SELECT * FROM l JOIN r USING (k)", "k: SELECT * FROM l JOIN r ON l.k = r.k AND l.v < r.v", "k: SELECT l.v, r.v FROM l JOIN r ON r.k = l.k AND (l.v = 1 OR r.v = 2)",
	"k: SELECT * FROM l LEFT JOIN r USING (k)", "k: SELECT * FROM l RIGHT JOIN r USING (k)", "k: SELECT * FROM l FULL JOIN r USING (k)", "s: SELECT * FROM l FULL JOIN r USING (s)",
	"k: SELECT * FROM l FULL JOIN r ON l.k = r.k AND l.v = r.v", "k: SELECT * FROM l FULL JOIN r ON l.k IS NOT DISTINCT FROM r.k", "f: SELECT * FROM l JOIN r USING (f)",
	"k: SELECT * FROM l SEMI JOIN r USING (k)", "k: SELECT * FROM l ANTI JOIN r ON l.k = r.k AND l.v = r.v", "k: SELECT * FROM l, m WHERE l.k = x", "k: SELECT * FROM l, m, r WHERE l.k = x AND r.k = l.k",
	"k,j: SELECT * FROM l ASOF JOIN r ON l.k = r.k AND l.j = r.j AND l.ts >= r.ts", "k,j: SELECT * FROM l ASOF LEFT JOIN r ON l.ts > r.ts AND l.k = r.k AND l.j = r.j", "k: SELECT * FROM l ASOF LEFT JOIN r ON l.k = r.k AND l.s = r.s AND NOT (l.ts + l.v < r.ts - 1)",
	"k: SELECT *, r.k, r.* FROM l ASOF JOIN r USING (k, j, ts)", "k: SELECT DISTINCT k, max(COLUMNS(* EXCLUDE (k))) OVER (PARTITION BY k) FROM l AS a ASOF LEFT JOIN r AS b USING (k, ts) ASOF LEFT JOIN (SELECT x AS k, ts FROM m) AS c USING (k, ts)",
	"k: SELECT a.* FROM (SELECT * FROM l ASOF LEFT JOIN r USING (k, s, ts)) AS a FULL JOIN m ON a.k = x", "k: SELECT * FROM l ASOF LEFT JOIN r ON l.k = r.k AND l.ts >= r.ts AND (l.v = r.v OR l.w < r.w) AND l.f <> r.f",
	"k: SELECT l.*, DATE '2026-01-01' + INTERVAL (l.v) DAY < DATE '2026-01-03' + INTERVAL '1' MONTH + INTERVAL '2 days', '1e1'::DOUBLE * r.v, CAST(r.v AS decimal(9, 2)) FROM l ASOF LEFT JOIN r ON l.k = r.k AND l.ts >= r.ts",
	"k,j: SELECT * FROM l JOIN r USING (j, k)", "k,j: SELECT * FROM l JOIN m ON j = y AND l.k = x", "k,j: SELECT * FROM l JOIN r USING (k) WHERE l.j = r.j",
	"k: SELECT * FROM l ASOF JOIN r ON l.k = r.k AND l.ts >= r.ts", "k: SELECT * FROM l ASOF LEFT JOIN r USING (k, ts)", "k,j: SELECT * FROM l ASOF JOIN m ON l.k = x AND y = j AND l.ts < m.ts",
	"k: SELECT k, count(*) FROM l LEFT JOIN r USING (k) GROUP BY k", "k: SELECT k, count(*) FROM l RIGHT JOIN r USING (k) GROUP BY k", "k: SELECT r.k, count(*) FROM l RIGHT JOIN r USING (k) GROUP BY r.k",
	"k: SELECT k, count(*) FROM l FULL JOIN r USING (k) GROUP BY k", "k: SELECT DISTINCT k FROM l FULL JOIN r USING (k) FULL JOIN (SELECT x AS k FROM m) USING (k)",
	"k: SELECT * FROM l AS a JOIN l AS b USING (k)", "k: SELECT k, n FROM (SELECT k, count(*) AS n FROM l GROUP BY k) WHERE n > 1",
	"k: SELECT * FROM (SELECT x AS k, v FROM m) AS n JOIN l USING (k)", "k: WITH a AS (SELECT k, count(*) AS n FROM l GROUP BY k), b(q) AS (SELECT x FROM m) SELECT * FROM a JOIN b ON k = q",
	"k: WITH l AS (SELECT * FROM l WHERE v > 0) SELECT k, count(*) FROM l GROUP BY k", "k: SELECT q, count(*) FROM l AS a(q, p) GROUP BY q",
	"k: SELECT k, v FROM l UNION ALL SELECT v, k FROM r", "k: SELECT k, v FROM l UNION SELECT k, v FROM r", "k: SELECT k, v FROM l INTERSECT ALL SELECT k, v FROM r",
	"k: SELECT k FROM l EXCEPT SELECT x FROM m", "k: SELECT k, v FROM l UNION ALL BY NAME SELECT v, k FROM r",
	"k: SELECT * FROM l, unnest(tags) AS u(tag)", "k: SELECT tag, k, count(*) FROM (SELECT k, unnest(tags) AS tag FROM l) GROUP BY ALL", "k: SELECT v AS k FROM l WHERE k = 1", "k: SELECT * FROM l ASOF LEFT JOIN r ON l.k = r.k AND l.ts >= r.ts JOIN (VALUES (1, 'one'), (2, 'two')) AS n(v, name) ON n.v = l.v",
	"k: SELECT * FROM l ASOF JOIN range(9) AS n(t) ON n.t >= l.ts", "k: SELECT * FROM l LEFT JOIN (VALUES (1, 'one')) AS n(v, name) USING (v)",
	"k: SELECT * FROM l, range(2)", "k: SELECT * FROM range(2) AS n(v) JOIN l USING (v)", "k: SELECT *, list_transform(tags, lambda t: t + v), [t * 2 FOR t IN tags IF t > 0] FROM l",
	"k: SELECT * REPLACE (w + 1 AS w) FROM l", "k: SELECT * RENAME (v AS k) FROM l", "k: SELECT x.n, l.* FROM l JOIN LATERAL (SELECT k, count(*) AS n FROM r WHERE r.v < l.v GROUP BY k) AS x ON x.k = l.k", "k: SELECT k, max(COLUMNS('v|w')) FROM l GROUP BY k", "k: SELECT CASE WHEN v > 100 THEN error('large') ELSE v END FROM l",
	"k: SELECT k, count(*) FROM (SELECT 1 AS k) AS c RIGHT JOIN l USING (k) GROUP BY k", "k: SELECT k, count(*) FROM (SELECT k, v AS k FROM l) GROUP BY k",
	"k: SELECT k, sum(v) FILTER (w > 1) FROM l GROUP BY k", "k: SELECT a.k, b.n FROM l AS a JOIN (SELECT k, count(*) AS n FROM r GROUP BY k) AS b ON a.k = b.k",
}

// TestPerKeyRefuses checks that PerKey refuses statements with a reason, and that each of them has other rows with parts.
func TestPerKeyRefuses(t *testing.T) {
	d := newKeyedData(t, 2)
	differs := make([]bool, len(refusedPerKey))
	for range 15 * keyedRounds {
		if !slices.Contains(differs, false) {
			break
		}
		d.fill()
		for i, c := range refusedPerKey {
			keys, sql, _ := strings.Cut(c.statement, ": ")
			if differs[i] {
				continue
			}
			inputs := namedIn(t, d.Database, sql, keys)
			_, columns, err := d.PerKey(sql, inputs)
			if !errors.Is(err, sqltext.ErrNotPerKey) || !strings.Contains(err.Error(), c.reason) || len(columns) != len(inputs) {
				t.Errorf("%s: PerKey = %v, %v, want the columns and a refusal with %q", c.statement, columns, err, c.reason)
			}
			whole, parted, err := d.runBoth(sql, sql, keys)
			if err != nil {
				t.Fatalf("%s: %v", c.statement, err)
			}
			if !strings.Contains(c.reason, "--sort-by") {
				whole, parted = inOrder(whole), inOrder(parted)
			}
			differs[i] = !slices.Equal(whole, parted)
		}
	}
	for i, c := range refusedPerKey {
		if !differs[i] {
			t.Errorf("%s: the result is the same with parts", c.statement)
		}
	}
}

var refusedPerKey = []struct{ statement, reason string }{
	{"k: SELECT sum(v) FROM l", "line 1, column 8: the statement is not proved to be per key: without GROUP BY, an aggregate has a result for each part: add GROUP BY k"},
	{"k: SELECT count(*) FROM l HAVING true", "without GROUP BY"},
	{"k: SELECT weighted_avg(v, w) FROM l", "without GROUP BY"},
	{"k: SELECT approx_percentile_cont(v, 0.5) FROM l", "without GROUP BY"},
	{"k: SELECT v.sum() FROM l", "without GROUP BY"},
	{"k: SELECT 1 FROM l HAVING true", "without GROUP BY"},
	{"k: SELECT * FROM (SELECT 1 FROM l ORDER BY count(*))", "without GROUP BY"},
	{"k: SELECT count(*) FROM l GROUP BY ()", "without GROUP BY"},
	{"k: SELECT v, count(*) FROM l GROUP BY v", "group by the key columns k as plain columns"},
	{"k: SELECT count(*) FROM l GROUP BY ALL", "group by the key columns k"},
	{"k,j: SELECT k, count(*) FROM l GROUP BY k", "group by the key columns j"},
	{"k: SELECT k % 2, count(*) FROM l GROUP BY ALL", "group by the key columns k"},
	{"k: SELECT k % 2 AS k, v, count(*) FROM (SELECT k AS kk, k, v FROM l) AS l GROUP BY v, 1", "group by the key columns k"},
	{"s: SELECT count(*) FROM l GROUP BY s COLLATE NOCASE", "without expressions or COLLATE"},
	{"k: SELECT v AS k, count(*) FROM (SELECT v FROM l) GROUP BY k", "group by the key columns k"},
	{"k: SELECT k, v, count(*) FROM l GROUP BY ROLLUP (k, v)", "ROLLUP"},
	{"k: SELECT k, v, count(*) FROM l GROUP BY CUBE (k, v)", "CUBE"},
	{"k: SELECT k, v, count(*) FROM l GROUP BY GROUPING SETS ((k), (v))", "GROUPING SETS"},
	{"k: SELECT DISTINCT v FROM l", "include the key columns k"},
	{"k: SELECT DISTINCT ON (q) k AS q, COLUMNS('^v$') AS q FROM l", "include the key columns k"},
	{"k: SELECT DISTINCT ON (q) k AS q, * RENAME (v AS q) FROM (SELECT k, v FROM l)", "include the key columns k"},
	{"k: SELECT k AS q, COLUMNS('^v$') AS q, count(*) OVER (PARTITION BY q) FROM l", "PARTITION BY"},
	{"k: SELECT DISTINCT * EXCLUDE (K) FROM (SELECT k, v FROM l)", "include the key columns k"},
	{"k: SELECT DISTINCT * REPLACE (1 AS k) FROM (SELECT k, v FROM l)", "include the key columns k"},
	{"k: SELECT DISTINCT * RENAME (v AS k, k AS q) FROM (SELECT v, 1 AS k FROM l)", "include the key columns k"},
	{"s: SELECT DISTINCT s COLLATE NOCASE FROM l", "DISTINCT compares"},
	{"k: SELECT count(*) FROM (SELECT DISTINCT ON (k) v AS k FROM l) GROUP BY k", "include the key columns k"},
	{"k: SELECT DISTINCT ON (v) v FROM l", "include the key columns k"},
	{"k: SELECT DISTINCT ON (k) v AS k, k AS q FROM l", "include the key columns k"},
	{"k: SELECT v, row_number() OVER () FROM l", "a window of row_number can have rows of several keys: add the key columns k to PARTITION BY"},
	{"k: SELECT v, count(*) OVER (PARTITION BY 1, v) FROM l", "PARTITION BY"},
	{"k: SELECT k, count(*) OVER (PARTITION BY 1) FROM l", "PARTITION BY"},
	{"k,j: SELECT v, count(*) OVER (PARTITION BY k) FROM l", "columns j to PARTITION BY"},
	{"s: SELECT v, count(*) OVER (PARTITION BY s COLLATE NOCASE) FROM l", "COLLATE"},
	{"k: SELECT k FROM l QUALIFY count(*) OVER (PARTITION BY v) = 1", "PARTITION BY"},
	{"k: SELECT k, sum(count(*)) OVER () FROM l GROUP BY k", "PARTITION BY"},
	{"k: SELECT count(*) OVER (PARTITION BY q) FROM (SELECT v AS k, k AS q FROM l) JOIN r USING (k)", "the join can combine rows"},
	{"k: SELECT * FROM l, r", "add equality of the key columns k as plain columns to ON or USING"},
	{"k: SELECT * FROM l CROSS JOIN r", "the join can combine rows of different keys"},
	{"k: SELECT * FROM l JOIN r ON l.v = r.v", "equality of the key columns k"},
	{"k: SELECT * FROM l LEFT JOIN r ON l.k = r.k OR l.v = r.v", "the key columns k"},
	{"k,j: SELECT * FROM l JOIN r USING (k)", "equality of the key columns j"},
	{"k,j: SELECT * FROM l JOIN r ON l.k = r.j AND l.j = r.k", "equality of the key columns k, j"},
	{"k: SELECT * FROM l ANTI JOIN r USING (v)", "the key columns k"},
	{"k: SELECT * FROM l JOIN r ON l.k <= r.k", "the key columns k"},
	{"k: SELECT * FROM l JOIN r ON l.k = r.k + 1", "the key columns k"},
	{"k: SELECT * FROM l JOIN m USING (k)", "the key columns k or x"},
	{"s: SELECT * FROM l JOIN r ON l.s = r.s COLLATE NOCASE", "the key columns s"},
	{"k: SELECT * FROM l LEFT JOIN r ON l.v = r.v WHERE l.k = r.k OR r.k IS NULL", "the key columns k"},
	{"k: SELECT * FROM l LEFT JOIN r ON l.w = r.w WHERE l.k IS NOT DISTINCT FROM r.k", "the key columns k"},
	{"k: SELECT * FROM l NATURAL JOIN (SELECT v FROM r)", "the key columns k"},
	{"k: SELECT * FROM l ASOF JOIN r ON l.v = r.v AND l.ts >= r.ts", "the key columns k"},
	{"k: SELECT * FROM l ASOF JOIN r USING (v, k)", "the key columns k"},
	{"k: SELECT * FROM l ASOF JOIN r USING (v, k, V)", "the key columns k"},
	{"k: SELECT * FROM l ASOF JOIN r USING (k, k)", "the key columns k"},
	{"k: SELECT l.v, r.v FROM l ASOF JOIN r ON l.v = r.v AND l.ts >= r.ts WHERE l.k = r.k", "the key columns k"},
	{"k: SELECT * FROM l ASOF LEFT JOIN r ON l.k = r.k AND l.s IS NOT DISTINCT FROM r.s AND l.ts >= r.ts", "IS DISTINCT FROM is not proved in an ASOF join"},
	{"k: SELECT l, r.v FROM l ASOF JOIN r USING (k, j, ts)", "a whole row, as l, is not proved together with USING"},
	{"k: SELECT l.v, COLUMNS('^u') FROM l ASOF JOIN r USING (k, j, ts)", "leave out infinite constants, COLUMNS"},
	{"k: SELECT l.v, r.v FROM l ASOF JOIN (r JOIN (SELECT 1 AS one) AS o ON r.v >= one) USING (k, j, ts)", "a join is not proved together with USING"},
	{"k: SELECT l.v, r.v FROM (SELECT x FROM m) AS m LEFT JOIN l ON l.k = x ASOF LEFT JOIN r USING (s, k, ts)", "a join is not proved together with USING"},
	{"k: SELECT l.v, r.v FROM l ASOF JOIN r ON l.k = r.k AND l.j = r.j AND l.ts >= r.ts CROSS JOIN (range(2) AS a(v) RIGHT JOIN range(3) AS b(v) USING (v))", "joins in parentheses"},
	{"k: SELECT * FROM l POSITIONAL JOIN r", "a POSITIONAL INNER join is not proved"},
	{"k: SELECT l.k, count(*) FROM l RIGHT JOIN r USING (k) GROUP BY l.k", "group by the key columns k"},
	{"k: SELECT r.k, count(*) FROM l LEFT JOIN r USING (k) GROUP BY r.k", "group by the key columns k"},
	{"k: SELECT l.k, count(*) FROM l FULL JOIN r USING (k) GROUP BY l.k", "group by the key columns k"},
	{"k: SELECT q, count(*) FROM (SELECT k, k AS q FROM l) FULL JOIN (SELECT x AS k, v AS q FROM m) USING (k, q) GROUP BY q", "group by the key columns k"},
	{"k: SELECT q, count(*) FROM (SELECT k, k AS q FROM l) RIGHT JOIN (SELECT x AS k, v AS q FROM m) USING (k, q) GROUP BY q", "group by the key columns k"},
	{"k: SELECT k, count(*) FROM (SELECT unnest({'k': v}), k FROM l) GROUP BY k", "group by the key columns k"},
	{"k: SELECT k, count(*) FROM (SELECT l.* FROM l FULL JOIN r USING (k)) GROUP BY k", "group by the key columns k"},
	{"k: SELECT k, count(*) FROM (SELECT r.k, l.k FROM l LEFT JOIN r ON l.k = r.k) GROUP BY k", "group by the key columns k"},
	{"k: SELECT k, count(*) FROM l RIGHT JOIN range(3) AS n(k) USING (k) GROUP BY ALL", "the side that reads no input would have results in each part"},
	{"k: SELECT * FROM range(3) AS n(k) LEFT JOIN l USING (k)", "the side that reads no input"},
	{"k: SELECT * FROM range(3) AS n(k) ANTI JOIN l USING (k)", "the side that reads no input"},
	{"k: SELECT * FROM range(9) AS n(t) ASOF JOIN l ON n.t >= l.ts", "the side that reads no input"},
	{"k: SELECT max(k) FROM l GROUP BY 0.1", "group by the key columns k"},
	{"k: SELECT v, (SELECT max(v) FROM l) FROM l", "a subquery in an expression"},
	{"k: SELECT (SELECT sum(v)) FROM l", "a subquery in an expression"},
	{"k: SELECT * FROM l WHERE v IN (SELECT v FROM r)", "SEMI JOIN"},
	{"k: SELECT * FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE r.v = l.v)", "SEMI JOIN"},
	{"k: SELECT * FROM l, (SELECT max(v) FROM r WHERE r.v > l.v)", "without GROUP BY"},
	{"k: SELECT * FROM l, LATERAL (SELECT * FROM r WHERE r.v = l.v)", "the join can combine"},
	{"k: SELECT k, count(*) FROM l, LATERAL (SELECT l.k AS q, v FROM r WHERE r.v = l.v) WHERE k = q GROUP BY k", "the join can combine"},
	{"k: WITH RECURSIVE n AS (SELECT v FROM l UNION SELECT l.v + 1 FROM n JOIN l ON n.v = l.k) SELECT * FROM n", "a query of type RECURSIVE_CTE_NODE is not proved"},
	{"k: SELECT v FROM l LIMIT 1", "LIMIT and OFFSET would apply to each part: leave them out, or limit the rows of each key with QUALIFY row_number() OVER (PARTITION BY k ORDER BY …) <= n"},
	{"k: SELECT v FROM l OFFSET 1", "LIMIT and OFFSET"},
	{"k: SELECT * FROM (SELECT v FROM l ORDER BY ALL LIMIT 50%)", "LIMIT and OFFSET"},
	{"k: SELECT v FROM l USING SAMPLE 2 ROWS", "SAMPLE"},
	{"k: SELECT v FROM l TABLESAMPLE reservoir(2 ROWS)", "SAMPLE"},
	{"k: SELECT rowid FROM l", "rowid is not a column of the inputs, and can differ between the parts"},
	{"k: SELECT l.rowid FROM l", "rowid"},
	{"k: SELECT v, random() FROM l", "the result of random() can differ between the parts"},
	{"k: SELECT v, uuid() FROM l", "uuid()"},
	{"k: SELECT now() FROM l", "now()"},
	{"k: SELECT current_timestamp FROM l", "current_timestamp"},
	{"k: SELECT ago(INTERVAL 1 DAY) FROM l", "ago()"},
	{"k: SELECT v FROM l ORDER BY v", "use --sort-by"},
	{"k: SELECT v, w FROM l UNION ALL SELECT v, u FROM r ORDER BY 1, 2", "use --sort-by"},
	{"k: SELECT v FROM l UNION SELECT v FROM r", "UNION compares rows of different keys"},
	{"k: SELECT k, v FROM l UNION SELECT v, k FROM r", "UNION compares rows of different keys"},
	{"k: SELECT v FROM l EXCEPT SELECT v FROM r", "EXCEPT compares"},
	{"k: SELECT v FROM l INTERSECT ALL SELECT v FROM r", "INTERSECT compares"},
	{"k: SELECT k, v FROM l UNION BY NAME SELECT k AS v, v AS k FROM r", "compares"},
	{"k: SELECT v FROM l UNION ALL SELECT 1", "each part would have the rows of this SELECT, which reads no input"},
	{"k: SELECT k, count(*) FROM (SELECT k, v FROM l UNION ALL SELECT v, k FROM r) GROUP BY k", "group by the key columns k"},
	{"k: FROM (SELECT v, w FROM l) PIVOT (count(*) FOR v IN (1, 2))", "PIVOT"},
	{"k: SUMMARIZE SELECT k, v FROM l", "SHOW_REF after FROM is not proved"},
	{"k: SELECT #1, count(*) FROM (SELECT v, k FROM l) GROUP BY ALL", "write its name"},
	{"k: SELECT max(v) FROM l, unnest(tags) AS u(v2)", "without GROUP BY"},
	{"k: SELECT k, count(*) FROM (SELECT COLUMNS('v'), k AS q, v AS k FROM (SELECT k, v FROM l)) GROUP BY k", "group by the key columns k"},
	{`k: SELECT "1", count(*) FROM (SELECT 1, "1" FROM (SELECT k AS "1" FROM l)) GROUP BY "1"`, "group by the key columns k"},
	{"k: SELECT k_1, count(*) FROM (SELECT 1 AS k, v AS k, k AS k_1 FROM l) GROUP BY k_1", "group by the key columns k"},
}

// TestPerKeyColumns checks the columns that PerKey returns, also with a refusal, and that a process returns the same
// columns and error.
func TestPerKeyColumns(t *testing.T) {
	inputs := []KeyedInput{{Name: "L", Columns: []string{"K", "v", "w"}, By: []string{"k"}}, {Name: "r", Columns: []string{"s", "b", "Ä"}, By: []string{"s"}}}
	for _, c := range []struct {
		sql      string
		inputs   []KeyedInput
		want     string
		refusal  string // "" if the statement is per key
		isBroken bool   // whether DuckDB cannot parse the statement
	}{
		{sql: "SELECT V, b FROM l JOIN r ON k = s", inputs: inputs, want: "[[K v] [s b]]"},
		{sql: "SELECT v FROM l SEMI JOIN r ON k = s WHERE v.abs() > 0", inputs: inputs, want: "[[K v] [s]]"},
		{sql: "SELECT ä FROM r", inputs: inputs[1:], want: "[[s Ä]]"},
		{sql: "SELECT * FROM l JOIN r ON k = s", inputs: inputs, want: "[[] []]"},
		{sql: "SELECT l FROM l", inputs: inputs[:1], want: "[[]]"},
		{sql: "SELECT\nmax(w) FROM l", inputs: inputs[:1], want: "[[K w]]", refusal: "line 2, column 1: the statement is not proved to be per key: without GROUP BY"},
		{sql: "SELECT v FROM l", inputs: inputs, want: "[[K v] [s]]", refusal: `does not use the input "r"`},
		{sql: "SELECT v FROM l, other", inputs: inputs[:1], want: "[[K v]]", refusal: `the table "other" is no input`},
		{sql: "SELECT v FROM main.l", inputs: inputs[:1], want: "[[K v]]", refusal: `the table "l" is no input`},
		{sql: "SELECT v FROM l WHERE v = $1", inputs: inputs[:1], want: "[[K v]]", refusal: "write the value into the statement"},
		{sql: "EXPLAIN SELECT v FROM l", inputs: inputs[:1], want: "[[K v]]", refusal: "EXPLAIN shows"},
		{sql: "SELECT nothing(v) FROM l", inputs: inputs[:1], want: "[[K v]]", refusal: "nothing()"},
		{sql: "SELECT v FROM l", inputs: []KeyedInput{{Name: "l", Columns: []string{"v", "V"}, By: []string{"v"}}}, want: "[[v V]]", refusal: "differ only in case"},
		{sql: "SELECT v FROM l", inputs: []KeyedInput{inputs[0], {Name: "l", Columns: []string{"k"}}}, want: "[[K v] []]", refusal: "has 0 key columns"},
		{sql: "SELECT k FROM l ASOF RIGHT JOIN r ON k = s AND v >= b", inputs: inputs, want: "[[K v] [s b]]", refusal: "ASOF RIGHT join is not proved"},
		{sql: "SELECT k FROM l ASOF JOIN r ON k = s AND v >= b WHERE v < 1e400", inputs: inputs, want: "[[K v] [s b]]", refusal: "leave out infinite constants"},
		{sql: "SELECT k FROM l ASOF JOIN r ON k = s AND v >= b WHERE v < 1e9", inputs: inputs, want: "[[K v] [s b]]", refusal: "write numbers with an exponent as '1e9'::DOUBLE"},
		{sql: "SELECT v FROM", isBroken: true},
	} {
		d := openDatabase(t, 64<<20)
		_, columns, err := d.PerKey(c.sql, c.inputs)
		if got := fmt.Sprint(columns); !c.isBroken && got != c.want {
			t.Errorf("%s: got the columns %s, want %s", c.sql, got, c.want)
		}
		isRefused := errors.Is(err, sqltext.ErrNotPerKey)
		if (err != nil) != (c.refusal != "" || c.isBroken) || isRefused != (c.refusal != "") || isRefused && !strings.Contains(err.Error(), c.refusal) {
			t.Errorf("%s: got the error %v, want %q", c.sql, err, c.refusal)
		}
	}
}
