//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/duck"
)

const (
	manyKeys   = 10_000
	rowsPerKey = 100
)

// textOfKey returns the text of a key's n-th row. Each text occurs twice.
func textOfKey(key, n int) string { return fmt.Sprintf("text %d of %d", n%(rowsPerKey/2), key) }

// manyRows returns a million rows. The n-th row of a key has the id -n, so that the ids fall.
func manyRows(t *testing.T) array.RecordReader {
	columns := arrow.NewSchema([]arrow.Field{{Name: "key", Type: arrow.PrimitiveTypes.Int32}, {Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "text", Type: arrow.BinaryTypes.String}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	return array.ReaderFromIter(columns, func(yield func(arrow.RecordBatch, error) bool) {
		defer b.Release()
		for n := range rowsPerKey {
			for key := range manyKeys {
				b.Field(0).(*array.Int32Builder).Append(int32(key))
				b.Field(1).(*array.Int64Builder).Append(int64(-n))
				b.Field(2).(*array.StringBuilder).Append(textOfKey(key, n))
			}
			if !yield(b.NewRecordBatch(), nil) {
				return
			}
		}
	})
}

// TestEachDivides runs aggregates that need many times as much memory as their rows over a million rows.
func TestEachDivides(t *testing.T) {
	texts := func(key int) (texts []string) {
		for n := range rowsPerKey {
			texts = append(texts, textOfKey(key, n))
		}
		return texts
	}
	backwards := func(key int) string {
		all := texts(key)
		slices.Reverse(all)
		return strings.Join(all, ",")
	}
	for _, c := range []struct {
		columns string
		want    func(key int) string
	}{
		{"array_to_string(list(text ORDER BY id), ',')", backwards},
		{"array_to_string(list(text ORDER BY id), ',') || count(*) || median(id)", func(key int) string { return backwards(key) + "100-49.5" }},
		{"string_agg(text, ',' ORDER BY id DESC)", func(key int) string { return strings.Join(texts(key), ",") }},
		{"array_to_string(list_sort(list(DISTINCT text)), ',')", func(key int) string {
			all := texts(key)[:rowsPerKey/2]
			slices.Sort(all)
			return strings.Join(all, ",")
		}},
	} {
		for _, limit := range []int64{64 << 20, 256 << 20} {
			t.Run(fmt.Sprintf("%s/%dMiB", c.columns, limit>>20), func(t *testing.T) {
				t.Parallel()
				o := &duck.EachOptions{Memory: limit, Temp: t.TempDir()}
				hasKey, keys := make([]bool, manyKeys), 0
				for r, err := range duck.Each(t.Context(), "SELECT key, "+c.columns+" AS text FROM rows GROUP BY key", []duck.EachInput{{Name: "rows", Rows: manyRows(t), By: []string{"key"}}}, o) {
					must.Do(t, err)
					for r.Next() {
						for row, key := range r.RecordBatch().Column(0).(*array.Int32).Int32Values() {
							if got, want := r.RecordBatch().Column(1).ValueStr(row), c.want(int(key)); got != want || hasKey[key] {
								t.Fatalf("key %d: %s, want %s, and each key once", key, got, want)
							}
							hasKey[key] = true
							keys++
						}
					}
					must.Do(t, r.Err())
				}
				if keys != manyKeys {
					t.Errorf("the results have %d keys, want %d", keys, manyKeys)
				}
				checkNoFiles(t, o.Temp)
			})
		}
	}
}

// TestEachWaits checks that a part's rows wait until all are there, because the part could still have to be divided. The
// rows of a part that cannot be divided do not wait.
func TestEachWaits(t *testing.T) {
	for parts, want := range map[int]int{0: 0, 1: 1} {
		o := &duck.EachOptions{Parts: parts, Temp: t.TempDir()}
		const sql = "SELECT key, CASE WHEN key = 5000 AND id = -50 THEN error('late') END AS e FROM rows"
		results := 0
		for r, err := range duck.Each(t.Context(), sql, []duck.EachInput{{Name: "rows", Rows: manyRows(t), By: []string{"key"}}}, o) {
			if err == nil {
				results++
				for r.Next() {
				}
				err = r.Err()
			}
			if err != nil && !strings.HasSuffix(err.Error(), "late") {
				t.Errorf("%d parts: error %v, want late", parts, err)
			}
		}
		if results != want {
			t.Errorf("%d parts: %d results, want %d", parts, results, want)
		}
		checkNoFiles(t, o.Temp)
	}
}

// TestEachWaitsTypes checks that rows that wait have the same columns and values as rows that do not.
func TestEachWaitsTypes(t *testing.T) {
	const sql = `SELECT n, s, a, CASE WHEN n % 3 > 0 THEN s::BLOB END AS blob, ('e' || n % 2)::ENUM ('e0', 'e1') AS enum, {'a': n, 'b': [s]} AS struct,
		MAP {s: n} AS map, to_days(n::INTEGER) + to_months(3) AS interval, n::DECIMAL(30, 2) AS decimal, md5(s)::UUID AS uuid, n::HUGEINT AS huge,
		CASE WHEN n % 2 = 0 THEN union_value(n := n) ELSE union_value(n := NULL::BIGINT) END AS u, t, t::TIMESTAMP_NS AS ns, t::TIMESTAMP::TIME AS time, [n, n]::BIGINT[2] AS pair,
		NULL AS nothing, ['e1', NULL]::ENUM ('e0', 'e1')[] AS enums FROM l`
	l, _ := eachInputs(rand.New(rand.NewPCG(1, 1)))
	var rows [2][]string
	var columns [2]*arrow.Schema
	for parts := range rows {
		r := must.Get(array.NewRecordReader(l.Schema(), []arrow.RecordBatch{l}))(t)
		defer r.Release()
		for r, err := range duck.Each(t.Context(), sql, []duck.EachInput{{Name: "l", Rows: r, By: []string{"n"}}}, &duck.EachOptions{Parts: parts, Temp: t.TempDir()}) {
			must.Do(t, err)
			columns[parts] = r.Schema()
			for r.Next() {
				if !r.RecordBatch().Schema().Equal(r.Schema()) {
					t.Errorf("a batch has the columns %v, want %v", r.RecordBatch().Schema(), r.Schema())
				}
				rows[parts] = append(rows[parts], textsOf(r.RecordBatch())...)
			}
			must.Do(t, r.Err())
		}
		slices.Sort(rows[parts])
	}
	if !columns[0].Equal(columns[1]) || !slices.Equal(rows[0], rows[1]) || len(rows[0]) != int(l.NumRows()) {
		t.Errorf("%d rows %v, want %d rows %v", len(rows[0]), columns[0], len(rows[1]), columns[1])
	}
}

// TestEachDividesCanceled cancels Each after the first result of a part that was divided.
func TestEachDividesCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := &duck.EachOptions{Memory: 64 << 20, Temp: t.TempDir()}
	results := 0
	for _, err := range duck.Each(ctx, "SELECT key, list(text ORDER BY id) FROM rows GROUP BY key", []duck.EachInput{{Name: "rows", Rows: manyRows(t), By: []string{"key"}}}, o) {
		results++
		cancel()
		if results == 2 && !errors.Is(err, context.Canceled) || results > 2 {
			t.Errorf("result %d: error %v, want one result and the cancellation", results, err)
		}
	}
	if results != 2 {
		t.Errorf("%d results, want one and an error", results)
	}
	checkNoFiles(t, o.Temp)
}

// TestEachFixedParts checks that a part is not divided if the number of parts is given, and that the error says so.
func TestEachFixedParts(t *testing.T) {
	o := &duck.EachOptions{Memory: 64 << 20, Parts: 1, Temp: t.TempDir()}
	for _, err := range duck.Each(t.Context(), "SELECT key, list(text ORDER BY id) FROM rows GROUP BY key", []duck.EachInput{{Name: "rows", Rows: manyRows(t), By: []string{"key"}}}, o) {
		must.Fail(t, err, "a part is too large, with 1000000 rows", "one part")
	}
	checkNoFiles(t, o.Temp)
}

func checkNoFiles(t *testing.T, dir string) {
	t.Helper()
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("temporary files are left: %v, error %v", files, err)
	}
}
