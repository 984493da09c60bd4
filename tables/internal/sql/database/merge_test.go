//go:build cgo

package database

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/util"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestMergedChunks checks that a worker's results with small chunks have the same rows in fewer batches, and that large
// texts, nested values and many columns are not merged.
func TestMergedChunks(t *testing.T) {
	d := openDatabase(t, 512<<20)
	file := filepath.Join(t.TempDir(), "rows.parquet")
	must.Do(t, d.execute("COPY (SELECT range AS a, range % 3000 AS b, CASE WHEN range % 2 = 0 THEN 'text number ' || range END AS c FROM range(1000000)) TO '"+file+"'"))
	// read returns the rows as text, and the number of batches.
	read := func(columns string, merges bool) (rows []string, batches int) {
		d.mergesChunks = merges
		r := must.Get(d.Start(context.Background(), &Job{Memory: 512 << 20, Paths: []string{file}, SQL: "SELECT " + columns + " FROM read_parquet('" + file + "') WHERE b = 7"}))(t)
		defer d.Finish()
		defer r.End()
		for {
			b := must.Get(r.Next())(t)
			if b == nil {
				return rows, batches
			}
			if size := util.TotalRecordSize(b); b.NumRows() > 1 && size > 1<<20 {
				t.Errorf("%s: a merged batch has %d bytes, want at most 1 MiB", columns, size)
			}
			for i := range int(b.NumRows()) {
				var row []string
				for _, c := range b.Columns() {
					row = append(row, c.ValueStr(i))
				}
				rows = append(rows, strings.Join(row, ","))
			}
			batches++
			b.Release()
		}
	}
	wide := "a" + strings.Repeat(", a", maxMergedCols)
	for columns, maxBatches := range map[string]int{wide: 334, "a, c, b::SMALLINT, a::HUGEINT": 1, "a, [c] AS l": 334, "repeat('x', 60000) || a AS d, a": 84} {
		want, single := read(columns, false)
		got, merged := read(columns, true)
		if len(want) != 333 && len(want) != 334 || single < len(want)/2 {
			t.Fatalf("%s: the test is useless: %d rows in %d batches", columns, len(want), single)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: merged rows = %v, want %v", columns, got, want)
		}
		if merged > maxBatches || maxBatches == 334 && merged != single {
			t.Errorf("%s: %d batches, want at most %d; without merging, %d", columns, merged, maxBatches, single)
		}
	}
}
