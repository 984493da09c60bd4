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
		if _, err := s.Bucket("").Table("t").Put(b.Context(), tabletest.OneBatch(batch), tables.PutReplace, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((tabletest.CPU()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	t := s.Bucket("").Table("t")
	info, err := t.Info(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Bytes)/1e6, "MB")
}

// BenchmarkAppendRow appends one row, to the tail or in its own commit.
func BenchmarkAppendRow(b *testing.B) {
	for name, o := range map[string]*tables.Options{"tail": {}, "sync": {Sync: true}, "commit": {NoTail: true}} {
		b.Run(name, func(b *testing.B) {
			s := tabletest.Open(b, b.TempDir(), o)
			t := s.Bucket("")
			tabletest.Put(b, t, "a", tables.PutAppend, 1)
			r := tabletest.Rows(1)
			r.Next()
			batch := r.RecordBatch()
			b.ResetTimer()
			for b.Loop() {
				if _, err := t.Table("a").Put(b.Context(), tabletest.OneBatch(batch), tables.PutAppend, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendTables(b *testing.B) {
	s := tabletest.Open(b, b.TempDir(), &tables.Options{FoldAge: -1})
	t := s.Bucket("")
	const tableCount = 1000
	for i := range tableCount {
		tabletest.Put(b, t, fmt.Sprint(i), tables.PutAppend, 1)
	}
	b.ResetTimer()
	n := 0
	for b.Loop() {
		tabletest.Put(b, t, fmt.Sprint(n%tableCount), tables.PutAppend, 2)
		n++
	}
}

// BenchmarkCreateTable appends one row to a table that does not exist yet.
func BenchmarkCreateTable(b *testing.B) {
	s := tabletest.Open(b, b.TempDir(), &tables.Options{FoldAge: -1})
	n := 0
	for b.Loop() {
		tabletest.Put(b, s.Bucket(""), fmt.Sprint(n), tables.PutAppend, 1)
		n++
	}
}
