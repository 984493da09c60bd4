package tables_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/filter"
)

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
			if _, err := s.Bucket("").Table("t").Put(b.Context(), tabletest.OneBatch(rb.NewRecordBatch()), tables.PutAppend, nil); err != nil {
				b.Fatal(err)
			}
			if _, err := s.Fold(b.Context(), nil); err != nil {
				b.Fatal(err)
			}
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
					r, err := table.Scan(b.Context(), &tables.ScanOptions{Filter: where, Columns: c.columns})
					if err != nil {
						b.Fatal(err)
					}
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
