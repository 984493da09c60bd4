package tables_test

import (
	"fmt"
	"math/rand/v2"
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

// BenchmarkPutMany puts a million trades, like the benchmark in directory bench.
func BenchmarkPutMany(b *testing.B) {
	rb := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
		{Name: "sym", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "size", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil))
	random := rand.New(rand.NewPCG(1, 0))
	for i := range 1_000_000 {
		rb.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(1_700_000_000_000_000 + int64(i)*1000))
		rb.Field(1).(*array.StringBuilder).Append(fmt.Sprint("S", random.IntN(100)))
		rb.Field(2).(*array.Float64Builder).Append(100 * random.Float64())
		rb.Field(3).(*array.Int64Builder).Append(random.Int64N(1000))
	}
	batch := rb.NewRecordBatch()
	s := tabletest.Open(b, b.TempDir(), nil)
	before := tabletest.CPU()
	for b.Loop() {
		must.Get(s.Bucket("").Table("t").Put(b.Context(), tabletest.OneBatch(batch), tables.PutReplace, nil))(b)
	}
	b.ReportMetric(float64((tabletest.CPU()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	t := s.Bucket("").Table("t")
	info := must.Get(t.Info(b.Context()))(b)
	b.ReportMetric(float64(info.Bytes)/1e6, "MB")
}

// BenchmarkRead reads a million rows from one file and from ten files.
func BenchmarkRead(b *testing.B) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond}},
		{Name: "sym", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "size", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "note", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
	const rows = 1_000_000
	for _, files := range []int{1, 10} {
		s := tabletest.Open(b, b.TempDir(), &tables.Options{FoldAge: -1})
		random := rand.New(rand.NewPCG(1, 1))
		for f := range files {
			rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			for i := range rows / files {
				rb.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(1e15 + int64(f*rows/files+i)*1e6))
				rb.Field(1).(*array.StringBuilder).Append(fmt.Sprint("SYM", random.IntN(500)))
				rb.Field(2).(*array.Float64Builder).Append(random.NormFloat64())
				rb.Field(3).(*array.Int64Builder).Append(random.Int64N(1000))
				rb.Field(4).(*array.StringBuilder).Append(fmt.Sprintf("note %x", random.Uint32()))
				rb.Field(5).(*array.Int64Builder).Append(int64(f*rows/files+i) * 7_777_777_777 % 1_000_003)
			}
			must.Get(s.Bucket("").Table("t").Put(b.Context(), tabletest.OneBatch(rb.NewRecordBatch()), tables.PutAppend, nil))(b)
			must.Get(s.Fold(b.Context(), nil))(b)
		}
		table := s.Bucket("").Table("t")
		for _, c := range []struct {
			name, where string
			columns     []string
		}{
			{"all", "", nil},
			{"two", "", []string{"at", "price"}},
			{"sym", "sym = 'SYM7'", nil},
			{"half", "price > 0", nil},
			{"none", "price > 100", nil},
			{"one", "size = 5 and sym = 'SYM3'", []string{"price"}},
			{"range", "at >= '2001-09-15' and at < '2001-09-16'", nil},
			{"percent", "at >= '2001-09-15' and at < '2001-09-15T02:46:40'", []string{"at", "price"}},
			{"text", "note = 'note ea5e'", nil},
			{"integer", "id = 700000", nil},
		} {
			var where *filter.Expr
			if c.where != "" {
				var err error
				if where, err = filter.Parse(c.where); err != nil {
					b.Fatal(err)
				}
			}
			b.Run(fmt.Sprint(c.name, "/", files), func(b *testing.B) {
				b.ReportAllocs()
				before := tabletest.CPU()
				defer func() {
					b.ReportMetric(float64((tabletest.CPU()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
				}()
				for b.Loop() {
					r := must.Get(table.Scan(b.Context(), &tables.ScanOptions{Filter: where, Columns: c.columns}))(b)
					n := int64(0)
					for r.Next() {
						n += r.RecordBatch().NumRows()
					}
					if r.Err() != nil {
						b.Fatal(r.Err())
					}
					r.Release()
					b.ReportMetric(float64(n), "rows")
				}
			})
		}
	}
}

// scanThousand returns a function that scans 1,000 rows in one file.
func scanThousand(tb testing.TB) func() {
	s := tabletest.Open(tb, tb.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	ns := make([]int64, 1000)
	for i := range ns {
		ns[i] = int64(i)
	}
	tabletest.Put(tb, b, "t", tables.PutAppend, ns...)
	must.Get(s.Fold(tb.Context(), nil))(tb)
	return func() {
		t := b.Table("t")
		r := must.Get(t.Scan(tb.Context(), nil))(tb)
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

// TestAllocations limits the allocations of scanning a file and of appending a row to slightly more than the measured
// counts. The Parquet reader makes most of a scan's 530 allocations, and the IPC writer makes 19 of an append's 38.
func TestAllocations(t *testing.T) {
	if procs.RaceEnabled {
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
		tabletest.PutRows(t, b, "a", tabletest.OneBatch(r.RecordBatch()), tables.PutAppend, nil)
	}); n > 39 {
		t.Errorf("appending a row made %.0f allocations, want at most 39", n)
	}
}
