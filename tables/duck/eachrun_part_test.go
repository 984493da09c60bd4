//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/duck"
)

// eachStatements are statements over the inputs l and r whose keys are (a, b) and (c, d). Each gives one result only,
// whatever the order of the rows.
var eachStatements = []string{
	"SELECT a, b, count(*), sum(n), min(s), list(s ORDER BY n, s) FROM l GROUP BY a, b",
	"SELECT b, a, quantile_disc(x, 0.5), count(DISTINCT s), max(t) FROM l GROUP BY b, a HAVING count(*) > 1",
	"SELECT l.*, r.w FROM l JOIN r ON a = c AND b = d",
	"SELECT l.n, r.* FROM l LEFT JOIN r ON b = d AND l.a = r.c",
	"SELECT l.n, r.w FROM l RIGHT JOIN r ON a = c AND b = d",
	"SELECT l.n, r.w FROM l FULL JOIN r ON a = c AND b = d",
	"SELECT * FROM l SEMI JOIN r ON a = c AND b = d",
	"SELECT * FROM l ANTI JOIN r ON a = c AND b = d",
	"SELECT l.n, min(l.t), max(r.w) FROM l JOIN r ON a = c AND b = d AND l.t < r.seen GROUP BY l.n, a, b",
	"SELECT * FROM l SEMI JOIN r ON a = c AND b IS NOT DISTINCT FROM d AND l.t <> r.seen",
	"SELECT r.w, c, d, count(*), bool_or(seen IS NULL) FROM r JOIN (SELECT DISTINCT a, b FROM l) AS l ON a = c AND b IS NOT DISTINCT FROM d GROUP BY ALL",
	"SELECT a, b, max(x, 3), min(t, 2), arg_max(n, n), list(x ORDER BY x DESC NULLS LAST)[1:3] FROM l WHERE x IS NULL OR x::VARCHAR NOT IN ('0.0', '0.25', 'nan', '1.0', '2.0', '3.0', '4.0') GROUP BY ALL",
	"SELECT n, first_value(x) OVER w, lag(n, 2) OVER w, count(x) OVER (PARTITION BY a, b ORDER BY x ROWS UNBOUNDED PRECEDING), rank() OVER (PARTITION BY a, b ORDER BY t DESC) FROM l WINDOW w AS (PARTITION BY a, b ORDER BY x, n)",
	"SELECT r.c, d, w FROM r EXCEPT ALL SELECT a, b, 1 FROM l WHERE n % 2 = 0",
	"SELECT a, b, n, row_number() OVER (PARTITION BY a, b ORDER BY n, s), sum(n) OVER (PARTITION BY b, a) FROM l",
	"SELECT n, lag(n) OVER w FROM l WINDOW w AS (PARTITION BY a, b ORDER BY n)",
	"SELECT DISTINCT a, b, s FROM l",
	"SELECT a, b, n FROM l WHERE s LIKE 's1%' AND n % 3 = 0",
	"SELECT a, b, s FROM l UNION ALL SELECT r.c, r.d, 'r' || r.w FROM r",
	"WITH sums AS (SELECT r.c, r.d, sum(w) AS w FROM r GROUP BY r.c, r.d) SELECT l.n, sums.w FROM l JOIN sums ON a = c AND b = d",
}

// eachAsOf has ASOF joins, each with a statement that has the same rows.
var eachAsOf = [][2]string{
	{
		"SELECT l.n, r.seen FROM l ASOF JOIN r ON a = c AND b = d AND l.t >= r.seen",
		"SELECT l.n, max(r.seen) FROM l JOIN r ON a = c AND b = d AND l.t >= r.seen GROUP BY l.n, a, b",
	}, {
		"SELECT l.n, r.seen FROM l ASOF LEFT JOIN r ON l.t < r.seen AND b = d AND a = c",
		"SELECT l.n, min(r.seen) FROM l LEFT JOIN r ON a = c AND b = d AND l.t < r.seen GROUP BY l.n, a, b",
	}, {
		"SELECT l.n, r.seen FROM l ASOF LEFT JOIN (SELECT c AS a, d AS b, seen AS t, seen FROM r) AS r USING (b, a, t)",
		"SELECT l.n, max(r.seen) FROM l LEFT JOIN r ON a = c AND b = d AND l.t >= r.seen GROUP BY l.n, a, b",
	},
}

// eachInputs returns rows of l and r with rounds of random keys, among them nulls, NaN, -0 and a frequent key.
func eachInputs(random *rand.Rand) (l, r arrow.RecordBatch) {
	timestamp := arrow.FixedWidthTypes.Timestamp_us
	isValid := func() []bool { return []bool{random.IntN(8) > 0} }
	build := func(key, other string, keyType arrow.DataType, fields ...arrow.Field) arrow.RecordBatch {
		columns := append([]arrow.Field{{Name: key, Type: keyType, Nullable: true}, {Name: other, Type: arrow.PrimitiveTypes.Float64, Nullable: true}}, fields...)
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(columns, nil))
		defer b.Release()
		keys := 1 + random.IntN(40)
		for n := range random.IntN([]int{20, 300, 2000}[random.IntN(3)]) { // DuckDB has other plans for 64 rows and more
			k, text := min(random.IntN(keys), random.IntN(keys)), ""
			if k > 0 {
				text = strconv.Itoa(k % 7)
			}
			for i, f := range columns {
				switch f.Name {
				case key:
					if text == "" {
						b.Field(i).AppendNull()
					} else if err := b.Field(i).AppendValueFromString(text); err != nil {
						panic(err)
					}
				case other:
					value := []float64{0, math.NaN(), 1, math.Copysign(0, -1), 2}[k%5]
					b.Field(i).(*array.Float64Builder).AppendValues([]float64{value}, []bool{k%11 != 0})
				case "n":
					b.Field(i).(*array.Int64Builder).Append(int64(n))
				case "w":
					b.Field(i).(*array.Int16Builder).AppendValues([]int16{int16(random.IntN(3))}, isValid())
				case "x":
					value := []float32{float32(random.IntN(50)) / 4, float32(math.NaN()), float32(math.Copysign(0, -1)), 0}[max(0, random.IntN(9)-5)]
					b.Field(i).(*array.Float32Builder).AppendValues([]float32{value}, isValid())
				case "s":
					b.Field(i).(*array.StringBuilder).AppendValues([]string{"s" + strconv.Itoa(random.IntN(30))}, isValid())
				default:
					b.Field(i).(*array.TimestampBuilder).AppendValues([]arrow.Timestamp{arrow.Timestamp(random.IntN(1000)) * 1e9}, isValid())
				}
			}
		}
		return b.NewRecordBatch()
	}
	l = build("a", "b", arrow.PrimitiveTypes.Int32, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64}, arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float32},
		arrow.Field{Name: "s", Type: arrow.BinaryTypes.String}, arrow.Field{Name: "t", Type: timestamp})
	r = build("c", "d", arrow.PrimitiveTypes.Uint8, arrow.Field{Name: "w", Type: arrow.PrimitiveTypes.Int16}, arrow.Field{Name: "seen", Type: timestamp})
	return l, r
}

// eachRows returns the sorted rows of all results of a statement, and the number of results.
func eachRows(ctx context.Context, t *testing.T, sql string, inputs map[string]arrow.RecordBatch, by map[string][]string, o *duck.EachOptions) (rows []string, parts int, err error) {
	t.Helper()
	var in []duck.EachInput
	for _, name := range []string{"l", "r"} {
		if inputs[name] == nil || name == "r" && !strings.Contains(sql, "r.") && !strings.Contains(sql, "JOIN r") {
			continue
		}
		r := must.Get(array.NewRecordReader(inputs[name].Schema(), []arrow.RecordBatch{inputs[name]}))(t)
		defer r.Release()
		in = append(in, duck.EachInput{Name: name, Rows: r, By: by[name]})
	}
	for r, err := range duck.Each(ctx, sql, in, o) {
		if err != nil {
			return nil, parts, err
		}
		parts++
		for r.Next() {
			rows = append(rows, textsOf(r.RecordBatch())...)
		}
		if err := r.Err(); err != nil {
			return nil, parts, err
		}
	}
	slices.Sort(rows)
	return rows, parts, nil
}

// textsOf returns a text for each row of a batch.
func textsOf(b arrow.RecordBatch) []string {
	texts := make([]string, b.NumRows())
	for row := range texts {
		var values []string
		for _, c := range b.Columns() {
			value := c.ValueStr(row)
			if value == "-0" { // DuckDB can choose either zero
				value = "0"
			}
			values = append(values, value)
		}
		texts[row] = strings.Join(values, "|")
	}
	return texts
}

var eachKeys = map[string][]string{"l": {"a", "b"}, "r": {"c", "d"}}

// TestEachRandom compares the results of statements with those over all rows at once. EACH_ROUNDS and EACH_SEED choose
// how many rounds to run, and where to begin.
func TestEachRandom(t *testing.T) {
	rounds, seed := 1, uint64(1)
	if text := os.Getenv("EACH_ROUNDS"); text != "" {
		rounds, _ = strconv.Atoi(text)
	}
	if text := os.Getenv("EACH_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	several := 0
	for round := range rounds {
		random := rand.New(rand.NewPCG(seed+uint64(round), 0))
		l, r := eachInputs(random)
		inputs := map[string]arrow.RecordBatch{"l": l, "r": r}
		statements := slices.Clone(eachAsOf)
		for _, sql := range eachStatements {
			statements = append(statements, [2]string{sql, sql})
		}
		for _, statement := range statements {
			sql := statement[0]
			want, _, err := eachRows(t.Context(), t, statement[1], inputs, eachKeys, &duck.EachOptions{Parts: 1, Trust: true, Temp: t.TempDir()})
			if err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			for _, by := range []map[string][]string{eachKeys, nil} {
				got, parts, err := eachRows(t.Context(), t, sql, inputs, by, &duck.EachOptions{Parts: 1 + random.IntN(9), Temp: t.TempDir()})
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("seed %d, keys %v, %d parts, %s: %d rows, error %v, want the %d rows of one statement", seed+uint64(round), by, parts, sql, len(got), err, len(want))
				}
				if parts > 1 {
					several++
				}
			}
		}
	}
	if several == 0 {
		t.Error("no statement ran in several parts")
	}
}

// TestEachAsOf checks that NULL matches nothing in ASOF joins of many and of few rows, whatever the number of parts.
func TestEachAsOf(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	l, r := eachInputs(random)
	for l.NumRows() < 500 || r.NumRows() < 200 {
		l, r = eachInputs(random)
	}
	inputs := map[string]arrow.RecordBatch{"l": l, "r": r}
	for _, statement := range eachAsOf {
		want, _, err := eachRows(t.Context(), t, statement[1], inputs, eachKeys, &duck.EachOptions{Parts: 1, Trust: true, Temp: t.TempDir()})
		must.Do(t, err)
		for _, parts := range []int{1, 4} {
			got, _, err := eachRows(t.Context(), t, statement[0], inputs, eachKeys, &duck.EachOptions{Parts: parts, Temp: t.TempDir()})
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%d parts, %s: %d rows, error %v, want the %d rows of %s", parts, statement[0], len(got), err, len(want), statement[1])
			}
		}
		got, _, err := eachRows(t.Context(), t, statement[0], inputs, eachKeys, &duck.EachOptions{Parts: 1, Trust: true, Temp: t.TempDir()})
		if err != nil || slices.Equal(got, want) {
			t.Errorf("with Trust, %s: %d rows, error %v, want other rows, because DuckDB runs the statement as it is written", statement[0], len(got), err)
		}
	}
}

func TestEachRefuses(t *testing.T) {
	l, r := eachInputs(rand.New(rand.NewPCG(1, 1)))
	inputs := map[string]arrow.RecordBatch{"l": l, "r": r}
	for sql, want := range map[string]string{
		"SELECT count(r.w) FROM l, r WHERE a = c AND b = d":    "",
		"SELECT a, count(*) FROM l JOIN r ON b = d GROUP BY a": "",
		"SELECT * FROM l ORDER BY a":                           "--sort-by",
		"SELECT * FROM nowhere":                                "input",
	} {
		for _, by := range []map[string][]string{eachKeys, nil} {
			_, _, err := eachRows(t.Context(), t, sql, inputs, by, &duck.EachOptions{Temp: t.TempDir()})
			if !errors.Is(err, duck.ErrNotPerKey) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, keys %v: error %v, want ErrNotPerKey with %q", sql, by, err, want)
			}
		}
	}
	counts, parts, err := eachRows(t.Context(), t, "SELECT count(*) FROM l", inputs, eachKeys, &duck.EachOptions{Parts: 4, Trust: true, Temp: t.TempDir()})
	if err != nil || len(counts) != parts || parts < 2 {
		t.Errorf("a count with Trust: %d rows from %d parts, error %v, want a row for each part", len(counts), parts, err)
	}
}

// TestEachResultError ends the loop at the error of a result, after which Each must not yield.
func TestEachResultError(t *testing.T) {
	l, _ := eachInputs(rand.New(rand.NewPCG(1, 1)))
	inputs := map[string]arrow.RecordBatch{"l": l}
	rows, parts, err := eachRows(t.Context(), t, "SELECT CASE WHEN n % 5 = 4 THEN error('late') ELSE n END AS n FROM l", inputs, eachKeys, &duck.EachOptions{Parts: 3, Temp: t.TempDir()})
	must.Fail(t, err, "late", "%d rows from %d parts", len(rows), parts)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := must.Get(array.NewRecordReader(l.Schema(), []arrow.RecordBatch{l}))(t)
	defer r.Release()
	n := 0
	for _, err := range duck.Each(ctx, "SELECT * FROM l", []duck.EachInput{{Name: "l", Rows: r, By: []string{"a"}}}, &duck.EachOptions{Parts: 50, Temp: t.TempDir()}) {
		n++
		cancel()
		if err != nil && (!errors.Is(err, context.Canceled) || n != 2) {
			t.Errorf("after a cancellation: result %d, error %v", n, err)
		}
	}
	if n != 2 {
		t.Errorf("after a cancellation, there were %d results, want one and an error", n)
	}
}

// TestEachEmpty runs a statement over inputs without rows, which gives the columns.
func TestEachEmpty(t *testing.T) {
	l, r := eachInputs(rand.New(rand.NewPCG(1, 1)))
	inputs := map[string]arrow.RecordBatch{"l": l.NewSlice(0, 0), "r": r.NewSlice(0, 0)}
	rows, parts, err := eachRows(t.Context(), t, eachStatements[2], inputs, eachKeys, &duck.EachOptions{Temp: t.TempDir()})
	if err != nil || parts != 1 || len(rows) != 0 {
		t.Errorf("empty inputs: %d rows from %d parts, error %v, want one part without rows", len(rows), parts, err)
	}
}

// TestEachLargeKey runs statements over a thousand small keys and a key with more rows than fit in memory: a filter needs none
// of them, and a list fails with the key.
func TestEachLargeKey(t *testing.T) {
	const n, size = 60_000, 2 << 10 // DuckDB holds 2,048 rows of a column at once
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.BinaryTypes.String}, {Name: "text", Type: arrow.BinaryTypes.String}, {Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil))
	for i := range n {
		key := "hot"
		if i%60 == 0 {
			key = strconv.Itoa(i)
		}
		b.Field(0).(*array.StringBuilder).Append(key)
		b.Field(1).(*array.StringBuilder).Append(strings.Repeat(strconv.Itoa(i), size/len(strconv.Itoa(i))))
		b.Field(2).(*array.Int64Builder).Append(int64(i))
	}
	inputs := map[string]arrow.RecordBatch{"l": b.NewRecordBatch()}
	keys := map[string][]string{"l": {"k"}}
	o := &duck.EachOptions{Memory: 64 << 20, Temp: t.TempDir()}
	_, _, err := eachRows(t.Context(), t, "SELECT k, list(text) FROM l GROUP BY k", inputs, keys, o)
	if want := fmt.Sprint("k=hot are too large: ", n-n/60, " rows"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a list: error %v, want the key and %q", err, want)
	}
	rows, _, err := eachRows(t.Context(), t, "SELECT k, n, length(text) FROM l WHERE n % 2 = 0", inputs, keys, o)
	if err != nil || len(rows) != n/2 {
		t.Errorf("a filter: %d rows, error %v, want %d", len(rows), err, n/2)
	}
	if left, err := os.ReadDir(o.Temp); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, error %v", left, err)
	}
}
