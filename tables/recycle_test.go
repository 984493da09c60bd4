package tables

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/race"
	"github.com/go-partd/partd/tables/filter"
)

// A scan that recycles memory has the rows of one that does not, of files, of the tail, and
// by a filter. A batch that is retained keeps them, and without Recycle, so does one that
// is not.
func TestRecycle(t *testing.T) {
	s := mustOpen(t, t.TempDir(), &Options{FoldAge: -1})
	b := s.Bucket("")
	const rows = 400_000
	for i := range int64(4) {
		mustPut(t, b, "t", PutAppend, from(i*rows/4, rows/4)...)
		if _, err := s.Fold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, b, "t", PutAppend, from(rows, 10)...)
	table, err := b.Table(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	where := filter.Or(filter.Lt("n", int64(rows/3)), filter.Eq("s", fmt.Sprint("row ", rows-1)), filter.Ge("n", int64(rows)))
	for _, c := range []struct {
		o    ScanOptions
		want []int64
	}{
		{ScanOptions{}, from(0, rows+10)},
		{ScanOptions{Columns: []string{"n"}}, from(0, rows+10)},
		{ScanOptions{Filter: where}, slices.Concat(from(0, rows/3), []int64{rows - 1}, from(rows, 10))},
	} {
		for _, c.o.Recycle = range []bool{true, false} {
			got, err := readAll(t.Context(), table, &c.o)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%+v: %d rows, want %d (%v)", c.o, len(got), len(c.want), err)
			}
			r, err := table.Scan(t.Context(), &c.o)
			if err != nil {
				t.Fatal(err)
			}
			var values [][]int64
			var kept []arrow.RecordBatch
			for r.Next() {
				if c.o.Recycle {
					r.RecordBatch().Retain()
					kept = append(kept, r.RecordBatch())
				}
				values = append(values, r.RecordBatch().Column(r.RecordBatch().Schema().FieldIndices("n")[0]).(*array.Int64).Values())
			}
			if got := slices.Concat(values...); r.Err() != nil || !slices.Equal(got, c.want) {
				t.Errorf("%+v: %d rows were kept, want %d (%v)", c.o, len(got), len(c.want), r.Err())
			}
			for _, b := range kept {
				b.Release()
			}
			r.Release()
		}
	}
	allocated := func(o *ScanOptions) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 10 {
			if n := countRows(t, table, o); n != rows+10 {
				t.Fatal(n)
			}
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	o := ScanOptions{Columns: []string{"n"}}
	without := allocated(&o)
	o.Recycle = true
	if with := allocated(&o); !race.On && with > without/2 { // the race detector has pools forget
		t.Errorf("scans that recycle allocate %d bytes, others %d", with, without)
	}
}

// countRows returns how many rows a scan has.
func countRows(t *testing.T, table *Table, o *ScanOptions) (n int64) {
	r, err := table.Scan(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for r.Next() {
		n += r.RecordBatch().NumRows()
	}
	return n
}
