//go:build cgo && unix

package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// trades returns n rows with a time, a symbol, a price and a size, beginning with row number firstRow. The rows depend
// only on the arguments.
func trades(firstRow, n int) arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
		{Name: "sym", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "size", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
	random := rand.New(rand.NewPCG(1, uint64(firstRow)))
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := firstRow; i < firstRow+n; i++ {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(1_700_000_000_000_000 + int64(i)*1000))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("S", random.IntN(100)))
		b.Field(2).(*array.Float64Builder).Append(100 * random.Float64())
		b.Field(3).(*array.Int64Builder).Append(int64(random.IntN(1000)))
	}
	return b.NewRecordBatch()
}
