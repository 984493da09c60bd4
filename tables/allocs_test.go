package tables

import (
	"testing"

	"github.com/go-partd/partd/internal/testutil/race"
)

// scanThousand returns a scan of 1,000 rows in one file.
func scanThousand(tb testing.TB) func() {
	s := mustOpen(tb, tb.TempDir(), &Options{FoldAge: -1})
	b := s.Bucket("")
	ns := make([]int64, 1000)
	for i := range ns {
		ns[i] = int64(i)
	}
	mustPut(tb, b, "t", PutAppend, ns...)
	if _, err := s.Fold(tb.Context(), nil); err != nil {
		tb.Fatal(err)
	}
	return func() {
		t, err := b.Table(tb.Context(), "t")
		if err != nil {
			tb.Fatal(err)
		}
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
			tb.Fatal(n, r.Err())
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

// TestAllocations checks that scanning a file and appending a row allocate no more than the
// measured numbers. The Parquet reader makes most of a scan's 530 allocations, and the IPC
// writer makes 19 of an append's 35.
func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates, too")
	}
	if n := testing.AllocsPerRun(100, scanThousand(t)); n > 600 {
		t.Errorf("a scan of 1,000 rows makes %.0f allocations", n)
	}
	s := mustOpen(t, t.TempDir(), &Options{FoldAge: -1})
	b := s.Bucket("")
	mustPut(t, b, "a", PutAppend, 1)
	r := rowsOf(1)
	r.Next()
	if n := testing.AllocsPerRun(500, func() {
		if _, err := b.Put(t.Context(), "a", oneBatch(r.RecordBatch()), PutAppend, nil); err != nil {
			t.Fatal(err)
		}
	}); n > 36 {
		t.Errorf("an append of a row makes %.0f allocations", n)
	}
}
