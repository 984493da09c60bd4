package tables_test

import (
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"

	"github.com/go-partd/partd/internal/testutil/race"
)

// scanThousand returns a function that scans 1,000 rows in one file.
func scanThousand(tb testing.TB) func() {
	s := tabletest.Open(tb, tb.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	ns := make([]int64, 1000)
	for i := range ns {
		ns[i] = int64(i)
	}
	tabletest.Put(tb, b, "t", tables.PutAppend, ns...)
	if _, err := s.Fold(tb.Context(), nil); err != nil {
		tb.Fatal(err)
	}
	return func() {
		t := b.Table("t")
		r, err := t.Scan(tb.Context(), nil)
		if err != nil {
			tb.Fatal(err)
		}
		defer r.Release()
		n := int64(0)
		for r.Next() {
			n += r.RecordBatch().NumRows()
		}
		if n != 1000 || r.Err() != nil {
			tb.Fatalf("read %d rows, want 1000; error: %v", n, r.Err())
		}
	}
}

func BenchmarkScanThousand(b *testing.B) {
	scan := scanThousand(b)
	b.ReportAllocs()
	for b.Loop() {
		scan()
	}
}

// TestAllocations limits the allocations of scanning a file and of appending a row to slightly more than the measured
// counts. The Parquet reader makes most of a scan's 530 allocations, and the IPC writer makes 19 of an append's 35.
func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates memory too")
	}
	if n := testing.AllocsPerRun(100, scanThousand(t)); n > 600 {
		t.Errorf("scanning 1,000 rows made %.0f allocations, want at most 600", n)
	}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 1)
	r := tabletest.Rows(1)
	r.Next()
	if n := testing.AllocsPerRun(500, func() {
		if _, err := b.Table("a").Put(t.Context(), tabletest.OneBatch(r.RecordBatch()), tables.PutAppend, nil); err != nil {
			t.Fatal(err)
		}
	}); n > 36 {
		t.Errorf("appending a row made %.0f allocations, want at most 36", n)
	}
}
