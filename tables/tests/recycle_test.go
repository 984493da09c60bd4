package tables_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestRecycle checks that scans with and without Recycle return the same rows, from files and the tail, with and
// without a filter and an order. With Recycle, retained batches keep their rows; without it, all batches do.
func TestRecycle(t *testing.T) {
	for _, time := range []string{"", "t"} {
		t.Run(time, func(t *testing.T) { testRecycle(t, &tables.Settings{Time: time}) })
	}
}

func testRecycle(t *testing.T, settings *tables.Settings) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	put := func(first, count int64) {
		tabletest.PutRows(t, b, "t", dated(first, count), tables.PutAppend, &tables.PutOptions{Settings: settings})
	}
	const rows = 400_000
	for i := range int64(4) {
		put(i*rows/4, rows/4)
		tabletest.Fold(t, s)
	}
	put(rows, 10)
	table := b.Table("t")
	where := filter.Or(filter.Lt("n", int64(rows/3)), filter.Eq("s", fmt.Sprint("row ", rows-1)), filter.Ge("n", int64(rows)))
	for _, c := range []struct {
		o    tables.ScanOptions
		want []int64
	}{
		{tables.ScanOptions{}, tabletest.Sequence(0, rows+10)},
		{tables.ScanOptions{Columns: []string{"n"}}, tabletest.Sequence(0, rows+10)},
		{tables.ScanOptions{Filter: where}, slices.Concat(tabletest.Sequence(0, rows/3), []int64{rows - 1}, tabletest.Sequence(rows, 10))},
	} {
		for _, c.o.Recycle = range []bool{true, false} {
			got, err := tabletest.ReadAll(t.Context(), table, &c.o)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("Scan(%+v) returned %d rows, want %d; error: %v", c.o, len(got), len(c.want), err)
			}
			r := must.Get(table.Scan(t.Context(), &c.o))(t)
			var values [][]int64
			var retained []arrow.RecordBatch
			for r.Next() {
				if c.o.Recycle {
					r.RecordBatch().Retain()
					retained = append(retained, r.RecordBatch())
				}
				values = append(values, r.RecordBatch().Column(r.RecordBatch().Schema().FieldIndices("n")[0]).(*array.Int64).Values())
			}
			if got := slices.Concat(values...); r.Err() != nil || !slices.Equal(got, c.want) {
				t.Errorf("Scan(%+v): after the scan, the batches have %d rows, want the same %d rows; error: %v", c.o, len(got), len(c.want), r.Err())
			}
			for _, b := range retained {
				b.Release()
			}
			r.Release()
		}
	}
	allocatedBytes := func(o *tables.ScanOptions) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 10 {
			if n := countRows(t, table, o); n != rows+10 {
				t.Fatalf("scan returned %d rows, want %d", n, rows+10)
			}
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	o := tables.ScanOptions{Columns: []string{"n"}}
	bytesWithout := allocatedBytes(&o)
	o.Recycle = true
	if bytesWith := allocatedBytes(&o); !procs.RaceEnabled && bytesWith > bytesWithout/2 { // under the race detector, sync.Pool drops values at random
		t.Errorf("scans with Recycle allocated %d bytes, want at most half of the %d bytes without it", bytesWith, bytesWithout)
	}
}

// dated returns count rows, numbered from first. The date of row n is n days after 1970-01-01.
func dated(first, count int64) array.RecordReader {
	r := tabletest.Rows(tabletest.Sequence(first, count)...)
	defer r.Release()
	r.Next()
	dates := array.NewDate32Builder(memory.DefaultAllocator)
	defer dates.Release()
	for _, n := range tabletest.Sequence(first, count) {
		dates.Append(arrow.Date32(n))
	}
	all := append([]arrow.Array{dates.NewArray()}, r.RecordBatch().Columns()...)
	fields := append([]arrow.Field{{Name: "t", Type: arrow.FixedWidthTypes.Date32, Nullable: true}}, tabletest.Numbers.Fields()...)
	return tabletest.OneBatch(array.NewRecordBatch(arrow.NewSchema(fields, nil), all, count))
}

func countRows(t *testing.T, table *tables.Table, o *tables.ScanOptions) (n int64) {
	r := must.Get(table.Scan(t.Context(), o))(t)
	defer r.Release()
	for r.Next() {
		n += r.RecordBatch().NumRows()
	}
	return n
}
