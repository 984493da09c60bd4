//go:build cgo

package duck_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestTPC compares the results of all TPC-H and TPC-DS queries with DuckDB's results. Its time limit detects joins that
// are planned without row counts, because such queries take minutes.
func TestTPC(t *testing.T) {
	procs.Python(t, tabletest.TPCPeer)
	for kind, count := range map[string]int{"tpch": 22, "tpcds": 99} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			queries, err := tabletest.MakeTPC(t.Context(), kind, 0.01, dir, true)
			if err != nil || len(queries) != count {
				t.Fatalf("got %d queries, want %d; error: %v", len(queries), count, err)
			}
			s := newStore(t, nil)
			must.Do(t, tabletest.PutTPC(t.Context(), s.Bucket("b"), dir))
			passed := 0
			for i, sql := range queries {
				f := must.Get(os.Open(filepath.Join(dir, "answers", fmt.Sprint(i+1, ".arrow"))))(t)
				reader := must.Get(ipc.NewReader(f))(t)
				want, err := cellsOf(reader)
				if err != nil || f.Close() != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				r, err := s.Query(ctx, sql, &tables.QueryOptions{Bucket: "b"})
				var got [][]string
				if err == nil {
					got, err = cellsOf(r)
				}
				cancel()
				if err != nil || !slices.EqualFunc(got, want, sameCells) {
					t.Errorf("query %d: error %v, got rows\n%.500v\nwant\n%.500v", i+1, err, got, want)
					continue
				}
				passed++
			}
			t.Logf("%d passed", passed)
		})
	}
}

// cellsOf reads rows as text, sorted in an order that small differences between numbers do not change.
func cellsOf(r array.RecordReader) (rows [][]string, err error) {
	defer r.Release()
	for r.Next() {
		b := r.RecordBatch()
		for i := range int(b.NumRows()) {
			row := make([]string, b.NumCols())
			for j, c := range b.Columns() {
				row[j] = strings.Clone(c.ValueStr(i))
				if arrow.IsFloating(c.DataType().ID()) || arrow.IsDecimal(c.DataType().ID()) || arrow.IsInteger(c.DataType().ID()) {
					if n, err := strconv.ParseFloat(row[j], 64); err == nil {
						row[j] = strconv.FormatFloat(n, 'g', 17, 64)
					}
				}
			}
			rows = append(rows, row)
		}
	}
	short := func(cell string) string {
		if n, err := strconv.ParseFloat(cell, 64); err == nil {
			return strconv.FormatFloat(n, 'g', 6, 64)
		}
		return cell
	}
	slices.SortFunc(rows, func(a, b []string) int {
		return slices.CompareFunc(a, b, func(x, y string) int { return cmp.Compare(short(x), short(y)) })
	})
	return rows, r.Err()
}

// sameCells compares two rows. It tolerates small differences, because sums of floats depend on the order of addition.
func sameCells(a, b []string) bool {
	return slices.EqualFunc(a, b, func(x, y string) bool {
		n, errN := strconv.ParseFloat(x, 64)
		m, errM := strconv.ParseFloat(y, 64)
		return x == y || errN == nil && errM == nil && math.Abs(n-m) <= 1e-9*max(1, math.Abs(n), math.Abs(m))
	})
}
